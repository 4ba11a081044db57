#include "tomoserve/pipeline/prepared_run.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "pipeline/pipeline_fixtures.h"
#include "random.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/resample.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using testing::Identity;
using testing::SpotRecipe;
using testing::StoredVolume;

StoredVolume RandomVolume(const volume::Geometry& geometry, std::uint64_t seed) {
  testing::Random random(seed);
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < geometry.size_ijk()[2]; ++k) {
    for (std::uint32_t j = 0; j < geometry.size_ijk()[1]; ++j) {
      for (std::uint32_t i = 0; i < geometry.size_ijk()[0]; ++i) {
        stored.At(i, j, k) = static_cast<std::int16_t>(random.Below(2000));
      }
    }
  }
  return stored;
}

v1::Recipe SliceRecipe(std::uint32_t before, std::uint32_t after, std::uint32_t spatial_dims) {
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_windows()->Clear();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  recipe.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
  recipe.mutable_windows()->set_xy_multiple_of(4);
  recipe.mutable_windows()->mutable_context()->set_before(before);
  recipe.mutable_windows()->mutable_context()->set_after(after);
  recipe.mutable_network()->set_spatial_dims(spatial_dims);
  recipe.mutable_network()->set_input_channels(spatial_dims == 2 ? before + 1 + after : 1);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX);
  return recipe;
}

class PreparedRunTest : public testing::PlacedRunTest {};

TEST_P(PreparedRunTest, WindowsOfAnIdentityNetworkBlendToTheVolume) {
  const auto geometry = AxialGeometry({37, 20, 9}, {1, 1, 1});
  StoredVolume stored = RandomVolume(geometry, 1);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_decode(0)->mutable_threshold()->set_above(999.5);
  const auto outcome = Run(recipe, geometry, stored.Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::size_t v = 0;
  for (std::uint32_t k = 0; k < 9; ++k) {
    for (std::uint32_t j = 0; j < 20; ++j) {
      for (std::uint32_t i = 0; i < 37; ++i) {
        ASSERT_EQ(outcome->labels[v++], stored.At(i, j, k) > 999 ? 1 : 0);
      }
    }
  }
}

TEST_P(PreparedRunTest, SlabsOfAThreeDimensionalNetworkAnswerOneSlice) {
  const auto geometry = AxialGeometry({9, 6, 12}, {1, 1, 1});
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < 12; ++k) {
    for (std::uint32_t j = 0; j < 6; ++j) {
      for (std::uint32_t i = 0; i < 9; ++i)
        stored.At(i, j, k) = static_cast<std::int16_t>(100 * k + 10 * j + i);
    }
  }
  std::vector<std::vector<float>>
      seen;  // slab values at the last pixel of rows and columns, padding included
  const auto outcome = Run(SliceRecipe(4, 3, 3), geometry, stored.Slices(), [&](const at::Tensor& input) {
    EXPECT_EQ(input.sizes(), (std::vector<std::int64_t>{1, 1, 8, 8, 12}));
    std::vector<float>& corner = seen.emplace_back();
    for (std::int64_t z = 0; z < 8; ++z) corner.push_back(input[0][0][z][7][11].item<float>());
    return absl::StatusOr<at::Tensor>(input.narrow(2, 4, 1).clone());
  });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(seen.size(), 12u);
  EXPECT_THAT(seen[0], ElementsAre(58, 58, 58, 58, 58, 158, 258, 358));
  EXPECT_THAT(seen[5], ElementsAre(158, 258, 358, 458, 558, 658, 758, 858));
  EXPECT_THAT(seen[11], ElementsAre(758, 858, 958, 1058, 1158, 1158, 1158, 1158));
  for (std::size_t v = 0; v < outcome->labels.size(); ++v) EXPECT_EQ(outcome->labels[v], v == 0 ? 0 : 1);
}

