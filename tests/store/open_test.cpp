// Opening a data folder: lock, integrity, migrations; and many threads on one store.
#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using OpenTest = StoreTest;

TEST_F(OpenTest, SecondOpenerIsRefused) {
  const auto second = OpenSqliteStore(folder_.path());
  EXPECT_EQ(Reason(second), "DATA_IN_USE");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  // From another process too.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(Reason(OpenSqliteStore(folder_.path())) == "DATA_IN_USE" ? 0 : 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  store_.reset();
  EXPECT_TRUE(OpenSqliteStore(folder_.path()).ok());
}

TEST_F(OpenTest, FilesAreForTheirOwnerOnly) {
  OneRun("1.2");
  using std::filesystem::perms;
  for (const char* file : {"tomoserve.db", "tomoserve.db-wal", "lock"}) {
    EXPECT_EQ(std::filesystem::status(folder_.path() + "/" + file).permissions(),
              perms::owner_read | perms::owner_write)
        << file;
  }
}

TEST_F(OpenTest, DamagedDatabaseIsRefused) {
  for (int i = 0; i < 50; ++i) OneRun("1." + std::to_string(i));
  store_.reset();
  const std::string path = folder_.path() + "/tomoserve.db";
  ASSERT_FALSE(std::filesystem::exists(path + "-wal"));  // the last close has put everything into the file
  const auto size = std::filesystem::file_size(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (std::uintmax_t page = 4096; page < size; page += 4096) {
      file.seekp(static_cast<std::streamoff>(page));
      file << "damaged!";
    }
  }
  const auto opened = OpenSqliteStore(folder_.path());
  EXPECT_EQ(Reason(opened), "DATABASE_CORRUPT");
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
  std::ofstream(path, std::ios::trunc) << "this is a text and not a database of any kind";
  EXPECT_EQ(Reason(OpenSqliteStore(folder_.path())), "DATABASE_CORRUPT");
}

TEST_F(OpenTest, DatabaseOfANewerServerIsRefused) {
  store_.reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder_.path() + "/tomoserve.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA user_version = 1000", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
  EXPECT_EQ(Reason(OpenSqliteStore(folder_.path())), "DATABASE_NEWER");
}

// A database of schema version 1, with a finished and an open run, goes on where it was.
TEST_F(OpenTest, DatabaseOfTheFirstSchemaIsMigrated) {
  const std::string finished = OneRun("1.2");
  const std::string open = OneRun("1.3");
  Start(finished, "input");
  Finish(finished, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  store_.reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder_.path() + "/tomoserve.db").c_str(), &database), SQLITE_OK);
  // Version 2 has these columns more.
  for (const char* sql : {"ALTER TABLE wants DROP COLUMN solicited", "ALTER TABLE runs DROP COLUMN same_as",
                          "PRAGMA user_version = 1"}) {
    ASSERT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  }
  sqlite3_close(database);

  Reopen();
  ASSERT_NE(store_, nullptr);
  EXPECT_EQ(StateOf(finished), v1::RUN_STATE_DONE);
  EXPECT_EQ(Run(finished).run.findings_size(), 2);
  EXPECT_EQ(FlagRuns(), std::vector<std::string>{finished});
  Start(open, "other");
  Finish(open, v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(StateOf(open), v1::RUN_STATE_DONE);
  // A late instance of a study of then that changes no input.
  const std::string late = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  EXPECT_NE(late, finished);
  EXPECT_TRUE(store_->SetRunInput(late, "input")->taken_over);
  EXPECT_EQ(Run(late).same_as, finished);
}

TEST_F(OpenTest, FolderThatCannotBeMadeIsTyped) {
  std::ofstream(folder_.path() + "/file") << "x";
  EXPECT_EQ(Reason(OpenSqliteStore(folder_.path() + "/file/data")), "DISK_FAILED");
}

TEST_F(OpenTest, ThreadsShareOneStore) {
  constexpr int kThreads = 4;
  constexpr int kStudies = 12;
  std::atomic<int> failures = 0;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kStudies; ++i) {
          // Every study is submitted by two threads.
          const std::string uid = "1." + std::to_string(thread / 2) + "." + std::to_string(i);
          Acknowledgement acknowledgement;
          const auto begun = store_->BeginSubmission({});
          if (!begun.ok()) ++failures;
          acknowledgement.submission_id = begun->submission.submission_id;
          acknowledgement.study.study_uid = uid;
          acknowledgement.instances = InstancesOf(acknowledgement.submission_id, {uid + ".1", uid + ".2"});
          acknowledgement.models = {Model("lung")};
          const auto receipt = store_->Acknowledge(acknowledgement);
          if (!receipt.ok()) ++failures;
          const std::string run = receipt->run_ids(0);
          // One of the two commits; the other is told that the run is final.
          ResultBlob blob;
          blob.zstd = run;
          const absl::Status status = store_->CommitResult(Result(run, v1::FLAG_STATE_NO_FINDING), blob);
          if (!status.ok() && Reason(status) != "RUN_FINAL") ++failures;
          const auto label_map = store_->GetLabelMap(run);
          if (!label_map.ok() || label_map->zstd != run) ++failures;
        }
      });
    }
    threads.emplace_back([&] {
      std::size_t seen = 0;
      std::string cursor;
      for (int i = 0; i < 2000 && seen < kThreads / 2 * kStudies; ++i) {
        const auto page = store_->ListChanges(cursor, 3);
        if (!page.ok() || !store_->ListFlags({}).ok() || !store_->OpenRuns().ok()) ++failures;
        if (!page.ok()) break;
        seen += page->changes.size();
        cursor = page->cursor;
      }
    });
  }
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(Flags().size(), static_cast<std::size_t>(kThreads / 2 * kStudies));
  EXPECT_EQ(Feed().size(), static_cast<std::size_t>(kThreads / 2 * kStudies));
}

}  // namespace
}  // namespace tomoserve::store
