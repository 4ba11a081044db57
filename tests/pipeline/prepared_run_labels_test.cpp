// From the network's scores to labels and findings: order of the steps, threads, placements.
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/resample.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using testing::Identity;
using testing::RandomVolume;
using testing::SpotRecipe;
using testing::StoredVolume;

// Three channels that depend on the input in different ways.
absl::StatusOr<at::Tensor> ThreeChannels(const at::Tensor& input) {
  const at::Tensor value = input.mul(1e-3);
  return at::cat({value, value.mul(-1).add(1.9), at::full(input.sizes(), 0.95, input.options())}, 1);
}

v1::Recipe ThreeChannelRecipe() {
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_network()->set_output_channels(3);
  recipe.mutable_preparation()->set_orientation("RAS");
  testing::SetSpacing(recipe, {1.4, 1.7, 2.2}, v1::INTERPOLATION_LINEAR);
  recipe.clear_decode();
  recipe.clear_labels();
  for (const std::uint32_t value : {1, 2}) {
    recipe.add_labels()->set_value(value);
    recipe.mutable_labels()->rbegin()->set_name("class " + std::to_string(value));
  }
  recipe.add_findings()->set_label(2);
  return recipe;
}

class PreparedRunLabelsTest : public testing::PlacedRunTest {};

TEST_P(PreparedRunLabelsTest, KeepsTheLargestComponentsOfALabel) {
  const auto geometry = AxialGeometry({60, 20, 20}, {1, 1, 1});
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {10, 10, 10}, 5, 1, stored);
  testing::PaintSphere(geometry, {28, 10, 10}, 3, 1, stored);
  testing::PaintSphere(geometry, {45, 10, 10}, 6, 1, stored);
  v1::Recipe recipe = SpotRecipe();
  v1::KeepLargest& keep = *recipe.add_decode()->mutable_keep_largest();
  keep.set_label(1);
  keep.set_count(2);
  const auto outcome = Run(recipe, geometry, stored.Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 2u);
  // Equal scores: the larger one first.
  EXPECT_NEAR(outcome->result.findings[0].centre_lps().x_mm(), 45, 1e-9);
  EXPECT_NEAR(outcome->result.findings[1].centre_lps().x_mm(), 10, 1e-9);
}

// A shell with a hole, a spot of another class in it, and a smaller piece of the shell's class elsewhere.
TEST_P(PreparedRunLabelsTest, StepsOnLabelsWorkOnTheGridWhereTheyStand) {
  const auto geometry = AxialGeometry({60, 20, 20}, {1, 1, 1});
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {45, 10, 10}, 4, 1, stored);
  testing::PaintSphere(geometry, {15, 10, 10}, 8, 1, stored);
  testing::PaintSphere(geometry, {15, 10, 10}, 5, 0, stored);
  testing::PaintSphere(geometry, {15, 10, 10}, 2, 2, stored);
  const Forward classes = [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
    return at::cat({input.eq(0), input.eq(1), input.eq(2)}, 1).to(at::kFloat);
  };
  for (const bool before : {true, false}) {
    v1::Recipe recipe = ThreeChannelRecipe();
    recipe.mutable_preparation()->clear_spacing();
    recipe.mutable_findings()->Clear();
    recipe.add_findings()->set_label(1);
    recipe.add_decode()->mutable_arg_max();
    if (!before) {
      recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
    }
    recipe.add_decode()->mutable_fill_holes()->set_label(1);
    v1::KeepLargest& keep = *recipe.add_decode()->mutable_keep_largest();
    keep.set_label(1);
    keep.set_count(1);
    if (before) {
      recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
    }
    const auto at = [](std::size_t i) { return (10 * 20 + 10) * 60 + i; };
    auto outcome = Run(recipe, geometry, stored.Slices(), classes);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->labels[at(8)], 1);
    EXPECT_EQ(outcome->labels[at(11)], 1) << "the hole";
    EXPECT_EQ(outcome->labels[at(15)], 2) << "the spot in it";
    EXPECT_EQ(outcome->labels[at(45)], 0) << "the smaller piece";
    recipe.add_decode()->mutable_merge_labels()->add_from(2);
    recipe.mutable_decode()->rbegin()->mutable_merge_labels()->set_into(1);
    outcome = Run(recipe, geometry, stored.Slices(), classes);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->labels[at(15)], 1);
    ASSERT_EQ(outcome->result.findings.size(), 1u);
    StoredVolume whole(geometry);
    testing::PaintSphere(geometry, {15, 10, 10}, 8, 1, whole);
    std::uint64_t voxels = 0;
    for (std::size_t k = 0; k < 20; ++k) {
      for (std::size_t j = 0; j < 20; ++j) {
        for (std::size_t i = 0; i < 60; ++i) voxels += whole.At(i, j, k) == 1 ? 1 : 0;
      }
    }
    EXPECT_EQ(outcome->result.findings[0].voxels(), voxels);
  }
}

