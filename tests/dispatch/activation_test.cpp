// Who may answer: stages of versions, set while the server runs.
#include <gmock/gmock.h>

#include "dispatch/growing_fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ActivationTest : public StudyInPartsTest {
 protected:
  absl::StatusOr<ModelStatus> Set(const std::string& name, const std::string& version,
                                  v1::ActivationStage stage, const std::string& by = "chief physicist") {
    v1::SetActivationRequest request;
    request.set_name(name);
    request.set_version(version);
    request.set_stage(stage);
    request.set_by(by);
    return dispatcher_->SetActivation(request);
  }
  // Of the worklist's flags.
  std::vector<std::string> ListedVersions() {
    std::vector<std::string> versions;
    const auto page = dispatcher_->store().ListFlags({});
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return versions;
    for (const v1::FlagEntry& flag : page->flags) versions.push_back(flag.version());
    return versions;
  }
};

TEST_F(ActivationTest, WhatIsOffRunsByNameOnly) {
  AddModel("m", "ok");
  Start();
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_OFF).ok());
  EXPECT_THAT(MustSubmit(Wanting({}), FakeStudy{.study_uid = "1.1"}.Files()).run_ids(), SizeIs(0));
  EXPECT_THAT(MustSubmit(Wanting({"m"}), FakeStudy{.study_uid = "1.2"}.Files()).run_ids(), SizeIs(1));
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_ACTIVE).ok());
  EXPECT_THAT(MustSubmit(Wanting({}), FakeStudy{.study_uid = "1.3"}.Files()).run_ids(), SizeIs(1));
}

TEST_F(ActivationTest, TheHighestVersionThatMayAnswerAnswers) {
  AddModel("m", "ok");
  AddModel("m", "ok", "CT", false, "2");
  Start();
  const auto version_of = [&](const std::string& study) {
    return WaitForRun(MustSubmit(Wanting({}), FakeStudy{.study_uid = study}.Files()).run_ids(0)).version();
  };
  EXPECT_EQ(version_of("1.1"), "2");
  ASSERT_TRUE(Set("m", "2", v1::ACTIVATION_STAGE_OFF).ok());
  EXPECT_EQ(version_of("1.2"), "1");
}

TEST_F(ActivationTest, AVersionInTheShadowRunsBesideTheOneThatAnswersAndIsNotListed) {
  AddModel("m", "ok");
  AddModel("m", "ok", "CT", false, "2");
  Start();
  ASSERT_TRUE(Set("m", "2", v1::ACTIVATION_STAGE_SHADOW).ok());
  const auto receipt = MustSubmit(Wanting({}), FakeStudy().Files());
  ASSERT_THAT(receipt.run_ids(), SizeIs(2));
  for (const std::string& run_id : receipt.run_ids())
    EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_THAT(ListedVersions(), ElementsAre("1"));
  ASSERT_TRUE(Set("m", "2", v1::ACTIVATION_STAGE_ACTIVE).ok());
  EXPECT_THAT(MustSubmit(Wanting({}), FakeStudy{.study_uid = "1.9"}.Files()).run_ids(), SizeIs(1))
      << "an older one does not run in its shadow";
}

TEST_F(ActivationTest, WhatIsOffIsNotListedUntilItIsAskedForAgainAsActive) {
  AddModel("m", "ok");
  Start();
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_OFF).ok());
  WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_THAT(ListedVersions(), IsEmpty());
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_ACTIVE).ok());
  WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_THAT(ListedVersions(), ElementsAre("1"));
}

TEST_F(ActivationTest, ANameAloneMeansTheVersionThatAnswers) {
  AddModel("m", "ok");
  AddModel("m", "ok", "CT", false, "2");
  Start();
  const auto version_of = [&](const std::string& study) {
    return WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy{.study_uid = study}.Files()).run_ids(0)).version();
  };
  ASSERT_TRUE(Set("m", "2", v1::ACTIVATION_STAGE_RETIRED).ok());
  EXPECT_EQ(version_of("1.1"), "1");
  ASSERT_TRUE(Set("m", "2", v1::ACTIVATION_STAGE_OFF).ok());
  EXPECT_EQ(version_of("1.2"), "1");
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_OFF).ok());
  EXPECT_EQ(version_of("1.3"), "2") << "the highest of those that are off";
}

