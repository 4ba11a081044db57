// The passport, the indication and the preparation.
#include <algorithm>
#include <array>
#include <set>

#include "models/recipe_checks.h"

namespace tomoserve::models {
namespace {

bool IsBlank(const std::string& text) { return text.find_first_not_of(' ') == std::string::npos; }

// DICOM Code String: 1 to 16 of A-Z, 0-9, space, underscore (PS3.5 section 6.2).
bool IsCodeString(const std::string& text) {
  return !IsBlank(text) && text.size() <= 16 &&
         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") == std::string::npos;
}

bool IsIdentifier(const std::string& text) {
  return !text.empty() && text.size() <= 32 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
}

absl::Status CheckCodeStrings(const google::protobuf::RepeatedPtrField<std::string>& list,
                              const std::string& path) {
  std::set<std::string> seen;
  for (int i = 0; i < list.size(); ++i) {
    if (!IsCodeString(list[i])) {
      return Invalid(Path(path, i), "a DICOM code string is 1 to 16 of A-Z, 0-9, space and underscore");
    }
    if (!seen.insert(list[i]).second) return Invalid(Path(path, i), "stands twice");
  }
  return absl::OkStatus();
}

// to_min and to_max of the steps that map a range to a range.
absl::Status CheckTarget(const std::string& path, double to_min, double to_max) {
  if (to_min >= to_max) return Invalid(absl::StrCat(path, ".to_max"), "is not above to_min");
  return absl::OkStatus();
}

absl::Status CheckIntensity(const v1::IntensityStep& step, const std::string& base) {
  switch (step.step_case()) {
    case v1::IntensityStep::kScaleRange: {
      const std::string path = absl::StrCat(base, ".scale_range");
      if (step.scale_range().from_min() >= step.scale_range().from_max()) {
        return Invalid(absl::StrCat(path, ".from_max"), "is not above from_min");
      }
      return CheckTarget(path, step.scale_range().to_min(), step.scale_range().to_max());
    }
    case v1::IntensityStep::kClip:
      if (step.clip().min() >= step.clip().max())
        return Invalid(absl::StrCat(base, ".clip.max"), "is not above min");
      return absl::OkStatus();
    case v1::IntensityStep::kAffine:
      if (step.affine().scale() == 0) return Invalid(absl::StrCat(base, ".affine.scale"), "is 0");
      return absl::OkStatus();
    case v1::IntensityStep::kZScore: {
      const v1::ZScore& z_score = step.z_score();
      if (z_score.has_mean() != z_score.has_std()) {
        return Invalid(absl::StrCat(base, ".z_score"),
                       "a fixed mean needs a fixed std, and the other way round");
      }
      if (z_score.has_std() && z_score.std() <= 0)
        return Invalid(absl::StrCat(base, ".z_score.std"), "is not above 0");
      if (z_score.fill_holes() && !z_score.nonzero()) {
        return Invalid(absl::StrCat(base, ".z_score.fill_holes"), "only a non-zero region has holes");
      }
      return absl::OkStatus();
    }
    case v1::IntensityStep::kScaleMinMax:
      return CheckTarget(absl::StrCat(base, ".scale_min_max"), step.scale_min_max().to_min(),
                         step.scale_min_max().to_max());
    case v1::IntensityStep::kScalePercentiles: {
      const v1::ScalePercentiles& percentiles = step.scale_percentiles();
      const std::string path = absl::StrCat(base, ".scale_percentiles");
      if (percentiles.lower() < 0 || percentiles.upper() > 100 ||
          percentiles.lower() >= percentiles.upper()) {
        return Invalid(absl::StrCat(path, ".upper"), "0 <= lower < upper <= 100 does not hold");
      }
      return CheckTarget(path, percentiles.to_min(), percentiles.to_max());
    }
    case v1::IntensityStep::STEP_NOT_SET:
      break;
  }
  return Invalid(base, "says no step");
}

absl::Status CheckSteps(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                        const std::string& path) {
  for (int i = 0; i < steps.size(); ++i) TS_RETURN_IF_ERROR(CheckIntensity(steps[i], Path(path, i)));
  return absl::OkStatus();
}

absl::Status CheckInput(const v1::Input& input, int index) {
  const auto path = [index](std::string_view field) { return Path("inputs", index, field); };
  if (!IsIdentifier(input.name())) {
    return Invalid(path("name"), "a name of 1 to 32 of a-z, 0-9 and underscore is required");
  }
  if (input.modalities().empty()) return Invalid(path("modalities"), "at least one is required");
  TS_RETURN_IF_ERROR(CheckCodeStrings(input.modalities(), path("modalities")));
  TS_RETURN_IF_ERROR(CheckCodeStrings(input.required_image_types(), path("required_image_types")));
  TS_RETURN_IF_ERROR(CheckCodeStrings(input.excluded_image_types(), path("excluded_image_types")));
  TS_RETURN_IF_ERROR(CheckCodeStrings(input.units(), path("units")));
  for (const std::string& type : input.required_image_types()) {
    const auto& excluded = input.excluded_image_types();
    if (std::find(excluded.begin(), excluded.end(), type) != excluded.end()) {
      return Invalid(path("excluded_image_types"), "an image type is both required and excluded");
    }
  }
  for (int i = 0; i < input.region_texts_size(); ++i) {
    if (IsBlank(input.region_texts(i))) return Invalid(Path(path("region_texts"), i), "is empty");
  }
  for (int i = 0; i < input.preferred_kernels_size(); ++i) {
    if (IsBlank(input.preferred_kernels(i))) return Invalid(Path(path("preferred_kernels"), i), "is empty");
  }
  for (int i = 0; i < input.phase_texts_size(); ++i) {
    if (IsBlank(input.phase_texts(i))) return Invalid(Path(path("phase_texts"), i), "is empty");
  }
  for (int i = 0; i < input.excluded_texts_size(); ++i) {
    if (IsBlank(input.excluded_texts(i))) return Invalid(Path(path("excluded_texts"), i), "is empty");
  }
  for (int i = 0; i < input.planes_size(); ++i) {
    const std::string place = Path(path("planes"), i);
    if (input.planes(i) == v1::PLANE_UNSPECIFIED) return Invalid(place, "is no plane");
    if (std::find(input.planes().begin(), input.planes().begin() + i, input.planes(i)) !=
        input.planes().begin() + i) {
      return Invalid(place, "stands twice");
    }
  }
  TS_RETURN_IF_ERROR(CheckRange(path("slice_spacing_mm"), input.slice_spacing_mm(), 0, 1000));
  TS_RETURN_IF_ERROR(CheckRange(path("slice_thickness_mm"), input.slice_thickness_mm(), 0, 1000));
  TS_RETURN_IF_ERROR(CheckRange(path("kvp"), input.kvp(), 0, 1000));
  TS_RETURN_IF_ERROR(CheckRange(path("age_years"), input.age_years(), 0, 200));
  TS_RETURN_IF_ERROR(CheckRange(path("field_of_view_mm"), input.field_of_view_mm(), 0, 10000));
  const v1::UintRange& slices = input.slices();
  if (slices.has_min() && slices.has_max() && slices.min() > slices.max()) {
    return Invalid(path("slices"), absl::StrCat("min ", slices.min(), " is above max ", slices.max()));
  }
  if (input.max_lossy_ratio() < 0) return Invalid(path("max_lossy_ratio"), "is negative");
  return CheckSteps(input.intensity(), path("intensity"));
}

absl::Status CheckOrientation(const std::string& letters) {
  if (letters.empty()) return absl::OkStatus();
  constexpr std::array<std::string_view, 3> kPairs{"LR", "AP", "SI"};
  std::array<int, 3> used{};
  for (const char letter : letters) {
    for (std::size_t pair = 0; pair < kPairs.size(); ++pair) {
      if (kPairs[pair].find(letter) != std::string_view::npos) ++used[pair];
    }
  }
  if (letters.size() != 3 || used != std::array<int, 3>{1, 1, 1}) {
    return Invalid("preparation.orientation",
                   "three letters, one of L or R, A or P, S or I each, or nothing");
  }
  return absl::OkStatus();
}

absl::Status CheckSpacing(const v1::Spacing& spacing) {
  if (spacing.spacing_mm_size() != 3)
    return Invalid("preparation.spacing.spacing_mm", "three values are required");
  for (const double mm : spacing.spacing_mm()) {
    if (mm < 0.01 || mm > 100)
      return Invalid("preparation.spacing.spacing_mm", "each is from 0.01 to 100 mm");
  }
  if (spacing.rule() == v1::SPACING_RULE_UNSPECIFIED)
    return Invalid("preparation.spacing.rule", "is required");
  if (spacing.interpolation() == v1::INTERPOLATION_UNSPECIFIED) {
    return Invalid("preparation.spacing.interpolation", "is required");
  }
  if (spacing.low_resolution_axis() != v1::LOW_RESOLUTION_AXIS_UNSPECIFIED &&
      spacing.rule() != v1::SPACING_RULE_NNUNET) {
    return Invalid("preparation.spacing.low_resolution_axis", "only nnU-Net's rule has one");
  }
  return absl::OkStatus();
}

absl::Status CheckCrop(const v1::Recipe& recipe) {
  const v1::Crop& crop = recipe.preparation().crop();
  if (!crop.to_region()) return absl::OkStatus();
  if (!recipe.has_region()) return Invalid("preparation.crop.to_region", "the recipe has no region");
  if (crop.background() != 0) return Invalid("preparation.crop.background", "a crop to the region has none");
  return absl::OkStatus();
}

bool HasIntensitySteps(const v1::Recipe& recipe) {
  return !recipe.preparation().intensity().empty() ||
         std::any_of(recipe.inputs().begin(), recipe.inputs().end(),
                     [](const v1::Input& input) { return !input.intensity().empty(); }) ||
         std::any_of(recipe.network().parts().begin(), recipe.network().parts().end(),
                     [](const v1::Part& part) { return !part.intensity().empty(); });
}

}  // namespace

absl::Status CheckCard(const v1::Recipe& recipe) {
  if (IsBlank(recipe.title())) return Invalid("title", "is required");
  if (recipe.title().size() > 100) return Invalid("title", "is longer than 100 bytes");
  const v1::ModelCard& card = recipe.card();
  if (IsBlank(card.intended_use())) return Invalid("card.intended_use", "is required");
  if (card.regulatory_status() == v1::REGULATORY_STATUS_UNSPECIFIED) {
    return Invalid("card.regulatory_status", "is required");
  }
  if (IsBlank(card.author())) return Invalid("card.author", "is required");
  if (IsBlank(card.license())) return Invalid("card.license", "is required");
  if (IsBlank(card.source())) return Invalid("card.source", "is required");
  for (int i = 0; i < card.limitations_size(); ++i) {
    if (IsBlank(card.limitations(i))) return Invalid(Path("card.limitations", i), "is empty");
  }
  return absl::OkStatus();
}

absl::Status CheckInputs(const v1::Recipe& recipe) {
  if (recipe.inputs().empty()) return Invalid("inputs", "at least one is required");
  std::set<std::string> names;
  for (int i = 0; i < recipe.inputs_size(); ++i) {
    TS_RETURN_IF_ERROR(CheckInput(recipe.inputs(i), i));
    if (!names.insert(recipe.inputs(i).name()).second)
      return Invalid(Path("inputs", i, "name"), "stands twice");
  }
  return absl::OkStatus();
}

absl::Status CheckIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            const std::string& path) {
  return CheckSteps(steps, path);
}

absl::Status CheckPreparation(const v1::Recipe& recipe) {
  const v1::Preparation& preparation = recipe.preparation();
  TS_RETURN_IF_ERROR(CheckOrientation(preparation.orientation()));
  if (preparation.has_spacing()) TS_RETURN_IF_ERROR(CheckSpacing(preparation.spacing()));
  TS_RETURN_IF_ERROR(CheckCrop(recipe));
  TS_RETURN_IF_ERROR(CheckSteps(preparation.intensity(), "preparation.intensity"));
  if (preparation.intensity_before_spacing() && (!preparation.has_spacing() || !HasIntensitySteps(recipe))) {
    return Invalid("preparation.intensity_before_spacing",
                   "there is no spacing or no intensity step to order");
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
