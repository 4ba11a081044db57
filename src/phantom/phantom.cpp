#include "tomoserve/phantom/phantom.h"

#include <algorithm>
#include <cmath>

#include "phantom/kernel.h"
#include "phantom/noise.h"
#include "phantom/scene.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::phantom {
namespace {

constexpr std::uint64_t kMaxVoxels = std::uint64_t{1} << 31;
constexpr std::uint32_t kMaxNodules = 64;
constexpr double kMinSpacingMm = 0.05;
constexpr double kMaxSpacingMm = 50;
constexpr double kMaxNoise = 1000;
constexpr double kMinNoduleMm = 3;
constexpr double kMaxNoduleMm = 60;
constexpr std::uint32_t kMaxLookAlikes = 256;

absl::Status Wrong(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "PHANTOM_OPTIONS", field, text);
}

absl::Status Check(const Options& options) {
  std::uint64_t voxels = 1;
  for (const std::uint32_t size : options.size_ijk) {
    if (size == 0) return Wrong("size_ijk", "a size is 0");
    if (voxels > kMaxVoxels / size) return Wrong("size_ijk", "more than 2^31 voxels");
    voxels *= size;
  }
  for (const double spacing : options.spacing_mm) {
    if (!(spacing >= kMinSpacingMm && spacing <= kMaxSpacingMm)) {
      return Wrong("spacing_mm", "a spacing is not between 0.05 and 50 mm");
    }
  }
  if (options.nodules > kMaxNodules) return Wrong("nodules", "more than 64 nodules");
  if (!(options.noise_hu >= 0 && options.noise_hu <= kMaxNoise)) {
    return Wrong("noise_hu", "the noise is not between 0 and 1000");
  }
  const auto& [smallest, largest] = options.nodule_mm;
  if (!(smallest >= kMinNoduleMm && largest <= kMaxNoduleMm && smallest <= largest)) {
    return Wrong("nodule_mm", "the diameters are not between 3 and 60 mm, the smaller one first");
  }
  const auto share = [](double value) { return value >= 0 && value <= 1; };
  if (!share(options.part_solid)) return Wrong("part_solid", "not between 0 and 1");
  if (!share(options.pleural)) return Wrong("pleural", "not between 0 and 1");
  if (!share(options.lobulated)) return Wrong("lobulated", "not between 0 and 1");
  if (!share(options.vary)) return Wrong("vary", "not between 0 and 1");
  if (options.look_alikes > kMaxLookAlikes) return Wrong("look_alikes", "more than 256 look-alikes");
  return absl::OkStatus();
}

// Where the letter's axis lies in LPS; -1 for no letter.
int LpsAxis(char letter) {
  if (letter == 'L' || letter == 'R') return 0;
  if (letter == 'P' || letter == 'A') return 1;
  if (letter == 'S' || letter == 'I') return 2;
  return -1;
}

// The grid along +L, +P, +S that has the options' axes in another order, its centre at 0.
absl::StatusOr<volume::Geometry> CanonicalGrid(const Options& options) {
  const auto wrong = [] { return Wrong("orientation", "names each of L/R, A/P, S/I once, in upper case"); };
  if (options.orientation.size() != 3) return wrong();
  std::array<std::uint32_t, 3> size{};
  std::array<double, 3> spacing{1, 1, 1};
  volume::LpsPoint origin;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int lps = LpsAxis(options.orientation[axis]);
    if (lps < 0 || size[static_cast<std::size_t>(lps)] != 0) return wrong();
    const auto to = static_cast<std::size_t>(lps);
    size[to] = options.size_ijk[axis];
    spacing[to] = options.spacing_mm[axis];
    origin.mm[to] = -0.5 * (size[to] - 1) * spacing[to];
  }
  return volume::Geometry::Create(
      size, spacing, origin,
      {volume::LpsVector{1, 0, 0}, volume::LpsVector{0, 1, 0}, volume::LpsVector{0, 0, 1}});
}

// Number of a voxel (x, y, z) of the canonical grid in the array of the reoriented one: a base and a step
// for each axis.
struct Addressing {
  std::int64_t base = 0;
  std::array<std::int64_t, 3> step{};
};

