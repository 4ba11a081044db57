// From boxes to findings.
#pragma once

#include <span>
#include <vector>

#include "tomoserve/compute/boxes.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Findings of all rules, highest score first (then as `boxes` has them), each rule at most its max_findings.
// Class c is the c-th of the recipe's labels. Measurements are those of the box, their methods say so; voxels
// stay 0, laterality unspecified, and there is no mean_hu: a box holds more than what was found. Limitations
// as ObjectFindings says them, of the part of the volume that the box covers. `boxes` on the plan's grid,
// `areas` of the volume's slices.
std::vector<v1::Finding> BoxFindings(const v1::Recipe& recipe, const RunPlan& plan,
                                     std::span<const compute::StoredArea> areas,
                                     std::span<const compute::Detection> boxes);

}  // namespace tomoserve::pipeline
