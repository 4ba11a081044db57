// The program tomoserve-worker, from outside, with its real filter, on the CPU and on a GPU. What it says of
// models: worker_models_test.cpp. What it says of devices that it cannot use: worker_device_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>

#include "device.h"
#include "engine/worker_program.h"

namespace tomoserve {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using testing::ConvArchive;
using testing::ScriptArchive;
using testing::SmallRecipe;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

// Some 100 ms a window.
std::string SlowArchive() {
  return ScriptArchive(
      "def forward(self, x):\n  y = x\n  for i in range(25000):\n    y = torch.add(y, 0)\n  return y\n");
}

class WorkerProgramTest : public testing::WorkerOnDevices {};

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerProgramTest);

TEST_P(WorkerProgramTest, SaysWhatItIs) {
  Started({"--lanes", "3"});
  EXPECT_EQ(hello_.lanes(), 3u);
  EXPECT_THAT(hello_.torch_version(), ::testing::StartsWith("2."));
  EXPECT_GT(hello_.memory_bytes(), 1u << 28);
  EXPECT_EQ(hello_.driver_version().empty(), OnCpu());
  EXPECT_EQ(hello_.cudnn_version().empty(), OnCpu());
}

TEST_P(WorkerProgramTest, ARunMayUseItsShareOfTheHost) {
  WorkerProgram& worker = Started({"--host-bytes", "30000"});
  EXPECT_EQ(hello_.memory_bytes() == 30000, OnCpu());
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  const TestVolume volume;  // sums and weights of 16 x 16 x 16 voxels take 33 kB
  worker.Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_failed());
  EXPECT_EQ(answer.failed().reason().code(), "RUN_TOO_LARGE");
}

TEST_P(WorkerProgramTest, RunsAModelOnAVolume) {
  WorkerProgram& worker = Started();
  const auto model = worker.Load("m", ConvArchive(1));
  ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().value() << " "
                            << model.refused().text();
  EXPECT_EQ(model.model_digest(), "m");
  EXPECT_EQ(model.weight_bytes(), 4u);
  EXPECT_GT(model.ms_per_window(), 0);
  EXPECT_GT(model.load_ms(), 0);

  const TestVolume volume;
  worker.Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code() << " " << answer.failed().reason().value()
                                 << " " << answer.failed().reason().text();
  const ipc::v1::RunDone& done = answer.done();
  EXPECT_EQ(done.run_id(), "r");
  EXPECT_EQ(done.windows(), 8u);
  EXPECT_TRUE(done.has_label_map());
  ASSERT_EQ(done.labels_size(), 1);
  EXPECT_EQ(done.labels(0).voxels(), 64u);
  EXPECT_EQ(done.labels(0).first_k(), 4u);
  EXPECT_EQ(done.labels(0).last_k(), 7u);
  ASSERT_EQ(done.findings_size(), 1);
  EXPECT_NEAR(done.findings(0).centre_lps().x_mm(), 5.5, 1e-9);
  EXPECT_NEAR(done.findings(0).volume_ml().value(), 0.064, 1e-9);
  std::set<std::string> stages;
  for (const auto& timing : done.timings()) {
    EXPECT_GE(timing.ms(), 0);
    stages.insert(timing.stage());
  }
  EXPECT_THAT(stages, ::testing::IsSupersetOf({"prepare", "forward", "blend", "labels", "measure"}));

  const std::string labels = volume.Labels();
  for (std::size_t v = 0; v < labels.size(); ++v) {
    const auto inside = [](std::size_t at) { return at >= 4 && at < 8; };
    ASSERT_EQ(labels[v], inside(v % 16) && inside(v / 16 % 16) && inside(v / 256) ? 1 : 0) << v;
  }
}

