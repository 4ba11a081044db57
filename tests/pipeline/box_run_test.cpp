// Small detectors through whole runs: from bright voxels to findings in the patient.
#include <ATen/ops/cat.h>
#include <ATen/ops/max_pool3d.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "pipeline/detector_recipes.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/base/status.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::SmallDetector;
using testing::StoredVolume;

// A network that fires where a cell of 4 voxels has a bright voxel: the logit is its value less 100, and
// every box is the anchor.
absl::StatusOr<Outputs> Bright(const at::Tensor& input) {
  const at::Tensor scores = at::max_pool3d(input, {4, 4, 4}).sub(100);
  const auto sizes = scores.sizes();
  return Outputs(
      std::vector<at::Tensor>{scores, at::zeros({1, 6, sizes[2], sizes[3], sizes[4]}, scores.options())});
}

class BoxRunTest : public testing::PlacedRunTest {};
TS_INSTANTIATE_PLACES(BoxRunTest, testing::AllPlaces());

TEST_P(BoxRunTest, ABoxLiesWhereItsVoxelLiesInThePatient) {
  const auto geometry = AxialGeometry({32, 24, 20}, {0.5, 1, 2}, {10, 20, 30});
  StoredVolume stored(geometry);
  stored.At(31 - 12, 23 - 8, 16) = 101;  // voxel (12, 8, 16) of the RAS grid
  v1::Recipe recipe = SmallDetector();
  recipe.mutable_preparation()->set_orientation("RAS");
  const auto outcome = Run(recipe, geometry, stored.Slices(), Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  const v1::Finding& finding = outcome->result.findings[0];
  const volume::LpsPoint centre = geometry.ToLps({{19, 15, 16}});
  EXPECT_NEAR(finding.centre_lps().x_mm(), centre.mm[0], 1e-9);
  EXPECT_NEAR(finding.centre_lps().y_mm(), centre.mm[1], 1e-9);
  EXPECT_NEAR(finding.centre_lps().z_mm(), centre.mm[2], 1e-9);
  EXPECT_THAT(finding.extent_mm(), ::testing::ElementsAre(4, 8, 16));
  EXPECT_NEAR(finding.box_lps().min().x_mm(), centre.mm[0] - 2, 1e-9);
  EXPECT_NEAR(finding.box_lps().max().y_mm(), centre.mm[1] + 4, 1e-9);
  EXPECT_NEAR(finding.box_lps().max().z_mm(), centre.mm[2] + 8, 1e-9);
  EXPECT_EQ(finding.key_slice_k(), 16u);
  EXPECT_EQ(finding.label_value(), 1u);
  EXPECT_EQ(finding.label(), "class 1");
  EXPECT_EQ(finding.calibration(), v1::CALIBRATION_UNCALIBRATED);
  EXPECT_NEAR(finding.score(), 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_EQ(finding.voxels(), 0u);
}

TEST_P(BoxRunTest, MeasurementsAreThoseOfTheBoxAndSayso) {
  const auto geometry = AxialGeometry({32, 32, 32}, {0.5, 1, 2});
  StoredVolume stored(geometry);
  stored.At(16, 16, 16) = 200;
  const auto outcome = Run(SmallDetector(), geometry, stored.Slices(), Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  const v1::Finding& finding = outcome->result.findings[0];
  EXPECT_DOUBLE_EQ(finding.long_axis_mm().value(), 8);
  EXPECT_DOUBLE_EQ(finding.short_axis_mm().value(), 4);
  EXPECT_DOUBLE_EQ(finding.mean_diameter_mm().value(), 6);
  EXPECT_DOUBLE_EQ(finding.longest_diameter_3d_mm().value(), 16);
  EXPECT_NEAR(finding.volume_ml().value(), 3.14159265 / 6 * 4 * 8 * 16 / 1000, 1e-6);
  for (const v1::Measurement* measurement :
       {&finding.long_axis_mm(), &finding.short_axis_mm(), &finding.mean_diameter_mm(),
        &finding.longest_diameter_3d_mm(), &finding.volume_ml()}) {
    EXPECT_THAT(measurement->method(), ::testing::HasSubstr("box"));
    EXPECT_GT(measurement->uncertainty(), 0);
  }
  EXPECT_TRUE(finding.limitations().empty());
}

TEST_P(BoxRunTest, ThereIsNoLabelMapAndNoLabelWasMeasured) {
  const auto geometry = AxialGeometry({32, 32, 32}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(16, 16, 16) = 200;
  const auto outcome = Run(SmallDetector(), geometry, stored.Slices(), Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->result.has_label_map);
  EXPECT_TRUE(outcome->result.labels.empty());
  EXPECT_EQ(outcome->label_bytes[5], std::byte{0xee}) << "the label map is not touched";
}

TEST_P(BoxRunTest, WindowsAndTheWholeVolumeFindTheSameBoxes) {
  const auto geometry = AxialGeometry({43, 30, 26}, {1, 1, 1});
  StoredVolume stored(geometry);
  testing::Random random(3);
  for (int n = 0; n < 40; ++n) {
    stored.At(static_cast<std::size_t>(random.Below(43)), static_cast<std::size_t>(random.Below(30)),
              static_cast<std::size_t>(random.Below(26))) = static_cast<std::int16_t>(101 + random.Below(8));
  }
  v1::Recipe recipe = SmallDetector();
  const auto cut = Run(recipe, geometry, stored.Slices(), Bright);
  ASSERT_TRUE(cut.ok()) << cut.status();
  recipe.mutable_decode(0)->mutable_detect_boxes()->set_whole_below_voxels(43 * 30 * 26 + 1);
  int calls = 0;
  const auto whole = Run(recipe, geometry, stored.Slices(), [&](const at::Tensor& input) {
    ++calls;
    EXPECT_EQ(input.sizes(), (at::IntArrayRef{1, 1, 44, 32, 28}));
    return Bright(input);
  });
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(calls, 1);
  ASSERT_GT(whole->result.findings.size(), 5u);
  ASSERT_EQ(cut->result.findings.size(), whole->result.findings.size());
  for (std::size_t n = 0; n < whole->result.findings.size(); ++n) {
    EXPECT_EQ(cut->result.findings[n].SerializeAsString(), whole->result.findings[n].SerializeAsString())
        << n;
  }
}

TEST_P(BoxRunTest, VolumesSmallerThanAWindowArePaddedOnBothSides) {
  const auto geometry = AxialGeometry({8, 32, 32}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(4, 16, 16) = 200;
  const auto outcome = Run(SmallDetector(), geometry, stored.Slices(), Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  EXPECT_NEAR(outcome->result.findings[0].centre_lps().x_mm(), 4, 1e-9);
  EXPECT_NEAR(outcome->result.findings[0].centre_lps().y_mm(), 16, 1e-9);
}

TEST_P(BoxRunTest, RulesOfFindingsApply) {
  const auto geometry = AxialGeometry({40, 40, 40}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(8, 8, 8) = 101;
  stored.At(24, 8, 8) = 102;
  stored.At(8, 24, 24) = 103;
  const auto scores = [&](const std::function<void(v1::FindingRule&)>& change) {
    v1::Recipe recipe = SmallDetector();
    change(*recipe.mutable_findings(0));
    const auto outcome = Run(recipe, geometry, stored.Slices(), Bright);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    std::vector<int> logits;
    for (const v1::Finding& finding : outcome->result.findings) {
      logits.push_back(static_cast<int>(std::lround(std::log(finding.score() / (1 - finding.score())))));
    }
    return logits;
  };
  using Logits = std::vector<int>;
  EXPECT_EQ(scores([](v1::FindingRule&) {}), (Logits{3, 2, 1}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_min_score(0.8); }), (Logits{3, 2}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_max_findings(1); }), (Logits{3}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_min_longest_diameter_mm(8); }), (Logits{3, 2, 1}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_min_longest_diameter_mm(8.1); }), (Logits{}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_min_volume_ml(0.27); }), (Logits{}));
  EXPECT_EQ(scores([](v1::FindingRule& rule) { rule.set_label(2); }), (Logits{}));
}

TEST_P(BoxRunTest, NoBoxIsDroppedWhereTheRuleAllowsAsManyAsTheDetector) {
  const auto geometry = AxialGeometry({48, 48, 80}, {1, 1, 1});
  StoredVolume stored(geometry);
  int bright = 0;
  for (int k = 8; k < 80 && bright < 150; k += 12) {
    for (int j = 4; j < 48 && bright < 150; j += 8) {
      for (int i = 4; i < 48 && bright < 150; i += 8, ++bright) {
        stored.At(i, j, k) = static_cast<std::int16_t>(101 + bright % 5);
      }
    }
  }
  ASSERT_EQ(bright, 150);
  v1::Recipe recipe = SmallDetector();
  v1::DetectBoxes& boxes = *recipe.mutable_decode(0)->mutable_detect_boxes();
  boxes.set_candidates_per_level(1000);
  boxes.set_max_boxes(300);
  const auto findings = [&](std::uint32_t most) {
    recipe.mutable_findings(0)->set_max_findings(most);
    const auto outcome = Run(recipe, geometry, stored.Slices(), Bright);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome->result.findings.size();
  };
  EXPECT_EQ(findings(300), 150u);
  EXPECT_EQ(findings(0), 100u) << "the default";
}

TEST_P(BoxRunTest, EachClassIsItsLabelAndSuppressesItsOwnBoxesOnly) {
  const auto geometry = AxialGeometry({32, 32, 32}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(16, 16, 16) = 102;
  stored.At(20, 16, 16) = 101;  // an anchor that shares a third of the first one
  v1::Recipe recipe = SmallDetector(2);
  recipe.mutable_labels(1)->set_value(7);
  recipe.mutable_findings(1)->set_label(7);
  const auto outcome = Run(recipe, geometry, stored.Slices(), [](const at::Tensor& input) {
    auto outputs = Bright(input);
    const at::Tensor scores = outputs->tensors[0];
    outputs->tensors[0] = at::cat({scores, scores.sub(0.5)}, 1);
    return outputs;
  });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 2u);
  EXPECT_EQ(outcome->result.findings[0].label_value(), 1u);
  EXPECT_EQ(outcome->result.findings[1].label_value(), 7u);
  EXPECT_EQ(outcome->result.findings[1].label(), "class 2");
  for (const v1::Finding& finding : outcome->result.findings) EXPECT_EQ(finding.centre_lps().x_mm(), 16);
}

TEST_P(BoxRunTest, BoxesAtTheEdgeAndOnInterpolatedSlicesSaySo) {
  const auto geometry = AxialGeometry({32, 32, 40}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(0, 16, 8) = 103;
  stored.At(16, 16, 20) = 102;
  stored.At(16, 16, 36) = 101;
  std::vector<compute::StoredSlice> slices = stored.Slices();
  slices[22] = {};
  slices[22].between = compute::Between{21, 23, 0.5};
  const auto outcome = Run(SmallDetector(), geometry, slices, Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 3u);
  EXPECT_THAT(outcome->result.findings[0].limitations(), ::testing::ElementsAre("TOUCHES_VOLUME_EDGE"));
  EXPECT_EQ(outcome->result.findings[0].extent_mm(0), 4) << "clipped";
  EXPECT_THAT(outcome->result.findings[1].limitations(), ::testing::ElementsAre("SYNTHETIC_SLICE"));
  EXPECT_THAT(outcome->result.findings[2].limitations(), ::testing::ElementsAre("TOUCHES_VOLUME_EDGE"));
}

TEST_P(BoxRunTest, NoFiniteMapNoResult) {
  const auto geometry = AxialGeometry({32, 16, 16}, {1, 1, 1});
  const StoredVolume stored(geometry);
  for (const std::size_t map : {std::size_t{0}, std::size_t{1}}) {
    int window = 0;
    const auto outcome = Run(SmallDetector(), geometry, stored.Slices(), [&](const at::Tensor& input) {
      auto outputs = Bright(input);
      if (window++ == 1) outputs->tensors[map][0][0][1][2][3] = std::numeric_limits<float>::quiet_NaN();
      return outputs;
    });
    EXPECT_EQ(base::ReasonOf(outcome.status()), "NON_FINITE_OUTPUT");
    EXPECT_EQ(base::ValueOf(outcome.status()), "1");
  }
}

TEST_P(BoxRunTest, OtherMapsThanTheRecipesAreRefused) {
  const auto geometry = AxialGeometry({16, 16, 16}, {1, 1, 1});
  const StoredVolume stored(geometry);
  const auto value = [&](const Forward& forward) {
    const auto outcome = Run(SmallDetector(), geometry, stored.Slices(), forward);
    EXPECT_EQ(base::ReasonOf(outcome.status()), "NETWORK_OUTPUT_SHAPE");
    return base::ValueOf(outcome.status());
  };
  EXPECT_EQ(value([](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input; }), "1 tensors");
  EXPECT_EQ(value([](const at::Tensor& input) -> absl::StatusOr<Outputs> {
              return Outputs(std::vector<at::Tensor>{input, input});
            }),
            "1x1x16x16x16");
}

TEST_P(BoxRunTest, FindsNothingInAnEmptyVolume) {
  const auto geometry = AxialGeometry({32, 32, 32}, {1, 1, 1});
  const auto outcome = Run(SmallDetector(), geometry, StoredVolume(geometry).Slices(), Bright);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->result.findings.empty());
}

struct Refusal {
  const char* name;
  void (*change)(v1::Recipe&);
  const char* field;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class DetectorPlanTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(DetectorPlanTest, RefusesByName) {
  v1::Recipe recipe = SmallDetector();
  GetParam().change(recipe);
  const auto plan = PlanRun(recipe, AxialGeometry({32, 32, 32}, {1, 1, 1}));
  EXPECT_EQ(base::ValueOf(plan.status()), GetParam().field) << plan.status();
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, DetectorPlanTest,
    ::testing::Values(
        Refusal{"Axes", [](v1::Recipe& r) { r.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX); },
                "network.axes"},
        Refusal{"Mirror", [](v1::Recipe& r) { r.mutable_network()->add_mirror_axes(0); },
                "network.mirror_axes"},
        Refusal{"Layout", [](v1::Recipe& r) { r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES); },
                "windows.layout"},
        Refusal{"Blend", [](v1::Recipe& r) { r.mutable_windows()->set_blend(v1::BLEND_GAUSSIAN); },
                "windows.blend"},
        Refusal{"Padding",
                [](v1::Recipe& r) { r.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE); },
                "windows.padding_mode"},
        Refusal{"PaddingValue", [](v1::Recipe& r) { r.mutable_windows()->set_padding_value(-1); },
                "windows.padding_mode"},
        Refusal{"Classes", [](v1::Recipe& r) { r.mutable_network()->set_output_channels(2); }, "labels"},
        Refusal{"OtherSteps", [](v1::Recipe& r) { r.add_decode()->mutable_arg_max(); }, "decode[1]"},
        Refusal{"Cells", [](v1::Recipe& r) { r.mutable_windows()->set_size(1, 18); }, "windows.size"}),
    [](const ::testing::TestParamInfo<Refusal>& refusal) { return refusal.param.name; });

TEST(DetectorPlanTest, CountsTheMapsAndOneWindowAsMemory) {
  const auto geometry = AxialGeometry({64, 64, 64}, {1, 1, 1});
  v1::Recipe recipe = SmallDetector();
  const std::uint64_t voxels = 64 * 64 * 64;
  const auto cut = PlanRun(recipe, geometry);
  ASSERT_TRUE(cut.ok()) << cut.status();
  // Maps and counts of 16^3 cells, maps of 4^3 of a window, its input twice.
  const std::uint64_t maps = 16 * 16 * 16 * 8;
  const std::uint64_t window = 2 * 16 * 16 * 16 + 4 * 4 * 4 * 7;
  EXPECT_EQ(cut->peak_bytes, std::max(2 * voxels, voxels + maps + window) * 4);
  recipe.mutable_decode(0)->mutable_detect_boxes()->set_whole_below_voxels(voxels + 1);
  const auto whole = PlanRun(recipe, geometry);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->peak_bytes, (3 * voxels + 16 * 16 * 16 * 7) * 4);
  EXPECT_GE(whole->device_peak_bytes, whole->peak_bytes);
}

}  // namespace
}  // namespace tomoserve::pipeline
