#include "tomoserve/compute/components.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "random.h"
#include "tomoserve/base/status.h"

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

template <typename Label>
void ExpectEqualsFloodFill(const std::vector<Label>& labels, std::array<std::int64_t, 3> size) {
  const auto set = FindComponents<Label>({labels, size}, {});
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

TEST(ComponentsTest, EqualFloodFillOnRandomVolumes) {
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

TEST(ComponentsTest, CornersConnect) {
  const std::vector<std::uint8_t> labels{1, 0, 0, 1, /**/ 0, 0, 0, 0};
  const auto set = FindComponents<std::uint8_t>({labels, {2, 2, 2}}, {});
  EXPECT_EQ(set->components.size(), 1u);
}

TEST(ComponentsTest, KeepsTheLargestAndTheFirstOfEquals) {
  // Components of label 1 with 2, 1, 2, 2 voxels, and one of label 2.
  const std::vector<std::uint8_t> labels{1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 2};
  std::vector<std::uint8_t> two = labels;
  ASSERT_TRUE(KeepLargestComponents<std::uint8_t>({two, {1, 1, 12}}, 1, 2, {}).ok());
  EXPECT_THAT(two, ::testing::ElementsAre(1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2));
  std::vector<std::uint8_t> all = labels;
  ASSERT_TRUE(KeepLargestComponents<std::uint8_t>({all, {1, 1, 12}}, 1, 9, {}).ok());
  EXPECT_EQ(all, labels);
}

TEST(ComponentsTest, StopsWhenCancelled) {
  const std::vector<std::uint8_t> labels(8, 1);
  const auto set = FindComponents<std::uint8_t>({labels, {2, 2, 2}}, {1, [] { return true; }});
  EXPECT_EQ(base::ReasonOf(set.status()), "CANCELLED");
}

}  // namespace
}  // namespace tomoserve::compute
