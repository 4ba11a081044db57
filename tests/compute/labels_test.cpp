#include "tomoserve/compute/labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/compute/on_device/labels.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;

// Exact in every placement: comparisons round nothing.
class LabelsTest : public testing::PlacedTest {
 protected:
  template <typename Label>
  std::vector<Label> ArgMax(const std::vector<float>& scores, std::int64_t channels) {
    return Labelled<Label>(
        scores, channels,
        [&](std::int64_t voxels, std::vector<Label>& labels) {
          ArgMaxLabels<Label>(scores, channels, voxels, labels);
        },
        [&](const at::Tensor& tensor, const at::Tensor& labels) { on_device::ArgMaxLabels(tensor, labels); });
  }

  template <typename Label>
  std::vector<Label> Threshold(const std::vector<float>& scores, std::int64_t channels, float above,
                               const std::vector<Paint<Label>>& paints) {
    return Labelled<Label>(
        scores, channels,
        [&](std::int64_t voxels, std::vector<Label>& labels) {
          ThresholdLabels<Label>(scores, voxels, above, paints, labels);
        },
        [&](const at::Tensor& tensor, const at::Tensor& labels) {
          on_device::ThresholdLabels<Label>(tensor, above, paints, labels);
        });
  }

 private:
  template <typename Label, typename Loops, typename Tensors>
  std::vector<Label> Labelled(const std::vector<float>& scores, std::int64_t channels, Loops loops,
                              Tensors tensors) {
    const std::int64_t voxels = static_cast<std::int64_t>(scores.size()) / channels;
    std::vector<Label> labels(static_cast<std::size_t>(voxels), Label{99});
    if (placement().UsesLoops()) {
      loops(voxels, labels);
      return labels;
    }
    const at::Tensor tensor = Put(testing::MakeTensor({channels, 1, 1, voxels}, scores));
    const at::Tensor on_device = testing::LabelTensor(labels, {1, 1, voxels}, placement().device);
    tensors(tensor, on_device);
    return testing::LabelsOf<Label>(on_device);
  }
};

TEST_P(LabelsTest, HighestChannelWinsAndTiesGoToTheLowest) {
  // Three channels of four voxels.
  const std::vector<float> scores{1, 2, 5, 0, /**/ 1, 3, 5, 0, /**/ 0, 1, 6, 0};
  EXPECT_THAT(ArgMax<std::uint8_t>(scores, 3), ElementsAre(0, 1, 2, 0));
}

TEST_P(LabelsTest, ManyChannelsAndVoxelsEqualTheDefinition) {
  testing::Random random(6);
  constexpr std::size_t kVoxels = 3000;
  constexpr std::size_t kChannels = 300;
  std::vector<float> scores(kVoxels * kChannels);
  for (float& score : scores) score = static_cast<float>(random.Below(1000));  // with ties
  const std::vector<std::uint16_t> labels = ArgMax<std::uint16_t>(scores, kChannels);
  for (std::size_t v = 0; v < kVoxels; ++v) {
    std::size_t best = 0;
    for (std::size_t c = 1; c < kChannels; ++c) {
      if (scores[c * kVoxels + v] > scores[best * kVoxels + v]) best = c;
    }
    ASSERT_EQ(labels[v], best);
  }
}

TEST_P(LabelsTest, ThresholdIsStrictAndLaterPaintsWin) {
  const std::vector<float> scores{0.5f, 0.6f, 0.9f, /**/ 0.4f, 0.2f, 0.7f};
  const std::vector<Paint<std::uint8_t>> ascending{{0, 5}, {1, 7}};
  EXPECT_THAT(Threshold<std::uint8_t>(scores, 2, 0.5f, ascending), ElementsAre(0, 5, 7));
  const std::vector<Paint<std::uint8_t>> descending{{1, 7}, {0, 5}};
  EXPECT_THAT(Threshold<std::uint8_t>(scores, 2, 0.5f, descending), ElementsAre(0, 5, 5));
}

TEST_P(LabelsTest, LargeLabelValuesKeepTheirBits) {
  const std::vector<float> scores{1, 0, 1, /**/ 0, 0, 1};
  EXPECT_THAT(Threshold<std::uint8_t>(scores, 2, 0.5f, {{0, 255}, {1, 128}}), ElementsAre(255, 0, 128));
  EXPECT_THAT(Threshold<std::uint16_t>(scores, 2, 0.5f, {{0, 65535}, {1, 40000}}),
              ElementsAre(65535, 0, 40000));
  // Channel 40000 of 40001.
  std::vector<float> many(40001 * 2);
  many[40000 * 2] = 1;
  EXPECT_THAT(ArgMax<std::uint16_t>(many, 40001), ElementsAre(40000, 0));
}

TEST_P(LabelsTest, MergedLabelsTakeTheValueOfOne) {
  const auto merged = [&]<typename Label>(std::vector<Label> labels, const std::vector<std::uint32_t>& from,
                                          std::uint32_t into) {
    if (placement().UsesLoops()) {
      EXPECT_TRUE(MergeLabels<Label>(labels, from, into, {}).ok());
      return labels;
    }
    const auto size = static_cast<std::int64_t>(labels.size());
    const at::Tensor tensor = testing::LabelTensor(labels, {1, 1, size}, placement().device);
    on_device::MergeLabels<Label>(tensor, from, into);
    return testing::LabelsOf<Label>(tensor);
  };
  EXPECT_THAT(merged(std::vector<std::uint8_t>{0, 1, 2, 3, 255, 1}, {1, 255, 1000}, 3),
              ElementsAre(0, 3, 2, 3, 3, 3));
  EXPECT_THAT(merged(std::vector<std::uint16_t>{0, 1, 40000, 65535}, {40000, 1}, 65535),
              ElementsAre(0, 65535, 65535, 65535));
}

TS_INSTANTIATE_PLACES(LabelsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
