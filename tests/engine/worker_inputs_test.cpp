// The program tomoserve-worker: runs on several volumes, and in the region that another run has found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "device.h"
#include "engine/worker_program.h"

namespace tomoserve {
namespace {

using testing::ConvArchive;
using testing::ScriptArchive;
using testing::SmallRecipe;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

constexpr std::size_t kVoxels = 16 * 16 * 16;

// Two volumes of one grid, bright in voxels 4 to 7 and 9 to 12 of each axis, as one request.
class Pair {
 public:
  explicit Pair(std::uint32_t time_points)
      : labels_(*ipc::CreateSealedMemfd("labels", kVoxels * time_points)) {
    start_ = first_.Request("r", "m");
    start_.set_time_points(time_points);
    start_.set_channels(2 / time_points);
    start_.set_label_bytes(kVoxels * time_points);
    fds_ = first_.Fds();
    fds_[0] = labels_.get();
    const auto arenas = static_cast<std::uint32_t>(fds_.size()) - 1;
    const ipc::v1::StartRun second = second_.Request("r", "m");
    for (ipc::v1::Slice slice : second.slices()) {
      slice.mutable_slot()->set_arena(slice.slot().arena() + arenas);
      *start_.add_slices() = slice;
    }
    const std::vector<int> more = second_.Fds();
    fds_.insert(fds_.end(), more.begin() + 1, more.end());
  }
  const ipc::v1::StartRun& start() const { return start_; }
  const std::vector<int>& fds() const { return fds_; }
  // Whether exactly the cube of four voxels from `first` on is labelled at this time point.
  bool IsCube(std::uint32_t time_point, std::size_t first) const {
    const auto mapping = *ipc::Mapping::Map(labels_.get(), 0, start_.label_bytes(), false);
    const auto inside = [&](std::size_t at) { return at >= first && at < first + 4; };
    for (std::size_t v = 0; v < kVoxels; ++v) {
      const bool labelled = mapping.bytes()[time_point * kVoxels + v] != std::byte{0};
      if (labelled != (inside(v % 16) && inside(v / 16 % 16) && inside(v / 256))) return false;
    }
    return true;
  }

 private:
  TestVolume first_{16, 4}, second_{16, 9};
  base::UniqueFd labels_;
  ipc::v1::StartRun start_;
  std::vector<int> fds_;
};

class WorkerInputsTest : public testing::WorkerOnDevices {
 protected:
  // A run in the region of a label map in which the voxels of the first `slices` slices have this value.
  WorkerReply RunInRegion(std::uint8_t value, std::size_t slices, const v1::Recipe& recipe) {
    WorkerProgram& worker = Started();
    EXPECT_TRUE(worker.Load("m", ConvArchive(1), recipe).warm());
    const base::UniqueFd region = *ipc::CreateSealedMemfd("region", kVoxels);
    const auto mapping = *ipc::Mapping::Map(region.get(), 0, kVoxels, true);
    std::fill_n(mapping.bytes().begin(), slices * 256, std::byte{value});
    ipc::v1::StartRun start = volume_.Request("r", "m");
    start.mutable_region()->set_bytes_per_voxel(1);
    std::vector<int> fds = volume_.Fds();
    fds.insert(fds.begin() + 1, region.get());
    worker.Start(start, fds);
    return worker.AwaitAnswer();
  }
  static v1::Recipe InRegion() {
    v1::Recipe recipe = SmallRecipe();
    recipe.mutable_region()->set_model("lung");
    recipe.mutable_region()->add_labels(3);
    return recipe;
  }

  const TestVolume volume_;  // bright in slices 4 to 7
};

TS_INSTANTIATE_WORKER_ON_DEVICES(WorkerInputsTest);

TEST_P(WorkerInputsTest, EachTimePointHasItsLabelsAndFindings) {
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_inputs(0)->set_every_time_point(true);
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1), recipe).warm());
  const Pair series(2);
  worker.Start(series.start(), series.fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().ShortDebugString();
  const ipc::v1::RunDone& done = answer.done();
  EXPECT_EQ(done.windows(), 16u);
  EXPECT_TRUE(series.IsCube(0, 4));
  EXPECT_TRUE(series.IsCube(1, 9));
  ASSERT_EQ(done.labels_size(), 2);
  ASSERT_EQ(done.findings_size(), 2);
  for (std::uint32_t time_point = 0; time_point < 2; ++time_point) {
    EXPECT_EQ(done.labels(static_cast<int>(time_point)).time_point(), time_point);
    const v1::Finding& finding = done.findings(static_cast<int>(time_point));
    EXPECT_EQ(finding.time_point(), time_point);
    EXPECT_NEAR(finding.centre_lps().x_mm(), time_point == 0 ? 5.5 : 10.5, 1e-9);
  }
  std::vector<std::string> stages;
  for (const auto& timing : done.timings()) stages.push_back(timing.stage());
  EXPECT_THAT(stages, ::testing::ElementsAre("prepare", "forward", "blend", "labels", "measure"));
}

