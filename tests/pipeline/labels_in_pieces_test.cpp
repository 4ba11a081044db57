// Labels in pieces against the specification, the sums of all windows held until the end: the same to the
// bit.
#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include <string>

#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::RandomVolume;
using testing::RunAll;
using testing::SpotRecipe;

const compute::Placement kWholeSums{.whole_sums = true};

// Seven channels that depend on the inputs in different ways, and on the place in the window.
absl::StatusOr<at::Tensor> SevenChannels(const at::Tensor& input) {
  const at::Tensor value = input.mean(1, true).mul(2e-3);
  std::vector<at::Tensor> channels;
  for (int c = 0; c < 7; ++c) {
    channels.push_back(value.mul(c + 1).sin().add(input.narrow(1, 0, 1).cumsum(4).mul(1e-5 * c)));
  }
  return at::cat(channels, 1);
}

// Arg-max of seven channels on the model grid, findings of three labels.
v1::Recipe SevenLabels() {
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_network()->set_output_channels(7);
  recipe.mutable_preparation()->set_orientation("RAS");
  testing::SetSpacing(recipe, {1.3, 1.6, 2.1}, v1::INTERPOLATION_LINEAR);
  recipe.clear_decode();
  recipe.clear_labels();
  recipe.clear_findings();
  for (std::uint32_t value = 1; value < 7; ++value) {
    recipe.add_labels()->set_value(value);
    recipe.mutable_labels()->rbegin()->set_name("class " + std::to_string(value));
  }
  for (const std::uint32_t label : {1, 3, 6}) {
    v1::FindingRule& rule = *recipe.add_findings();
    rule.set_label(label);
    rule.set_each_component(label == 3);
    rule.set_score(label == 1 ? v1::SCORE_RULE_MEAN : v1::SCORE_RULE_MAX);
  }
  recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  return recipe;
}

void SetOrder(v1::Recipe& recipe, std::initializer_list<int> steps) {
  const v1::Recipe old = recipe;
  recipe.clear_decode();
  for (const int step : steps) *recipe.add_decode() = old.decode(step);
}

struct Form {
  const char* name;
  void (*change)(v1::Recipe&);
};

class LabelsInPiecesTest : public ::testing::TestWithParam<Form> {};

