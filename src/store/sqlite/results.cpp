#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "store/files.h"
#include "store/sqlite/sqlite_store.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::store {
namespace {

// Writes a file beside its final name, syncs, renames, syncs the folder: on return it is whole and durable.
absl::Status WriteDurably(const std::string& folder, const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  absl::Status status;
  {
    const base::UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.valid()) return DiskError(errno, "opening a result file");
    status = WriteAt(fd.get(), bytes, 0);
    if (status.ok() && ::fdatasync(fd.get()) != 0) status = DiskError(errno, "syncing a result file");
  }
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0)
    status = DiskError(errno, "naming a result file");
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncFolder(folder);
}

// What a DONE run must say: nothing but complete coverage gives NO_FINDING.
absl::Status CheckResult(const v1::Run& run) {
  if (run.flag().state() == v1::FLAG_STATE_UNSPECIFIED) {
    return base::Error(absl::StatusCode::kInvalidArgument, "FLAG_MISSING", "", "a result needs a flag");
  }
  if (run.flag().state() == v1::FLAG_STATE_NO_FINDING &&
      run.coverage().target() != v1::COVERAGE_TARGET_COMPLETE) {
    return base::Error(absl::StatusCode::kInvalidArgument, "NO_FINDING_UNCOVERED", "",
                       "a result may not say NO_FINDING without complete coverage");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SqliteStore::CommitResult(const v1::Run& run, const std::optional<ResultBlob>& blob) {
  TS_RETURN_IF_ERROR(CheckResult(run));
  // Only one commit at a time may own a run's file name; mutex_ is free while the file is written.
  const std::scoped_lock results(results_mutex_);
  {
    const std::scoped_lock lock(mutex_);
    TS_RETURN_IF_ERROR(ReadOpenRun(run.run_id()).status());
  }
  const std::string file = run.run_id() + ".zst";
  std::string digest;
  if (blob) {
    digest = base::Sha256Hex(blob->zstd);
    TS_RETURN_IF_ERROR(WriteDurably(folder_ + "/results", ResultPath(file), blob->zstd));
  }
  const std::scoped_lock lock(mutex_);
  const absl::Status status = database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run.run_id()));
    const std::string model = row.stored.run.model();
    const std::string version = row.stored.run.version();
    row.stored.run = run;
    row.stored.run.set_model(model);
    row.stored.run.set_version(version);
    row.stored.run.clear_failure();
    row.stored.run.clear_label_map();
    if (blob) {
      *row.stored.run.mutable_label_map() = blob->label_map;
      TS_RETURN_IF_ERROR(database_->Run(
          "INSERT INTO result_files (tenant, run_id, file, stored_sha256, raw_bytes, raw_sha256, label_map) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
          kTenant, run.run_id(), file, digest, blob->raw_bytes, blob->raw_sha256,
          Blob{Serialise(blob->label_map)}));
    }
    return Finish(std::move(row), v1::RUN_STATE_DONE);
  });
  // Another commit won: nothing will ever name the file. After any other error the commit may yet turn out to
  // be on the disk; then the file must be there, and otherwise the next start removes it.
  if (blob && base::ReasonOf(status) == "RUN_FINAL") ::unlink(ResultPath(file).c_str());
  return status;
}

absl::Status SqliteStore::CommitFailure(std::string_view run_id, const v1::Reason& reason) {
  if (reason.code().empty()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REASON_MISSING", "", "a failure needs a reason");
  }
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run_id));
    *row.stored.run.mutable_failure() = reason;
    return Finish(std::move(row), v1::RUN_STATE_FAILED);
  });
}

absl::StatusOr<ResultBlob> SqliteStore::GetLabelMap(std::string_view run_id) {
  ResultBlob blob;
  std::string file;
  std::string digest;
  {
    const std::scoped_lock lock(mutex_);
    TS_RETURN_IF_ERROR(ReadRun(*database_, run_id).status());
    TS_ASSIGN_OR_RETURN(Statement query,
                        database_->Query("SELECT file, stored_sha256, raw_bytes, raw_sha256, label_map FROM "
                                         "result_files WHERE tenant = ?1 AND run_id = ?2",
                                         kTenant, run_id));
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row)
      return base::Error(absl::StatusCode::kNotFound, "NO_LABEL_MAP", run_id, "the run has no label map");
    file = query.Text(0);
    digest = query.Text(1);
    blob.raw_bytes = static_cast<std::uint64_t>(query.Int(2));
    blob.raw_sha256 = query.Text(3);
    TS_RETURN_IF_ERROR(query.Message(4, blob.label_map));
  }
  const base::UniqueFd fd(::open(ResultPath(file).c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.valid()) {
    TS_ASSIGN_OR_RETURN(const std::uint64_t size, SizeOf(fd.get()));
    TS_ASSIGN_OR_RETURN(blob.zstd, ReadAt(fd.get(), 0, size));
  } else if (errno != ENOENT) {
    return DiskError(errno, "opening a result file");
  }
  if (!fd.valid() || base::Sha256Hex(blob.zstd) != digest) {
    return base::Error(absl::StatusCode::kDataLoss, "RESULT_CORRUPT", run_id,
                       "a stored result file is damaged");
  }
  return blob;
}

}  // namespace tomoserve::store
