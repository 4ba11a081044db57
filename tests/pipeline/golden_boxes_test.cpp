// The chest CT through MONAI's lung nodule detector with a network of the golden cases: boxes equal MONAI's.
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "pipeline/detector_recipes.h"
#include "pipeline/golden_network.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::pipeline {
namespace {

namespace fs = std::filesystem;

// Score, then centre and size in LPS mm.
using Row = std::array<double, 7>;

std::vector<double> NumbersAfter(const std::string& text, const char* key, std::size_t at,
                                 std::size_t count) {
  std::vector<double> numbers;
  const char* next = text.c_str() + text.find(key, at) + std::strlen(key);
  while (numbers.size() < count) {
    char* end = nullptr;
    const double number = std::strtod(next, &end);
    if (end != next) numbers.push_back(number);
    next = end == next ? next + 1 : end;
  }
  return numbers;
}

// A boxes*.json of a case.
std::vector<Row> ReadBoxes(const fs::path& file) {
  const std::string text = testing::ReadFile(file);
  std::vector<Row> rows;
  for (std::size_t at = text.find("\"score\":"); at != std::string::npos;
       at = text.find("\"score\":", at + 1)) {
    Row row{NumbersAfter(text, "\"score\":", at, 1)[0]};
    const std::vector<double> box = NumbersAfter(text, "\"box_world_lps_cccwhd_mm\":", at, 6);
    std::copy(box.begin(), box.end(), row.begin() + 1);
    rows.push_back(row);
  }
  return rows;
}

// Of an axial volume, whose extents along i, j, k are those along x, y, z.
Row RowOf(const v1::Finding& finding) {
  return {finding.score(),
          finding.centre_lps().x_mm(),
          finding.centre_lps().y_mm(),
          finding.centre_lps().z_mm(),
          finding.extent_mm(0),
          finding.extent_mm(1),
          finding.extent_mm(2)};
}

double DistanceMm(const Row& a, const Row& b) {
  double largest = 0;
  for (std::size_t n = 1; n < a.size(); ++n) largest = std::max(largest, std::abs(a[n] - b[n]));
  return largest;
}

struct Match {
  std::size_t matched = 0;
  double largest_mm = 0;
  double largest_score = 0;
};

// One to one, each with the nearest that is left; 0.05 mm and a score within 1e-3 are a match.
Match MatchBoxes(std::vector<Row> found, const std::vector<Row>& expected) {
  Match match;
  for (const Row& row : expected) {
    const auto nearest = std::min_element(found.begin(), found.end(), [&](const Row& a, const Row& b) {
      return DistanceMm(a, row) < DistanceMm(b, row);
    });
    if (nearest == found.end() || DistanceMm(*nearest, row) > 0.05 || std::abs((*nearest)[0] - row[0]) > 1e-3)
      continue;
    ++match.matched;
    match.largest_mm = std::max(match.largest_mm, DistanceMm(*nearest, row));
    match.largest_score = std::max(match.largest_score, std::abs((*nearest)[0] - row[0]));
    found.erase(nearest);
  }
  return match;
}

fs::path CaseFolder(const char* name) { return testing::Reference() / name; }

struct Case {
  const char* name;
  std::array<std::uint32_t, 2> slices_k;  // first, and one after the last
  std::uint32_t windows;
};

void PrintTo(const Case& golden_case, std::ostream* out) { *out << golden_case.name; }

class GoldenBoxes : public ::testing::TestWithParam<Case> {
 protected:
  // The case's slices.
  static testing::ChestCt ReadSlices(const std::array<std::uint32_t, 2>& slices_k) {
    testing::ChestCt ct = testing::ReadChestCt();
    const auto [first, end] = slices_k;
    const std::vector<testing::CtSlice> series(ct.series.begin() + first, ct.series.begin() + end);
    return {testing::AxialGeometry({512, 512, end - first}, ct.geometry.spacing_mm(),
                                   {-228.036842, -93.0631599, -439.0 + 5.0 * first}),
            series};
  }