TEST_P(WorkerProgramTest, SaysTheSameWhateverTheLanesAndTheCompany) {
  const std::string archive = ScriptArchive(
      "def forward(self, x):\n  return torch.sigmoid(torch.mul(torch.softmax(x, 2), "
      "torch.sum(torch.sin(x))))\n");
  std::vector<std::string> labels;
  std::vector<std::string> answers;
  for (const char* lanes : {"1", "4"}) {
    WorkerProgram& worker = Started({"--lanes", lanes});
    ASSERT_TRUE(worker.Load("m", archive).warm());
    const TestVolume volume(24, 3, 11), other(16);
    worker.Start(volume.Request("r", "m"), volume.Fds());
    worker.Start(other.Request("other", "m"), other.Fds());
    for (int i = 0; i < 2; ++i) {
      WorkerReply answer = worker.AwaitAnswer();
      ASSERT_TRUE(answer.has_done());
      if (answer.done().run_id() != "r") continue;
      answer.mutable_done()->clear_timings();
      answers.push_back(answer.SerializeAsString());
      labels.push_back(volume.Labels());
    }
  }
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_EQ(labels[0], labels[1]);
}

TEST_P(WorkerProgramTest, CancelsARunBetweenWindows) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("slow", SlowArchive()).warm());
  const TestVolume volume(48);
  worker.Start(volume.Request("r", "slow"), volume.Fds());
  const auto progress =
      worker.Await([](const WorkerReply& reply) { return reply.has_progress(); }).progress();
  EXPECT_EQ(progress.run_id(), "r");
  EXPECT_LT(progress.windows_done(), progress.windows_total());
  worker.Cancel("r");
  worker.Cancel("never heard of");
  const WorkerReply answer = worker.AwaitAnswer();
  EXPECT_EQ(answer.failed().run_id(), "r");
  EXPECT_EQ(answer.failed().reason().code(), "CANCELLED");
  // Also one that has not begun; and the id is free again.
  worker.Start(volume.Request("r", "slow"), volume.Fds());
  worker.Cancel("r");
  EXPECT_EQ(worker.AwaitFailure(), "CANCELLED");
}

TEST_P(WorkerProgramTest, TheMostUrgentRunGoesFirst) {
  WorkerProgram& worker = Started({"--lanes", "1"});
  ASSERT_TRUE(worker.Load("slow", SlowArchive()).warm());
  const TestVolume a, b, c;
  worker.Start(a.Request("a", "slow", 1), a.Fds());
  worker.Start(b.Request("b", "slow", 1), b.Fds());
  worker.Start(c.Request("c", "slow", 9), c.Fds());
  std::string order;
  for (int i = 0; i < 3; ++i) order += worker.AwaitAnswer().done().run_id();
  EXPECT_EQ(order, "cab");
}

TEST_P(WorkerProgramTest, HeartbeatsComeWhileAllLanesCompute) {
  WorkerProgram& worker = Started({"--lanes", "1"});
  const std::string archive = ScriptArchive(
      "def forward(self, x):\n  y = x\n  if bool(x.max() > 100):\n    for i in range(1000000000):\n"
      "      y = torch.add(y, 0)\n  return y\n");
  ASSERT_TRUE(worker.Load("m", archive).warm());
  const TestVolume volume;
  ipc::v1::StartRun start = volume.Request("r", "m");
  for (auto& slice : *start.mutable_slices()) slice.set_intercept(1000);
  worker.Start(start, volume.Fds());
  const auto begin = std::chrono::steady_clock::now();
  for (int beats = 0; beats < 4; ++beats) {
    ASSERT_TRUE(worker.Await([](const WorkerReply& reply) { return reply.has_heartbeat(); }).has_heartbeat());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(8));
}

TEST_P(WorkerProgramTest, HeartbeatsSayWhatTheWorkerHoldsOfAGpu) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  for (int beats = 0; beats < 2; ++beats) {
    const WorkerReply reply = worker.Await([](const WorkerReply& next) { return next.has_heartbeat(); });
    ASSERT_TRUE(reply.has_heartbeat());
    if (beats == 0) continue;  // may be older than the model
    EXPECT_EQ(reply.heartbeat().device_memory_used_bytes() > 0, !OnCpu());
  }
}

