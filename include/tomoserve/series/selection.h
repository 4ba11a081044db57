// Which volume of a study a recipe runs on, and one reason for every series it does not. Pure functions.
#pragma once

#include <vector>

#include "tomoserve/series/study_series.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::series {

struct Selection {
  // The chosen volume, or null: then the run is NOT_APPLICABLE (a valid answer) with `reasons`, e.g.
  // MODALITY, SLICE_SPACING, REGION, NO_VOLUME. If every candidate that fits the indication was rejected for
  // its geometry the run is INCONCLUSIVE (`inconclusive`), reasons from the verdict.
  const Volume* volume = nullptr;
  const Series* series = nullptr;
  bool inconclusive = false;
  std::vector<tomoserve::v1::Reason> reasons;
  std::vector<tomoserve::v1::SeriesUse> uses;  // every series of the study
  std::vector<std::string> limitations;        // e.g. TAG_MISSING(kvp) where the recipe only warns
};

// Pointers point into `study`. A volume that must be resampled counts as a match where its recipe allows as
// many synthetic slices as it has (a corrected gantry tilt has none), with a limitation that says so. Ranking
// of several matches: fewest synthetic slices, not resampled, preferred kernel, thinnest spacing, most
// slices, then series order.
Selection Select(const tomoserve::v1::Recipe& recipe, const StudySeries& study);

}  // namespace tomoserve::series
