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