Addressing AddressesOf(const volume::Geometry& grid, const volume::Reorientation& reorientation) {
  Addressing addressing;
  std::int64_t step = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto from = static_cast<std::size_t>(reorientation.source_axis[axis]);
    const std::int64_t size = grid.size_ijk()[axis];
    if (reorientation.flip[axis]) addressing.base += step * (size - 1);
    addressing.step[from] = reorientation.flip[axis] ? -step : step;
    step *= size;
  }
  return addressing;
}

}  // namespace

absl::StatusOr<Phantom> MakePhantom(const Options& options) {
  TS_RETURN_IF_ERROR(Check(options));
  TS_ASSIGN_OR_RETURN(const volume::Geometry canonical, CanonicalGrid(options));
  TS_ASSIGN_OR_RETURN(const volume::Reorientation reorientation,
                      volume::ReorientationTo(canonical, options.orientation));
  TS_ASSIGN_OR_RETURN(volume::Geometry grid, volume::Reoriented(canonical, reorientation));

  const auto& size = canonical.size_ijk();
  const auto& spacing = canonical.spacing_mm();
  std::array<Axis, 3> axes;
  Point extent{};
  for (std::size_t d = 0; d < 3; ++d) {
    axes[d] = {canonical.origin_lps().mm[d], spacing[d], size[d]};
    extent[d] = size[d] * spacing[d];
  }
  const bool ct = options.modality == Modality::kCt;
  std::vector<Nodule> nodules;
  std::vector<LookAlike> look_alikes;
  Scene scene;
  if (ct) {
    TS_ASSIGN_OR_RETURN(scene, ChestScene(options, extent, nodules, look_alikes));
  } else {
    scene = HeadScene(extent);
  }

  Phantom phantom{std::move(grid), {}, std::move(nodules), 0, std::move(look_alikes), {}};
  phantom.values.resize(phantom.geometry.voxels());
  if (options.labels) phantom.labels.resize(phantom.geometry.voxels());
  const Addressing addressing = AddressesOf(phantom.geometry, reorientation);
  const NormalNoise normal(options.seed);
  const auto sigma = static_cast<float>(options.noise_hu);
  const float lowest = ct ? -1024.0f : 0.0f;
  const float highest = ct ? 3071.0f : 4095.0f;
  // About one voxel: the cube root of its volume would need the C library.
  const double blur = (spacing[0] + spacing[1] + std::min(spacing[2], 2 * spacing[0])) / 3;
  double lung = 0;
  Plane plane;
  PlaneFilter filter(options.kernel, size[0], size[1], spacing[0], spacing[1]);
  std::vector<float> noise(std::size_t{size[0]} * size[1]);
  const std::uint64_t blocks_per_row = (size[0] + 3) / 4;
  for (std::size_t z = 0; z < size[2]; ++z) {
    PaintPlane(scene, axes[0], axes[1], axes[2].at(z), spacing[2], blur, plane);
    for (std::size_t y = 0; y < size[1]; ++y) {
      const std::uint64_t first_block = (z * size[1] + y) * blocks_per_row;
      for (std::size_t x = 0; x < size[0]; x += 4) {
        float block[4];
        normal.Block(first_block + x / 4, block);
        std::copy_n(block, std::min<std::size_t>(4, size[0] - x), noise.data() + y * size[0] + x);
      }
    }
    if (options.kernel != Kernel::kNone) {
      filter.Image(plane.value);
      filter.Noise(noise);
    }
    for (std::size_t y = 0; y < size[1]; ++y) {
      std::int64_t to = addressing.base + static_cast<std::int64_t>(z) * addressing.step[2] +
                        static_cast<std::int64_t>(y) * addressing.step[1];
      for (std::size_t x = 0; x < size[0]; ++x, to += addressing.step[0]) {
        const std::size_t from = y * size[0] + x;
        const float value = std::clamp(plane.value[from] + sigma * noise[from], lowest, highest);
        phantom.values[static_cast<std::size_t>(to)] = static_cast<std::int16_t>(std::floor(value + 0.5f));
        if (options.labels) phantom.labels[static_cast<std::size_t>(to)] = plane.label[from];
      }
    }
    for (const float part : plane.lung) lung += static_cast<double>(part);
  }
  phantom.lung_volume_ml = lung * phantom.geometry.voxel_volume_ml();
  return phantom;
}

}  // namespace tomoserve::phantom
