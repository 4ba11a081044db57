#include "dispatch/submission.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/refusals.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

absl::Status Invalid(std::string_view code, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, code, value, text);
}

bool HasPicture(const ipc::v1::InstanceHeader& header) {
  return header.kind() == ipc::v1::OBJECT_KIND_IMAGE || header.kind() == ipc::v1::OBJECT_KIND_PICTURE;
}

void Override(const std::string& stated, std::string* value) {
  if (!stated.empty()) *value = stated;
}

}  // namespace

std::vector<series::Instance> SeriesInstances(const std::vector<store::StoredInstance>& stored,
                                              const std::vector<AcceptedInstance>& accepted) {
  std::vector<series::Instance> instances;
  instances.reserve(stored.size() + accepted.size());
  const auto add = [&instances](const std::string& sha256, const ipc::v1::InstanceHeader& header) {
    instances.push_back(
        {.index = static_cast<std::uint32_t>(instances.size()), .content_sha256 = sha256, .header = header});
  };
  for (const store::StoredInstance& instance : stored) add(instance.sha256, instance.header);
  for (const AcceptedInstance& instance : accepted) add(instance.record.sha256, instance.header);
  return instances;
}

std::string SubmissionStudyUid(const InstanceJudge& judge) {
  if (!judge.study_uid().empty() || judge.accepted().empty()) return judge.study_uid();
  return series::BuildStudy(SeriesInstances({}, judge.accepted())).ref.study_instance_uid();
}

void OverrideIdentity(const v1::StudyRef& order_context, v1::StudyRef& ref) {
  if (!order_context.orders().empty()) {
    *ref.mutable_orders() = order_context.orders();
    for (v1::Order& order : *ref.mutable_orders()) order.set_source(v1::VALUE_SOURCE_SUBMITTER);
  }
  if (!order_context.patient_id().empty() || !order_context.issuer_of_patient_id().empty()) {
    ref.set_patient_source(v1::VALUE_SOURCE_SUBMITTER);
  }
  Override(order_context.patient_id(), ref.mutable_patient_id());
  Override(order_context.issuer_of_patient_id(), ref.mutable_issuer_of_patient_id());
  Override(order_context.study_date(), ref.mutable_study_date());
  Override(order_context.study_time(), ref.mutable_study_time());
  Override(order_context.timezone_offset(), ref.mutable_timezone_offset());
  Override(order_context.institution(), ref.mutable_institution());
  Override(order_context.station(), ref.mutable_station());
  if (!order_context.modalities().empty()) *ref.mutable_modalities() = order_context.modalities();
}

void AddNotices(const std::vector<v1::Reason>& more, std::vector<v1::Reason>& notices) {
  for (const v1::Reason& reason : more) {
    const bool there = std::any_of(notices.begin(), notices.end(), [&](const v1::Reason& notice) {
      return notice.code() == reason.code() && notice.value() == reason.value();
    });
    if (!there) notices.push_back(reason);
  }
}

