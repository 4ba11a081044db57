// What an acknowledgement is worth: kill -9 at any instant, and disks without room.
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <latch>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

class CrashTest : public ::testing::Test {
 protected:
  void SetUp() override { data_ = folder_.path() + "/data"; }
  const std::string& Data() const { return data_; }
  std::string SpoolFolder() const { return Data() + "/spool"; }

  // When a child is killed: so long after its first word, or after its start.
  struct Kill {
    std::chrono::microseconds after{};
    bool from_start = false;
  };

  // Starts `body` in a child whose end of the pipe is given to it, and returns what it wrote until it ended.
  template <typename Body>
  std::string InChild(std::optional<Kill> kill, Body body) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    EXPECT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      body(ends[1]);
      ::_exit(0);
    }
    ::close(ends[1]);
    std::latch spoken(1);
    std::jthread killer([&] {
      if (!kill) return;
      if (!kill->from_start) spoken.wait();
      std::this_thread::sleep_for(kill->after);
      ::kill(child, SIGKILL);
    });
    std::string text;
    char buffer[4096];
    while (true) {
      const ssize_t count = ::read(ends[0], buffer, sizeof(buffer));
      if (text.empty()) spoken.count_down();
      if (count <= 0) break;
      text.append(buffer, static_cast<std::size_t>(count));
    }
    ::close(ends[0]);
    killer.join();
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return text;
  }

  static void Say(int fd, const std::string& line) {
    const std::string text = line + "\n";
    if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(3);
  }

  // One study through spool and store. Says "acknowledged SUBMISSION STUDY RUN RUN" after the receipt, and
  // "done RUN" after the result's commit. The first error ends it.
  static absl::Status OneStudy(JobStore& store, const Spool& spool, const std::string& study, int fd) {
    v1::SubmissionHeader header;
    header.set_idempotency_key(study);
    TS_ASSIGN_OR_RETURN(const JobStore::Begun begun, store.BeginSubmission(header));
    const std::string& id = begun.submission.submission_id;
    TS_ASSIGN_OR_RETURN(SpoolWriter writer, spool.OpenWriter(id));
    Acknowledgement acknowledgement;
    acknowledgement.submission_id = id;
    acknowledgement.study.study_uid = study;
    for (int i = 0; i < 3; ++i) {
      const std::string payload(3000, static_cast<char>('a' + i));
      TS_RETURN_IF_ERROR(writer.Begin(std::to_string(i), payload.size()));
      TS_RETURN_IF_ERROR(writer.Append(payload));
      TS_ASSIGN_OR_RETURN(const SpoolRecord record, writer.End());
      StoredInstance& instance = acknowledgement.instances.emplace_back();
      instance.sop_uid = study + "." + std::to_string(i);
      instance.sha256 = record.sha256;
      instance.submission_id = id;
      instance.offset = record.offset;
      instance.length = record.length;
    }
    TS_RETURN_IF_ERROR(writer.Sync());
    acknowledgement.models = {Model("lung"), Model("liver")};
    TS_ASSIGN_OR_RETURN(const v1::SubmissionReceipt receipt, store.Acknowledge(acknowledgement));
    Say(fd, "acknowledged " + id + " " + study + " " + receipt.run_ids(0) + " " + receipt.run_ids(1));
    const std::string& run = receipt.run_ids(0);
    TS_RETURN_IF_ERROR(store.SetRunInput(run, "digest").status());
    TS_RETURN_IF_ERROR(store.MarkRunning(run));
    ResultBlob blob;
    blob.zstd = "label map of " + run;
    TS_RETURN_IF_ERROR(store.CommitResult(Result(run, v1::FLAG_STATE_NO_FINDING), blob));
    Say(fd, "done " + run);
    return absl::OkStatus();
  }

  // Everything that was said is there, whole and once.
  void Check(const std::string& said) {
    auto store = OpenSqliteStore(Data());
    ASSERT_TRUE(store.ok()) << store.status();
    auto spool = Spool::Open(SpoolFolder());
    ASSERT_TRUE(spool.ok());
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string word;
      words >> word;
      if (word == "done") {
        std::string run;
        words >> run;
        const auto row = (*store)->GetRun(run);
        ASSERT_TRUE(row.ok()) << row.status();
        ASSERT_EQ(row->run.state(), v1::RUN_STATE_DONE);
        const auto blob = (*store)->GetLabelMap(run);
        ASSERT_TRUE(blob.ok()) << blob.status();
        ASSERT_EQ(blob->zstd, "label map of " + run);
        done_.insert(run);
      } else if (word == "acknowledged") {
        std::string submission;
        std::string study;
        std::string runs[2];
        words >> submission >> study >> runs[0] >> runs[1];
        ++acknowledged_;
        const auto row = (*store)->GetSubmission(submission);
        ASSERT_TRUE(row.ok()) << row.status();
        ASSERT_TRUE(row->acknowledged);
        const auto stored_runs = (*store)->RunsOfStudy(study);
        ASSERT_TRUE(stored_runs.ok());
        ASSERT_EQ(stored_runs->size(), 2u);
        std::set<std::string> ids;
        for (const StoredRun& run : *stored_runs) {
          ids.insert(run.run.run_id());
          ASSERT_EQ(run.generation, 1u);
        }
        ASSERT_EQ(ids, std::set<std::string>({runs[0], runs[1]}));
        const auto records = spool->Scan(submission);
        ASSERT_TRUE(records.ok()) << records.status();
        const auto instances = (*store)->Instances(study);
        ASSERT_TRUE(instances.ok());
        ASSERT_EQ(instances->size(), 3u);
        ASSERT_EQ(records->size(), 3u);
        for (std::size_t i = 0; i < 3; ++i) {
          ASSERT_EQ((*instances)[i].sha256, (*records)[i].sha256);
          ASSERT_EQ((*instances)[i].offset, (*records)[i].offset);
        }
      }
    }
    // What was not acknowledged can be resumed: every upload has its row, and its file takes a writer.
    const auto known = (*store)->SubmissionIds();
    ASSERT_TRUE(known.ok());
    const auto files = spool->List();
    ASSERT_TRUE(files.ok());
    for (const std::string& id : *files) {
      ASSERT_THAT(*known, ::testing::Contains(id));
      if ((*store)->GetSubmission(id)->acknowledged) continue;
      ASSERT_TRUE(spool->OpenWriter(id).ok());
      ASSERT_TRUE(spool->Scan(id).ok());
    }
    // Each run has one line and one change at most, and every finished run has exactly one.
    std::map<std::string, int> changes;
    std::string cursor;
    while (true) {
      const auto page = (*store)->ListChanges(cursor, 1000);
      ASSERT_TRUE(page.ok());
      if (page->changes.empty()) break;
      for (const v1::FlagChange& change : page->changes) ++changes[change.flag().run_id()];
      cursor = page->cursor;
    }
    for (const auto& [run, count] : changes) ASSERT_EQ(count, 1) << run;
    for (const std::string& run : done_) ASSERT_TRUE(changes.contains(run));
  }

  void CheckIntegrity() {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((Data() + "/tomoserve.db").c_str(), &database), SQLITE_OK);
    for (const auto& [pragma, answer] :
         {std::pair<std::string, std::string>("integrity_check", "ok"), {"foreign_key_check", ""}}) {
      std::string said;
      const auto read = [](void* text, int, char** values, char**) {
        *static_cast<std::string*>(text) += values[0];
        return 0;
      };
      ASSERT_EQ(sqlite3_exec(database, ("PRAGMA " + pragma).c_str(), read, &said, nullptr), SQLITE_OK);
      ASSERT_EQ(said, answer);
    }
    sqlite3_close(database);
  }

  // Submits studies until the disk is full, and a few times more; then gives room back and goes on. Says what
  // OneStudy says, "full" for each typed refusal, "again" at the end, else "wrong" and why.
  template <typename GiveBack>
  static void FillDisk(JobStore& store, const Spool& spool, int fd, GiveBack give_back) {
    int refused = 0;
    for (int i = 0; i < 5000 && refused < 3; ++i) {
      const absl::Status status = OneStudy(store, spool, "1." + std::to_string(i), fd);
      if (status.ok()) continue;
      if (Reason(status) != "DISK_FULL" || status.code() != absl::StatusCode::kResourceExhausted) {
        Say(fd, "wrong " + Reason(status) + " " + base::ValueOf(status));
        return;
      }
      ++refused;
      Say(fd, "full");
    }
    give_back();
    for (int i = 0; i < 3; ++i) {
      const absl::Status status = OneStudy(store, spool, "2." + std::to_string(i), fd);
      if (!status.ok()) {
        Say(fd, "wrong " + Reason(status) + " " + base::ValueOf(status) + " with room again");
        return;
      }
    }
    Say(fd, "again");
  }

  void CheckFilled(const std::string& said) {
    EXPECT_EQ(said.find("wrong"), std::string::npos) << said;
    EXPECT_NE(said.find("full"), std::string::npos) << said;
    EXPECT_NE(said.find("again"), std::string::npos) << said;
    Check(said);
    CheckIntegrity();
    EXPECT_GT(acknowledged_, 3);
  }

  TemporaryFolder folder_;
  std::string data_;
  int acknowledged_ = 0;
  std::set<std::string> done_;
};

