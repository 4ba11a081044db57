#include "tomoserve/models/window_bytes.h"

#include <gtest/gtest.h>

#include <limits>

namespace tomoserve::models {
namespace {

// Windows of 10 x 20 x 30 voxels, four channels.
v1::Recipe Recipe() {
  v1::Recipe recipe;
  recipe.add_inputs();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (const std::uint32_t size : {10u, 20u, 30u}) recipe.mutable_windows()->add_size(size);
  recipe.mutable_network()->set_spatial_dims(3);
  recipe.mutable_network()->set_output_channels(4);
  return recipe;
}

constexpr std::array<std::uint64_t, 3> kPrepared{100, 100, 100};
constexpr std::uint64_t kAnswerBytes = 6000 * 4 * 4;

TEST(AnswerValuesTest, AreChannelsOfAWindow) {
  EXPECT_EQ(AnswerValues(Recipe(), kPrepared), 24'000u);
  v1::Recipe whole = Recipe();
  whole.mutable_windows()->set_size(2, 0);
  EXPECT_EQ(AnswerValues(whole, kPrepared), 10u * 20 * 100 * 4);
  v1::Recipe slices = Recipe();
  slices.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  slices.mutable_windows()->mutable_context()->set_before(2);
  EXPECT_EQ(AnswerValues(slices, kPrepared), 100u * 100 * 4) << "of one slice, whatever it sees";
}

TEST(AnswerValuesTest, OfADetectorAreItsMaps) {
  v1::Recipe recipe = Recipe();
  recipe.mutable_network()->set_output_channels(2);
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  for (int anchor = 0; anchor < 3; ++anchor) boxes.add_anchors();
  for (const std::uint32_t stride : {1u, 2u}) {
    v1::BoxLevel& level = *boxes.add_levels();
    for (int axis = 0; axis < 3; ++axis) level.add_stride(stride);
  }
  EXPECT_EQ(AnswerValues(recipe, kPrepared), (6000u + 750) * 3 * (2 + 6));
}

TEST(WindowBytesTest, AnswersWaitForTheirTurn) {
  EXPECT_EQ(WindowBytes(Recipe(), kPrepared, 50, {.lanes = 2, .ahead = 2}), 2 * kAnswerBytes);
  EXPECT_EQ(WindowBytes(Recipe(), kPrepared, 2, {.lanes = 2, .ahead = 2}), kAnswerBytes)
      << "there are no more";
  EXPECT_EQ(WindowBytes(Recipe(), kPrepared, 1, {.lanes = 2, .ahead = 2}), 0u);
  EXPECT_EQ(WindowBytes(Recipe(), kPrepared, 0, {.lanes = 2, .ahead = 2}), 0u);
  EXPECT_EQ(WindowBytes(Recipe(), kPrepared, 50, {.lanes = 1, .bucket = 4, .ahead = 4}), 7 * kAnswerBytes)
      << "and the rest of their batch with them";
}

TEST(WindowBytesTest, MirroredWindowsTakeAnImageAndASumOnEachLane) {
  v1::Recipe recipe = Recipe();
  const WindowPasses passes{.lanes = 2, .ahead = 2};
  recipe.mutable_network()->add_mirror_axes(0);
  EXPECT_EQ(WindowBytes(recipe, kPrepared, 50, passes), 2 * kAnswerBytes + 2 * 2 * kAnswerBytes)
      << "an answer that is mirrored back is larger than the window";
  EXPECT_EQ(WindowBytes(recipe, kPrepared, 1, passes), 2 * kAnswerBytes);
  for (int n = 0; n < 5; ++n) recipe.add_inputs()->set_name(std::string(1, static_cast<char>('a' + n)));
  EXPECT_EQ(WindowBytes(recipe, kPrepared, 1, passes), 6 * 6000 * 4 + kAnswerBytes) << "six inputs";
}

TEST(WindowBytesTest, ALargerWindowTakesMoreThanAtWarmUp) {
  v1::Recipe recipe = Recipe();
  const WindowPasses passes{.forward_bytes = 1'000'000, .lanes = 2, .ahead = 2};
  EXPECT_EQ(WindowBytes(recipe, kPrepared, 50, passes), 2 * kAnswerBytes) << "the size of the warm-up's";
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 0);
  // Warmed up with 64 voxels along each axis; one lane computes the only window, the other has none.
  EXPECT_EQ(WindowBytes(recipe, {128, 128, 128}, 1, passes), 3'000'000u);
  EXPECT_EQ(WindowBytes(recipe, {64, 64, 64}, 1, passes), 0u);
  EXPECT_EQ(WindowBytes(recipe, {32, 64, 64}, 1, passes), 0u);
  EXPECT_EQ(WindowBytes(recipe, {128, 128, 128}, 2, passes), 7'000'000u + 128u * 128 * 128 * 4 * 4)
      << "two time points";
}

TEST(WindowBytesTest, AbsurdSizesAreLargeNumbersNotSmallOnes) {
  v1::Recipe recipe = Recipe();
  for (int axis = 0; axis < 3; ++axis) {
    recipe.mutable_windows()->set_size(axis, std::numeric_limits<std::uint32_t>::max());
  }
  EXPECT_GE(WindowBytes(recipe, kPrepared, 50, {.ahead = 1}), std::uint64_t{1} << 50);
}

}  // namespace
}  // namespace tomoserve::models