absl::StatusOr<Proposal> ComposeProposal(const std::string& submission_id, const InstanceJudge& judge,
                                         const std::string& study_uid,
                                         const std::vector<store::StoredInstance>& stored,
                                         const std::vector<store::WantedModel>& models,
                                         const config::v1::Limits& limits, std::int64_t now_us) {
  const v1::SubmissionHeader& header = judge.header();
  if (judge.accepted().empty() && judge.duplicates() == 0) {
    if (judge.refused().empty()) return Invalid("EMPTY_STUDY", "", "the submission has no instances");
    return Invalid("ALL_REFUSED", judge.refused().front().reason().code(), "every instance was refused");
  }

  Proposal proposal;
  proposal.stored_instances = stored.size();
  store::Acknowledgement& acknowledgement = proposal.acknowledgement;
  acknowledgement.submission_id = submission_id;
  acknowledgement.models = models;
  v1::SubmissionReceipt& receipt = acknowledgement.receipt;
  receipt.set_submission_id(submission_id);
  receipt.set_study_instance_uid(study_uid);
  for (const v1::InstanceStatus& status : judge.refused()) *receipt.add_refused() = status;

  // Another submission of the study may have been acknowledged since the instances were judged.
  std::map<std::string_view, std::string_view> contents;
  std::uint64_t bytes = 0;
  bool has_picture = false;
  for (const store::StoredInstance& instance : stored) {
    contents.emplace(instance.sop_uid, instance.sha256);
    bytes += instance.length;
    has_picture = has_picture || HasPicture(instance.header);
  }
  std::vector<AcceptedInstance> added;
  std::vector<v1::Reason> notices;
  std::uint32_t duplicates = judge.duplicates();
  for (const AcceptedInstance& instance : judge.accepted()) {
    const auto there = contents.find(instance.sop_uid);
    if (there == contents.end()) {
      added.push_back(instance);
    } else if (there->second == instance.record.sha256) {
      ++duplicates;
    } else {
      *receipt.add_refused() = Refused(
          instance.record.instance_key,
          MakeReason("DUPLICATE_CONFLICT", instance.sop_uid,
                     "an instance with this SOP Instance UID and other content is there already; it stays"));
    }
  }
  const std::vector<v1::InstanceStatus> refused(receipt.refused().begin(), receipt.refused().end());
  AddNotices(RefusalNotices(refused), notices);
  acknowledgement.refusals_are_news =
      std::any_of(refused.begin(), refused.end(), [](const v1::InstanceStatus& status) {
        return MayLackAPart(status.reason().code()) || status.reason().code() == "DUPLICATE_CONFLICT";
      });
  for (const AcceptedInstance& instance : added) {
    store::StoredInstance& row = acknowledgement.instances.emplace_back();
    row.sop_uid = instance.sop_uid;
    row.sha256 = instance.record.sha256;
    row.submission_id = submission_id;
    row.offset = instance.record.offset;
    row.length = instance.record.length;
    row.header = instance.header;
    receipt.set_bytes(receipt.bytes() + instance.record.length);
    has_picture = has_picture || HasPicture(instance.header);
  }
  const bool final =
      header.completion() == v1::COMPLETION_UNSPECIFIED || header.completion() == v1::COMPLETION_FINAL;
  if (!has_picture && final) {
    return Invalid("NO_IMAGES", absl::StrCat(added.size()), "no instance of the study is an image");
  }
  if (stored.size() + added.size() > limits.study_instances()) {
    return Invalid("TOO_MANY_INSTANCES", absl::StrCat(limits.study_instances()),
                   "the study has too many instances");
  }
  if (bytes + receipt.bytes() > limits.study_bytes()) {
    return Invalid("STUDY_TOO_LARGE", absl::StrCat(limits.study_bytes()), "the study has too many bytes");
  }
  receipt.set_instances_accepted(static_cast<std::uint32_t>(added.size()) + duplicates);
  receipt.set_instances_duplicate(duplicates);
  receipt.set_instances_refused(static_cast<std::uint32_t>(receipt.refused_size()));

  const series::StudySeries built = series::BuildStudy(SeriesInstances(stored, added));
  store::StoredStudy& study = acknowledgement.study;
  study.study_uid = study_uid;
  study.ref = built.ref;
  study.ref.set_study_instance_uid(study_uid);
  OverrideIdentity(header.order_context(), study.ref);
  AddNotices(built.notices, notices);
  study.notices = std::move(notices);
  study.priority = header.priority() == v1::PRIORITY_UNSPECIFIED ? v1::PRIORITY_ROUTINE : header.priority();
  study.role = header.role() == v1::STUDY_ROLE_UNSPECIFIED ? v1::STUDY_ROLE_CURRENT : header.role();
  study.received_us = now_us;
  study.last_instance_us = now_us;
  study.settle_seconds = header.completion() == v1::COMPLETION_SETTLE ? header.settle_seconds() : 0;
  study.instances = static_cast<std::uint32_t>(stored.size() + added.size());
  return proposal;
}

}  // namespace tomoserve::dispatch
