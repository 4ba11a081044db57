// Properties of the policy under load, on a virtual clock.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "executor/virtual_device.h"
#include "executor/window_queue.h"

namespace tomoserve::executor {
namespace {

// Each slot of a bucket costs what the model states.
double Stated(const WindowBatch& batch) { return batch.batcher->window_ms() * batch.bucket; }

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::uint32_t Below(std::uint32_t end) { return static_cast<std::uint32_t>(engine_() % end); }
  std::uint32_t Between(std::uint32_t low, std::uint32_t high) { return low + Below(high - low + 1); }
  double Exponential(double mean) { return std::exponential_distribution(1 / mean)(engine_); }

 private:
  std::mt19937 engine_;
};

TEST(WindowQueueLoadTest, ModelsOfOneClassGetTheSameDeviceTime) {
  Batcher fast({1}, 10), slow({1}, 1000), batched({1, 2, 4}, 25);
  VirtualDevice device(1, 8, Stated);
  for (Batcher* model : {&fast, &slow, &batched}) {
    for (int run = 0; run < 20; ++run) device.Submit(*model, kRoutine, 100'000);
  }
  device.Run(3'600'000);
  for (Batcher* model : {&fast, &slow, &batched}) EXPECT_NEAR(device.busy_ms(model), 1'200'000, 5'000);
}

TEST(WindowQueueLoadTest, CostsThatNobodyStatesAreMeasured) {
  Batcher fast, slow;
  Random random(1);
  VirtualDevice device(8, 4, [&](const WindowBatch& batch) {
    return (batch.batcher == &fast ? 10 : 1000) * (0.5 + 0.01 * random.Below(100));
  });
  std::array<double, 9> ms_with_slow_lanes{};
  int slow_lanes = 0;
  double since_ms = 60'000;
  const auto count = [&](const WindowBatch& batch, int step) {
    if (batch.batcher != &slow) return;
    if (device.now_ms() > since_ms) {
      ms_with_slow_lanes[slow_lanes] += device.now_ms() - since_ms;
      since_ms = device.now_ms();
    }
    slow_lanes += step;
  };
  device.began = [&](const WindowBatch& batch) { count(batch, 1); };
  device.computed = [&](const WindowBatch& batch) { count(batch, -1); };
  for (int run = 0; run < 5; ++run) {
    device.Submit(fast, kRoutine, 10'000'000);
    device.Submit(slow, kRoutine, 10'000'000);
  }
  device.Run(1'800'000);
  EXPECT_NEAR(device.busy_ms(&fast) / device.busy_ms(), 0.5, 0.03);
  // Half of the lanes each, not all of them in turn: a batch counts as it begins. How long each batch takes
  // is random, so two models seldom have four lanes each to the millisecond.
  const auto share = [&](int from, int to) {
    double ms = 0;
    for (int lanes = from; lanes <= to; ++lanes) ms += ms_with_slow_lanes[lanes];
    return ms / (since_ms - 60'000);
  };
  EXPECT_GT(share(3, 5), 0.9);
  EXPECT_GT(share(2, 6), 0.998);
  EXPECT_EQ(share(0, 0), 0);
  EXPECT_EQ(share(8, 8), 0);
}

TEST(WindowQueueLoadTest, RunsThatComeOneAtATimePayForTheirTurns) {
  Batcher brief({1}, 10), steady({1}, 10);
  VirtualDevice device(1, 8, Stated);
  device.Submit(steady, kRoutine, 1'000'000);
  // The next run of one window is there when the last one's is begun.
  device.began = [&](const WindowBatch& batch) {
    if (batch.batcher == &brief) device.Submit(brief, kRoutine, 1);
  };
  device.Submit(brief, kRoutine, 1);
  device.Run(600'000);
  EXPECT_NEAR(device.busy_ms(&brief) / device.busy_ms(), 0.5, 0.01);
}

TEST(WindowQueueLoadTest, NothingStarvesInAMillionWindows) {
  Batcher heads({1, 2, 4}, 5), bodies({1, 2, 4}, 20);
  VirtualDevice device(1, 16, Stated);
  // STAT runs of both models, each with a deadline, take all of the device for as long as the others last.
  std::uint32_t left = 0;
  const auto stat = [&](Batcher& model) {
    if (left > 0) device.Submit(model, kStat, 40, 0, device.now_ms() + 1000);
  };
  device.ended = [&](const VirtualDevice::Fate& fate) {
    if (fate.run.urgency == kStat && fate.run.deadline_ms) {
      stat(*fate.run.batcher);
    } else {
      --left;
    }
  };
  std::vector<RunKey> others;
  for (int i = 0; i < 40; ++i) {
    Batcher& model = i % 2 == 0 ? heads : bodies;
    // One run of each class has no end; a STAT run without a deadline must not starve, either.
    others.push_back(device.Submit(model, static_cast<Class>(i % 4), i < 4 ? 1'000'000 : 30, i * 1000));
    ++left;
  }
  for (int i = 0; i < 3; ++i) {
    stat(heads);
    stat(bodies);
  }
  while (device.windows() < 1'000'000) device.Run(device.now_ms() + 60'000);
  // To the top in three steps, as OFF_PEAK; then every risen run has its turn once in 16 batches of at most
  // 80 ms, those that have risen higher meanwhile first.
  constexpr double kBoundMs = 4 * kRiseMs + 40 * 16 * 80;
  double longest_ms = 0;
  for (const RunKey key : others) {
    const VirtualDevice::Fate& fate = device.fates().at(key);
    EXPECT_GT(fate.begun, 29u);
    longest_ms = std::max(longest_ms, fate.longest_wait_ms);
    if (!fate.end_ms) longest_ms = std::max(longest_ms, device.now_ms() - fate.last_ms);
  }
  EXPECT_LT(longest_ms, kBoundMs);
  EXPECT_GT(longest_ms, kRiseMs) << "the test has no load";
}

// A routine queue that never ends, on one lane; STAT runs come by.
class StatTest : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr std::uint32_t kStatWindows = 20;
  Batcher heads_{{1, 2, 4}, 10}, bodies_{{1, 2, 4}, 12};
};

TEST_P(StatTest, ItsWindowsEnterTheNextBatch) {
  const bool queue_has_risen = GetParam();
  VirtualDevice device(1, 16, Stated);
  for (int run = 0; run < 100; ++run) device.Submit(run % 2 ? heads_ : bodies_, kRoutine, 100'000);
  const double begin_ms = queue_has_risen ? 3 * kRiseMs : 100;
  std::uint64_t passed = 0, most_passed = 0;
  bool waits = false;
  device.began = [&](const WindowBatch& batch) {
    const bool has_stat = std::any_of(batch.windows.begin(), batch.windows.end(), [&](const auto& window) {
      return device.fates().at(window.run).run.urgency == kStat;
    });
    if (has_stat) waits = false;
    if (waits) most_passed = std::max(most_passed, ++passed);
  };
  Random random(7);
  double at_ms = begin_ms;
  constexpr int kRuns = 200;
  for (int run = 0; run < kRuns; ++run) {
    at_ms += 500 + random.Exponential(100);  // one at a time: it has the device to itself
    device.At(at_ms, [&] {
      waits = true;
      passed = 0;
    });
    device.Submit(run % 2 ? heads_ : bodies_, kStat, kStatWindows, at_ms);
    if (!queue_has_risen && at_ms > kRiseMs - 2000) break;
  }
  device.Run(at_ms + 5'000);

  // Behind the batch in flight; behind another one where it is the turn of a run that would starve.
  EXPECT_EQ(most_passed, queue_has_risen ? 1u : 0u);
  std::vector<double> ratios;
  for (const auto& [key, fate] : device.fates()) {
    if (fate.run.urgency != kStat) continue;
    ASSERT_TRUE(fate.end_ms);
    const double alone_ms = fate.run.batcher->window_ms() * kStatWindows;
    ratios.push_back((*fate.end_ms - fate.run.submitted_ms) / alone_ms);
  }
  ASSERT_GT(ratios.size(), 30u);
  std::sort(ratios.begin(), ratios.end());
  EXPECT_LE(ratios[ratios.size() * 99 / 100], 1.5);
}

INSTANTIATE_TEST_SUITE_P(Queue, StatTest, ::testing::Bool(),
                         [](const auto& risen) { return risen.param ? "ThatHasRisen" : "InOrder"; });

TEST(WindowQueueLoadTest, PreemptionThrowsNothingAway) {
  const auto busy_ms = [](bool with_stat) {
    Batcher model({4}, 10), other({4}, 10);
    VirtualDevice device(2, 16, Stated);
    std::uint64_t windows = 0;
    const auto submit = [&](Batcher& of, Class urgency, std::uint32_t count, double at_ms) {
      windows += count;
      device.Submit(of, urgency, count, at_ms);
    };
    for (int run = 0; run < 30; ++run) submit(run % 3 ? model : other, kRoutine, 400, 0);
    for (int run = 0; with_stat && run < 100; ++run) submit(run % 2 ? model : other, kStat, 8, run * 137);
    device.Run();
    EXPECT_EQ(device.windows(), windows);
    for (const auto& [key, fate] : device.fates()) EXPECT_EQ(fate.folded, fate.run.windows);
    return device.busy_ms();
  };
  // Routine runs cost what they cost without the STAT runs, and these what they cost alone.
  EXPECT_LE(busy_ms(true), busy_ms(false) + 100 * 8 * 10 + 100);
}

TEST(WindowQueueLoadTest, BatchesAreFullUnderMixedLoad) {
  std::array<Batcher, 3> models{Batcher({4}, 8), Batcher({4}, 10), Batcher({4}, 30)};
  VirtualDevice device(1, 16, Stated);
  Random random(3);
  // 94 % of the device: 16 ms * 30.5 windows on average.
  double at_ms = 0;
  for (int run = 0; run < 5000; ++run) {
    at_ms += random.Exponential(16 * 30.5 / 0.94);
    const auto urgency = static_cast<Class>(std::array{0, 1, 1, 1, 1, 2, 2, 3}[random.Below(8)]);
    device.Submit(models[random.Below(3)], urgency, random.Between(1, 60), at_ms);
  }
  device.Run();
  EXPECT_GT(device.busy_ms() / device.now_ms(), 0.85) << "the test has no load";
  EXPECT_GE(static_cast<double>(device.windows()) / static_cast<double>(device.slots()), 0.9);
}

TEST(WindowQueueLoadTest, EveryRunEndsOnceWhateverIsCancelled) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    Batcher one({1}, 7), four({1, 2, 4}, 3), measured({2});
    const std::array models{&one, &four, &measured};
    VirtualDevice device(random.Between(1, 4), random.Below(9), [&](const WindowBatch& batch) {
      return 0.5 + random.Below(20) * (batch.batcher == &one ? 1 : 0.3);
    });
    double at_ms = 0;
    for (int run = 0; run < 300; ++run) {
      at_ms += random.Exponential(60);
      const RunKey key =
          device.Submit(*models[random.Below(3)], static_cast<Class>(random.Below(4)), random.Between(1, 50),
                        at_ms, random.Below(2) ? std::optional(at_ms + random.Below(5000)) : std::nullopt);
      if (random.Below(4) == 0) device.CancelAt(at_ms + random.Exponential(300), key);
    }
    device.Run();
    std::uint64_t cancelled = 0;
    for (const auto& [key, fate] : device.fates()) {
      ASSERT_TRUE(fate.end_ms) << "seed " << seed << " run " << key;
      cancelled += fate.cancelled ? 1 : 0;
      EXPECT_TRUE(fate.cancelled || fate.folded == fate.run.windows);
    }
    EXPECT_GT(cancelled, 3u);
  }
}

}  // namespace
}  // namespace tomoserve::executor
