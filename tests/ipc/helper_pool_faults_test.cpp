#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <string>
#include <thread>

#include "pool_fixture.h"
#include "tomoserve/ipc/refused_identity.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;
using base::ValueOf;
using std::chrono::milliseconds;

// The most memory that this process has held so far.
std::uint64_t PeakBytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

TEST_F(HelperPoolTest, RefusalIsThatItemsStatus) {
  Start();
  const auto results = ReadHeaders(FineBut(20, {{7, fake::kRefuse}}));
  ExpectAllAnsweredBut(results, {7});
  EXPECT_EQ(ReasonOf(results[7].status()), "NOT_DICOM");
  EXPECT_EQ(ValueOf(results[7].status()), "7");
  EXPECT_EQ(results[7].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RefusedIdentity(results[7].status()).series_instance_uid(), "1.2.3");
  EXPECT_EQ(RefusedIdentity(results[7].status()).code(), "");
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperPoolTest, PoisonIsFoundAndTheOthersAreUnharmed) {
  Start();
  const auto results = ReadHeaders(FineBut(100, {{0, fake::kAbort}, {13, fake::kAbort}, {99, fake::kAbort}}));
  ExpectAllAnsweredBut(results, {0, 13, 99});
  for (const std::size_t item : {0, 13, 99}) {
    EXPECT_EQ(ReasonOf(results[item].status()), "HELPER_CRASHED");
    EXPECT_EQ(ValueOf(results[item].status()), std::to_string(SIGABRT));
  }
  // Each alone, after one in company at least: a child may have had several of them in hand when it died.
  EXPECT_GE(pool_->child_deaths(), 4u);
}

