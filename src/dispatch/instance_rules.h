// What becomes of each instance of an upload: accepted, duplicate, or refused with a reason.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tomoserve/base/reason.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/store/spool.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::dispatch {

// An instance that passed.
struct AcceptedInstance {
  store::SpoolRecord record;
  ipc::v1::InstanceHeader header;
  std::string sop_uid;  // derived from the content where the DICOM has none
};

// SHA-256 by SOP Instance UID of what a study has.
using KnownContents = std::map<std::string, std::string>;

using base::MakeReason;
using base::ReasonFrom;
v1::InstanceStatus Refused(std::string_view instance_key, v1::Reason reason);

// Judges the instances of one submission in the order of their arrival; the first accepted one says which
// study it is. Confined to one thread at a time.
class InstanceJudge {
 public:
  // `known` says what the store has of a study; it is asked once.
  InstanceJudge(v1::SubmissionHeader header,
                std::function<KnownContents(const std::string& study_uid)> known);

  // `result` is never kUnavailable: that says nothing of the file. Refusals: the header pass's own codes;
  // OWN_OBJECT (made by this server: never analysed again); STUDY_MISMATCH (value: the instance's Study
  // Instance UID); NO_STUDY_UID (a study without a UID can only be sent whole, as FINAL); IDENTITY_MISMATCH
  // (value: the field); TOO_MANY_FRAMES (of enhanced instances; each one's header is held in memory; value:
  // the limit, 200,000 in a submission); DUPLICATE_CONFLICT (same SOP Instance UID, other content: the first
  // one stays; value: the UID).
  v1::InstanceStatus Judge(const store::SpoolRecord& record, const ipc::HeaderResult& result);

  // Refuses an instance before its bytes are read.
  v1::InstanceStatus Refuse(std::string_view instance_key, v1::Reason reason);

  const v1::SubmissionHeader& header() const { return header_; }
  // Empty until an instance is accepted, and for a study without a UID.
  const std::string& study_uid() const { return study_uid_; }
  // New content, in the order of arrival.
  const std::vector<AcceptedInstance>& accepted() const { return accepted_; }
  // Instances that say what is there already, here or in the store.
  std::uint32_t duplicates() const { return duplicates_; }
  const std::vector<v1::InstanceStatus>& refused() const { return refused_; }
  std::uint32_t conflicts() const { return conflicts_; }

 private:
  v1::InstanceStatus RefuseHeader(std::string_view instance_key, v1::Reason reason,
                                  const ipc::v1::InstanceHeader& header);
  // The reason to refuse, if there is one.
  std::optional<v1::Reason> CheckIdentity(const ipc::v1::InstanceHeader& header) const;

  const v1::SubmissionHeader header_;
  const std::function<KnownContents(const std::string&)> known_;
  bool study_known_ = false;
  std::string study_uid_;
  KnownContents contents_;
  std::uint64_t frames_ = 0;  // of accepted enhanced instances
  std::vector<AcceptedInstance> accepted_;
  std::vector<v1::InstanceStatus> refused_;
  std::uint32_t duplicates_ = 0;
  std::uint32_t conflicts_ = 0;
};

}  // namespace tomoserve::dispatch
