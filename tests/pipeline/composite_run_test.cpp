// Composites against the specification: each part as a model of its own, their labels painted by hand.
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "pipeline/decode_rules.h"
#include "pipeline/own_scores.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::Outcome;
using testing::RandomVolume;
using testing::SpotRecipe;

// `channels` that depend on the input in ways of their own; the first one wins in about half of the voxels.
Forward Waves(int channels, double phase) {
  return [=](const at::Tensor& input) -> absl::StatusOr<Outputs> {
    std::vector<at::Tensor> waves{at::full(input.sizes(), 0.55, input.options())};
    for (int c = 1; c < channels; ++c) waves.push_back(input.mul(1.7 * c).add(phase).sin());
    return Outputs(at::cat(waves, 1));
  };
}

void SetLabels(v1::Recipe& recipe, const std::vector<std::uint32_t>& values) {
  recipe.clear_labels();
  recipe.clear_findings();
  for (const std::uint32_t value : values) {
    recipe.add_labels()->set_value(value);
    recipe.mutable_labels()->rbegin()->set_name("label " + std::to_string(value));
    recipe.add_findings()->set_label(value);
  }
}

void AddScale(double scale, google::protobuf::RepeatedPtrField<v1::IntensityStep>* steps) {
  steps->Add()->mutable_affine()->set_scale(scale);
}

// Three parts of 5, 3 and 4 channels; the second one has an intensity of its own.
v1::Recipe Composite() {
  v1::Recipe recipe = SpotRecipe();
  SetLabels(recipe, {1, 2, 3, 4, 5, 6, 7, 8, 300});
  AddScale(1e-2, recipe.mutable_preparation()->mutable_intensity());
  v1::Network& network = *recipe.mutable_network();
  network.clear_output_channels();
  const std::vector<std::vector<std::uint32_t>> labels{{4, 1, 2, 7}, {300, 3}, {6, 5, 8}};
  for (std::size_t part = 0; part < labels.size(); ++part) {
    v1::Part& added = *network.add_parts();
    added.set_name("part " + std::to_string(part));
    added.set_output_channels(static_cast<std::uint32_t>(labels[part].size()) + 1);
    for (const std::uint32_t label : labels[part]) added.add_labels(label);
  }
  AddScale(3e-3, network.mutable_parts(1)->mutable_intensity());
  recipe.clear_decode();
  return recipe;
}

void AddDecode(v1::Recipe& recipe, v1::Activation activation, bool labels_first,
               v1::Interpolation interpolation) {
  recipe.clear_decode();
  recipe.add_decode()->set_activation(activation);
  if (labels_first) recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(interpolation);
  if (!labels_first) recipe.add_decode()->mutable_arg_max();
}

// What a part is as a model of its own; where labels come from arg_max their values are its channels.
v1::Recipe Alone(const v1::Recipe& composite, int index) {
  const v1::Part& part = composite.network().parts(index);
  v1::Recipe recipe = composite;
  recipe.mutable_network()->clear_parts();
  recipe.mutable_network()->set_output_channels(part.output_channels());
  if (part.intensity_size() > 0) {
    *recipe.mutable_preparation()->mutable_intensity() = part.intensity();
  }
  std::vector<std::uint32_t> values;
  for (int i = 0; i < part.labels_size(); ++i) values.push_back(static_cast<std::uint32_t>(i) + 1);
  SetLabels(recipe, values);
  return recipe;
}

class CompositeRunTest : public testing::PlacedRunTest {
 protected:
  absl::StatusOr<Outcome> RunParts(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                   const std::vector<compute::StoredSlice>& slices,
                                   const std::vector<Forward>& networks,
                                   const compute::Placement& placement) {
    engine::UseOneThread();
    TS_ASSIGN_OR_RETURN(const auto run, PreparedRun::Create(recipe, geometry, slices, {2, {}}, placement));
    EXPECT_EQ(run->windows(), run->plan().windows.starts.size() * networks.size());
    // All windows of a part may be begun before the part before it ends.
    std::vector<Outputs> outputs;
    for (std::uint32_t window = 0; window < run->windows(); ++window) {
      TS_ASSIGN_OR_RETURN(Outputs of_window, run->ForwardWindow(window, networks[run->PartOf(window)]));
      outputs.push_back(std::move(of_window));
    }
    for (std::uint32_t window = 0; window < run->windows(); ++window) {
      TS_RETURN_IF_ERROR(run->Fold(window, std::move(outputs[window])));
    }
    Outcome outcome;
    outcome.label_bytes.resize(geometry.voxels() * 2);
    TS_ASSIGN_OR_RETURN(outcome.result, run->Finish(outcome.label_bytes, 2));
    outcome.labels.resize(geometry.voxels());
    std::memcpy(outcome.labels.data(), outcome.label_bytes.data(), outcome.label_bytes.size());
    return outcome;
  }

