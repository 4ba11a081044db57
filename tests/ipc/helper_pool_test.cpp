#include "tomoserve/ipc/helper_pool.h"

#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "pool_fixture.h"
#include "tomoserve/ipc/header_limits.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;
using std::chrono::milliseconds;

std::string Text(const Arena& arena, std::uint32_t slot, std::size_t bytes) {
  const auto mapping = arena.Read(slot);
  EXPECT_TRUE(mapping.ok()) << mapping.status();
  return std::string(reinterpret_cast<const char*>(mapping->bytes().data()), bytes);
}

TEST_F(HelperPoolTest, HeadersComeInOrder) {
  Start();
  const auto results = ReadHeaders(std::vector(300, fake::kFine));
  ASSERT_EQ(results.size(), 300u);
  ExpectAllAnsweredBut(results, {});
  EXPECT_EQ(pool_->child_deaths(), 0u);
  EXPECT_TRUE(ReadHeaders({}).empty());
}

TEST_F(HelperPoolTest, ChildReadsTheSpool) {
  Start();
  const auto results = ReadHeaders(std::vector(20, fake::kReadsSpool));
  for (std::size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].ok()) << results[i].status();
    EXPECT_EQ(results[i]->institution(), std::string("spool content").substr(0, i + 1));
  }
}

TEST_F(HelperPoolTest, LeaseServesNoMoreItemsThanAllowed) {
  options_.lease_items = 10;
  options_.leases = 1;
  Start();
  const auto results = ReadHeaders(std::vector(95, fake::kFine));
  std::map<std::string, int> items_of_process;
  for (const auto& result : results) ++items_of_process[result->protocol_name()];
  EXPECT_EQ(items_of_process.size(), 10u);
  for (const auto& [process, items] : items_of_process) EXPECT_LE(items, 10) << process;
  EXPECT_EQ(pool_->leases_started(), 10u);
}

TEST_F(HelperPoolTest, LeaseTimeEndsALease) {
  options_.leases = 1;
  options_.lease_time = milliseconds(100);
  Start();
  const auto results = ReadHeaders(std::vector(30, fake::kSlow));  // 30 ms each
  ExpectAllAnsweredBut(results, {});
  EXPECT_GE(pool_->leases_started(), 3u);
  EXPECT_LE(pool_->leases_started(), 12u);
}

