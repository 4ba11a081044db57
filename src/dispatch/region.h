// Cascades: the run of the study whose label map is the region of another one (Recipe.region).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dispatch/catalogue.h"
#include "dispatch/study_input.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::dispatch {

// Finds the region's run among the newest runs of the study, adds it to the input and to its digest. Of
// several versions that have the labels the one that the catalogue would choose now, else the highest.
// Unchanged where the recipe has no region or no volume was chosen. Inconclusive where that run cannot serve:
// REGION_NOT_RUN (nobody asked for it, or it was cancelled; value: the model), REGION_NOT_APPLICABLE (value:
// its model's first reason), REGION_ELSEWHERE (it takes another volume of the study; value: the model).
RunInput WithRegion(RunInput input, const models::Model& model,
                    const std::vector<store::StoredRun>& runs_of_study, const Catalogue& catalogue);

// Bytes of the region's label map on this grid.
std::uint64_t RegionBytes(const RegionSource& region, const volume::Geometry& grid);

// The region's label map as a sealed memfd of RegionBytes. Blocks on the store. Errors: kFailedPrecondition
// REGION_ABSENT (the run has no label map; value: why) and REGION_ELSEWHERE, after which the run is
// INCONCLUSIVE; REGION_FAILED (value: its reason); kUnavailable REGION_CHANGED (it is being
// computed again) and HOST_MEMORY; those of the store.
absl::StatusOr<base::UniqueFd> ReadRegion(store::JobStore& store, const RegionSource& region,
                                          const volume::Geometry& grid);

// Whether this error of ReadRegion, or this reason of a worker, says that there is no region to look in.
bool IsWithoutRegion(std::string_view reason_code);

}  // namespace tomoserve::dispatch
