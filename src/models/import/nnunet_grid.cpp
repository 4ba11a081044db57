// What nnU-Net does between the reader's grid and the network's: normalise, resample, cut, mirror.
#include <algorithm>
#include <cmath>

#include "models/import/nnunet.h"

namespace tomoserve::models::importer {

absl::StatusOr<v1::Preparation> NnunetReader::StepsOf(std::size_t channel, const Json& scheme,
                                                      bool mask) const {
  v1::Preparation steps;
  if (scheme == "CTNormalization") {
    const char* key = plans_.contains("foreground_intensity_properties_by_modality")
                          ? "foreground_intensity_properties_by_modality"
                          : "foreground_intensity_properties_per_channel";
    const std::string number = absl::StrCat(channel);
    if (!plans_.contains(key) || !plans_[key].is_object() || !plans_[key].contains(number)) {
      return Malformed(absl::StrCat(key, "[", channel, "]"), "is missing");
    }
    const Json& properties = plans_[key][number];
    for (const char* name : {"percentile_00_5", "percentile_99_5", "mean", "std"}) {
      if (!properties.is_object() || !properties.contains(name) || !properties[name].is_number()) {
        return Malformed(absl::StrCat(key, "[", channel, "].", name), "is missing");
      }
    }
    v1::Clip* clip = steps.add_intensity()->mutable_clip();
    clip->set_min(properties["percentile_00_5"].get<double>());
    clip->set_max(properties["percentile_99_5"].get<double>());
    v1::ZScore* z_score = steps.add_intensity()->mutable_z_score();
    z_score->set_mean(properties["mean"].get<double>());
    z_score->set_std(std::max(properties["std"].get<double>(), 1e-8));
  } else if (scheme == "ZScoreNormalization") {
    v1::ZScore* z_score = steps.add_intensity()->mutable_z_score();
    z_score->set_nonzero(mask);
    z_score->set_fill_holes(mask);
  } else if (scheme == "RescaleTo01Normalization") {
    steps.add_intensity()->mutable_scale_min_max()->set_to_max(1);
  } else if (scheme != "NoNormalization") {
    return NotSupported(absl::StrCat(PathOf("normalization_schemes"), "[", channel, "]"),
                        absl::StrCat(Short(scheme), " is not supported"));
  }
  return steps;
}

absl::Status NnunetReader::Normalization() {
  const Json& schemes = Of("normalization_schemes");
  const Json& masks = Of("use_mask_for_norm");
  if (!schemes.is_array() || schemes.size() != channels_.size()) {
    return Malformed(PathOf("normalization_schemes"), "one for each channel is required");
  }
  if (!masks.is_array() || masks.size() != channels_.size()) {
    return Malformed(PathOf("use_mask_for_norm"), "one for each channel is required");
  }
  std::vector<v1::Preparation> each;
  bool alike = true;
  bool any = false;
  for (std::size_t channel = 0; channel < channels_.size(); ++channel) {
    if (!masks[channel].is_boolean()) return Malformed(PathOf("use_mask_for_norm"), "yes or no is required");
    TS_ASSIGN_OR_RETURN(v1::Preparation steps,
                        StepsOf(channel, schemes[channel], masks[channel].get<bool>()));
    alike = alike && (each.empty() || steps.SerializeAsString() == each[0].SerializeAsString());
    any = any || !steps.intensity().empty();
    each.push_back(std::move(steps));
  }
  v1::Preparation* preparation = recipe_.mutable_preparation();
  preparation->set_intensity_before_spacing(any);
  if (alike) {
    *preparation->mutable_intensity() = each[0].intensity();
    return absl::OkStatus();
  }
  // An input without steps of its own takes the preparation's: there are none then.
  for (std::size_t channel = 0; channel < each.size(); ++channel) {
    *recipe_.mutable_inputs(static_cast<int>(channel))->mutable_intensity() = each[channel].intensity();
  }
  return absl::OkStatus();
}

// One direction of resampling, written into the recipe's spacing or its to_volume_grid.
absl::Status NnunetReader::Resampling(const std::string& name, bool scores) {
  const Json& function = Of(name);
  if (function != "resample_data_or_seg_to_shape") {
    return NotSupported(PathOf(name), absl::StrCat(Short(function), " is not supported"));
  }
  const std::string place = absl::StrCat(PathOf(name), "_kwargs");
  const Json& given = Of(name + "_kwargs");
  if (!given.is_object()) return Malformed(place, "is missing");
  TS_RETURN_IF_ERROR(CheckKeysOf(
      given, place, {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}));
  const auto value = [&given](const char* key, Json otherwise) {
    return given.contains(key) ? given[key] : std::move(otherwise);
  };
  if (value("is_seg", false) != false)
    return NotSupported(absl::StrCat(place, ".is_seg"), "only false is supported");
  if (value("order_z", 0) != 0) return NotSupported(absl::StrCat(place, ".order_z"), "only 0 is supported");
  if (value("separate_z_anisotropy_threshold", 3) != 3) {
    return NotSupported(absl::StrCat(place, ".separate_z_anisotropy_threshold"), "only 3 is supported");
  }
  const Json separate = value("force_separate_z", false);
  if (!separate.is_null() && separate != false) {
    return NotSupported(absl::StrCat(place, ".force_separate_z"), "only null and false are supported");
  }
  const v1::LowResolutionAxis axis =
      separate.is_null() ? v1::LOW_RESOLUTION_AXIS_BY_RATIO : v1::LOW_RESOLUTION_AXIS_TOGETHER;
  const Json order = value("order", 3);
  v1::Interpolation interpolation = v1::INTERPOLATION_UNSPECIFIED;
  if (order == 0) interpolation = v1::INTERPOLATION_NEAREST;
  if (order == 1) interpolation = v1::INTERPOLATION_LINEAR;
  if (order == 3 && !scores) interpolation = v1::INTERPOLATION_CUBIC;
  if (interpolation == v1::INTERPOLATION_UNSPECIFIED) {
    return NotSupported(absl::StrCat(place, ".order"), absl::StrCat(Short(order), " is not supported"));
  }
  v1::Spacing* spacing = recipe_.mutable_preparation()->mutable_spacing();
  if (scores) {
    if (axis != spacing->low_resolution_axis()) {
      return NotSupported(absl::StrCat(place, ".force_separate_z"), "differs from the way there");
    }
    recipe_.add_decode()->mutable_to_volume_grid()->set_interpolation(interpolation);
    return absl::OkStatus();
  }
  spacing->set_interpolation(interpolation);
  spacing->set_low_resolution_axis(axis);
  return absl::OkStatus();
}

absl::Status NnunetReader::Spacing() {
  TS_ASSIGN_OR_RETURN(const std::vector<double> transposed, NumbersOf("spacing"));
  std::array<double, 3> spacing_mm{};
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    spacing_mm[static_cast<std::size_t>(axes_[dimension])] = transposed[dimension];
  }
  v1::Preparation* preparation = recipe_.mutable_preparation();
  v1::Spacing* spacing = preparation->mutable_spacing();
  for (const double mm : spacing_mm) spacing->add_spacing_mm(mm);
  spacing->set_rule(v1::SPACING_RULE_NNUNET);
  // The bounding box of what is not 0.
  preparation->mutable_crop()->set_background(0);
  return Resampling("resampling_fn_data", false);
}

