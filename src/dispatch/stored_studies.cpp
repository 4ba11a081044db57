// Calls on studies that are stored: what is known of them, closing, cancelling, planning, running again.
#include <algorithm>
#include <optional>
#include <utility>

#include "dispatch/dispatcher_impl.h"
#include "dispatch/planning.h"
#include "dispatch/study_age.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::dispatch {

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
  v1::PlanStudyResponse response;
  const std::vector<DeviceInfo> infos = devices_.Infos();  // in the order of readiness
  for (const models::Model* model : models) {
    std::optional<WindowSpeed> fastest;
    std::uint64_t weight_bytes = 0;
    const std::vector<v1::DeviceReadiness> readiness = devices_.ReadinessOf(model->model_digest);
    for (std::size_t i = 0; i < readiness.size() && i < infos.size(); ++i) {
      const v1::DeviceReadiness& device = readiness[i];
      if (device.readiness() != v1::MODEL_READINESS_WARM) continue;
      weight_bytes = std::max(weight_bytes, device.weight_bytes());
      const WindowSpeed speed{.ms_per_window = device.ms_per_window(), .lanes = std::max(1u, infos[i].lanes)};
      const auto ms = [](const WindowSpeed& of) { return of.ms_per_window / of.lanes; };
      if (speed.ms_per_window > 0 && (!fastest || ms(speed) < ms(*fastest))) fastest = speed;
    }
    RunInput input = ChooseInput(model->recipe, study);
    if (stale) input = WithoutVolume(std::move(input), *stale);
    const std::uint64_t network_bytes = weight_bytes + devices_.ForwardBytesOf(model->model_digest);
    *response.add_runs() = PlanRun(*model, input, fastest, network_bytes);
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