TEST_P(PreparedRunLabelsTest, TheScoreOfMergedLabelsIsTheHighestOfTheirChannels) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  StoredVolume stored(geometry);
  for (std::size_t i = 2; i < 6; ++i) stored.At(i, 4, 4) = static_cast<std::int16_t>(i < 4 ? 1 : 2);
  const Forward classes = [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
    const at::Tensor one = input.eq(1).to(at::kFloat), two = input.eq(2).to(at::kFloat);
    return at::cat({input.eq(0).to(at::kFloat), one.mul(0.75), two.mul(0.5)}, 1);
  };
  v1::Recipe recipe = ThreeChannelRecipe();
  recipe.mutable_preparation()->Clear();
  recipe.mutable_findings()->Clear();
  v1::FindingRule& rule = *recipe.add_findings();
  rule.set_label(2);
  rule.set_score(v1::SCORE_RULE_MEAN);
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_merge_labels()->add_from(1);
  recipe.mutable_decode(1)->mutable_merge_labels()->set_into(2);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  for (const bool activated : {false, true}) {
    if (activated) {  // read at once, as a softmax after resampling is
      recipe.mutable_decode()->Clear();
      recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
      recipe.add_decode()->set_activation(v1::ACTIVATION_SIGMOID);
      recipe.add_decode()->mutable_arg_max();
      recipe.add_decode()->mutable_merge_labels()->add_from(1);
      recipe.mutable_decode(3)->mutable_merge_labels()->set_into(2);
    }
    const auto outcome = Run(recipe, geometry, stored.Slices(), classes);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_EQ(outcome->result.findings.size(), 1u);
    EXPECT_EQ(outcome->result.findings[0].voxels(), 4u);
    const auto sigmoid = [](double score) { return 1 / (1 + std::exp(-score)); };
    EXPECT_NEAR(outcome->result.findings[0].score(), activated ? (sigmoid(0.75) + sigmoid(0.5)) / 2 : 0.625,
                1e-6);
  }
}

TEST_P(PreparedRunLabelsTest, ScoresAreResampledBeforeOrAfterTheActivationAsTheRecipeSays) {
  const auto geometry = AxialGeometry({23, 19, 11}, {1, 1, 2.5});
  StoredVolume stored = RandomVolume(geometry, 2);
  // The same by whole arrays.
  const compute::ModelGrid grid =
      PlanRun(
          [] {
            v1::Recipe recipe = ThreeChannelRecipe();
            recipe.add_decode()->mutable_arg_max();
            recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
            return recipe;
          }(),
          geometry)
          ->grid;
  const at::Tensor volume = compute::StoredToFloat(stored.Slices(), geometry.size_ijk(), {}).value();
  const at::Tensor prepared =
      compute::Resample(volume, compute::MapToModel(geometry, grid), v1::INTERPOLATION_LINEAR, {}).value();
  const at::Tensor scores = (*ThreeChannels(prepared.unsqueeze(0).unsqueeze(0)))[0];
  const compute::GridMap map = compute::MapToVolume(geometry, grid);
  const auto resampled = [&](const at::Tensor& from) {
    std::vector<at::Tensor> channels;
    for (std::int64_t c = 0; c < 3; ++c) {
      channels.push_back(compute::Resample(from[c].contiguous(), map, v1::INTERPOLATION_LINEAR, {}).value());
    }
    return at::stack(channels);
  };
  for (const bool softmax_first : {true, false}) {
    v1::Recipe recipe = ThreeChannelRecipe();
    if (softmax_first) recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
    recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
    if (!softmax_first) recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
    recipe.add_decode()->mutable_arg_max();
    const auto outcome = Run(recipe, geometry, stored.Slices(), ThreeChannels, 2);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    const at::Tensor expected = softmax_first ? resampled(scores.softmax(0)) : resampled(scores).softmax(0);
    const at::Tensor labels = expected.argmax(0);
    const at::Tensor sorted = std::get<0>(expected.sort(0, true));
    std::array<float, 3> highest{};
    std::size_t v = 0;
    for (std::int64_t k = 0; k < 11; ++k) {
      for (std::int64_t j = 0; j < 19; ++j) {
        for (std::int64_t i = 0; i < 23; ++i, ++v) {
          const auto label = outcome->labels[v];
          const float margin = (sorted[0][k][j][i].item<float>()) - sorted[1][k][j][i].item<float>();
          if (margin > 1e-4) {
            ASSERT_EQ(label, labels[k][j][i].item<std::int64_t>());
          }
          highest[label] = std::max(highest[label], expected[label][k][j][i].item<float>());
        }
      }
    }
    for (const v1::Finding& finding : outcome->result.findings) {
      if (finding.label_value() == 2) {
        EXPECT_NEAR(finding.score(), highest[2], 1e-5);
      }
    }
    EXPECT_FALSE(outcome->result.findings.empty());
  }
}

