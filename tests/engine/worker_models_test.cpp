// Models as the program tomoserve-worker loads and refuses them, on the CPU and on a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/worker_program.h"

namespace tomoserve {
namespace {

using testing::ConvArchive;
using testing::ScriptArchive;
using testing::SmallRecipe;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

class WorkerModelsTest : public testing::WorkerOnDevices {};

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerModelsTest);

TEST_P(WorkerModelsTest, RunsInHalfPrecisionWhereTheRecipeSaysSo) {
  WorkerProgram& worker = Started();
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_network()->set_precision(v1::PRECISION_FLOAT16);
  const auto model = worker.Load("m", ConvArchive(1), recipe);
  ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().text();
  const TestVolume volume;
  worker.Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code();
  EXPECT_EQ(answer.done().labels(0).voxels(), 64u);
}

TEST_P(WorkerModelsTest, RunsNetworksWhoseWeightsAreHalfPrecisionOrBfloat16) {
  WorkerProgram& worker = Started();
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    const std::string archive = ScriptArchive(
        "def forward(self, x):\n  return torch.conv3d(x, self.weight)\n", [type](torch::jit::Module& m) {
          m.register_parameter("weight", at::full({1, 1, 1, 1, 1}, 1.0, type), false);
        });
    const auto model = worker.Load("m", archive);
    ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().text();
    EXPECT_EQ(model.weight_bytes(), OnCpu() ? 4u : 2u);
    const TestVolume volume;
    worker.Start(volume.Request("r", "m"), volume.Fds());
    const WorkerReply answer = worker.AwaitAnswer();
    ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code();
    EXPECT_EQ(answer.done().labels(0).voxels(), 64u);
  }
}

TEST_P(WorkerModelsTest, AnEnsembleIsTheMeanOfItsFiles) {
  WorkerProgram& worker = Started();
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_network()->add_files("second.ts");
  recipe.mutable_network()->add_files("third.ts");
  const TestVolume volume;
  // The mean of 1, 1 and -0.6 is below 0.5, of 1, 1 and -0.4 above.
  for (const auto& [weight, voxels] : {std::pair{-0.6, 0u}, {-0.4, 64u}}) {
    const std::vector<std::string> archives{ConvArchive(1), ConvArchive(1), ConvArchive(weight)};
    const auto model = worker.LoadEnsemble("m", archives, recipe);
    ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().text();
    EXPECT_EQ(model.weight_bytes(), 12u);
    worker.Start(volume.Request("r", "m"), volume.Fds());
    const WorkerReply answer = worker.AwaitAnswer();
    ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code();
    EXPECT_EQ(answer.done().labels(0).voxels(), voxels);
  }
  // Each file is verified, scanned and warmed up.
  const auto refusal = [&](const std::string& third, const char* value) {
    const auto state = worker.LoadEnsemble("m", {ConvArchive(1), ConvArchive(1), third}, recipe);
    EXPECT_FALSE(state.warm());
    if (value != nullptr) {
      EXPECT_EQ(state.refused().value(), value);
    }
    return state.refused().code();
  };
  EXPECT_EQ(refusal("no archive", "third.ts"), "MODEL_UNREADABLE");
  EXPECT_EQ(
      refusal(ScriptArchive("def forward(self, x):\n  torch.save(x, \"/tmp/x\")\n  return x\n"), nullptr),
      "MODEL_FORBIDDEN_OP");
  EXPECT_EQ(refusal(ConvArchive(1, 1, 2), nullptr), "MODEL_SHAPE");
  const auto missing = worker.LoadEnsemble("m", {ConvArchive(1), ConvArchive(1)}, recipe);
  EXPECT_EQ(missing.refused().code(), "REQUEST_INVALID");
  EXPECT_EQ(missing.refused().value(), "file_sha256");
}

TEST_P(WorkerModelsTest, ANetworkMaySeeTheWholeVolume) {
  WorkerProgram& worker = Started();
  v1::Recipe recipe = SmallRecipe(0);
  recipe.mutable_preparation()->set_orientation("LIA");
  const auto model = worker.Load("m", ConvArchive(1), recipe);
  ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().text();
  const TestVolume volume(24, 5, 3);
  worker.Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code();
  EXPECT_EQ(answer.done().windows(), 1u);
  EXPECT_EQ(answer.done().labels(0).voxels(), 27u);
  EXPECT_EQ(answer.done().labels(0).first_k(), 5u);
}

