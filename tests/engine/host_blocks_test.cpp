#include "engine/host_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace tomoserve::engine {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Anonymous memory of this process.
std::size_t ResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  std::size_t kib = 0;
  while (status >> word) {
    if (word == "RssAnon:") status >> kib;
  }
  return kib << 10;
}

class HostBlocksTest : public ::testing::Test {
 protected:
  void SetUp() override { blocks_.Release(); }
  void TearDown() override { blocks_.Release(); }
  std::size_t held() const { return blocks_.used_bytes() + blocks_.kept_bytes(); }

  HostBlocks& blocks_ = HostBlocks::OfProcess();
};

TEST_F(HostBlocksTest, ABlockServesTheNextTensorOfItsSize) {
  c10::DataPtr first = blocks_.allocate(8 * kMiB);
  void* const memory = first.get();
  first.clear();
  EXPECT_EQ(blocks_.kept_bytes(), 8 * kMiB);
  const c10::DataPtr second = blocks_.allocate(8 * kMiB);
  EXPECT_EQ(second.get(), memory);
  EXPECT_EQ(blocks_.kept_bytes(), 0u);
}

TEST_F(HostBlocksTest, ALargerBlockDoesNotServe) {
  blocks_.allocate(10 * kMiB).clear();
  const c10::DataPtr similar = blocks_.allocate(9 * kMiB);
  EXPECT_EQ(held(), 9 * kMiB) << "the kept one has made room";
}

TEST_F(HostBlocksTest, OfSeveralTheNewest) {
  c10::DataPtr first = blocks_.allocate(9 * kMiB);
  c10::DataPtr second = blocks_.allocate(9 * kMiB);
  void* const memory = first.get();
  second.clear();
  first.clear();
  EXPECT_EQ(blocks_.allocate(9 * kMiB).get(), memory);
}

