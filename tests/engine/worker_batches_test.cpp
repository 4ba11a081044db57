// Windows of several runs in one pass: the same bytes in every company. On the CPU, too, where a worker has
// batches only if it is told to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>

#include "engine/worker_program.h"

namespace tomoserve {
namespace {

using std::chrono::seconds;
using testing::ScriptArchive;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

// Passes of some milliseconds, so that runs meet; `result` may use x, and y = 0 * x.
std::string Archive(const std::string& result, const std::function<void(torch::jit::Module&)>& setup = {}) {
  return ScriptArchive(
      "def forward(self, x):\n  y = torch.mul(x, 0)\n  for i in range(1000):\n    y = torch.add(y, 0)\n  "
      "return " +
          result + "\n",
      setup);
}

// Sums over many values, where an order would show.
std::string SummingArchive() {
  return Archive(
      "torch.sigmoid(torch.mul(torch.softmax(x, 2), torch.sum(torch.sin(x), [1, 2, 3, 4], True)))");
}

struct Study {
  std::string run_id;
  std::uint32_t size = 16;
  std::uint32_t first = 4;
  std::uint32_t bright = 4;
  double intercept = 0;
  std::uint32_t urgency = 0;
};

class WorkerBatchesTest : public testing::WorkerOnDevices {
 protected:
  // Its log goes into a file.
  WorkerProgram& Logged(std::vector<std::string> options) {
    log_ = base::UniqueFd(memfd_create("log", MFD_CLOEXEC));
    const base::UniqueFd before(dup(STDERR_FILENO));
    EXPECT_GE(dup2(log_.get(), STDERR_FILENO), 0);
    WorkerProgram& worker = Started(std::move(options));
    EXPECT_GE(dup2(before.get(), STDERR_FILENO), 0);
    return worker;
  }
  // The last line of an event so far.
  std::string LogLine(const std::string& event) const {
    std::string text(1 << 20, '\0');
    text.resize(
        static_cast<std::size_t>(std::max<ssize_t>(0, pread(log_.get(), text.data(), text.size(), 0))));
    const auto at = text.rfind("\"" + event + "\"");
    if (at == std::string::npos) return "";
    const auto begin = text.rfind('\n', at) + 1;
    return text.substr(begin, text.find('\n', at) - begin);
  }
  std::int64_t Logged(const std::string& event, const std::string& field) const {
    const std::string line = LogLine(event);
    const auto at = line.find("\"" + field + "\":");
    EXPECT_NE(at, std::string::npos) << line;
    return at == std::string::npos ? -1 : std::stoll(line.substr(at + field.size() + 3));
  }
  void End() {
    worker_->child().socket().Shutdown();
    ASSERT_TRUE(worker_->child().Wait(seconds(10)).ok());
  }

  // Starts all studies at once on model "m". What each answers, without times, and its label map; or the code
  // of its failure.
  std::map<std::string, std::string> Answers(const std::vector<Study>& studies) {
    std::map<std::string, TestVolume> volumes;
    for (const Study& study : studies) {
      TestVolume& volume =
          volumes.try_emplace(study.run_id, study.size, study.first, study.bright).first->second;
      ipc::v1::StartRun start = volume.Request(study.run_id, "m", study.urgency);
      for (auto& slice : *start.mutable_slices()) slice.set_intercept(study.intercept);
      worker_->Start(start, volume.Fds());
    }
    std::map<std::string, std::string> answers;
    for (std::size_t i = 0; i < studies.size(); ++i) {
      WorkerReply answer = worker_->AwaitAnswer();
      if (answer.has_failed()) {
        answers[answer.failed().run_id()] = answer.failed().reason().code();
        continue;
      }
      ipc::v1::RunDone& done = *answer.mutable_done();
      done.clear_timings();
      EXPECT_TRUE(volumes.contains(done.run_id())) << done.run_id();
      answers[done.run_id()] = done.SerializeAsString() + volumes.at(done.run_id()).Labels();
    }
    return answers;
  }
  // The same, each alone on a worker without batches.
  std::map<std::string, std::string> AnswersAlone(const std::string& archive,
                                                  const std::vector<Study>& studies) {
    EXPECT_TRUE(Started({"--lanes", "1", "--buckets", "1"}).Load("m", archive).warm());
    std::map<std::string, std::string> answers;
    for (const Study& study : studies) answers.merge(Answers({study}));
    return answers;
  }

