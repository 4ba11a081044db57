// Generations: which instances make one, which are held, what the worklist sees of them.
#include <gmock/gmock.h>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class GenerationTest : public StoreTest {
 protected:
  static constexpr std::int64_t kMinuteUs = 60 * 1000000;
  // A generation with an input of its own, made by instances that came late.
  std::string Generation(int number) {
    const std::string n = std::to_string(number);
    const std::string id = Submit("1.2", {"1.2." + n}, {Model("lung")}).run_ids(0);
    Start(id, "input " + n);
    Finish(id, v1::FLAG_STATE_NO_FINDING);
    now_us_ += 10 * kMinuteUs;
    return id;
  }
};

TEST_F(GenerationTest, LateInstancesMakeANewGenerationThatSupersedes) {
  const std::string first = OneRun("1.2");
  Start(first, "old");
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);

  const std::string second = Submit("1.2", {"1.2.1", "1.2.2"}, {Model("lung")}).run_ids(0);
  EXPECT_NE(second, first);
  EXPECT_EQ(Run(second).generation, 2u);
  EXPECT_EQ(CurrentRun("1.2"), second);
  EXPECT_THAT(FlagRuns(), ElementsAre(first));  // the old answer stands until there is a new one
  Start(second, "new");
  Finish(second, v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(FlagRuns(), ElementsAre(second));
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first, "CREATED " + second, "SUPERSEDED " + first));
  EXPECT_EQ(Run(first).run.flag().level(), v1::FLAG_LEVEL_URGENT);  // kept
}

TEST_F(GenerationTest, LateInstancesRenewRunsOfOtherSubmittersToo) {
  const std::string lung = OneRun("1.2");
  Finish(lung, v1::FLAG_STATE_NO_FINDING);
  const auto late = Submit("1.2", {"1.2.2"}, {Model("liver")});
  EXPECT_EQ(late.run_ids_size(), 1);
  const auto runs = store_->RunsOfStudy("1.2");
  ASSERT_EQ(runs->size(), 2u);
  EXPECT_EQ((*runs)[1].run.model(), "lung");
  EXPECT_EQ((*runs)[1].generation, 2u);
  EXPECT_EQ((*runs)[1].run.state(), v1::RUN_STATE_QUEUED);
}

TEST_F(GenerationTest, RefusedInstancesAreKeptAndMayBeNews) {
  const auto refusing = [&](const std::string& study, const std::string& code, bool news) {
    Acknowledgement acknowledgement;
    acknowledgement.submission_id = Begin();
    acknowledgement.study.study_uid = study;
    acknowledgement.instances = InstancesOf(acknowledgement.submission_id, {study + ".1"});
    acknowledgement.models = {Model("lung")};
    v1::InstanceStatus& refused = *acknowledgement.receipt.add_refused();
    refused.mutable_reason()->set_code(code);
    refused.set_series_instance_uid("1.2.3");
    acknowledgement.refusals_are_news = news;
    const auto receipt = store_->Acknowledge(acknowledgement);
    EXPECT_TRUE(receipt.ok()) << receipt.status();
    return receipt.ok() ? receipt->run_ids(0) : "";
  };
  const std::string first = OneRun("1.2");
  Start(first, "whole");
  Finish(first, v1::FLAG_STATE_NO_FINDING);
  EXPECT_TRUE(store_->Refused("1.2")->empty());
  EXPECT_EQ(Reason(store_->Refused("1.9")), "UNKNOWN_STUDY");
  EXPECT_EQ(refusing("1.2", "NOT_DICOM", false), first);
  const std::string second = refusing("1.2", "TRUNCATED", true);
  EXPECT_NE(second, first);
  EXPECT_EQ(Run(second).generation, 2u);
  refusing("1.5", "EMPTY_FILE", true);  // of another study
  std::vector<std::string> refused;
  const auto kept = store_->Refused("1.2");
  ASSERT_TRUE(kept.ok()) << kept.status();
  for (const v1::InstanceStatus& status : *kept) {
    refused.push_back(status.reason().code() + " " + status.series_instance_uid());
  }
  EXPECT_THAT(refused, ElementsAre("NOT_DICOM 1.2.3", "TRUNCATED 1.2.3"));
}