  // Of a composite: its own answer must have the labels of its parts, painted by hand.
  void ExpectPainted(const v1::Recipe& recipe, const compute::Placement& placement) {
    const auto geometry = AxialGeometry({37, 30, 26}, {1, 1.2, 2.5});
    auto volume = RandomVolume(geometry, 11);
    if (recipe.preparation().has_crop()) {
      for (std::size_t k = 0; k < 26; ++k) {
        for (std::size_t j = 0; j < 30; ++j) {
          for (std::size_t i = 0; i < 37; ++i) {
            if (k < 3 || j > 25 || i < 5) volume.At(i, j, k) = 0;
          }
        }
      }
    }
    const auto slices = volume.Slices();
    const std::vector<Forward> networks{
        Waves(static_cast<int>(recipe.network().parts(0).output_channels()), 0.1),
        Waves(static_cast<int>(recipe.network().parts(1).output_channels()), 0.7),
        Waves(static_cast<int>(recipe.network().parts(2).output_channels()), 1.9)};
    const auto together = RunParts(recipe, geometry, slices, networks, placement);
    ASSERT_TRUE(together.ok()) << together.status();

    std::vector<std::uint16_t> painted(geometry.voxels());
    std::vector<std::uint16_t> part_of(geometry.voxels());
    for (int part = 0; part < 3; ++part) {
      const auto alone = testing::RunAll(Alone(recipe, part), geometry, slices,
                                         networks[static_cast<std::size_t>(part)], 2, 2, placement);
      ASSERT_TRUE(alone.ok()) << alone.status();
      const auto& labels = recipe.network().parts(part).labels();
      for (std::size_t v = 0; v < painted.size(); ++v) {
        if (alone->labels[v] == 0) continue;
        painted[v] = static_cast<std::uint16_t>(labels[alone->labels[v] - 1]);
      }
      if (part < 2) continue;
      // Nothing is painted over the last one: its findings are those of its own run.
      for (const v1::Finding& finding : alone->result.findings) {
        const auto value = labels[static_cast<int>(finding.label_value()) - 1];
        bool there = false;
        for (const v1::Finding& other : together->result.findings) {
          if (other.label_value() != value) continue;
          there = true;
          EXPECT_EQ(other.voxels(), finding.voxels());
          EXPECT_NEAR(other.score(), finding.score(), 1e-5 * std::abs(finding.score()) + 1e-6);
        }
        EXPECT_TRUE(there) << value;
      }
    }
    EXPECT_TRUE(together->labels == painted);
    std::set<std::uint16_t> values(painted.begin(), painted.end());
    EXPECT_GE(values.size(), 8u) << "the parts leave something of each other";
  }
};

TEST_P(CompositeRunTest, ScoresToTheVolumesGridThenArgMax) {
  v1::Recipe recipe = Composite();
  recipe.mutable_preparation()->set_orientation("RAS");
  testing::SetSpacing(recipe, {1.4, 1.7, 2.2}, v1::INTERPOLATION_LINEAR);
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  ExpectPainted(recipe, placement());
}

TEST_P(CompositeRunTest, LabelsOnTheModelGrid) {
  v1::Recipe recipe = Composite();
  recipe.mutable_preparation()->set_orientation("SPL");
  testing::SetSpacing(recipe, {1.4, 1.7, 2.2}, v1::INTERPOLATION_LINEAR);
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/true, v1::INTERPOLATION_NEAREST);
  ASSERT_TRUE(volume::MakesLabelsInPieces(recipe));
  ExpectPainted(recipe, placement());
  compute::Placement whole = placement();
  whole.whole_sums = true;
  ExpectPainted(recipe, whole);
}

