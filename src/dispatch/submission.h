// From judged instances to what an acknowledgement commits. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dispatch/instance_rules.h"
#include "tomoserve/config/v1/server.pb.h"
#include "tomoserve/series/study_series.h"
#include "tomoserve/store/job_store.h"

namespace tomoserve::dispatch {

// An acknowledgement that holds as long as the study has `stored_instances` instances in the store.
struct Proposal {
  store::Acknowledgement acknowledgement;
  std::size_t stored_instances = 0;
};

// What the store has and what came, as `series` reads it; index counts stored instances first.
std::vector<series::Instance> SeriesInstances(const std::vector<store::StoredInstance>& stored,
                                              const std::vector<AcceptedInstance>& accepted);

// Study Instance UID of the submission; derived from the content where the DICOM has none.
std::string SubmissionStudyUid(const InstanceJudge& judge);

// Puts what the submitter states in place of what the DICOM says, field by field where not empty. The Study
// Instance UID stays: it is the instances' own.
void OverrideIdentity(const v1::StudyRef& order_context, v1::StudyRef& ref);

// Adds reasons that are not there yet (by code and value).
void AddNotices(const std::vector<v1::Reason>& more, std::vector<v1::Reason>& notices);

// Checks the submission as a whole and composes the acknowledgement. `stored`: the study's instances so far.
// Errors, kInvalidArgument: EMPTY_STUDY (nothing was sent), ALL_REFUSED (value: the first reason), NO_IMAGES
// (a FINAL submission of a study without any image), TOO_MANY_INSTANCES and STUDY_TOO_LARGE (bytes;
// value: the limit).
absl::StatusOr<Proposal> ComposeProposal(const std::string& submission_id, const InstanceJudge& judge,
                                         const std::string& study_uid,
                                         const std::vector<store::StoredInstance>& stored,
                                         const std::vector<store::WantedModel>& models,
                                         const config::v1::Limits& limits, std::int64_t now_us);

}  // namespace tomoserve::dispatch
