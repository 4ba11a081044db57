// A store in a fresh folder, with a clock that the test moves, and short ways to fill it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::store {

// A folder under the system's temporary one, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "tomoserve_store_XXXXXX").string();
    if (::mkdtemp(path.data()) != nullptr) path_ = path;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    if (!path_.empty()) std::filesystem::remove_all(path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string Reason(const absl::Status& status) { return base::ReasonOf(status); }
template <typename Value>
std::string Reason(const absl::StatusOr<Value>& value) {
  return value.ok() ? "OK" : base::ReasonOf(value.status());
}

inline WantedModel Model(const std::string& name, v1::ActivationStage stage = v1::ACTIVATION_STAGE_ACTIVE) {
  return {.name = name,
          .version = "1",
          .model_digest = name + "-digest",
          .recipe_digest = name + "-recipe",
          .stage = stage};
}

// Instances of a study whose content is named by their UIDs.
inline std::vector<StoredInstance> InstancesOf(const std::string& submission_id,
                                               const std::vector<std::string>& uids) {
  std::vector<StoredInstance> instances;
  for (const std::string& uid : uids) {
    StoredInstance& instance = instances.emplace_back();
    instance.sop_uid = uid;
    instance.sha256 = base::Sha256Hex(uid);
    instance.submission_id = submission_id;
    instance.offset = 32 + 1000 * instances.size();
    instance.length = 900;
    instance.header.set_sop_instance_uid(uid);
    instance.header.set_rows(512);
  }
  return instances;
}

inline v1::Run Result(const std::string& run_id, v1::FlagState state,
                      v1::FlagLevel level = v1::FLAG_LEVEL_UNSPECIFIED) {
  v1::Run run;
  run.set_run_id(run_id);
  run.mutable_flag()->set_state(state);
  run.mutable_flag()->set_level(level);
  run.mutable_coverage()->set_target(v1::COVERAGE_TARGET_COMPLETE);
  if (state == v1::FLAG_STATE_FLAGGED) {
    run.add_findings()->set_score(0.5);
    run.add_findings()->set_score(0.75);
  }
  return run;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen() {
    store_.reset();
    auto store = OpenSqliteStore(folder_.path(), {.now_us = [this] { return now_us_ += 1; }});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  std::string Begin(const v1::SubmissionHeader& header = {}) {
    auto begun = store_->BeginSubmission(header);
    EXPECT_TRUE(begun.ok()) << begun.status();
    return begun.ok() ? begun->submission.submission_id : "";
  }

  absl::StatusOr<v1::SubmissionReceipt> TrySubmit(const std::string& study_uid,
                                                  const std::vector<std::string>& uids,
                                                  const std::vector<WantedModel>& models,
                                                  const v1::SubmissionHeader& header = {}) {
    Acknowledgement acknowledgement;
    acknowledgement.submission_id = Begin(header);
    acknowledgement.study.study_uid = study_uid;
    acknowledgement.study.ref.set_study_instance_uid(study_uid);
    acknowledgement.study.priority = header.priority();
    acknowledgement.study.role = header.role();
    acknowledgement.instances = InstancesOf(acknowledgement.submission_id, uids);
    acknowledgement.models = models;
    acknowledgement.receipt.set_instances_accepted(static_cast<std::uint32_t>(uids.size()));
    return store_->Acknowledge(acknowledgement);
  }

  v1::SubmissionReceipt Submit(const std::string& study_uid, const std::vector<std::string>& uids,
                               const std::vector<WantedModel>& models,
                               const v1::SubmissionHeader& header = {}) {
    auto receipt = TrySubmit(study_uid, uids, models, header);
    EXPECT_TRUE(receipt.ok()) << receipt.status();
    return receipt.ok() ? *receipt : v1::SubmissionReceipt();
  }

  // A study with one instance and one run; the run's id.
  std::string OneRun(const std::string& study_uid, v1::Priority priority = v1::PRIORITY_ROUTINE) {
    v1::SubmissionHeader header;
    header.set_priority(priority);
    const v1::SubmissionReceipt receipt = Submit(study_uid, {study_uid + ".1"}, {Model("lung")}, header);
    return receipt.run_ids_size() == 1 ? receipt.run_ids(0) : "";
  }

  void SetInput(const std::string& run_id, const std::string& digest) {
    const auto decision = store_->SetRunInput(run_id, digest);
    ASSERT_TRUE(decision.ok()) << decision.status();
    ASSERT_FALSE(decision->taken_over);
    ASSERT_EQ(decision->held_until_us, 0);
  }
  void Start(const std::string& run_id, const std::string& digest) {
    SetInput(run_id, digest);
    ASSERT_EQ(store_->MarkRunning(run_id), absl::OkStatus());
  }
  std::string CurrentRun(const std::string& study_uid) {
    const auto runs = store_->RunsOfStudy(study_uid);
    EXPECT_TRUE(runs.ok() && runs->size() == 1);
    return runs->front().run.run_id();
  }
  void Finish(const std::string& run_id, v1::FlagState state,
              v1::FlagLevel level = v1::FLAG_LEVEL_UNSPECIFIED) {
    ASSERT_EQ(store_->CommitResult(Result(run_id, state, level), std::nullopt), absl::OkStatus());
  }

  StoredRun Run(const std::string& run_id) {
    auto run = store_->GetRun(run_id);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *run : StoredRun();
  }
  v1::RunState StateOf(const std::string& run_id) { return Run(run_id).run.state(); }

  std::vector<v1::FlagEntry> Flags() {
    auto page = store_->ListFlags({});
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? page->flags : std::vector<v1::FlagEntry>();
  }
  std::vector<std::string> FlagRuns() {
    std::vector<std::string> ids;
    for (const v1::FlagEntry& flag : Flags()) ids.push_back(flag.run_id());
    return ids;
  }
  // "CREATED r1" and so on.
  std::vector<std::string> Feed(std::string_view cursor = {}) {
    std::vector<std::string> changes;
    auto page = store_->ListChanges(cursor, 1000);
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return changes;
    for (const v1::FlagChange& change : page->changes) {
      changes.push_back(v1::ChangeKind_Name(change.kind()).substr(12) + " " + change.flag().run_id());
    }
    return changes;
  }

  TemporaryFolder folder_;
  std::atomic<std::int64_t> now_us_{1'700'000'000'000'000};
  std::unique_ptr<JobStore> store_;
};

}  // namespace tomoserve::store
