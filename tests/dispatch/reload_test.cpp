// The model folders are read again while the server serves.
#include <gmock/gmock.h>
#include <signal.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ReloadTest : public DispatchTest {
 protected:
  static std::vector<std::string> Names(const std::vector<const models::Model*>& models) {
    std::vector<std::string> names;
    for (const models::Model* model : models) names.push_back(absl::StrCat(model->name, "@", model->version));
    return names;
  }
  Reloaded Reload() {
    const auto reloaded = dispatcher_->ReloadModels();
    EXPECT_TRUE(reloaded.ok()) << reloaded.status();
    return reloaded.ok() ? *reloaded : Reloaded();
  }
  void Remove(const std::string& name) { std::filesystem::remove_all(folder_ / "models" / name); }
  v1::ActivationStage StageOf(const std::string& name) {
    for (const ModelStatus& status : dispatcher_->Models()) {
      if (status.model->name == name) return status.activation.stage();
    }
    return v1::ACTIVATION_STAGE_UNSPECIFIED;
  }
};

TEST_F(ReloadTest, ANewVersionRunsWithoutARestart) {
  AddModel("m", "ok");
  Start();
  const pid_t worker = WaitForWorker();
  AddModel("n", "ok");
  EXPECT_THAT(Names(Reload().added), ElementsAre("n@1"));
  EXPECT_TRUE(dispatcher_->ready()) << "what was served is served";
  EXPECT_EQ(StageOf("n"), v1::ACTIVATION_STAGE_OFF) << "nothing answers because a folder appeared";
  EXPECT_EQ(RunOf("n").state(), v1::RUN_STATE_DONE);
  EXPECT_THAT(Workers(), ElementsAre(worker));
  const Reloaded again = Reload();
  EXPECT_THAT(again.added, IsEmpty());
  EXPECT_THAT(again.removed, IsEmpty());
}

TEST_F(ReloadTest, ReadyWhileALateModelLoads) {
  AddModel("m", "ok");
  Start();
  AddModel("n", "stall_load");
  Reload();
  EXPECT_TRUE(dispatcher_->ready());
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(ReloadTest, ARunEndsOnTheVersionThatItBeganWith) {
  AddModel("m", "slow 500");
  Start();
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return StateOf(run_id) == v1::RUN_STATE_RUNNING; }));
  const std::string before = dispatcher_->store().GetRun(run_id)->model_digest;
  Remove("m");
  AddModel("m", "ok");
  const Reloaded reloaded = Reload();
  EXPECT_THAT(Names(reloaded.added), ElementsAre("m@1"));
  EXPECT_THAT(Names(reloaded.removed), ElementsAre("m@1"));
  EXPECT_EQ(StageOf("m"), v1::ACTIVATION_STAGE_OFF) << "what was activated were other files";
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(run.provenance().model_digest(), before);
  FakeStudy other;
  other.study_uid = "1.2.4";
  EXPECT_NE(RunOf("m", other).provenance().model_digest(), before);
}

TEST_F(ReloadTest, WhatIsGoneIsUnknownAndUnloaded) {
  AddModel("m", "ok");
  AddModel("n", "ok");
  Start();
  Remove("m");
  EXPECT_THAT(Names(Reload().removed), ElementsAre("m@1"));
  EXPECT_EQ(base::ReasonOf(Submit(Wanting({"m"}), FakeStudy().Files()).status()), "UNKNOWN_MODEL");
  EXPECT_THAT(dispatcher_->Models(), SizeIs(1));
  EXPECT_EQ(RunOf("n").state(), v1::RUN_STATE_DONE);
  const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
  ASSERT_TRUE(activity.ok());
  EXPECT_EQ(activity->devices[0].predicted_bytes, 1000u + 500u) << "of the other model";
}

TEST_F(ReloadTest, WhatIsRemovedWhileItLoadsIsUnloaded) {
  AddModel("m", "ok");
  Start();
  AddModel("n", "lonely_load " + (folder_ / "none").string());  // takes 300 ms
  Reload();
  Remove("n");
  Reload();
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_TRUE(Eventually([&] {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    return activity.ok() && activity->devices[0].predicted_bytes == 1000u + 500u;
  })) << "of the other model";
}

TEST_F(ReloadTest, AWaitingRunWhoseVersionNoDeviceHasAnyMoreSaysSo) {
  AddModel("m", "ok");
  AddModel("slow", "slow 600000");
  Start();
  // Two that share the device, and one that waits for them.
  for (const char* study_uid : {"1.2.1", "1.2.2"})
    MustSubmit(Wanting({"slow"}), FakeStudy{.study_uid = study_uid}.Files());
  ASSERT_TRUE(Eventually([&] {
    return dispatcher_->Observe(std::chrono::seconds(5))->priorities[v1::PRIORITY_ROUTINE].in_flight == 2;
  }));
  const std::string waiting = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  Remove("m");
  Reload();
  EXPECT_NE(StateOf(waiting), v1::RUN_STATE_FAILED) << "the device still has it";
  ASSERT_EQ(::kill(WaitForWorker(), SIGKILL), 0);
  const v1::Run run = WaitForRun(waiting);
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "MODEL_GONE");
}

TEST_F(ReloadTest, AnEntryThatIsRefusedHurtsNobody) {
  AddModel("m", "ok");
  Start();
  AddModel("broken", "ok");
  EditRecipe("broken", "spatial_dims: 3", "spatial_dims: 7");
  EXPECT_THAT(Reload().added, IsEmpty());
  EXPECT_THAT(dispatcher_->Models(), SizeIs(2));
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(ReloadTest, AFolderThatIsNotThereChangesNothing) {
  AddModel("m", "ok");
  Start();
  std::filesystem::rename(folder_ / "models", folder_ / "elsewhere");
  EXPECT_EQ(base::ReasonOf(dispatcher_->ReloadModels().status()), "MODELS_FOLDER");
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

}  // namespace
}  // namespace tomoserve::dispatch
