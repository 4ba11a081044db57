// The shipped recipe of a real finder on a real scan: what its network answered is on record, and so are the
// components that Python found in that on the 2 mm grid (expected.json of the shared models).
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "compute/fixtures.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::pipeline {
namespace {

struct Component {
  std::uint64_t voxels = 0;
  std::array<double, 3> centroid_lps{};
};
constexpr std::array<Component, 4> kExpected{{{65, {-97.42, 208.63, -306.78}},
                                              {35, {-177.12, 125.22, -401.8}},
                                              {27, {-177.0, 126.05, -411.52}},
                                              {15, {74.76, 180.0, -203.27}}}};

v1::Recipe FinderRecipe() {
  std::ifstream file(std::filesystem::path(TOMOSERVE_SOURCE_DIR) /
                     "script/recipes/nodule_finder_d8/recipe.textproto");
  return models::ParseRecipe(std::string(std::istreambuf_iterator<char>(file), {})).value();
}

class GoldenObjectsTest : public testing::PlacedRunTest {};

TEST_P(GoldenObjectsTest, NoneOfTheFindersNodulesIsLostBetweenSlices) {
  const auto recorded = testing::SharedModels() / "chest_ct_A0001" / "nodule_finder_d8.npz";
  TS_SKIP_WITHOUT(recorded);
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  const auto probability = testing::ReadNpz(recorded).at("probability_u8").As<std::uint8_t>();
  const testing::ChestCt ct = testing::ReadChestCt();
  v1::Recipe recipe = FinderRecipe();
  const RunPlan plan = PlanRun(recipe, ct.geometry, placement()).value();
  const auto [columns, rows, slices] = plan.grid.geometry.size_ijk();
  ASSERT_EQ(probability.size(), std::size_t{columns} * rows * slices);
  const auto run = [&, columns = columns, rows = rows] {
    std::size_t slice = 0;
    return Run(recipe, ct.geometry, ct.Slices(), [&](const at::Tensor& input) {
      const at::Tensor answer = at::zeros({1, 1, 1, input.size(3), input.size(4)}, at::kFloat);
      for (std::size_t j = 0; j < rows; ++j) {
        for (std::size_t i = 0; i < columns; ++i) {
          answer.mutable_data_ptr<float>()[j * static_cast<std::size_t>(input.size(4)) + i] =
              static_cast<float>(probability[(slice * rows + j) * columns + i]) / 255;
        }
      }
      ++slice;
      return absl::StatusOr<at::Tensor>(Put(answer));
    });
  };
  const auto outcome = run();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::vector<v1::Finding> findings = outcome->result.findings;
  ASSERT_EQ(findings.size(), kExpected.size());
  std::stable_sort(findings.begin(), findings.end(),
                   [](const v1::Finding& a, const v1::Finding& b) { return a.voxels() > b.voxels(); });
  for (std::size_t n = 0; n < findings.size(); ++n) {
    EXPECT_EQ(findings[n].voxels(), kExpected[n].voxels);
    EXPECT_EQ(findings[n].score(), 1);
    EXPECT_NEAR(findings[n].centre_lps().x_mm(), kExpected[n].centroid_lps[0], 0.01);
    EXPECT_NEAR(findings[n].centre_lps().y_mm(), kExpected[n].centroid_lps[1], 0.01);
    EXPECT_NEAR(findings[n].centre_lps().z_mm(), kExpected[n].centroid_lps[2], 0.01);
  }
  // On the volume's own grid, whose slices are 5 mm apart, one of them is lost; the label map is the same.
  recipe.mutable_findings(0)->set_on_model_grid(false);
  const auto on_volume = run();
  ASSERT_TRUE(on_volume.ok()) << on_volume.status();
  EXPECT_EQ(on_volume->result.findings.size(), 3u);
  EXPECT_TRUE(on_volume->label_bytes == outcome->label_bytes);
}

TS_INSTANTIATE_PLACES(GoldenObjectsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
