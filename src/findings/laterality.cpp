// The side of the patient that a finding lies on.
#include "tomoserve/models/laterality.h"

#include <algorithm>
#include <cmath>

#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {
namespace {

v1::Laterality OfMidplane(const v1::SideOfMidplane& rule, const ipc::v1::RunDone& done,
                          const v1::Finding& finding) {
  for (const ipc::v1::LabelExtent& extent : done.labels()) {
    if (extent.label() != rule.label() || extent.time_point() != finding.time_point()) continue;
    // What the border cuts off has another middle.
    if (extent.voxels() == 0 || extent.touches_in_plane_border() || extent.center_lps_size() != 3) break;
    const double to_the_left_mm = finding.centre_lps().x_mm() - extent.center_lps(0);
    if (!std::isfinite(to_the_left_mm)) break;
    if (std::abs(to_the_left_mm) <= rule.margin_mm()) return v1::LATERALITY_MIDLINE;
    return to_the_left_mm > 0 ? v1::LATERALITY_LEFT : v1::LATERALITY_RIGHT;
  }
  return v1::LATERALITY_UNSPECIFIED;
}

}  // namespace

v1::Laterality LateralityOf(const v1::Recipe& recipe, const ipc::v1::RunDone& done,
                            const v1::Finding& finding) {
  const auto rule =
      std::find_if(recipe.findings().begin(), recipe.findings().end(),
                   [&](const v1::FindingRule& known) { return known.label() == finding.label_value(); });
  if (rule == recipe.findings().end()) return v1::LATERALITY_UNSPECIFIED;
  if (rule->laterality().has_of_midplane())
    return OfMidplane(rule->laterality().of_midplane(), done, finding);
  if (!rule->laterality().has_of_label()) return v1::LATERALITY_UNSPECIFIED;
  for (const v1::Label& label : recipe.labels()) {
    if (label.value() == finding.label_value()) return models::LateralityOfLabel(label);
  }
  return v1::LATERALITY_UNSPECIFIED;
}

}  // namespace tomoserve::findings
