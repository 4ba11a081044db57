#include "apps/tomoctl/own_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/child.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

// More than the server takes to drain.
constexpr auto kStopTime = std::chrono::seconds(30);
constexpr std::size_t kLogTail = 2000;

absl::Status NotStarted(std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kUnavailable, "SERVER_NOT_STARTED", value, text);
}

std::string Tail(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  return text.substr(text.size() - std::min(text.size(), kLogTail));
}

// In the child: nothing that is not safe after fork.
[[noreturn]] void Become(std::vector<char*>& arguments, int out, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::signal(SIGPIPE, SIG_DFL);
  const bool ready =
      ::getppid() == parent && ::dup2(out, STDOUT_FILENO) >= 0 && ::dup2(log, STDERR_FILENO) >= 0;
  if (ready) ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

// "ready PORT"; a line of another kind, the end of the output, or no line in time are errors.
absl::StatusOr<int> ReadPort(int out, std::chrono::steady_clock::time_point deadline) {
  std::string line;
  while (line.empty() || line.back() != '\n') {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{out, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) == 0) {
      return base::Error(absl::StatusCode::kDeadlineExceeded, "TIMEOUT", "",
                         "the server does not become ready");
    }
    char letter = 0;
    const ssize_t count = ::read(out, &letter, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return NotStarted("", "the server ended before it was ready");
    line += letter;
  }
  int port = 0;
  if (line.rfind("ready ", 0) != 0 || !absl::SimpleAtoi(line.substr(6), &port)) {
    return NotStarted(line, "the server does not say its port");
  }
  return port;
}

// A number of /proc/PID/status, by its key with the colon; 0 where it is not there.
std::uint64_t StatusNumber(const fs::path& process, const std::string& key) {
  std::ifstream file(process / "status");
  std::uint64_t number = 0;
  for (std::string word; file >> word;) {
    if (word == key) return file >> number ? number : 0;
  }
  return 0;
}

std::string NameOf(const fs::path& process) {
  std::ifstream file(process / "comm");
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

absl::StatusOr<TemporaryFolder> TemporaryFolder::Make() {
  std::error_code error;
  std::string pattern = (fs::temp_directory_path(error) / "tomoctl-XXXXXX").string();
  if (error || ::mkdtemp(pattern.data()) == nullptr) {
    return base::Error(absl::StatusCode::kInternal, "OUTPUT", pattern, "no temporary folder can be made");
  }
  return TemporaryFolder(pattern);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path_.empty()) fs::remove_all(path_, error);
}

absl::StatusOr<OwnServer> OwnServer::Start(const fs::path& folder, const fs::path& models,
                                           const std::string& devices, std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<std::string> words{ipc::SiblingProgram("tomoserve"),
                                 "--listen",
                                 "127.0.0.1:0",
                                 "--data",
                                 (folder / "data").string(),
                                 "--models",
                                 models.string(),
                                 "--devices",
                                 devices};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const fs::path log_file = folder / "server.log";
  const base::UniqueFd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  std::array<int, 2> ends{};
  if (log.get() < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0)
    return NotStarted("", "no file or pipe for the server");
  const base::UniqueFd out(ends[0]);
  base::UniqueFd in(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return NotStarted("", "no process for the server");
  if (pid == 0) Become(arguments, in.get(), log.get(), parent);
  OwnServer server(pid);
  in.reset();
  const auto port = ReadPort(out.get(), deadline);
  if (!port.ok()) {
    return base::Error(port.status().code(), base::ReasonOf(port.status()), base::ValueOf(port.status()),
                       absl::StrCat(port.status().message(), "; its log ends with:\n", Tail(log_file)));
  }
  server.port_ = *port;
  return server;
}

OwnServer::~OwnServer() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + kStopTime;
  pid_t reaped = 0;
  while ((reaped = ::waitpid(pid_, nullptr, WNOHANG)) == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (reaped != 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string OwnServer::address() const { return absl::StrCat("127.0.0.1:", port_); }

std::uint64_t OwnServer::WorkerPeakBytes() const {
  std::uint64_t peak = 0;
  std::error_code error;
  const fs::directory_iterator processes("/proc", error);
  if (error) return 0;
  for (const fs::directory_entry& entry : processes) {
    // Names of processes are cut to 15 letters.
    if (NameOf(entry.path()) != "tomoserve-worke") continue;
    if (StatusNumber(entry.path(), "PPid:") != static_cast<std::uint64_t>(pid_)) continue;
    peak = std::max(peak, 1024 * StatusNumber(entry.path(), "VmHWM:"));
  }
  return peak;
}

}  // namespace tomoserve::tomoctl
