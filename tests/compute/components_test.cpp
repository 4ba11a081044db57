#include "tomoserve/compute/components.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/components.h"
#include "tomoserve/compute/on_device/runs.h"

namespace tomoserve::compute {
namespace {

// Components by flood fill: their number for each voxel, in the order of first voxels, -1 for background.
template <typename Label>
std::vector<int> FloodFill(const std::vector<Label>& labels, std::array<std::int64_t, 3> size) {
  std::vector<int> component(labels.size(), -1);
  int next = 0;
  const auto index = [&](std::int64_t k, std::int64_t j, std::int64_t i) {
    return static_cast<std::size_t>((k * size[1] + j) * size[2] + i);
  };
  for (std::size_t seed = 0; seed < labels.size(); ++seed) {
    if (labels[seed] == 0 || component[seed] >= 0) continue;
    std::vector<std::size_t> stack{seed};
    component[seed] = next;
    while (!stack.empty()) {
      const auto at = static_cast<std::int64_t>(stack.back());
      stack.pop_back();
      const std::int64_t k = at / (size[1] * size[2]), j = at / size[2] % size[1], i = at % size[2];
      for (std::int64_t n = 0; n < 27; ++n) {
        const std::int64_t nk = k + n / 9 - 1, nj = j + n / 3 % 3 - 1, ni = i + n % 3 - 1;
        if (nk < 0 || nj < 0 || ni < 0 || nk >= size[0] || nj >= size[1] || ni >= size[2]) continue;
        const std::size_t neighbour = index(nk, nj, ni);
        if (labels[neighbour] != labels[seed] || component[neighbour] >= 0) continue;
        component[neighbour] = next;
        stack.push_back(neighbour);
      }
    }
    ++next;
  }
  return component;
}

// Holes by walking from the faces of the grid over everything that is not `label`.
template <typename Label>
std::vector<Label> FilledByWalking(std::vector<Label> labels, std::array<std::int64_t, 3> size, Label label) {
  std::vector<bool> reached(labels.size());
  std::vector<std::array<std::int64_t, 3>> stack;
  const auto visit = [&](std::int64_t k, std::int64_t j, std::int64_t i) {
    if (k < 0 || j < 0 || i < 0 || k >= size[0] || j >= size[1] || i >= size[2]) return;
    const auto at = static_cast<std::size_t>((k * size[1] + j) * size[2] + i);
    if (labels[at] == label || reached[at]) return;
    reached[at] = true;
    stack.push_back({k, j, i});
  };
  for (std::int64_t k = 0; k < size[0]; ++k) {
    for (std::int64_t j = 0; j < size[1]; ++j) {
      for (std::int64_t i = 0; i < size[2]; ++i) {
        const bool inside = k > 0 && j > 0 && i > 0 && k + 1 < size[0] && j + 1 < size[1] && i + 1 < size[2];
        if (!inside) visit(k, j, i);
      }
    }
  }
  while (!stack.empty()) {
    const auto [k, j, i] = stack.back();
    stack.pop_back();
    for (const std::int64_t step : {-1, 1}) {
      visit(k + step, j, i);
      visit(k, j + step, i);
      visit(k, j, i + step);
    }
  }
  for (std::size_t v = 0; v < labels.size(); ++v) {
    if (labels[v] == 0 && !reached[v]) labels[v] = label;
  }
  return labels;
}

// Exact in every placement.
class ComponentsTest : public testing::PlacedTest {
 protected:
  template <typename Label>
  absl::StatusOr<ComponentSet> Find(const std::vector<Label>& labels, std::array<std::int64_t, 3> size,
                                    const Parallel& parallel = {}) {
    if (placement().UsesLoops()) return FindComponents<Label>({labels, size}, parallel);
    return on_device::FindComponents(testing::LabelTensor(labels, size, placement().device), parallel);
  }

  template <typename Label>
  std::vector<Label> Keep(std::vector<Label> labels, std::array<std::int64_t, 3> size, std::uint32_t label,
                          std::size_t count) {
    if (placement().UsesLoops()) {
      EXPECT_TRUE(KeepLargestComponents<Label>({labels, size}, label, count, {}).ok());
      return labels;
    }
    const at::Tensor tensor = testing::LabelTensor(labels, size, placement().device);
    EXPECT_TRUE(on_device::KeepLargestComponents(tensor, label, count, {}).ok());
    return testing::LabelsOf<Label>(tensor);
  }

