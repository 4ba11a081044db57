// A server of our own for a verb that needs one, and a folder that is gone afterwards.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace tomoserve::tomoctl {

// A new folder in $TMPDIR (default /tmp), removed with all that is in it by the destructor.
class TemporaryFolder {
 public:
  // Errors: OUTPUT.
  static absl::StatusOr<TemporaryFolder> Make();
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

// The tomoserve that lies beside this program, on a loopback port that it picks. It ends with its owner: by
// SIGTERM from the destructor, or from the kernel should this process die. Confined to one thread, which must
// be the process's only one at Start.
class OwnServer {
 public:
  // `folder` gets the data and server.log. Returns when all models are warm or refused. Errors:
  // SERVER_NOT_STARTED (value: what it said last), kDeadlineExceeded TIMEOUT.
  static absl::StatusOr<OwnServer> Start(const std::filesystem::path& folder,
                                         const std::filesystem::path& models, const std::string& devices,
                                         std::chrono::seconds timeout);
  OwnServer(OwnServer&& other) noexcept : pid_(other.pid_), port_(other.port_) { other.pid_ = -1; }
  OwnServer& operator=(OwnServer&&) = delete;
  ~OwnServer();

  std::string address() const;
  // Most resident memory that one of its workers has had, libraries included, bytes; 0: not known.
  std::uint64_t WorkerPeakBytes() const;

 private:
  explicit OwnServer(pid_t pid) : pid_(pid) {}

  pid_t pid_;
  int port_ = 0;
};

}  // namespace tomoserve::tomoctl
