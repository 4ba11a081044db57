// Cascades: a model that looks where another one's labels say.
#include <gmock/gmock.h>

#include <set>
#include <string>

#include "dispatch/growing_fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::SizeIs;

constexpr char kThreshold[] = "decode { threshold { above: 0.5 } }";

class CascadeTest : public StudyInPartsTest {
 protected:
  void AddCascade(const std::string& name, const std::string& script) {
    AddModel(name, script);
    EditRecipe(
        name, kThreshold,
        std::string(kThreshold) + "\ndecode { keep_in_region {} }\nregion { model: \"lung\" labels: 1 }");
  }
  // The finder's final run on the usual study; the lung's comes with it.
  v1::Run Find() {
    const auto receipt = MustSubmit(Wanting({"finder"}), FakeStudy().Files());
    EXPECT_THAT(receipt.run_ids(), SizeIs(2)) << "the region's model runs too";
    v1::Run finder;
    for (const std::string& run_id : receipt.run_ids()) {
      const v1::Run run = WaitForRun(run_id);
      (run.model() == "finder" ? finder : lung_) = run;
    }
    return finder;
  }
  void Retire(const std::string& name) { SetStage(name, v1::ACTIVATION_STAGE_RETIRED); }
  void SetStage(const std::string& name, v1::ActivationStage stage) {
    v1::SetActivationRequest request;
    request.set_name(name);
    request.set_version("1");
    request.set_stage(stage);
    request.set_by("chief physicist");
    EXPECT_TRUE(dispatcher_->SetActivation(request).ok());
  }
  static std::string ReasonOf(const v1::Run& run) {
    return run.flag().reasons_size() == 0 ? "" : run.flag().reasons(0).code();
  }

  v1::Run lung_;  // of the last Find
};

TEST_F(CascadeTest, OneModelLooksWhereTheOtherSays) {
  AddModel("lung", "lower");
  AddCascade("finder", "ok");
  Start();
  const v1::Run finder = Find();
  ASSERT_EQ(finder.state(), v1::RUN_STATE_DONE) << finder.failure().ShortDebugString();
  ASSERT_THAT(finder.findings(), SizeIs(1));
  EXPECT_EQ(finder.findings(0).voxels(), 4u) << "of eight slices the lower four";
  EXPECT_EQ(finder.provenance().region_run_id(), lung_.run_id());
  EXPECT_EQ(lung_.state(), v1::RUN_STATE_DONE);
  EXPECT_NE(finder.provenance().input_digest(), lung_.provenance().input_digest());
}

