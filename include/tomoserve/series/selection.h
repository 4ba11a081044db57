// Which volumes of a study a recipe runs on, and one reason for every series it does not. Pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tomoserve/series/study_series.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::series {

struct Selection {
  // The chosen volumes: of the first time point one for each input of the recipe, in their order, then those
  // of the next. All have a geometry, and one and the same grid, stored size and frame of reference. Several
  // time points only where the recipe's one input takes every_time_point. Empty: the run is NOT_APPLICABLE (a
  // valid answer) with `reasons`, e.g. MODALITY, SLICE_SPACING, REGION, NO_VOLUME. If every candidate that
  // fits the indication was rejected for its geometry, or volumes of all inputs are there but on no common
  // grid (INPUTS_DIFFER), the run is INCONCLUSIVE (`inconclusive`).
  std::vector<const Volume*> volumes;
  std::vector<const Series*> series;  // of each of `volumes`
  std::uint32_t channels = 1;         // volumes of one time point

  // The first of them, whose grid is that of all; null where there is none.
  const Volume* volume() const { return volumes.empty() ? nullptr : volumes.front(); }
  std::uint32_t time_points() const { return static_cast<std::uint32_t>(volumes.size()) / channels; }
  bool Uses(const Series& one) const { return std::find(series.begin(), series.end(), &one) != series.end(); }

  bool inconclusive = false;
  std::vector<tomoserve::v1::Reason> reasons;
  std::vector<tomoserve::v1::SeriesUse> uses;  // every series of the study
  std::vector<std::string> limitations;        // e.g. TAG_MISSING(kvp) where the recipe only warns
};

// Pointers point into `study`. A volume that must be resampled counts as a match where its recipe allows as
// many synthetic slices as it has (a corrected gantry tilt has none), with a limitation that says so. Ranking
// of several matches: fewest synthetic slices, not resampled, preferred kernel, thinnest spacing, most
// slices, most time points (every_time_point), then series order.
// every_time_point: all volumes of a stack that only time tells apart (Volume::stack) are one match; where
// one of them is rejected, does not fit or lies on another grid, none of them is. Several inputs: of the
// grids on which each input can have a volume of its own, that on which the first input's match ranks best,
// then the second's, ...; each gets the best that lets the later ones have theirs. Nothing fits an input:
// NOT_APPLICABLE with INPUT_MISSING(its name), then what came closest.
Selection Select(const tomoserve::v1::Recipe& recipe, const StudySeries& study);

}  // namespace tomoserve::series
