// Studies that grow after their completion: generations, their limit, conflicts, reruns; and studies that are
// old.
#include <chrono>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dispatch/growing_fixture.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class GrowingTest : public StudyInPartsTest {
 protected:
  std::vector<std::string> Notices() {
    std::vector<std::string> codes;
    const v1::Study study = Study();
    for (const v1::Reason& notice : study.notices()) {
      codes.push_back(absl::StrCat(notice.code(), "(", notice.value(), ")"));
    }
    return codes;
  }
  // "CREATED r1" and so on.
  std::vector<std::string> Feed() {
    std::vector<std::string> changes;
    const auto page = dispatcher_->store().ListChanges("", 1000);
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return changes;
    for (const v1::FlagChange& change : page->changes) {
      changes.push_back(v1::ChangeKind_Name(change.kind()).substr(12) + " " + change.flag().run_id());
    }
    return changes;
  }
  // Sends two more slices of the study each time and waits for the run that they make.
  std::string Generation(std::uint32_t number) {
    const auto receipt = MustSubmit(Wanting({"m"}), Part(study_, 2 * number, 2 * number + 2));
    const v1::Run run = WaitForRun(receipt.run_ids(0));
    EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
    return receipt.run_ids(0);
  }
};

TEST_F(GrowingTest, LateInstancesOfAnUnrelatedSeriesMakeNoGeneration) {
  AddModel("m", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m"}), study_.Files());
  const v1::Run before = WaitForRun(first.run_ids(0));
  FakeStudy other = study_;
  other.series_uid = "1.2.3.5";
  other.modality = "MR";
  const int decoded = helpers_.frames_decoded;
  const auto late = MustSubmit(Wanting({"m"}), other.Files());
  // The id of the wish is answered, by the run that is there.
  const v1::Run answer = WaitForRun(late.run_ids(0));
  EXPECT_EQ(answer.findings(0).tracking_uid(), before.findings(0).tracking_uid());
  EXPECT_EQ(answer.provenance().generation(), 1u);
  EXPECT_TRUE(dispatcher_->store().GetLabelMap(late.run_ids(0)).ok());
  ASSERT_THAT(Study().runs(), SizeIs(1));
  EXPECT_EQ(Study().runs(0).run_id(), first.run_ids(0));
  // The study has another modality now; the flag is the same.
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first.run_ids(0), "UPDATED " + first.run_ids(0)));
  EXPECT_EQ(helpers_.frames_decoded, decoded);
}

TEST_F(GrowingTest, OnlyTheRunsWhoseInputChangesGetANewGeneration) {
  AddModel("ct", "ok");
  AddModel("mr", "ok", "MR");
  Start();
  FakeStudy mr = study_;
  mr.series_uid = "1.2.3.5";
  mr.modality = "MR";
  std::vector<std::string> files = Part(study_, 0, 8);
  for (const std::string& file : mr.Files()) files.push_back(file);
  const auto first = MustSubmit(Wanting({"ct", "mr"}), files);
  for (const std::string& run_id : first.run_ids()) WaitForRun(run_id);
  const auto late = MustSubmit(Wanting({"ct", "mr"}), Part(study_, 8, 16));
  for (const std::string& run_id : late.run_ids()) WaitForRun(run_id);
  const v1::Study study = Study();
  ASSERT_THAT(study.runs(), SizeIs(2));
  EXPECT_EQ(study.runs(0).provenance().generation(), 2u);
  EXPECT_EQ(study.runs(0).findings(0).voxels(), 16u);
  EXPECT_EQ(study.runs(1).run_id(), first.run_ids(1));
  EXPECT_THAT(Feed(), Contains("SUPERSEDED " + first.run_ids(0)));
  EXPECT_THAT(Feed(), Not(Contains("SUPERSEDED " + first.run_ids(1))));
}

TEST_F(GrowingTest, LateInstancesReopenAStudyUntilItHasSettledAgain) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader settle = Wanting({"m"});
  settle.set_completion(v1::COMPLETION_SETTLE);
  settle.set_settle_seconds(1);
  const auto first = MustSubmit(Wanting({"m"}), Part(study_, 0, 8));
  WaitForRun(first.run_ids(0));
  EXPECT_EQ(Study().state(), v1::STUDY_STATE_COMPLETE);
  const auto late = MustSubmit(settle, Part(study_, 8, 12));
  EXPECT_EQ(Study().state(), v1::STUDY_STATE_REOPENED);
  EXPECT_EQ(MustSubmit(settle, Part(study_, 12, 16)).run_ids(0), late.run_ids(0))
      << "one generation for both";
  EXPECT_EQ(StateOf(late.run_ids(0)), v1::RUN_STATE_QUEUED);
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first.run_ids(0))) << "the old flag stands until then";
  EXPECT_EQ(WaitForRun(late.run_ids(0)).findings(0).voxels(), 16u);
  EXPECT_EQ(Study().state(), v1::STUDY_STATE_COMPLETE);
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first.run_ids(0), "CREATED " + late.run_ids(0),
                                  "SUPERSEDED " + first.run_ids(0)));
}

