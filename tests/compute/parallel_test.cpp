// ParallelFor is the host's in every placement.
#include "tomoserve/compute/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <stdexcept>
#include <vector>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

TEST(ParallelTest, DoesEveryIndexOnceWithAWorkerInRange) {
  for (const int threads : {1, 2, 5}) {
    std::vector<std::atomic<int>> done(1000);
    const absl::Status status = ParallelFor({threads, {}}, 1000, [&](std::int64_t index, int worker) {
      ASSERT_LT(worker, threads);
      ++done[static_cast<std::size_t>(index)];
    });
    EXPECT_TRUE(status.ok());
    for (const auto& count : done) EXPECT_EQ(count, 1);
  }
}

TEST(ParallelTest, StopsWhenCancelled) {
  std::atomic<int> done{0};
  const absl::Status status =
      ParallelFor({2, [&] { return done >= 10; }}, 1000, [&](std::int64_t, int) { ++done; });
  EXPECT_EQ(base::ReasonOf(status), "CANCELLED");
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(done, 20);
}

TEST(ParallelTest, TurnsExceptionsIntoErrors) {
  EXPECT_EQ(base::ReasonOf(ParallelFor({2, {}}, 4, [](std::int64_t, int) { throw std::bad_alloc(); })),
            "OUT_OF_MEMORY");
  EXPECT_EQ(base::ReasonOf(ParallelFor({2, {}}, 4, [](std::int64_t, int) { throw std::runtime_error("x"); })),
            "TENSOR_FAILED");
}

}  // namespace
}  // namespace tomoserve::compute