  // Every placement and both kinds of anchors from one pass of the network.
  struct Variant {
    const char* boxes;
    compute::Placement placement;
    std::unique_ptr<PreparedRun> run;
  };
};

TEST_P(GoldenBoxes, EqualMonais) {
  const Case& golden_case = GetParam();
  const fs::path folder = CaseFolder(golden_case.name);
  TS_SKIP_WITHOUT(folder);
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  if (golden_case.windows > 1 && std::getenv("TOMOSERVE_LONG_TESTS") == nullptr) {
    GTEST_SKIP() << "minutes of the network: set TOMOSERVE_LONG_TESTS (script/parity runs the case, too)";
  }
  engine::InitialiseTorch();
  const testing::ChestCt ct = ReadSlices(golden_case.slices_k);
  const v1::Recipe recipe = testing::LungNoduleDetector(v1::ANCHOR_CENTRE_CELL_START);
  const auto network = testing::LoadNetwork(CaseFolder("c1_lung_nodule_sliding") / "model.ts", recipe);
  ASSERT_TRUE(network.ok()) << network.status();

  std::vector<Variant> variants;
  for (const bool loops : {true, false}) {
    const compute::Placement placement{c10::Device(c10::kCPU), loops};
    for (const auto& [boxes, centre] : {std::pair{"boxes_monai_1_5.json", v1::ANCHOR_CENTRE_CELL_START},
                                        std::pair{"boxes.json", v1::ANCHOR_CENTRE_CELL_MIDDLE}}) {
      auto run = PreparedRun::Create(testing::LungNoduleDetector(centre), ct.geometry, ct.Slices(), {2, {}},
                                     placement);
      ASSERT_TRUE(run.ok()) << run.status();
      variants.push_back({boxes, placement, *std::move(run)});
    }
  }
  const PreparedRun& first = *variants.front().run;
  ASSERT_EQ(first.windows(), golden_case.windows);
  for (std::uint32_t begin = 0; begin < first.windows(); begin += 2) {
    std::array<absl::StatusOr<Outputs>, 2> outputs;
    const auto lane = [&](std::uint32_t number) {
      if (begin + number >= first.windows()) return;
      engine::UseOneThread();
      outputs[number] = first.ForwardWindow(
          begin + number, [&](const at::Tensor& input) { return (*network)->Forward(input); });
    };
    {
      const std::jthread other(lane, 1);
      lane(0);
    }
    for (std::uint32_t number = 0; number < 2 && begin + number < first.windows(); ++number) {
      ASSERT_TRUE(outputs[number].ok()) << outputs[number].status();
      for (const Variant& variant : variants) {
        ASSERT_TRUE(variant.run->Fold(begin + number, *outputs[number]).ok());
      }
    }
  }
  std::vector<std::byte> labels(static_cast<std::size_t>(ct.geometry.voxels()), std::byte{0});
  for (const Variant& variant : variants) {
    const auto result = variant.run->Finish(labels, 1);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_FALSE(result->has_label_map);
    EXPECT_TRUE(result->labels.empty());
    std::vector<Row> found;
    for (const v1::Finding& finding : result->findings) found.push_back(RowOf(finding));
    const std::vector<Row> expected = ReadBoxes(folder / variant.boxes);
    ASSERT_GT(expected.size(), 50u);
    const Match match = MatchBoxes(found, expected);
    EXPECT_GE(static_cast<double>(match.matched),
              0.98 * static_cast<double>(std::max(expected.size(), found.size())))
        << variant.boxes << ": " << match.matched << " of " << expected.size() << ", found " << found.size();
    const std::string name = std::string(variant.boxes) + (variant.placement.UsesLoops() ? "" : ", tensors");
    RecordProperty(name, std::to_string(match.matched) + " of " + std::to_string(expected.size()) + ", " +
                             std::to_string(found.size()) + " found, " + std::to_string(match.largest_mm) +
                             " mm, " + std::to_string(match.largest_score));
    for (const v1::StageTiming& timing : result->timings) {
      RecordProperty(name + " " + timing.stage() + "_ms", std::to_string(timing.ms()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Monai, GoldenBoxes,
                         ::testing::Values(Case{"c1_lung_nodule_sliding", {0, 64}, 8},
                                           Case{"c2_lung_nodule_single", {22, 42}, 1}),
                         [](const ::testing::TestParamInfo<Case>& golden) {
                           return std::string(golden.param.name);
                         });

TEST(GoldenBoxesTest, TheNetworkWithAListOfSixAnswersWhatTheOneWithADictDoes) {
  const fs::path folder = CaseFolder("c1_lung_nodule_sliding");
  TS_SKIP_WITHOUT(folder);
  engine::InitialiseTorch();
  v1::Recipe recipe = testing::LungNoduleDetector(v1::ANCHOR_CENTRE_CELL_START);
  testing::SetWindows(recipe, {64, 48, 32}, 0.25);
  std::array<std::vector<at::Tensor>, 2> maps;
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}}) {
    const auto network =
        testing::LoadNetwork(folder / (n == 0 ? "model.ts" : "model_list_output.ts"), recipe);
    ASSERT_TRUE(network.ok()) << network.status();
    ASSERT_TRUE((*network)->WarmUp().ok());
    testing::Random random(5);
    at::Tensor input = at::full({1, 1, 64, 48, 32}, 0.0);
    for (float& value : testing::Floats(input)) value = static_cast<float>(random.Below(1000)) / 1000;
    auto answer = (*network)->Forward(input);
    ASSERT_TRUE(answer.ok()) << answer.status();
    maps[n] = *std::move(answer);
  }
  ASSERT_EQ(maps[0].size(), 6u);
  ASSERT_EQ(maps[1].size(), 6u);
  for (std::size_t n = 0; n < 6; ++n) EXPECT_TRUE(maps[0][n].equal(maps[1][n])) << n;
}

}  // namespace
}  // namespace tomoserve::pipeline
