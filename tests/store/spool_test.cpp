#include "tomoserve/store/spool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <optional>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto spool = Spool::Open(folder_.path() + "/spool");
    ASSERT_TRUE(spool.ok()) << spool.status();
    spool_ = *std::move(spool);
  }
  std::string PathOf(const std::string& id) const { return folder_.path() + "/spool/" + id + ".spool"; }
  SpoolWriter Writer(const std::string& id) {
    auto writer = spool_->OpenWriter(id);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return *std::move(writer);
  }
  static SpoolRecord Write(SpoolWriter& writer, const std::string& key, const std::string& payload) {
    EXPECT_EQ(writer.Begin(key, payload.size()), absl::OkStatus());
    for (std::size_t at = 0; at < payload.size(); at += 100) {
      EXPECT_EQ(writer.Append(std::string_view(payload).substr(at, 100)), absl::OkStatus());
    }
    auto record = writer.End();
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? *record : SpoolRecord();
  }
  std::string Bytes(const std::string& id) const {
    std::ifstream file(PathOf(id), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void SetBytes(const std::string& id, const std::string& bytes) const {
    std::ofstream(PathOf(id), std::ios::binary | std::ios::trunc) << bytes;
  }
  std::vector<std::string> Keys(const std::string& id) const {
    std::vector<std::string> keys;
    auto records = spool_->Scan(id);
    EXPECT_TRUE(records.ok()) << records.status();
    if (records.ok()) {
      for (const SpoolRecord& record : *records) keys.push_back(record.instance_key);
    }
    return keys;
  }

  TemporaryFolder folder_;
  std::optional<Spool> spool_;
};

std::string Payload(std::size_t size, char seed) {
  std::string payload(size, '\0');
  for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(seed + static_cast<char>(i * 7));
  return payload;
}

TEST_F(SpoolTest, RecordsComeBackWithPlaceAndDigest) {
  SpoolWriter writer = Writer("s1");
  const SpoolRecord first = Write(writer, "a", Payload(350, 1));
  const SpoolRecord second = Write(writer, "b", Payload(40, 2));
  const SpoolRecord empty = Write(writer, "c", "");
  EXPECT_EQ(writer.Sync(), absl::OkStatus());
  EXPECT_EQ(first.sha256, base::Sha256Hex(Payload(350, 1)));

  const auto scanned = spool_->Scan("s1");
  ASSERT_TRUE(scanned.ok()) << scanned.status();
  ASSERT_EQ(scanned->size(), 3u);
  const std::string bytes = Bytes("s1");
  EXPECT_EQ(bytes.size(), writer.bytes());
  for (const auto& [written, read] :
       {std::pair(first, (*scanned)[0]), std::pair(second, (*scanned)[1]), std::pair(empty, (*scanned)[2])}) {
    EXPECT_EQ(read.instance_key, written.instance_key);
    EXPECT_EQ(read.offset, written.offset);
    EXPECT_EQ(read.length, written.length);
    EXPECT_EQ(read.sha256, written.sha256);
    EXPECT_EQ(base::Sha256Hex(bytes.substr(read.offset, read.length)), read.sha256);
  }
}

TEST_F(SpoolTest, ReadOnlyDescriptorCannotWrite) {
  SpoolWriter writer = Writer("s1");
  const SpoolRecord record = Write(writer, "a", "payload");
  for (const bool from_writer : {true, false}) {
    const auto fd = from_writer ? writer.OpenReadOnly() : spool_->OpenReadOnly("s1");
    ASSERT_TRUE(fd.ok());
    std::string read(record.length, '\0');
    EXPECT_EQ(::pread(fd->get(), read.data(), read.size(), static_cast<off_t>(record.offset)), 7);
    EXPECT_EQ(read, "payload");
    EXPECT_EQ(::pwrite(fd->get(), "x", 1, 0), -1);
  }
}

TEST_F(SpoolTest, EveryCutInTheLastRecordKeepsTheWholeOnesAndResumes) {
  std::string id = "s1";
  {
    SpoolWriter writer = Writer(id);
    Write(writer, "first", Payload(60, 1));
    Write(writer, "second", Payload(75, 2));
  }
  const std::string whole = Bytes(id);
  std::size_t end_of_first = 0;
  {
    const auto records = spool_->Scan(id);
    ASSERT_TRUE(records.ok());
    end_of_first = (*records)[0].offset + (*records)[0].length + 40;
  }
  for (std::size_t size = end_of_first; size < whole.size(); ++size) {
    SetBytes(id, whole.substr(0, size));
    ASSERT_THAT(Keys(id), ElementsAre("first")) << size;
    SpoolWriter writer = Writer(id);
    ASSERT_EQ(writer.bytes(), end_of_first);
    Write(writer, "third", Payload(10, 3));
    ASSERT_EQ(writer.Sync(), absl::OkStatus());
    ASSERT_THAT(Keys(id), ElementsAre("first", "third")) << size;
  }
  // Cuts in the first record leave nothing, and the file is usable.
  for (std::size_t size = 0; size < end_of_first; ++size) {
    SetBytes(id, whole.substr(0, size));
    ASSERT_THAT(Keys(id), IsEmpty()) << size;
    ASSERT_EQ(Writer(id).bytes(), 0u) << size;
  }
}

TEST_F(SpoolTest, EveryFlippedBitIsDetected) {
  std::string id = "s1";
  {
    SpoolWriter writer = Writer(id);
    Write(writer, "first", Payload(30, 1));
    Write(writer, "second", Payload(20, 2));
  }
  const std::string whole = Bytes(id);
  const base::UniqueFd file(::open(PathOf(id).c_str(), O_RDWR));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const char damaged = static_cast<char>(whole[at] ^ (1 << bit));
      ASSERT_EQ(::pwrite(file.get(), &damaged, 1, static_cast<off_t>(at)), 1);
      const auto scanned = spool_->Scan(id);
      ASSERT_EQ(::pwrite(file.get(), &whole[at], 1, static_cast<off_t>(at)), 1);
      ASSERT_EQ(Reason(scanned), "SPOOL_CORRUPT") << at << " bit " << bit;
      ASSERT_EQ(scanned.status().code(), absl::StatusCode::kDataLoss);
    }
  }
  EXPECT_THAT(Keys(id), ElementsAre("first", "second"));
  // A writer goes on after the records that are whole.
  std::string damaged = whole;
  damaged[whole.size() - 45] = static_cast<char>(damaged[whole.size() - 45] ^ 1);
  SetBytes(id, damaged);
  SpoolWriter writer = Writer(id);
  EXPECT_THAT(Keys(id), ElementsAre("first"));
}

