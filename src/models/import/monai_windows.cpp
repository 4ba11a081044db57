// inferer -> windows.
#include <cmath>

#include "models/import/errors.h"
#include "models/import/monai.h"

namespace tomoserve::models::importer {
namespace {

// roi_size: a number for all axes, or one for each; 0 or less means the whole axis.
absl::Status AddSize(Arguments* arguments, std::size_t dimensions, Bundle* bundle) {
  TS_ASSIGN_OR_RETURN(std::vector<double> sizes, arguments->Numbers("roi_size", &bundle->config));
  const std::optional<Located> raw = arguments->Take("roi_size");
  if (raw->value->is_number()) sizes.resize(dimensions);
  // The axis across the slices may stand in the size, as 1.
  if (dimensions == 2 && sizes.size() == 3 && sizes[2] == 1) sizes.pop_back();
  if (sizes.size() != dimensions) {
    return arguments->Refuse("roi_size", absl::StrCat(dimensions, " values are required"));
  }
  v1::Windows* windows = bundle->draft->recipe.mutable_windows();
  for (const double size : sizes) {
    if (size != std::floor(size) || size > 4096)
      return arguments->Refuse("roi_size", "whole numbers are required");
    windows->add_size(size > 0 ? static_cast<std::uint32_t>(size) : 0);
  }
  if (dimensions == 2) windows->add_size(1);
  return absl::OkStatus();
}

absl::Status AddSliding(Arguments* arguments, std::size_t dimensions, Bundle* bundle) {
  v1::Windows* windows = bundle->draft->recipe.mutable_windows();
  TS_RETURN_IF_ERROR(AddSize(arguments, dimensions, bundle));
  TS_ASSIGN_OR_RETURN(const double overlap, arguments->Number("overlap", 0.25));
  windows->set_overlap(overlap);
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> mode, arguments->Text("mode"));
  if (mode && *mode == "gaussian") {
    windows->set_blend(v1::BLEND_GAUSSIAN);
    TS_ASSIGN_OR_RETURN(const double sigma, arguments->Number("sigma_scale", 0.125));
    if (sigma <= 0) return arguments->Refuse("sigma_scale", "is not above 0");
    if (sigma != 0.125) windows->set_sigma_scale(sigma);
  } else if (mode && *mode != "constant") {
    return arguments->Refuse("mode", absl::StrCat(OneLine(*mode, 40), " is not supported"));
  }
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> padding, arguments->Text("padding_mode"));
  TS_ASSIGN_OR_RETURN(const double value, arguments->Number("cval", 0));
  if (padding && *padding == "replicate") {
    windows->set_padding_mode(v1::PADDING_MODE_REPLICATE);
  } else if (!padding || *padding == "constant") {
    windows->set_padding_value(value);
  } else {
    return arguments->Refuse("padding_mode", absl::StrCat(OneLine(*padding, 40), " is not supported"));
  }
  TS_RETURN_IF_ERROR(arguments->Only("with_coord", false));
  arguments->Accept({"sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh",
                     "buffer_steps", "buffer_dim", "sigma_scale"});
  return absl::OkStatus();
}

}  // namespace

absl::Status AddWindows(const Located& inferer, Bundle* bundle) {
  v1::Recipe& recipe = bundle->draft->recipe;
  v1::Windows* windows = recipe.mutable_windows();
  windows->set_layout(v1::WINDOW_LAYOUT_MONAI);
  recipe.mutable_network()->set_spatial_dims(3);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_XYZ);
  TS_ASSIGN_OR_RETURN(const std::optional<Config::Call> call, bundle->config.AsCall(inferer));
  if (!call)
    return NotSupported(inferer.place.Text(), absl::StrCat(Short(*inferer.value), " is not understood"));
  Arguments arguments = Arguments::OfCall(*call, inferer.place, {});
  const std::string& target = arguments.target();
  if (target == "SlidingWindowInferer" || target == "SlidingWindowInfererAdapt") {
    TS_RETURN_IF_ERROR(AddSliding(&arguments, 3, bundle));
  } else if (target == "SliceInferer") {
    const std::optional<Located> axis = arguments.Take("spatial_dim");
    if (!axis || *axis->value != 2) {
      return arguments.Refuse("spatial_dim", "only slices along the third axis (2) are supported");
    }
    TS_RETURN_IF_ERROR(AddSliding(&arguments, 2, bundle));
    recipe.mutable_network()->set_spatial_dims(2);
  } else if (target == "SimpleInferer") {
    for (int axis = 0; axis < 3; ++axis) windows->add_size(0);
  } else {
    return NotSupported(inferer.place.Text(),
                        absl::StrCat("the inferer ", OneLine(target, 80), " is not known"));
  }
  return arguments.Done();
}

}  // namespace tomoserve::models::importer