  template <typename Label>
  std::vector<Label> Fill(std::vector<Label> labels, std::array<std::int64_t, 3> size, std::uint32_t label) {
    if (placement().UsesLoops()) {
      EXPECT_TRUE(FillHoles<Label>({labels, size}, label, {}).ok());
      return labels;
    }
    const at::Tensor tensor = testing::LabelTensor(labels, size, placement().device);
    EXPECT_TRUE(on_device::FillHoles(tensor, label, {}).ok());
    return testing::LabelsOf<Label>(tensor);
  }

  template <typename Label>
  void ExpectEqualsFloodFill(const std::vector<Label>& labels, std::array<std::int64_t, 3> size);
};

template <typename Label>
void ComponentsTest::ExpectEqualsFloodFill(const std::vector<Label>& labels,
                                           std::array<std::int64_t, 3> size) {
  const auto set = Find(labels, size);
  ASSERT_TRUE(set.ok()) << set.status();
  std::vector<int> found(labels.size(), -1);
  for (std::size_t c = 0; c < set->components.size(); ++c) {
    std::uint64_t voxels = 0;
    for (const RowRun& run : set->RunsOf(set->components[c])) {
      for (std::int64_t i = run.first_i; i <= run.last_i; ++i) {
        const auto at = static_cast<std::size_t>((run.k * size[1] + run.j) * size[2] + i);
        ASSERT_EQ(labels[at], set->components[c].label);
        ASSERT_EQ(found[at], -1);
        found[at] = static_cast<int>(c);
        ++voxels;
      }
    }
    EXPECT_EQ(voxels, set->components[c].voxels);
  }
  EXPECT_EQ(found, FloodFill(labels, size));
}

TEST_P(ComponentsTest, EqualFloodFillOnRandomVolumes) {
  testing::Random random(7);
  for (int round = 0; round < 60; ++round) {
    const std::array<std::int64_t, 3> size{1 + random.Below(9), 1 + random.Below(12), 1 + random.Below(40)};
    const double density = random.Between(0.02, 0.9);
    const std::int64_t kinds = 1 + random.Below(3);
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    for (auto& label : labels) {
      label = random.Between(0, 1) < density ? static_cast<std::uint8_t>(1 + random.Below(kinds)) : 0;
    }
    ExpectEqualsFloodFill(labels, size);
    std::vector<std::uint16_t> wide(labels.begin(), labels.end());
    for (auto& label : wide) label = static_cast<std::uint16_t>(label * 300);
    ExpectEqualsFloodFill(wide, size);
  }
}

TEST_P(ComponentsTest, CornersConnect) {
  const std::vector<std::uint8_t> labels{1, 0, 0, 1, /**/ 0, 0, 0, 0};
  const auto set = Find(labels, {2, 2, 2});
  EXPECT_EQ(set->components.size(), 1u);
}

TEST_P(ComponentsTest, KeepsTheLargestAndTheFirstOfEquals) {
  // Components of label 1 with 2, 1, 2, 2 voxels, and one of label 2.
  const std::vector<std::uint8_t> labels{1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 2};
  EXPECT_THAT(Keep(labels, {1, 1, 12}, 1, 2), ::testing::ElementsAre(1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2));
  EXPECT_EQ(Keep(labels, {1, 1, 12}, 1, 9), labels);
  // Labels that no voxel has, or can have.
  for (const std::uint32_t label : {0u, 7u, 256u, 257u})
    EXPECT_EQ(Keep(labels, {1, 1, 12}, label, 1), labels);
}

TEST_P(ComponentsTest, KeepsTheLargestOfLargeLabelValues) {
  testing::Random random(9);
  const std::array<std::int64_t, 3> size{7, 11, 30};
  std::vector<std::uint16_t> labels(static_cast<std::size_t>(7 * 11 * 30));
  for (auto& label : labels) label = random.Below(4) == 0 ? std::uint16_t{65000} : std::uint16_t{0};
  for (auto& label : labels) label = random.Below(9) == 0 ? std::uint16_t{300} : label;
  std::vector<std::uint16_t> expected = labels;
  ASSERT_TRUE(KeepLargestComponents<std::uint16_t>({expected, size}, 65000, 3, {}).ok());
  ASSERT_NE(expected, labels);
  EXPECT_EQ(Keep(labels, size, 65000, 3), expected);
}

TEST_P(ComponentsTest, FillsWhatALabelEnclosesByFaces) {
  // A shell of 5 x 5 x 5 with label 2; its inside holds background and one voxel of label 1.
  std::vector<std::uint8_t> labels(7 * 7 * 7);
  const auto at = [](std::size_t k, std::size_t j, std::size_t i) { return (k * 7 + j) * 7 + i; };
  for (std::size_t k = 1; k < 6; ++k) {
    for (std::size_t j = 1; j < 6; ++j) {
      for (std::size_t i = 1; i < 6; ++i) {
        const bool inside = k > 1 && k < 5 && j > 1 && j < 5 && i > 1 && i < 5;
        labels[at(k, j, i)] = inside ? 0 : 2;
      }
    }
  }
  labels[at(3, 3, 3)] = 1;
  const auto filled = [&](const std::vector<std::uint8_t>& before) {
    const auto after = Fill(before, {7, 7, 7}, 2);
    EXPECT_EQ(after[at(3, 3, 3)], 1) << "other labels stay";
    EXPECT_EQ(after[0], 0);
    return after[at(2, 2, 2)] == 2;
  };
  EXPECT_TRUE(filled(labels));
  EXPECT_EQ(Fill(labels, {7, 7, 7}, 1), labels) << "it encloses nothing";
  auto open_at_a_corner = labels;
  open_at_a_corner[at(1, 1, 1)] = 0;
  EXPECT_TRUE(filled(open_at_a_corner)) << "a way over corners only";
  auto open = labels;
  open[at(1, 3, 3)] = 0;
  EXPECT_FALSE(filled(open));
  auto open_through_another = labels;
  open_through_another[at(1, 3, 3)] = 1;
  EXPECT_FALSE(filled(open_through_another)) << "another label closes nothing";
  for (const std::uint32_t label : {0u, 7u, 256u, 258u}) EXPECT_EQ(Fill(labels, {7, 7, 7}, label), labels);
}

TEST_P(ComponentsTest, HolesEqualThoseOfAWalk) {
  testing::Random random(11);
  for (int round = 0; round < 60; ++round) {
    const std::array<std::int64_t, 3> size{1 + random.Below(8), 1 + random.Below(9), 1 + random.Below(20)};
    const double density = random.Between(0.5, 0.95);
    std::vector<std::uint16_t> labels(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    for (auto& label : labels) {
      label =
          random.Between(0, 1) < density ? std::uint16_t{65000} : static_cast<std::uint16_t>(random.Below(2));
    }
    EXPECT_EQ(Fill(labels, size, 65000), FilledByWalking(labels, size, std::uint16_t{65000}));
    std::vector<std::uint8_t> bytes(labels.size());
    std::transform(labels.begin(), labels.end(), bytes.begin(), [](std::uint16_t label) {
      return label == 65000 ? std::uint8_t{255} : static_cast<std::uint8_t>(label);
    });
    EXPECT_EQ(Fill(bytes, size, 255), FilledByWalking(bytes, size, std::uint8_t{255}));
  }
}

TEST_P(ComponentsTest, RunsBecomeIndicesInOrder) {
  const std::vector<RowRun> runs{{0, 1, 2, 4}, {1, 0, 0, 0}, {1, 2, 3, 5}};
  const at::Tensor indices = on_device::FlatIndices(runs, {2, 3, 6}, placement().device);
  EXPECT_THAT(testing::Values(indices.to(at::kFloat)), ::testing::ElementsAre(8, 9, 10, 18, 33, 34, 35));
  EXPECT_EQ(on_device::VoxelsOf(runs), 7);
  const auto batches = on_device::Batches(runs, std::int64_t{1} << 21);  // four voxels a batch
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[0].size(), 2u);
  EXPECT_EQ(batches[1].size(), 1u);
}

TEST_P(ComponentsTest, StopsWhenCancelled) {
  const std::vector<std::uint8_t> labels(8, 1);
  const auto set = Find(labels, {2, 2, 2}, {1, [] { return true; }});
  EXPECT_EQ(base::ReasonOf(set.status()), "CANCELLED");
}

TS_INSTANTIATE_PLACES(ComponentsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
