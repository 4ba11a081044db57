// What holds for the networks of a composite together.
#include "apps/tomoserve_worker/networks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace tomoserve::worker {
namespace {

using ::testing::ElementsAre;

WarmNetwork Warm(std::vector<std::uint32_t> buckets, std::vector<double> bucket_ms) {
  WarmNetwork warm;
  warm.proved = buckets;
  warm.buckets = std::move(buckets);
  warm.bucket_ms = std::move(bucket_ms);
  warm.ms_per_window = warm.bucket_ms.back();
  return warm;
}

TEST(TogetherTest, TimesAreThoseOfBucketsThatAllUse) {
  const WarmNetwork all =
      Together({Warm({1, 2, 4, 8}, {10, 6, 4, 3}), Warm({1, 2, 8}, {20, 12, 1}), Warm({1, 2}, {9, 9})});
  EXPECT_THAT(all.buckets, ElementsAre(1, 2));
  EXPECT_THAT(all.bucket_ms, ElementsAre(13, 9));
  EXPECT_EQ(all.ms_per_window, 9);
}

TEST(TogetherTest, OneNetworkIsAsItIs) {
  const WarmNetwork all = Together({Warm({1, 4}, {10, 4})});
  EXPECT_THAT(all.buckets, ElementsAre(1, 4));
  EXPECT_EQ(all.ms_per_window, 4);
}

TEST(TogetherTest, WhatOneLacksAllLack) {
  WarmNetwork first = Warm({1, 2}, {2, 1});
  first.proved = {1, 2, 4};
  first.forward_bytes = 100;
  WarmNetwork second = Warm({1}, {5});
  second.all_tried = false;
  second.forward_bytes = 300;
  second.not_proved = absl::InternalError("why");
  const WarmNetwork all = Together({first, second});
  EXPECT_THAT(all.proved, ElementsAre(1));
  EXPECT_EQ(all.ms_per_window, 3.5);
  EXPECT_FALSE(all.all_tried);
  EXPECT_EQ(all.forward_bytes, 300u);
  EXPECT_FALSE(all.not_proved.ok());
}

}  // namespace
}  // namespace tomoserve::worker
