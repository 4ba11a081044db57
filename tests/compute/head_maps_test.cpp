#include "tomoserve/compute/head_maps.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "compute/best_scores.h"
#include "compute/places.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

// Levels of stride 4 and 8, one anchor of 8 voxels.
v1::DetectBoxes TwoLevels() {
  v1::DetectBoxes boxes;
  for (const std::uint32_t stride : {4, 8}) {
    v1::BoxLevel& level = *boxes.add_levels();
    for (int axis = 0; axis < 3; ++axis) level.add_stride(stride);
    level.set_anchor_scale(stride / 4.0);
  }
  v1::AnchorShape& shape = *boxes.add_anchors();
  for (int axis = 0; axis < 3; ++axis) shape.add_size(8);
  boxes.set_anchor_centre(v1::ANCHOR_CENTRE_CELL_START);
  boxes.set_score_above(0.5);
  boxes.set_candidates_per_level(100);
  boxes.set_suppress_iou_above(0.2);
  boxes.set_max_boxes(10);
  for (int axis = 0; axis < 3; ++axis) boxes.add_pad_to_multiple_of(8);
  return boxes;
}

v1::Windows WindowsOf(std::uint32_t size, double overlap = 0.25) {
  v1::Windows windows;
  windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) windows.add_size(size);
  windows.set_overlap(overlap);
  return windows;
}

HeadPlan Plan(const v1::DetectBoxes& boxes, const v1::Windows& windows, const Xyz& volume,
              std::uint32_t classes = 1) {
  const auto plan = PlanHeads(boxes, classes, windows, volume);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.value();
}

// Maps of one window without anything in them.
std::vector<at::Tensor> NothingIn(const HeadPlan& plan) {
  std::vector<at::Tensor> maps;
  for (const auto& shape : plan.shapes) {
    maps.push_back(at::full(shape, maps.size() < plan.levels.size() ? -10.0 : 0.0));
  }
  return maps;
}

TEST(HeadPlanTest, SmallVolumesAreOneWindowPaddedAtTheEnd) {
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_whole_below_voxels(1000);
  const HeadPlan plan = Plan(boxes, WindowsOf(64), {9, 10, 11}, 3);
  EXPECT_EQ(plan.padded, (Xyz{16, 16, 16}));
  EXPECT_EQ(plan.windows.size, (Xyz{16, 16, 16}));
  EXPECT_EQ(plan.windows.starts, (std::vector<Xyz>{{0, 0, 0}}));
  EXPECT_EQ(plan.levels[0].size, (Xyz{4, 4, 4}));
  EXPECT_EQ(plan.levels[1].anchor_stride, (Xyz{8, 8, 8}));
  EXPECT_EQ(plan.shapes, (std::vector<std::vector<std::int64_t>>{
                             {1, 3, 4, 4, 4}, {1, 3, 2, 2, 2}, {1, 6, 4, 4, 4}, {1, 6, 2, 2, 2}}));
  // As many voxels as that are cut.
  EXPECT_EQ(Plan(boxes, WindowsOf(8, 0), {10, 10, 10}).windows.size, (Xyz{8, 8, 8}));
}

TEST(HeadPlanTest, LargeVolumesAreCutAfterPadding) {
  const HeadPlan plan = Plan(TwoLevels(), WindowsOf(32), {50, 32, 30});
  EXPECT_EQ(plan.padded, (Xyz{56, 32, 32}));
  EXPECT_EQ(plan.windows.starts, (std::vector<Xyz>{{0, 0, 0}, {24, 0, 0}}));
  EXPECT_EQ(plan.levels[0].stitched, (Xyz{14, 8, 8}));
  EXPECT_EQ(plan.levels[0].size, (Xyz{14, 8, 8}));
}

TEST(HeadPlanTest, VolumesSmallerThanAWindowAreCroppedHalfToEvenAsMonaiDoes) {
  // 16 of 40 voxels: 12 before, which is 3 cells of 4 and 1.5 of 8.
  const HeadPlan plan = Plan(TwoLevels(), WindowsOf(40), {16, 40, 24});
  EXPECT_EQ(plan.pad_before, (Xyz{12, 0, 8}));
  EXPECT_EQ(plan.windows.starts, (std::vector<Xyz>{{-12, 0, -8}}));
  EXPECT_EQ(plan.levels[0].first, (Xyz{3, 0, 2}));
  EXPECT_EQ(plan.levels[0].size, (Xyz{4, 10, 6}));
  EXPECT_EQ(plan.levels[1].first[0], 2);  // round(1.5)
  EXPECT_EQ(plan.levels[1].size[0], 2);   // up to round(3.5)
  EXPECT_EQ(plan.levels[1].size[2], 3);
  // round(0.5) = 0 up to round(1.5) = 2: a cell more than the volume has, so MONAI halves the stride.
  const HeadPlan halved = Plan(TwoLevels(), WindowsOf(16), {8, 16, 16});
  EXPECT_EQ(halved.levels[1].size[0], 2);
  EXPECT_EQ(halved.levels[1].anchor_stride[0], 4);
  // round(1.5) = 2 up to round(2.5) = 2: nothing is left.
  const HeadPlan empty = Plan(TwoLevels(), WindowsOf(32), {8, 32, 32});
  EXPECT_EQ(empty.levels[1].size[0], 0);
}