TEST_P(PreparedRunTest, ContextOfATwoDimensionalNetworkIsItsChannels) {
  const auto geometry = AxialGeometry({4, 4, 3}, {1, 1, 1});
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < 3; ++k) stored.At(1, 2, k) = static_cast<std::int16_t>(k + 1);
  std::vector<std::vector<float>> seen;
  const auto outcome = Run(SliceRecipe(1, 1, 2), geometry, stored.Slices(), [&](const at::Tensor& input) {
    EXPECT_EQ(input.sizes(), (std::vector<std::int64_t>{1, 3, 4, 4}));
    std::vector<float>& pixel = seen.emplace_back();
    for (std::int64_t c = 0; c < 3; ++c) pixel.push_back(input[0][c][2][1].item<float>());
    return absl::StatusOr<at::Tensor>(input.narrow(1, 1, 1).clone());
  });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(seen, ElementsAre(ElementsAre(1, 1, 2), ElementsAre(1, 2, 3), ElementsAre(2, 3, 3)));
}

TEST_P(PreparedRunTest, KeepsTheLargestComponentsOfALabel) {
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

TEST_P(PreparedRunTest, ScoresAreResampledBeforeOrAfterTheActivationAsTheRecipeSays) {
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

TEST_P(PreparedRunTest, SigmoidThresholdPaintsLabelValuesInOrder) {
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

TEST_P(PreparedRunTest, MirrorsAreAveragedAndMirroredBack) {
  const auto geometry = AxialGeometry({16, 16, 16}, {1, 1, 1});
  const StoredVolume stored(geometry);
  v1::Recipe recipe = SpotRecipe();
  for (const std::uint32_t axis : {0, 1, 2}) recipe.mutable_network()->add_mirror_axes(axis);
  std::atomic<int> calls{0};
  // What a network answers that cares only for its own axes: the place along the last one.
  const Forward ramp = [&](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
    ++calls;
    return at::arange(16, input.options()).expand(input.sizes()).clone();
  };
  const auto run = Create(recipe, geometry, stored.Slices());
  ASSERT_TRUE(run.ok()) << run.status();
  const auto output = (*run)->ForwardWindow(0, ramp);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(calls, 8);
  EXPECT_EQ(output->min().item<float>(), 7.5f);
  EXPECT_EQ(output->max().item<float>(), 7.5f);
  recipe.mutable_network()->clear_mirror_axes();
  recipe.mutable_network()->add_mirror_axes(0);
  const auto along_x = Create(recipe, geometry, stored.Slices());
  const auto ramp_kept = (*along_x)->ForwardWindow(0, ramp);
  EXPECT_EQ((*ramp_kept)[0][0][3][4][5].item<float>(), 5);
}

TEST_P(PreparedRunTest, ThreadsDoNotChangeAByte) {
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
TEST_P(PreparedRunTest, EqualsPlainLoops) {
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
  for (const v1::Recipe& recipe : {arg_max, labels_first, threshold}) {
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

TEST_P(PreparedRunTest, IntensityBeforeSpacingIsAppliedToTheVolume) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(4, 4, 4) = 3000;
  v1::Recipe recipe = SpotRecipe();
  testing::SetSpacing(recipe, {0.5, 0.5, 0.5}, v1::INTERPOLATION_LINEAR);
  v1::Clip& clip = *recipe.mutable_preparation()->add_intensity()->mutable_clip();
  clip.set_max(1000);
  const auto halfway = [&](bool before) {
    recipe.mutable_preparation()->set_intensity_before_spacing(before);
    const auto run = Create(recipe, geometry, stored.Slices());
    return run.value()->Gather(0).value()[0][0][9][8][8].item<float>();
  };
  EXPECT_EQ(halfway(true), 500);
  EXPECT_EQ(halfway(false), 1000);
}

TEST_P(PreparedRunTest, ReportsLabelsLungAndTimings) {
  const auto geometry = AxialGeometry({180, 170, 20}, {2, 2, 5}, {-180, -170, 0});
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {0, 0, 0}, 1000, -1000, stored);
  for (const double z : {0.0, 20.0, 40.0, 60.0, 80.0, 95.0})
    testing::PaintSphere(geometry, {0, 0, z}, 120, 30, stored);
  testing::PaintSphere(geometry, {0, 0, 50}, 48, -800, stored);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(1000);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 200);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(0);
  recipe.add_labels()->set_value(2);
  recipe.mutable_network()->set_output_channels(2);
  const auto outcome =
      Run(recipe, geometry, stored.Slices(), [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
        return at::cat({input, at::full(input.sizes(), -1, input.options())}, 1);
      });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_TRUE(outcome->result.lung.has_value());
  EXPECT_NEAR(outcome->result.lung->volume_ml(), 4.0 / 3 * 3.14159 * 48 * 48 * 48 / 1000, 15);
  EXPECT_EQ(outcome->result.lung->first_k(), 1u);
  EXPECT_EQ(outcome->result.lung->last_k(), 19u);
  ASSERT_EQ(outcome->result.labels.size(), 2u);
  EXPECT_EQ(outcome->result.labels[0].label(), 1u);
  EXPECT_GT(outcome->result.labels[0].voxels(), 0u);
  EXPECT_EQ(outcome->result.labels[0].first_k(), 0u);
  EXPECT_EQ(outcome->result.labels[0].last_k(), 19u);
  EXPECT_FALSE(outcome->result.labels[0].touches_in_plane_border());
  EXPECT_EQ(outcome->result.labels[1].label(), 2u);
  EXPECT_EQ(outcome->result.labels[1].voxels(), 0u);
  std::vector<std::string> stages;
  for (const v1::StageTiming& timing : outcome->result.timings) stages.push_back(timing.stage());
  EXPECT_THAT(stages, ElementsAre("prepare", "forward", "blend", "labels", "measure"));
}

TEST_P(PreparedRunTest, SaysWhetherALabelReachesTheBorderOfTheImages) {
  const auto geometry = AxialGeometry({12, 10, 8}, {1, 1, 1});
  const auto touches = [&](std::size_t i, std::size_t j, std::size_t k) {
    StoredVolume stored(geometry);
    stored.At(i, j, k) = 1;
    const auto outcome = Run(SpotRecipe(), geometry, stored.Slices(),
                             [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input; });
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->result.labels.at(0).voxels(), 1u);
    return outcome->result.labels.at(0).touches_in_plane_border();
  };
  EXPECT_FALSE(touches(1, 1, 4));
  EXPECT_FALSE(touches(10, 8, 0));  // the end slices are no border of an image
  EXPECT_FALSE(touches(10, 8, 7));
  EXPECT_TRUE(touches(0, 5, 4));
  EXPECT_TRUE(touches(11, 5, 4));
  EXPECT_TRUE(touches(5, 0, 4));
  EXPECT_TRUE(touches(5, 9, 4));
}

TEST_P(PreparedRunTest, SaysThatTheImagesCutALungOff) {
  const auto geometry = AxialGeometry({120, 170, 20}, {2, 2, 5}, {-180, -170, 0});  // up to x = 60
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {0, 0, 0}, 1000, -1000, stored);
  for (const double z : {0.0, 20.0, 40.0, 60.0, 80.0, 95.0})
    testing::PaintSphere(geometry, {0, 0, z}, 130, 30, stored);
  for (const double x : {-60.0, 60.0}) testing::PaintSphere(geometry, {x, 0, 50}, 44, -800, stored);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(200);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 200);
  const auto outcome = Run(recipe, geometry, stored.Slices(),
                           [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input; });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_TRUE(outcome->result.lung.has_value());
  EXPECT_GT(outcome->result.lung->volume_ml(), 200);
  EXPECT_TRUE(outcome->result.lung->touches_in_plane_border());
}

TS_INSTANTIATE_PLACES(PreparedRunTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