TEST_P(WorkerInputsTest, FindingsHaveTheMeanOfTheirOwnTimePointsStoredValues) {
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_inputs(0)->set_every_time_point(true);
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1), recipe).warm());
  const Pair series(2);
  ipc::v1::StartRun start = series.start();
  start.add_hounsfield_channels(0);
  start.mutable_slices(4)->set_intercept(4);  // a quarter of the first cube
  for (int k = 16; k < 32; ++k) start.mutable_slices(k)->set_intercept(0.25);
  worker.Start(start, series.fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().ShortDebugString();
  ASSERT_EQ(answer.done().findings_size(), 2);
  std::map<std::uint32_t, v1::Finding> found;
  for (const v1::Finding& finding : answer.done().findings()) found[finding.time_point()] = finding;
  ASSERT_EQ(found.size(), 2u);
  // Slice 4 of the first time point is bright as a whole: 4, and 5 in the cube.
  EXPECT_DOUBLE_EQ(found[0].mean_hu().value(), (240 * 4.0 + 16 * 5 + 48) / (256 + 48));
  EXPECT_DOUBLE_EQ(found[1].mean_hu().value(), 1.25);
  EXPECT_EQ(found[1].standard_deviation_hu().value(), 0);
}

TEST_P(WorkerInputsTest, WithoutHounsfieldUnitsFindingsHaveNoMean) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  worker.Start(volume_.Request("r", "m"), volume_.Fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_EQ(answer.done().findings_size(), 1) << answer.failed().ShortDebugString();
  EXPECT_FALSE(answer.done().findings(0).has_mean_hu());
}

TEST_P(WorkerInputsTest, EachInputIsAChannelOfTheNetwork) {
  v1::Recipe recipe = SmallRecipe();
  *recipe.add_inputs() = recipe.inputs(0);
  recipe.mutable_inputs(1)->set_name("second");
  recipe.mutable_network()->set_input_channels(2);
  WorkerProgram& worker = Started();
  ASSERT_TRUE(
      worker.Load("m", ScriptArchive("def forward(self, x):\n  return torch.narrow(x, 1, 1, 1)\n"), recipe)
          .warm());
  const Pair pair(1);
  worker.Start(pair.start(), pair.fds());
  const WorkerReply answer = worker.AwaitAnswer();
  ASSERT_TRUE(answer.has_done()) << answer.failed().ShortDebugString();
  EXPECT_TRUE(pair.IsCube(0, 9)) << "the second one's";
}

TEST_P(WorkerInputsTest, LabelsStayInTheRegion) {
  v1::Recipe recipe = InRegion();
  recipe.add_decode()->mutable_keep_in_region();
  const WorkerReply answer = RunInRegion(3, 6, recipe);
  ASSERT_TRUE(answer.has_done()) << answer.failed().ShortDebugString();
  EXPECT_EQ(answer.done().labels(0).voxels(), 2u * 16);
  EXPECT_EQ(answer.done().labels(0).last_k(), 5u);
}

TEST_P(WorkerInputsTest, ACropToTheRegionLeavesWhatIsInIt) {
  v1::Recipe recipe = InRegion();
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  const WorkerReply answer = RunInRegion(3, 6, recipe);
  ASSERT_TRUE(answer.has_done()) << answer.failed().ShortDebugString();
  EXPECT_EQ(answer.done().labels(0).voxels(), 2u * 16);
  EXPECT_LT(answer.done().windows(), 8u);
}

TEST_P(WorkerInputsTest, ARegionWithoutAVoxelSaysSo) {
  v1::Recipe recipe = InRegion();
  recipe.add_decode()->mutable_keep_in_region();
  EXPECT_EQ(RunInRegion(2, 6, recipe).failed().reason().code(), "REGION_EMPTY") << "another label's voxels";
}

TEST_P(WorkerInputsTest, RequestsHaveToFitTheRecipeAndTheDescriptors) {
  WorkerProgram& worker = Started();
  ASSERT_TRUE(worker.Load("m", ConvArchive(1)).warm());
  v1::Recipe recipe = InRegion();
  recipe.add_decode()->mutable_keep_in_region();
  ASSERT_TRUE(worker.Load("cascade", ConvArchive(1), recipe).warm());
  const Pair series(2);
  const auto value_of = [&](const std::function<void(ipc::v1::StartRun&, std::vector<int>&)>& change) {
    ipc::v1::StartRun start = series.start();
    std::vector<int> fds = series.fds();
    change(start, fds);
    worker.Start(start, fds);
    const WorkerReply answer = worker.AwaitAnswer();
    return answer.failed().reason().code() + " " + answer.failed().reason().value();
  };
  EXPECT_EQ(value_of([](auto& start, auto&) { start.set_time_points(3); }), "REQUEST_INVALID slices");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.set_time_points(~0u); }), "REQUEST_INVALID slices");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.set_channels(~0u); }), "REQUEST_INVALID slices");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.set_label_bytes(kVoxels); }),
            "REQUEST_INVALID label_bytes");
  EXPECT_EQ(value_of([](auto& start, auto&) {
              start.set_time_points(1);
              start.set_channels(2);
              start.set_label_bytes(kVoxels);
            }),
            "REQUEST_INVALID channels");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.add_hounsfield_channels(1); }),
            "REQUEST_INVALID hounsfield_channels");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.mutable_region()->set_bytes_per_voxel(3); }),
            "REQUEST_INVALID region.bytes_per_voxel");
  EXPECT_EQ(value_of([](auto& start, auto& fds) {
              start.mutable_region()->set_bytes_per_voxel(1);
              fds.resize(1);
            }),
            "REQUEST_INVALID region");
  const base::UniqueFd small = *ipc::CreateSealedMemfd("region", kVoxels - 1);
  EXPECT_EQ(value_of([&](auto& start, auto& fds) {
              start.mutable_region()->set_bytes_per_voxel(1);
              fds.insert(fds.begin() + 1, small.get());
            }),
            "REQUEST_INVALID region");
  EXPECT_EQ(value_of([](auto& start, auto&) { start.set_model_digest("cascade"); }), "REGION_MISSING lung");
}

}  // namespace
}  // namespace tomoserve
