// Runs: states, take-over, blame, results.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RunTest : public StoreTest {
 protected:
  std::vector<std::string> ResultFiles() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/results")) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
};

ResultBlob LabelMap() {
  ResultBlob blob;
  blob.label_map.set_bytes_per_voxel(1);
  blob.label_map.set_time_points(1);
  blob.zstd = std::string("compressed\0bytes", 16);
  blob.raw_bytes = 1000;
  blob.raw_sha256 = base::Sha256Hex("raw");
  return blob;
}

TEST_F(RunTest, GoesFromQueuedToDone) {
  const std::string id = OneRun("1.2");
  EXPECT_EQ(Reason(store_->MarkRunning(id)), "RUN_INPUT_MISSING");
  Start(id, "digest");
  EXPECT_EQ(StateOf(id), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(Run(id).input_digest, "digest");
  EXPECT_EQ(Reason(store_->SetRunInput(id, "other")), "RUN_RUNNING");

  v1::Run result = Result(id, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  result.mutable_provenance()->set_build("build");
  result.add_timings()->set_stage("forward");
  ASSERT_EQ(store_->CommitResult(result, std::nullopt), absl::OkStatus());
  Reopen();
  const StoredRun run = Run(id);
  EXPECT_EQ(run.run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(run.run.model(), "lung");
  EXPECT_EQ(run.run.version(), "1");
  EXPECT_EQ(run.run.flag().level(), v1::FLAG_LEVEL_URGENT);
  EXPECT_EQ(run.run.findings_size(), 2);
  EXPECT_EQ(run.run.provenance().build(), "build");
  EXPECT_EQ(run.run.timings(0).stage(), "forward");
  EXPECT_TRUE(run.run.has_finished_at());
  EXPECT_THAT(*store_->OpenRuns(), IsEmpty());
}

TEST_F(RunTest, FinalRunsNeverChange) {
  const std::string done = OneRun("1.2");
  Finish(done, v1::FLAG_STATE_NO_FINDING);
  const std::string failed = OneRun("1.3");
  v1::Reason reason;
  reason.set_code("OUT_OF_MEMORY");
  ASSERT_EQ(store_->CommitFailure(failed, reason), absl::OkStatus());
  const std::string cancelled = OneRun("1.4");
  ASSERT_TRUE(store_->CancelSubmission("1.4", "").ok());
  for (const std::string& id : {done, failed, cancelled}) {
    const std::string before = Run(id).run.SerializeAsString();
    for (const std::string& answer :
         {Reason(store_->CommitResult(Result(id, v1::FLAG_STATE_NO_FINDING), LabelMap())),
          Reason(store_->CommitFailure(id, reason)), Reason(store_->MarkRunning(id)),
          Reason(store_->Requeue(id)), Reason(store_->SetRunInput(id, "digest")),
          Reason(store_->RecordDeath(id, true, 1))}) {
      EXPECT_EQ(answer, "RUN_FINAL");
    }
    EXPECT_EQ(Run(id).run.SerializeAsString(), before);
  }
  EXPECT_EQ(Feed().size(), 2u);
  EXPECT_THAT(ResultFiles(), IsEmpty());
}

TEST_F(RunTest, UnknownRunsAreTyped) {
  v1::Reason reason;
  reason.set_code("X");
  for (const std::string& answer :
       {Reason(store_->GetRun("none")),
        Reason(store_->CommitResult(Result("none", v1::FLAG_STATE_NO_FINDING), {})),
        Reason(store_->CommitFailure("none", reason)), Reason(store_->MarkRunning("none")),
        Reason(store_->Requeue("none")), Reason(store_->SetRunInput("none", "d")),
        Reason(store_->RecordDeath("none", true, 1)), Reason(store_->GetLabelMap("none"))}) {
    EXPECT_EQ(answer, "UNKNOWN_RUN");
  }
}

TEST_F(RunTest, ResultsThatSayTooLittleAreRefused) {
  const std::string id = OneRun("1.2");
  EXPECT_EQ(Reason(store_->CommitResult(Result(id, v1::FLAG_STATE_UNSPECIFIED), {})), "FLAG_MISSING");
  v1::Run uncovered = Result(id, v1::FLAG_STATE_NO_FINDING);
  for (const auto target :
       {v1::COVERAGE_TARGET_PARTIAL, v1::COVERAGE_TARGET_UNKNOWN, v1::COVERAGE_TARGET_UNSPECIFIED}) {
    uncovered.mutable_coverage()->set_target(target);
    EXPECT_EQ(Reason(store_->CommitResult(uncovered, {})), "NO_FINDING_UNCOVERED");
  }
  EXPECT_EQ(Reason(store_->CommitFailure(id, {})), "REASON_MISSING");
  EXPECT_EQ(Reason(store_->SetRunInput(id, "")), "INPUT_DIGEST_MISSING");
  EXPECT_EQ(StateOf(id), v1::RUN_STATE_QUEUED);
}

TEST_F(RunTest, OpenRunsComeMostUrgentFirst) {
  const auto submit = [&](const std::string& uid, v1::Priority priority, std::int64_t deadline) {
    v1::SubmissionHeader header;
    header.set_priority(priority);
    if (deadline != 0) header.mutable_deadline()->set_seconds(deadline);
    return Submit(uid, {uid + ".1"}, {Model("lung")}, header).run_ids(0);
  };
  const std::string old_routine = submit("1.1", v1::PRIORITY_ROUTINE, 0);
  const std::string late = submit("1.2", v1::PRIORITY_ROUTINE, 2000);
  const std::string soon = submit("1.3", v1::PRIORITY_ROUTINE, 1000);
  const std::string stat = submit("1.4", v1::PRIORITY_STAT, 0);
  const std::string urgent = submit("1.5", v1::PRIORITY_URGENT, 0);
  const std::string young_routine = submit("1.6", v1::PRIORITY_UNSPECIFIED, 0);
  Start(stat, "digest");
  std::vector<std::string> order;
  const auto runs = store_->OpenRuns();
  ASSERT_TRUE(runs.ok());
  for (const StoredRun& run : *runs) order.push_back(run.run.run_id());
  EXPECT_THAT(order, ElementsAre(stat, urgent, soon, late, old_routine, young_routine));
  EXPECT_EQ((*runs)[2].deadline_us, 1000000000);
}

TEST_F(RunTest, ALaterSubmissionBringsADeadlineNearerButNotTheOneThatUpdateStudySet) {
  const auto submit = [&](std::int64_t deadline) {
    v1::SubmissionHeader header;
    header.mutable_deadline()->set_seconds(deadline);
    Submit("1.1", {"1.1.1"}, {Model("lung")}, header);
    const auto runs = store_->OpenRuns();
    return runs.ok() && runs->size() == 1 ? runs->front().deadline_us / 1000000 : -1;
  };
  EXPECT_EQ(submit(3000), 3000);
  EXPECT_EQ(submit(2000), 2000);
  EXPECT_EQ(submit(2500), 2000);
  ASSERT_TRUE(store_->SetUrgency("1.1", v1::PRIORITY_UNSPECIFIED, 9000 * std::int64_t{1000000}).ok());
  EXPECT_EQ(submit(2200), 9000) << "undid UpdateStudy";
}

TEST_F(RunTest, DeathsAreBlamedOnlyOnRunsThatWereAlone) {
  const std::string id = OneRun("1.2");
  Start(id, "digest");
  EXPECT_FALSE(*store_->RecordDeath(id, false, 3));
  EXPECT_EQ(StateOf(id), v1::RUN_STATE_QUEUED);
  EXPECT_TRUE(Run(id).suspect);
  EXPECT_EQ(Run(id).strikes, 0u);
  for (std::uint32_t strike = 1; strike < 3; ++strike) {
    ASSERT_EQ(store_->MarkRunning(id), absl::OkStatus());
    EXPECT_FALSE(*store_->RecordDeath(id, true, 3));
    EXPECT_EQ(Run(id).strikes, strike);
  }
  Reopen();
  ASSERT_EQ(store_->MarkRunning(id), absl::OkStatus());
  EXPECT_TRUE(*store_->RecordDeath(id, true, 3));
  EXPECT_EQ(StateOf(id), v1::RUN_STATE_QUARANTINED);
  EXPECT_EQ(Run(id).run.failure().code(), "QUARANTINED");
  EXPECT_EQ(Run(id).run.failure().value(), "3");
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + id));
  // Asked for again without anything new it stays aside.
  EXPECT_EQ(OneRun("1.2"), id);
}

TEST_F(RunTest, RequeueIsWithoutBlame) {
  const std::string id = OneRun("1.2");
  Start(id, "digest");
  ASSERT_EQ(store_->Requeue(id), absl::OkStatus());
  EXPECT_EQ(StateOf(id), v1::RUN_STATE_QUEUED);
  EXPECT_FALSE(Run(id).suspect);
  EXPECT_EQ(Run(id).strikes, 0u);
  EXPECT_EQ(Run(id).input_digest, "digest");
}

TEST_F(RunTest, FinishedRunIsFoundAgainUnlessForced) {
  const std::string first = OneRun("1.2");
  Start(first, "digest");
  Finish(first, v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(OneRun("1.2"), first);
  EXPECT_EQ(Feed().size(), 1u);

  v1::SubmissionHeader forced;
  forced.set_force_rerun(true);
  const std::string second = Submit("1.2", {}, {Model("lung")}, forced).run_ids(0);
  EXPECT_NE(second, first);
  EXPECT_EQ(Run(second).generation, 2u);
  Start(second, "digest");  // no take-over
  Finish(second, v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first, "CREATED " + second, "SUPERSEDED " + first));
  EXPECT_THAT(FlagRuns(), ElementsAre(second));
}

TEST_F(RunTest, FailedRunIsTriedAgain) {
  const std::string first = OneRun("1.2");
  v1::Reason reason;
  reason.set_code("OUT_OF_MEMORY");
  ASSERT_EQ(store_->CommitFailure(first, reason), absl::OkStatus());
  const std::string second = OneRun("1.2");
  EXPECT_NE(second, first);
  EXPECT_EQ(CurrentRun("1.2"), second);
  // A second failure takes the first one's line, an answer takes both.
  ASSERT_EQ(store_->CommitFailure(second, reason), absl::OkStatus());
  EXPECT_THAT(FlagRuns(), ElementsAre(second));
  const std::string third = OneRun("1.2");
  Finish(third, v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(FlagRuns(), ElementsAre(third));
}

TEST_F(RunTest, UnchangedInputIsAnsweredByTheEarlierRunAndIsNoGeneration) {
  const std::string first = OneRun("1.2");
  Start(first, "same");
  v1::Run result = Result(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_INFO);
  result.mutable_provenance()->set_generation(1);
  ASSERT_EQ(store_->CommitResult(result, LabelMap()), absl::OkStatus());
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  const auto decision = store_->SetRunInput(second, "same");
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_TRUE(decision->taken_over);
  EXPECT_EQ(StateOf(second), v1::RUN_STATE_DONE);
  EXPECT_EQ(Run(second).run.run_id(), second);
  EXPECT_EQ(Run(second).run.flag().level(), v1::FLAG_LEVEL_INFO);
  EXPECT_EQ(Run(second).generation, 1u);
  EXPECT_EQ(Run(second).same_as, first);
  // The worklist and the study know one run, and nothing was superseded.
  EXPECT_THAT(FlagRuns(), ElementsAre(first));
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first));
  EXPECT_EQ(CurrentRun("1.2"), first);
  const std::string third = Submit("1.2", {"1.2.3"}, {Model("lung")}).run_ids(0);
  EXPECT_EQ(Run(third).generation, 2u);
  // Both ids lead to the one file, also after a restart.
  Reopen();
  EXPECT_THAT(ResultFiles(), ElementsAre(first + ".zst"));
  for (const std::string& id : {first, second}) {
    const auto blob = store_->GetLabelMap(id);
    ASSERT_TRUE(blob.ok()) << blob.status();
    EXPECT_EQ(blob->zstd, LabelMap().zstd);
  }
}

