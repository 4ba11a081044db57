#include "dispatch/results.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"
#include "tomoserve/volume/hounsfield.h"

namespace tomoserve::dispatch {
namespace {

v1::Run BasicRun(const ResultContext& context) {
  v1::Run run = context.stored.run;
  run.set_state(v1::RUN_STATE_DONE);
  run.clear_progress();
  v1::Provenance& provenance = *run.mutable_provenance();
  provenance.set_model(context.model.name);
  provenance.set_version(context.model.version);
  provenance.set_model_digest(context.model.model_digest);
  provenance.set_recipe_digest(context.model.recipe_digest);
  provenance.set_input_digest(context.input.digest);
  provenance.set_generation(context.stored.generation);
  provenance.set_build(context.build);
  provenance.set_regulatory_status(context.model.recipe.card().regulatory_status());
  return run;
}

void AddTiming(v1::Run& run, const char* stage, double ms) {
  v1::StageTiming& timing = *run.add_timings();
  timing.set_stage(stage);
  timing.set_ms(ms);
}

v1::Reason IncompleteSeries(const RunInput& input) {
  return MakeReason("EXPECTED_SERIES_INCOMPLETE", absl::StrCat(input.incomplete_series),
                    "so many other series have fewer instances than their submitter announced, or none");
}

std::string ConflictLimitation(const RunInput& input) {
  return absl::StrCat("DUPLICATE_CONFLICT(", input.refusals.conflicts, ")");
}

// The nearest slice that was acquired; of two, the one that `series` names an interpolated slice after.
std::uint32_t AcquiredSlice(const series::Volume& volume, std::uint32_t k) {
  const auto& synthetic = volume.slices[k].synthetic;
  if (!synthetic) return k;
  return synthetic->weight < 0.5 ? synthetic->before : synthetic->after;
}

// The worker knows neither the patient nor the slices' names.
void NameFinding(const ResultContext& context, const ipc::v1::RunDone& done,
                 const std::vector<std::string>& limitations, v1::Finding& finding) {
  for (const v1::Label& label : context.model.recipe.labels()) {
    if (label.value() == finding.label_value()) finding.set_label(label.name());
    for (v1::Distance& distance : *finding.mutable_distances()) {
      if (distance.to_label() == label.value()) distance.set_label(label.name());
    }
  }
  finding.clear_compared_to();
  finding.set_laterality(findings::LateralityOf(context.model.recipe, done, finding));
  finding.clear_anatomic_site();
  for (const v1::FindingRule& rule : context.model.recipe.findings()) {
    const bool of_finding = rule.label() == finding.label_value();
    if (of_finding && rule.has_anatomic_site()) *finding.mutable_anatomic_site() = rule.anatomic_site();
  }
  const series::Selection& selection = context.input.selection;
  const series::Volume& volume = *selection.volumes[std::size_t{finding.time_point()} * selection.channels];
  finding.set_key_slice_k(AcquiredSlice(volume, finding.key_slice_k()));
  finding.set_key_sop_instance_uid(volume.slices[finding.key_slice_k()].sop_instance_uid);
  finding.set_tracking_uid(
      findings::TrackingUid(context.stored.study_uid, context.model.model_digest, finding));
  for (const std::string& limitation : limitations) finding.add_limitations(limitation);
}

std::optional<std::string> WhyNotHounsfield(const ipc::v1::RunDone& done) {
  if (!done.has_hounsfield()) return std::nullopt;
  const ipc::v1::HounsfieldCounts& counts = done.hounsfield();
  return volume::WhyNotHounsfield({counts.all(), counts.body(), counts.tissue(), counts.dense()});
}

// What the answer rests on, beside what the worker measured.
void QualifyCoverage(const RunInput& input, const std::optional<std::string>& implausible,
                     v1::Coverage& coverage) {
  for (const series::Volume* volume : input.selection.volumes) {
    coverage.set_synthetic_slices(coverage.synthetic_slices() + volume->synthetic_slices());
  }
  for (const std::string& limitation : input.selection.limitations) {
    *coverage.add_reasons() =
        MakeReason("LIMITATION", limitation, "the recipe warns of this input and goes on");
  }
  if (input.refusals.conflicts > 0) {
    *coverage.add_reasons() =
        MakeReason("LIMITATION", ConflictLimitation(input),
                   "so many slices came again with other content; the first one is analysed");
  }
  // What is not there may show what was not found.
  if (input.missing > 0) {
    coverage.set_target(v1::COVERAGE_TARGET_PARTIAL);
    *coverage.add_reasons() = MakeReason("EXPECTED_INSTANCES_MISSING", absl::StrCat(input.missing),
                                         "the series has fewer instances than its submitter announced");
  }
  if (input.incomplete_series > 0) {
    if (coverage.target() == v1::COVERAGE_TARGET_COMPLETE) coverage.set_target(v1::COVERAGE_TARGET_PARTIAL);
    *coverage.add_reasons() = IncompleteSeries(input);
  }
  if (input.refusals.instances() > 0) {
    if (coverage.target() == v1::COVERAGE_TARGET_COMPLETE) coverage.set_target(v1::COVERAGE_TARGET_PARTIAL);
    *coverage.add_reasons() = input.refusals.AsReason();
  }
  // Last, because it is worse: the network saw other values than it was made for, whatever the volume shows.
  if (implausible) {
    coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
    *coverage.add_reasons() =
        MakeReason("HU_IMPLAUSIBLE", *implausible,
                   "a patient's CT in Hounsfield units has other shares of tissue and dense values");
  }
}

}  // namespace

RunResult ResultWithoutVolume(const ResultContext& context) {
  const series::Selection& selection = context.input.selection;
  RunResult result;
  result.run = BasicRun(context);
  v1::Flag& flag = *result.run.mutable_flag();
  // What has not come might have been what the recipe is for.
  const bool waits = context.input.incomplete_series > 0;
  const bool refused = context.input.refusals.instances() > 0;
  flag.set_state(selection.inconclusive || waits || refused ? v1::FLAG_STATE_INCONCLUSIVE
                                                            : v1::FLAG_STATE_NOT_APPLICABLE);
  if (waits) *flag.add_reasons() = IncompleteSeries(context.input);
  if (refused) *flag.add_reasons() = context.input.refusals.AsReason();
  for (const v1::Reason& reason : selection.reasons) *flag.add_reasons() = reason;
  v1::Coverage& coverage = *result.run.mutable_coverage();
  for (const v1::SeriesUse& use : selection.uses) *coverage.add_series() = use;
  coverage.set_target(v1::COVERAGE_TARGET_UNKNOWN);
  return result;
}

absl::StatusOr<RunResult> FinishRun(const ResultContext& context, const PreparedRun& prepared,
                                    const ipc::v1::Hello& worker, bool on_cpu, ipc::v1::RunDone done,
                                    double queue_ms) {
  const double began_ms = base::MonotonicMs();
  const v1::Recipe& recipe = context.model.recipe;
  const series::Volume& volume = *context.input.selection.volume();
  TS_RETURN_IF_ERROR(CheckRunDone(recipe, *volume.geometry, prepared.start, done, context.windows_total));

  RunResult result;
  result.run = BasicRun(context);
  result.windows = done.windows();
  v1::Run& run = result.run;
  const std::optional<std::string> implausible = WhyNotHounsfield(done);
  std::vector<std::string> limitations = context.input.selection.limitations;
  if (context.input.refusals.conflicts > 0) limitations.push_back(ConflictLimitation(context.input));
  if (context.input.refusals.instances() > 0) {
    limitations.push_back(absl::StrCat("INSTANCES_REFUSED(", context.input.refusals.instances(), ")"));
  }
  if (implausible) limitations.push_back(absl::StrCat("HU_IMPLAUSIBLE(", *implausible, ")"));
  std::vector<v1::Finding> findings(done.findings().begin(), done.findings().end());
  for (v1::Finding& finding : findings) {
    NameFinding(context, done, limitations, finding);
    if (!implausible) continue;
    finding.clear_mean_hu();
    finding.clear_standard_deviation_hu();
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const v1::Finding& a, const v1::Finding& b) { return a.score() > b.score(); });
  v1::Coverage coverage =
      findings::JudgeCoverage(recipe, *volume.geometry, done, context.input.selection.uses);
  QualifyCoverage(context.input, implausible, coverage);
  *run.mutable_flag() = findings::JudgeFlag(recipe, findings, coverage,
                                            findings::JudgePlausibility(recipe, *volume.geometry, done));
  *run.mutable_coverage() = std::move(coverage);
  for (v1::Finding& finding : findings) *run.add_findings() = std::move(finding);