TEST_P(WorkerModelsTest, RefusesModelsWithTheReason) {
  WorkerProgram& worker = Started();
  const auto refusal = [&](const std::string& archive, const v1::Recipe& recipe = SmallRecipe()) {
    const auto state = worker.Load("m", archive, recipe);
    EXPECT_FALSE(state.warm());
    return state.refused().code();
  };
  EXPECT_EQ(refusal("no archive"), "MODEL_UNREADABLE");
  EXPECT_EQ(refusal(ConvArchive(1, 1, 2)), "MODEL_SHAPE");
  EXPECT_EQ(refusal(ScriptArchive("def forward(self, x):\n  return {\"a\": x, \"b\": x}\n")), "MODEL_OUTPUT");
  EXPECT_EQ(refusal(ScriptArchive("def forward(self, x):\n  torch.save(x, \"/tmp/x\")\n  return x\n")),
            "MODEL_FORBIDDEN_OP");
  // The only way of TorchScript to another process.
  EXPECT_EQ(refusal(testing::WithCode(ScriptArchive("def forward(self, x):\n  return torch.relu(x)\n"),
                                      "torch.relu(x)", "ops.c10d.send(x, 0, 0)")),
            "MODEL_FORBIDDEN_OP");
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_windows()->set_overlap(2);
  EXPECT_EQ(refusal(ConvArchive(1), recipe), "RECIPE_INVALID");

  const TestVolume volume;
  worker.Start(volume.Request("r", "m"), volume.Fds());
  EXPECT_EQ(worker.AwaitFailure(), "MODEL_NOT_LOADED");
}

TEST_P(WorkerModelsTest, SaysWhichFieldOfTheRecipeIsWrong) {
  WorkerProgram& worker = Started();
  const auto refusal = [&](const std::string& archive, const v1::Recipe& recipe) {
    const auto state = worker.Load("m", archive, recipe);
    EXPECT_FALSE(state.warm());
    return state.refused();
  };
  // What only the network knows is found at warm-up.
  const ipc::v1::Refusal channels = refusal(ConvArchive(1, 1, 2), SmallRecipe());
  EXPECT_EQ(channels.code(), "MODEL_SHAPE");
  EXPECT_EQ(channels.value(), "1x2x8x8x8");
  EXPECT_THAT(channels.text(), ::testing::HasSubstr("network.output_channels"));
  EXPECT_THAT(refusal(ConvArchive(1, 2), SmallRecipe()).text(),
              ::testing::HasSubstr("network.input_channels"));
  // Halves its input and puts it together again.
  const std::string halving = ScriptArchive(
      "def forward(self, x):\n  return x + torch.upsample_nearest3d(torch.max_pool3d(x, [2, 2, 2]), None, "
      "[2.0, 2.0, 2.0])\n");
  EXPECT_TRUE(worker.Load("halving", halving).warm());
  const ipc::v1::Refusal odd = refusal(halving, SmallRecipe(9));
  EXPECT_EQ(odd.code(), "MODEL_SHAPE");
  EXPECT_EQ(odd.value(), "1x1x9x9x9");
  EXPECT_THAT(odd.text(), ::testing::HasSubstr("windows.size"));
  const std::string half = ScriptArchive("def forward(self, x):\n  return torch.max_pool3d(x, [2, 2, 2])\n");
  EXPECT_THAT(refusal(half, SmallRecipe()).text(), ::testing::HasSubstr("windows.size"));
  // The rest before the network is loaded.
  v1::Recipe nameless = SmallRecipe();
  nameless.mutable_labels(0)->clear_name();
  EXPECT_EQ(refusal(ConvArchive(1), nameless).value(), "labels[0].name");
  v1::Recipe flat = SmallRecipe();
  v1::Spacing& spacing = *flat.mutable_preparation()->mutable_spacing();
  for (const double mm : {1.0, 0.0, 1.0}) spacing.add_spacing_mm(mm);
  EXPECT_EQ(refusal(ConvArchive(1), flat).value(), "preparation.spacing.spacing_mm");
}

TEST_P(WorkerModelsTest, AnUnloadedModelIsGone) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  ipc::v1::WorkerRequest request;
  request.mutable_unload()->set_model_digest("m");
  worker.Send(request);
  ASSERT_TRUE(worker.Load("another", ConvArchive(1)).warm());  // in order after it
  const TestVolume volume;
  worker.Start(volume.Request("r", "m"), volume.Fds());
  EXPECT_EQ(worker.AwaitFailure(), "MODEL_NOT_LOADED");
}

}  // namespace
}  // namespace tomoserve
