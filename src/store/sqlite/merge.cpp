#include "store/sqlite/merge.h"

#include <algorithm>
#include <set>
#include <string>

#include "store/sqlite/rows.h"

namespace tomoserve::store {
namespace {

v1::StudyState StateOf(const StoredStudy& given, const Submission& submission) {
  if (given.state != v1::STUDY_STATE_UNSPECIFIED) return given.state;
  switch (submission.header.completion()) {
    case v1::COMPLETION_MORE_EXPECTED:
      return v1::STUDY_STATE_RECEIVING;
    case v1::COMPLETION_SETTLE:
      return v1::STUDY_STATE_SETTLING;
    default:
      return v1::STUDY_STATE_COMPLETE;
  }
}

v1::StudyState MergeState(v1::StudyState before, v1::StudyState given, bool new_instances) {
  if (given == v1::STUDY_STATE_COMPLETE) return given;
  if (before == v1::STUDY_STATE_COMPLETE) return new_instances ? v1::STUDY_STATE_REOPENED : before;
  if (before == v1::STUDY_STATE_REOPENED) return before;
  return given;
}

bool SameOrder(const v1::Order& a, const v1::Order& b) {
  return a.accession_number() == b.accession_number() && a.issuer() == b.issuer() &&
         a.requested_procedure_id() == b.requested_procedure_id() &&
         a.placer_order_number() == b.placer_order_number() &&
         a.filler_order_number() == b.filler_order_number();
}

void Fill(std::string& value, const std::string& other) {
  if (value.empty()) value = other;
}

v1::StudyRef MergeRef(v1::StudyRef ref, const v1::StudyRef& given) {
  for (const v1::Order& order : given.orders()) {
    const bool known = std::any_of(ref.orders().begin(), ref.orders().end(),
                                   [&](const v1::Order& other) { return SameOrder(order, other); });
    if (!known) *ref.add_orders() = order;
  }
  const bool submitter_wins = given.patient_source() == v1::VALUE_SOURCE_SUBMITTER &&
                              ref.patient_source() != v1::VALUE_SOURCE_SUBMITTER;
  if (ref.patient_id().empty() || submitter_wins) {
    ref.set_patient_id(given.patient_id());
    ref.set_issuer_of_patient_id(given.issuer_of_patient_id());
    ref.set_patient_source(given.patient_source());
  }
  Fill(*ref.mutable_study_date(), given.study_date());
  Fill(*ref.mutable_study_time(), given.study_time());
  Fill(*ref.mutable_timezone_offset(), given.timezone_offset());
  Fill(*ref.mutable_institution(), given.institution());
  Fill(*ref.mutable_station(), given.station());
  std::set<std::string> modalities(ref.modalities().begin(), ref.modalities().end());
  modalities.insert(given.modalities().begin(), given.modalities().end());
  ref.clear_modalities();
  for (const std::string& modality : modalities) ref.add_modalities(modality);
  return ref;
}

bool SameNotice(const v1::Reason& a, const v1::Reason& b) {
  return a.code() == b.code() && a.value() == b.value();
}

}  // namespace

StoredStudy MergeStudy(const std::optional<StoredStudy>& before, const StoredStudy& given,
                       const Submission& submission, std::uint32_t new_instances, std::int64_t now_us) {
  const v1::SubmissionHeader& header = submission.header;
  const v1::StudyState state = StateOf(given, submission);
  StoredStudy study = before ? *before : given;
  if (study.ref.study_instance_uid().empty()) study.ref.set_study_instance_uid(study.study_uid);
  study.priority = std::max(Normal(given.priority), Normal(header.priority()));
  study.role = given.role == v1::STUDY_ROLE_PRIOR || header.role() == v1::STUDY_ROLE_PRIOR
                   ? v1::STUDY_ROLE_PRIOR
                   : v1::STUDY_ROLE_CURRENT;
  study.state = state;
  if (study.received_us == 0) study.received_us = now_us;
  if (!before || new_instances > 0) {
    study.last_instance_us = given.last_instance_us != 0 ? given.last_instance_us : now_us;
  }
  const std::uint32_t settle = given.settle_seconds != 0 ? given.settle_seconds : header.settle_seconds();
  if (!before || state == v1::STUDY_STATE_SETTLING) study.settle_seconds = settle;
  if (!before) return study;

  study.ref = MergeRef(study.ref, given.ref);
  study.state = MergeState(before->state, state, new_instances > 0);
  if (study.state == v1::STUDY_STATE_REOPENED && new_instances > 0) {
    // How it is completed again is the last submission's word; 0 waits for CloseStudy.
    study.settle_seconds = state == v1::STUDY_STATE_SETTLING ? settle : 0;
  }
  study.priority = std::max(study.priority, before->priority);
  if (before->role == v1::STUDY_ROLE_CURRENT) study.role = v1::STUDY_ROLE_CURRENT;
  for (const v1::Reason& notice : given.notices) {
    const bool known = std::any_of(study.notices.begin(), study.notices.end(),
                                   [&](const v1::Reason& other) { return SameNotice(notice, other); });
    if (!known) study.notices.push_back(notice);
  }
  return study;
}

}  // namespace tomoserve::store
