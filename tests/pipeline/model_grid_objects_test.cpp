// Findings on the model grid against the specification: components by flood fill and measures voxel by voxel,
// in the model's own axes.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Outcome;
using testing::StoredVolume;
using Voxel = std::array<std::int64_t, 3>;  // x, y, z of the model grid

// One window that is the whole volume, at 2 mm; what the network says is what the tests write down.
v1::Recipe ModelGridRecipe() {
  v1::Recipe recipe = testing::SpotRecipe();
  v1::Windows& windows = *recipe.mutable_windows();
  windows.Clear();
  windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) windows.add_size(0);
  windows.set_blend(v1::BLEND_CONSTANT);
  testing::SetSpacing(recipe, {2, 2, 2}, v1::INTERPOLATION_LINEAR);
  recipe.mutable_findings(0)->set_on_model_grid(true);
  return recipe;
}

// Scores [c][x][y][z] that networks answer with, whatever they see: one entry for each window.
class Answers {
 public:
  Answers(const RunPlan& plan, std::vector<std::int64_t> channels) {
    const auto [x, y, z] = plan.grid.geometry.size_ijk();
    for (const std::int64_t count : channels) {
      scores_.push_back(at::full({1, count, x, y, z}, 0.1, at::kFloat));
    }
  }
  float& At(std::size_t window, std::int64_t channel, const Voxel& v) {
    const at::Tensor& scores = scores_[window];
    return scores.mutable_data_ptr<float>()[channel * scores.stride(1) + v[0] * scores.stride(2) +
                                            v[1] * scores.stride(3) + v[2]];
  }
  Voxel size() const { return {scores_[0].size(2), scores_[0].size(3), scores_[0].size(4)}; }
  Forward AsNetwork(at::Device device) const {
    return [scores = scores_, device, next = std::size_t{0}](const at::Tensor&) mutable {
      return absl::StatusOr<Outputs>(Outputs(scores[next++ % scores.size()].to(device)));
    };
  }

 private:
  std::vector<at::Tensor> scores_;
};

template <typename Use>
void ForVoxels(const Voxel& size, Use use) {
  for (std::int64_t x = 0; x < size[0]; ++x) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t z = 0; z < size[2]; ++z) use(Voxel{x, y, z});
    }
  }
}

// 26-connected components of what `has` says.
template <typename Has>
std::vector<std::vector<Voxel>> Components(const Voxel& size, Has has) {
  std::vector<std::vector<Voxel>> components;
  std::set<Voxel> seen;
  ForVoxels(size, [&](const Voxel& start) {
    if (!has(start) || !seen.insert(start).second) return;
    std::vector<Voxel> component{start};
    for (std::size_t next = 0; next < component.size(); ++next) {
      const Voxel at = component[next];
      ForVoxels({3, 3, 3}, [&](const Voxel& step) {
        Voxel neighbour;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          neighbour[axis] = at[axis] + step[axis] - 1;
          if (neighbour[axis] < 0 || neighbour[axis] >= size[axis]) return;
        }
        if (has(neighbour) && seen.insert(neighbour).second) component.push_back(neighbour);
      });
    }
    components.push_back(component);
  });
  return components;
}

std::array<double, 3> Place(const RunPlan& plan, const Voxel& v) {
  return plan.grid.geometry
      .ToLps({{static_cast<double>(v[0]), static_cast<double>(v[1]), static_cast<double>(v[2])}})
      .mm;
}

double Distance(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

// Whether a voxel lies at a face of the grid that is, where the crop ends there, one of the volume.
bool IsAtVolumeEdge(const RunPlan& plan, const Voxel& v) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto of_volume = static_cast<std::size_t>(plan.grid.reorientation.source_axis[axis]);
    const bool low_end = plan.box.first_ijk[of_volume] == 0;
    const bool high_end =
        plan.box.first_ijk[of_volume] + plan.box.size_ijk[of_volume] == plan.volume.size_ijk()[of_volume];
    const bool flipped = plan.grid.reorientation.flip[axis];
    if (v[axis] == 0 && (flipped ? high_end : low_end)) return true;
    if (v[axis] + 1 == plan.grid.geometry.size_ijk()[axis] && (flipped ? low_end : high_end)) return true;
  }
  return false;
}

