#include "store/sqlite/sqlite_store.h"

namespace tomoserve::store {

absl::StatusOr<std::optional<v1::ActivationRecord>> FindActivation(Database& database, std::string_view name,
                                                                   std::string_view version) {
  TS_ASSIGN_OR_RETURN(Statement query,
                      database.Query("SELECT record FROM activations WHERE tenant = ?1 AND name = ?2 AND "
                                     "version = ?3 ORDER BY id DESC LIMIT 1",
                                     kTenant, name, version));
  TS_ASSIGN_OR_RETURN(const bool row, query.Step());
  if (!row) return std::nullopt;
  v1::ActivationRecord record;
  TS_RETURN_IF_ERROR(query.Message(0, record));
  return record;
}

absl::Status SqliteStore::SetActivation(std::string_view name, std::string_view version,
                                        const v1::ActivationRecord& record) {
  if (name.empty() || version.empty() || record.stage() == v1::ACTIVATION_STAGE_UNSPECIFIED) {
    return base::Error(absl::StatusCode::kInvalidArgument, "ACTIVATION_INVALID", "",
                       "an activation names a model, a version and a stage");
  }
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(const std::optional<v1::ActivationRecord> before,
                        FindActivation(*database_, name, version));
    // A server that starts says the same again: that is no event.
    if (before && before->stage() == record.stage() && before->by() == record.by()) return absl::OkStatus();
    v1::ActivationRecord kept = record;
    if (!kept.has_at()) *kept.mutable_at() = ToTimestamp(now_us_());
    return database_->Run("INSERT INTO activations (tenant, name, version, record) VALUES (?1, ?2, ?3, ?4)",
                          kTenant, name, version, Blob{Serialise(kept)});
  });
}

absl::StatusOr<std::optional<v1::ActivationRecord>> SqliteStore::GetActivation(std::string_view name,
                                                                               std::string_view version) {
  const std::scoped_lock lock(mutex_);
  return FindActivation(*database_, name, version);
}

absl::StatusOr<std::vector<v1::ActivationRecord>> SqliteStore::ListActivations(std::string_view name,
                                                                               std::string_view version) {
  const std::scoped_lock lock(mutex_);
  TS_ASSIGN_OR_RETURN(Statement query,
                      database_->Query("SELECT record FROM activations WHERE tenant = ?1 AND name = ?2 AND "
                                       "version = ?3 ORDER BY id",
                                       kTenant, name, version));
  std::vector<v1::ActivationRecord> records;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return records;
    TS_RETURN_IF_ERROR(query.Message(0, records.emplace_back()));
  }
}

}  // namespace tomoserve::store