TEST_F(ActivationTest, LateInstancesDoNotWakeWhatIsRetired) {
  AddModel("m", "ok");
  AddModel("other", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m", "other"}), Part(study_, 0, 8));
  for (const std::string& run_id : first.run_ids()) WaitForRun(run_id);
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_RETIRED).ok());
  WaitForRun(MustSubmit(Wanting({"other"}), Part(study_, 8, 16)).run_ids(0));
  const v1::Study study = Study();
  ASSERT_THAT(study.runs(), SizeIs(2));
  for (const v1::Run& run : study.runs()) {
    EXPECT_EQ(run.provenance().generation(), run.model() == "m" ? 1u : 2u) << run.model();
  }
}

TEST_F(ActivationTest, WhatIsRetiredDoesNotAnswerAnyMore) {
  AddModel("m", "ok");
  Start();
  const std::string before = MustSubmit(Wanting({"m"}), FakeStudy{.study_uid = "1.1"}.Files()).run_ids(0);
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_RETIRED).ok());
  EXPECT_EQ(WaitForRun(before).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(base::ReasonOf(Submit(Wanting({"m"}), FakeStudy{.study_uid = "1.2"}.Files()).status()),
            "MODEL_RETIRED");
}

TEST_F(ActivationTest, StagesAreKeptWithWhoSetThemAndSurviveARestart) {
  AddModel("m", "ok");
  Start();
  const auto status = Set("m", "1", v1::ACTIVATION_STAGE_SHADOW);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->activation.stage(), v1::ACTIVATION_STAGE_SHADOW);
  ASSERT_TRUE(Set("m", "1", v1::ACTIVATION_STAGE_OFF, "night shift").ok());
  Stop();
  Start();
  const auto history = dispatcher_->ActivationHistory("m", "1");
  ASSERT_TRUE(history.ok()) << history.status();
  ASSERT_THAT(*history, SizeIs(3));
  EXPECT_EQ((*history)[0].by(), "configuration");
  EXPECT_EQ((*history)[1].by(), "chief physicist");
  EXPECT_EQ((*history)[2].by(), "night shift");
  EXPECT_GT((*history)[2].at().seconds(), 0);
  EXPECT_EQ(dispatcher_->Models()[0].activation.stage(), v1::ACTIVATION_STAGE_OFF);
}

TEST_F(ActivationTest, WhatIsNotCompleteIsRefusedByItsField) {
  AddModel("m", "ok");
  Start();
  const auto reason = [](const absl::StatusOr<ModelStatus>& status) {
    return base::ReasonOf(status.status());
  };
  EXPECT_EQ(reason(Set("other", "1", v1::ACTIVATION_STAGE_OFF)), "UNKNOWN_MODEL");
  EXPECT_EQ(reason(Set("m", "9", v1::ACTIVATION_STAGE_OFF)), "UNKNOWN_VERSION");
  EXPECT_EQ(reason(Set("m", "", v1::ACTIVATION_STAGE_OFF)), "ACTIVATION_INVALID");
  EXPECT_EQ(reason(Set("m", "1", v1::ACTIVATION_STAGE_UNSPECIFIED)), "ACTIVATION_INVALID");
  EXPECT_EQ(reason(Set("m", "1", static_cast<v1::ActivationStage>(77))), "ACTIVATION_INVALID");
  EXPECT_EQ(reason(Set("m", "1", v1::ACTIVATION_STAGE_OFF, " ")), "ACTIVATION_INVALID");
  EXPECT_EQ(reason(Set("m", "1", v1::ACTIVATION_STAGE_OFF, "a\nb")), "ACTIVATION_INVALID");
  EXPECT_THAT(*dispatcher_->ActivationHistory("m", "1"), SizeIs(1));
}

}  // namespace
}  // namespace tomoserve::dispatch
