// Cascades: what a recipe says of its region, and whether another recipe can give it.
#include <cstdint>
#include <set>

#include "models/names.h"
#include "models/recipe_checks.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/region.h"

namespace tomoserve::models {

absl::Status CheckRegion(const v1::Recipe& recipe) {
  if (!recipe.has_region()) return absl::OkStatus();
  const v1::Region& region = recipe.region();
  if (!IsName(region.model())) {
    return Invalid("region.model",
                   "a model's name of 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-' is required");
  }
  if (region.labels().empty()) return Invalid("region.labels", "at least one is required");
  std::set<std::uint32_t> seen;
  for (int i = 0; i < region.labels_size(); ++i) {
    const std::string path = Path("region.labels", i);
    if (region.labels(i) < 1 || region.labels(i) > 65535) return Invalid(path, "from 1 to 65535");
    if (!seen.insert(region.labels(i)).second) return Invalid(path, "stands twice");
  }
  bool used = recipe.preparation().crop().to_region();
  for (const v1::DecodeStep& step : recipe.decode()) used = used || step.has_keep_in_region();
  if (used) return absl::OkStatus();
  return Invalid("region", DetectorOf(recipe) != nullptr
                               ? "nothing uses it: a detector takes it by preparation.crop.to_region"
                               : "nothing uses it: neither preparation.crop.to_region nor keep_in_region");
}

absl::Status CheckRegionModel(const v1::Region& region, std::string_view name, const v1::Recipe& source) {
  const auto invalid = [name](const std::string& path, std::string_view text) {
    return Invalid(path, absl::StrCat(base::ToAbsl(name), " ", base::ToAbsl(text)));
  };
  if (source.has_region()) return invalid("region.model", "has a region itself");
  if (DetectorOf(source) != nullptr) return invalid("region.model", "makes boxes, no labels");
  for (const v1::Input& input : source.inputs()) {
    if (input.every_time_point()) return invalid("region.model", "takes every time point");
  }
  for (int i = 0; i < region.labels_size(); ++i) {
    const std::string path = Path("region.labels", i);
    const std::uint32_t label = region.labels(i);
    if (!HasLabel(source, label)) return invalid(path, absl::StrCat("has no label ", label));
    if (!CheckKept(source, path, label).ok()) {
      return invalid(path, absl::StrCat("merges its label ", label, " into another one"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