// The volume's slice that is nearest to a voxel.
std::int64_t SliceOf(const RunPlan& plan, const Voxel& v) {
  const double k = plan.volume.ToVoxel({Place(plan, v)}).ijk[2];
  return std::clamp<std::int64_t>(std::llround(k), 0, plan.volume.size_ijk()[2] - 1);
}

// `finding` is what its voxels say; `score` is the score of each.
void ExpectMeasures(const RunPlan& plan, const std::vector<Voxel>& voxels, double score,
                    const v1::Finding& finding) {
  std::array<double, 3> centre{};
  std::array<double, 3> low;
  std::array<double, 3> high;
  low.fill(std::numeric_limits<double>::infinity());
  high.fill(-std::numeric_limits<double>::infinity());
  double longest = 0;
  double long_axis = 0;
  bool edge = false;
  std::map<std::int64_t, int> of_slice;  // by the model axis that runs along the volume's slices
  const auto& source = plan.grid.reorientation.source_axis;
  const auto k_axis = static_cast<std::size_t>(std::find(source.begin(), source.end(), 2) - source.begin());
  for (const Voxel& v : voxels) {
    const std::array<double, 3> place = Place(plan, v);
    for (std::size_t c = 0; c < 3; ++c) {
      centre[c] += place[c] / static_cast<double>(voxels.size());
      low[c] = std::min(low[c], place[c] - 1);
      high[c] = std::max(high[c], place[c] + 1);
    }
    for (const Voxel& other : voxels) {
      const double apart = Distance(place, Place(plan, other));
      longest = std::max(longest, apart);
      if (other[k_axis] == v[k_axis]) long_axis = std::max(long_axis, apart);
    }
    edge = edge || IsAtVolumeEdge(plan, v);
    ++of_slice[v[k_axis]];
  }
  EXPECT_EQ(finding.voxels(), voxels.size());
  EXPECT_NEAR(finding.centre_lps().x_mm(), centre[0], 1e-9);
  EXPECT_NEAR(finding.centre_lps().y_mm(), centre[1], 1e-9);
  EXPECT_NEAR(finding.centre_lps().z_mm(), centre[2], 1e-9);
  EXPECT_NEAR(finding.box_lps().min().x_mm(), low[0], 1e-9);
  EXPECT_NEAR(finding.box_lps().max().y_mm(), high[1], 1e-9);
  EXPECT_NEAR(finding.box_lps().max().z_mm(), high[2], 1e-9);
  EXPECT_NEAR(finding.volume_ml().value(), static_cast<double>(voxels.size()) * 0.008, 1e-9);
  EXPECT_NEAR(finding.longest_diameter_3d_mm().value(), longest, 1e-9);
  EXPECT_NEAR(finding.long_axis_mm().value(), long_axis, 1e-9);
  EXPECT_NEAR(finding.score(), score, 1e-6);
  EXPECT_EQ(std::count(finding.limitations().begin(), finding.limitations().end(), "TOUCHES_VOLUME_EDGE"),
            edge ? 1 : 0);
  int most = 0;
  for (const auto& slice : of_slice) most = std::max(most, slice.second);
  std::set<std::int64_t> key_slices;
  for (const Voxel& v : voxels) {
    if (of_slice[v[k_axis]] == most) key_slices.insert(SliceOf(plan, v));
  }
  EXPECT_TRUE(key_slices.contains(finding.key_slice_k())) << finding.key_slice_k();
}