TEST_F(SpoolTest, SizesMustBeAsAnnounced) {
  SpoolWriter writer = Writer("s1");
  Write(writer, "kept", "payload");
  const std::uint64_t end = writer.bytes();

  ASSERT_EQ(writer.Begin("long", 4), absl::OkStatus());
  EXPECT_EQ(Reason(writer.Append("12345")), "INSTANCE_SIZE");
  EXPECT_EQ(Reason(writer.Append("1")), "NO_OPEN_INSTANCE");

  ASSERT_EQ(writer.Begin("short", 4), absl::OkStatus());
  EXPECT_EQ(writer.Append("123"), absl::OkStatus());
  EXPECT_EQ(Reason(writer.End()), "INSTANCE_SIZE");

  EXPECT_EQ(Reason(writer.Begin("huge", ~std::uint64_t{0})), "INSTANCE_SIZE");
  EXPECT_EQ(writer.bytes(), end);
  EXPECT_EQ(Bytes("s1").size(), end);
  Write(writer, "next", "payload");
  EXPECT_THAT(Keys("s1"), ElementsAre("kept", "next"));
}

TEST_F(SpoolTest, AbandonedRecordLeavesNoTrace) {
  SpoolWriter writer = Writer("s1");
  Write(writer, "kept", "payload");
  const std::string before = Bytes("s1");
  ASSERT_EQ(writer.Begin("gone", 1000), absl::OkStatus());
  ASSERT_EQ(writer.Append(Payload(500, 1)), absl::OkStatus());
  EXPECT_EQ(writer.Abandon(), absl::OkStatus());
  EXPECT_EQ(Bytes("s1"), before);
  EXPECT_EQ(writer.Abandon(), absl::OkStatus());
  EXPECT_EQ(Reason(writer.End()), "NO_OPEN_INSTANCE");
}

