#include "tomoserve/compute/labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "random.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;

TEST(LabelsTest, HighestChannelWinsAndTiesGoToTheLowest) {
  // Three channels of four voxels.
  const std::vector<float> scores{1, 2, 5, 0, /**/ 1, 3, 5, 0, /**/ 0, 1, 6, 0};
  std::vector<std::uint8_t> labels(4);
  ArgMaxLabels<std::uint8_t>(scores, 3, 4, labels);
  EXPECT_THAT(labels, ElementsAre(0, 1, 2, 0));
}

TEST(LabelsTest, ManyChannelsAndVoxelsEqualTheDefinition) {
  testing::Random random(6);
  constexpr std::size_t kVoxels = 3000;
  constexpr std::size_t kChannels = 300;
  std::vector<float> scores(kVoxels * kChannels);
  for (float& score : scores) score = static_cast<float>(random.Below(1000));  // with ties
  std::vector<std::uint16_t> labels(kVoxels);
  ArgMaxLabels<std::uint16_t>(scores, kChannels, kVoxels, labels);
  for (std::size_t v = 0; v < kVoxels; ++v) {
    std::size_t best = 0;
    for (std::size_t c = 1; c < kChannels; ++c) {
      if (scores[c * kVoxels + v] > scores[best * kVoxels + v]) best = c;
    }
    ASSERT_EQ(labels[v], best);
  }
}

TEST(LabelsTest, ThresholdIsStrictAndLaterPaintsWin) {
  const std::vector<float> scores{0.5f, 0.6f, 0.9f, /**/ 0.4f, 0.2f, 0.7f};
  std::vector<std::uint8_t> labels{9, 9, 9};
  const std::vector<Paint<std::uint8_t>> ascending{{0, 5}, {1, 7}};
  ThresholdLabels<std::uint8_t>(scores, 3, 0.5f, ascending, labels);
  EXPECT_THAT(labels, ElementsAre(0, 5, 7));
  const std::vector<Paint<std::uint8_t>> descending{{1, 7}, {0, 5}};
  ThresholdLabels<std::uint8_t>(scores, 3, 0.5f, descending, labels);
  EXPECT_THAT(labels, ElementsAre(0, 5, 5));
}

}  // namespace
}  // namespace tomoserve::compute
