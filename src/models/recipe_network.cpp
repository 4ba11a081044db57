// The windows and the network.
#include <algorithm>
#include <cstdint>
#include <set>

#include "models/names.h"
#include "models/recipe_checks.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::models {
namespace {

constexpr int kMaxFiles = 16;             // one descriptor each in a record of 32
constexpr std::uint32_t kMaxSize = 1024;  // voxels along one axis of a window
constexpr std::uint32_t kMaxContext = 256;
constexpr std::uint32_t kMaxMultiple = 512;
constexpr std::uint32_t kMaxChannels = 4096;

absl::Status CheckSliceWindows(const v1::Recipe& recipe) {
  const v1::Windows& windows = recipe.windows();
  if (!windows.size().empty())
    return Invalid("windows.size", "SLICES takes whole slices; the depth comes from context");
  if (windows.overlap() != 0) return Invalid("windows.overlap", "SLICES has no overlap");
  if (windows.blend() == v1::BLEND_GAUSSIAN)
    return Invalid("windows.blend", "SLICES has no overlap to blend");
  if (windows.sigma_scale() != 0) return Invalid("windows.sigma_scale", "SLICES has no overlap to blend");
  if (windows.xy_multiple_of() > kMaxMultiple) {
    return Invalid("windows.xy_multiple_of", absl::StrCat("at most ", kMaxMultiple));
  }
  const v1::SliceContext& context = windows.context();
  if (context.before() > kMaxContext) {
    return Invalid("windows.context.before", absl::StrCat("at most ", kMaxContext));
  }
  if (context.after() > kMaxContext)
    return Invalid("windows.context.after", absl::StrCat("at most ", kMaxContext));
  if (recipe.network().spatial_dims() == 2 && (context.before() != 0 || context.after() != 0)) {
    return Invalid("windows.context", "a network with two spatial dimensions sees one slice");
  }
  return absl::OkStatus();
}

absl::Status CheckGridWindows(const v1::Recipe& recipe) {
  const v1::Windows& windows = recipe.windows();
  if (windows.size_size() != 3) return Invalid("windows.size", "three values are required");
  std::uint64_t voxels = 1;
  bool one_window = true;
  for (const std::uint32_t size : windows.size()) {
    if (size > kMaxSize) return Invalid("windows.size", absl::StrCat("each is at most ", kMaxSize));
    voxels *= std::max<std::uint32_t>(size, 1);
    one_window = one_window && size == 0;
  }
  if (voxels > kMaxWindowVoxels) {
    return Invalid("windows.size", absl::StrCat("more than ", kMaxWindowVoxels, " voxels"));
  }
  if (windows.layout() != v1::WINDOW_LAYOUT_MONAI && HasWholeAxis(windows)) {
    return Invalid("windows.size", "0, the whole axis, needs layout MONAI");
  }
  if (recipe.network().spatial_dims() == 2 && windows.size(2) != 1) {
    return Invalid("network.spatial_dims", "two dimensions need layout SLICES, or windows.size of 1 along z");
  }
  if (one_window && windows.overlap() != 0) return Invalid("windows.overlap", "one window has none");
  if (one_window && windows.blend() == v1::BLEND_GAUSSIAN) {
    return Invalid("windows.blend", "one window has no overlap to blend");
  }
  if (windows.overlap() < 0 || windows.overlap() >= 1) return Invalid("windows.overlap", "0 <= overlap < 1");
  if (windows.layout() == v1::WINDOW_LAYOUT_NNUNET && windows.overlap() == 0) {
    return Invalid("windows.overlap", "nnU-Net's layout needs it (0.5 is nnU-Net's own)");
  }
  const double sigma = windows.sigma_scale();
  if (sigma != 0 && !(sigma >= kMinSigmaScale && sigma <= 1)) {
    return Invalid("windows.sigma_scale", absl::StrCat("0 or from ", kMinSigmaScale, " to 1"));
  }
  if (windows.sigma_scale() != 0 && windows.blend() != v1::BLEND_GAUSSIAN) {
    return Invalid("windows.sigma_scale", "only a Gaussian blend has one");
  }
  if (windows.xy_multiple_of() != 0) return Invalid("windows.xy_multiple_of", "only for layout SLICES");
  if (windows.has_context()) return Invalid("windows.context", "only for layout SLICES");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWindows(const v1::Recipe& recipe) {
  const v1::Windows& windows = recipe.windows();
  if (windows.padding_value() != 0 && windows.padding_mode() == v1::PADDING_MODE_REPLICATE) {
    return Invalid("windows.padding_value", "REPLICATE has no value");
  }
  switch (windows.layout()) {
    case v1::WINDOW_LAYOUT_SLICES:
      return CheckSliceWindows(recipe);
    case v1::WINDOW_LAYOUT_MONAI:
    case v1::WINDOW_LAYOUT_NNUNET:
      return CheckGridWindows(recipe);
    default:
      return Invalid("windows.layout", "is required");
  }
}

absl::Status CheckNetwork(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  if (network.files().empty()) return Invalid("network.files", "at least one is required");
  if (network.files_size() > kMaxFiles) return Invalid("network.files", absl::StrCat("at most ", kMaxFiles));
  std::set<std::string> files;
  for (int i = 0; i < network.files_size(); ++i) {
    const std::string& file = network.files(i);
    if (!IsName(file) || file.size() < 4 || file.substr(file.size() - 3) != ".ts") {
      return Invalid(
          Path("network.files", i),
          "a file of the version folder, 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', ending in .ts");
    }
    if (!files.insert(file).second) return Invalid(Path("network.files", i), "stands twice");
  }
  if (network.spatial_dims() != 2 && network.spatial_dims() != 3) {
    return Invalid("network.spatial_dims", "2 or 3 is required");
  }
  if (network.axes() == v1::TENSOR_AXES_UNSPECIFIED) return Invalid("network.axes", "is required");
  if (network.input_channels() < 1 || network.input_channels() > kMaxChannels) {
    return Invalid("network.input_channels", absl::StrCat("from 1 to ", kMaxChannels));
  }
  if (network.input_channels() != static_cast<std::uint32_t>(recipe.inputs_size())) {
    return Invalid("network.input_channels",
                   absl::StrCat("each of the ", recipe.inputs_size(), " inputs gives one"));
  }
  if (network.output_channels() < 1 || network.output_channels() > kMaxChannels) {
    return Invalid("network.output_channels", absl::StrCat("from 1 to ", kMaxChannels));
  }
  std::set<std::uint32_t> axes;
  const bool slices = recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES || network.spatial_dims() == 2;
  for (int i = 0; i < network.mirror_axes_size(); ++i) {
    const std::uint32_t axis = network.mirror_axes(i);
    if (axis > 2 || !axes.insert(axis).second) {
      return Invalid(Path("network.mirror_axes", i), "0, 1 or 2, each at most once");
    }
    if (axis == 2 && slices)
      return Invalid(Path("network.mirror_axes", i), "z cannot be mirrored slice by slice");
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