TEST_F(RunTest, TakesOverOnlyTheSameModelAndRecipe) {
  const auto receipt = Submit("1.2", {"1.2.1"}, {Model("lung"), Model("liver")});
  Start(receipt.run_ids(0), "same");
  Finish(receipt.run_ids(0), v1::FLAG_STATE_NO_FINDING);
  SetInput(receipt.run_ids(1), "same");
  WantedModel other_recipe = Model("lung");
  other_recipe.recipe_digest = "other";
  SetInput(Submit("1.2", {}, {other_recipe}).run_ids(0), "same");
}

TEST_F(RunTest, LabelMapsComeBackAndDamageIsTyped) {
  const std::string id = OneRun("1.2");
  EXPECT_EQ(Reason(store_->GetLabelMap(id)), "NO_LABEL_MAP");
  ASSERT_EQ(store_->CommitResult(Result(id, v1::FLAG_STATE_NO_FINDING), LabelMap()), absl::OkStatus());
  Reopen();
  const auto blob = store_->GetLabelMap(id);
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->zstd, LabelMap().zstd);
  EXPECT_EQ(blob->raw_bytes, 1000u);
  EXPECT_EQ(blob->raw_sha256, LabelMap().raw_sha256);
  EXPECT_EQ(blob->label_map.bytes_per_voxel(), 1u);
  EXPECT_EQ(Run(id).run.label_map().bytes_per_voxel(), 1u);

  const std::string path = folder_.path() + "/results/" + id + ".zst";
  std::ofstream(path) << "damaged";
  EXPECT_EQ(Reason(store_->GetLabelMap(id)), "RESULT_CORRUPT");
  std::filesystem::remove(path);
  EXPECT_EQ(store_->GetLabelMap(id).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RunTest, ResultFilesWithoutACommitAreRemovedAtTheStart) {
  const std::string id = OneRun("1.2");
  ASSERT_EQ(store_->CommitResult(Result(id, v1::FLAG_STATE_NO_FINDING), LabelMap()), absl::OkStatus());
  std::ofstream(folder_.path() + "/results/r0.zst") << "never committed";
  std::ofstream(folder_.path() + "/results/r1.zst.tmp") << "never renamed";
  Reopen();
  EXPECT_THAT(ResultFiles(), ElementsAre(id + ".zst"));
}

