// Calls on studies that are stored: what is known of them, closing, cancelling, planning, running again.
#include <algorithm>
#include <optional>
#include <utility>

#include "dispatch/dispatcher_impl.h"
#include "dispatch/instance_rules.h"
#include "dispatch/planning.h"
#include "dispatch/study_age.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::int64_t kLastSecond = 253402300799;  // of the year 9999

// Whether the model has answered on this input.
bool IsDone(const std::vector<store::StoredRun>& runs, const models::Model& model,
            std::string_view input_digest) {
  return std::any_of(runs.begin(), runs.end(), [&](const store::StoredRun& run) {
    return run.model_digest == model.model_digest && run.recipe_digest == model.recipe_digest &&
           run.run.state() == v1::RUN_STATE_DONE && run.run.provenance().input_digest() == input_digest;
  });
}

// A cascade takes what the run takes whose labels it needs, which comes first, and then its own.
void AddRegion(const v1::PlannedRun& region, v1::PlannedRun& plan) {
  if (!region.applicable()) {
    *plan.add_reasons() = MakeReason("REGION_NOT_APPLICABLE",
                                     region.reasons().empty() ? region.model() : region.reasons(0).code(),
                                     "the model whose labels are the region takes no volume of the study");
    return;
  }
  *plan.add_reasons() = MakeReason("REGION_RUNS_FIRST", region.model(),
                                   "the model whose labels are the region runs before; its time and memory "
                                   "are in the prediction");
  plan.set_predicted_seconds(plan.predicted_seconds() + region.predicted_seconds());
  plan.set_predicted_bytes(std::max(plan.predicted_bytes(), region.predicted_bytes()));
}

}  // namespace

absl::StatusOr<v1::Study> DispatcherImpl::GetStudy(std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(store::StoredStudy row, store_->GetStudy(study_uid));
  TS_ASSIGN_OR_RETURN(std::vector<store::StoredRun> stored, store_->RunsOfStudy(study_uid));
  v1::Study study;
  *study.mutable_ref() = std::move(row.ref);
  study.set_state(row.state);
  study.set_instances(row.instances);
  study.set_priority(row.priority);
  for (v1::Reason& notice : row.notices) *study.add_notices() = std::move(notice);
  study.mutable_received_at()->set_seconds(row.received_us / 1000000);
  study.mutable_received_at()->set_nanos(static_cast<std::int32_t>(row.received_us % 1000000) * 1000);
  std::vector<v1::Run> runs;
  for (store::StoredRun& run : stored) {
    if (run.run.state() == v1::RUN_STATE_RUNNING) run.run.set_progress(scheduler_.Progress(run.run.run_id()));
    runs.push_back(std::move(run.run));
  }
  *study.mutable_summary() = findings::Summarise(runs);
  for (v1::Run& run : runs) *study.add_runs() = std::move(run);
  return study;
}

absl::StatusOr<v1::Study> DispatcherImpl::CloseStudy(std::string_view study_uid) {
  TS_RETURN_IF_ERROR(OnCoordinator([&] { return intake_.Close(std::string(study_uid)); }));
  return GetStudy(study_uid);
}

absl::StatusOr<v1::CancelStudyResponse> DispatcherImpl::CancelStudy(std::string_view study_uid,
                                                                    std::string_view submission_id) {
  v1::CancelStudyResponse response;
  TS_RETURN_IF_ERROR(OnCoordinator([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(const std::vector<std::string> run_ids,
                        store_->CancelSubmission(study_uid, submission_id));
    for (const std::string& run_id : run_ids) response.add_cancelled_run_ids(run_id);
    scheduler_.Cancelled(run_ids);
    return absl::OkStatus();
  }));
  TS_ASSIGN_OR_RETURN(*response.mutable_study(), GetStudy(study_uid));
  return response;
}

absl::StatusOr<v1::Study> DispatcherImpl::UpdateStudy(const v1::UpdateStudyRequest& request) {
  const auto invalid = [](std::string_view field, std::string_view text) {
    return base::Error(absl::StatusCode::kInvalidArgument, "UPDATE_INVALID", field, text);
  };
  if (!v1::Priority_IsValid(request.priority())) return invalid("priority", "no such priority");
  const google::protobuf::Timestamp& deadline = request.deadline();
  const bool is_time = deadline.seconds() > 0 && deadline.seconds() <= kLastSecond && deadline.nanos() >= 0 &&
                       deadline.nanos() < 1000000000;
  if (request.has_deadline() && !is_time) return invalid("deadline", "no time from 1970 to 9999");
  std::optional<std::int64_t> deadline_us;
  if (request.has_deadline()) deadline_us = deadline.seconds() * 1000000 + deadline.nanos() / 1000;
  const std::string& study_uid = request.study_instance_uid();
  const absl::Status updated = OnCoordinator([&]() -> absl::Status {
    TS_RETURN_IF_ERROR(store_->SetUrgency(study_uid, request.priority(), deadline_us));
    scheduler_.StudyChanged(study_uid);
    return absl::OkStatus();
  });
  TS_RETURN_IF_ERROR(updated);
  return GetStudy(study_uid);
}