TEST_P(LabelsInPiecesTest, EqualWholeSumsToTheBit) {
  v1::Recipe recipe = SevenLabels();
  GetParam().change(recipe);
  ASSERT_TRUE(volume::MakesLabelsInPieces(recipe));
  const std::uint32_t inputs = std::max(1, recipe.inputs_size());
  // Several windows along each axis, and smaller than a window.
  for (const std::array<std::uint32_t, 3> size :
       {std::array<std::uint32_t, 3>{45, 40, 33}, {53, 9, 30}, {7, 6, 5}}) {
    const auto geometry = AxialGeometry(size, {1, 1, 2.5});
    std::vector<testing::StoredVolume> volumes;
    std::vector<compute::StoredSlice> slices;
    for (std::uint32_t n = 0; n < inputs; ++n) volumes.push_back(RandomVolume(geometry, 7 + n));
    for (testing::StoredVolume& volume : volumes) {
      for (std::size_t k = 0; k < 2; ++k) {
        for (std::size_t j = 0; j < size[1]; ++j) {
          for (std::size_t i = 0; i < size[0]; ++i) volume.At(i, j, k) = 0;
        }
      }
    }
    for (const testing::StoredVolume& volume : volumes) {
      const auto of_volume = volume.Slices();
      slices.insert(slices.end(), of_volume.begin(), of_volume.end());
    }
    const std::uint32_t bytes = size[0] == 45 ? 1 : 2;
    const auto expected = RunAll(recipe, geometry, slices, SevenChannels, 2, bytes, kWholeSums);
    const auto found = RunAll(recipe, geometry, slices, SevenChannels, 2, bytes);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found->label_bytes == expected->label_bytes);
    ASSERT_EQ(found->result.findings.size(), expected->result.findings.size());
    for (std::size_t f = 0; f < expected->result.findings.size(); ++f) {
      EXPECT_EQ(found->result.findings[f].SerializeAsString(),
                expected->result.findings[f].SerializeAsString());
    }
    if (size[0] == 45) {
      EXPECT_EQ(found->result.findings.empty(), recipe.findings().empty());
    }
    for (std::size_t n = 0; n < expected->result.labels.size(); ++n) {
      EXPECT_EQ(found->result.labels[n].SerializeAsString(), expected->result.labels[n].SerializeAsString());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, LabelsInPiecesTest,
    ::testing::
        Values(
            Form{"Gaussian", [](v1::Recipe&) {}},
            Form{"Constant", [](v1::Recipe& r) { r.mutable_windows()->set_blend(v1::BLEND_CONSTANT); }},
            Form{"MuchOverlap", [](v1::Recipe& r) { r.mutable_windows()->set_overlap(0.7); }},
            Form{"NoOverlap", [](v1::Recipe& r) { r.mutable_windows()->set_overlap(0); }},
            Form{"LongWindows", [](v1::Recipe& r) { r.mutable_windows()->set_size(1, 0); }},
            Form{"NoFindings", [](v1::Recipe& r) { r.clear_findings(); }},
            Form{"NoActivation",
                 [](v1::Recipe& r) {
                   SetOrder(r, {1, 2});
                 }},
            Form{"Mirrored",
                 [](v1::Recipe& r) {
                   r.mutable_network()->add_mirror_axes(0);
                   r.mutable_network()->add_mirror_axes(2);
                 }},
            Form{"OtherAxes",
                 [](v1::Recipe& r) {
                   r.mutable_network()->set_axes(v1::TENSOR_AXES_ZXY);
                   r.mutable_preparation()->set_orientation("SPL");
                   r.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
                 }},
            Form{"Crop",
                 [](v1::Recipe& r) { r.mutable_preparation()->mutable_crop()->set_margin_voxels(1); }},
            Form{"FourInputs",
                 [](v1::Recipe& r) {
                   for (int n = 0; n < 4; ++n) r.add_inputs();
                   r.mutable_network()->set_input_channels(4);
                 }},
            Form{"Threshold",
                 [](v1::Recipe& r) {
                   v1::Threshold& threshold = *r.mutable_decode(1)->mutable_threshold();
                   r.mutable_decode(0)->set_activation(v1::ACTIVATION_SIGMOID);
                   threshold.set_above(0.55);
                   for (const std::uint32_t channel : {6, 0, 1, 2, 5, 4, 3})
                     threshold.add_paint_order(channel);
                   // Two channels paint one label.
                   r.add_labels()->set_value(3);
                 }},
            Form{"NothingResampled",
                 [](v1::Recipe& r) {
                   r.mutable_preparation()->clear_spacing();
                   r.mutable_decode(2)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
                   SetOrder(r, {0, 2, 1});
                 }},
            Form{"StepsOnLabels",
                 [](v1::Recipe& r) {
                   r.add_decode()->mutable_keep_largest()->set_label(3);
                   r.mutable_decode(3)->mutable_keep_largest()->set_count(4);
                   r.add_decode()->mutable_merge_labels()->add_from(2);
                   r.mutable_decode(4)->mutable_merge_labels()->add_from(5);
                   r.mutable_decode(4)->mutable_merge_labels()->set_into(6);
                   SetOrder(r, {0, 1, 4, 3, 2});
                 }},
            Form{"ObjectsOnTheModelGrid",
                 [](v1::Recipe& r) {
                   r.mutable_findings(1)->set_on_model_grid(true);
                   r.mutable_findings(2)->set_on_model_grid(true);
                   r.add_decode()->mutable_keep_largest()->set_label(3);
                   r.mutable_decode(3)->mutable_keep_largest()->set_count(4);
                   r.add_decode()->mutable_merge_labels()->add_from(2);
                   r.mutable_decode(4)->mutable_merge_labels()->add_from(5);
                   r.mutable_decode(4)->mutable_merge_labels()->set_into(6);
                   SetOrder(r, {0, 1, 4, 3, 2});
                 }},
            Form{"StepsOnTheVolumeGrid",
                 [](v1::Recipe& r) {
                   r.add_decode()->mutable_keep_largest()->set_label(3);
                   r.mutable_decode(3)->mutable_keep_largest()->set_count(4);
                   r.add_decode()->mutable_merge_labels()->add_from(6);
                   r.mutable_decode(4)->mutable_merge_labels()->set_into(1);
                 }},
            Form{
                "Slices",
                [](v1::Recipe& r) {
                  r.mutable_windows()->Clear();
                  r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
                  r.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
                  r.mutable_windows()->set_xy_multiple_of(4);
                }}),
    [](const ::testing::TestParamInfo<Form>& form) { return form.param.name; });

TEST(MakesLabelsInPiecesTest, OnlyWhereLabelsAreMadeVoxelByVoxelOnTheModelGrid) {
  const auto in_pieces = [](auto change) {
    v1::Recipe recipe = SevenLabels();
    change(recipe);
    return volume::MakesLabelsInPieces(recipe);
  };
  EXPECT_TRUE(in_pieces([](v1::Recipe&) {}));
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) { SetOrder(r, {0, 2, 1}); })) << "scores are resampled";
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) {
    r.mutable_preparation()->clear_spacing();
    SetOrder(r, {2, 0, 1});
  })) << "an activation of what is read on the volume's grid";
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) {
    r.mutable_decode(2)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  })) << "between two labels lies a third one, whose scores are gone";
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) { r.add_decode()->mutable_fill_holes()->set_label(1); }));
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) { r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET); }));
  EXPECT_FALSE(in_pieces([](v1::Recipe& r) { r.mutable_network()->set_output_channels(3); }))
      << "of few channels it saves nothing";
}