TEST_P(WorkerProgramTest, RefusesRequestsThatDoNotFitTheirDescriptors) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  const TestVolume volume;
  const base::UniqueFd unsealed = testing::FileOf(std::string(1 << 20, '\0'));
  struct Case {
    const char* value;
    std::function<void(ipc::v1::StartRun&, std::vector<int>&)> change;
  };
  const std::vector<Case> cases = {
      {"slices[3].slot",
       [](auto& start, auto&) { start.mutable_slices(3)->mutable_slot()->set_offset(1ull << 40); }},
      {"slices[3].slot", [](auto& start, auto&) { start.mutable_slices(3)->mutable_slot()->set_offset(7); }},
      {"slices[3].slot",
       [](auto& start, auto&) { start.mutable_slices(3)->mutable_slot()->set_offset(~0ull - 4095); }},
      {"slices[15].slot.bytes",
       [](auto& start, auto&) { start.mutable_slices(15)->mutable_slot()->set_bytes(511); }},
      {"slices[0].slot.arena",
       [](auto& start, auto&) { start.mutable_slices(0)->mutable_slot()->set_arena(1); }},
      {"slices[0].slot.arena", [](auto&, auto& fds) { fds.resize(1); }},
      {"slices[0].slot", [&](auto&, auto& fds) { fds[1] = unsealed.get(); }},
      {"slices[2].stored_type",
       [](auto& start, auto&) {
         start.mutable_slices(2)->set_stored_type(static_cast<ipc::v1::StoredType>(99));
       }},
      {"slices[2].stored_type", [](auto& start, auto&) { start.mutable_slices(2)->clear_stored_type(); }},
      {"slices[2].slope",
       [](auto& start, auto&) {
         start.mutable_slices(2)->set_slope(std::numeric_limits<double>::quiet_NaN());
       }},
      {"stored_columns", [](auto& start, auto&) { start.set_stored_columns(16); }},
      {"stored_columns",
       [](auto& start, auto&) {
         start.set_stored_columns(17);
         start.set_stored_rows(16);
       }},
      {"slices", [](auto& start, auto&) { start.mutable_slices()->RemoveLast(); }},
      {"slices", [](auto& start, auto&) { start.clear_slices(); }},
      {"geometry", [](auto& start, auto&) { start.clear_geometry(); }},
      {"geometry", [](auto& start, auto&) { start.mutable_geometry()->set_size_ijk(0, 0); }},
      {"geometry", [](auto& start, auto&) { start.mutable_geometry()->set_direction_i(0, 0); }},
      {"label_bytes", [](auto& start, auto&) { start.mutable_geometry()->set_size_ijk(0, 4000); }},
      {"label_bytes", [](auto& start, auto&) { start.set_label_bytes(10); }},
      {"label_bytes",
       [](auto& start, auto&) {  // the descriptor holds half of it
         start.set_label_bytes(2 * start.label_bytes());
         start.set_label_bytes_per_voxel(2);
       }},
      {"label_bytes", [&](auto&, auto& fds) { fds[0] = unsealed.get(); }},
      {"label_bytes_per_voxel", [](auto& start, auto&) { start.set_label_bytes_per_voxel(3); }},
      {"", [](auto&, auto& fds) { fds.clear(); }},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    ipc::v1::StartRun start = volume.Request("r" + std::to_string(i), "m");
    std::vector<int> fds = volume.Fds();
    cases[i].change(start, fds);
    worker.Start(start, fds);
    const WorkerReply answer = worker.AwaitAnswer();
    EXPECT_EQ(answer.failed().run_id(), start.run_id());
    EXPECT_EQ(answer.failed().reason().code(), "REQUEST_INVALID") << i;
    EXPECT_EQ(answer.failed().reason().value(), cases[i].value) << i;
  }
  worker.Start(volume.Request("good", "m"), volume.Fds());
  EXPECT_TRUE(worker.AwaitAnswer().has_done());
}

