#include "tomoserve/dispatch/local_plan.h"

#include "dispatch/planning.h"
#include "tomoserve/series/selection.h"

namespace tomoserve::dispatch {

v1::PlannedRun PlanLocally(const models::Model& model, const series::StudySeries& study) {
  RunInput input;
  input.selection = series::Select(model.recipe, study);
  return PlanRun(model, input, {});
}

}  // namespace tomoserve::dispatch
