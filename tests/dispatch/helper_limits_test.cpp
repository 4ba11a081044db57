#include "dispatch/helper_limits.h"

#include <gtest/gtest.h>

#include "tomoserve/base/config.h"

namespace tomoserve::dispatch {
namespace {

config::v1::Limits Configured(const char* text) {
  auto config = base::ParseServerConfig(std::string("data: 'd' models: 'm' limits { ") + text + " }");
  EXPECT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(base::CompleteServerConfig(*config).ok());
  return config->limits();
}

TEST(HelperLimitsTest, DefaultsAreTheGatekeepersAndTwoGibOfMemory) {
  ipc::HelperPoolOptions helpers;
  SetHelperLimits(Configured(""), helpers);
  EXPECT_EQ(helpers.limits.nesting(), 64u);
  EXPECT_EQ(helpers.limits.elements(), 1'000'000u);
  EXPECT_EQ(helpers.limits.instance_bytes(), 512ull << 20);
  EXPECT_EQ(helpers.limits.pixel_bytes(), 4ull << 30);
  EXPECT_FALSE(helpers.limits.deflated());
  EXPECT_EQ(helpers.memory_bytes, 2ull << 30);
}

TEST(HelperLimitsTest, EveryLimitReachesTheHelpers) {
  ipc::HelperPoolOptions helpers;
  SetHelperLimits(Configured("nesting: 5 elements: 6 instance_bytes: 7000 pixel_bytes: 8000 deflated: true"),
                  helpers);
  EXPECT_EQ(helpers.limits.nesting(), 5u);
  EXPECT_EQ(helpers.limits.elements(), 6u);
  EXPECT_EQ(helpers.limits.instance_bytes(), 7000u);
  EXPECT_EQ(helpers.limits.pixel_bytes(), 8000u);
  EXPECT_TRUE(helpers.limits.deflated());
  EXPECT_EQ(helpers.memory_bytes, 2ull << 30);
}

TEST(HelperLimitsTest, LargeInstancesGetTheMemoryThatTheyNeed) {
  ipc::HelperPoolOptions helpers;
  SetHelperLimits(Configured("instance_bytes: 2147483648"), helpers);
  EXPECT_EQ(helpers.limits.instance_bytes(), 2ull << 30);
  EXPECT_EQ(helpers.memory_bytes, (2ull << 30) + 3 * (1536ull << 20));
}

}  // namespace
}  // namespace tomoserve::dispatch
