// Known answers as the program tomoserve-worker carries them out, on the CPU and on a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/worker_program.h"
#include "models/npy_files.h"

namespace tomoserve {
namespace {

using testing::ConvArchive;
using testing::SmallRecipe;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

constexpr std::uint32_t kSize = 12;
constexpr char kShape[] = "(12, 12, 12)";

// 1 in a block of 4 along each axis, which ends at voxel `last` along i.
template <typename Value>
std::string Block(std::uint32_t last = 7) {
  std::vector<Value> values(std::size_t{kSize} * kSize * kSize);
  for (std::uint32_t k = 4; k < 8; ++k) {
    for (std::uint32_t j = 4; j < 8; ++j) {
      for (std::uint32_t i = 4; i <= last; ++i) values[(k * kSize + j) * kSize + i] = 1;
    }
  }
  return models::NpyOf(values, kShape);
}

v1::Recipe KnowingRecipe(v1::Recipe recipe = SmallRecipe()) {
  v1::KnownAnswer& known = *recipe.mutable_known_answer();
  known.set_volume("known_answer.npy");
  known.set_labels("known_answer_labels.npy");
  known.set_differing_voxels(0.001);
  v1::Geometry& geometry = *known.mutable_geometry();
  for (int axis = 0; axis < 3; ++axis) {
    geometry.add_size_ijk(kSize);
    geometry.add_spacing_mm(1);
    geometry.add_direction_i(axis == 0 ? 1 : 0);
    geometry.add_direction_j(axis == 1 ? 1 : 0);
    geometry.add_direction_k(axis == 2 ? 1 : 0);
  }
  geometry.mutable_origin_lps();
  return recipe;
}

class WorkerKnownAnswerTest : public testing::WorkerOnDevices {
 protected:
  ipc::v1::ModelState Check(const std::string& digest) {
    ipc::v1::WorkerRequest request;
    request.mutable_check()->set_model_digest(digest);
    worker_->Send(request);
    return worker_->Await([](const WorkerReply& reply) { return reply.has_model(); }).model();
  }
  // Whether the worker carries out a run of the model.
  std::string FailureOf(const std::string& digest) {
    const TestVolume volume;
    worker_->Start(volume.Request("r", digest), volume.Fds());
    return worker_->AwaitFailure();
  }
};

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerKnownAnswerTest);

TEST_P(WorkerKnownAnswerTest, AModelWhoseAnswerIsTheKnownOneIsWarm) {
  WorkerProgram& worker = Started();
  const auto state = worker.LoadEnsemble("m", {ConvArchive(1), Block<std::int16_t>(), Block<std::uint8_t>()},
                                         KnowingRecipe());
  ASSERT_TRUE(state.warm()) << state.refused().code() << " " << state.refused().text();
  EXPECT_EQ(state.weight_bytes(), 4u) << "the network's only";
  const auto again = Check("m");
  EXPECT_TRUE(again.warm()) << again.refused().code();
  EXPECT_EQ(again.model_digest(), "m");
  EXPECT_EQ(FailureOf("m"), "");
}

// Beside a run a GPU's memory is the run's, too.
TEST_P(WorkerKnownAnswerTest, AForwardPassThatWasNotMeasuredBesideARunIsMeasuredWhenTheModelIsAskedAgain) {
  WorkerProgram& worker = Started();
  const std::string slow = testing::ScriptArchive(
      "def forward(self, x):\n  for i in range(300):\n    x = torch.sin(x)\n  return x\n");
  const auto first = worker.Load("slow", slow);
  ASSERT_TRUE(first.warm()) << first.refused().code();
  EXPECT_GT(first.forward_bytes(), 0u);
  const TestVolume volume(64);
  worker.Start(volume.Request("r", "slow"), volume.Fds());
  constexpr std::uint64_t kWindow = 64 * 64 * 64 * 4;
  const auto state = worker.Load("m", ConvArchive(1), SmallRecipe(64));
  ASSERT_TRUE(state.warm()) << state.refused().code();
  if (OnCpu()) {
    EXPECT_GE(state.forward_bytes(), 2 * 3 * kWindow) << "two lanes: window, own copy, answer";
    EXPECT_LE(state.forward_bytes(), 2 * 6 * kWindow);
  }
  auto again = Check("m");
  for (int tries = 0; again.forward_bytes() == 0 && tries < 600; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the run goes on
    again = Check("m");
  }
  EXPECT_TRUE(again.warm()) << again.refused().code();
  EXPECT_GE(again.forward_bytes(), 3 * kWindow);
  if (state.forward_bytes() > 0) {
    EXPECT_EQ(again.forward_bytes(), state.forward_bytes()) << "what is known stays";
  }
}

TEST_P(WorkerKnownAnswerTest, AnotherAnswerIsRefusedWithItsFiguresAndHurtsNobody) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("other", ConvArchive(1)).warm());
  // The answer says five columns, the volume has four; weights and volume are as above.
  const auto state = worker.LoadEnsemble("m", {ConvArchive(1), Block<std::int16_t>(), Block<std::uint8_t>(8)},
                                         KnowingRecipe());
  EXPECT_FALSE(state.warm());
  EXPECT_EQ(state.refused().code(), "KNOWN_ANSWER_DIFFERS");
  EXPECT_EQ(state.refused().value(), "20 % of 80 voxels differ, 0.1 % may");
  EXPECT_EQ(FailureOf("m"), "MODEL_NOT_LOADED");
  EXPECT_EQ(FailureOf("other"), "");
}

