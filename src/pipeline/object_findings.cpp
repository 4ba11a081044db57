#include "pipeline/object_findings.h"

#include <algorithm>
#include <limits>
#include <span>

#include "pipeline/decode_rules.h"
#include "pipeline/object_measures.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/measure.h"

namespace tomoserve::pipeline {
namespace {

constexpr std::uint32_t kDefaultMaxFindings = 100;

// Something that may become a finding.
struct Object {
  std::vector<compute::RowRun> own_runs;  // where it is more than one component
  std::span<const compute::RowRun> runs;
  std::uint64_t voxels = 0;
  double score = 0;
};

// The components of a label, or all of them as one.
std::vector<Object> ObjectsOf(const v1::FindingRule& rule, const compute::ComponentSet& components) {
  std::vector<Object> objects;
  for (const compute::Component& component : components.components) {
    if (component.label != rule.label()) continue;
    const std::span<const compute::RowRun> runs = components.RunsOf(component);
    if (rule.each_component() || objects.empty()) objects.push_back({{}, runs, 0, 0});
    objects.back().voxels += component.voxels;
    if (!rule.each_component()) {
      objects.back().own_runs.insert(objects.back().own_runs.end(), runs.begin(), runs.end());
    }
  }
  for (Object& object : objects) {
    if (rule.each_component()) continue;
    SortRuns(object.own_runs);
    object.runs = object.own_runs;
  }
  return objects;
}

// Sets the score of every object. Parts of fixed size are combined in order: bits do not depend on threads.
absl::Status Score(const v1::FindingRule& rule, std::span<const std::int64_t> channels,
                   const ScoreReader& scores, std::vector<Object>& objects,
                   const compute::Parallel& parallel) {
  constexpr std::size_t kRunsOfPart = 1024;
  struct Part {
    std::size_t object = 0;
    double sum = 0;
    float highest = -std::numeric_limits<float>::infinity();
  };
  std::vector<Part> parts;
  std::vector<std::span<const compute::RowRun>> runs_of_parts;
  for (std::size_t o = 0; o < objects.size(); ++o) {
    for (std::size_t begin = 0; begin < objects[o].runs.size(); begin += kRunsOfPart) {
      const std::size_t count = std::min(kRunsOfPart, objects[o].runs.size() - begin);
      parts.push_back({o});
      runs_of_parts.push_back(objects[o].runs.subspan(begin, count));
    }
  }
  TS_RETURN_IF_ERROR(scores.ReadRuns(
      channels, runs_of_parts,
      [&](std::size_t part, std::span<const float> of_voxels) {
        for (const float score : of_voxels) {
          parts[part].sum += static_cast<double>(score);
          parts[part].highest = std::max(parts[part].highest, score);
        }
      },
      parallel));
  const bool mean = rule.score() == v1::SCORE_RULE_MEAN;
  for (Object& object : objects) object.score = mean ? 0 : -std::numeric_limits<double>::infinity();
  for (const Part& part : parts) {
    Object& object = objects[part.object];
    object.score = mean ? object.score + part.sum : std::max(object.score, static_cast<double>(part.highest));
  }
  if (!mean) return absl::OkStatus();
  for (Object& object : objects) object.score /= static_cast<double>(object.voxels);
  return absl::OkStatus();
}

template <typename Label>
absl::Status AddFindings(const v1::Recipe& recipe, const v1::FindingRule& rule,
                         const LabelledGrid<Label>& grid, const std::optional<HounsfieldValues>& hounsfield,
                         const compute::Parallel& parallel, std::vector<v1::Finding>& findings) {
  const volume::Geometry& geometry = grid.geometry;
  const std::vector<std::int64_t> channels = ScoreChannelsOf(recipe, rule.label());
  if (channels.empty()) return absl::OkStatus();  // no step makes this label
  std::vector<Object> objects = ObjectsOf(rule, grid.components);
  std::erase_if(objects, [&](const Object& object) {
    return static_cast<double>(object.voxels) * geometry.voxel_volume_ml() < rule.min_volume_ml();
  });
  TS_RETURN_IF_ERROR(Score(rule, channels, *grid.scores, objects, parallel));
  // Scores without an activation may be below 0: no bound is no bound.
  if (rule.min_score() > 0) {
    std::erase_if(objects, [&](const Object& object) { return object.score < rule.min_score(); });
  }
  std::stable_sort(objects.begin(), objects.end(), [](const Object& a, const Object& b) {
    return a.score != b.score ? a.score > b.score : a.voxels > b.voxels;
  });
  const LabelDistances distances(recipe, rule, grid.components, geometry);
  const std::uint32_t most = rule.max_findings() == 0 ? kDefaultMaxFindings : rule.max_findings();
  std::uint32_t made = 0;
  for (const Object& object : objects) {
    if (made == most) break;
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    const compute::Diameters diameters = compute::MeasureDiameters(object.runs, geometry);
    if (diameters.longest_3d_mm < rule.min_longest_diameter_mm()) continue;
    v1::Finding finding;
    finding.set_label_value(rule.label());
    finding.set_label(NameOf(recipe, rule.label()));
    finding.set_score(object.score);
    finding.set_calibration(v1::CALIBRATION_UNCALIBRATED);
    SetExtent<Label>(object.runs, grid, finding);
    SetDiameters(diameters, geometry, finding);
    if (hounsfield)
      TS_RETURN_IF_ERROR(SetHounsfield(object.runs, grid.places, *hounsfield, parallel, finding));
    distances.Set(object.runs, finding);
    findings.push_back(std::move(finding));
    ++made;
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<ipc::v1::LabelExtent> LabelExtents(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                               std::span<const compute::StoredArea> areas,
                                               const compute::ComponentSet& components) {
  const ObjectPlaces places(areas);
  const auto at_border = [&](const compute::RowRun& run) { return places.IsAtStoredEdge(run); };
  std::vector<ipc::v1::LabelExtent> extents;
  for (const v1::Label& label : recipe.labels()) {
    ipc::v1::LabelExtent& extent = extents.emplace_back();
    extent.set_label(label.value());
    std::array<double, 3> sum{};  // of voxels' places along i, j, k
    for (const compute::Component& component : components.components) {
      if (component.label != label.value()) continue;
      const std::span<const compute::RowRun> runs = components.RunsOf(component);
      const auto first = static_cast<std::uint32_t>(runs.front().k);
      const auto last = static_cast<std::uint32_t>(runs.back().k);
      extent.set_first_k(extent.voxels() == 0 ? first : std::min(extent.first_k(), first));
      extent.set_last_k(std::max(extent.last_k(), last));
      extent.set_voxels(extent.voxels() + component.voxels);
      if (std::any_of(runs.begin(), runs.end(), at_border)) extent.set_touches_in_plane_border(true);
      for (const compute::RowRun& run : runs) {
        const auto count = static_cast<double>(run.voxels());
        sum[0] += count * (run.first_i + run.last_i) / 2;
        sum[1] += count * run.j;
        sum[2] += count * run.k;
      }
    }
    if (extent.voxels() > 0) {
      for (double& place : sum) place /= static_cast<double>(extent.voxels());
      for (const double mm : geometry.ToLps({sum}).mm) extent.add_center_lps(mm);
    }
    extent.set_volume_ml(static_cast<double>(extent.voxels()) * geometry.voxel_volume_ml());
  }
  return extents;
}

template <typename Label>
absl::StatusOr<std::vector<v1::Finding>> ObjectFindings(const v1::Recipe& recipe,
                                                        const LabelledGrid<Label>& on_volume,
                                                        const LabelledGrid<Label>* on_model,
                                                        const std::optional<HounsfieldValues>& hounsfield,
                                                        const compute::Parallel& parallel) {
  std::vector<v1::Finding> findings;
  for (const v1::FindingRule& rule : recipe.findings()) {
    const LabelledGrid<Label>& grid = rule.on_model_grid() ? *on_model : on_volume;
    TS_RETURN_IF_ERROR(AddFindings<Label>(recipe, rule, grid, hounsfield, parallel, findings));
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const v1::Finding& a, const v1::Finding& b) { return a.score() > b.score(); });
  return findings;
}

template absl::StatusOr<std::vector<v1::Finding>> ObjectFindings<std::uint8_t>(
    const v1::Recipe&, const LabelledGrid<std::uint8_t>&, const LabelledGrid<std::uint8_t>*,
    const std::optional<HounsfieldValues>&, const compute::Parallel&);
template absl::StatusOr<std::vector<v1::Finding>> ObjectFindings<std::uint16_t>(
    const v1::Recipe&, const LabelledGrid<std::uint16_t>&, const LabelledGrid<std::uint16_t>*,
    const std::optional<HounsfieldValues>&, const compute::Parallel&);

}  // namespace tomoserve::pipeline