TEST_F(RunTest, ActivationsKeepTheirLastRow) {
  EXPECT_EQ(*store_->GetActivation("lung", "1"), std::nullopt);
  v1::ActivationRecord record;
  record.set_stage(v1::ACTIVATION_STAGE_ACTIVE);
  record.set_by("configuration");
  ASSERT_EQ(store_->SetActivation("lung", "1", record), absl::OkStatus());
  const auto first = *store_->GetActivation("lung", "1");
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->has_at());
  ASSERT_EQ(store_->SetActivation("lung", "1", record), absl::OkStatus());
  EXPECT_EQ((*store_->GetActivation("lung", "1"))->SerializeAsString(), first->SerializeAsString());
  record.set_stage(v1::ACTIVATION_STAGE_RETIRED);
  record.set_by("operator");
  ASSERT_EQ(store_->SetActivation("lung", "1", record), absl::OkStatus());
  Reopen();
  EXPECT_EQ((*store_->GetActivation("lung", "1"))->stage(), v1::ACTIVATION_STAGE_RETIRED);
  EXPECT_EQ(*store_->GetActivation("lung", "2"), std::nullopt);
  const auto rows = *store_->ListActivations("lung", "1");
  ASSERT_THAT(rows, ::testing::SizeIs(2));
  EXPECT_EQ(rows[0].by(), "configuration");
  EXPECT_EQ(rows[1].by(), "operator");
  EXPECT_THAT(*store_->ListActivations("lung", "2"), ::testing::IsEmpty());
  EXPECT_EQ(Reason(store_->SetActivation("lung", "1", {})), "ACTIVATION_INVALID");
}

}  // namespace
}  // namespace tomoserve::store