TEST_F(HelperPoolTest, NoChildServesTwoCallsAndLeasesBoundTheChildren) {
  options_.leases = 3;
  Start();
  std::atomic<bool> done = false;
  std::atomic<std::size_t> most = 0;
  std::jthread watcher([&] {
    while (!done) {
      most = std::max(most.load(), ChildrenOf(pool_->zygote_pid()).size());
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  std::mutex mutex;
  std::map<std::string, std::set<int>> calls_of_process;
  {
    std::vector<std::jthread> callers;
    for (int call = 0; call < 6; ++call) {
      callers.emplace_back([&, call] {
        for (int round = 0; round < 3; ++round) {
          const auto results = ReadHeaders(std::vector(40, fake::kFine));
          ExpectAllAnsweredBut(results, {});
          const std::lock_guard lock(mutex);
          for (const auto& result : results) {
            if (result.ok()) calls_of_process[result->protocol_name()].insert(call * 10 + round);
          }
        }
      });
    }
  }
  done = true;
  watcher.join();
  EXPECT_LE(most, 3u);
  EXPECT_GE(calls_of_process.size(), 18u);
  for (const auto& [process, calls] : calls_of_process) EXPECT_EQ(calls.size(), 1u) << process;
}

TEST_F(HelperPoolTest, DecodesIntoTheGrantedSlots) {
  Start();
  // Two memfds, so that a record's numbering differs from the arena's.
  const auto arena = Arena::Create(100ull << 20, 5, nullptr);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_GE((*arena)->fds().size(), 3u);
  std::vector<HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < 5; ++i) {
    frames.push_back({.range = Ranges({fake::kFine})[0],
                      .frame = i,
                      .slot = 4 - i,
                      .stored_type = v1::STORED_TYPE_U16,
                      .rows = 2,
                      .columns = 3});
  }
  const auto results = pool_->Decode(spool_.get(), frames, **arena);
  ASSERT_EQ(results.size(), 5u);
  for (std::uint32_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(results[i].ok()) << results[i];
    EXPECT_EQ(Text(**arena, 4 - i, 13), std::string(12, static_cast<char>('a' + i)) + '\0');
  }
}

TEST_F(HelperPoolTest, FramesThatCannotBeAskedForAreRefusedWithoutALease) {
  Start();
  const auto arena = Arena::Create(100, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  HelperPool::Frame fine{Ranges({fake::kFine})[0], 0, 0, v1::STORED_TYPE_U8, 10, 10};
  HelperPool::Frame no_slot = fine;
  no_slot.slot = 2;
  HelperPool::Frame too_large = fine;
  too_large.stored_type = v1::STORED_TYPE_U16;
  HelperPool::Frame no_type = fine;
  no_type.stored_type = v1::STORED_TYPE_UNSPECIFIED;
  HelperPool::Frame no_rows = fine;
  no_rows.rows = 0;
  HelperPool::Frame huge = fine;
  huge.rows = huge.columns = 0xFFFFFFFF;
  auto results = pool_->Decode(spool_.get(), {no_slot, too_large, no_type, no_rows, huge}, **arena);
  EXPECT_EQ(ReasonOf(results[0]), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(results[1]), "SLOT_INVALID");
  for (const std::size_t i : {2, 3, 4}) EXPECT_EQ(ReasonOf(results[i]), "FRAME_INVALID");
  EXPECT_EQ(pool_->leases_started(), 0u);
  results = pool_->Decode(spool_.get(), {no_slot, fine}, **arena);
  EXPECT_TRUE(results[1].ok()) << results[1];
}

TEST_F(HelperPoolTest, HeadersWithFramesInSeveralRecordsAreJoined) {
  Start();
  const auto results = ReadHeaders(FineBut(20, {{7, fake::kFrameParts}, {8, fake::kFrameParts}}));
  ExpectAllAnsweredBut(results, {});
  for (std::size_t item = 0; item < results.size(); ++item) {
    const bool has_frames = item == 7 || item == 8;
    ASSERT_EQ(results[item]->frame_size(), has_frames ? 5 : 0) << item;
    for (int n = 1; n < results[item]->frame_size(); ++n) {
      EXPECT_EQ(std::stoi(results[item]->frame(n).stack_id()),
                std::stoi(results[item]->frame(n - 1).stack_id()) + 1);
    }
  }
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperPoolTest, HeadersBehindThoseThatFillTheMemoryAreLeftForAnotherCall) {
  Start();
  const std::vector<v1::SpoolRange> small = Ranges(std::vector(300, fake::kFine));
  EXPECT_EQ(pool_->ReadHeadersWithin(spool_.get(), small, 8u << 20).size(), 300u);

  std::vector<fake::Behaviour> behaviours(60, fake::kLargeHeader);
  std::fill(behaviours.begin(), behaviours.begin() + 10, fake::kFine);
  const std::vector<v1::SpoolRange> ranges = Ranges(behaviours);
  const auto results = pool_->ReadHeadersWithin(spool_.get(), ranges, 8u << 20);
  ASSERT_GT(results.size(), 0u);
  EXPECT_LT(results.size(), 20u);
  std::uint64_t held = 0;
  for (std::size_t item = 0; item < results.size(); ++item) {
    ExpectAnswered(results, item);
    EXPECT_EQ(results[item]->frame_size(), behaviours[item] == fake::kFine ? 0 : 1000);
    held += HeldBytes(*results[item]);
  }
  EXPECT_LE(held, 8u << 20);
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperPoolTest, TheFirstHeaderIsReadHoweverLarge) {
  Start();
  for (int call = 0; call < 10; ++call) {
    const auto results =
        pool_->ReadHeadersWithin(spool_.get(), Ranges(std::vector(20, fake::kLargeHeader)), 1000);
    ASSERT_EQ(results.size(), 1u);
    ExpectAnswered(results, 0);
    EXPECT_EQ(results[0]->frame_size(), 1000);
  }
}

// Items are asked for several in a record, which brings the descriptors of all of them.
TEST_F(HelperPoolTest, FramesOfSeveralMemfdsGoIntoTheirOwnSlots) {
  options_.leases = 1;
  Start();
  const auto arena = Arena::Create(kMaxMemfdBytes / 2, 6, nullptr);
  ASSERT_TRUE(arena.ok());
  ASSERT_EQ((*arena)->fds().size(), 3u);
  std::vector<HelperPool::Frame> frames;
  for (const std::uint32_t slot : {4u, 0u, 1u, 5u, 2u, 3u}) {
    frames.push_back({Ranges({fake::kFine})[0], slot, slot, v1::STORED_TYPE_U8, 1, 9});
  }
  for (const absl::Status& status : pool_->Decode(spool_.get(), frames, **arena)) {
    EXPECT_TRUE(status.ok()) << status;
  }
  for (std::uint32_t slot = 0; slot < 6; ++slot) {
    EXPECT_EQ(Text(**arena, slot, 10), std::string(9, static_cast<char>('a' + slot)) + '\0');
  }
}

TEST_F(HelperPoolTest, TilesAreAskedForWithTheirOwnSize) {
  Start();
  const auto arena = Arena::Create(100, 3, nullptr);
  ASSERT_TRUE(arena.ok());
  v1::Tile tile;
  tile.set_first_row(90);
  tile.set_first_column(4);
  tile.set_rows(10);
  tile.set_columns(2);
  HelperPool::Frame inside{Ranges({fake::kFine})[0], 2, 0, v1::STORED_TYPE_U16, 100, 6, tile};
  HelperPool::Frame outside = inside;
  outside.slot = 1;
  outside.tile->set_rows(11);
  HelperPool::Frame empty = inside;
  empty.slot = 2;
  empty.tile->set_columns(0);
  HelperPool::Frame overflows = empty;
  overflows.tile->set_columns(2);
  overflows.tile->set_first_column(0xFFFFFFFF);
  const auto results = pool_->Decode(spool_.get(), {inside, outside, empty, overflows}, **arena);
  EXPECT_TRUE(results[0].ok()) << results[0];
  EXPECT_EQ(Text(**arena, 0, 41), std::string(40, 'c') + '\0');
  for (const std::size_t i : {1, 2, 3}) EXPECT_EQ(ReasonOf(results[i]), "FRAME_INVALID") << i;
}

TEST_F(HelperPoolTest, WritesFilesFromPixels) {
  Start();
  const auto pixels = Arena::Create(4, 3, nullptr);
  const auto files = Arena::Create(10'000, 3, nullptr);
  ASSERT_TRUE(pixels.ok() && files.ok());
  std::vector<HelperPool::Write> items(3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    const v1::Slot slot = (*pixels)->slot(i);
    auto mapping = Mapping::Map((*pixels)->fds()[0], slot.offset(), slot.bytes(), true);
    ASSERT_TRUE(mapping.ok());
    mapping->bytes()[0] = static_cast<std::byte>(i + 1);
    items[i].instance.set_sop_instance_uid("1.2." + std::to_string(i));
    items[i].instance.set_rows(1);
    items[i].instance.set_columns(2);
    items[i].instance.set_stored_type(v1::STORED_TYPE_I16);
    items[i].pixel_slot = i;
    items[i].file_slot = 2 - i;
  }
  items[2].instance.set_instance_number(fake::kWrongBytes);
  const auto results = pool_->WriteInstances(items, **pixels, **files);
  ASSERT_TRUE(results[0].ok()) << results[0].status();
  EXPECT_EQ(Text(**files, 2, *results[0]), "1.2.0 1");
  ASSERT_TRUE(results[1].ok()) << results[1].status();
  EXPECT_EQ(Text(**files, 1, *results[1]), "1.2.1 2");
  EXPECT_EQ(ReasonOf(results[2].status()), "HELPER_LIED");
}

TEST_F(HelperPoolTest, ItemLargerThanARecordIsRefusedAlone) {
  Start();
  const auto arena = Arena::Create(4096, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<HelperPool::Write> items(3);
  for (HelperPool::Write& item : items) {
    item.instance.set_rows(1);
    item.instance.set_columns(1);
    item.instance.set_stored_type(v1::STORED_TYPE_U16);
    item.instance.set_sop_instance_uid("1.2.3");
    item.file_slot = 1;
  }
  items[1].instance.set_series_description(std::string(kMaxRecordBytes, 'x'));
  const auto results = pool_->WriteInstances(items, **arena, **arena);
  EXPECT_TRUE(results[0].ok()) << results[0].status();
  EXPECT_EQ(ReasonOf(results[1].status()), "RECORD_TOO_LARGE");
  EXPECT_TRUE(results[2].ok()) << results[2].status();
}

TEST_F(HelperPoolTest, CancelledCallStopsBetweenLeases) {
  options_.leases = 1;
  options_.lease_items = 10;
  Start();
  const auto arena = Arena::Create(4096, 1, nullptr);
  ASSERT_TRUE(arena.ok());
  const std::vector<HelperPool::Frame> frames(
      35, HelperPool::Frame{Ranges({fake::kFine})[0], 0, 0, v1::STORED_TYPE_U8, 1, 1});
  int asked = 0;
  const auto results = pool_->Decode(spool_.get(), frames, **arena, [&] { return ++asked > 2; });
  int decoded = 0;
  for (const absl::Status& result : results) {
    if (result.ok()) {
      ++decoded;
    } else {
      EXPECT_EQ(result.code(), absl::StatusCode::kCancelled);
    }
  }
  EXPECT_EQ(decoded, 20);
}

TEST_F(HelperPoolTest, UnusableOptionsAndProgramsAreTypedErrors) {
  options_.leases = 0;
  EXPECT_EQ(ReasonOf(HelperPool::Start(options_).status()), "HELPER_OPTIONS_INVALID");
  options_.leases = 1;
  options_.program = "/nonexistent";
  EXPECT_EQ(ReasonOf(HelperPool::Start(options_).status()), "HELPER_UNAVAILABLE");
}

TEST_F(HelperPoolTest, ProgramThatEndsAtOnceMakesItemsUnavailable) {
  options_.program = "/bin/true";
  Start();
  const auto results = ReadHeaders(std::vector(20, fake::kFine));
  for (const auto& result : results) {
    EXPECT_EQ(ReasonOf(result.status()), "HELPER_UNAVAILABLE");
    EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  }
}

TEST_F(HelperPoolTest, NothingIsLeftAfterManyCalls) {
  const std::size_t descriptors = OpenDescriptors();
  const std::size_t children = ChildrenOf(::getpid()).size();
  Start();
  const std::size_t running = OpenDescriptors();
  const auto start = std::chrono::steady_clock::now();
  for (int call = 0; call < 200; ++call) {
    // One call in ten has a child die.
    const auto results = ReadHeaders(FineBut(12, {{5, call % 10 == 0 ? fake::kAbort : fake::kFine}}));
    ExpectAllAnsweredBut(results, {5});
  }
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("milliseconds_per_lease", std::to_string(ms / static_cast<double>(pool_->leases_started())));
  EXPECT_EQ(OpenDescriptors(), running);
  EXPECT_TRUE(ChildrenOf(pool_->zygote_pid()).empty());
  EXPECT_EQ(ChildrenOf(::getpid()).size(), children + 1);
  pool_.reset();
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_EQ(ChildrenOf(::getpid()).size(), children);
}

}  // namespace
}  // namespace tomoserve::ipc