TEST(LabelsInPiecesRunTest, LabelsThatDoNotFitAreRefused) {
  v1::Recipe recipe = SevenLabels();
  recipe.mutable_labels(0)->set_value(300);
  const auto geometry = AxialGeometry({7, 6, 5}, {1, 1, 1});
  const auto volume = RandomVolume(geometry, 1);
  for (const compute::Placement& placement : {compute::Placement{}, kWholeSums}) {
    const auto outcome = RunAll(recipe, geometry, volume.Slices(), SevenChannels, 1, 1, placement);
    EXPECT_EQ(base::ReasonOf(outcome.status()), "LABEL_MAP_SIZE");
  }
}

TEST(LabelsInPiecesRunTest, TakesAFractionOfTheMemory) {
  v1::Recipe recipe = SevenLabels();
  recipe.mutable_preparation()->clear_spacing();
  recipe.mutable_network()->set_output_channels(105);
  recipe.mutable_windows()->clear_size();
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->add_size(96);
  const auto geometry = AxialGeometry({239, 239, 250}, {1.5, 1.5, 1.5});
  const auto whole = PlanRun(recipe, geometry, kWholeSums);
  const auto pieces = PlanRun(recipe, geometry);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_GE(whole->peak_bytes, geometry.voxels() * 106 * 4);
  EXPECT_LE(pieces->peak_bytes, whole->peak_bytes / 3);
  EXPECT_EQ(pieces->device_peak_bytes, whole->device_peak_bytes) << "a device holds them until the end";
  // A crop's plan holds for whatever it leaves.
  recipe.mutable_preparation()->mutable_crop();
  const auto cropped = PlanRun(recipe, geometry);
  EXPECT_LT(cropped->peak_bytes, whole->peak_bytes);
  for (std::uint32_t size = 90; size < 239; size += 7) {
    const volume::Box box{{0, 0, 0}, {size, 239, size + 11}};
    EXPECT_LE(PlanRun(recipe, geometry, {}, box)->peak_bytes, cropped->peak_bytes);
  }
}

}  // namespace
}  // namespace tomoserve::pipeline