TEST_F(SpoolTest, RefusesWrongOrderAndKeys) {
  SpoolWriter writer = Writer("s1");
  ASSERT_EQ(writer.Begin("a", 1), absl::OkStatus());
  EXPECT_EQ(Reason(writer.Begin("b", 1)), "INSTANCE_OPEN");
  ASSERT_EQ(writer.Abandon(), absl::OkStatus());
  for (const std::string& key :
       {std::string(), std::string(257, 'k'), std::string("line\nbreak"), std::string(1, '\0')}) {
    EXPECT_EQ(Reason(writer.Begin(key, 1)), "KEY_INVALID");
  }
  Write(writer, std::string(256, 'k'), "payload");
  EXPECT_THAT(Keys("s1"), ElementsAre(std::string(256, 'k')));
}

TEST_F(SpoolTest, OneWriterAtATime) {
  std::optional<SpoolWriter> writer = Writer("s1");
  EXPECT_EQ(Reason(spool_->OpenWriter("s1")), "UPLOAD_IN_PROGRESS");
  EXPECT_TRUE(spool_->OpenWriter("s2").ok());
  writer.reset();
  EXPECT_TRUE(spool_->OpenWriter("s1").ok());
}

TEST_F(SpoolTest, ListsRemovesAndRefusesIdsThatAreNoNames) {
  { SpoolWriter writer = Writer("s2"); }
  { SpoolWriter writer = Writer("s1"); }
  std::ofstream(folder_.path() + "/spool/other.txt") << "x";
  auto ids = spool_->List();
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre("s1", "s2"));
  EXPECT_EQ(spool_->Remove("s1"), absl::OkStatus());
  EXPECT_EQ(spool_->Remove("s1"), absl::OkStatus());
  EXPECT_THAT(*spool_->List(), ElementsAre("s2"));
  EXPECT_EQ(Reason(spool_->Scan("s1")), "UNKNOWN_SUBMISSION");
  EXPECT_EQ(Reason(spool_->OpenReadOnly("s1")), "UNKNOWN_SUBMISSION");
  for (const char* id : {"", "../s2", ".", ".hidden", "a/b", "a b"}) {
    EXPECT_EQ(Reason(spool_->OpenWriter(id)), "SUBMISSION_ID_INVALID") << id;
    EXPECT_EQ(Reason(spool_->Remove(id)), "SUBMISSION_ID_INVALID") << id;
  }
}

TEST_F(SpoolTest, KnowsTheFreeSpace) {
  const auto bytes = spool_->FreeBytes();
  ASSERT_TRUE(bytes.ok());
  EXPECT_GT(*bytes, 0u);
}

TEST_F(SpoolTest, KnowsTheSpaceThatItsFilesOccupy) {
  ASSERT_EQ(*spool_->UsedBytes(), 0u);
  {
    SpoolWriter writer = Writer("s1");
    ASSERT_TRUE(writer.Begin("k", 100000).ok());
    ASSERT_TRUE(writer.Append(std::string(100000, 'x')).ok());
    ASSERT_TRUE(writer.End().ok());
    ASSERT_TRUE(writer.Sync().ok());
  }
  EXPECT_GE(*spool_->UsedBytes(), 100000u);
  ASSERT_TRUE(spool_->Remove("s1").ok());
  EXPECT_EQ(*spool_->UsedBytes(), 0u);
}

TEST_F(SpoolTest, FilesAreForTheirOwnerOnly) {
  { SpoolWriter writer = Writer("s1"); }
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(PathOf("s1")).permissions(), perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::status(folder_.path() + "/spool").permissions(), perms::owner_all);
}

}  // namespace
}  // namespace tomoserve::store