absl::Status NnunetReader::Windows() {
  TS_ASSIGN_OR_RETURN(const std::vector<double> transposed, NumbersOf("patch_size"));
  std::array<std::uint32_t, 3> size{};
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    const double voxels = transposed[dimension];
    if (voxels < 1 || voxels > 4096 || voxels != std::floor(voxels)) {
      return Malformed(PathOf("patch_size"), "whole numbers of at least 1 are required");
    }
    size[static_cast<std::size_t>(axes_[dimension])] = static_cast<std::uint32_t>(voxels);
  }
  v1::Windows* windows = recipe_.mutable_windows();
  windows->set_layout(v1::WINDOW_LAYOUT_NNUNET);
  for (const std::uint32_t voxels : size) windows->add_size(voxels);
  windows->set_overlap(0.5);
  windows->set_blend(v1::BLEND_GAUSSIAN);
  return absl::OkStatus();
}

absl::Status NnunetReader::Mirroring() {
  constexpr char kPlace[] = "checkpoint.inference_allowed_mirroring_axes";
  if (!checkpoint_.contains("inference_allowed_mirroring_axes")) return absl::OkStatus();
  const Json& list = checkpoint_["inference_allowed_mirroring_axes"];
  if (list.is_null()) return absl::OkStatus();
  if (!list.is_array()) return Malformed(kPlace, "is no list");
  std::set<std::uint32_t> axes;
  for (const Json& dimension : list) {
    if (!dimension.is_number_integer() || dimension < 0 || dimension > 2)
      return Malformed(kPlace, "0, 1 or 2");
    axes.insert(static_cast<std::uint32_t>(axes_[dimension.get<std::size_t>()]));
  }
  for (const std::uint32_t axis : axes) recipe_.mutable_network()->add_mirror_axes(axis);
  return absl::OkStatus();
}

}  // namespace tomoserve::models::importer
