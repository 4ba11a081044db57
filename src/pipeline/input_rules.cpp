#include "pipeline/input_rules.h"

#include <algorithm>

namespace tomoserve::pipeline {

std::size_t InputVolumes(const v1::Recipe& recipe) {
  return static_cast<std::size_t>(std::max(recipe.inputs_size(), 1));
}

const google::protobuf::RepeatedPtrField<v1::IntensityStep>& IntensityOf(const v1::Recipe& recipe,
                                                                         std::size_t input) {
  const int number = static_cast<int>(input);
  const bool own = number < recipe.inputs_size() && recipe.inputs(number).intensity_size() > 0;
  return own ? recipe.inputs(number).intensity() : recipe.preparation().intensity();
}

bool NormalisesInRegion(const v1::Recipe& recipe) {
  for (std::size_t input = 0; input < InputVolumes(recipe); ++input) {
    const auto& steps = IntensityOf(recipe, input);
    if (std::any_of(steps.begin(), steps.end(),
                    [](const v1::IntensityStep& step) { return step.z_score().fill_holes(); })) {
      return true;
    }
  }
  return false;
}

bool PreparesTogether(const v1::Recipe& recipe) {
  const v1::Preparation& preparation = recipe.preparation();
  if (preparation.has_crop() && !preparation.crop().to_region()) return true;
  return InputVolumes(recipe) > 1 && preparation.intensity_before_spacing() && NormalisesInRegion(recipe);
}

}  // namespace tomoserve::pipeline
