// Which sizes of batches are used, and which of them are proved for good.
#include "apps/tomoserve_worker/warm_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/on_devices.h"
#include "engine/script_module.h"
#include "tomoserve/base/status.h"

namespace tomoserve::worker {
namespace {

using ::testing::ElementsAre;

class WarmUpTest : public testing::OnDevices {
 protected:
  // Of a network that adds zeros `times` (an expression of x) times and returns `result`.
  absl::StatusOr<WarmNetwork> WarmUpOf(const std::string& times, const std::string& result,
                                       const BucketChoice& choice,
                                       const v1::Recipe& recipe = testing::SmallRecipe()) const {
    const std::string archive =
        testing::ScriptArchive("def forward(self, x):\n  y = torch.zeros_like(x)\n  for i in range(" + times +
                               "):\n    y = torch.add(y, y)\n  return " + result + "\n");
    const base::UniqueFd file = testing::FileOf(archive);
    const std::vector<int> fds{file.get()};
    const std::vector<std::string> digests{base::Sha256Hex(archive)};
    const auto network = engine::Network::Load(fds, recipe, digests, device_);
    if (!network.ok()) return network.status();
    const auto lanes = executor::Executor::Create(1, 1);
    return WarmUp(**network, recipe, *lanes, choice);
  }
  static BucketChoice Worthwhile(std::vector<std::uint32_t> sizes, std::vector<std::uint32_t> known = {}) {
    return {.sizes = std::move(sizes),
            .only_worthwhile = true,
            .memory_bytes = std::uint64_t{1} << 40,
            .known = std::move(known)};
  }
};

TS_INSTANTIATE_ON_DEVICES(WarmUpTest);

// One noisy timing must not take a size away from all later starts.
TEST_P(WarmUpTest, ASizeThatIsNotFasterNowIsProvedAllTheSame) {
  const std::string quadratic = "100 * x.size(0) * x.size(0)";
  for (const std::vector<std::uint32_t>& known : {std::vector<std::uint32_t>{}, {1, 2, 4}}) {
    const auto warm = WarmUpOf(quadratic, "x + y", Worthwhile({1, 2, 4}, known));
    ASSERT_TRUE(warm.ok()) << warm.status();
    EXPECT_THAT(warm->buckets, ElementsAre(1));
    EXPECT_THAT(warm->proved, ElementsAre(1, 2, 4));
    EXPECT_TRUE(warm->all_tried);
  }
}

TEST_P(WarmUpTest, ASizeWhoseTimeLeavesItOutIsNotTried) {
  const auto warm = WarmUpOf("20000", "x + y", Worthwhile({1, 64}));
  ASSERT_TRUE(warm.ok()) << warm.status();
  EXPECT_THAT(warm->proved, ElementsAre(1));
  EXPECT_FALSE(warm->all_tried);
}

TEST_P(WarmUpTest, ASizeThatChangesBitsIsLeftOutForGood) {
  const auto warm = WarmUpOf("1", "x + torch.sub(x, x.mean([0], True))", {.sizes = {1, 2, 4}});
  ASSERT_TRUE(warm.ok()) << warm.status();
  EXPECT_THAT(warm->proved, ElementsAre(1));
  EXPECT_EQ(base::ReasonOf(warm->not_proved), "BATCH_CHANGES_BITS");
  EXPECT_TRUE(warm->all_tried);
}

TEST_P(WarmUpTest, ASizeThatFailsIsNotLeftOutForGood) {
  for (const std::vector<std::uint32_t>& known : {std::vector<std::uint32_t>{}, {1, 2}}) {
    const auto warm = WarmUpOf("1", "x.reshape([1, 1, 8, 8, 8])", {.sizes = {1, 2}, .known = known});
    ASSERT_TRUE(warm.ok()) << warm.status();
    EXPECT_THAT(warm->buckets, ElementsAre(1));
    EXPECT_EQ(base::ReasonOf(warm->not_proved), "NETWORK_FAILED");
    EXPECT_FALSE(warm->all_tried);
  }
}

TEST_P(WarmUpTest, WindowsOfAnySizeAreNotTriedInBatches) {
  const auto warm = WarmUpOf("1", "x", {.sizes = {1, 2}}, testing::SmallRecipe(0));
  ASSERT_TRUE(warm.ok()) << warm.status();
  EXPECT_THAT(warm->buckets, ElementsAre(1));
  EXPECT_FALSE(warm->all_tried);
}

}  // namespace
}  // namespace tomoserve::worker