TEST_F(GrowingTest, AFourthGenerationWithinAnHourIsHeldUntilAnOperatorAsksForIt) {
  AddModel("m", "ok");
  Start();
  for (std::uint32_t n = 0; n < 3; ++n) Generation(n);
  const auto held = MustSubmit(Wanting({"m"}), Part(study_, 6, 8));
  ASSERT_TRUE(Eventually([&] { return observer_.held == 1; }));
  EXPECT_EQ(StateOf(held.run_ids(0)), v1::RUN_STATE_QUEUED);
  EXPECT_THAT(Notices(), ElementsAre("GENERATIONS_HELD(m 1)"));
  // More instances join it: still one run, one notice, one alert.
  EXPECT_EQ(MustSubmit(Wanting({"m"}), Part(study_, 8, 10)).run_ids(0), held.run_ids(0));
  // A restart does not let it go.
  Stop();
  Start();
  ASSERT_TRUE(Eventually([&] { return observer_.held == 2; }));
  EXPECT_THAT(Notices(), ElementsAre("GENERATIONS_HELD(m 1)"));
  EXPECT_EQ(StateOf(held.run_ids(0)), v1::RUN_STATE_QUEUED);

  v1::RerunStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  const auto rerun = dispatcher_->RerunStudy(request);
  ASSERT_TRUE(rerun.ok()) << rerun.status();
  EXPECT_THAT(rerun->run_ids(), ElementsAre(held.run_ids(0)));
  const v1::Run run = WaitForRun(held.run_ids(0));
  EXPECT_EQ(run.findings(0).voxels(), 10u);
  EXPECT_EQ(run.provenance().generation(), 4u);
  EXPECT_THAT(Notices(), IsEmpty());
}

TEST_F(GrowingTest, WhatIsHeldGoesOnWhenTheTimeHasPassed) {
  AddModel("m", "ok");
  options_.config.set_max_generations_per_hour(1);
  options_.patience.generation_window = std::chrono::milliseconds(5000);
  Start();
  Generation(0);
  const auto late = MustSubmit(Wanting({"m"}), Part(study_, 2, 4));
  ASSERT_TRUE(Eventually([&] { return observer_.held == 1; }));
  EXPECT_EQ(WaitForRun(late.run_ids(0)).findings(0).voxels(), 4u);
  EXPECT_THAT(Notices(), IsEmpty());
  EXPECT_EQ(observer_.held, 1);
}

TEST_F(GrowingTest, AHeldRunCanBeCancelled) {
  AddModel("m", "ok");
  options_.config.set_max_generations_per_hour(1);
  Start();
  const std::string first = Generation(0);
  const auto late = MustSubmit(Wanting({"m"}), Part(study_, 2, 4));
  ASSERT_TRUE(Eventually([&] { return observer_.held == 1; }));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", "").ok());
  EXPECT_EQ(StateOf(late.run_ids(0)), v1::RUN_STATE_CANCELLED);
  EXPECT_THAT(Notices(), IsEmpty());
  EXPECT_EQ(Study().runs(0).run_id(), first);
}

