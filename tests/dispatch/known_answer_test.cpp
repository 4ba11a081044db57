// Known answers that idle devices give again.
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "models/npy_files.h"

namespace tomoserve::dispatch {
namespace {

class KnownAnswerTest : public DispatchTest {
 protected:
  KnownAnswerTest() {
    options_.patience.known_answer_every = std::chrono::milliseconds(50);
    options_.patience.known_answer_idle = std::chrono::milliseconds(20);
  }

  std::string File(const std::string& name) const { return (folder_ / name).string(); }

  // A model with a case of 2 x 2 x 2 voxels; see fake_worker.cpp for scripts.
  void AddKnowing(const std::string& name, const std::string& script) {
    AddModel(name, script);
    EditRecipe(name, "coverage {",
               "known_answer { volume: \"v.npy\" labels: \"l.npy\" geometry { size_ijk: [2, 2, 2] "
               "spacing_mm: [1, 1, 1] origin_lps {} direction_i: [1, 0, 0] direction_j: [0, 1, 0] "
               "direction_k: [0, 0, 1] } }\ncoverage {");
    const auto write = [&](const char* file, const std::string& bytes) {
      std::ofstream(folder_ / "models" / name / "1" / file, std::ios::binary) << bytes;
    };
    write("v.npy", models::NpyOf(std::vector<std::int16_t>(8, 1), "(2, 2, 2)"));
    write("l.npy", models::NpyOf(std::vector<std::uint8_t>(8, 1), "(2, 2, 2)"));
  }
  // How often the worker was asked again.
  std::uintmax_t Asked(const std::string& name) const {
    std::error_code missing;
    const std::uintmax_t count = std::filesystem::file_size(File(name) + ".asked", missing);
    return missing ? 0 : count;
  }
  // "forget_held" answers no more from here on, and does again.
  void Hold(const std::string& name) { std::ofstream(File(name) + ".hold") << "held"; }
  void Release(const std::string& name) { std::filesystem::remove(File(name) + ".hold"); }
  // Returns while a check is held back.
  void AwaitHeld(const std::string& name) {
    Hold(name);
    ASSERT_TRUE(Eventually([&] {
      const std::uintmax_t asked = Asked(name);
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      return asked > 0 && Asked(name) == asked;
    }));
  }
  void UseDevices(const std::vector<std::string>& devices) {
    options_.config.clear_devices();
    for (const std::string& device : devices) options_.config.add_devices(device);
  }
  std::uint64_t InFlight() {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    EXPECT_TRUE(activity.ok()) << activity.status();
    std::uint64_t runs = 0;
    if (!activity.ok()) return runs;
    for (const auto& [priority, of] : activity->priorities) runs += of.in_flight;
    return runs;
  }
  v1::DeviceReadiness ReadinessOf(const std::string& name) {
    for (const ModelStatus& status : dispatcher_->Models()) {
      if (status.model->name == name && !status.devices.empty()) return status.devices[0];
    }
    return {};
  }
};

TEST_F(KnownAnswerTest, AnIdleDeviceIsAskedAgainAndAgain) {
  AddKnowing("m", "forget " + File("m"));
  Start();
  EXPECT_TRUE(Eventually([&] { return Asked("m") >= 3; }));
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_WARM);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(KnownAnswerTest, AModelThatWasLoadedBesideRunsIsMeasuredOnceItsDeviceIsIdle) {
  AddModel("m", "unmeasured " + File("m"));  // it has no known answer
  Start();
  const auto bytes = [&] {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    return activity.ok() ? activity->devices[0].predicted_bytes : 0;
  };
  EXPECT_TRUE(Eventually([&] { return bytes() == 1000 + 2 * 500; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(Asked("m"), 1u);
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_WARM);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(KnownAnswerTest, AModelWhoseAnswerDiffersIsNotReadyThereAndOthersGoOn) {
  AddKnowing("m", "forget " + File("m"));
  AddModel("n", "ok");
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  std::ofstream(File("m")) << "forgotten";
  ASSERT_TRUE(Eventually([&] { return ReadinessOf("m").readiness() == v1::MODEL_READINESS_REFUSED; }));
  EXPECT_EQ(ReadinessOf("m").reason().code(), "KNOWN_ANSWER_DIFFERS");
  EXPECT_EQ(ReadinessOf("m").reason().value(), "20 % of 80 voxels differ, 0.1 % may");
  EXPECT_EQ(RunOf("n").state(), v1::RUN_STATE_DONE);
  FakeStudy other;
  other.study_uid = "1.2.4";
  const v1::Run run = RunOf("m", other);
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "MODEL_REFUSED");
  const std::uintmax_t asked = Asked("m");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(Asked("m"), asked) << "what is refused is not asked again";
}

TEST_F(KnownAnswerTest, ARunGoesOnBesideACheck) {
  AddKnowing("m", "forget_held " + File("m"));
  AddModel("n", "ok");
  Hold("m");
  Start();
  ASSERT_TRUE(Eventually([&] { return Asked("m") == 1; }));
  EXPECT_EQ(RunOf("n").state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(Asked("m"), 1u) << "the check has not ended";
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u);
  Release("m");
  EXPECT_TRUE(Eventually([&] { return Asked("m") >= 2; }));
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_WARM);
}

TEST_F(KnownAnswerTest, ARunDoesNotWaitForACheckWhereAnotherDeviceHasRoom) {
  AddKnowing("m", "forget_held " + File("m"));
  AddModel("slow", "slow 60000");
  AddModel("n", "ok");
  UseDevices({"cpu", "cpu"});
  Start();
  MustSubmit(Wanting({"slow"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  AwaitHeld("m");
  EXPECT_EQ(RunOf("n", {.study_uid = "1.2.4"}).state(), v1::RUN_STATE_DONE);
}

// The device that checks is the idlest one, and has no memory for the run: the other one takes it.
TEST_F(KnownAnswerTest, ARunThatDoesNotFitBesideACheckGoesElsewhere) {
  AddKnowing("m", "forget_held " + File("m"));
  AddModel("slow", "slow 60000");
  AddModel("n", "ok");
  UseDevices({"cpu", "cuda:5"});
  Start();
  MustSubmit(Wanting({"slow"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  AwaitHeld("m");
  MustSubmit(Wanting({"n"}), FakeStudy{.study_uid = "1.2.4"}.Files());
  EXPECT_TRUE(Eventually([&] { return InFlight() == 2; }));
}

TEST_F(KnownAnswerTest, OneDeviceIsAskedAtATime) {
  AddKnowing("m", "forget_held " + File("m"));
  UseDevices({"cpu", "cpu"});
  Hold("m");
  Start();
  ASSERT_TRUE(Eventually([&] { return Asked("m") >= 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(Asked("m"), 1u);
}

// The worker forgets the model before the front knows: what the front sends meanwhile is not to blame.
TEST_F(KnownAnswerTest, ARunThatCameTooLateIsSentToAnotherDevice) {
  AddKnowing("m", "forget_held " + File("m"));
  std::ofstream(File("m")) << "forgotten";
  Hold("m");
  Start();
  ASSERT_TRUE(Eventually([&] { return Asked("m") == 1; }));
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return StateOf(run_id) == v1::RUN_STATE_RUNNING; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  Release("m");
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.failure().code(), "MODEL_REFUSED") << "no device has it any more";
  EXPECT_EQ(run.failure().value(), "KNOWN_ANSWER_DIFFERS");
}

TEST_F(KnownAnswerTest, ABusyDeviceIsNotAsked) {
  AddKnowing("m", "forget " + File("m"));
  AddModel("slow", "slow 600");
  options_.patience.known_answer_every = std::chrono::milliseconds(300);
  Start();
  const std::string run_id = MustSubmit(Wanting({"slow"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return StateOf(run_id) == v1::RUN_STATE_RUNNING; }));
  const std::uintmax_t before = Asked("m");
  for (bool running = true; running;) {
    const std::uintmax_t asked = Asked("m");
    running = StateOf(run_id) == v1::RUN_STATE_RUNNING;
    if (running) {
      EXPECT_EQ(asked, before);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(Eventually([&] { return Asked("m") > before; }));
}

// The case takes memory while the model is loaded: a run that does not fit beside it waits.
TEST_F(KnownAnswerTest, ItsMemoryCountsBesideARun) {
  std::ofstream(File("n")) << 0;
  AddModel("m", "ok");
  AddKnowing("n", "lonely_load " + File("n"));
  options_.config.clear_devices();
  options_.config.add_devices("cuda:5");  // memory for one run
  options_.patience.max_memory_tries = 1;
  options_.patience.known_answer_every = std::chrono::hours(1);
  Start(/*wait_until_ready=*/false);
  ASSERT_TRUE(Eventually([&] {
    return ReadinessOf("m").readiness() == v1::MODEL_READINESS_WARM &&
           ReadinessOf("n").readiness() == v1::MODEL_READINESS_LOADING;
  }));
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  ASSERT_TRUE(Eventually([&] { return ReadinessOf("n").readiness() != v1::MODEL_READINESS_LOADING; }));
  EXPECT_EQ(ReadinessOf("n").readiness(), v1::MODEL_READINESS_WARM) << ReadinessOf("n").reason().code();
}

// The check may have been what lost the device: the run is not to blame, and is alone the next time.
TEST_F(KnownAnswerTest, ARunBesideACheckWasNotAlone) {
  options_.patience.max_run_losses = 1;
  AddKnowing("m", "forget_held " + File("m"));
  std::ofstream(File("n")) << 1;
  AddModel("n", "lost " + File("n"));
  Hold("m");
  Start();
  ASSERT_TRUE(Eventually([&] { return Asked("m") == 1; }));
  const std::string run_id = MustSubmit(Wanting({"n"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return dispatcher_->Devices()[0].restarts == 1; }));
  Release("m");
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
}

// A load whose case does not fit beside the runs that are there comes after them.
TEST_F(KnownAnswerTest, ALoadWaitsForMemoryForItsCase) {
  AddModel("m", "slow 60000");
  UseDevices({"cuda:5"});
  options_.patience.known_answer_every = std::chrono::hours(1);
  Start();
  MustSubmit(Wanting({"m"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  AddKnowing("n", "proof " + File("n"));
  AddModel("o", "proof " + File("o"));
  ASSERT_TRUE(dispatcher_->ReloadModels().ok());
  EXPECT_TRUE(Eventually([&] { return std::filesystem::exists(File("o")); })) << "it has no case";
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_FALSE(std::filesystem::exists(File("n")));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", "").ok());
  EXPECT_TRUE(Eventually([&] { return ReadinessOf("n").readiness() == v1::MODEL_READINESS_WARM; }));
}

TEST_F(KnownAnswerTest, AWorkerThatDoesNotAnswerIsStartedAgain) {
  AddKnowing("m", "stall_check " + File("m"));
  options_.patience.load_stall = std::chrono::milliseconds(300);
  Start();
  EXPECT_TRUE(Eventually([&] { return dispatcher_->Devices()[0].restarts >= 1; }));
  EXPECT_TRUE(Eventually([&] { return ReadinessOf("m").readiness() == v1::MODEL_READINESS_WARM; }));
}

TEST_F(KnownAnswerTest, WithoutMemoryThereWasNoAnswer) {
  for (const std::string code : {"OUT_OF_MEMORY", "RUN_TOO_LARGE", "HOST_MEMORY"}) {
    AddKnowing(code, absl::StrCat("fail_check ", code, " ", File(code)));
  }
  AddKnowing("bad", "fail_check NON_FINITE_OUTPUT " + File("bad"));
  Start();
  EXPECT_TRUE(Eventually([&] { return ReadinessOf("bad").readiness() == v1::MODEL_READINESS_REFUSED; }));
  EXPECT_EQ(ReadinessOf("bad").reason().code(), "NON_FINITE_OUTPUT");
  for (const std::string code : {"OUT_OF_MEMORY", "RUN_TOO_LARGE", "HOST_MEMORY"}) {
    EXPECT_TRUE(Eventually([&] { return Asked(code) >= 2; })) << code;
    EXPECT_EQ(ReadinessOf(code).readiness(), v1::MODEL_READINESS_WARM) << code;
  }
}

}  // namespace
}  // namespace tomoserve::dispatch
