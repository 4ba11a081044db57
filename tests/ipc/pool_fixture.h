// A helper pool over the fake helper.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "fake_helper.h"
#include "processes.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::ipc {

class HelperPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.program = TOMOSERVE_FAKE_HELPER;
    options_.cpu_seconds = 20;
    spool_.reset(::memfd_create("spool", MFD_CLOEXEC));
    ASSERT_EQ(::write(spool_.get(), "spool content", 13), 13);
  }
  void Start() {
    auto pool = HelperPool::Start(options_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }
  // Ranges with lengths 1, 2, 3...; the fake helper answers with them.
  static std::vector<v1::SpoolRange> Ranges(const std::vector<fake::Behaviour>& behaviours) {
    std::vector<v1::SpoolRange> ranges;
    for (const fake::Behaviour behaviour : behaviours) {
      ranges.emplace_back().set_offset(behaviour);
      ranges.back().set_length(ranges.size());
    }
    return ranges;
  }
  std::vector<HeaderResult> ReadHeaders(const std::vector<fake::Behaviour>& behaviours) {
    return pool_->ReadHeaders(spool_.get(), Ranges(behaviours));
  }
  // `count` fine items with the given ones among them.
  static std::vector<fake::Behaviour> FineBut(
      std::size_t count, const std::vector<std::pair<std::size_t, fake::Behaviour>>& others) {
    std::vector<fake::Behaviour> behaviours(count, fake::kFine);
    for (const auto& [item, behaviour] : others) behaviours[item] = behaviour;
    return behaviours;
  }
  static void ExpectAnswered(const std::vector<HeaderResult>& results, std::size_t item) {
    ASSERT_TRUE(results[item].ok()) << item << ": " << results[item].status();
    EXPECT_EQ(results[item]->sop_instance_uid(), "1.2." + std::to_string(item + 1));
    EXPECT_EQ(results[item]->instance_number(), static_cast<std::int32_t>(item));
  }
  static void ExpectAllAnsweredBut(const std::vector<HeaderResult>& results,
                                   const std::vector<std::size_t>& others) {
    for (std::size_t item = 0; item < results.size(); ++item) {
      if (std::find(others.begin(), others.end(), item) == others.end()) ExpectAnswered(results, item);
    }
  }

  HelperPoolOptions options_;
  base::UniqueFd spool_;
  std::unique_ptr<HelperPool> pool_;
};

}  // namespace tomoserve::ipc
