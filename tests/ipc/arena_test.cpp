#include "tomoserve/ipc/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "processes.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;

constexpr std::uint64_t kPage = 4096;

std::uint64_t SizeOf(int fd) {
  struct stat file {};
  EXPECT_EQ(::fstat(fd, &file), 0);
  return static_cast<std::uint64_t>(file.st_size);
}

TEST(SealedMemfdTest, HasItsSizeAndCannotChangeIt) {
  const auto memfd = CreateSealedMemfd("test", 3 * kPage);
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  EXPECT_EQ(SizeOf(memfd->get()), 3 * kPage);
  const int seals = ::fcntl(memfd->get(), F_GET_SEALS);
  for (const int seal : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) EXPECT_NE(seals & seal, 0);
  EXPECT_NE(::ftruncate(memfd->get(), kPage), 0);
  EXPECT_NE(::ftruncate(memfd->get(), 4 * kPage), 0);
  EXPECT_NE(::fcntl(memfd->get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  EXPECT_NE(::fcntl(memfd->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(SealedMemfdTest, AbsurdSizeIsRefused) {
  EXPECT_EQ(ReasonOf(CreateSealedMemfd("test", ~0ull).status()), "HOST_MEMORY");
}

TEST(MappingTest, SharesBytesAndMoves) {
  const auto memfd = CreateSealedMemfd("test", 2 * kPage);
  ASSERT_TRUE(memfd.ok());
  auto writer = Mapping::Map(memfd->get(), kPage, 100, true);
  auto reader = Mapping::Map(memfd->get(), kPage, 100, false);
  ASSERT_TRUE(writer.ok() && reader.ok());
  ASSERT_EQ(writer->bytes().size(), 100u);
  writer->bytes()[99] = std::byte{42};
  const Mapping moved = std::move(*reader);
  EXPECT_EQ(moved.bytes()[99], std::byte{42});
  EXPECT_TRUE(reader->bytes().empty());
  *writer = Mapping();
  EXPECT_TRUE(writer->bytes().empty());
}

TEST(MappingTest, RangeOutsideTheFileIsRefused) {
  const auto memfd = CreateSealedMemfd("test", 2 * kPage);
  ASSERT_TRUE(memfd.ok());
  const int fd = memfd->get();
  EXPECT_TRUE(Mapping::Map(fd, 0, 2 * kPage, true).ok());
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, 0, 2 * kPage + 1, true).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, 2 * kPage, 1, true).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, 4 * kPage, 1, true).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, kPage, ~0ull, true).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, ~0ull - kPage + 1, kPage, true).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(fd, 0, 0, true).status()), "SLOT_INVALID");
}

TEST(MappingTest, RangeThatDoesNotBeginAtAPageIsRefused) {
  const auto memfd = CreateSealedMemfd("test", 2 * kPage);
  ASSERT_TRUE(memfd.ok());
  EXPECT_EQ(ReasonOf(Mapping::Map(memfd->get(), 1, 1, true).status()), "SLOT_INVALID");
}

TEST(MappingTest, FileThatCouldShrinkIsRefusedUnlessAllowed) {
  const base::UniqueFd memfd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memfd.get(), kPage), 0);
  EXPECT_EQ(ReasonOf(Mapping::Map(memfd.get(), 0, kPage, false).status()), "SLOT_INVALID");
  EXPECT_TRUE(Mapping::Map(memfd.get(), 0, kPage, false, false).ok());
}

TEST(MappingTest, DescriptorThatIsNoFileIsRefused) {
  auto pair = RecordSocket::Pair();
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(ReasonOf(Mapping::Map(pair->first.fd(), 0, kPage, false, false).status()), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf(Mapping::Map(-1, 0, kPage, false, false).status()), "SLOT_INVALID");
}

TEST(HostLedgerTest, TakesUpToItsLimitAndGivesBack) {
  HostLedger ledger(100);
  EXPECT_TRUE(ledger.Take(60).ok());
  const absl::Status refused = ledger.Take(41);
  EXPECT_EQ(ReasonOf(refused), "HOST_MEMORY");
  EXPECT_EQ(base::ValueOf(refused), "41");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(ledger.Take(~0ull)), "HOST_MEMORY");
  EXPECT_TRUE(ledger.Take(40).ok());
  EXPECT_EQ(ledger.used(), 100u);
  ledger.Give(60);
  EXPECT_EQ(ledger.used(), 40u);
}

TEST(HostLedgerTest, NeverExceedsItsLimitUnderContention) {
  HostLedger ledger(10);
  std::atomic<bool> exceeded = false;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        if (!ledger.Take(4).ok()) continue;
        if (ledger.used() > ledger.limit()) exceeded = true;
        ledger.Give(4);
      }
    });
  }
  threads.clear();
  EXPECT_FALSE(exceeded);
  EXPECT_EQ(ledger.used(), 0u);
}