// Each component has a score of its own, by which it is found again.
void ExpectFindings(const RunPlan& plan, std::uint32_t label,
                    const std::vector<std::vector<Voxel>>& components,
                    const std::function<float(const Voxel&)>& score_of, const Outcome& outcome) {
  std::vector<v1::Finding> findings;
  std::copy_if(outcome.result.findings.begin(), outcome.result.findings.end(), std::back_inserter(findings),
               [&](const v1::Finding& finding) { return finding.label_value() == label; });
  ASSERT_EQ(findings.size(), components.size());
  for (const std::vector<Voxel>& component : components) {
    float highest = 0;
    for (const Voxel& v : component) highest = std::max(highest, score_of(v));
    const auto found = std::find_if(findings.begin(), findings.end(), [&](const v1::Finding& finding) {
      return std::abs(finding.score() - highest) < 1e-6;
    });
    ASSERT_NE(found, findings.end()) << "no finding has the score " << highest;
    ExpectMeasures(plan, component, highest, *found);
  }
}

// A twentieth of the voxels, each with a score of its own.
void Scatter(std::uint64_t seed, std::size_t window, Answers& answers) {
  testing::Random random(seed);
  float next = 0.6f;
  ForVoxels(answers.size(), [&](const Voxel& v) {
    if (random.Below(20) == 0) answers.At(window, 0, v) = next += 1e-4f;
  });
}

class ModelGridObjectsTest : public testing::PlacedRunTest {};

// 2 x 3 x 2 voxels at 6 and 8 mm, where the slices of the volume lie at 5 and 10 mm.
TEST_P(ModelGridObjectsTest, AnObjectBetweenTwoSlicesIsFound) {
  v1::Recipe recipe = ModelGridRecipe();
  const auto geometry = AxialGeometry({20, 18, 7}, {1, 1, 5}, {-7, 11, 100});
  const RunPlan plan = PlanRun(recipe, geometry, placement()).value();
  Answers answers(plan, {1});
  ForVoxels({2, 3, 2}, [&](const Voxel& v) { answers.At(0, 0, {v[0] + 3, v[1] + 4, v[2] + 3}) = 0.75f; });
  answers.At(0, 0, {4, 5, 4}) = 0.9375f;
  const StoredVolume stored(geometry);
  const auto outcome = Run(recipe, geometry, stored.Slices(), answers.AsNetwork(placement().device));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  const v1::Finding& finding = outcome->result.findings[0];
  EXPECT_EQ(finding.voxels(), 12u);
  EXPECT_NEAR(finding.centre_lps().x_mm(), 0, 1e-12);
  EXPECT_NEAR(finding.centre_lps().y_mm(), 21, 1e-12);
  EXPECT_NEAR(finding.centre_lps().z_mm(), 107, 1e-12);
  EXPECT_NEAR(finding.volume_ml().value(), 0.096, 1e-12);
  EXPECT_NEAR(finding.volume_ml().uncertainty(), 0.048, 1e-12) << "all voxels are at its surface";
  EXPECT_THAT(finding.extent_mm(), ElementsAre(4, 6, 4));
  EXPECT_NEAR(finding.longest_diameter_3d_mm().value(), std::sqrt(4 + 16 + 4), 1e-12);
  EXPECT_NEAR(finding.longest_diameter_3d_mm().uncertainty(), std::sqrt(12), 1e-12);
  EXPECT_NEAR(finding.long_axis_mm().value(), std::sqrt(4 + 16), 1e-12);
  EXPECT_EQ(finding.key_slice_k(), 1u) << "the lower of two slices, at 6 mm";
  EXPECT_EQ(finding.score(), 0.9375);
  EXPECT_THAT(finding.limitations(), IsEmpty());
  EXPECT_EQ(std::count(outcome->labels.begin(), outcome->labels.end(), 1), 0)
      << "nearest leaves nothing of it";
  EXPECT_EQ(outcome->result.labels[0].voxels(), 0u) << "extents are the label map's";

  recipe.mutable_findings(0)->set_score(v1::SCORE_RULE_MEAN);
  const auto mean = Run(recipe, geometry, stored.Slices(), answers.AsNetwork(placement().device));
  EXPECT_NEAR(mean->result.findings.at(0).score(), (11 * 0.75 + 0.9375) / 12, 1e-6);

  recipe.mutable_findings(0)->set_on_model_grid(false);
  const auto lost = Run(recipe, geometry, stored.Slices(), answers.AsNetwork(placement().device));
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_THAT(lost->result.findings, IsEmpty());
}

