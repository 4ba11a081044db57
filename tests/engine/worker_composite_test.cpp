// A composite on a worker: its networks one after the other, one label map.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/worker_program.h"

namespace tomoserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ScriptArchive;
using testing::TestVolume;
using testing::WorkerReply;

std::string Returning(const std::string& channels) {
  return ScriptArchive("def forward(self, x):\n  y = torch.mul(x, 0)\n  return torch.cat([" + channels +
                       "], 1)\n");
}

// Label 2 where the volume is 0, 9 where it is 1.
std::string DarkAndBright() { return Returning("torch.add(y, 0.6), torch.rsub(x, 1), torch.mul(x, 0.9)"); }

// Label 7 from the third bright voxel of a row on, where the volume comes halved; the mean of two networks.
std::vector<std::string> EndsOfRows() {
  return {Returning("torch.add(y, 0.5), torch.sub(torch.mul(torch.cumsum(torch.mul(x, 2), 2), "
                    "torch.mul(x, 4)), 4)"),
          Returning("torch.add(y, 0.5), y")};
}

v1::Recipe Composite() {
  v1::Recipe recipe = testing::SmallRecipe();
  v1::Network& network = *recipe.mutable_network();
  network.clear_files();
  network.clear_output_channels();
  recipe.mutable_decode(1)->mutable_arg_max();
  for (const std::uint32_t value : {2, 7, 9}) {
    v1::Label label = recipe.labels(0);
    label.set_value(value);
    label.set_name("label " + std::to_string(value));
    if (value == 2) {
      *recipe.mutable_labels(0) = label;
    } else {
      *recipe.add_labels() = label;
    }
  }
  recipe.mutable_findings(0)->set_label(7);
  recipe.mutable_flags(0)->set_label(7);
  v1::Part& first = *network.add_parts();
  first.set_name("first");
  first.add_files("a.ts");
  first.set_output_channels(3);
  first.add_labels(2);
  first.add_labels(9);
  v1::Part& ends = *network.add_parts();
  ends.set_name("ends");
  ends.add_files("b.ts");
  ends.add_files("c.ts");
  ends.set_output_channels(2);
  ends.add_labels(7);
  ends.add_intensity()->mutable_affine()->set_scale(0.5);
  return recipe;
}

std::vector<std::string> Archives() {
  std::vector<std::string> archives = EndsOfRows();
  archives.insert(archives.begin(), DarkAndBright());
  return archives;
}

// Of a TestVolume of 16 voxels whose block begins at `first` along each axis.
std::string Expected(int first = 4, int bright = 4) {
  std::string labels;
  const auto inside = [&](int at) { return at >= first && at < first + bright; };
  for (int k = 0; k < 16; ++k) {
    for (int j = 0; j < 16; ++j) {
      for (int i = 0; i < 16; ++i) {
        const bool is_bright = inside(i) && inside(j) && inside(k);
        const int begin = std::max(first, i / 8 * 8);  // of the row in its window
        labels.push_back(static_cast<char>(!is_bright ? 2 : i >= begin + 2 ? 7 : 9));
      }
    }
  }
  return labels;
}

class WorkerCompositeTest : public testing::WorkerOnDevices {};

TEST_P(WorkerCompositeTest, PartsPaintOneLabelMap) {
  const ipc::v1::ModelState state = Started().LoadEnsemble("m", Archives(), Composite());
  ASSERT_TRUE(state.warm()) << state.refused().code() << ": " << state.refused().text();
  EXPECT_GT(state.ms_per_window(), 0);
  const TestVolume volume;
  worker_->Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply answer = worker_->AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().reason().code() << answer.failed().reason().text();
  EXPECT_TRUE(volume.Labels() == Expected());
  EXPECT_EQ(answer.done().windows(), 2u * 8) << "eight for each part";
  ASSERT_EQ(answer.done().findings_size(), 1);
  EXPECT_EQ(answer.done().findings(0).voxels(), 2u * 4 * 4);
  EXPECT_FLOAT_EQ(static_cast<float>(answer.done().findings(0).score()), 2) << "the mean of both networks";
}

TEST_P(WorkerCompositeTest, ProgressCountsTheWindowsOfAllParts) {
  ASSERT_TRUE(Started().LoadEnsemble("m", Archives(), Composite()).warm());
  const TestVolume volume(64);
  worker_->Start(volume.Request("r", "m"), volume.Fds());
  const WorkerReply progress =
      worker_->Await([](const WorkerReply& reply) { return reply.has_progress() || reply.has_done(); });
  ASSERT_TRUE(progress.has_progress());
  EXPECT_EQ(progress.progress().windows_total(), 2u * 8 * 8 * 8);
  EXPECT_TRUE(worker_->AwaitAnswer().has_done());
}

// No part's eight windows fill batches of three: some hold windows of both parts and of several runs. No two
// windows are equal, so that each one's place is seen.
TEST_P(WorkerCompositeTest, BatchesOfSeveralRunsKeepTheBits) {
  const ipc::v1::ModelState state =
      Started({"--lanes", "2", "--buckets", "1,2,3"}).LoadEnsemble("m", Archives(), Composite());
  ASSERT_TRUE(state.warm()) << state.refused().code() << ": " << state.refused().text();
  ASSERT_THAT(state.proof().buckets(), ElementsAre(1, 2, 3));
  struct Block {
    std::uint32_t first;
    std::uint32_t voxels;
  };
  constexpr Block kBlocks[] = {{5, 6}, {4, 8}, {3, 10}, {2, 12}};
  std::vector<std::unique_ptr<TestVolume>> volumes;
  for (const Block& block : kBlocks) {
    volumes.push_back(std::make_unique<TestVolume>(16, block.first, block.voxels));
    worker_->Start(volumes.back()->Request("r" + std::to_string(volumes.size()), "m"), volumes.back()->Fds());
  }
  for (std::size_t n = 0; n < volumes.size(); ++n) EXPECT_TRUE(worker_->AwaitAnswer().has_done());
  for (std::size_t n = 0; n < volumes.size(); ++n) {
    const auto [first, voxels] = kBlocks[n];
    EXPECT_TRUE(volumes[n]->Labels() == Expected(static_cast<int>(first), static_cast<int>(voxels))) << n;
  }
}

TEST_P(WorkerCompositeTest, APartThatDoesNotFitIsNamed) {
  v1::Recipe recipe = Composite();
  std::vector<std::string> archives = Archives();
  archives[2] = Returning("y, y, y");
  const ipc::v1::ModelState state = Started().LoadEnsemble("m", archives, recipe);
  EXPECT_EQ(state.refused().code(), "MODEL_SHAPE");
  EXPECT_THAT(state.refused().text(), HasSubstr("part ends"));
  archives.pop_back();
  EXPECT_EQ(worker_->LoadEnsemble("m", archives, recipe).refused().code(), "REQUEST_INVALID");
}

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerCompositeTest);

}  // namespace
}  // namespace tomoserve
