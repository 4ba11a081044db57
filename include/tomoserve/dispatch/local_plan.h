// PlanStudy without a server: recipes on a study whose headers were read here. Pure functions.
#pragma once

#include "tomoserve/models/repository.h"
#include "tomoserve/series/study_series.h"
#include "tomoserve/v1/study_service.pb.h"

namespace tomoserve::dispatch {

// What `model` would do with the study, as PlanStudy says it. Nothing was measured here: the seconds are
// those of the recipe's profile on one core, 0 where it has none, and the bytes leave out the network's
// weights.
v1::PlannedRun PlanLocally(const models::Model& model, const series::StudySeries& study);

}  // namespace tomoserve::dispatch
