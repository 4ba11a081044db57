#include "tomoserve/compute/region.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/on_device/components.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;

std::vector<std::uint8_t> Bytes(const at::Tensor& mask) {
  const auto* const data = mask.const_data_ptr<std::uint8_t>();
  return {data, data + mask.numel()};
}

TEST(RegionMaskTest, HoldsTheVoxelsOfItsLabels) {
  const std::vector<std::uint8_t> labels{0, 1, 2, 3, 255, 2};
  const auto mask = [&](std::vector<std::uint32_t> values) {
    return RegionMask(std::as_bytes(std::span(labels)), 1, {3, 1, 2}, values, {2, {}});
  };
  const auto found = mask({2, 255});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->sizes(), (std::vector<std::int64_t>{2, 1, 3}));
  EXPECT_THAT(Bytes(*found), ElementsAre(0, 0, 1, 0, 1, 1));
  // No label of one byte is as large; the lowest byte of 258 is 2.
  EXPECT_EQ(base::ReasonOf(mask({258, 70000}).status()), "REGION_EMPTY");
  EXPECT_EQ(mask({}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RegionMaskTest, ReadsLabelsOfTwoBytesWhereverTheyLie) {
  std::vector<std::byte> bytes{std::byte{9}};
  for (const int label : {2, 258, 512, 300}) {
    bytes.push_back(static_cast<std::byte>(label & 0xff));
    bytes.push_back(static_cast<std::byte>(label >> 8));
  }
  const auto mask =
      RegionMask(std::span(bytes).subspan(1), 2, {2, 2, 1}, std::vector<std::uint32_t>{258, 300}, {});
  ASSERT_TRUE(mask.ok()) << mask.status();
  EXPECT_THAT(Bytes(*mask), ElementsAre(0, 1, 0, 1));
}

TEST(RegionMaskTest, RefusesALabelMapOfAnotherSize) {
  const std::vector<std::byte> bytes(16);
  const auto reason = [&](std::uint32_t bytes_per_voxel) {
    const auto mask = RegionMask(bytes, bytes_per_voxel, {2, 2, 2}, std::vector<std::uint32_t>{0}, {});
    EXPECT_EQ(base::ValueOf(mask.status()), mask.ok() ? "" : "16");
    return base::ReasonOf(mask.status());
  };
  EXPECT_EQ(reason(1), "REGION_SIZE");
  EXPECT_EQ(reason(0), "REGION_SIZE");
  EXPECT_EQ(reason(4), "REGION_SIZE");
  EXPECT_EQ(reason(2), "OK");
}

// Exact in every placement.
class KeepInRegionTest : public testing::PlacedTest {
 protected:
  template <typename Label>
  std::vector<Label> Keep(std::vector<Label> labels, std::array<std::int64_t, 3> size,
                          std::vector<std::uint8_t> region, bool whole) {
    if (placement().UsesLoops()) {
      EXPECT_TRUE(KeepInRegion<Label>({labels, size}, region, whole, {2, {}}).ok());
      return labels;
    }
    const at::Tensor tensor = testing::LabelTensor(labels, size, placement().device);
    const at::Tensor mask = testing::LabelTensor(region, size, at::kCPU);
    EXPECT_TRUE(on_device::KeepInRegion(tensor, mask, whole, {2, {}}).ok());
    return testing::LabelsOf<Label>(tensor);
  }
};

TEST_P(KeepInRegionTest, VoxelsOutsideGo) {
  EXPECT_THAT(Keep<std::uint8_t>({1, 2, 0, 255, 1, 2}, {1, 2, 3}, {1, 0, 1, 1, 0, 1}, false),
              ElementsAre(1, 0, 0, 255, 0, 2));
  EXPECT_THAT(Keep<std::uint16_t>({1, 65000, 0, 65000}, {2, 1, 2}, {1, 0, 1, 1}, false),
              ElementsAre(1, 0, 0, 65000));
}

TEST_P(KeepInRegionTest, ComponentsThatReachInsideStayWhole) {
  // Label 1 reaches in by a corner; label 2 beside it and the piece of label 1 at the end do not.
  const std::vector<std::uint8_t> labels{1, 1, 2, 2, 0, 1,  //
                                         0, 0, 1, 2, 0, 1};
  const std::vector<std::uint8_t> region{0, 0, 0, 0, 0, 0,  //
                                         0, 0, 1, 0, 0, 0};
  EXPECT_THAT(Keep(labels, {1, 2, 6}, region, true), ElementsAre(1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0));
  EXPECT_THAT(Keep(labels, {2, 1, 6}, region, true), ElementsAre(1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0));
  // What a label does not fill inside does not keep it.
  EXPECT_THAT(Keep<std::uint8_t>({1, 0, 0}, {1, 1, 3}, {0, 1, 1}, true), ElementsAre(0, 0, 0));
}

TEST_P(KeepInRegionTest, EqualWhatGrowsFromTheRegion) {
  testing::Random random(13);
  for (int round = 0; round < 40; ++round) {
    const std::array<std::int64_t, 3> size{1 + random.Below(7), 1 + random.Below(9), 1 + random.Below(30)};
    std::vector<std::uint16_t> labels(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    std::vector<std::uint8_t> region(labels.size());
    for (auto& label : labels)
      label = random.Below(3) == 0 ? static_cast<std::uint16_t>(32768 * random.Below(2) + 300) : 0;
    for (auto& inside : region) inside = random.Below(20) == 0 ? 1 : 0;
    // Grown voxel by voxel until nothing changes.
    std::vector<bool> kept(labels.size());
    for (std::size_t v = 0; v < labels.size(); ++v) kept[v] = region[v] != 0 && labels[v] != 0;
    for (bool grown = true; grown;) {
      grown = false;
      for (std::int64_t v = 0; v < std::ssize(labels); ++v) {
        const std::int64_t k = v / (size[1] * size[2]), j = v / size[2] % size[1], i = v % size[2];
        for (std::int64_t n = 0;
             n < 27 && labels[static_cast<std::size_t>(v)] != 0 && !kept[static_cast<std::size_t>(v)]; ++n) {
          const std::int64_t nk = k + n / 9 - 1, nj = j + n / 3 % 3 - 1, ni = i + n % 3 - 1;
          if (nk < 0 || nj < 0 || ni < 0 || nk >= size[0] || nj >= size[1] || ni >= size[2]) continue;
          const auto neighbour = static_cast<std::size_t>((nk * size[1] + nj) * size[2] + ni);
          if (!kept[neighbour] || labels[neighbour] != labels[static_cast<std::size_t>(v)]) continue;
          kept[static_cast<std::size_t>(v)] = true;
          grown = true;
        }
      }
    }
    std::vector<std::uint16_t> expected = labels;
    for (std::size_t v = 0; v < labels.size(); ++v) expected[v] = kept[v] ? labels[v] : 0;
    EXPECT_EQ(Keep(labels, size, region, true), expected);
    for (std::size_t v = 0; v < labels.size(); ++v) expected[v] = region[v] != 0 ? labels[v] : 0;
    EXPECT_EQ(Keep(labels, size, region, false), expected);
  }
}

TS_INSTANTIATE_PLACES(KeepInRegionTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
