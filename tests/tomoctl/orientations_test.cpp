#include "apps/tomoctl/orientations.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/volume/geometry.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::tomoctl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::map<std::uint32_t, std::string> kNames = {{1, "lung left"}, {2, "lung right"}, {3, "heart"}};
constexpr std::uint32_t kSize = 12;

// A block of a label: first and last voxel along x, y, z of the patient's axes.
struct Block {
  std::uint16_t label;
  std::array<std::uint32_t, 3> from;
  std::array<std::uint32_t, 3> to;
};
// To the left is where x is high. Nothing of it is symmetric.
const std::vector<Block> kBody = {
    {1, {7, 2, 1}, {10, 7, 9}}, {2, {1, 2, 1}, {4, 6, 10}}, {3, {5, 1, 2}, {7, 3, 5}}};

struct Stored {
  v1::Run run;
  v1::LabelMapInfo info;
  std::string payload;

  PatientAnswer answer() const {
    auto answer = InPatientAxes(run, info, payload);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.value_or(PatientAnswer());
  }
};

// The label map of `body` on a grid whose axes run as `code` says, centred on 0. `mirrored`: an axis of the
// patient along which the labels lie the wrong way round.
Stored Store(const std::vector<Block>& body, const std::string& code, int mirrored = -1,
             std::uint32_t bytes = 1) {
  const double corner = -(kSize - 1.0);
  const auto canonical = volume::Geometry::Create(
      {kSize, kSize, kSize}, {2, 2, 2}, {{corner, corner, corner}}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  const auto grid = volume::Reoriented(*canonical, *volume::ReorientationTo(*canonical, code));
  Stored stored;
  *stored.info.mutable_grid() = grid->ToProto();
  stored.info.set_bytes_per_voxel(bytes);
  stored.info.set_time_points(1);
  *stored.run.mutable_label_map() = stored.info;
  for (std::uint32_t k = 0; k < kSize; ++k) {
    for (std::uint32_t j = 0; j < kSize; ++j) {
      for (std::uint32_t i = 0; i < kSize; ++i) {
        const volume::ContinuousVoxel voxel{
            {static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}};
        auto place = canonical->ToVoxel(grid->ToLps(voxel)).ijk;
        if (mirrored >= 0) {
          double& along = place[static_cast<std::size_t>(mirrored)];
          along = kSize - 1 - along;
        }
        std::uint16_t label = 0;
        for (const Block& block : body) {
          bool inside = true;
          for (std::size_t d = 0; d < 3; ++d) {
            inside = inside && place[d] > block.from[d] - 0.5 && place[d] < block.to[d] + 0.5;
          }
          if (inside) label = block.label;
        }
        stored.payload += static_cast<char>(label & 0xFF);
        if (bytes == 2) stored.payload += static_cast<char>(label >> 8);
      }
    }
  }
  return stored;
}

Comparison CompareTo(const Stored& other) {
  return Compare(Store(kBody, "LPS").answer(), other.answer(), kNames, 2);
}

TEST(OrientationsTest, EightWaysTurnEachAxisInEachPlane) {
  const auto all = OrientationsFor(v1::Recipe());
  EXPECT_THAT(std::set<std::string>(all.begin(), all.end()), SizeIs(8));
  EXPECT_EQ(all.front(), "LPS");
  std::set<char> towards;
  std::set<char> through;
  for (const std::string& code : all) {
    towards.insert(code.begin(), code.end());
    through.insert(code[2] == 'R' ? 'L' : code[2] == 'A' ? 'P' : code[2] == 'I' ? 'S' : code[2]);
  }
  EXPECT_THAT(towards, SizeIs(6));
  EXPECT_THAT(through, SizeIs(3));
}

TEST(OrientationsTest, OnlyPlanesThatTheRecipeTakes) {
  v1::Recipe recipe;
  recipe.add_inputs()->add_planes(v1::PLANE_CORONAL);
  auto codes = OrientationsFor(recipe);
  EXPECT_THAT(std::set<std::string>(codes.begin(), codes.end()), SizeIs(8));
  for (const std::string& code : codes) EXPECT_TRUE(code[2] == 'A' || code[2] == 'P') << code;
  recipe.mutable_inputs(0)->add_planes(v1::PLANE_AXIAL);
  codes = OrientationsFor(recipe);
  EXPECT_THAT(std::set<std::string>(codes.begin(), codes.end()), SizeIs(8));
  std::set<char> towards;
  for (const std::string& code : codes) towards.insert(code.begin(), code.end());
  EXPECT_THAT(towards, SizeIs(6));
  recipe.add_inputs()->add_planes(v1::PLANE_SAGITTAL);
  EXPECT_THAT(OrientationsFor(recipe), IsEmpty());
}

TEST(OrientationsTest, OneBodyHasOneAnswerHoweverItIsStored) {
  for (const std::string& code : OrientationsFor(v1::Recipe())) {
    for (const std::uint32_t bytes : {1U, 2U}) {
      const Comparison same = CompareTo(Store(kBody, code, -1, bytes));
      EXPECT_TRUE(same.same) << code;
      EXPECT_EQ(same.likeness, 1) << code;
      EXPECT_EQ(same.text, "") << code;
    }
  }
}

TEST(OrientationsTest, AMirroredAnswerIsNamedByItsAxis) {
  const std::array<std::string, 3> swaps = {"left-right swap", "front-back swap", "head-feet swap"};
  for (const std::string& code : OrientationsFor(v1::Recipe())) {
    for (int axis = 0; axis < 3; ++axis) {
      const Comparison other = CompareTo(Store(kBody, code, axis));
      EXPECT_FALSE(other.same) << code;
      EXPECT_EQ(other.text, swaps[static_cast<std::size_t>(axis)]) << code;
    }
  }
}

TEST(OrientationsTest, LabelsThatChangedSidesAreASwap) {
  std::vector<Block> body = kBody;
  body[0].label = 2;
  body[1].label = 1;
  const Comparison other = CompareTo(Store(body, "RPS"));
  EXPECT_FALSE(other.same);
  EXPECT_EQ(other.text, "left-right swap: lung left and lung right");
}

TEST(OrientationsTest, AnythingElseIsDifferent) {
  std::vector<Block> body = kBody;
  body[2].to = {7, 3, 4};
  const Comparison other = CompareTo(Store(body, "LAS"));
  EXPECT_FALSE(other.same);
  EXPECT_EQ(other.text, "heart is elsewhere");
  EXPECT_NEAR(other.likeness, 6.0 / 7, 1e-9);
}

TEST(OrientationsTest, AnotherGridIsDifferent) {
  Stored moved = Store(kBody, "LPS");
  moved.info.mutable_grid()->mutable_origin_lps()->set_x_mm(0);
  EXPECT_EQ(CompareTo(moved).text, "the label map lies on another grid");
}

TEST(OrientationsTest, ASymmetricAnswerShowsNoSwap) {
  const std::vector<Block> middle = {{3, {4, 1, 2}, {7, 3, 5}}};
  const Comparison same = Compare(Store(middle, "LPS").answer(), Store(middle, "RPS").answer(), kNames, 2);
  EXPECT_TRUE(same.same);
  EXPECT_EQ(same.text, "the answer is symmetric: no left-right swap would show");
}

TEST(OrientationsTest, LeftMustLieToTheLeft) {
  EXPECT_THAT(WrongSides(Store(kBody, "PIL").answer(), kNames), IsEmpty());
  EXPECT_THAT(WrongSides(Store(kBody, "PIL", 0).answer(), kNames),
              ElementsAre("lung left lies to the right of lung right"));
  const std::vector<Block> one = {{1, {1, 2, 1}, {4, 6, 10}}};
  EXPECT_THAT(WrongSides(Store(one, "LPS").answer(), kNames), IsEmpty())
      << "there is nothing to compare it with";
}

TEST(OrientationsTest, LayersStayApart) {
  Stored two = Store(kBody, "LIP");
  const Stored other = Store({kBody[2]}, "LIP");
  two.payload += other.payload;
  two.info.add_layers();
  two.info.add_layers();
  const PatientAnswer answer = two.answer();
  ASSERT_EQ(answer.labels.size(), 2 * kSize * kSize * kSize);
  const PatientAnswer second = Store({kBody[2]}, "LPS").answer();
  EXPECT_TRUE(
      std::equal(second.labels.begin(), second.labels.end(), answer.labels.begin() + kSize * kSize * kSize));
}

TEST(OrientationsTest, APayloadThatDoesNotFitIsAnError) {
  Stored stored = Store(kBody, "LPS");
  stored.payload.pop_back();
  EXPECT_EQ(base::ReasonOf(InPatientAxes(stored.run, stored.info, stored.payload).status()),
            "LABEL_MAP_SIZE");
  stored = Store(kBody, "LPS");
  stored.info.set_time_points(2);
  EXPECT_EQ(base::ReasonOf(InPatientAxes(stored.run, stored.info, stored.payload).status()),
            "LABEL_MAP_SIZE");
  stored.info.set_bytes_per_voxel(0);
  EXPECT_EQ(base::ReasonOf(InPatientAxes(stored.run, stored.info, stored.payload).status()),
            "LABEL_MAP_TYPE");
}

v1::Run Boxes(const std::vector<std::array<double, 2>>& along_x) {
  v1::Run run;
  for (const auto& [min, max] : along_x) {
    v1::Finding& finding = *run.add_findings();
    finding.set_label_value(1);
    finding.mutable_box_lps()->mutable_min()->set_x_mm(min);
    finding.mutable_box_lps()->mutable_max()->set_x_mm(max);
    finding.mutable_box_lps()->mutable_max()->set_y_mm(min + 7);
    finding.mutable_box_lps()->mutable_max()->set_z_mm(max + 9);
  }
  return run;
}

Comparison CompareBoxes(const v1::Run& first, const v1::Run& other) {
  return Compare(*InPatientAxes(first, {}, ""), *InPatientAxes(other, {}, ""), kNames, 2);
}

TEST(OrientationsTest, BoxesMayBeOffByAVoxel) {
  const v1::Run first = Boxes({{10, 20}, {-50, -44}});
  EXPECT_TRUE(CompareBoxes(first, Boxes({{-51.5, -44}, {10, 20}})).same) << "whatever their order";
  const Comparison moved = CompareBoxes(first, Boxes({{10, 20}, {-52.5, -46.5}}));
  EXPECT_FALSE(moved.same);
  EXPECT_EQ(moved.likeness, 0.5);
  EXPECT_EQ(moved.text, "boxes are elsewhere");
  EXPECT_FALSE(CompareBoxes(first, Boxes({{10, 20}})).same);
  EXPECT_FALSE(CompareBoxes(Boxes({{10, 20}}), Boxes({{10, 20}, {10, 20}})).same) << "none counts twice";
}

TEST(OrientationsTest, MirroredBoxesAreASwap) {
  v1::Run other = Boxes({{10, 20}, {-50, -44}});
  for (v1::Finding& finding : *other.mutable_findings()) {
    v1::BoxLps& box = *finding.mutable_box_lps();
    const double min = box.min().x_mm();
    box.mutable_min()->set_x_mm(-box.max().x_mm());
    box.mutable_max()->set_x_mm(-min);
  }
  EXPECT_EQ(CompareBoxes(Boxes({{10, 20}, {-50, -44}}), other).text, "left-right swap");
}

}  // namespace
}  // namespace tomoserve::tomoctl