TEST_F(CrashTest, NothingAcknowledgedIsLostOrDoubledByKillMinus9) {
  // At least so many rounds, and on a slow disk more until enough was acknowledged to say anything.
  constexpr int kRounds = 30;
  constexpr int kAcknowledged = 60;
  std::mt19937 random(20261124);
  std::uniform_int_distribution<int> wait_us(0, 150000);
  std::string said;
  const auto acknowledged = [&] {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = said.find("acknowledged", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  for (int round = 0; round < kRounds || (acknowledged() < kAcknowledged && round < 10 * kRounds); ++round) {
    const Kill kill{.after = std::chrono::microseconds(wait_us(random)), .from_start = round % 5 == 0};
    said += InChild(kill, [&](int fd) {
      auto store = OpenSqliteStore(Data());
      auto spool = Spool::Open(SpoolFolder());
      if (!store.ok() || !spool.ok()) {
        Say(fd, "refused");
        ::_exit(1);
      }
      Say(fd, "open");
      for (int i = 0;; ++i) {
        const std::string study = "1." + std::to_string(round) + "." + std::to_string(i);
        if (!OneStudy(**store, *spool, study, fd).ok()) {
          Say(fd, "refused");
          ::_exit(1);
        }
      }
    });
    ASSERT_EQ(said.find("refused"), std::string::npos) << said;
    CheckIntegrity();
  }
  Check(said);
  EXPECT_GE(acknowledged_, kAcknowledged) << "too few acknowledgements to say anything";
  RecordProperty("acknowledged", acknowledged_);
}

TEST_F(CrashTest, FileSizeLimitNeverAcknowledgesAndIsTyped) {
  const std::string said = InChild(std::nullopt, [&](int fd) {
    ::signal(SIGXFSZ, SIG_IGN);
    auto store = OpenSqliteStore(Data());
    auto spool = Spool::Open(SpoolFolder());
    if (!store.ok() || !spool.ok()) ::_exit(1);
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 600 * 1024;  // the write-ahead log reaches it first
    ::setrlimit(RLIMIT_FSIZE, &limit);
    FillDisk(**store, *spool, fd, [&] {
      limit.rlim_cur = limit.rlim_max;
      ::setrlimit(RLIMIT_FSIZE, &limit);
    });
  });
  CheckFilled(said);
}

TEST_F(CrashTest, FullDiskNeverAcknowledgesAndIsTyped) {
  // A real ENOSPC: a small tmpfs in a mount namespace of the child's own. It goes with the child, so that the
  // child copies it at the end.
  const std::string copy = folder_.path() + "/copy";
  const std::string said = InChild(std::nullopt, [&](int fd) {
    std::filesystem::create_directories(Data());
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", Data().c_str(), "tmpfs", 0, "size=4m") != 0) {
      Say(fd, "unmountable");
      ::_exit(0);
    }
    {
      auto store = OpenSqliteStore(Data());
      auto spool = Spool::Open(SpoolFolder());
      if (!store.ok() || !spool.ok()) ::_exit(1);
      std::ofstream(Data() + "/ballast") << std::string(1 << 20, 'x');
      FillDisk(**store, *spool, fd, [&] { std::filesystem::remove(Data() + "/ballast"); });
    }
    std::filesystem::copy(Data(), copy, std::filesystem::copy_options::recursive);
  });
  if (said.find("unmountable") != std::string::npos) GTEST_SKIP() << "a tmpfs cannot be mounted here";
  data_ = copy;
  CheckFilled(said);
}

}  // namespace
}  // namespace tomoserve::store