TEST_P(PreparedRunLabelsTest, SigmoidThresholdPaintsLabelValuesInOrder) {
  const auto geometry = AxialGeometry({3, 1, 1}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(1, 0, 0) = 1;
  stored.At(2, 0, 0) = 2;
  v1::Recipe recipe = SpotRecipe();
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 4);
  recipe.mutable_network()->set_output_channels(2);
  recipe.mutable_labels(0)->set_value(300);
  recipe.add_labels()->set_value(7);
  recipe.clear_decode();
  recipe.add_decode()->set_activation(v1::ACTIVATION_SIGMOID);
  v1::Threshold& threshold = *recipe.add_decode()->mutable_threshold();
  threshold.set_above(0.5);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  const Forward forward = [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
    return at::cat({input.sub(0.5), input.sub(1.5)}, 1);
  };
  auto outcome = Run(recipe, geometry, stored.Slices(), forward, 1, 2);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(outcome->labels, ElementsAre(0, 300, 7));
  threshold.add_paint_order(1);
  threshold.add_paint_order(0);
  outcome = Run(recipe, geometry, stored.Slices(), forward, 1, 2);
  EXPECT_THAT(outcome->labels, ElementsAre(0, 300, 300));
  EXPECT_EQ(base::ReasonOf(Run(recipe, geometry, stored.Slices(), forward, 1, 1).status()), "LABEL_MAP_SIZE");
}

TEST_P(PreparedRunLabelsTest, ThreadsDoNotChangeAByte) {
  const auto geometry = AxialGeometry({45, 40, 33}, {1, 1, 2.5});
  const StoredVolume stored = RandomVolume(geometry, 3);
  v1::Recipe recipe = ThreeChannelRecipe();
  recipe.mutable_preparation()->add_intensity()->mutable_z_score();
  recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  recipe.add_decode()->mutable_arg_max();
  recipe.mutable_findings(0)->set_score(v1::SCORE_RULE_MEAN);
  const auto one = Run(recipe, geometry, stored.Slices(), ThreeChannels, 1);
  const auto two = Run(recipe, geometry, stored.Slices(), ThreeChannels, 2);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(one->label_bytes, two->label_bytes);
  ASSERT_EQ(one->result.findings.size(), two->result.findings.size());
  ASSERT_FALSE(one->result.findings.empty());
  for (std::size_t f = 0; f < one->result.findings.size(); ++f) {
    EXPECT_EQ(one->result.findings[f].SerializeAsString(), two->result.findings[f].SerializeAsString());
  }
}

// Labels may differ only where a score lies within rounding of the threshold or of the second-best channel:
// of random scores fewer than one voxel in 10^4. Scores agree to 1e-5 relative.
TEST_P(PreparedRunLabelsTest, EqualsPlainLoops) {
  const auto geometry = AxialGeometry({45, 40, 33}, {1, 1, 2.5});
  const StoredVolume stored = RandomVolume(geometry, 4);
  v1::Recipe arg_max = ThreeChannelRecipe();
  arg_max.mutable_preparation()->add_intensity()->mutable_z_score();
  arg_max.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  arg_max.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  arg_max.add_decode()->mutable_arg_max();
  arg_max.mutable_findings(0)->set_score(v1::SCORE_RULE_MEAN);
  v1::Recipe labels_first = ThreeChannelRecipe();
  labels_first.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  labels_first.add_decode()->mutable_arg_max();
  labels_first.add_decode()->mutable_keep_largest()->set_label(2);
  labels_first.mutable_decode(2)->mutable_keep_largest()->set_count(3);
  labels_first.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  v1::Recipe threshold = SpotRecipe();
  threshold.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
  threshold.mutable_preparation()->set_orientation("SPL");
  threshold.mutable_decode(0)->mutable_threshold()->set_above(1500.5);
  v1::Recipe merged = labels_first;
  merged.mutable_decode(2)->mutable_fill_holes()->set_label(2);
  merged.add_decode()->mutable_merge_labels()->add_from(1);
  merged.mutable_decode(4)->mutable_merge_labels()->set_into(2);
  for (const v1::Recipe& recipe : {arg_max, labels_first, threshold, merged}) {
    const Forward forward =
        recipe.network().output_channels() == 1 ? Forward(Identity) : Forward(ThreeChannels);
    const auto expected = testing::RunAll(recipe, geometry, stored.Slices(), forward, 2);
    const auto found = Run(recipe, geometry, stored.Slices(), forward, 2);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(found.ok()) << found.status();
    std::size_t different = 0;
    for (std::size_t v = 0; v < expected->labels.size(); ++v) {
      different += expected->labels[v] != found->labels[v] ? 1 : 0;
    }
    EXPECT_LE(different, expected->labels.size() / 10'000);
    ASSERT_FALSE(expected->result.findings.empty());
    if (different > 0) continue;  // components may be others
    ASSERT_EQ(found->result.findings.size(), expected->result.findings.size());
    for (std::size_t f = 0; f < expected->result.findings.size(); ++f) {
      EXPECT_NEAR(found->result.findings[f].score(), expected->result.findings[f].score(),
                  1e-5 * std::abs(expected->result.findings[f].score()));
    }
  }
}

TS_INSTANTIATE_PLACES(PreparedRunLabelsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
