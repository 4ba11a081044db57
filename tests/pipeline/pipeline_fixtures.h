// Recipes and runs for the pipeline's tests.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::testing {

// One label "spot" where the network's only channel is above 0.5; each component is a finding. Windows of
// 16 voxels with overlap and Gaussian weights on the volume's own grid.
inline v1::Recipe SpotRecipe() {
  v1::Recipe recipe;
  v1::Windows& windows = *recipe.mutable_windows();
  windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) windows.add_size(16);
  windows.set_overlap(0.25);
  windows.set_blend(v1::BLEND_GAUSSIAN);
  v1::Network& network = *recipe.mutable_network();
  network.set_spatial_dims(3);
  network.set_axes(v1::TENSOR_AXES_XYZ);
  network.set_input_channels(1);
  network.set_output_channels(1);
  recipe.add_decode()->mutable_threshold()->set_above(0.5);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  v1::Label& label = *recipe.add_labels();
  label.set_value(1);
  label.set_name("spot");
  v1::FindingRule& rule = *recipe.add_findings();
  rule.set_label(1);
  rule.set_each_component(true);
  recipe.mutable_coverage()->mutable_not_needed()->set_because("test");
  return recipe;
}

inline void SetSpacing(v1::Recipe& recipe, std::array<double, 3> spacing_mm,
                       v1::Interpolation interpolation) {
  v1::Spacing& spacing = *recipe.mutable_preparation()->mutable_spacing();
  for (const double mm : spacing_mm) spacing.add_spacing_mm(mm);
  spacing.set_rule(v1::SPACING_RULE_MONAI);
  spacing.set_interpolation(interpolation);
}

inline void SetAffine(v1::Recipe& recipe, double scale, double shift) {
  v1::Affine& affine = *recipe.mutable_preparation()->add_intensity()->mutable_affine();
  affine.set_scale(scale);
  affine.set_shift(shift);
}

struct Outcome {
  pipeline::RunResult result;
  std::vector<std::uint16_t> labels;  // [k][j][i], whatever the label map's own type
  std::vector<std::byte> label_bytes;
};

// The whole path on one thread per stage, or `threads`. `forward` gets and gives tensors where they are
// placed.
inline absl::StatusOr<Outcome> RunAll(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                      const std::vector<compute::StoredSlice>& slices,
                                      const pipeline::Forward& forward, int threads = 1,
                                      std::uint32_t bytes_per_voxel = 1,
                                      const compute::Placement& placement = {},
                                      const std::optional<pipeline::RegionLabels>& region = std::nullopt,
                                      const std::optional<pipeline::HounsfieldInput>& hounsfield = {}) {
  engine::UseOneThread();
  TS_ASSIGN_OR_RETURN(const auto run, pipeline::PreparedRun::Create(recipe, geometry, slices, {threads, {}},
                                                                    placement, region));
  for (std::uint32_t window = 0; window < run->windows(); ++window) {
    TS_ASSIGN_OR_RETURN(pipeline::Outputs outputs, run->ForwardWindow(window, forward));
    TS_RETURN_IF_ERROR(run->Fold(window, std::move(outputs)));
  }
  Outcome outcome;
  // Dirty memory: every voxel must be written.
  outcome.label_bytes.assign(static_cast<std::size_t>(geometry.voxels()) * bytes_per_voxel, std::byte{0xee});
  TS_ASSIGN_OR_RETURN(outcome.result, run->Finish(outcome.label_bytes, bytes_per_voxel, hounsfield));
  for (std::size_t v = 0; v < geometry.voxels(); ++v) {
    std::uint16_t label = 0;
    std::memcpy(&label, outcome.label_bytes.data() + v * bytes_per_voxel, bytes_per_voxel);
    outcome.labels.push_back(label);
  }
  return outcome;
}

// Base of suites that run in every placement.
class PlacedRunTest : public PlacedTest {
 protected:
  absl::StatusOr<Outcome> Run(const v1::Recipe& recipe, const volume::Geometry& geometry,
                              const std::vector<compute::StoredSlice>& slices,
                              const pipeline::Forward& forward, int threads = 1,
                              std::uint32_t bytes_per_voxel = 1,
                              const std::optional<pipeline::RegionLabels>& region = std::nullopt) {
    return RunAll(recipe, geometry, slices, forward, threads, bytes_per_voxel, placement(), region);
  }
  absl::StatusOr<std::unique_ptr<pipeline::PreparedRun>> Create(
      const v1::Recipe& recipe, const volume::Geometry& geometry,
      const std::vector<compute::StoredSlice>& slices, const compute::Parallel& parallel = {},
      const std::optional<pipeline::RegionLabels>& region = std::nullopt) {
    return pipeline::PreparedRun::Create(recipe, geometry, slices, parallel, placement(), region);
  }
};

inline absl::StatusOr<at::Tensor> Identity(const at::Tensor& input) { return input.clone(); }

// Values below 2000 in every voxel.
inline StoredVolume RandomVolume(const volume::Geometry& geometry, std::uint64_t seed) {
  Random random(seed);
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < geometry.size_ijk()[2]; ++k) {
    for (std::uint32_t j = 0; j < geometry.size_ijk()[1]; ++j) {
      for (std::uint32_t i = 0; i < geometry.size_ijk()[0]; ++i) {
        stored.At(i, j, k) = static_cast<std::int16_t>(random.Below(2000));
      }
    }
  }
  return stored;
}

// Sets every voxel whose centre lies within `radius_mm` of `centre` to `value`.
inline void PaintSphere(const volume::Geometry& geometry, std::array<double, 3> centre, double radius_mm,
                        std::int16_t value, StoredVolume& stored) {
  const auto [ni, nj, nk] = geometry.size_ijk();
  for (std::uint32_t k = 0; k < nk; ++k) {
    for (std::uint32_t j = 0; j < nj; ++j) {
      for (std::uint32_t i = 0; i < ni; ++i) {
        const volume::LpsPoint p =
            geometry.ToLps({{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}});
        if (std::hypot(p.mm[0] - centre[0], p.mm[1] - centre[1], p.mm[2] - centre[2]) <= radius_mm) {
          stored.At(i, j, k) = value;
        }
      }
    }
  }
}

}  // namespace tomoserve::testing
