// Bytes of a run's arrays at the worst moment. The front predicts with them, the worker admits with them: one
// formula for both. Network, its weights and the label map are not counted.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::volume {

// Values that an operation on a device goes through at once: enough to fill it, and 64 MiB as doubles.
inline constexpr std::int64_t kPieceValues = std::int64_t{1} << 23;
// Bytes of stored values that travel to a device at once, as far as whole slices allow.
inline constexpr std::int64_t kStagingBytes = std::int64_t{16} << 20;

// Windows of a run, at most.
inline constexpr std::int64_t kMaxWindows = 1 << 20;

struct RunArrays {
  std::array<std::uint64_t, 3> volume_ijk{};    // voxels of the volume
  std::array<std::uint64_t, 3> prepared_ijk{};  // of the prepared volume, along the volume's own axes
  std::uint64_t inputs = 1;                     // volumes, each a channel of the network's input
  std::uint64_t channels = 0;                   // of the network's output; of a composite the most of a part
  std::uint64_t window = 0;  // voxels of a window whose size depends on the volume; others are the network's
  std::uint64_t head_values = 0;  // of a detector, in place of channels and window: see HeadValues
  // Where labels are made while windows are folded: voxels of the prepared volume whose sums are held at the
  // worst moment, see OpenVoxels. 0: the sums of all of them are.
  std::uint64_t open_voxels = 0;
  // Of a composite: copies of the prepared volumes, one for each intensity of its parts; and whether labels
  // and scores of the parts before are kept beside the sums of one.
  std::uint64_t preparations = 1;
  bool composite = false;
  // Of the preparation; see CountPreparation.
  bool cropped = false;
  bool cubic = false;
  bool nonzero_region = false;
  bool kept_region = false;
  bool model_objects = false;  // findings are those of the model grid's labels
};

// Of a recipe that detects boxes: values of the maps of all windows and, of one window, of its input twice
// and its maps. 0 for any other. `prepared_xyz` as below.
std::uint64_t HeadValues(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz);

// Whether plain loops make a recipe's labels piece by piece while windows are folded, instead of holding the
// sums of all channels until the end; of a composite, whether they do so for each part. Its labels have to be
// made voxel by voxel on the model grid: arg_max or threshold before to_volume_grid, or after it where
// nothing is resampled; activations before both; no fill_holes, which gives voxels a label whose scores are
// gone by then. Not nnU-Net's sums in float16. Of a few channels labels and scores would take as much as what
// is saved.
bool MakesLabelsInPieces(const v1::Recipe& recipe);

// Of such a recipe: see RunArrays. 0 for any other. `prepared_xyz` as below.
std::uint64_t OpenVoxels(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz);

// What of a recipe's preparation takes memory beside a volume and a prepared volume: further inputs, a crop
// (how much it leaves is not foreseen), splines, the region of a z-score with fill_holes, the one that labels
// are kept in; and whether labels of the model grid are kept for its findings.
void CountPreparation(const v1::Recipe& recipe, RunArrays& arrays);

// `prepared_xyz`: voxels of the prepared volume along its own axes, `reorientation` what led to them.
RunArrays ArraysOf(const Geometry& volume, const Reorientation& reorientation,
                   const std::array<std::uint64_t, 3>& prepared_xyz, std::uint64_t channels);

// With plain loops, on the host.
std::uint64_t LoopBytes(const RunArrays& arrays);

// With tensor operations, where the tensors lie. An upper bound of what is in use, not of what an allocator
// keeps.
std::uint64_t DeviceBytes(const RunArrays& arrays);

// With tensor operations on a device other than the host, on the host.
std::uint64_t HostBytesBesideDevice(const RunArrays& arrays);

// Whether `needed` bytes may ever fit into `limit` where `resident` ones (the loaded networks' weights) stay.
// `where`: "this machine", "the device". Errors: kResourceExhausted RUN_TOO_LARGE (value: `needed`).
absl::Status CheckRunFits(std::uint64_t needed, std::uint64_t limit, std::uint64_t resident,
                          std::string_view where);

}  // namespace tomoserve::volume