// Of slices that lie along any axis of the patient, in any direction.
TEST_P(ModelGridObjectsTest, MeasuresAreThoseOfTheVoxels) {
  std::array<std::size_t, 3> axes{0, 1, 2};
  std::uint64_t seed = 0;
  do {
    for (int signs = 0; signs < 8; ++signs) {
      SCOPED_TRACE(std::to_string(axes[0]) + std::to_string(axes[1]) + " " + std::to_string(signs));
      std::array<volume::LpsVector, 3> directions{};
      for (std::size_t a = 0; a < 3; ++a) directions[a][axes[a]] = (signs >> a & 1) != 0 ? -1 : 1;
      const auto geometry =
          volume::Geometry::Create({17, 20, 6}, {1.3, 0.9, 4.7}, {{3, -5, 40}}, directions).value();
      v1::Recipe recipe = ModelGridRecipe();
      recipe.mutable_preparation()->set_orientation("RAS");
      const RunPlan plan = PlanRun(recipe, geometry, placement()).value();
      Answers answers(plan, {1});
      Scatter(++seed, 0, answers);
      const auto outcome =
          Run(recipe, geometry, StoredVolume(geometry).Slices(), answers.AsNetwork(placement().device), 2);
      ASSERT_TRUE(outcome.ok()) << outcome.status();
      const auto score = [&](const Voxel& v) { return answers.At(0, 0, v); };
      ExpectFindings(plan, 1, Components(answers.size(), [&](const Voxel& v) { return score(v) > 0.5f; }),
                     score, *outcome);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
}

// Steps before to_volume_grid have run; the crop's ends are not the volume's.
TEST_P(ModelGridObjectsTest, ObjectsOfACropThatStepsHaveLeft) {
  const auto geometry = AxialGeometry({30, 28, 12}, {1, 1, 5});
  StoredVolume stored(geometry);
  for (std::size_t k = 2; k < 9; ++k) {
    for (std::size_t j = 5; j < 28; ++j) {
      for (std::size_t i = 0; i < 21; ++i) stored.At(i, j, k) = 100;
    }
  }
  v1::Recipe recipe = ModelGridRecipe();
  recipe.mutable_preparation()->set_orientation("RAS");
  recipe.mutable_preparation()->mutable_crop();
  v1::KeepLargest keep;
  keep.set_label(1);
  keep.set_count(9);
  *recipe.add_decode()->mutable_keep_largest() = keep;
  recipe.mutable_decode()->SwapElements(1, 2);
  const RunPlan plan = PlanRun(recipe, geometry, placement(), volume::Box{{0, 5, 2}, {21, 23, 7}}).value();
  Answers answers(plan, {1});
  Scatter(5, 0, answers);
  const auto score = [&](const Voxel& v) { return answers.At(0, 0, v); };
  auto components = Components(answers.size(), [&](const Voxel& v) { return score(v) > 0.5f; });
  std::stable_sort(components.begin(), components.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  while (components.size() > 9 && components[8].size() == components[9].size()) {
    for (const Voxel& v : components[9]) answers.At(0, 0, v) = 0;  // no ties
    components.erase(components.begin() + 9);
  }
  ASSERT_GT(components.size(), 9u);
  components.resize(9);
  const auto outcome = Run(recipe, geometry, stored.Slices(), answers.AsNetwork(placement().device));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ExpectFindings(plan, 1, components, score, *outcome);
}

// A part paints over the part before it, with its own scores. The second rule stays on the volume's grid.
TEST_P(ModelGridObjectsTest, ObjectsOfACompositesParts) {
  const auto geometry = AxialGeometry({23, 19, 6}, {1, 1, 5});
  v1::Recipe recipe = ModelGridRecipe();
  recipe.add_labels()->set_value(300);
  recipe.mutable_labels(1)->set_name("other");
  *recipe.add_findings() = recipe.findings(0);
  recipe.mutable_findings(1)->set_label(300);
  recipe.mutable_findings(1)->set_on_model_grid(false);
  recipe.mutable_network()->clear_output_channels();
  for (const std::uint32_t label : {1u, 300u}) {
    v1::Part& part = *recipe.mutable_network()->add_parts();
    part.set_output_channels(1);
    part.add_labels(label);
  }
  for (const bool first_on_model : {true, false}) {
    recipe.mutable_findings(0)->set_on_model_grid(first_on_model);
    recipe.mutable_findings(1)->set_on_model_grid(!first_on_model);
    const RunPlan plan = PlanRun(recipe, geometry, placement()).value();
    Answers answers(plan, {1, 1});
    Scatter(8, 0, answers);
    Scatter(9, 1, answers);
    const auto outcome =
        Run(recipe, geometry, StoredVolume(geometry).Slices(), answers.AsNetwork(placement().device), 1, 2);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    const std::size_t window = first_on_model ? 0 : 1;
    const auto score = [&](const Voxel& v) { return answers.At(window, 0, v); };
    const auto has = [&](const Voxel& v) {
      return score(v) > 0.5f && (window == 1 || answers.At(1, 0, v) <= 0.5f);
    };
    ExpectFindings(plan, first_on_model ? 1 : 300, Components(answers.size(), has), score, *outcome);
    // The other label's objects are those of the label map.
    std::uint64_t voxels = 0;
    for (const v1::Finding& finding : outcome->result.findings) {
      if (finding.label_value() == (first_on_model ? 300u : 1u)) voxels += finding.voxels();
    }
    EXPECT_EQ(voxels, outcome->result.labels[first_on_model ? 1 : 0].voxels());
  }
}

TS_INSTANTIATE_PLACES(ModelGridObjectsTest, testing::AllPlaces());

TEST(ModelGridRulesTest, AreRefusedWhereAStepOnTheVolumesGridChangesTheLabel) {
  const auto geometry = AxialGeometry({20, 18, 7}, {1, 1, 5});
  const auto value = [&](auto change) {
    v1::Recipe recipe = ModelGridRecipe();
    change(recipe);
    const auto plan = PlanRun(recipe, geometry);
    EXPECT_TRUE(plan.ok() || base::ReasonOf(plan.status()) == "RECIPE_INVALID") << plan.status();
    return plan.ok() ? std::string() : base::ValueOf(plan.status());
  };
  EXPECT_EQ(value([](v1::Recipe&) {}), "");
  EXPECT_EQ(value([](v1::Recipe& r) { r.mutable_decode()->SwapElements(0, 1); }),
            "findings[0].on_model_grid");
  EXPECT_EQ(value([](v1::Recipe& r) {
              r.add_decode()->mutable_keep_largest()->set_label(1);
              r.mutable_decode(2)->mutable_keep_largest()->set_count(1);
            }),
            "findings[0].on_model_grid");
  EXPECT_EQ(value([](v1::Recipe& r) { r.add_decode()->mutable_fill_holes()->set_label(1); }),
            "findings[0].on_model_grid");
}

// What the host holds beside a device.
TEST(ModelGridRulesTest, LabelsAreForeseenInTheHostsMemory) {
  const auto geometry = AxialGeometry({60, 60, 30}, {1, 1, 5});
  v1::Recipe recipe = ModelGridRecipe();
  const compute::Placement device{c10::Device(c10::kCUDA, 0), false};
  const RunPlan with = PlanRun(recipe, geometry, device).value();
  recipe.mutable_findings(0)->set_on_model_grid(false);
  const RunPlan without = PlanRun(recipe, geometry, device).value();
  EXPECT_EQ(with.peak_bytes, without.peak_bytes + with.grid.geometry.voxels() * 2);
  EXPECT_EQ(with.device_peak_bytes, without.device_peak_bytes);
}

}  // namespace
}  // namespace tomoserve::pipeline
