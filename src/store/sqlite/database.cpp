#include "store/sqlite/database.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/files.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::store {
namespace {

// SQLite says SQLITE_FULL for ENOSPC only. Quotas and file size limits are write errors to it, whose error
// number the file (database or write-ahead log) remembers.
bool NoRoom(sqlite3* handle) {
  int number = 0;
  if (sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &number) == SQLITE_OK &&
      MeansDiskFull(number)) {
    return true;
  }
  sqlite3_file* log = nullptr;
  return sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK &&
         log != nullptr && log->pMethods != nullptr &&
         log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &number) == SQLITE_OK &&
         MeansDiskFull(number);
}

}  // namespace

Statement::Statement(Database* database, std::string sql, sqlite3_stmt* statement)
    : database_(database), sql_(std::move(sql)), statement_(statement) {}

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_),
      sql_(std::move(other.sql_)),
      statement_(std::exchange(other.statement_, nullptr)) {}

Statement::~Statement() {
  if (statement_ != nullptr) database_->Return(std::move(sql_), statement_);
}

absl::StatusOr<bool> Statement::Step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->ErrorOf(code);
}

absl::Status Statement::Run() {
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) return absl::OkStatus();
  }
}

std::int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_, column); }

bool Statement::IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

std::string Statement::Text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string() : std::string(bytes, static_cast<std::size_t>(size));
}

absl::Status Statement::Message(int column, google::protobuf::MessageLite& message) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  if (!message.ParseFromArray(bytes, sqlite3_column_bytes(statement_, column))) {
    return base::Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT", "",
                       "a stored message cannot be read");
  }
  return absl::OkStatus();
}

absl::Status Statement::Bind(int index, std::string_view text) {
  const int code = sqlite3_bind_text64(statement_, index, text.data() == nullptr ? "" : text.data(),
                                       text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return code == SQLITE_OK ? absl::OkStatus() : database_->ErrorOf(code);
}

absl::Status Statement::Bind(int index, Blob blob) {
  const int code = blob.bytes.empty() ? sqlite3_bind_zeroblob(statement_, index, 0)
                                      : sqlite3_bind_blob64(statement_, index, blob.bytes.data(),
                                                            blob.bytes.size(), SQLITE_TRANSIENT);
  return code == SQLITE_OK ? absl::OkStatus() : database_->ErrorOf(code);
}

absl::Status Statement::Bind(int index, Null) {
  const int code = sqlite3_bind_null(statement_, index);
  return code == SQLITE_OK ? absl::OkStatus() : database_->ErrorOf(code);
}

absl::Status Statement::Bind(int index, std::int64_t number) {
  const int code = sqlite3_bind_int64(statement_, index, number);
  return code == SQLITE_OK ? absl::OkStatus() : database_->ErrorOf(code);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  {
    // SQLite gives the WAL the mode of the database.
    const base::UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file.valid()) return DiskError(errno, "opening the database");
  }
  std::unique_ptr<Database> database(new Database);
  const int code =
      sqlite3_open_v2(path.c_str(), &database->handle_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) return database->ErrorOf(code);
  sqlite3_extended_result_codes(database->handle_, 1);
  TS_RETURN_IF_ERROR(
      database->Script("PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;"
                       "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"));
  {
    TS_ASSIGN_OR_RETURN(Statement mode, database->Query("PRAGMA journal_mode = WAL"));
    TS_ASSIGN_OR_RETURN(const bool row, mode.Step());
    if (!row || mode.Text(0) != "wal") {
      return base::Error(absl::StatusCode::kFailedPrecondition, "DATABASE_FAILED", "",
                         "the data folder's file system cannot hold a write-ahead log");
    }
  }
  TS_RETURN_IF_ERROR(
      database->Script("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                       "PRAGMA journal_size_limit = 67108864;"));
  return database;
}

Database::~Database() {
  for (auto& [sql, statements] : idle_) {
    for (sqlite3_stmt* statement : statements) sqlite3_finalize(statement);
  }
  sqlite3_close_v2(handle_);
}

absl::StatusOr<Statement> Database::Prepare(std::string_view sql) {
  std::string key(sql);
  std::vector<sqlite3_stmt*>& idle = idle_[key];
  if (!idle.empty()) {
    sqlite3_stmt* statement = idle.back();
    idle.pop_back();
    return Statement(this, std::move(key), statement);
  }
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, key.c_str(), static_cast<int>(key.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return ErrorOf(code);
  return Statement(this, std::move(key), statement);
}

void Database::Return(std::string sql, sqlite3_stmt* statement) {
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  idle_[std::move(sql)].push_back(statement);
}

absl::Status Database::Script(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(code);
}

std::int64_t Database::Changes() const { return sqlite3_changes64(handle_); }

std::int64_t Database::LastRowId() const { return sqlite3_last_insert_rowid(handle_); }

absl::Status Database::Transact(const std::function<absl::Status()>& body) {
  TS_RETURN_IF_ERROR(Run("BEGIN IMMEDIATE"));
  absl::Status status = body();
  if (status.ok()) status = Run("COMMIT");
  // Some errors have rolled back already.
  if (!status.ok() && sqlite3_get_autocommit(handle_) == 0) {
    const absl::Status rolled_back = Run("ROLLBACK");
    if (!rolled_back.ok()) return rolled_back;
  }
  return status;
}

absl::Status Database::ErrorOf(int code) const {
  const int primary = code & 0xFF;
  const std::string value = std::to_string(handle_ == nullptr ? code : sqlite3_extended_errcode(handle_));
  const bool no_room = primary == SQLITE_FULL || (primary == SQLITE_IOERR && NoRoom(handle_));
  if (no_room) {
    return base::Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", value,
                       "no room on the disk for a commit");
  }
  switch (primary) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return base::Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT", value, "the database is damaged");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return base::Error(absl::StatusCode::kUnavailable, "DATABASE_BUSY", value, "the database is in use");
    default:
      return base::Error(absl::StatusCode::kInternal, "DATABASE_FAILED", value,
                         absl::StrCat("the database failed: ", sqlite3_errstr(primary)));
  }
}

std::string Serialise(const google::protobuf::MessageLite& message) { return message.SerializeAsString(); }

}  // namespace tomoserve::store
