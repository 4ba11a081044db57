// Rows to values. Every function works on the connection that a statement belongs to; the store's mutex is
// held.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/timestamp.pb.h"
#include "store/sqlite/database.h"
#include "tomoserve/store/job_store.h"

namespace tomoserve::store {

// The only tenant until authentication exists.
inline constexpr std::string_view kTenant = "default";

// A run's row with what only the store needs to know.
struct RunRow {
  StoredRun stored;
  bool forced = false;
  std::int64_t created_us = 0;
  std::int64_t finished_us = 0;
};

// DONE, FAILED, CANCELLED, QUARANTINED.
bool IsFinal(v1::RunState state);

google::protobuf::Timestamp ToTimestamp(std::int64_t us);
// 0 for an absent or impossible one.
std::int64_t FromTimestamp(const google::protobuf::Timestamp& timestamp);

// UNSPECIFIED means ROUTINE.
v1::Priority Normal(v1::Priority priority);

// nullopt: there is none.
absl::StatusOr<std::optional<Submission>> FindSubmission(Database& database, std::string_view submission_id);
absl::StatusOr<std::optional<Submission>> FindSubmissionByKey(Database& database, std::string_view key);
absl::StatusOr<std::optional<StoredStudy>> FindStudy(Database& database, std::string_view study_uid);

// The newest row of a version.
absl::StatusOr<std::optional<v1::ActivationRecord>> FindActivation(Database& database, std::string_view name,
                                                                   std::string_view version);

// kNotFound UNKNOWN_STUDY, UNKNOWN_RUN, UNKNOWN_SUBMISSION.
absl::StatusOr<StoredStudy> ReadStudy(Database& database, std::string_view study_uid);
absl::StatusOr<RunRow> ReadRun(Database& database, std::string_view run_id);
absl::StatusOr<Submission> ReadSubmission(Database& database, std::string_view submission_id);

absl::StatusOr<std::vector<StoredStudy>> ReadOpenStudies(Database& database);
// What acknowledged submissions announce; nothing of a study that is not there.
absl::StatusOr<ExpectedInstances> ReadExpected(Database& database, std::string_view study_uid);
// Adds what a submission announces; whether that is more of any series.
bool AddExpected(const v1::SubmissionHeader& header, ExpectedInstances& expected);
// All generations: by model, version, digests, then generation. Runs that are the same as an earlier one are
// none.
absl::StatusOr<std::vector<RunRow>> ReadRunsOfStudy(Database& database, std::string_view study_uid);
// QUEUED and RUNNING: highest priority, nearest deadline, oldest first.
absl::StatusOr<std::vector<RunRow>> ReadOpenRuns(Database& database);

// Writes state, input digest, blame, finish and result of a run; the other columns stay.
absl::Status WriteRun(Database& database, const RunRow& row);
absl::Status InsertRun(Database& database, const RunRow& row);
absl::Status WriteStudy(Database& database, const StoredStudy& study);

// Whether two rows are generations of the same run.
bool SameLine(const RunRow& a, const RunRow& b);

}  // namespace tomoserve::store
