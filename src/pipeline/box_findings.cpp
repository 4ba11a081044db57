#include "pipeline/box_findings.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "tomoserve/compute/measure.h"

namespace tomoserve::pipeline {
namespace {

constexpr std::uint32_t kDefaultMaxFindings = 100;
constexpr double kMlPerCubicMm = 1e-3;

// A box in the patient and in the volume.
struct PlacedBox {
  volume::LpsPoint centre;
  volume::LpsPoint low;                 // of the box along the patient's axes around it
  volume::LpsPoint high;                // see low
  std::array<double, 3> extent_mm{};    // along the volume's i, j, k
  std::array<std::int64_t, 3> first{};  // voxels of the volume that it covers, at least one along each axis
  std::array<std::int64_t, 3> last{};   // inclusive
  std::int64_t key_slice_k = 0;
};

PlacedBox Place(const compute::Box& box, const RunPlan& plan) {
  const volume::Geometry& model = plan.grid.geometry;
  PlacedBox placed;
  constexpr double kFar = std::numeric_limits<double>::infinity();
  placed.low.mm.fill(kFar);
  placed.high.mm.fill(-kFar);
  std::array<double, 3> low{kFar, kFar, kFar};
  std::array<double, 3> high{-kFar, -kFar, -kFar};
  for (unsigned corner = 0; corner < 8; ++corner) {
    volume::ContinuousVoxel at;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      at.ijk[axis] = static_cast<double>((corner >> axis & 1u) != 0 ? box.high[axis] : box.low[axis]);
    }
    const volume::LpsPoint point = model.ToLps(at);
    const volume::ContinuousVoxel voxel = plan.volume.ToVoxel(point);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      placed.low.mm[axis] = std::min(placed.low.mm[axis], point.mm[axis]);
      placed.high.mm[axis] = std::max(placed.high.mm[axis], point.mm[axis]);
      low[axis] = std::min(low[axis], voxel.ijk[axis]);
      high[axis] = std::max(high[axis], voxel.ijk[axis]);
    }
  }
  volume::ContinuousVoxel middle;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto begin = static_cast<double>(box.low[axis]);
    const auto end = static_cast<double>(box.high[axis]);
    middle.ijk[axis] = (begin + end) / 2;
    const auto of_volume = static_cast<std::size_t>(plan.grid.reorientation.source_axis[axis]);
    placed.extent_mm[of_volume] = (end - begin) * model.spacing_mm()[axis];
  }
  placed.centre = model.ToLps(middle);
  const volume::ContinuousVoxel voxel = plan.volume.ToVoxel(placed.centre);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double end = plan.volume.size_ijk()[axis] - 1.0;
    placed.first[axis] = std::llround(std::clamp(std::round(low[axis]), 0.0, end));
    placed.last[axis] = std::llround(std::clamp(std::round(high[axis]), 0.0, end));
  }
  placed.key_slice_k =
      std::llround(std::clamp(std::round(voxel.ijk[2]), 0.0, plan.volume.size_ijk()[2] - 1.0));
  return placed;
}

void Set(double value, const char* method, double uncertainty, v1::Measurement& measurement) {
  measurement.set_value(value);
  measurement.set_method(method);
  measurement.set_uncertainty(uncertainty);
}

// Sides, and the ellipsoid that they are the diameters of.
void Measure(const PlacedBox& placed, const volume::Geometry& volume, v1::Finding& finding) {
  const auto [i, j, k] = placed.extent_mm;
  const double pixel = compute::PixelDiagonalMm(volume);
  const double ellipsoid_ml = std::numbers::pi / 6 * i * j * k * kMlPerCubicMm;
  double share = 0;  // of the volume, where each side is a voxel longer
  for (std::size_t axis = 0; axis < 3; ++axis) share += volume.spacing_mm()[axis] / placed.extent_mm[axis];
  Set(std::max(i, j), "longer side of the box in a slice", pixel, *finding.mutable_long_axis_mm());
  Set(std::min(i, j), "shorter side of the box in a slice", pixel, *finding.mutable_short_axis_mm());
  Set((i + j) / 2, "mean of the sides of the box in a slice", pixel, *finding.mutable_mean_diameter_mm());
  Set(std::max({i, j, k}), "longest side of the box", compute::VoxelDiagonalMm(volume),
      *finding.mutable_longest_diameter_3d_mm());
  Set(ellipsoid_ml, "ellipsoid with the sides of the box as diameters", ellipsoid_ml * share,
      *finding.mutable_volume_ml());
}

void SetLimitations(const PlacedBox& placed, const volume::Geometry& volume,
                    std::span<const compute::StoredArea> areas, v1::Finding& finding) {
  bool touches = placed.first[2] == 0 || placed.last[2] == std::int64_t{volume.size_ijk()[2]} - 1;
  bool synthetic = false;
  for (std::int64_t k = placed.first[2]; k <= placed.last[2]; ++k) {
    const compute::StoredArea& area = areas[static_cast<std::size_t>(k)];
    synthetic |= area.interpolated;
    touches |= area.IsEdge(placed.first[0], placed.last[0], placed.first[1]) ||
               area.IsEdge(placed.first[0], placed.last[0], placed.last[1]);
  }
  if (touches) finding.add_limitations("TOUCHES_VOLUME_EDGE");
  if (synthetic) finding.add_limitations("SYNTHETIC_SLICE");
}

}  // namespace

std::vector<v1::Finding> BoxFindings(const v1::Recipe& recipe, const RunPlan& plan,
                                     std::span<const compute::StoredArea> areas,
                                     std::span<const compute::Detection> boxes) {
  std::vector<v1::Finding> findings;
  for (const v1::FindingRule& rule : recipe.findings()) {
    const std::uint32_t most = rule.max_findings() == 0 ? kDefaultMaxFindings : rule.max_findings();
    std::uint32_t made = 0;
    for (const compute::Detection& box : boxes) {
      if (made == most) break;
      const v1::Label& label = recipe.labels(static_cast<int>(box.class_index));
      const auto score = static_cast<double>(box.score);
      if (label.value() != rule.label() || score < rule.min_score()) continue;
      const PlacedBox placed = Place(box.box, plan);
      v1::Finding finding;
      Measure(placed, plan.volume, finding);
      if (finding.volume_ml().value() < rule.min_volume_ml() ||
          finding.longest_diameter_3d_mm().value() < rule.min_longest_diameter_mm()) {
        continue;
      }
      finding.set_label_value(rule.label());
      finding.set_label(label.name());
      finding.set_score(score);
      finding.set_calibration(v1::CALIBRATION_UNCALIBRATED);
      *finding.mutable_centre_lps() = volume::ToProto(placed.centre);
      *finding.mutable_box_lps()->mutable_min() = volume::ToProto(placed.low);
      *finding.mutable_box_lps()->mutable_max() = volume::ToProto(placed.high);
      for (const double mm : placed.extent_mm) finding.add_extent_mm(mm);
      finding.set_key_slice_k(static_cast<std::uint32_t>(placed.key_slice_k));
      SetLimitations(placed, plan.volume, areas, finding);
      findings.push_back(std::move(finding));
      ++made;
    }
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const v1::Finding& a, const v1::Finding& b) { return a.score() > b.score(); });
  return findings;
}

}  // namespace tomoserve::pipeline