// OpenJPH ends its process on codestreams that OpenJPEG refuses or even reads.
TEST_F(HelperPoolTest, AHighThroughputFrameThatKillsTwiceIsAskedForOnceMoreByTheSlowCodec) {
  Start();
  const auto arena = Arena::Create(6, 8, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<HelperPool::Frame> frames;
  for (std::uint32_t n = 0; n < 8; ++n) {
    HelperPool::Frame& frame = frames.emplace_back();
    frame.slot = n;
    frame.stored_type = v1::STORED_TYPE_U8;
    frame.rows = 2;
    frame.columns = 3;
    frame.high_throughput = n != 5;
  }
  frames[2].range.set_offset(fake::kAbortUnlessSlow);
  frames[5].range.set_offset(fake::kAbortUnlessSlow);
  frames[6].range.set_offset(fake::kAbort);
  const auto results = pool_->Decode(spool_.get(), frames, **arena);
  for (const std::size_t n : {0, 1, 2, 3, 4, 7}) EXPECT_TRUE(results[n].ok()) << n << results[n];
  EXPECT_EQ(ReasonOf(results[5]), "HELPER_CRASHED") << "there is no slow codec for it";
  EXPECT_EQ(ReasonOf(results[6]), "HELPER_CRASHED") << "neither decoder survives it";
}

TEST_F(HelperPoolTest, ItemThatDiesOnlyInCompanyIsAnsweredAlone) {
  Start();
  const auto results =
      ReadHeaders(FineBut(30, {{4, fake::kAbortUnlessFirst}, {20, fake::kAbortUnlessFirst}}));
  ExpectAllAnsweredBut(results, {});
  EXPECT_GE(pool_->child_deaths(), 1u);
}

TEST_F(HelperPoolTest, EveryWayToDieIsACrash) {
  Start();
  for (const fake::Behaviour behaviour :
       {fake::kSegfault, fake::kThrow, fake::kReturn, fake::kFramesThenAbort}) {
    const auto results = ReadHeaders(FineBut(12, {{6, behaviour}}));
    ExpectAllAnsweredBut(results, {6});
    EXPECT_EQ(ReasonOf(results[6].status()), "HELPER_CRASHED") << behaviour;
  }
}

TEST_F(HelperPoolTest, CallThatTheFilterForbidsIsACrash) {
#ifdef TOMOSERVE_SANITIZED
  GTEST_SKIP() << "the filter is left out of sanitizer builds";
#endif
  Start();
  const auto results = ReadHeaders(FineBut(12, {{6, fake::kForbiddenCall}}));
  ExpectAllAnsweredBut(results, {6});
  EXPECT_EQ(ReasonOf(results[6].status()), "HELPER_CRASHED");
  EXPECT_EQ(ValueOf(results[6].status()), std::to_string(SIGSYS));
}

TEST_F(HelperPoolTest, MemoryBombIsACrashOfItsItem) {
#ifdef TOMOSERVE_SANITIZED
  GTEST_SKIP() << "memory is not limited in sanitizer builds";
#endif
  options_.memory_bytes = 512u << 20;
  Start();
  const auto results = ReadHeaders(FineBut(12, {{6, fake::kEatMemory}}));
  ExpectAllAnsweredBut(results, {6});
  EXPECT_EQ(ReasonOf(results[6].status()), "HELPER_CRASHED");
}

TEST_F(HelperPoolTest, HangIsATimeoutAndTheOthersAreUnharmed) {
  options_.item_timeout = milliseconds(400);
  Start();
  for (const fake::Behaviour behaviour : {fake::kSpin, fake::kSleep}) {
    const auto start = std::chrono::steady_clock::now();
    const auto results = ReadHeaders(FineBut(20, {{2, behaviour}, {15, behaviour}}));
    ExpectAllAnsweredBut(results, {2, 15});
    for (const std::size_t item : {2, 15}) {
      EXPECT_EQ(ReasonOf(results[item].status()), "HELPER_TIMEOUT");
      EXPECT_EQ(results[item].status().code(), absl::StatusCode::kDeadlineExceeded);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    EXPECT_TRUE(ChildrenOf(pool_->zygote_pid()).empty());
  }
}

TEST_F(HelperPoolTest, ChildThatHangsUpAndStaysIsKilledAndBlamed) {
  Start();
  const auto results = ReadHeaders(FineBut(3, {{1, fake::kCloseAndStay}}));
  ExpectAllAnsweredBut(results, {1});
  EXPECT_EQ(ReasonOf(results[1].status()), "HELPER_CRASHED");
  EXPECT_TRUE(ChildrenOf(pool_->zygote_pid()).empty());
}

TEST_F(HelperPoolTest, ProcessorTimeIsLimited) {
  options_.cpu_seconds = 1;
  Start();
  const auto results = ReadHeaders({fake::kFine, fake::kSpin, fake::kFine});
  ExpectAllAnsweredBut(results, {1});
  EXPECT_EQ(ReasonOf(results[1].status()), "HELPER_TIMEOUT");
}

TEST_F(HelperPoolTest, LiesAreFoundAndTheOthersAreUnharmed) {
  Start();
  for (const fake::Behaviour lie :
       {fake::kTooFewFrames, fake::kFramesInBoth, fake::kEmptyPart, fake::kEndlessParts, fake::kLongTexts,
        fake::kEndlessBytes, fake::kWrongIndex, fake::kWrongKind, fake::kNotFinite, fake::kBadCode,
        fake::kGarbage, fake::kOversize, fake::kSendsDescriptor}) {
    const std::size_t descriptors = OpenDescriptors();
    const auto results = ReadHeaders(FineBut(20, {{9, lie}}));
    ExpectAllAnsweredBut(results, {9});
    EXPECT_EQ(ReasonOf(results[9].status()), "HELPER_LIED") << lie;
    EXPECT_EQ(OpenDescriptors(), descriptors);
  }
}

TEST_F(HelperPoolTest, FramesAreBelievedUpToALimitOfBytes) {
  Start();
  const std::uint64_t before = PeakBytes();
  const auto results = ReadHeaders(std::vector(16, fake::kEndlessBytes));
  for (const auto& result : results) EXPECT_EQ(ReasonOf(result.status()), "HELPER_LIED");
#ifndef TOMOSERVE_SANITIZED
  // Two leases at a time; 65,536 frames of each would be 70 MiB encoded, and more in memory.
  EXPECT_LT(PeakBytes() - before, 160u << 20);
#else
  (void)before;
#endif
}

TEST_F(HelperPoolTest, FramesOfARefusedHeaderAreNobodyElses) {
  options_.leases = 1;
  Start();
  const auto results = ReadHeaders(FineBut(6, {{2, fake::kFramesThenRefuse}, {3, fake::kFrameParts}}));
  ExpectAllAnsweredBut(results, {2});
  EXPECT_EQ(ReasonOf(results[2].status()), "TRUNCATED");
  EXPECT_EQ(results[3]->frame_size(), 5);
  EXPECT_EQ(results[4]->frame_size(), 0);
}

TEST_F(HelperPoolTest, FramesInAnswerToADecodeJobAreALie) {
  Start();
  const auto arena = Arena::Create(100, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  const auto results = pool_->Decode(spool_.get(),
                                     {{Ranges({fake::kFrameParts})[0], 0, 0, v1::STORED_TYPE_U8, 10, 10},
                                      {Ranges({fake::kFine})[0], 0, 1, v1::STORED_TYPE_U8, 10, 10}},
                                     **arena);
  EXPECT_EQ(ReasonOf(results[0]), "HELPER_LIED");
  EXPECT_TRUE(results[1].ok()) << results[1];
}

TEST_F(HelperPoolTest, SecondAnswerIsALieAboutTheNextItem) {
  options_.leases = 1;
  Start();
  const auto results = ReadHeaders(FineBut(6, {{2, fake::kSendsTwice}}));
  ExpectAllAnsweredBut(results, {3});
  EXPECT_EQ(ReasonOf(results[3].status()), "HELPER_LIED");
}

TEST_F(HelperPoolTest, EmptyRecordIsADeath) {
  // It cannot be told from the end of the socket.
  Start();
  const auto results = ReadHeaders(FineBut(6, {{2, fake::kEmptyRecord}}));
  ExpectAllAnsweredBut(results, {2});
  EXPECT_EQ(ReasonOf(results[2].status()), "HELPER_CRASHED");
}

TEST_F(HelperPoolTest, LiesAboutSlotsAreFound) {
  Start();
  const auto arena = Arena::Create(4096, 20, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < 20; ++i) {
    frames.push_back({Ranges({fake::kFine})[0], i, i, v1::STORED_TYPE_U8, 10, 10});
  }
  const std::vector<std::pair<std::size_t, fake::Behaviour>> lies = {
      {3, fake::kOtherSlot}, {9, fake::kWrongBytes}, {14, fake::kWrongKind}};
  for (const auto& [item, lie] : lies) frames[item].range.set_offset(lie);
  const auto results = pool_->Decode(spool_.get(), frames, **arena);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const bool lied = frames[i].range.offset() != fake::kFine;
    EXPECT_EQ(lied ? ReasonOf(results[i]) : results[i].ToString(), lied ? "HELPER_LIED" : "OK") << i;
  }
}

// Runs a slow call while `disturb` acts on the zygote's first child or the zygote.
class DisturbedPoolTest : public HelperPoolTest {
 protected:
  std::vector<HeaderResult> ReadWhile(const std::vector<fake::Behaviour>& behaviours,
                                      const std::function<void()>& disturb) {
    std::vector<HeaderResult> results;
    std::jthread caller([&] { results = ReadHeaders(behaviours); });
    disturb();
    caller.join();
    return results;
  }
  // Sends `signal` to a running child, once there is one that does not ignore it: just forked, it has the
  // zygote's handlers.
  void SignalAChild(int signal) {
    ASSERT_TRUE(Eventually([&] {
      const std::vector<pid_t> children = ChildrenOf(pool_->zygote_pid());
      return !children.empty() && !Ignores(children[0], signal) && ::kill(children[0], signal) == 0;
    }));
  }
  static bool Ignores(pid_t pid, int signal) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    std::string word;
    std::uint64_t ignored = ~std::uint64_t{0};
    while (status >> word) {
      if (word == "SigIgn:") status >> std::hex >> ignored;
    }
    return (ignored >> (signal - 1) & 1) != 0;
  }
};

TEST_F(DisturbedPoolTest, ChildKilledFromOutsideIsNoStrike) {
  options_.leases = 1;
  Start();
  ExpectAllAnsweredBut(ReadHeaders({fake::kFine}), {});  // the zygote is up
  for (const int signal : {SIGKILL, SIGTERM}) {
    const std::uint64_t before = pool_->child_deaths();
    const auto results = ReadWhile(std::vector(20, fake::kSlow), [&] {
      SignalAChild(signal);
      std::this_thread::sleep_for(milliseconds(100));
    });
    ExpectAllAnsweredBut(results, {});
    EXPECT_EQ(pool_->child_deaths(), before + 1);
  }
}

TEST_F(DisturbedPoolTest, ItemThatIsKilledThreeTimesIsRefused) {
  options_.leases = 1;
  Start();
  ExpectAllAnsweredBut(ReadHeaders({fake::kFine}), {});  // the zygote is up
  const auto results = ReadWhile({fake::kSleep}, [&] {
    for (std::uint64_t death = 1; death <= 3; ++death) {
      SignalAChild(SIGKILL);
      ASSERT_TRUE(Eventually([&] { return pool_->child_deaths() == death; }));
    }
  });
  EXPECT_EQ(ReasonOf(results[0].status()), "HELPER_CRASHED");
  EXPECT_EQ(ValueOf(results[0].status()), std::to_string(SIGKILL));
}

TEST_F(DisturbedPoolTest, KilledZygoteIsStartedAgainAndNoItemIsLost) {
  Start();
  const pid_t first = pool_->zygote_pid();
  const auto results = ReadWhile(std::vector(40, fake::kSlow), [&] {
    ASSERT_TRUE(Eventually([&] { return !ChildrenOf(first).empty(); }));
    std::this_thread::sleep_for(milliseconds(50));
    ::kill(first, SIGKILL);
  });
  ExpectAllAnsweredBut(results, {});
  EXPECT_NE(pool_->zygote_pid(), first);
  const std::vector<pid_t> own = ChildrenOf(::getpid());
  EXPECT_EQ(std::count(own.begin(), own.end(), first), 0);
}

TEST_F(DisturbedPoolTest, ZygoteKilledBetweenCallsIsStartedAgain) {
  Start();
  for (int round = 0; round < 3; ++round) {
    ExpectAllAnsweredBut(ReadHeaders(std::vector(10, fake::kFine)), {});
    ::kill(pool_->zygote_pid(), SIGKILL);
  }
  ExpectAllAnsweredBut(ReadHeaders(std::vector(10, fake::kFine)), {});
}

TEST_F(DisturbedPoolTest, StoppedZygoteIsKilledAndStartedAgain) {
  options_.item_timeout = milliseconds(300);
  Start();
  const pid_t first = pool_->zygote_pid();
  ::kill(first, SIGSTOP);
  ExpectAllAnsweredBut(ReadHeaders(std::vector(10, fake::kFine)), {});
  EXPECT_NE(pool_->zygote_pid(), first);
}

TEST_F(DisturbedPoolTest, ManyKillsDuringManyCallsLoseNothing) {
  options_.leases = 2;
  Start();
  ExpectAllAnsweredBut(ReadHeaders({fake::kFine}), {});  // the zygote is up
  std::atomic<bool> done = false;
  std::atomic<int> kills = 0;
  std::jthread killer([&] {
    while (!done) {
      std::this_thread::sleep_for(milliseconds(60));
      for (const pid_t child : ChildrenOf(pool_->zygote_pid())) {
        if (::kill(child, SIGKILL) == 0) ++kills;
        break;
      }
    }
  });
  std::atomic<int> lost = 0;
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&] {
        for (int call = 0; call < 5; ++call) {
          for (const auto& result : ReadHeaders(std::vector(12, fake::kSlow))) {
            // An item may be in hand of three killed children in a row; anything else is an error.
            if (!result.ok() && ValueOf(result.status()) != std::to_string(SIGKILL)) ++lost;
          }
        }
      });
    }
  }
  done = true;
  killer.join();
  EXPECT_EQ(lost, 0);
  EXPECT_GE(kills, 5);
  ExpectAllAnsweredBut(ReadHeaders(std::vector(30, fake::kFine)), {});
}

}  // namespace
}  // namespace tomoserve::ipc