absl::StatusOr<v1::PlanStudyResponse> DispatcherImpl::PlanStudy(const v1::PlanStudyRequest& request) {
  TS_ASSIGN_OR_RETURN(const std::vector<const models::Model*> models, catalogue_->Resolve(request.models()));
  TS_ASSIGN_OR_RETURN(const store::StoredStudy row, store_->GetStudy(request.study_instance_uid()));
  TS_ASSIGN_OR_RETURN(const std::shared_ptr<const StudyInput> study,
                      LoadStudyInput(*store_, request.study_instance_uid()));
  // As a submission that names as many models as this request would have it.
  std::optional<v1::Reason> stale;
  if (request.models().empty() && row.role != v1::STUDY_ROLE_PRIOR) {
    stale = StaleStudy(row.ref, options_.config.max_study_age_days(), base::NowUs());
  }
  TS_ASSIGN_OR_RETURN(const std::vector<store::StoredRun> runs,
                      store_->RunsOfStudy(request.study_instance_uid()));
  const auto plan_of = [&](const models::Model* model, const RunInput& input) {
    return PlanRun(*model, input, devices_.PlansOf(model->model_digest));
  };
  v1::PlanStudyResponse response;
  for (const models::Model* model : models) {
    RunInput input = ChooseInput(model->recipe, study);
    if (stale) input = WithoutVolume(std::move(input), *stale);
    v1::PlannedRun& plan = *response.add_runs() = plan_of(model, input);
    if (!plan.applicable() || !model->recipe.has_region()) continue;
    const std::string& name = model->recipe.region().model();
    const models::Model* region = catalogue_->Preferred(name);
    if (region == nullptr) {
      *plan.add_reasons() =
          MakeReason("REGION_NOT_RUN", name, "the model whose labels are the region does not run");
      continue;
    }
    const RunInput region_input = ChooseInput(region->recipe, study);
    if (!IsDone(runs, *region, region_input.digest)) AddRegion(plan_of(region, region_input), plan);
  }
  return response;
}

absl::StatusOr<v1::RerunStudyResponse> DispatcherImpl::RerunStudy(const v1::RerunStudyRequest& request) {
  if (draining_) {
    return base::Error(absl::StatusCode::kUnavailable, "DRAINING", "", "the server is stopping");
  }
  const std::string& study_uid = request.study_instance_uid();
  TS_ASSIGN_OR_RETURN(const std::vector<store::StoredRun> runs, store_->RunsOfStudy(study_uid));
  v1::SubmissionHeader header;
  header.set_force_rerun(true);
  *header.mutable_models() = request.models();
  if (header.models().empty()) {
    for (const store::StoredRun& run : runs) {
      v1::ModelSelector& model = *header.add_models();
      model.set_name(run.run.model());
      model.set_version(run.run.version());
    }
  }
  if (header.models().empty()) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "NOTHING_TO_RERUN", "",
                       "no model has run on this study: name one");
  }
  Proposal proposal;
  TS_ASSIGN_OR_RETURN(proposal.acknowledgement.models, Wanted(header.models(), true));
  v1::RerunStudyResponse response;
  TS_RETURN_IF_ERROR(OnCoordinator([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(proposal.acknowledgement.study, store_->GetStudy(study_uid));
    proposal.stored_instances = proposal.acknowledgement.study.instances;
    header.set_priority(proposal.acknowledgement.study.priority);
    TS_ASSIGN_OR_RETURN(const store::JobStore::Begun begun, store_->BeginSubmission(header));
    proposal.acknowledgement.submission_id = begun.submission.submission_id;
    TS_ASSIGN_OR_RETURN(const auto receipt, intake_.Commit(proposal));
    if (receipt) *response.mutable_run_ids() = receipt->run_ids();
    return absl::OkStatus();
  }));
  return response;
}

}  // namespace tomoserve::dispatch
