// Measurements of one object. `runs` are its own, in k, j, i order, at least one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/labelled_grid.h"
#include "pipeline/object_places.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/distance.h"
#include "tomoserve/compute/measure.h"
#include "tomoserve/compute/object_values.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/pipeline/prepared_run.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::pipeline {

// Name of a label of the recipe.
std::string NameOf(const v1::Recipe& recipe, std::uint32_t value);

// Into k, j, i order.
void SortRuns(std::vector<compute::RowRun>& runs);

void SetDiameters(const compute::Diameters& diameters, const volume::Geometry& geometry,
                  v1::Finding& finding);

// Centre, box, extents, volume, voxels, key slice and limitations.
template <typename Label>
void SetExtent(std::span<const compute::RowRun> runs, const LabelledGrid<Label>& grid, v1::Finding& finding);

// Stored values in Hounsfield units, and what a method says of them.
struct HounsfieldValues {
  compute::StoredValues values;
  std::string of_input;  // " of input NAME", where the recipe has several
};

// Errors: those of StoredToFloat.
absl::StatusOr<HounsfieldValues> HounsfieldOf(const v1::Recipe& recipe, const HounsfieldInput& input,
                                              const volume::Geometry& volume);

// Mean and standard deviation, where anything was stored. Errors: those of ParallelFor.
absl::Status SetHounsfield(std::span<const compute::RowRun> runs, const ObjectPlaces& places,
                           const HounsfieldValues& hounsfield, const compute::Parallel& parallel,
                           v1::Finding& finding);

// The labels that a rule names, as far as they have voxels, on the grid of its objects.
class LabelDistances {
 public:
  LabelDistances(const v1::Recipe& recipe, const v1::FindingRule& rule,
                 const compute::ComponentSet& components, const volume::Geometry& geometry);
  LabelDistances(const LabelDistances&) = delete;
  LabelDistances& operator=(const LabelDistances&) = delete;
  void Set(std::span<const compute::RowRun> runs, v1::Finding& finding) const;

 private:
  struct Other {
    std::uint32_t label = 0;
    std::string name;
    std::vector<compute::RowRun> runs;
    std::optional<compute::RunsBySlice> by_slice;  // of `runs`
  };
  volume::Geometry geometry_;
  std::vector<Other> others_;
};

}  // namespace tomoserve::pipeline
