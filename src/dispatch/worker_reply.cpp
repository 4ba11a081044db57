#include "dispatch/worker_reply.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::size_t kLongestText = 200;
constexpr std::uint32_t kDefaultFindings = 100;
// Centroids of voxels lie inside; boxes have the voxels' edges, and detectors may look one window beyond.
constexpr double kMarginVoxels = 64;
constexpr double kLongestStageMs = 7 * 24 * 3600 * 1000.0;

absl::Status Lie(std::string_view field) {
  return base::Error(absl::StatusCode::kInvalidArgument, "WORKER_LIED", field,
                     "the worker's result cannot be true: it was thrown away");
}

bool IsCode(const std::string& text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isupper(static_cast<unsigned char>(c)) ||
           absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_';
  });
}

bool IsFiniteAndPositive(double value) { return std::isfinite(value) && value >= 0; }

bool IsPlausible(const v1::Measurement& measurement) {
  return IsFiniteAndPositive(measurement.value()) && IsFiniteAndPositive(measurement.uncertainty()) &&
         measurement.method().size() <= kLongestText;
}

bool IsNear(const volume::Geometry& grid, const v1::PointLps& point) {
  const std::array<double, 3> mm{point.x_mm(), point.y_mm(), point.z_mm()};
  if (!std::all_of(mm.begin(), mm.end(), [](double value) { return std::isfinite(value); })) return false;
  const volume::ContinuousVoxel voxel = grid.ToVoxel({mm});
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (!(voxel.ijk[axis] >= -kMarginVoxels && voxel.ijk[axis] <= grid.size_ijk()[axis] + kMarginVoxels))
      return false;
  }
  return true;
}

bool IsFinite(const v1::PointLps& point) {
  return std::isfinite(point.x_mm()) && std::isfinite(point.y_mm()) && std::isfinite(point.z_mm());
}

const v1::FindingRule* RuleOf(const v1::Recipe& recipe, const v1::Finding& finding) {
  for (const v1::FindingRule& rule : recipe.findings()) {
    if (rule.label() == finding.label_value()) return &rule;
  }
  return nullptr;
}

// Objects of the model grid, whose size the front does not know, may have more voxels than the volume.
bool IsOnModelGrid(const v1::Recipe& recipe, const v1::Finding& finding) {
  const v1::FindingRule* const rule = RuleOf(recipe, finding);
  return rule != nullptr && rule->on_model_grid();
}

// The least and the greatest value that a run's stored types and factors can give.
std::array<double, 2> StoredRange(const ipc::v1::StartRun& start) {
  std::array<double, 2> range{std::numeric_limits<double>::infinity(),
                              -std::numeric_limits<double>::infinity()};
  for (const ipc::v1::Slice& slice : start.slices()) {
    if (slice.has_between()) continue;
    const auto bits = static_cast<int>(base::BytesOf(slice.stored_type()) * 8);
    const bool is_signed = slice.stored_type() == ipc::v1::STORED_TYPE_I8 ||
                           slice.stored_type() == ipc::v1::STORED_TYPE_I16 ||
                           slice.stored_type() == ipc::v1::STORED_TYPE_I32;
    const double low = is_signed ? -std::ldexp(1, bits - 1) : 0;
    const double high = std::ldexp(1, is_signed ? bits - 1 : bits) - 1;
    for (const double stored : {low, high}) {
      const double value = stored * slice.slope() + slice.intercept();
      range[0] = std::min(range[0], value);
      range[1] = std::max(range[1], value);
    }
  }
  return range;
}

// Values are rounded to float32 before they are added.
bool IsWithin(const v1::Measurement& measurement, double low, double high) {
  const double rounding = 1e-6 * std::max(std::abs(low), std::abs(high));
  return measurement.value() >= low - rounding && measurement.value() <= high + rounding &&
         IsFiniteAndPositive(measurement.uncertainty()) && measurement.method().size() <= kLongestText;
}

// Both or neither, of voxels, where Hounsfield units are said to be.
absl::Status CheckMeanHu(const v1::Recipe& recipe, const ipc::v1::StartRun& start,
                         const v1::Finding& finding) {
  if (!finding.has_mean_hu() && !finding.has_standard_deviation_hu()) return absl::OkStatus();
  const bool measurable = start.hounsfield_channels_size() > 0 && models::DetectorOf(recipe) == nullptr;
  const auto [low, high] = StoredRange(start);
  if (!measurable || !finding.has_mean_hu() || !IsWithin(finding.mean_hu(), low, high))
    return Lie("findings.mean_hu");
  if (!finding.has_standard_deviation_hu() ||
      !IsWithin(finding.standard_deviation_hu(), 0,
                (high - low) / 2 + 1e-6 * std::max(std::abs(low), std::abs(high))) ||
      finding.standard_deviation_hu().value() < 0) {
    return Lie("findings.standard_deviation_hu");
  }
  return absl::OkStatus();
}

