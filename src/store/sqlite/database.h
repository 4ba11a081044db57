// SQLite behind RAII and typed errors: a connection with cached statements, and transactions as functions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/message_lite.h"
#include "tomoserve/base/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tomoserve::store {

class Database;

// Bytes that are bound as a BLOB; text is bound as TEXT.
struct Blob {
  std::string_view bytes;
};

// SQL's NULL.
struct Null {};

// A prepared statement with its values; goes back to its database's cache at the end. Columns and parameters
// are read and bound in order. Must not outlive the database.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  // True: there is a row to read.
  absl::StatusOr<bool> Step();
  // Steps to the end; for statements without rows.
  absl::Status Run();

  std::int64_t Int(int column) const;
  std::uint32_t Uint32(int column) const { return static_cast<std::uint32_t>(Int(column)); }
  bool Bool(int column) const { return Int(column) != 0; }
  template <typename Enum>
  Enum EnumOf(int column) const {
    return static_cast<Enum>(Int(column));
  }
  bool IsNull(int column) const;
  // Text or bytes; empty for NULL.
  std::string Text(int column) const;
  // kDataLoss DATABASE_CORRUPT if the bytes are no such message.
  absl::Status Message(int column, google::protobuf::MessageLite& message) const;

  absl::Status Bind(int index, std::string_view text);
  absl::Status Bind(int index, Blob blob);
  absl::Status Bind(int index, Null);
  absl::Status Bind(int index, std::int64_t number);
  template <typename Number>
  requires(std::is_integral_v<Number> || std::is_enum_v<Number>) absl::Status Bind(int index, Number number) {
    return Bind(index, static_cast<std::int64_t>(number));
  }

 private:
  friend class Database;
  Statement(Database* database, std::string sql, sqlite3_stmt* statement);
  Database* database_;
  std::string sql_;
  sqlite3_stmt* statement_;
};

// One connection. Not thread-safe: its owner holds a mutex.
// Errors of every method: kResourceExhausted DISK_FULL, kDataLoss DATABASE_CORRUPT, kUnavailable
// DATABASE_BUSY, kInternal DATABASE_FAILED (value: SQLite's extended code). Texts never hold values of rows.
class Database {
 public:
  // Opens or makes the file, readable for its owner only: WAL, synchronous=FULL, foreign keys on.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // A statement with its values bound to ?1, ?2...
  template <typename... Values>
  absl::StatusOr<Statement> Query(std::string_view sql, const Values&... values) {
    TS_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
    int index = 0;
    absl::Status status;
    ((status.Update(statement.Bind(++index, values))), ...);
    TS_RETURN_IF_ERROR(status);
    return statement;
  }
  // Runs a statement that has no rows.
  template <typename... Values>
  absl::Status Run(std::string_view sql, const Values&... values) {
    TS_ASSIGN_OR_RETURN(Statement statement, Query(sql, values...));
    return statement.Run();
  }
  // Runs a script of several statements.
  absl::Status Script(const std::string& sql);
  // Rows that the last INSERT, UPDATE or DELETE changed.
  std::int64_t Changes() const;
  std::int64_t LastRowId() const;

  // Runs `body` between BEGIN IMMEDIATE and COMMIT; rolls back on an error of either. Not nestable.
  absl::Status Transact(const std::function<absl::Status()>& body);

 private:
  friend class Statement;
  Database() = default;
  absl::StatusOr<Statement> Prepare(std::string_view sql);
  absl::Status ErrorOf(int code) const;
  void Return(std::string sql, sqlite3_stmt* statement);

  sqlite3* handle_ = nullptr;
  std::unordered_map<std::string, std::vector<sqlite3_stmt*>> idle_;
};

// The message's bytes, the same for equal messages: protobuf leaves only the order of maps open, and the
// messages that are compared by their bytes have none (a test sees to it).
std::string Serialise(const google::protobuf::MessageLite& message);

}  // namespace tomoserve::store