TEST_P(CompositeRunTest, AsNnunetPreparesAndSums) {
  v1::Recipe recipe = Composite();
  v1::Preparation& preparation = *recipe.mutable_preparation();
  preparation.mutable_crop();
  testing::SetSpacing(recipe, {1.4, 1.4, 2.2}, v1::INTERPOLATION_CUBIC);
  preparation.mutable_spacing()->set_rule(v1::SPACING_RULE_NNUNET);
  preparation.set_intensity_before_spacing(true);
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
  recipe.mutable_windows()->set_overlap(0.5);
  recipe.mutable_network()->add_mirror_axes(1);
  AddDecode(recipe, v1::ACTIVATION_NONE, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  ExpectPainted(recipe, placement());
}

TEST_P(CompositeRunTest, SlicesWithoutSpacing) {
  v1::Recipe recipe = Composite();
  v1::Windows& windows = *recipe.mutable_windows();
  windows.Clear();
  windows.set_layout(v1::WINDOW_LAYOUT_SLICES);
  AddDecode(recipe, v1::ACTIVATION_SIGMOID, /*labels_first=*/false, v1::INTERPOLATION_NEAREST);
  recipe.mutable_decode()->SwapElements(0, 1);  // scores are activated on the volume's grid
  ExpectPainted(recipe, placement());
}

// A row of voxels: the first part labels those above 0, the second one those above 2.
TEST_P(CompositeRunTest, AVoxelsScoreIsThatOfThePartThatWon) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  testing::StoredVolume stored(geometry);
  for (std::size_t i = 2; i < 6; ++i) stored.At(i, 4, 4) = static_cast<std::int16_t>(i - 1);
  v1::Recipe recipe = Composite();
  recipe.mutable_preparation()->clear_intensity();
  recipe.mutable_network()->mutable_parts()->DeleteSubrange(0, 3);
  SetLabels(recipe, {7, 9});
  for (v1::FindingRule& rule : *recipe.mutable_findings()) rule.set_score(v1::SCORE_RULE_MEAN);
  for (const std::uint32_t value : {7, 9}) {
    v1::Part& part = *recipe.mutable_network()->add_parts();
    part.set_output_channels(1);
    part.add_labels(value);
  }
  const std::vector<Forward> networks{
      [](const at::Tensor& input) -> absl::StatusOr<Outputs> { return Outputs(input.mul(0.6)); },
      [](const at::Tensor& input) -> absl::StatusOr<Outputs> { return Outputs(input.sub(2)); }};
  for (const bool labels_first : {true, false}) {
    recipe.clear_decode();
    recipe.add_decode()->set_activation(v1::ACTIVATION_NONE);
    v1::DecodeStep label;
    label.mutable_threshold()->set_above(0.5);
    if (labels_first) *recipe.add_decode() = label;
    recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
    if (!labels_first) *recipe.add_decode() = label;
    const auto outcome = RunParts(recipe, geometry, stored.Slices(), networks, placement());
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_EQ(outcome->result.findings.size(), 2u);
    for (const v1::Finding& finding : outcome->result.findings) {
      EXPECT_EQ(finding.voxels(), 2u);
      EXPECT_NEAR(finding.score(), finding.label_value() == 7 ? 0.9 : 1.5, 1e-6) << finding.label_value();
    }
    // What follows works on the labels of all parts: 7 and 9 are one piece then.
    v1::MergeLabels& merge = *recipe.add_decode()->mutable_merge_labels();
    merge.add_from(9);
    merge.set_into(7);
    recipe.mutable_findings()->RemoveLast();
    const auto merged = RunParts(recipe, geometry, stored.Slices(), networks, placement());
    ASSERT_TRUE(merged.ok()) << merged.status();
    ASSERT_EQ(merged->result.findings.size(), 1u);
    EXPECT_EQ(merged->result.findings[0].voxels(), 4u);
    EXPECT_NEAR(merged->result.findings[0].score(), (0.6 + 1.2 + 1 + 2) / 4, 1e-6);
    SetLabels(recipe, {7, 9});
    for (v1::FindingRule& rule : *recipe.mutable_findings()) rule.set_score(v1::SCORE_RULE_MEAN);
  }
}