TEST_F(GenerationTest, LateInstancesDoNotRenewWhatNobodyWants) {
  const auto first = Submit("1.2", {"1.2.1"}, {Model("lung")});
  Finish(first.run_ids(0), v1::FLAG_STATE_NO_FINDING);
  ASSERT_TRUE(store_->CancelSubmission("1.2", first.submission_id()).ok());
  Submit("1.2", {"1.2.2"}, {Model("liver")});
  EXPECT_EQ((*store_->RunsOfStudy("1.2"))[1].run.run_id(), first.run_ids(0));
}

TEST_F(GenerationTest, AnInputThatComesBackIsAGenerationOfItsOwn) {
  const std::string first = OneRun("1.2");
  Start(first, "old");
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_INFO);
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  Start(second, "new");
  Finish(second, v1::FLAG_STATE_NO_FINDING);
  const std::string third = Submit("1.2", {"1.2.3"}, {Model("lung")}).run_ids(0);
  EXPECT_TRUE(store_->SetRunInput(third, "old")->taken_over);
  EXPECT_EQ(Run(third).same_as, "");
  EXPECT_EQ(Run(third).run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_THAT(FlagRuns(), ElementsAre(third));
}

TEST_F(GenerationTest, ACancelledGenerationLeavesTheInputBeforeItTheSame) {
  const std::string first = OneRun("1.2");
  Start(first, "same");
  Finish(first, v1::FLAG_STATE_NO_FINDING);
  const auto second = Submit("1.2", {"1.2.2"}, {Model("lung")});
  ASSERT_TRUE(store_->CancelSubmission("1.2", second.submission_id()).ok());
  ASSERT_TRUE(store_->CancelSubmission("1.2", "").ok());
  const std::string third = Submit("1.2", {"1.2.3"}, {Model("lung")}).run_ids(0);
  EXPECT_TRUE(store_->SetRunInput(third, "same")->taken_over);
  EXPECT_EQ(Run(third).same_as, first);
}

TEST_F(GenerationTest, WhatIsQuarantinedIsNotRunAgainForInstancesThatChangeNothing) {
  const std::string first = OneRun("1.2");
  Start(first, "same");
  EXPECT_TRUE(*store_->RecordDeath(first, true, 1));
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  EXPECT_TRUE(store_->SetRunInput(second, "same")->taken_over);
  EXPECT_EQ(StateOf(second), v1::RUN_STATE_QUARANTINED);
  EXPECT_EQ(CurrentRun("1.2"), first);
}

TEST_F(GenerationTest, MoreThanThreeInAnHourAreHeldUntilTheHourIsOver) {
  for (int n = 1; n <= 3; ++n) Generation(n);  // at 0, 10 and 20 minutes
  const std::string fourth = Submit("1.2", {"1.2.4"}, {Model("lung")}).run_ids(0);
  const auto held = store_->SetRunInput(fourth, "input 4");
  ASSERT_TRUE(held.ok());
  EXPECT_FALSE(held->taken_over);
  EXPECT_NEAR(static_cast<double>(held->held_until_us - now_us_), 30e6 * 60, 1e3)
      << "an hour after the first";
  EXPECT_EQ(StateOf(fourth), v1::RUN_STATE_QUEUED);
  EXPECT_EQ(Reason(store_->MarkRunning(fourth)), "RUN_INPUT_MISSING");
  Reopen();
  now_us_ = held->held_until_us - 100;
  EXPECT_EQ(store_->SetRunInput(fourth, "input 4")->held_until_us, held->held_until_us);
  now_us_ = held->held_until_us;
  Start(fourth, "input 4");
}

TEST_F(GenerationTest, InstancesThatChangeNothingAreNotHeld) {
  for (int n = 1; n <= 3; ++n) Generation(n);
  const std::string same = Submit("1.2", {"1.2.4"}, {Model("lung")}).run_ids(0);
  EXPECT_TRUE(store_->SetRunInput(same, "input 3")->taken_over);
}

TEST_F(GenerationTest, RerunsThatAreAskedForAreNeitherHeldNorCounted) {
  v1::SubmissionHeader forced;
  forced.set_force_rerun(true);
  for (int n = 1; n <= 3; ++n) Generation(n);
  const std::string held = Submit("1.2", {"1.2.4"}, {Model("lung")}).run_ids(0);
  ASSERT_NE(store_->SetRunInput(held, "input 4")->held_until_us, 0);
  // The wish to run it again lets the held one go.
  EXPECT_EQ(Submit("1.2", {}, {Model("lung")}, forced).run_ids(0), held);
  Start(held, "input 4");
  Finish(held, v1::FLAG_STATE_NO_FINDING);
  now_us_ += 41 * kMinuteUs;  // the first one is more than an hour old
  Generation(5);
}

