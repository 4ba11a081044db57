// The windows and the network.
#include <algorithm>
#include <cstdint>
#include <set>

#include "models/names.h"
#include "models/recipe_checks.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::models {
namespace {

constexpr int kMaxFiles = 16;  // one descriptor each in a record of 32
constexpr std::size_t kMaxFilesOfParts = 28;
constexpr std::size_t kMaxPartName = 64;
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

absl::Status CheckFiles(const std::string& path, const google::protobuf::RepeatedPtrField<std::string>& names,
                        int most, std::set<std::string>* seen) {
  if (names.empty()) return Invalid(path, "at least one is required");
  if (names.size() > most) return Invalid(path, absl::StrCat("at most ", most));
  for (int i = 0; i < names.size(); ++i) {
    const std::string& file = names[i];
    if (!IsName(file) || file.size() < 4 || file.substr(file.size() - 3) != ".ts") {
      return Invalid(
          Path(path, i),
          "a file of the version folder, 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', ending in .ts");
    }
    if (!seen->insert(file).second) return Invalid(Path(path, i), "stands twice");
  }
  return absl::OkStatus();
}

absl::Status CheckOutputChannels(const std::string& path, std::uint32_t channels) {
  if (channels >= 1 && channels <= kMaxChannels) return absl::OkStatus();
  return Invalid(path, absl::StrCat("from 1 to ", kMaxChannels));
}

// Labels of a part: how many it needs, the decode steps say.
absl::Status CheckPartLabels(const v1::Recipe& recipe, int index, std::set<std::uint32_t>* made) {
  const v1::Part& part = recipe.network().parts(index);
  const std::string path = Path("network.parts", index, "labels");
  if (part.labels().empty()) return Invalid(path, "at least one is required");
  for (int i = 0; i < part.labels_size(); ++i) {
    TS_RETURN_IF_ERROR(CheckKnown(recipe, Path(path, i), part.labels(i)));
    if (!made->insert(part.labels(i)).second) return Invalid(Path(path, i), "a channel makes it already");
  }
  return absl::OkStatus();
}

absl::Status CheckPartIntensity(const v1::Recipe& recipe, int index) {
  const v1::Part& part = recipe.network().parts(index);
  const std::string path = Path("network.parts", index, "intensity");
  TS_RETURN_IF_ERROR(CheckIntensity(part.intensity(), path));
  if (part.intensity().empty()) return absl::OkStatus();
  for (int i = 0; i < recipe.inputs_size(); ++i) {
    if (recipe.inputs(i).intensity().empty()) continue;
    return Invalid(path, absl::StrCat(Path("inputs", i, "intensity"), " would stand in its place"));
  }
  return absl::OkStatus();
}

absl::Status CheckParts(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  if (!network.files().empty()) return Invalid("network.files", "each part has its own");
  if (network.output_channels() != 0) return Invalid("network.output_channels", "each part has its own");
  if (DetectorOf(recipe) != nullptr) return Invalid("network.parts", "detectors are no parts");
  std::set<std::string> names;
  std::set<std::string> files;
  std::set<std::uint32_t> made;
  for (int i = 0; i < network.parts_size(); ++i) {
    const v1::Part& part = network.parts(i);
    const auto path = [i](std::string_view field) { return Path("network.parts", i, field); };
    if (part.name().find_first_not_of(' ') == std::string::npos) return Invalid(path("name"), "is required");
    if (part.name().size() > kMaxPartName) {
      return Invalid(path("name"), absl::StrCat("is longer than ", kMaxPartName, " bytes"));
    }
    if (!names.insert(part.name()).second) return Invalid(path("name"), "stands twice");
    TS_RETURN_IF_ERROR(CheckFiles(path("files"), part.files(), kMaxFiles, &files));
    if (files.size() > kMaxFilesOfParts) {
      return Invalid(path("files"), absl::StrCat("at most ", kMaxFilesOfParts, " of all parts"));
    }
    TS_RETURN_IF_ERROR(CheckOutputChannels(path("output_channels"), part.output_channels()));
    TS_RETURN_IF_ERROR(CheckPartLabels(recipe, i, &made));
    TS_RETURN_IF_ERROR(CheckPartIntensity(recipe, i));
  }
  for (int i = 0; i < recipe.labels_size(); ++i) {
    if (!made.contains(recipe.labels(i).value())) return Invalid(Path("labels", i), "no part makes it");
  }
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
  std::set<std::string> files;
  if (IsComposite(recipe)) {
    TS_RETURN_IF_ERROR(CheckParts(recipe));
  } else {
    TS_RETURN_IF_ERROR(CheckFiles("network.files", network.files(), kMaxFiles, &files));
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
  if (!IsComposite(recipe)) {
    TS_RETURN_IF_ERROR(CheckOutputChannels("network.output_channels", network.output_channels()));
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
