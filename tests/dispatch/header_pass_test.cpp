// Batches of the header pass, over helpers that read as much as the test wants.
#include "dispatch/header_pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// Reads of each call what `fits` says of it; a header's UID is its range's offset.
class BoundedHelpers final : public ipc::HelperPool {
 public:
  using Fits = std::function<std::size_t(const std::vector<ipc::v1::SpoolRange>&)>;
  explicit BoundedHelpers(Fits fits) : fits_(std::move(fits)) {}

  std::vector<ipc::HeaderResult> ReadHeaders(int, const std::vector<ipc::v1::SpoolRange>& ranges) override {
    std::vector<ipc::HeaderResult> results;
    for (const ipc::v1::SpoolRange& range : ranges) {
      ipc::v1::InstanceHeader header;
      header.set_study_instance_uid("1.2");
      header.set_sop_instance_uid(std::to_string(range.offset()));
      results.emplace_back(std::move(header));
    }
    return results;
  }
  std::vector<ipc::HeaderResult> ReadHeadersWithin(int spool_fd,
                                                   const std::vector<ipc::v1::SpoolRange>& ranges,
                                                   std::uint64_t held_bytes) override {
    asked_.push_back(ranges.size());
    held_bytes_.push_back(held_bytes);
    std::vector<ipc::HeaderResult> results = ReadHeaders(spool_fd, ranges);
    results.erase(results.begin() + static_cast<std::ptrdiff_t>(fits_(ranges)), results.end());
    return results;
  }
  std::vector<absl::Status> Decode(int, const std::vector<Frame>&, const ipc::Arena&,
                                   const std::function<bool()>&) override {
    return {};
  }
  std::vector<absl::StatusOr<std::uint64_t>> WriteInstances(const std::vector<Write>&, const ipc::Arena&,
                                                            const ipc::Arena&) override {
    return {};
  }
  pid_t zygote_pid() const override { return 0; }
  std::uint64_t leases_started() const override { return 0; }
  std::uint64_t child_deaths() const override { return 0; }

  std::vector<std::size_t> asked_;
  std::vector<std::uint64_t> held_bytes_;

 private:
  const Fits fits_;
};

class HeaderPassTest : public ::testing::Test {
 protected:
  // Adds so many records while nothing works yet, and waits.
  absl::StatusOr<const InstanceJudge*> Pass(ipc::HelperPool& helpers, std::size_t count) {
    std::promise<void> start;
    queue_.Post([&] { start.get_future().wait(); });
    pass_ = std::make_shared<HeaderPass>(
        helpers, queue_, base::UniqueFd(),
        InstanceJudge(v1::SubmissionHeader(), [](const std::string&) { return KnownContents(); }), nullptr);
    for (std::size_t i = 0; i < count; ++i) {
      store::SpoolRecord record;
      record.offset = i;
      record.instance_key = record.sha256 = std::to_string(i);
      pass_->Add(record);
    }
    start.set_value();
    return pass_->Wait();
  }

  TaskQueue queue_{1};
  std::shared_ptr<HeaderPass> pass_;
};

void ExpectAllInOrder(const InstanceJudge& judge, std::size_t count) {
  ASSERT_EQ(judge.accepted().size(), count);
  for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(judge.accepted()[i].sop_uid, std::to_string(i));
}

TEST_F(HeaderPassTest, ALongQueueIsReadInBatchesOf256) {
  BoundedHelpers helpers([](const auto& ranges) { return ranges.size(); });
  const auto judge = Pass(helpers, 600);
  ASSERT_TRUE(judge.ok()) << judge.status();
  ExpectAllInOrder(**judge, 600);
  EXPECT_EQ(pass_->TakeStatuses().size(), 600u);
  EXPECT_THAT(helpers.asked_, ElementsAre(256, 256, 88));
  EXPECT_THAT(helpers.held_bytes_, Each(128u << 20));
}

TEST_F(HeaderPassTest, WhatDidNotFitIsReadAgainInOrderAndWithFewerAtATime) {
  // Three large headers at a time among the first 100; the rest are small.
  BoundedHelpers helpers([](const auto& ranges) {
    const auto large = static_cast<std::size_t>(
        std::count_if(ranges.begin(), ranges.end(), [](const auto& range) { return range.offset() < 100; }));
    return large > 3 ? 3 : ranges.size();
  });
  const auto judge = Pass(helpers, 700);
  ASSERT_TRUE(judge.ok()) << judge.status();
  ExpectAllInOrder(**judge, 700);
  EXPECT_EQ(pass_->TakeStatuses().size(), 700u);
  std::size_t asked = 0;
  for (const std::size_t count : helpers.asked_) asked += count;
  EXPECT_LT(asked, 700u + 256 + 2 * 100);
}

TEST_F(HeaderPassTest, HelpersThatReadNothingAreUnavailable) {
  BoundedHelpers helpers([](const auto&) { return 0; });
  const auto judge = Pass(helpers, 5);
  EXPECT_EQ(base::ReasonOf(judge.status()), "HELPER_UNAVAILABLE");
  EXPECT_TRUE(pass_->TakeStatuses().empty());
  EXPECT_EQ(helpers.asked_.size(), 1u);
}

}  // namespace
}  // namespace tomoserve::dispatch