// What the kernel counts, with mixed sizes on two threads: most of it is back after Release.
TEST_F(HostBlocksTest, TheSystemGetsItsMemoryBack) {
  const std::size_t before = ResidentBytes();
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 2; ++seed) {
    threads.emplace_back([this, seed] {
      unsigned random = seed;
      std::vector<c10::DataPtr> tensors;
      for (int step = 0; step < 400; ++step) {
        random = random * 1664525u + 1013904223u;
        const std::size_t bytes = (std::size_t{256} << 10) * (1 + (random >> 8) % 60);
        tensors.push_back(blocks_.allocate(bytes));
        std::memset(tensors.back().get(), 1, bytes);
        if (tensors.size() > 16) tensors.erase(tensors.begin() + random % tensors.size());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(ResidentBytes(), before + 100 * kMiB) << "kept for the next tensors";
  blocks_.Release();
  EXPECT_LT(ResidentBytes(), before + 30 * kMiB);
}

TEST_F(HostBlocksTest, TrimForgetsALargeRunAfterTheNextOne) {
  blocks_.allocate(100 * kMiB).clear();
  blocks_.Trim();  // the large run has ended
  EXPECT_EQ(blocks_.kept_bytes(), 100 * kMiB);
  blocks_.allocate(3 * kMiB).clear();
  blocks_.Trim();
  EXPECT_EQ(held(), 3 * kMiB);
}

TEST_F(HostBlocksTest, UsedAndKeptAreNeverMoreThanWasAskedForAtMost) {
  std::size_t asked = 0;
  std::size_t most_asked = 0;
  std::vector<std::size_t> sizes;
  unsigned random = 7;
  std::vector<c10::DataPtr> tensors;
  for (int step = 0; step < 2000; ++step) {
    random = random * 1664525u + 1013904223u;
    if (tensors.size() > 12 || (random >> 30 == 0 && !tensors.empty())) {
      const auto index = static_cast<std::ptrdiff_t>(random % tensors.size());
      tensors.erase(tensors.begin() + index);
      asked -= sizes[static_cast<std::size_t>(index)];
      sizes.erase(sizes.begin() + index);
    } else {
      sizes.push_back(kMiB * (1 + (random >> 8) % 24));
      asked += sizes.back();
      tensors.push_back(blocks_.allocate(sizes.back()));
    }
    most_asked = std::max(most_asked, asked);
    ASSERT_LE(held(), most_asked) << "after step " << step;
  }
}

TEST_F(HostBlocksTest, ReleaseLeavesWhatIsInUse) {
  const c10::DataPtr stays = blocks_.allocate(3 * kMiB);
  blocks_.allocate(8 * kMiB).clear();
  std::memset(stays.get(), 5, 3 * kMiB);
  blocks_.Release();
  EXPECT_EQ(blocks_.kept_bytes(), 0u);
  EXPECT_EQ(blocks_.used_bytes(), 3 * kMiB);
  EXPECT_EQ(static_cast<const unsigned char*>(stays.get())[3 * kMiB - 1], 5);
}

TEST_F(HostBlocksTest, SmallOnesPassThrough) {
  c10::DataPtr small = blocks_.allocate(HostBlocks::kLeastBytes - 1);
  EXPECT_NE(small.get(), nullptr);
  EXPECT_EQ(held(), 0u);
  small.clear();
  EXPECT_EQ(held(), 0u);
  EXPECT_EQ(blocks_.allocate(0).get(), nullptr);
}

TEST_F(HostBlocksTest, TheMostThatAThreadHasInUseIsCounted) {
  const c10::DataPtr before = blocks_.allocate(8 * kMiB);
  HostBlocks::RestartPeak();
  EXPECT_EQ(HostBlocks::PeakBytes(), 0u);
  blocks_.allocate(2 * kMiB).clear();
  c10::DataPtr first = blocks_.allocate(3 * kMiB);
  const c10::DataPtr second = blocks_.allocate(2 * kMiB);  // a kept one
  std::thread([this] {
    blocks_.allocate(64 * kMiB).clear();
    EXPECT_EQ(HostBlocks::PeakBytes(), 64 * kMiB);
  }).join();
  EXPECT_EQ(HostBlocks::PeakBytes(), 5 * kMiB) << "its own only";
  first.clear();
  const c10::DataPtr third = blocks_.allocate(1 * kMiB);
  EXPECT_EQ(HostBlocks::PeakBytes(), 5 * kMiB);
  blocks_.Trim();
  blocks_.Release();
  EXPECT_EQ(HostBlocks::PeakBytes(), 5 * kMiB) << "what is kept is another matter";
  HostBlocks::RestartPeak();
  EXPECT_EQ(HostBlocks::PeakBytes(), 0u);
}

TEST_F(HostBlocksTest, WhatWasTakenBeforeDoesNotHideWhatIsTaken) {
  c10::DataPtr before = blocks_.allocate(8 * kMiB);
  HostBlocks::RestartPeak();
  before.clear();
  const c10::DataPtr after = blocks_.allocate(3 * kMiB);
  EXPECT_EQ(HostBlocks::PeakBytes(), 3 * kMiB);
}

TEST_F(HostBlocksTest, RawMemoryGoesTheSameWay) {
  void* const memory = blocks_.raw_allocate(4 * kMiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0u);
  EXPECT_EQ(blocks_.used_bytes(), 4 * kMiB);
  blocks_.raw_deallocate(memory);
  EXPECT_EQ(blocks_.kept_bytes(), 4 * kMiB);
  void* const small = blocks_.raw_allocate(64);
  blocks_.raw_deallocate(small);
  EXPECT_EQ(held(), 4 * kMiB);
}

TEST_F(HostBlocksTest, WhatDoesNotFitIntoMemoryLeavesTheBooksAsTheyWere) {
  blocks_.allocate(4 * kMiB).clear();
  EXPECT_ANY_THROW(blocks_.allocate(std::size_t{1} << 60));
  EXPECT_EQ(blocks_.used_bytes(), 0u);
  EXPECT_EQ(blocks_.kept_bytes(), 0u);  // given back before the second try
  // It does not count as having been in use: a new block evicts a kept one.
  blocks_.allocate(4 * kMiB).clear();
  blocks_.allocate(2 * kMiB).clear();
  EXPECT_EQ(blocks_.kept_bytes(), 2 * kMiB);
}

TEST_F(HostBlocksTest, ThreadsNeverShareABlock) {
  std::vector<std::thread> threads;
  for (unsigned char thread = 1; thread <= 4; ++thread) {
    threads.emplace_back([this, thread] {
      for (int round = 0; round < 200; ++round) {
        const std::size_t bytes = kMiB / 2 * (1 + static_cast<std::size_t>(round % 3));
        const c10::DataPtr block = blocks_.allocate(bytes);
        auto* const values = static_cast<unsigned char*>(block.get());
        std::memset(values, thread, bytes);
        for (std::size_t v = 0; v < bytes; v += 4096) ASSERT_EQ(values[v], thread);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(blocks_.used_bytes(), 0u);
}

}  // namespace
}  // namespace tomoserve::engine