TEST(HeadPlanTest, WindowsAndPaddingAreWholeCells) {
  const auto field = [](const v1::DetectBoxes& boxes, const v1::Windows& windows) {
    const auto plan = PlanHeads(boxes, 1, windows, {50, 50, 50});
    EXPECT_EQ(base::ReasonOf(plan.status()), "RECIPE_INVALID");
    return base::ValueOf(plan.status());
  };
  EXPECT_EQ(field(TwoLevels(), WindowsOf(36)), "windows.size");
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_pad_to_multiple_of(1, 4);
  EXPECT_EQ(field(boxes, WindowsOf(32)), "decode[0].detect_boxes.pad_to_multiple_of");
  boxes.clear_pad_to_multiple_of();
  EXPECT_EQ(field(boxes, WindowsOf(32)), "decode[0].detect_boxes.pad_to_multiple_of");
  boxes.clear_levels();
  EXPECT_EQ(field(boxes, WindowsOf(32)), "decode[0].detect_boxes.levels");
}

class HeadMapsTest : public testing::PlacedTest {
 protected:
  void Add(HeadMaps& maps, std::size_t window, const std::vector<at::Tensor>& of_window) const {
    std::vector<at::Tensor> placed;
    for (const at::Tensor& map : of_window) placed.push_back(Put(map));
    maps.Add(window, std::move(placed));
  }
};

TEST_P(HeadMapsTest, OverlapsAreAveragedCellByCell) {
  const v1::DetectBoxes boxes = TwoLevels();
  const HeadPlan plan = Plan(boxes, WindowsOf(32), {56, 32, 32});
  HeadMaps maps(plan, boxes, 1, placement().device);
  // Cell (7, 2, 3) of level 0 is cell 7 of the first window and cell 1 of the second, which starts at
  // voxel 24.
  std::vector<at::Tensor> first = NothingIn(plan);
  first[0][0][0][7][2][3] = 4;
  first[2][0][0][7][2][3] = 1;
  std::vector<at::Tensor> second = NothingIn(plan);
  second[0][0][0][1][2][3] = 0;
  second[2][0][0][1][2][3] = 0.5;
  Add(maps, 0, first);
  Add(maps, 1, second);
  const std::vector<Detection> found = maps.Candidates();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_FLOAT_EQ(found[0].score, 1 / (1 + std::exp(-2.0F)));
  // Anchor of 8 voxels at 28, 8, 12, moved by 0.75 of its size.
  EXPECT_EQ(found[0].box, (Box{{30, 4, 8}, {38, 12, 16}}));
}

TEST_P(HeadMapsTest, CandidatesComeLevelByLevelTheBestFirstAndEqualOnesInOrder) {
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_whole_below_voxels(1 << 20);
  boxes.set_candidates_per_level(3);
  const HeadPlan plan = Plan(boxes, WindowsOf(32), {32, 32, 32}, 2);
  HeadMaps maps(plan, boxes, 2, placement().device);
  std::vector<at::Tensor> answer = NothingIn(plan);
  for (const std::int64_t z : {5, 4, 3}) answer[0][0][1][2][2][z] = 1;
  answer[0][0][0][2][2][4] = 1;  // the same cell, the other class: before it
  answer[0][0][0][6][6][6] = 2;
  answer[1][0][0][1][1][1] = 3;
  Add(maps, 0, answer);
  const std::vector<Detection> found = maps.Candidates();
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[0].box, (Box{{20, 20, 20}, {28, 28, 28}}));
  EXPECT_EQ(found[1].box, (Box{{4, 4, 8}, {12, 12, 16}}));
  EXPECT_EQ(found[1].class_index, 1u);
  EXPECT_EQ(found[2].box, (Box{{4, 4, 12}, {12, 12, 20}}));
  EXPECT_EQ(found[2].class_index, 0u);
  EXPECT_EQ(found[3].box, (Box{{0, 0, 0}, {16, 16, 16}}));
}

