// Checks of a recipe's parts. Each returns the first thing that is wrong as RECIPE_INVALID with the field's
// path, e.g. "decode[2].keep_largest.label".
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

inline absl::Status Invalid(std::string_view path, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", path,
                     absl::StrCat(base::ToAbsl(path), ": ", base::ToAbsl(text)));
}

inline absl::Status Unsupported(std::string_view path, std::string_view text) {
  return base::Error(absl::StatusCode::kUnimplemented, "RECIPE_UNSUPPORTED", path,
                     absl::StrCat(base::ToAbsl(path), ": ", base::ToAbsl(text)));
}

// "name[index]", or "name[index].field".
inline std::string Path(std::string_view name, int index, std::string_view field = "") {
  return absl::StrCat(base::ToAbsl(name), "[", index, field.empty() ? "]" : "].", base::ToAbsl(field));
}

// Every message of the tree: numbers finite, text valid UTF-8 without control characters and at most 4096
// bytes, enum values known, no fields of another schema, at most 65535 entries in a list.
absl::Status CheckForm(const v1::Recipe& recipe);

absl::Status CheckCard(const v1::Recipe& recipe);
absl::Status CheckInputs(const v1::Recipe& recipe);
absl::Status CheckPreparation(const v1::Recipe& recipe);
// Intensity steps at `path`.
absl::Status CheckIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            const std::string& path);
absl::Status CheckWindows(const v1::Recipe& recipe);
absl::Status CheckNetwork(const v1::Recipe& recipe);
absl::Status CheckLabels(const v1::Recipe& recipe);
absl::Status CheckDecode(const v1::Recipe& recipe);
absl::Status CheckRegion(const v1::Recipe& recipe);
absl::Status CheckFindings(const v1::Recipe& recipe);
absl::Status CheckFlags(const v1::Recipe& recipe);
absl::Status CheckCoverage(const v1::Recipe& recipe);
absl::Status CheckKnownAnswer(const v1::Recipe& recipe);
absl::Status CheckPlausibility(const v1::Recipe& recipe);

// What the schema can say and the engine does not run yet: RECIPE_UNSUPPORTED with the field's path.
absl::Status CheckSupported(const v1::Recipe& recipe);

// Closed range with open bounds: min <= max, both in [lowest, highest].
absl::Status CheckRange(std::string_view path, const v1::DoubleRange& range, double lowest, double highest);

bool HasLabel(const v1::Recipe& recipe, std::uint32_t value);
// RECIPE_INVALID with `path` where it has no such label.
absl::Status CheckKnown(const v1::Recipe& recipe, const std::string& path, std::uint32_t label);
// The same, also where its steps merge the label into another one: nothing could be said of it.
absl::Status CheckKept(const v1::Recipe& recipe, const std::string& path, std::uint32_t label);

// A step detect_boxes and what else of the recipe it decides.
absl::Status CheckDetectBoxes(const v1::Recipe& recipe, const std::string& path, const v1::DetectBoxes& step);

}  // namespace tomoserve::models
