// Models of which a device's memory does not hold all: which stay, which are loaded when a run wants them.
#include <gmock/gmock.h>

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;

constexpr std::uint64_t kWeights = 1'000'000;
constexpr std::uint64_t kForward = 500;  // of the fake worker's models

class ResidencyTest : public DispatchTest {
 protected:
  void AddLarge(const std::string& name) {
    AddModel(name, absl::StrCat("weighs ", kWeights, " ", (folder_ / "loads").string()));
    std::filesystem::resize_file(folder_ / "models" / name / "1" / "model.ts", kWeights);
  }
  // For so many models, and beside them for so much.
  void GiveRoomFor(std::uint64_t models, std::uint64_t more) {
    options_.machine_bytes = options_.config.limits().arena_bytes() + models * kWeights + kForward + more;
  }
  // Names of the models that are warm.
  std::vector<std::string> Warm() {
    std::vector<std::string> warm;
    for (const ModelStatus& model : dispatcher_->Models()) {
      if (model.devices.at(0).readiness() == v1::MODEL_READINESS_WARM) warm.push_back(model.model->name);
    }
    return warm;
  }
  std::size_t Loads() {
    std::ifstream file(folder_ / "loads");
    return static_cast<std::size_t>(std::distance(std::istreambuf_iterator<char>(file), {}));
  }
  std::string Submitted(const std::string& model, v1::Priority priority = v1::PRIORITY_ROUTINE) {
    v1::SubmissionHeader header = Wanting({model});
    header.set_priority(priority);
    return MustSubmit(header, FakeStudy{.study_uid = absl::StrCat("1.2.", ++studies_)}.Files()).run_ids(0);
  }
  v1::RunState Answer(const std::string& model) { return WaitForRun(Submitted(model)).state(); }

 private:
  int studies_ = 0;
};

TEST_F(ResidencyTest, AModelThatHasNoRoomIsLoadedWhenARunWantsIt) {
  for (const char* name : {"a", "b", "c"}) AddLarge(name);
  GiveRoomFor(2, kRunBytes);
  Start();
  EXPECT_THAT(Warm(), ElementsAre("a", "b"));
  EXPECT_EQ(Answer("c"), v1::RUN_STATE_DONE);
  EXPECT_EQ(Warm().size(), 2u);
  EXPECT_EQ(Warm().back(), "c");
  EXPECT_TRUE(dispatcher_->Observe(std::chrono::seconds(5))->devices.at(0).ready);
}

TEST_F(ResidencyTest, TheLeastRecentlyUsedModelMakesRoom) {
  for (const char* name : {"a", "b", "c"}) AddLarge(name);
  GiveRoomFor(2, kRunBytes);
  Start();
  EXPECT_EQ(Answer("b"), v1::RUN_STATE_DONE);
  EXPECT_EQ(Answer("a"), v1::RUN_STATE_DONE);
  EXPECT_EQ(Answer("c"), v1::RUN_STATE_DONE);
  EXPECT_THAT(Warm(), ElementsAre("a", "c"));
  EXPECT_EQ(Answer("a"), v1::RUN_STATE_DONE);
  EXPECT_EQ(Answer("b"), v1::RUN_STATE_DONE);
  EXPECT_THAT(Warm(), ElementsAre("a", "b"));
}

TEST_F(ResidencyTest, APinnedModelComesFirstAndStays) {
  for (const char* name : {"a", "b", "c"}) AddLarge(name);
  options_.config.add_pinned_models("c");
  GiveRoomFor(2, kRunBytes);
  Start();
  EXPECT_THAT(Warm(), ElementsAre("a", "c"));
  for (const char* name : {"b", "a", "b"}) EXPECT_EQ(Answer(name), v1::RUN_STATE_DONE);
  EXPECT_THAT(Warm(), ElementsAre("b", "c"));
}

TEST_F(ResidencyTest, AModelThatNobodyHasCannotBePinned) {
  AddLarge("a");
  options_.config.add_pinned_models("z");
  const auto started = DispatcherImpl::Start(options_, std::make_unique<FakeHelpers>(helpers_));
  EXPECT_EQ(base::ReasonOf(started.status()), "CONFIG_INVALID");
  EXPECT_EQ(base::ValueOf(started.status()), "pinned_models");
}

TEST_F(ResidencyTest, ARunThatHasNoRoomBesideOtherModelsUnloadsThem) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  GiveRoomFor(2, kRunBytes - 1);
  Start();
  EXPECT_THAT(Warm(), ElementsAre("a", "b"));
  EXPECT_EQ(Answer("a"), v1::RUN_STATE_DONE);
  EXPECT_THAT(Warm(), ElementsAre("a"));
  EXPECT_EQ(Answer("b"), v1::RUN_STATE_DONE);
  EXPECT_THAT(Warm(), ElementsAre("b"));
}