TEST(CompositePlanTest, CountsWindowsPreparationsAndTheLargestPart) {
  const auto geometry = AxialGeometry({64, 64, 64}, {1, 1, 1});
  v1::Recipe recipe = Composite();
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  const auto two = PlanRun(recipe, geometry, {.whole_sums = true});
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->output_shape[1], 5);
  EXPECT_EQ(models::PreparationCount(recipe), 2u);
  recipe.mutable_network()->mutable_parts(1)->clear_intensity();
  const auto one = PlanRun(recipe, geometry, {.whole_sums = true});
  ASSERT_TRUE(one.ok()) << one.status();
  constexpr std::uint64_t kVoxels = 64 * 64 * 64;
  EXPECT_EQ(two->peak_bytes - one->peak_bytes, kVoxels * 4) << "one more prepared volume";
  const auto alone = PlanRun(Alone(recipe, 0), geometry, {.whole_sums = true});
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(one->peak_bytes - alone->peak_bytes, 2 * kVoxels * 6) << "labels and scores, twice";
}

// As many labels as real composites have, and more: each is asked for, at the end once and in each part.
TEST(CompositeRulesTest, KnowTheChannelsOfManyPartsWithManyLabels) {
  constexpr std::uint32_t kParts = 28;
  constexpr std::uint32_t kLabels = 100;
  v1::Recipe recipe = Composite();
  recipe.mutable_network()->clear_parts();
  std::vector<std::uint32_t> values;
  for (std::uint32_t part = 0; part < kParts; ++part) {
    v1::Part& added = *recipe.mutable_network()->add_parts();
    added.set_output_channels(kLabels + 1);
    for (std::uint32_t i = 0; i < kLabels; ++i) {
      values.push_back(5000 - static_cast<std::uint32_t>(values.size()));
      added.add_labels(values.back());
    }
  }
  SetLabels(recipe, values);
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto channel = static_cast<std::int64_t>(i % kLabels) + 1;
    ASSERT_EQ(ScoreChannelsOf(recipe, values[i]), std::vector{channel}) << values[i];
  }
  for (std::size_t part = 0; part < kParts; ++part) {
    const auto channels = ChannelsOfMadeLabels(models::NetworkRecipe(recipe, part));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::vector<std::int64_t> expected(i / kLabels == part ? 1 : 0,
                                               static_cast<std::int64_t>(i % kLabels) + 1);
      ASSERT_EQ(channels[values[i]], expected) << part << ' ' << values[i];
    }
  }
}

TEST(CompositeRulesTest, MergedLabelsHaveTheChannelsOfTheirOwnPart) {
  v1::Recipe recipe = Composite();  // {4, 1, 2, 7}, {300, 3}, {6, 5, 8}
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  const auto merge = [&](std::uint32_t from, std::uint32_t into) {
    v1::MergeLabels& step = *recipe.add_decode()->mutable_merge_labels();
    step.add_from(from);
    step.set_into(into);
  };
  merge(7, 1);
  merge(3, 1);
  merge(1, 300);
  const auto of_part = [&](std::size_t part) {
    return ScoreChannelsOf(models::NetworkRecipe(recipe, part), 300);
  };
  EXPECT_THAT(of_part(0), ::testing::UnorderedElementsAre(2, 4));
  EXPECT_THAT(of_part(1), ::testing::UnorderedElementsAre(1, 2));
  EXPECT_TRUE(of_part(2).empty());
  EXPECT_TRUE(ScoreChannelsOf(recipe, 1).empty()) << "is merged into another one";
  EXPECT_TRUE(ScoreChannelsOf(recipe, 77).empty());
  EXPECT_EQ(ScoreChannelsOf(recipe, 2), std::vector<std::int64_t>{3});
}

TEST_P(CompositeRunTest, AWindowWithTheChannelsOfAnotherPartIsRefused) {
  const auto geometry = AxialGeometry({16, 16, 16}, {1, 1, 1});
  v1::Recipe recipe = Composite();
  AddDecode(recipe, v1::ACTIVATION_SOFTMAX, /*labels_first=*/false, v1::INTERPOLATION_LINEAR);
  const auto volume = RandomVolume(geometry, 3);
  const auto refused =
      RunParts(recipe, geometry, volume.Slices(), {Waves(5, 0), Waves(4, 0), Waves(4, 0)}, placement());
  EXPECT_EQ(base::ReasonOf(refused.status()), "NETWORK_OUTPUT_SHAPE");
}

TS_INSTANTIATE_PLACES(CompositeRunTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