TEST_F(GenerationTest, OtherModelsAndStudiesHaveTheirOwnCount) {
  for (int n = 1; n <= 3; ++n) Generation(n);
  Start(Submit("1.2", {}, {Model("liver")}).run_ids(0), "input");
  Start(OneRun("1.3"), "input");
}

TEST_F(GenerationTest, AStaleStudyIsLookedAtOnceItIsAskedFor) {
  WantedModel unsolicited = Model("lung");
  unsolicited.solicited = false;
  const std::string first = Submit("1.2", {"1.2.1"}, {unsolicited}).run_ids(0);
  EXPECT_FALSE(Run(first).solicited);
  SetInput(first, "stale");
  v1::Run stale = Result(first, v1::FLAG_STATE_NOT_APPLICABLE);
  stale.mutable_flag()->add_reasons()->set_code("STALE_STUDY");
  ASSERT_EQ(store_->CommitResult(stale, std::nullopt), absl::OkStatus());
  EXPECT_EQ(Submit("1.2", {}, {unsolicited}).run_ids(0), first);
  const std::string second = Submit("1.2", {}, {Model("lung")}).run_ids(0);
  EXPECT_NE(second, first);
  EXPECT_TRUE(Run(second).solicited);
  Start(second, "digest");
  Finish(second, v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(FlagRuns(), ElementsAre(second));
  // The wish stands for what comes late, until it is withdrawn.
  const std::string late = Submit("1.2", {"1.2.2"}, {unsolicited}).run_ids(0);
  EXPECT_TRUE(Run(late).solicited);
}

TEST_F(GenerationTest, APriorIsNeverListed) {
  v1::SubmissionHeader prior;
  prior.set_role(v1::STUDY_ROLE_PRIOR);
  const std::string first = Submit("1.2", {"1.2.1"}, {Model("lung")}, prior).run_ids(0);
  EXPECT_FALSE(Run(first).listed);
  Start(first, "old");
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_CRITICAL);
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}, prior).run_ids(0);
  Start(second, "new");
  Finish(second, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_CRITICAL);
  EXPECT_THAT(FlagRuns(), IsEmpty());
  EXPECT_THAT(Feed(), IsEmpty());
}

TEST_F(GenerationTest, LateInstancesClearTheInputOfAQueuedRun) {
  const std::string id = OneRun("1.2");
  SetInput(id, "old");
  EXPECT_EQ(Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0), id);
  EXPECT_EQ(Reason(store_->MarkRunning(id)), "RUN_INPUT_MISSING");
  SetInput(id, "again");
  Submit("1.2", {"1.2.3"}, {Model("liver")});  // somebody else's instances
  EXPECT_EQ(Run(id).input_digest, "");
}

TEST_F(GenerationTest, LateInstancesDuringARunWaitForTheNextGeneration) {
  const std::string first = OneRun("1.2");
  Start(first, "old");
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  EXPECT_NE(second, first);
  EXPECT_EQ(StateOf(first), v1::RUN_STATE_RUNNING);
  // The newer one is faster: the older one's late answer makes no line.
  Start(second, "new");
  Finish(second, v1::FLAG_STATE_NO_FINDING);
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  EXPECT_THAT(FlagRuns(), ElementsAre(second));
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + second));
}

TEST_F(GenerationTest, FailedGenerationDoesNotHideTheFlagBeforeIt) {
  const std::string first = OneRun("1.2");
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_CRITICAL);
  const std::string second = Submit("1.2", {"1.2.2"}, {Model("lung")}).run_ids(0);
  v1::Reason reason;
  reason.set_code("OUT_OF_MEMORY");
  ASSERT_EQ(store_->CommitFailure(second, reason), absl::OkStatus());
  EXPECT_THAT(FlagRuns(), ElementsAre(first, second));
}

TEST_F(GenerationTest, CancelledGenerationDoesNotHideTheRunBeforeIt) {
  const std::string first = OneRun("1.2");
  Finish(first, v1::FLAG_STATE_NO_FINDING);
  Submit("1.2", {"1.2.2"}, {Model("lung")});
  ASSERT_EQ(store_->CancelSubmission("1.2", "")->size(), 1u);
  EXPECT_EQ(CurrentRun("1.2"), first);
}

}  // namespace
}  // namespace tomoserve::store