TEST_F(CascadeTest, TheRegionIsComputedOnceForAll) {
  AddModel("lung", "slow 200");
  AddCascade("a", "ok");
  AddCascade("b", "ok");
  Start();
  const auto receipt = MustSubmit(Wanting({"a", "b"}), FakeStudy().Files());
  ASSERT_THAT(receipt.run_ids(), SizeIs(3));
  std::set<std::string> regions;
  for (const std::string& run_id : receipt.run_ids()) {
    const v1::Run run = WaitForRun(run_id);
    EXPECT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
    if (run.model() != "lung") regions.insert(run.provenance().region_run_id());
  }
  EXPECT_THAT(regions, SizeIs(1));
  const v1::Run again = WaitForRun(MustSubmit(Wanting({"a"}), FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(again.state(), v1::RUN_STATE_DONE) << "nothing new, the same answer";
}

TEST_F(CascadeTest, WithoutWishesBothRun) {
  AddModel("lung", "ok");
  AddCascade("finder", "ok");
  Start();
  EXPECT_THAT(MustSubmit(Wanting({}), FakeStudy().Files()).run_ids(), SizeIs(2));
}

TEST_F(CascadeTest, AnEmptyRegionIsInconclusive) {
  AddModel("lung", "blind");
  AddCascade("finder", "ok");
  Start();
  const v1::Run finder = Find();
  ASSERT_EQ(finder.state(), v1::RUN_STATE_DONE) << finder.failure().ShortDebugString();
  EXPECT_EQ(finder.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_EQ(ReasonOf(finder), "REGION_EMPTY");
  ASSERT_THAT(finder.coverage().series(), SizeIs(1));
  EXPECT_FALSE(finder.coverage().series(0).analysed());
}

TEST_F(CascadeTest, ARegionWhoseModelIsNotMeantForTheStudyIsInconclusive) {
  AddModel("lung", "ok", "MR");
  AddCascade("finder", "ok");
  Start();
  const v1::Run finder = Find();
  EXPECT_EQ(finder.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_EQ(ReasonOf(finder), "REGION_NOT_APPLICABLE");
  EXPECT_EQ(lung_.flag().state(), v1::FLAG_STATE_NOT_APPLICABLE);
}

TEST_F(CascadeTest, ARegionThatFailedFailsTheCascade) {
  AddModel("lung", "fail");
  AddCascade("finder", "ok");
  Start();
  const v1::Run finder = Find();
  EXPECT_EQ(finder.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(finder.failure().code(), "REGION_FAILED");
  EXPECT_EQ(finder.failure().value(), "NETWORK_FAILED");
}

TEST_F(CascadeTest, ARegionThatWasRetiredIsInconclusive) {
  AddModel("lung", "ok");
  AddCascade("finder", "ok");
  Start();
  Retire("lung");
  const auto receipt = MustSubmit(Wanting({"finder"}), FakeStudy().Files());
  ASSERT_THAT(receipt.run_ids(), SizeIs(1));
  const v1::Run finder = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(finder.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_EQ(ReasonOf(finder), "REGION_NOT_RUN");
  SetStage("lung", v1::ACTIVATION_STAGE_ACTIVE);
  EXPECT_THAT(Find().findings(), SizeIs(1)) << "asked again, it runs again";
}

TEST_F(CascadeTest, LateInstancesAfterTheRegionWasRetiredAreInconclusive) {
  AddModel("lung", "ok");
  AddCascade("finder", "ok");
  Start();
  const auto early = MustSubmit(Wanting({"finder"}), Part(study_, 0, 8));
  for (const std::string& run_id : early.run_ids()) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  Retire("lung");
  const auto late = MustSubmit(Wanting({"finder"}), Part(study_, 8, 16));
  ASSERT_THAT(late.run_ids(), SizeIs(1));
  const v1::Run finder = WaitForRun(late.run_ids(0));
  EXPECT_EQ(finder.flag().state(), v1::FLAG_STATE_INCONCLUSIVE) << finder.failure().ShortDebugString();
  EXPECT_EQ(ReasonOf(finder), "REGION_NOT_RUN") << "the labels that are there are of fewer slices";
}

TEST_F(CascadeTest, LateInstancesMakeAGenerationOfBoth) {
  AddModel("lung", "ok");
  AddCascade("finder", "ok");
  Start();
  std::string region;
  for (const std::uint32_t slices : {8u, 16u}) {
    const auto receipt = MustSubmit(Wanting({"finder"}), Part(study_, slices - 8, slices));
    for (const std::string& run_id : receipt.run_ids()) {
      const v1::Run run = WaitForRun(run_id);
      ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
      EXPECT_EQ(run.findings(0).voxels(), slices) << run.model();
      if (run.model() != "finder") continue;
      EXPECT_NE(run.provenance().region_run_id(), region);
      region = run.provenance().region_run_id();
    }
  }
}

TEST_F(CascadeTest, APlanCountsTheRegionsRunUntilItIsThere) {
  AddModel("lung", "lower");
  AddCascade("finder", "ok");
  AddModel("other", "ok");
  Start();
  WaitForRun(MustSubmit(Wanting({"other"}), FakeStudy().Files()).run_ids(0));
  const auto plan_of = [&](const std::string& model) {
    v1::PlanStudyRequest request;
    request.set_study_instance_uid(FakeStudy().study_uid);
    request.add_models()->set_name(model);
    const auto plan = dispatcher_->PlanStudy(request);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.ok() && plan->runs_size() > 0 ? plan->runs(0) : v1::PlannedRun();
  };
  const double lung_seconds = plan_of("lung").predicted_seconds();
  ASSERT_GT(lung_seconds, 0);
  const v1::PlannedRun before = plan_of("finder");
  ASSERT_THAT(before.reasons(), SizeIs(1));
  EXPECT_EQ(before.reasons(0).code(), "REGION_RUNS_FIRST");
  EXPECT_EQ(before.reasons(0).value(), "lung");
  EXPECT_DOUBLE_EQ(before.predicted_seconds(), 2 * lung_seconds) << "both have the same windows";
  Find();
  const v1::PlannedRun after = plan_of("finder");
  EXPECT_THAT(after.reasons(), SizeIs(0));
  EXPECT_LT(after.predicted_seconds(), before.predicted_seconds());
}

TEST_F(CascadeTest, ARestartBetweenTheTwoLosesNothing) {
  AddModel("lung", "slow 1000");
  AddCascade("finder", "ok");
  Start();
  const auto receipt = MustSubmit(Wanting({"finder"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] {
    return StateOf(receipt.run_ids(0)) == v1::RUN_STATE_RUNNING ||
           StateOf(receipt.run_ids(1)) == v1::RUN_STATE_RUNNING;
  }));
  Stop();
  Start();
  for (const std::string& run_id : receipt.run_ids())
    EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  Stop();
  Start();
  EXPECT_EQ(Find().findings_size(), 1) << "and afterwards it is the same";
}

}  // namespace
}  // namespace tomoserve::dispatch
