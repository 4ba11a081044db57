#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {
namespace {

// Distances are products of an integer and a spacing: they miss a margin by rounding only.
constexpr double kTolerance = 1e-6;

void AddReason(v1::Coverage& coverage, std::string_view code, std::string_view value, std::string_view text) {
  v1::Reason& reason = *coverage.add_reasons();
  reason.set_code(std::string(code));
  reason.set_value(std::string(value));
  reason.set_text(std::string(text));
}

// One number of a rule: whether it is enough, and how to say so.
struct Check {
  std::string_view code;
  double value = 0;
  double needed = 0;
  std::string_view what;  // "the lung's volume, ml"
  bool holds() const { return value + kTolerance >= needed; }
};

// What the two extent rules have in common: a structure must be big enough, end before both end slices and
// not be cut off in-plane. `extent` comes from a worker and is checked.
void JudgeExtent(const ipc::v1::LabelExtent& extent, double min_volume_ml, double margin_mm,
                 const volume::Geometry& grid, v1::Coverage& coverage) {
  if (extent.voxels() == 0) {
    coverage.set_target(v1::COVERAGE_TARGET_PARTIAL);
    AddReason(coverage, "LABEL_ABSENT", "0", "the structure that the question is about is not in the volume");
    return;
  }
  const std::uint32_t slices = grid.size_ijk()[2];
  if (extent.first_k() > extent.last_k() || extent.last_k() >= slices || !std::isfinite(extent.volume_ml())) {
    coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
    AddReason(coverage, "EXTENT_INVALID", "", "the measured extent does not fit the volume");
    return;
  }
  const double spacing_k = grid.spacing_mm()[2];
  const Check checks[] = {
      {"LABEL_VOLUME_ML", extent.volume_ml(), min_volume_ml, "volume of the structure, ml"},
      {"MARGIN_LOW_MM", extent.first_k() * spacing_k, margin_mm, "distance from the first slice, mm"},
      {"MARGIN_HIGH_MM", (slices - 1 - extent.last_k()) * spacing_k, margin_mm,
       "distance from the last slice, mm"},
  };
  const bool complete =
      !extent.touches_in_plane_border() &&
      std::all_of(std::begin(checks), std::end(checks), [](const Check& c) { return c.holds(); });
  coverage.set_target(complete ? v1::COVERAGE_TARGET_COMPLETE : v1::COVERAGE_TARGET_PARTIAL);
  for (const Check& check : checks) {
    if (!complete && check.holds()) continue;
    AddReason(coverage, check.code, absl::StrFormat("%.1f", check.value),
              absl::StrCat(base::ToAbsl(check.what), ": ", absl::StrFormat("%.1f", check.value), ", needed ",
                           absl::StrFormat("%.1f", check.needed)));
  }
  if (extent.touches_in_plane_border()) {
    AddReason(coverage, "TOUCHES_FIELD_OF_VIEW", "", "the structure is cut off by the edge of the images");
  }
}

}  // namespace

v1::Coverage JudgeCoverage(const v1::Recipe& recipe, const volume::Geometry& grid,
                           const ipc::v1::RunDone& done, std::vector<v1::SeriesUse> series) {
  v1::Coverage coverage;
  for (v1::SeriesUse& use : series) *coverage.add_series() = std::move(use);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    coverage.add_extent_mm(grid.size_ijk()[axis] * grid.spacing_mm()[axis]);
  }

  switch (recipe.coverage().rule_case()) {
    case v1::CoverageRule::kNotNeeded:
      coverage.set_target(v1::COVERAGE_TARGET_COMPLETE);
      AddReason(coverage, "EXTENT_NOT_NEEDED", "", recipe.coverage().not_needed().because());
      break;
    case v1::CoverageRule::kNotStated:
      coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
      AddReason(coverage, "COVERAGE_NOT_STATED", "", recipe.coverage().not_stated().because());
      break;
    case v1::CoverageRule::kLabelInside: {
      const v1::LabelInside& rule = recipe.coverage().label_inside();
      // Of several time points the first one that is not complete speaks.
      std::optional<v1::Coverage> judged;
      for (const ipc::v1::LabelExtent& extent : done.labels()) {
        if (extent.label() != rule.label()) continue;
        if (judged && judged->target() != v1::COVERAGE_TARGET_COMPLETE) break;
        v1::Coverage one = coverage;
        JudgeExtent(extent, rule.min_volume_ml(), rule.margin_mm(), grid, one);
        if (!judged || one.target() != v1::COVERAGE_TARGET_COMPLETE) judged = std::move(one);
      }
      if (judged) return *std::move(judged);
      coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
      AddReason(coverage, "EXTENT_NOT_MEASURED", absl::StrCat(rule.label()), "the label was not measured");
      break;
    }
    case v1::CoverageRule::kLungInside: {
      const v1::LungInside& rule = recipe.coverage().lung_inside();
      if (!done.has_lung()) {
        coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
        AddReason(coverage, "EXTENT_NOT_MEASURED", "lung", "the air inside the body was not measured");
        break;
      }
      JudgeExtent(done.lung(), rule.min_volume_ml(), rule.margin_mm(), grid, coverage);
      break;
    }
    case v1::CoverageRule::RULE_NOT_SET:
      coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
      AddReason(coverage, "NO_COVERAGE_RULE", "", "the recipe does not say when a volume is complete");
      break;
  }
  return coverage;
}

}  // namespace tomoserve::findings