  if (done.has_label_map()) {
    TS_ASSIGN_OR_RETURN(result.blob,
                        PackLabelMap(prepared.label_map.get(), prepared.start.label_bytes(),
                                     prepared.start.label_bytes_per_voxel(), LabelValues(recipe)));
    v1::LabelMapInfo& info = *run.mutable_label_map();
    *info.mutable_grid() = volume.geometry->ToProto();
    info.set_bytes_per_voxel(prepared.start.label_bytes_per_voxel());
    *info.add_layers()->mutable_labels() = recipe.labels();
    info.set_time_points(context.input.selection.time_points());
    result.blob->label_map = info;
  }

  v1::Provenance& provenance = *run.mutable_provenance();
  if (context.input.region) provenance.set_region_run_id(context.input.region->run_id);
  provenance.set_device_kind(worker.device_kind());
  provenance.set_torch_version(worker.torch_version());
  provenance.set_driver_version(worker.driver_version());
  provenance.set_cudnn_version(worker.cudnn_version());
  const v1::Precision precision = recipe.network().precision();
  provenance.set_precision(on_cpu || precision == v1::PRECISION_UNSPECIFIED ? v1::PRECISION_FLOAT32
                                                                            : precision);
  provenance.set_determinism(v1::DETERMINISM_STRICT);

  AddTiming(run, "queue", queue_ms);
  AddTiming(run, "decode", prepared.decode_ms);
  run.mutable_timings()->MergeFrom(done.timings());
  AddTiming(run, "pack", base::MonotonicMs() - began_ms);
  return result;
}

}  // namespace tomoserve::dispatch
