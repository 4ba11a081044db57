// What the schema can say and the engine does not run yet. A line goes when its feature arrives.
#include "models/recipe_checks.h"

namespace tomoserve::models {

absl::Status CheckSupported(const v1::Recipe& recipe) {
  if (recipe.inputs_size() > 1) return Unsupported("inputs", "more than one input is not supported yet");

  for (const v1::Input& input : recipe.inputs()) {
    if (input.every_time_point())
      return Unsupported("inputs[0].every_time_point", "time is not supported yet");
  }

  const v1::Preparation& preparation = recipe.preparation();
  if (preparation.spacing().interpolation() == v1::INTERPOLATION_CUBIC &&
      preparation.spacing().rule() != v1::SPACING_RULE_NNUNET) {
    return Unsupported("preparation.spacing.interpolation", "CUBIC is supported with nnU-Net's rule only");
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
