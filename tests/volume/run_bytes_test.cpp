#include "tomoserve/volume/run_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

using ::testing::ElementsAre;

RunArrays Cube(std::uint64_t size, std::uint64_t channels) {
  return {.volume_ijk = {size, size, size}, .prepared_ijk = {size, size, size}, .channels = channels};
}

TEST(RunBytesTest, LoopsHoldSumsAndThePreparedVolumeOrWeights) {
  EXPECT_EQ(LoopBytes(Cube(100, 25)), 1'000'000u * 26 * 4);
  // With a coarse prepared volume the volume itself is the most.
  RunArrays coarse = Cube(100, 1);
  coarse.prepared_ijk = {10, 10, 10};
  EXPECT_EQ(LoopBytes(coarse), (1'000'000u + 1'000u) * 4);
}

TEST(RunBytesTest, SplinesHoldTwoArraysAtATime) {
  // First along the axes that become smaller: 100 x 100 x 40 to 50 x 100 x 40 to 50 x 50 x 40 to 50 x 50
  // x 80.
  RunArrays arrays{.volume_ijk = {100, 100, 40}, .prepared_ijk = {50, 50, 80}, .channels = 0, .cubic = true};
  EXPECT_EQ(LoopBytes(arrays), (400'000u + 200'000u) * 4);
  arrays = {.volume_ijk = {50, 50, 40}, .prepared_ijk = {100, 100, 40}, .channels = 1, .cubic = true};
  EXPECT_EQ(LoopBytes(arrays), 400'000u * 2 * 4) << "what follows takes more";
  arrays.channels = 0;
  EXPECT_EQ(LoopBytes(arrays), (200'000u + 400'000u) * 4);
}

TEST(RunBytesTest, ACropAndARegionTakeMore) {
  v1::Recipe recipe;
  recipe.mutable_preparation()->mutable_crop();
  recipe.mutable_preparation()->add_intensity()->mutable_z_score()->set_fill_holes(true);
  RunArrays arrays = Cube(400, 1);
  const RunArrays plain = arrays;
  CountPreparation(recipe, arrays);
  EXPECT_TRUE(arrays.cropped);
  EXPECT_TRUE(arrays.nonzero_region);
  EXPECT_FALSE(arrays.cubic);
  EXPECT_EQ(LoopBytes(arrays), LoopBytes(plain) + 64'000'000) << "the region beside volume and prepared copy";
  arrays.nonzero_region = false;
  arrays.prepared_ijk = {400, 400, 300};
  EXPECT_EQ(LoopBytes(arrays), (64'000'000u + 48'000'000u) * 4);
  arrays.channels = 2;
  EXPECT_EQ(LoopBytes(arrays), 48'000'000u * (2 * 4 + 2) + 128'000'000u) << "labels of the crop";
  arrays = {.volume_ijk = {400, 400, 400}, .prepared_ijk = {400, 400, 400}, .channels = 1};
  CountPreparation(recipe, arrays);
  EXPECT_GT(DeviceBytes(arrays), DeviceBytes(plain));
  arrays.prepared_ijk = {10, 10, 10};
  EXPECT_EQ(LoopBytes(arrays), (64'000'000u + 1'000u) * 4 + 64'000'000) << "the region beside the volume";
}

TEST(RunBytesTest, EveryInputIsHeld) {
  v1::Recipe recipe;
  for (int n = 0; n < 4; ++n) recipe.add_inputs();
  RunArrays arrays = Cube(100, 3);
  CountPreparation(recipe, arrays);
  EXPECT_EQ(arrays.inputs, 4u);
  EXPECT_EQ(LoopBytes(arrays), 1'000'000u * (4 + 3) * 4) << "prepared, sums";
  arrays.prepared_ijk = {10, 10, 10};
  EXPECT_EQ(LoopBytes(arrays), (1'000'000u + 1'000u + 3 * 1'000u) * 4) << "one volume after the other";
  recipe.mutable_preparation()->mutable_crop();
  CountPreparation(recipe, arrays);
  EXPECT_EQ(LoopBytes(arrays), (4'000'000u + 4'000u) * 4) << "a crop has to see all of them first";
}

TEST(RunBytesTest, TheRegionThatLabelsAreKeptInIsHeld) {
  v1::Recipe recipe;
  recipe.add_decode()->mutable_keep_in_region();
  RunArrays arrays = Cube(100, 3);
  const RunArrays plain = arrays;
  CountPreparation(recipe, arrays);
  EXPECT_EQ(LoopBytes(arrays), LoopBytes(plain) + 1'000'000u);
  EXPECT_EQ(DeviceBytes(arrays), DeviceBytes(plain) + 1'000'000u);
}

TEST(RunBytesTest, LoopsHoldTheSumsOfOpenVoxelsAndLabelsAndScoresOfAll) {
  RunArrays arrays = Cube(100, 25);
  arrays.open_voxels = 300'000;
  EXPECT_EQ(LoopBytes(arrays), 1'000'000u * (4 + 2 + 4) + 300'000u * (27 * 4 + 2))
      << "and of a cell labels and scores";
  EXPECT_EQ(DeviceBytes(arrays), DeviceBytes(Cube(100, 25)));
  arrays.open_voxels = 1;
  EXPECT_EQ(LoopBytes(arrays), 1'000'000u * (4 + 2 + 4) + 27 * 4 + 2);
}

// 105 classes of a chest CT at 1.5 mm: a third of the sums at a time.
TEST(OpenVoxelsTest, AreThoseOfCellsThatWindowsStillAddTo) {
  v1::Recipe recipe;
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->add_size(96);
  recipe.mutable_windows()->set_overlap(0.25);
  recipe.mutable_network()->set_output_channels(105);
  recipe.mutable_preparation()->mutable_spacing();
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  const std::uint64_t voxels = OpenVoxels(recipe, {239, 239, 250});
  EXPECT_GT(voxels, 96u * 96 * 96);
  EXPECT_LT(voxels, 239u * 239 * 250 / 3);
  EXPECT_EQ(OpenVoxels(recipe, {96, 96, 96}), 96u * 96 * 96) << "one window";
  EXPECT_EQ(OpenVoxels(recipe, {std::uint64_t{1} << 60, 1, 1}), OpenVoxels(recipe, {1 << 20, 1, 1}));
  recipe.mutable_windows()->set_size(2, 0);
  EXPECT_GE(OpenVoxels(recipe, {239, 239, 250}), 96u * 96 * 250);
  recipe.mutable_preparation()->mutable_crop();
  EXPECT_EQ(OpenVoxels(recipe, {239, 239, 250}), 216u * 239 * 250) << "whatever is left";
  // Windows whose last ones overlap by more than an eighth join cells: more than a window is open then.
  recipe.mutable_windows()->set_overlap(0.1);
  recipe.mutable_windows()->set_size(2, 96);
  const std::uint64_t of_crop = OpenVoxels(recipe, {268, 200, 200});
  recipe.mutable_preparation()->clear_crop();
  for (std::uint64_t left = 96; left <= 268; ++left) {
    EXPECT_LE(OpenVoxels(recipe, {left, 200, 200}), of_crop) << left;
  }
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  EXPECT_EQ(OpenVoxels(recipe, {239, 239, 250}), 239u * 239);
  recipe.mutable_decode()->SwapElements(0, 1);
  EXPECT_EQ(OpenVoxels(recipe, {239, 239, 250}), 0u) << "scores are resampled before: those of all voxels";
}

TEST(RunBytesTest, ADeviceHoldsTheArraysAndPiecesOfThem) {
  const RunArrays chest{.volume_ijk = {512, 512, 300}, .prepared_ijk = {512, 512, 300}, .channels = 25};
  const std::uint64_t arrays = 512ull * 512 * 300 * (26 * 4 + 2 * 2);
  EXPECT_GE(DeviceBytes(chest), arrays);
  EXPECT_LE(DeviceBytes(chest), arrays + (std::uint64_t{512} << 20));
  EXPECT_LE(HostBytesBesideDevice(chest), std::uint64_t{256} << 20);
}

TEST(RunBytesTest, MoreOfAnythingIsNeverLess) {
  RunArrays arrays = Cube(64, 2);
  for (int step = 0; step < 9; ++step) {
    RunArrays more = arrays;
    switch (step % 3) {
      case 0:
        more.channels *= 3;
        break;
      case 1:
        more.volume_ijk[static_cast<std::size_t>(step) / 3] *= 2;
        break;
      default:
        more.prepared_ijk[static_cast<std::size_t>(step) / 3] *= 2;
    }
    EXPECT_GE(LoopBytes(more), LoopBytes(arrays));
    EXPECT_GE(DeviceBytes(more), DeviceBytes(arrays));
    EXPECT_GE(HostBytesBesideDevice(more), HostBytesBesideDevice(arrays));
    arrays = more;
  }
}

TEST(RunBytesTest, AbsurdSizesAreLargeNumbersNotSmallOnes) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const RunArrays absurd{
      .volume_ijk = {kMost, kMost, kMost}, .prepared_ijk = {kMost, kMost, kMost}, .channels = kMost};
  EXPECT_GE(LoopBytes(absurd), std::uint64_t{1} << 50);
  EXPECT_GE(DeviceBytes(absurd), std::uint64_t{1} << 50);
  EXPECT_GE(HostBytesBesideDevice(absurd), std::uint64_t{1} << 40);
}

TEST(RunBytesTest, ThePreparedVolumesAxesAreThoseThatTheyCameFrom) {
  const auto volume = Geometry::Create({100, 200, 50}, {1, 2, 3}, {}, {{{1, 0, 0}, {0, 0, 1}, {0, -1, 0}}});
  ASSERT_TRUE(volume.ok());
  const RunArrays arrays =
      ArraysOf(*volume, {.source_axis = {2, 0, 1}, .flip = {true, false, false}}, {7, 8, 9}, 3);
  EXPECT_THAT(arrays.volume_ijk, ElementsAre(100, 200, 50));
  EXPECT_THAT(arrays.prepared_ijk, ElementsAre(8, 9, 7));
  EXPECT_EQ(arrays.channels, 3u);
}

// One level of stride 4, two anchors, one class; windows of 16 voxels.
v1::Recipe Detector() {
  v1::Recipe recipe;
  recipe.mutable_network()->set_output_channels(1);
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  for (int axis = 0; axis < 3; ++axis) {
    recipe.mutable_windows()->add_size(16);
    boxes.add_pad_to_multiple_of(4);
  }
  v1::BoxLevel& level = *boxes.add_levels();
  for (int axis = 0; axis < 3; ++axis) level.add_stride(4);
  boxes.add_anchors();
  boxes.add_anchors();
  return recipe;
}

TEST(HeadValuesTest, AreMapsCountsAndOneWindow) {
  v1::Recipe recipe = Detector();
  const std::uint64_t window = 2 * 16 * 16 * 16 + 4 * 4 * 4 * 14;
  EXPECT_EQ(HeadValues(recipe, {31, 40, 12}), window + 8 * 10 * 4 * 15);
  recipe.mutable_decode(0)->mutable_detect_boxes()->set_whole_below_voxels(31 * 40 * 12);
  EXPECT_EQ(HeadValues(recipe, {31, 40, 12}), window + 8 * 10 * 4 * 15) << "as many voxels are cut";
  recipe.mutable_decode(0)->mutable_detect_boxes()->set_whole_below_voxels(31 * 40 * 12 + 1);
  EXPECT_EQ(HeadValues(recipe, {31, 40, 12}), 2 * 32 * 40 * 12 + 8 * 10 * 3 * 14u);
}

TEST(HeadValuesTest, OtherRecipesHaveNone) {
  v1::Recipe recipe = Detector();
  recipe.mutable_decode(0)->mutable_arg_max();
  EXPECT_EQ(HeadValues(recipe, {31, 40, 12}), 0u);
  EXPECT_EQ(HeadValues(v1::Recipe(), {31, 40, 12}), 0u);
}

TEST(HeadValuesTest, TakeThePlaceOfChannels) {
  RunArrays arrays = Cube(100, 1);
  arrays.head_values = 5'000'000;
  EXPECT_EQ(LoopBytes(arrays), 6'000'000u * 4);
  EXPECT_GE(DeviceBytes(arrays), 6'000'000u * 4);
  arrays.head_values = 5;
  EXPECT_EQ(LoopBytes(arrays), 2'000'000u * 4) << "volume and prepared copy";
  arrays.head_values = std::numeric_limits<std::uint64_t>::max();
  EXPECT_GE(LoopBytes(arrays), std::uint64_t{1} << 42);
}

TEST(RunFitsTest, LoadedModelsTakeFromWhatARunMayUse) {
  EXPECT_TRUE(CheckRunFits(700, 1000, 300, "the device").ok());
  const absl::Status beside = CheckRunFits(701, 1000, 300, "the device");
  EXPECT_EQ(beside.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(base::ReasonOf(beside), "RUN_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(beside), "701");
  EXPECT_FALSE(CheckRunFits(1, 1000, 2000, "the device").ok()) << "more weights than memory";
}

}  // namespace
}  // namespace tomoserve::volume