TEST_P(HeadMapsTest, OfCellsThatAllPassTheFirstOnesAreKept) {
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_whole_below_voxels(std::uint64_t{1} << 40);
  boxes.set_candidates_per_level(5);
  // 130 x 102 x 102 cells: more than are looked at together, and no whole number of vectors.
  const HeadPlan plan = Plan(boxes, WindowsOf(32), {520, 408, 408}, 2);
  ASSERT_EQ(plan.levels[0].size, (Xyz{130, 102, 102}));
  HeadMaps maps(plan, boxes, 2, placement().device);
  std::vector<at::Tensor> answer = NothingIn(plan);
  answer[0].fill_(0.7);
  answer[1].fill_(-10);
  answer[0][0][1][129][101][101] = 1;
  answer[0][0][0][129][101][101] = 1;
  Add(maps, 0, answer);
  const std::vector<Detection> found = maps.Candidates();
  ASSERT_EQ(found.size(), 5u);
  const Box first{{0, 0, 0}, {4, 4, 4}};
  const Box last{{512, 400, 400}, {520, 408, 408}};
  const std::vector<std::pair<Box, std::uint32_t>> expected{
      {last, 0}, {last, 1}, {first, 0}, {first, 1}, {{{0, 0, 0}, {4, 4, 8}}, 0}};
  for (std::size_t n = 0; n < found.size(); ++n) {
    EXPECT_EQ(found[n].box, expected[n].first) << n;
    EXPECT_EQ(found[n].class_index, expected[n].second) << n;
  }
}

TEST(BestScoresTest, HoldsFewOfManyAndEqualOnesInOrder) {
  BestScores best(100);
  // 7919 takes every place once; scores are equal in tens.
  constexpr std::int64_t kMany = 1'000'000;
  for (std::int64_t n = 0; n < kMany; ++n) {
    const std::int64_t place = n * 7919 % kMany;
    best.Add({static_cast<float>(place % 100'000), place});
  }
  EXPECT_LE(best.capacity(), 4096u);
  const std::vector<Scored> sorted = best.Sorted();
  ASSERT_EQ(sorted.size(), 100u);
  for (std::int64_t n = 0; n < 100; ++n) {
    EXPECT_EQ(sorted[static_cast<std::size_t>(n)].place, n % 10 * 100'000 + 99'999 - n / 10) << n;
  }
  BestScores none(0);
  none.Add({1, 0});
  EXPECT_TRUE(none.Sorted().empty());
}

TEST_P(HeadMapsTest, AScoreOfExactlyTheThresholdIsNone) {
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_whole_below_voxels(1 << 20);
  const HeadPlan plan = Plan(boxes, WindowsOf(32), {32, 32, 32});
  HeadMaps maps(plan, boxes, 1, placement().device);
  std::vector<at::Tensor> answer = NothingIn(plan);
  answer[0][0][0][2][2][2] = 0;  // a score of 0.5
  answer[0][0][0][5][5][5] = 1e-4;
  Add(maps, 0, answer);
  ASSERT_EQ(maps.Candidates().size(), 1u);
  EXPECT_EQ(maps.Candidates()[0].box.low[0], 16);
}

TEST_P(HeadMapsTest, AnchorsStandInTheMiddleOfTheirCellsFromMonai16On) {
  v1::DetectBoxes boxes = TwoLevels();
  boxes.set_whole_below_voxels(1 << 20);
  boxes.set_anchor_centre(v1::ANCHOR_CENTRE_CELL_MIDDLE);
  const HeadPlan plan = Plan(boxes, WindowsOf(32), {32, 32, 32});
  HeadMaps maps(plan, boxes, 1, placement().device);
  std::vector<at::Tensor> answer = NothingIn(plan);
  answer[0][0][0][2][3][4] = 1;
  Add(maps, 0, answer);
  const std::vector<Detection> found = maps.Candidates();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].box, (Box{{6, 10, 14}, {14, 18, 22}}));
}

TEST_P(HeadMapsTest, WhatLiesBeforeASmallVolumeIsCroppedAndBoxesAreClipped) {
  const v1::DetectBoxes boxes = TwoLevels();
  const HeadPlan plan = Plan(boxes, WindowsOf(40), {16, 40, 21});
  HeadMaps maps(plan, boxes, 1, placement().device);
  std::vector<at::Tensor> answer = NothingIn(plan);
  answer[0][0][0][2][5][5] = 9;  // a cell before the volume
  answer[0][0][0][6][5][7] = 1;  // x: the fourth cell of the volume, z: the sixth
  answer[0][0][0][3][0][2] = 2;
  Add(maps, 0, answer);
  const std::vector<Detection> found = maps.Candidates();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].box, (Box{{0, 0, 0}, {4, 4, 4}}));
  EXPECT_EQ(found[1].box, (Box{{8, 16, 16}, {16, 24, 21}}));
}

TS_INSTANTIATE_PLACES(HeadMapsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