TEST_P(WorkerKnownAnswerTest, AnotherNetworkHasAnotherAnswer) {
  WorkerProgram& worker = Started();
  const auto state = worker.LoadEnsemble(
      "m", {ConvArchive(0.4), Block<std::int16_t>(), Block<std::uint8_t>()}, KnowingRecipe());
  EXPECT_EQ(state.refused().code(), "KNOWN_ANSWER_DIFFERS");
  EXPECT_EQ(state.refused().value(), "100 % of 64 voxels differ, 0.1 % may");
}

TEST_P(WorkerKnownAnswerTest, PreparationAndChannelsAreThoseOfARun) {
  WorkerProgram& worker = Started();
  v1::Recipe recipe = SmallRecipe();
  *recipe.add_inputs() = recipe.inputs(0);
  recipe.mutable_inputs(1)->set_name("late");
  recipe.mutable_network()->set_input_channels(2);
  recipe.mutable_preparation()->set_orientation("RAS");
  // The network takes the difference: exchanged channels would have no label.
  const std::string code = "def forward(self, x):\n  return x[:, 0:1] - x[:, 1:2]\n";
  std::vector<std::int16_t> values(2 * std::size_t{kSize} * kSize * kSize);
  for (std::size_t n = 0; n < values.size() / 2; ++n) values[n] = n % 7 == 0 ? 3 : 0;
  for (std::size_t n = values.size() / 2; n < values.size(); ++n) values[n] = 1;
  std::vector<std::uint8_t> labels(values.size() / 2);
  for (std::size_t n = 0; n < labels.size(); ++n) labels[n] = n % 7 == 0 ? 1 : 0;
  const auto state = worker.LoadEnsemble(
      "m",
      {testing::ScriptArchive(code), models::NpyOf(values, "(2, 12, 12, 12)"), models::NpyOf(labels, kShape)},
      KnowingRecipe(recipe));
  EXPECT_TRUE(state.warm()) << state.refused().code() << " " << state.refused().value();
}

TEST_P(WorkerKnownAnswerTest, FilesThatAreNotTheFrontsAreRefused) {
  WorkerProgram& worker = Started();
  const auto refusal = [&](const std::string& volume, const std::string& labels) {
    return worker.LoadEnsemble("m", {ConvArchive(1), volume, labels}, KnowingRecipe()).refused();
  };
  EXPECT_EQ(refusal(Block<std::int16_t>().substr(0, 200), Block<std::uint8_t>()).value(),
            "known_answer.volume");
  EXPECT_EQ(refusal(Block<std::int16_t>(), Block<std::int16_t>()).value(), "known_answer.labels");
  EXPECT_EQ(worker.LoadEnsemble("m", {ConvArchive(1)}, KnowingRecipe()).refused().code(), "REQUEST_INVALID");
  ipc::v1::WorkerRequest request;
  request.mutable_load()->set_model_digest("m");
  *request.mutable_load()->mutable_recipe() = KnowingRecipe();
  const std::vector<std::string> files{ConvArchive(1), Block<std::int16_t>(), Block<std::uint8_t>()};
  std::vector<base::UniqueFd> descriptors;
  std::vector<int> fds;
  for (const std::string& file : files) {
    request.mutable_load()->add_file_sha256(base::Sha256Hex(fds.size() == 2 ? "another" : file));
    descriptors.push_back(testing::FileOf(file));
    fds.push_back(descriptors.back().get());
  }
  worker.Send(request, fds);
  const auto state = worker.Await([](const WorkerReply& reply) { return reply.has_model(); }).model();
  EXPECT_EQ(state.refused().code(), "DIGEST_MISMATCH");
  EXPECT_EQ(state.refused().value(), "known_answer_labels.npy");
}

TEST_P(WorkerKnownAnswerTest, ACheckOfAModelThatIsNotThereSaysSo) {
  Started();
  EXPECT_EQ(Check("nobody").refused().code(), "MODEL_NOT_LOADED");
}

// A network that counts its calls in a buffer and answers otherwise after many: what a device that has gone
// wrong does.
TEST(WorkerKnownAnswerOnCpuTest, AModelThatChangesItsMindIsForgotten) {
  WorkerProgram worker({"--device", "cpu", "--lanes", "1"});
  worker.AwaitHello();
  const std::string archive = testing::ScriptArchive(
      "def forward(self, x):\n"
      "  self.calls += 1\n"
      "  if bool(self.calls > 40):\n"
      "    return x * 0\n"
      "  return x\n",
      [](torch::jit::Module& m) { m.register_buffer("calls", at::full({1}, 0.0)); });
  const auto state =
      worker.LoadEnsemble("m", {archive, Block<std::int16_t>(), Block<std::uint8_t>()}, KnowingRecipe());
  ASSERT_TRUE(state.warm()) << state.refused().code() << " " << state.refused().text();
  ipc::v1::ModelState last;
  for (int n = 0; n < 20 && last.refused().code().empty(); ++n) {
    ipc::v1::WorkerRequest request;
    request.mutable_check()->set_model_digest("m");
    worker.Send(request);
    last = worker.Await([](const WorkerReply& reply) { return reply.has_model(); }).model();
  }
  EXPECT_EQ(last.refused().code(), "KNOWN_ANSWER_DIFFERS") << last.refused().text();
  const TestVolume volume;
  worker.Start(volume.Request("r", "m"), volume.Fds());
  EXPECT_EQ(worker.AwaitFailure(), "MODEL_NOT_LOADED");
}

}  // namespace
}  // namespace tomoserve
