#include "dispatch/instance_rules.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/refused_identity.h"
#include "tomoserve/series/study_series.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::uint64_t kMaxFrames = 200'000;

std::string StudyUid(const ipc::v1::InstanceHeader& header) {
  series::Instance instance;
  instance.header.set_study_instance_uid(header.study_instance_uid());
  return series::StudyUidOf(instance);
}

}  // namespace

v1::InstanceStatus Refused(std::string_view instance_key, v1::Reason reason) {
  v1::InstanceStatus status;
  status.set_instance_key(std::string(instance_key));
  status.set_outcome(v1::INSTANCE_OUTCOME_REFUSED);
  *status.mutable_reason() = std::move(reason);
  return status;
}

InstanceJudge::InstanceJudge(v1::SubmissionHeader header,
                             std::function<KnownContents(const std::string& study_uid)> known)
    : header_(std::move(header)), known_(std::move(known)) {}

v1::InstanceStatus InstanceJudge::Refuse(std::string_view instance_key, v1::Reason reason) {
  refused_.push_back(Refused(instance_key, std::move(reason)));
  return refused_.back();
}

v1::InstanceStatus InstanceJudge::RefuseHeader(std::string_view instance_key, v1::Reason reason,
                                               const ipc::v1::InstanceHeader& header) {
  v1::InstanceStatus& status = refused_.emplace_back(Refused(instance_key, std::move(reason)));
  status.set_series_instance_uid(header.series_instance_uid());
  status.set_sop_instance_uid(header.sop_instance_uid());
  status.set_modality(header.modality());
  return status;
}

v1::InstanceStatus InstanceJudge::Judge(const store::SpoolRecord& record, const ipc::HeaderResult& result) {
  if (!result.ok()) {
    const ipc::v1::Refusal identity = ipc::RefusedIdentity(result.status());
    ipc::v1::InstanceHeader known;
    known.set_series_instance_uid(identity.series_instance_uid());
    known.set_sop_instance_uid(identity.sop_instance_uid());
    known.set_modality(identity.modality());
    return RefuseHeader(record.instance_key, ReasonFrom(result.status()), known);
  }
  const ipc::v1::InstanceHeader& header = *result;
  if (auto reason = CheckIdentity(header)) {
    return RefuseHeader(record.instance_key, *std::move(reason), header);
  }

  if (!study_known_) {
    study_known_ = true;
    study_uid_ = StudyUid(header);
    if (!study_uid_.empty()) contents_ = known_(study_uid_);
  }
  v1::InstanceStatus status;
  status.set_instance_key(record.instance_key);
  const std::string sop_uid = header.sop_instance_uid().empty()
                                  ? base::UidFromSeed("instance|" + record.sha256)
                                  : header.sop_instance_uid();
  const auto frames = static_cast<std::uint64_t>(header.frame_size());
  if (frames_ + frames > kMaxFrames) {
    return RefuseHeader(record.instance_key,
                        MakeReason("TOO_MANY_FRAMES", absl::StrCat(kMaxFrames),
                                   "the submission's instances have more frames than the limit"),
                        header);
  }
  const auto [place, is_new] = contents_.emplace(sop_uid, record.sha256);
  if (is_new) {
    frames_ += frames;
    accepted_.push_back({.record = record, .header = header, .sop_uid = sop_uid});
    status.set_outcome(v1::INSTANCE_OUTCOME_ACCEPTED);
    return status;
  }
  if (place->second == record.sha256) {
    ++duplicates_;
    status.set_outcome(v1::INSTANCE_OUTCOME_DUPLICATE);
    return status;
  }
  ++conflicts_;
  return RefuseHeader(
      record.instance_key,
      MakeReason("DUPLICATE_CONFLICT", sop_uid,
                 "an instance with this SOP Instance UID and other content is there already; it stays"),
      header);
}

std::optional<v1::Reason> InstanceJudge::CheckIdentity(const ipc::v1::InstanceHeader& header) const {
  if (header.written_by_tomoserve()) {
    return MakeReason("OWN_OBJECT", "", "the object was made by this server: it is not analysed");
  }
  const std::string uid = StudyUid(header);
  const v1::ExpectedIdentity& expected = header_.expected();
  if (!expected.study_instance_uid().empty() && uid != expected.study_instance_uid()) {
    return MakeReason("STUDY_MISMATCH", uid, "the instance is of another study than the submission expects");
  }
  if (study_known_ && uid != study_uid_) {
    return MakeReason("STUDY_MISMATCH", uid,
                      "the instance is of another study than the submission's first one");
  }
  const bool final =
      header_.completion() == v1::COMPLETION_UNSPECIFIED || header_.completion() == v1::COMPLETION_FINAL;
  if (uid.empty() && !final) {
    return MakeReason("NO_STUDY_UID", "", "an instance without a Study Instance UID needs completion FINAL");
  }
  // The values themselves stay out of the answer: they are the patient's.
  if (!expected.patient_id().empty() && header.patient_id() != expected.patient_id()) {
    return MakeReason("IDENTITY_MISMATCH", "patient_id", "the instance has another Patient ID than expected");
  }
  if (!expected.issuer_of_patient_id().empty() &&
      header.issuer_of_patient_id() != expected.issuer_of_patient_id()) {
    return MakeReason("IDENTITY_MISMATCH", "issuer_of_patient_id",
                      "the instance has another Issuer of Patient ID than expected");
  }
  return std::nullopt;
}

}  // namespace tomoserve::dispatch