TEST(ArenaTest, SlotsArePageAlignedDisjointAndInsideTheirMemfd) {
  // 512 x 512 x 16 bit = 128 pages; one page more makes slots that do not divide 256 MiB.
  const std::uint64_t slot_bytes = 512 * 512 * 2 + 1;
  const auto arena = Arena::Create(slot_bytes, 1100, nullptr);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const std::vector<int> fds = (*arena)->fds();
  ASSERT_EQ(fds.size(), 3u);
  std::uint32_t memfd = 0;
  std::uint64_t end = 0;
  for (std::uint32_t i = 0; i < (*arena)->slots(); ++i) {
    const v1::Slot slot = (*arena)->slot(i);
    EXPECT_EQ(slot.bytes(), slot_bytes);
    ASSERT_EQ(slot.offset() % kPage, 0u);
    if (slot.arena() != memfd) {
      ASSERT_EQ(slot.arena(), memfd + 1);
      memfd = slot.arena();
      end = 0;
    }
    ASSERT_GE(slot.offset(), end);
    end = slot.offset() + slot.bytes();
    ASSERT_LE(end, SizeOf(fds[memfd]));
  }
  for (const int fd : fds) {
    EXPECT_LE(SizeOf(fd), kMaxMemfdBytes);
    EXPECT_NE(::fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK, 0);
  }
}

TEST(ArenaTest, SlotLargerThanAMemfdsUsualSizeHasOneOfItsOwn) {
  const std::uint64_t slot_bytes = 512ull << 20;
  const auto arena = Arena::Create(slot_bytes, 3, nullptr);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_EQ((*arena)->fds().size(), 3u);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*arena)->slot(i).arena(), i);
    EXPECT_EQ((*arena)->slot(i).offset(), 0u);
    EXPECT_EQ(SizeOf((*arena)->fds()[i]), slot_bytes);
  }
}

TEST(ArenaTest, NeedsNoMoreThanOneRecordsDescriptors) {
  // Beside a label map, a region's label map and a large message.
  EXPECT_TRUE(Arena::Create(kMaxMemfdBytes, 29, nullptr).ok());
  const auto refused = Arena::Create(kMaxMemfdBytes, 30, nullptr);
  EXPECT_EQ(ReasonOf(refused.status()), "ARENA_TOO_LARGE");
  EXPECT_EQ(ReasonOf(Arena::Create(~0ull, 1, nullptr).status()), "ARENA_TOO_LARGE");
  EXPECT_EQ(ReasonOf(Arena::Create(0, 1, nullptr).status()), "ARENA_EMPTY");
  EXPECT_EQ(ReasonOf(Arena::Create(1, 0, nullptr).status()), "ARENA_EMPTY");
}

TEST(ArenaTest, CountsWholePagesInTheLedgerAndGivesThemBack) {
  HostLedger ledger(10 * kPage);
  const std::size_t before = OpenDescriptors();
  {
    const auto arena = Arena::Create(kPage + 1, 4, &ledger);
    ASSERT_TRUE(arena.ok());
    EXPECT_EQ(ledger.used(), 8 * kPage);
    EXPECT_EQ(ReasonOf(Arena::Create(kPage, 3, &ledger).status()), "HOST_MEMORY");
    EXPECT_EQ(ledger.used(), 8 * kPage);
  }
  EXPECT_EQ(ledger.used(), 0u);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(ArenaTest, PagesOfASlotAreMadeZeroedAndOnlyThose) {
  const auto arena = Arena::Create(5 * kPage + 1, 3, nullptr);
  ASSERT_TRUE(arena.ok());
  const int fd = (*arena)->fds()[0];
  const v1::Slot slot = (*arena)->slot(1);
  auto writer = Mapping::Map(fd, slot.offset(), slot.bytes(), true);
  ASSERT_TRUE(writer.ok());
  writer->bytes()[5 * kPage] = std::byte{7};
  ASSERT_TRUE((*arena)->MakePages(1, 5 * kPage + 1).ok());
  struct stat file {};
  ASSERT_EQ(::fstat(fd, &file), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(file.st_blocks) * 512, 6 * kPage);
  for (const std::byte byte : writer->bytes()) ASSERT_EQ(byte, std::byte{0});
}

TEST(ArenaTest, PagesOutsideASlotAreRefused) {
  const auto arena = Arena::Create(kPage, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(ReasonOf((*arena)->MakePages(2, 1)), "SLOT_INVALID");
  EXPECT_EQ(ReasonOf((*arena)->MakePages(1, kPage + 1)), "SLOT_INVALID");
}

TEST(ArenaTest, ReadsTheSlotThatAnotherMappingWrote) {
  const auto arena = Arena::Create(100, 5, nullptr);
  ASSERT_TRUE(arena.ok());
  const v1::Slot slot = (*arena)->slot(3);
  auto writer = Mapping::Map((*arena)->fds()[slot.arena()], slot.offset(), slot.bytes(), true);
  ASSERT_TRUE(writer.ok());
  std::memset(writer->bytes().data(), 7, 100);
  const auto read = (*arena)->Read(3);
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->bytes().size(), 100u);
  EXPECT_EQ(read->bytes()[99], std::byte{7});
  const auto other = (*arena)->Read(2);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(other->bytes()[0], std::byte{0});
  EXPECT_EQ(ReasonOf((*arena)->Read(5).status()), "SLOT_INVALID");
}

}  // namespace
}  // namespace tomoserve::ipc