// The other one was loaded a moment ago, and its run waits, too.
TEST_F(ResidencyTest, TwoRunsThatHaveNoRoomBesideBothModelsRunOneAfterTheOther) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  GiveRoomFor(2, kRunBytes - 1);
  Start();
  const std::string first = Submitted("a");
  const std::string second = Submitted("b");
  EXPECT_EQ(WaitForRun(first).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(WaitForRun(second).state(), v1::RUN_STATE_DONE);
}

TEST_F(ResidencyTest, NoPinnedModelMakesRoomForARun) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  options_.config.add_pinned_models("b");
  GiveRoomFor(2, kRunBytes - 1);
  Start();
  const v1::Run run = RunOf("a");
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "RUN_TOO_LARGE");
  EXPECT_THAT(Warm(), ElementsAre("a", "b"));
}

TEST_F(ResidencyTest, ModelsWhoseRunsAlternateAreNotLoadedForEachOfThem) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  GiveRoomFor(1, kRunBytes);
  Start();
  std::vector<std::string> runs;
  for (int n = 0; n < 5; ++n) {
    for (const char* name : {"a", "b"}) runs.push_back(Submitted(name));
  }
  for (const std::string& run_id : runs) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  // Some of them may have ended before the next ones came.
  EXPECT_LE(Loads(), 6u);
}

TEST_F(ResidencyTest, AnUrgentRunDoesNotWaitUntilAModelHasStayedForItsTime) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  GiveRoomFor(1, kRunBytes);
  Start();
  std::vector<std::string> runs;
  for (int n = 0; n < 30; ++n) runs.push_back(Submitted("a"));
  EXPECT_EQ(WaitForRun(Submitted("b", v1::PRIORITY_STAT)).state(), v1::RUN_STATE_DONE);
  EXPECT_NE(StateOf(runs.at(20)), v1::RUN_STATE_DONE);
  for (const std::string& run_id : runs) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

// It would wait for ever where the model is warm.
TEST_F(ResidencyTest, ARunThatFitsOnlyWhereItsModelIsNotHasItLoadedThere) {
  AddModel("a", "weighs_on cuda:0 5000000000");
  AddModel("m", "ok");
  EditRecipe("m", "windows {",
             "preparation { spacing { rule: SPACING_RULE_MONAI interpolation: INTERPOLATION_LINEAR "
             "spacing_mm: [0.02, 0.02, 0.02] } } windows {");
  options_.config.clear_devices();
  for (const char* device : {"cuda:0", "cuda:5"}) options_.config.add_devices(device);
  Start();
  const auto readiness = [&](std::size_t device) {
    return dispatcher_->Models().at(1).devices.at(device).readiness();
  };
  EXPECT_EQ(readiness(0), v1::MODEL_READINESS_ON_DEMAND);
  EXPECT_EQ(readiness(1), v1::MODEL_READINESS_WARM);
  EXPECT_EQ(Answer("m"), v1::RUN_STATE_DONE);
  EXPECT_EQ(readiness(0), v1::MODEL_READINESS_WARM);
}

// Neither fits beside the other: the one that comes first is loaded, and the other follows it.
TEST_F(ResidencyTest, AfterADeathModelsThatRunsWaitForComeOneAfterTheOther) {
  for (const char* name : {"a", "b"}) AddLarge(name);
  GiveRoomFor(1, kRunBytes);
  Start();
  std::vector<std::string> runs;
  for (int n = 0; n < 10; ++n) {
    for (const char* name : {"b", "a"}) runs.push_back(Submitted(name));
  }
  ASSERT_TRUE(Eventually([&] { return StateOf(runs.at(0)) == v1::RUN_STATE_DONE; }));
  ASSERT_EQ(::kill(WaitForWorker(), SIGKILL), 0);
  for (const std::string& run_id : runs) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(Warm().size(), 1u);
}

TEST_F(ResidencyTest, AfterADeathWhatWasUsedComesFirst) {
  for (const char* name : {"a", "b", "c"}) AddLarge(name);
  GiveRoomFor(2, kRunBytes);
  Start();
  EXPECT_EQ(Answer("c"), v1::RUN_STATE_DONE);
  const pid_t worker = WaitForWorker();
  ASSERT_EQ(::kill(worker, SIGKILL), 0);
  ASSERT_TRUE(Eventually(
      [&] { return dispatcher_->Observe(std::chrono::seconds(5))->devices.at(0).worker_pid != worker; }));
  ASSERT_TRUE(Eventually([&] { return Warm().size() == 2; }));
  EXPECT_EQ(Warm().back(), "c");
}

}  // namespace
}  // namespace tomoserve::dispatch