TEST_P(WorkerProgramTest, AFailingWindowFailsItsRunOnly) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(
      worker
          .Load("greedy",
                ScriptArchive(
                    "def forward(self, x):\n  if bool(x.max() > 100):\n"
                    "    x = x + torch.zeros([4398046511104, 64], device=x.device).sum()\n  return x\n"))
          .warm());
  ASSERT_TRUE(
      worker
          .Load("failing", ScriptArchive("def forward(self, x):\n  assert bool(x.max() < 100), \"no\"\n"
                                         "  return x\n"))
          .warm());
  ASSERT_TRUE(worker
                  .Load("dividing", ScriptArchive("def forward(self, x):\n  if bool(x.max() > 100):\n"
                                                  "    x = x / 0.0\n  return x\n"))
                  .warm());
  const TestVolume volume;
  for (const auto& [model, reason] :
       {std::pair{"greedy", "OUT_OF_MEMORY"}, std::pair{"failing", "NETWORK_FAILED"},
        std::pair{"dividing", "NON_FINITE_OUTPUT"}}) {
    ipc::v1::StartRun start = volume.Request("bad", model);
    for (auto& slice : *start.mutable_slices()) slice.set_intercept(1000);
    worker.Start(start, volume.Fds());
    EXPECT_EQ(worker.AwaitFailure(), reason);
    worker.Start(volume.Request("good", model), volume.Fds());
    EXPECT_EQ(worker.AwaitFailure(), "");
  }
}

TEST_P(WorkerProgramTest, EveryThreadIsInTheSandbox) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  int threads = 0;
  for (const auto& task : fs::directory_iterator("/proc/" + std::to_string(worker.child().pid()) + "/task")) {
    std::ifstream status(task.path() / "status");
    const std::string text{std::istreambuf_iterator<char>(status), {}};
    EXPECT_THAT(text, ::testing::HasSubstr("NoNewPrivs:\t1\n"));
    EXPECT_THAT(text, ::testing::HasSubstr("Seccomp:\t2\n"));
    ++threads;
  }
  EXPECT_GE(threads, 6);  // receiving, heartbeat, loading, preparing, finishing, lanes
}

TEST_P(WorkerProgramTest, KeepsNoDescriptorsAndNoMappings) {
  WorkerProgram& worker = Started();
  const fs::path proc = "/proc/" + std::to_string(worker.child().pid());
  const auto count = [&] {
    std::ifstream maps(proc / "maps");
    std::string line;
    std::pair<std::ptrdiff_t, int> found{
        std::distance(fs::directory_iterator(proc / "fd"), fs::directory_iterator()), 0};
    while (std::getline(maps, line)) found.second += line.find("/memfd:") != std::string::npos ? 1 : 0;
    return found;
  };
  std::pair<std::ptrdiff_t, int> before;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
    const TestVolume volume;
    ipc::v1::StartRun start = volume.Request("r", "m");
    if (i % 3 == 1) start.mutable_slices(9)->mutable_slot()->set_offset(1ull << 40);
    worker.Start(start, volume.Fds());
    if (i % 3 == 2) worker.Cancel("r");
    worker.AwaitAnswer();
    if (i == 2) {
      usleep(100'000);
      before = count();
    }
  }
  // The last task's closure may just be on its way out.
  for (int tries = 0; tries < 50 && count() != before; ++tries) usleep(20'000);
  EXPECT_EQ(count(), before);
}

TEST_P(WorkerProgramTest, EndsWithTheFrontWithSigtermAndWithSigkill) {
  Started().child().socket().Shutdown();
  auto exit = worker_->child().Wait(seconds(5));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->signal, 0);
  EXPECT_EQ(exit->exit_code, 0);

  // Also in the middle of a window.
  WorkerProgram& busy = Started();
  ASSERT_TRUE(busy.Load("slow", SlowArchive()).warm());
  const TestVolume volume(48);
  busy.Start(volume.Request("r", "slow"), volume.Fds());
  busy.Await([](const WorkerReply& reply) { return reply.has_progress(); });
  busy.child().Kill(SIGTERM);
  exit = busy.child().Wait(seconds(5));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->signal, 0);
  EXPECT_EQ(exit->exit_code, 0);

  Started().child().Kill(SIGKILL);
  exit = worker_->child().Wait(seconds(5));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->signal, SIGKILL);
}

}  // namespace
}  // namespace tomoserve
