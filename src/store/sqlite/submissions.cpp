#include "store/files.h"
#include "store/sqlite/sqlite_store.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::store {
namespace {

constexpr std::int64_t kKeyLifeUs = std::int64_t{7} * 24 * 3600 * 1000000;

}  // namespace

absl::StatusOr<JobStore::Begun> SqliteStore::BeginSubmission(const v1::SubmissionHeader& header) {
  const std::string bytes = Serialise(header);
  const std::string digest = base::Sha256Hex(bytes);
  const std::string& key = header.idempotency_key();
  const std::scoped_lock lock(mutex_);
  const std::int64_t now = now_us_();
  Begun begun;
  const absl::Status committed = database_->Transact([&]() -> absl::Status {
    if (!key.empty()) {
      TS_ASSIGN_OR_RETURN(std::optional<Submission> earlier, FindSubmissionByKey(*database_, key));
      const bool expired = earlier && earlier->created_us + kKeyLifeUs <= now;
      if (expired) {
        TS_RETURN_IF_ERROR(database_->Run(
            "UPDATE submissions SET idempotency_key = NULL WHERE tenant = ?1 AND submission_id = ?2", kTenant,
            earlier->submission_id));
      } else if (earlier) {
        if (earlier->header_digest != digest) {
          return base::Error(absl::StatusCode::kAlreadyExists, "IDEMPOTENCY_KEY_REUSED", "",
                             "this idempotency key belongs to a submission with another header");
        }
        begun = {.submission = *std::move(earlier), .existing = true};
        return database_->Run(
            "UPDATE submissions SET touched_us = ?3 WHERE tenant = ?1 AND submission_id = ?2", kTenant,
            begun.submission.submission_id, now);
      }
    }
    begun.submission.submission_id = "s" + RandomHex(16);
    begun.submission.idempotency_key = key;
    begun.submission.header_digest = digest;
    begun.submission.header = header;
    begun.submission.created_us = now;
    TS_RETURN_IF_ERROR(database_->Run(
        "INSERT INTO submissions (tenant, submission_id, header_digest, header, priority, created_us, "
        "touched_us) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        kTenant, begun.submission.submission_id, digest, Blob{bytes}, Normal(header.priority()), now));
    if (key.empty()) return absl::OkStatus();
    return database_->Run(
        "UPDATE submissions SET idempotency_key = ?3 WHERE tenant = ?1 AND submission_id = ?2", kTenant,
        begun.submission.submission_id, key);
  });
  if (!committed.ok()) return committed;
  return begun;
}

absl::StatusOr<Submission> SqliteStore::GetSubmission(std::string_view submission_id) {
  const std::scoped_lock lock(mutex_);
  return ReadSubmission(*database_, submission_id);
}

absl::StatusOr<std::vector<std::string>> SqliteStore::ForgetUploads(std::int64_t before_us) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> ids;
  const absl::Status committed = database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(Statement removal,
                        database_->Query("DELETE FROM submissions WHERE tenant = ?1 AND acknowledged = 0 AND "
                                         "touched_us < ?2 RETURNING submission_id",
                                         kTenant, before_us));
    while (true) {
      TS_ASSIGN_OR_RETURN(const bool row, removal.Step());
      if (!row) return absl::OkStatus();
      ids.push_back(removal.Text(0));
    }
  });
  if (!committed.ok()) return committed;
  return ids;
}

absl::Status SqliteStore::ForgetKeyless(std::string_view submission_id) {
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    return database_->Run(
        "DELETE FROM submissions WHERE tenant = ?1 AND acknowledged = 0 AND idempotency_key IS NULL AND "
        "(?2 = '' OR submission_id = ?2)",
        kTenant, submission_id);
  });
}

absl::StatusOr<std::vector<std::string>> SqliteStore::SubmissionIds() {
  const std::scoped_lock lock(mutex_);
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database_->Query("SELECT submission_id FROM submissions WHERE tenant = ?1 ORDER BY 1", kTenant));
  std::vector<std::string> ids;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return ids;
    ids.push_back(query.Text(0));
  }
}

}  // namespace tomoserve::store