// To labels of the finding's rule, in its order, none farther than the grid is long.
absl::Status CheckDistances(const v1::Recipe& recipe, const volume::Geometry& grid,
                            const v1::Finding& finding) {
  const v1::FindingRule* const rule = RuleOf(recipe, finding);
  double longest_mm = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    longest_mm += (grid.size_ijk()[axis] + 2 * kMarginVoxels) * grid.spacing_mm()[axis];
  }
  int next = 0;
  for (const v1::Distance& distance : finding.distances()) {
    while (rule != nullptr && next < rule->distance_to_size() &&
           rule->distance_to(next) != distance.to_label()) {
      ++next;
    }
    if (rule == nullptr || next++ == rule->distance_to_size()) return Lie("findings.distances.to_label");
    if (!IsPlausible(distance.mm()) || distance.mm().value() > longest_mm)
      return Lie("findings.distances.mm");
    if (distance.label().size() > kLongestText) return Lie("findings.distances.label");
  }
  return absl::OkStatus();
}

absl::Status CheckFinding(const v1::Recipe& recipe, const std::set<std::uint32_t>& values,
                          const volume::Geometry& grid, const ipc::v1::StartRun& start,
                          std::uint32_t time_points, const v1::Finding& finding) {
  if (finding.label_value() == 0 || !values.contains(finding.label_value()))
    return Lie("findings.label_value");
  if (finding.time_point() >= time_points) return Lie("findings.time_point");
  if (!std::isfinite(finding.score())) return Lie("findings.score");
  if (!v1::Calibration_IsValid(finding.calibration())) return Lie("findings.calibration");
  if (!v1::Laterality_IsValid(finding.laterality())) return Lie("findings.laterality");
  if (!finding.has_centre_lps() || !IsNear(grid, finding.centre_lps())) return Lie("findings.centre_lps");
  const v1::BoxLps& box = finding.box_lps();
  if (!IsFinite(box.min()) || !IsFinite(box.max()) || box.min().x_mm() > box.max().x_mm() ||
      box.min().y_mm() > box.max().y_mm() || box.min().z_mm() > box.max().z_mm()) {
    return Lie("findings.box_lps");
  }
  if (finding.extent_mm_size() != 3 ||
      !std::all_of(finding.extent_mm().begin(), finding.extent_mm().end(), IsFiniteAndPositive)) {
    return Lie("findings.extent_mm");
  }
  if (!IsPlausible(finding.long_axis_mm())) return Lie("findings.long_axis_mm");
  if (!IsPlausible(finding.short_axis_mm())) return Lie("findings.short_axis_mm");
  if (!IsPlausible(finding.mean_diameter_mm())) return Lie("findings.mean_diameter_mm");
  if (!IsPlausible(finding.longest_diameter_3d_mm())) return Lie("findings.longest_diameter_3d_mm");
  if (!IsPlausible(finding.volume_ml())) return Lie("findings.volume_ml");
  if (finding.voxels() > grid.voxels() && !IsOnModelGrid(recipe, finding)) return Lie("findings.voxels");
  if (finding.key_slice_k() >= grid.size_ijk()[2]) return Lie("findings.key_slice_k");
  const auto is_short = [](const std::string& text) { return text.size() <= kLongestText; };
  if (finding.limitations_size() > 16 ||
      !std::all_of(finding.limitations().begin(), finding.limitations().end(), is_short)) {
    return Lie("findings.limitations");
  }
  TS_RETURN_IF_ERROR(CheckMeanHu(recipe, start, finding));
  return CheckDistances(recipe, grid, finding);
}

absl::Status CheckExtent(const volume::Geometry& grid, const ipc::v1::LabelExtent& extent,
                         std::string_view field) {
  if (extent.voxels() > grid.voxels() || !IsFiniteAndPositive(extent.volume_ml())) return Lie(field);
  if (extent.voxels() > 0 && (extent.first_k() > extent.last_k() || extent.last_k() >= grid.size_ijk()[2])) {
    return Lie(field);
  }
  return absl::OkStatus();
}

absl::Status CheckCentre(const volume::Geometry& grid, const ipc::v1::LabelExtent& extent) {
  if (extent.center_lps_size() != (extent.voxels() > 0 ? 3 : 0)) return Lie("labels.center_lps");
  if (extent.voxels() == 0) return absl::OkStatus();
  v1::PointLps centre;
  centre.set_x_mm(extent.center_lps(0));
  centre.set_y_mm(extent.center_lps(1));
  centre.set_z_mm(extent.center_lps(2));
  return IsNear(grid, centre) ? absl::OkStatus() : Lie("labels.center_lps");
}

