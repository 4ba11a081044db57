#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>

#include "store/files.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite_store.h"
#include "tomoserve/base/clock.h"

namespace tomoserve::store {

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& folder,
                                                               const SqliteOptions& options) {
  std::unique_ptr<SqliteStore> store(new SqliteStore);
  store->folder_ = folder;
  store->now_us_ = options.now_us ? options.now_us : std::function<std::int64_t()>(&base::NowUs);
  TS_RETURN_IF_ERROR(MakeFolder(folder + "/results"));

  store->lock_.reset(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!store->lock_.valid()) return DiskError(errno, "opening the data folder's lock");
  if (::flock(store->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return DiskError(errno, "locking the data folder");
    return base::Error(absl::StatusCode::kFailedPrecondition, "DATA_IN_USE", "",
                       "another process is using the data folder");
  }

  TS_ASSIGN_OR_RETURN(store->database_, Database::Open(folder + "/tomoserve.db"));
  TS_RETURN_IF_ERROR(CheckIntegrity(*store->database_));
  TS_RETURN_IF_ERROR(Migrate(*store->database_));
  {
    TS_ASSIGN_OR_RETURN(Statement query, store->database_->Query("SELECT epoch FROM store"));
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) {
      return base::Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT", "", "the database has no epoch");
    }
    store->epoch_ = query.Text(0);
  }
  TS_RETURN_IF_ERROR(SyncFolder(folder));
  TS_RETURN_IF_ERROR(store->RemoveOrphans());
  return store;
}

std::string SqliteStore::ResultPath(std::string_view file) const {
  return folder_ + "/results/" + std::string(file);
}

absl::Status SqliteStore::RemoveOrphans() {
  std::set<std::string> named;
  TS_ASSIGN_OR_RETURN(Statement query, database_->Query("SELECT DISTINCT file FROM result_files"));
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) break;
    named.insert(query.Text(0));
  }
  std::error_code error;
  std::filesystem::directory_iterator entry(folder_ + "/results", error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (named.contains(entry->path().filename().string())) continue;
    std::error_code ignored;  // an orphan that stays costs room only and is tried again at the next start
    std::filesystem::remove(entry->path(), ignored);
  }
  return error ? DiskError(error.value(), "listing the result files") : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteStore(const std::string& folder,
                                                          const SqliteOptions& options) {
  return SqliteStore::Open(folder, options);
}

}  // namespace tomoserve::store