TEST_F(GrowingTest, RerunStudyMakesAnotherGenerationOfTheSameInput) {
  AddModel("m", "ok");
  AddModel("n", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m"}), study_.Files());
  const v1::Run before = WaitForRun(first.run_ids(0));
  v1::RerunStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  const auto rerun = dispatcher_->RerunStudy(request);
  ASSERT_TRUE(rerun.ok()) << rerun.status();
  ASSERT_THAT(rerun->run_ids(), SizeIs(1));
  const v1::Run after = WaitForRun(rerun->run_ids(0));
  EXPECT_EQ(after.provenance().input_digest(), before.provenance().input_digest());
  EXPECT_EQ(after.provenance().generation(), 2u);
  EXPECT_EQ(Study().state(), v1::STUDY_STATE_COMPLETE);
  // A model that has not run there yet.
  request.add_models()->set_name("n");
  const auto other = dispatcher_->RerunStudy(request);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(WaitForRun(other->run_ids(0)).model(), "n");

  request.mutable_models(0)->set_name("none");
  EXPECT_EQ(base::ReasonOf(dispatcher_->RerunStudy(request).status()), "UNKNOWN_MODEL");
  request.set_study_instance_uid("9.9");
  EXPECT_EQ(base::ReasonOf(dispatcher_->RerunStudy(request).status()), "UNKNOWN_STUDY");
}

TEST_F(GrowingTest, AConflictAfterCompletionIsRefusedAndNoted) {
  AddModel("m", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m"}), Part(study_, 0, 8));
  WaitForRun(first.run_ids(0));
  FakeStudy other = study_;
  other.seed = 7;
  // Nothing but conflicts: the submission fails, and the study says why all the same.
  EXPECT_EQ(base::ReasonOf(Submit(Wanting({"m"}), Part(other, 0, 2)).status()), "ALL_REFUSED");
  EXPECT_THAT(Notices(), ElementsAre("DUPLICATE_CONFLICT(1.2.3.4.100)"));
  // Again: nothing new to say.
  EXPECT_FALSE(Submit(Wanting({"m"}), Part(other, 0, 2)).ok());
  EXPECT_THAT(Notices(), SizeIs(1));
  ASSERT_THAT(Study().runs(), SizeIs(1));
  EXPECT_EQ(Study().runs(0).run_id(), first.run_ids(0));
  // Beside new instances they are refused one by one, and the first content stays.
  std::vector<std::string> mixed = Part(other, 3, 4);
  mixed.push_back(study_.File(8));
  const auto late = MustSubmit(Wanting({"m"}), mixed);
  EXPECT_EQ(late.instances_refused(), 1u);
  EXPECT_EQ(WaitForRun(late.run_ids(0)).findings(0).voxels(), 9u);
  EXPECT_THAT(Notices(), Contains("DUPLICATE_CONFLICT(1.2.3.4.103)"));
}

class OldStudyTest : public GrowingTest {
 protected:
  // A study of a day so many days ago.
  std::vector<std::string> FilesOf(int days_ago) {
    const auto day =
        std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()) - std::chrono::days(days_ago);
    const std::chrono::year_month_day date(day);
    char text[16];
    std::snprintf(text, sizeof text, "%04d%02u%02u", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
    std::vector<std::string> files;
    for (std::uint32_t k = 0; k < 8; ++k) {
      ipc::v1::InstanceHeader header = study_.Header(k);
      header.set_study_date(text);
      files.push_back(FakeFile(header, study_.Pixels(k)));
    }
    return files;
  }
  static std::string Said(const v1::Run& run) {
    return v1::FlagState_Name(run.flag().state()).substr(11) +
           (run.flag().reasons().empty() ? "" : " " + run.flag().reasons(0).code());
  }
};

TEST_F(OldStudyTest, WhatNobodyAskedForIsStale) {
  AddModel("m", "ok");
  Start();
  const auto receipt = MustSubmit({}, FilesOf(30));
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(Said(run), "NOT_APPLICABLE STALE_STUDY");
  EXPECT_EQ(helpers_.frames_decoded, 0);
  ASSERT_THAT(run.coverage().series(), SizeIs(1));
  EXPECT_EQ(run.coverage().series(0).reasons(0).code(), "STALE_STUDY");
  EXPECT_FALSE(run.coverage().series(0).analysed());
  v1::PlanStudyRequest plan;
  plan.set_study_instance_uid("1.2.3");
  EXPECT_EQ(dispatcher_->PlanStudy(plan)->runs(0).reasons(0).code(), "STALE_STUDY");
  EXPECT_FALSE(dispatcher_->PlanStudy(plan)->runs(0).applicable());
  plan.add_models()->set_name("m");
  EXPECT_TRUE(dispatcher_->PlanStudy(plan)->runs(0).applicable());

  // Once somebody asks for it by name it is looked at.
  const auto asked = MustSubmit(Wanting({"m"}), FilesOf(30));
  EXPECT_NE(asked.run_ids(0), receipt.run_ids(0));
  EXPECT_EQ(Said(WaitForRun(asked.run_ids(0))), "FLAGGED");
}

TEST_F(OldStudyTest, AYoungStudyIsAnalysedUnasked) {
  AddModel("m", "ok");
  Start();
  EXPECT_EQ(Said(WaitForRun(MustSubmit({}, FilesOf(6)).run_ids(0))), "FLAGGED");
}

TEST_F(OldStudyTest, ANameIsAskingEnough) {
  AddModel("m", "ok");
  Start();
  EXPECT_EQ(Said(WaitForRun(MustSubmit(Wanting({"m"}), FilesOf(3000)).run_ids(0))), "FLAGGED");
}

TEST_F(OldStudyTest, APriorIsOldAndNeverInTheWorklist) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header;
  header.set_role(v1::STUDY_ROLE_PRIOR);
  EXPECT_EQ(Said(WaitForRun(MustSubmit(header, FilesOf(400)).run_ids(0))), "FLAGGED");
  EXPECT_THAT(Feed(), IsEmpty());
  EXPECT_THAT(dispatcher_->store().ListFlags({})->flags, IsEmpty());
}

TEST_F(OldStudyTest, TheLimitIsConfigured) {
  AddModel("m", "ok");
  options_.config.set_max_study_age_days(100);
  Start();
  EXPECT_EQ(Said(WaitForRun(MustSubmit({}, FilesOf(90)).run_ids(0))), "FLAGGED");
}

}  // namespace
}  // namespace tomoserve::dispatch