  base::UniqueFd log_;
};

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerBatchesTest);

TEST_P(WorkerBatchesTest, TheSameBytesAloneAmongOthersLastInABatchAndAfterARetry) {
  const std::string archive = SummingArchive();
  const Study study{.run_id = "r", .size = 24, .first = 3, .bright = 11};
  const std::string alone = AnswersAlone(archive, {study})["r"];
  ASSERT_GT(alone.size(), 24u * 24 * 24);
  std::vector<Study> company;
  for (std::uint32_t n = 0; n < 6; ++n) {
    company.push_back({.run_id = "other" + std::to_string(n),
                       .size = 16 + n,
                       .first = n,
                       .bright = 5 + n,
                       .intercept = 0.25 * n,
                       .urgency = n % 3});
  }
  for (const char* lanes : {"1", "2"}) {
    WorkerProgram& worker = Logged({"--lanes", lanes, "--buckets", "1,2,4"});
    ASSERT_TRUE(worker.Load("m", archive).warm());
    EXPECT_THAT(LogLine("buckets_proved"), ::testing::HasSubstr("\"buckets\":\"1,2,4\""));
    EXPECT_EQ(Answers({study})["r"], alone);
    std::vector<Study> first = company;
    first.insert(first.begin(), study);
    EXPECT_EQ(Answers(first)["r"], alone);
    std::vector<Study> last = company;
    last.push_back(study);
    EXPECT_EQ(Answers(last)["r"], alone);
    last.back().urgency = 9;
    EXPECT_EQ(Answers(last)["r"], alone);
    // Cancelled somewhere in the middle of its windows, and tried again.
    const TestVolume given_up(24, 3, 11);
    worker.Start(given_up.Request("r", "m"), given_up.Fds());
    worker.Await([](const WorkerReply& reply) { return reply.has_progress(); });
    worker.Cancel("r");
    worker.AwaitAnswer();
    EXPECT_EQ(Answers(last)["r"], alone);
    End();
    EXPECT_LT(2 * Logged("worker_ends", "batches"), Logged("worker_ends", "windows"));
    EXPECT_EQ(Logged("worker_ends", "retried_batches"), 0);
  }
}

TEST_P(WorkerBatchesTest, MirrorImagesAreTheSameInABatch) {
  v1::Recipe recipe = testing::SmallRecipe();
  for (const std::uint32_t axis : {0u, 2u}) recipe.mutable_network()->add_mirror_axes(axis);
  const std::string archive = Archive("torch.cumsum(torch.sin(x), 2)");
  std::vector<std::map<std::string, std::string>> answers;
  for (const char* buckets : {"1", "1,2,4"}) {
    ASSERT_TRUE(Logged({"--lanes", "1", "--buckets", buckets}).Load("m", archive, recipe).warm());
    answers.push_back(Answers({{.run_id = "a"}, {.run_id = "b", .size = 20, .first = 1, .bright = 9}}));
    End();
    EXPECT_EQ(Logged("worker_ends", "batches") < Logged("worker_ends", "windows"), buckets[1] != '\0');
  }
  EXPECT_EQ(answers[0], answers[1]);
}

TEST_P(WorkerBatchesTest, ANetworkThatIsAnotherInABatchRunsAlone) {
  const std::vector<Study> studies = {
      {.run_id = "a"}, {.run_id = "b", .size = 24, .bright = 9}, {.run_id = "c", .bright = 2}};
  struct Case {
    const char* result;
    const char* reason;
  };
  for (const Case& of : {Case{"x + torch.sub(x, x.mean([0], True))", "BATCH_CHANGES_BITS"},
                         Case{"x * torch.sum(torch.sin(x))", "BATCH_CHANGES_BITS"},
                         Case{"x * 3 if bool(x.max() > 100) else x", "BATCH_BRANCHES"},
                         Case{"x.reshape([1, 1, 8, 8, 8])", "NETWORK_FAILED"}}) {
    const std::string archive = Archive(of.result);
    const auto alone = AnswersAlone(archive, studies);
    ASSERT_TRUE(Logged({"--lanes", "1", "--buckets", "1,2,4"}).Load("m", archive).warm());
    EXPECT_THAT(LogLine("buckets_proved"), ::testing::HasSubstr("\"buckets\":\"1\""));
    EXPECT_THAT(LogLine("buckets_proved"), ::testing::HasSubstr(of.reason));
    EXPECT_EQ(Answers(studies), alone);
    End();
    EXPECT_EQ(Logged("worker_ends", "batches"), Logged("worker_ends", "windows"));
  }
}

TEST_P(WorkerBatchesTest, AnEarlierProofStandsWhereTheSameSizesWereTried) {
  // Would not be proved: what is used shows whether it was tried.
  const std::string archive = Archive("x + torch.sub(x, x.mean([0], True))");
  ipc::v1::BucketProof proof;
  for (const std::uint32_t size : {1, 2}) proof.add_buckets(size);
  for (const std::uint32_t size : {1, 2, 4}) proof.add_tried(size);
  const auto known =
      Started({"--lanes", "1", "--buckets", "1,2,4"}).Load("m", archive, testing::SmallRecipe(), proof);
  ASSERT_TRUE(known.warm());
  EXPECT_GT(known.ms_per_window(), 0);
  EXPECT_THAT(known.proof().buckets(), ::testing::ElementsAre(1, 2));
  EXPECT_THAT(known.proof().tried(), ::testing::ElementsAre(1, 2, 4));
  const auto other =
      Started({"--lanes", "1", "--buckets", "1,2"}).Load("m", archive, testing::SmallRecipe(), proof);
  ASSERT_TRUE(other.warm());
  EXPECT_THAT(other.proof().buckets(), ::testing::ElementsAre(1)) << "proved anew";
}

TEST_P(WorkerBatchesTest, ASizeThatFailedIsNoProofForTheNextStart) {
  const auto state =
      Started({"--lanes", "1", "--buckets", "1,2,4"}).Load("m", Archive("x.reshape([1, 1, 8, 8, 8])"));
  ASSERT_TRUE(state.warm());
  EXPECT_THAT(state.proof().buckets(), ::testing::ElementsAre(1));
  EXPECT_THAT(state.proof().tried(), ::testing::IsEmpty());
}

TEST_P(WorkerBatchesTest, WindowsOfAnySizeRunAlone) {
  WorkerProgram& worker = Logged({"--lanes", "1", "--buckets", "1,2"});
  ASSERT_TRUE(worker.Load("m", Archive("x"), testing::SmallRecipe(0)).warm());
  EXPECT_THAT(LogLine("buckets_proved"), ::testing::HasSubstr("\"buckets\":\"1\""));
  for (const auto& [run_id, answer] : Answers({{.run_id = "a"}, {.run_id = "b", .size = 24}})) {
    EXPECT_GT(answer.size(), 1000u) << run_id;
  }
}

TEST_P(WorkerBatchesTest, WhatIsNoNumberHarmsNoBatchMate) {
  const std::string archive = Archive("torch.add(x, torch.mul(torch.log(torch.sub(100, x)), 0))");
  const std::vector<Study> good = {{.run_id = "a", .size = 24}, {.run_id = "b", .size = 20, .bright = 9}};
  const auto alone = AnswersAlone(archive, good);
  ASSERT_TRUE(Logged({"--lanes", "1", "--buckets", "1,2,4"}).Load("m", archive).warm());
  auto answers = Answers({good[0], {.run_id = "bad", .intercept = 1000, .urgency = 1}, good[1]});
  EXPECT_EQ(answers["bad"], "NON_FINITE_OUTPUT");
  answers.erase("bad");
  EXPECT_EQ(answers, alone);
  End();
  EXPECT_LT(Logged("worker_ends", "batches"), Logged("worker_ends", "windows"));
}

TEST_P(WorkerBatchesTest, ABatchThatFailsIsComputedWindowByWindow) {
  if (!OnCpu()) GTEST_SKIP() << "on a GPU an index out of range loses the device";
  const std::string archive =
      Archive("torch.add(x, torch.squeeze(torch.embedding(self.table, torch.clamp_min(x.long(), 0)), -1))",
              [](torch::jit::Module& m) {
                m.register_parameter("table", at::full({10, 1}, 0.0), false);
              });
  const std::vector<Study> good = {{.run_id = "a", .size = 24}, {.run_id = "b", .size = 20, .bright = 9}};
  const auto alone = AnswersAlone(archive, good);
  ASSERT_TRUE(Logged({"--lanes", "1", "--buckets", "1,2,4"}).Load("m", archive).warm());
  auto answers = Answers({good[0], {.run_id = "bad", .intercept = 1000, .urgency = 1}, good[1]});
  EXPECT_EQ(answers["bad"], "NETWORK_FAILED");
  answers.erase("bad");
  EXPECT_EQ(answers, alone);
  End();
  EXPECT_GE(Logged("worker_ends", "retried_batches"), 1);
}

TEST(WorkerBucketsTest, BucketsAscendFromOne) {
  for (const char* buckets : {"2,4", "1,4,2", "1,1", "0", "1,65", "many"}) {
    WorkerProgram worker({"--buckets", buckets});
    const auto exit = worker.child().Wait(seconds(10));
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_EQ(exit->exit_code, 2) << buckets;
  }
}

}  // namespace
}  // namespace tomoserve