// Labels of the recipe, each at every time point.
absl::Status CheckLabels(const std::set<std::uint32_t>& values, const volume::Geometry& grid,
                         std::uint32_t time_points, const ipc::v1::RunDone& done) {
  std::map<std::uint32_t, std::set<std::uint32_t>> seen;
  for (const ipc::v1::LabelExtent& extent : done.labels()) {
    if (extent.label() == 0 || !values.contains(extent.label()) || extent.time_point() >= time_points ||
        !seen[extent.label()].insert(extent.time_point()).second) {
      return Lie("labels.label");
    }
    TS_RETURN_IF_ERROR(CheckExtent(grid, extent, "labels"));
    TS_RETURN_IF_ERROR(CheckCentre(grid, extent));
  }
  const bool everywhere = std::all_of(seen.begin(), seen.end(),
                                      [&](const auto& label) { return label.second.size() == time_points; });
  return everywhere ? absl::OkStatus() : Lie("labels.time_point");
}

absl::Status CheckHounsfield(const volume::Geometry& grid, const ipc::v1::StartRun& start,
                             const ipc::v1::RunDone& done) {
  if (done.has_hounsfield() != (start.hounsfield_channels_size() > 0)) return Lie("hounsfield");
  if (!done.has_hounsfield()) return absl::OkStatus();
  const auto& size = grid.size_ijk();
  const std::uint64_t pixels = std::uint64_t{start.stored_columns() == 0 ? size[0] : start.stored_columns()} *
                               (start.stored_rows() == 0 ? size[1] : start.stored_rows());
  const auto stored = static_cast<std::uint64_t>(
      std::count_if(start.slices().begin(), start.slices().end(),
                    [](const ipc::v1::Slice& slice) { return !slice.has_between(); }));
  const ipc::v1::HounsfieldCounts& counts = done.hounsfield();
  // No sums: these may be any numbers.
  const bool fits = counts.all() <= pixels * stored && counts.body() <= counts.all() &&
                    counts.tissue() <= counts.body() && counts.dense() <= counts.body() - counts.tissue();
  return fits ? absl::OkStatus() : Lie("hounsfield");
}

std::string Printable(const std::string& text) {
  std::string clean = text.substr(0, kLongestText);
  for (char& c : clean) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return clean;
}

}  // namespace

std::set<std::uint32_t> LabelValues(const v1::Recipe& recipe) {
  std::set<std::uint32_t> values{0};
  for (const v1::Label& label : recipe.labels()) values.insert(label.value());
  return values;
}

absl::Status CheckRunDone(const v1::Recipe& recipe, const volume::Geometry& grid,
                          const ipc::v1::StartRun& start, const ipc::v1::RunDone& done,
                          std::uint32_t windows_total) {
  std::uint64_t most = 0;
  for (const v1::FindingRule& rule : recipe.findings()) {
    most += rule.max_findings() == 0 ? kDefaultFindings : rule.max_findings();
  }
  const std::uint32_t time_points = std::max(1u, start.time_points());
  if (static_cast<std::uint64_t>(done.findings_size()) > most * time_points) return Lie("findings");
  const std::set<std::uint32_t> values = LabelValues(recipe);
  for (const v1::Finding& finding : done.findings())
    TS_RETURN_IF_ERROR(CheckFinding(recipe, values, grid, start, time_points, finding));
  TS_RETURN_IF_ERROR(CheckLabels(values, grid, time_points, done));
  // Boxes have no label map; labels without one would be DONE and nowhere to be seen.
  const bool boxes = models::DetectorOf(recipe) != nullptr;
  if (done.has_label_map() == boxes) return Lie("has_label_map");
  if (boxes && done.labels_size() > 0) return Lie("labels");
  if (done.has_lung()) TS_RETURN_IF_ERROR(CheckExtent(grid, done.lung(), "lung"));
  TS_RETURN_IF_ERROR(CheckHounsfield(grid, start, done));
  if (done.windows() == 0 || done.windows() > volume::kMaxWindows ||
      (windows_total != 0 && done.windows() != windows_total)) {
    return Lie("windows");
  }
  if (done.timings_size() > 64) return Lie("timings");
  std::set<std::string_view> stages;
  for (const v1::StageTiming& timing : done.timings()) {
    const bool is_name = !timing.stage().empty() && timing.stage().size() <= 32 &&
                         std::all_of(timing.stage().begin(), timing.stage().end(), [](char c) {
                           return absl::ascii_islower(static_cast<unsigned char>(c)) || c == '_';
                         });
    const bool is_time = IsFiniteAndPositive(timing.ms()) && timing.ms() <= kLongestStageMs;
    if (!is_name || !is_time || !stages.insert(timing.stage()).second) return Lie("timings");
  }
  return absl::OkStatus();
}

v1::Reason CleanReason(const ipc::v1::Refusal& refusal, const char* fallback) {
  return MakeReason(IsCode(refusal.code()) ? refusal.code() : fallback, Printable(refusal.value()),
                    Printable(refusal.text()));
}

}  // namespace tomoserve::dispatch
