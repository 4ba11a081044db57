#include "tomoserve/models/recipe.h"

#include <algorithm>
#include <cstddef>

#include "models/recipe_checks.h"
#include "tomoserve/base/config.h"

namespace tomoserve::models {
namespace {

// The largest recipe that makes sense: 65535 labels need about 20 MB; 105 labels need 20 KB.
constexpr std::size_t kMaxRecipeBytes = 32U << 20;

}  // namespace

absl::StatusOr<v1::Recipe> ParseRecipe(std::string_view text) {
  if (text.size() > kMaxRecipeBytes) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_SYNTAX", absl::StrCat(text.size()),
                       absl::StrCat("the recipe is larger than ", kMaxRecipeBytes, " bytes"));
  }
  v1::Recipe recipe;
  TS_RETURN_IF_ERROR(base::ParseTextproto(text, "RECIPE_SYNTAX", recipe));
  TS_RETURN_IF_ERROR(ValidateRecipe(recipe));
  return recipe;
}

absl::Status ValidateRecipe(const v1::Recipe& recipe) {
  TS_RETURN_IF_ERROR(CheckForm(recipe));
  TS_RETURN_IF_ERROR(CheckCard(recipe));
  TS_RETURN_IF_ERROR(CheckInputs(recipe));
  TS_RETURN_IF_ERROR(CheckPreparation(recipe));
  TS_RETURN_IF_ERROR(CheckNetwork(recipe));
  TS_RETURN_IF_ERROR(CheckWindows(recipe));
  TS_RETURN_IF_ERROR(CheckLabels(recipe));
  TS_RETURN_IF_ERROR(CheckDecode(recipe));
  TS_RETURN_IF_ERROR(CheckRegion(recipe));
  TS_RETURN_IF_ERROR(CheckFindings(recipe));
  TS_RETURN_IF_ERROR(CheckFlags(recipe));
  TS_RETURN_IF_ERROR(CheckCoverage(recipe));
  TS_RETURN_IF_ERROR(CheckPlausibility(recipe));
  TS_RETURN_IF_ERROR(CheckKnownAnswer(recipe));
  return CheckSupported(recipe);
}

std::uint32_t LabelBytesPerVoxel(const v1::Recipe& recipe) {
  std::uint32_t highest = 0;
  for (const v1::Label& label : recipe.labels()) highest = std::max(highest, label.value());
  return highest <= 255 ? 1 : 2;
}

bool HasLabel(const v1::Recipe& recipe, std::uint32_t value) {
  return std::any_of(recipe.labels().begin(), recipe.labels().end(),
                     [value](const v1::Label& label) { return label.value() == value; });
}

absl::Status CheckRange(std::string_view path, const v1::DoubleRange& range, double lowest, double highest) {
  for (const auto& [given, bound] :
       {std::pair(range.has_min(), range.min()), {range.has_max(), range.max()}}) {
    if (given && (bound < lowest || bound > highest)) {
      return Invalid(path, absl::StrCat("a bound of ", bound, " is outside ", lowest, " to ", highest));
    }
  }
  if (range.has_min() && range.has_max() && range.min() > range.max()) {
    return Invalid(path, absl::StrCat("min ", range.min(), " is above max ", range.max()));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
