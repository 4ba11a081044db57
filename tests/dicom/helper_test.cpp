// The program tomoserve-dicom behind a helper pool: protocol, filter and limits as in production (in
// sanitizer builds without the filter).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "dicom/file_builder.h"
#include "dicom/helper_fixture.h"
#include "dicom/htj2k.h"
#include "dicom/instances.h"
#include "shared_data.h"
#include "tomoserve/ipc/refused_identity.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;
using testing::HelperTest;
using testing::Spool;

TEST_F(HelperTest, WritesReadsAndDecodesEverySyntaxUnderTheFilter) {
  constexpr std::uint32_t kRows = 96, kColumns = 80;
  constexpr std::uint32_t kCount = std::size(testing::kWritable) * 2;
  auto pixels = ipc::Arena::Create(kRows * kColumns * 2, kCount, nullptr);
  auto files = ipc::Arena::Create(64 * 1024, kCount, nullptr);
  auto decoded = ipc::Arena::Create(kRows * kColumns * 2, kCount, nullptr);
  ASSERT_TRUE(pixels.ok() && files.ok() && decoded.ok());
  std::vector<ipc::HelperPool::Write> writes;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const auto type = i % 2 == 0 ? ipc::v1::STORED_TYPE_U16 : ipc::v1::STORED_TYPE_I16;
    const auto instance =
        testing::Instance(testing::kWritable[i / 2], i % 2 == 0 ? "CT" : "MR", kRows, kColumns, type, 12);
    const ipc::v1::Slot slot = (*pixels)->slot(i);
    auto mapping = ipc::Mapping::Map((*pixels)->fds()[slot.arena()], slot.offset(), slot.bytes(), true);
    ASSERT_TRUE(mapping.ok()) << mapping.status();
    const auto picture = testing::Picture(instance);
    std::copy(picture.begin(), picture.end(), mapping->bytes().begin());
    writes.push_back({instance, i, i});
  }
  const auto written = pool_->WriteInstances(writes, **pixels, **files);
  ASSERT_EQ(written.size(), kCount);
  Spool spool;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(written[i].ok()) << written[i].status() << ' ' << writes[i].instance.transfer_syntax();
    const auto file = (*files)->Read(i);
    ASSERT_TRUE(file.ok());
    spool.Add(file->bytes().first(*written[i]));
  }
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  ASSERT_EQ(headers.size(), kCount);
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(headers[i].ok()) << headers[i].status();
    EXPECT_EQ(headers[i]->transfer_syntax_uid(), writes[i].instance.transfer_syntax());
    EXPECT_EQ(headers[i]->patient_name(), writes[i].instance.patient_name());
    frames.push_back({spool.ranges()[i], 0, i, headers[i]->stored_type(), kRows, kColumns});
  }
  const auto results = pool_->Decode(spool.fd(), frames, **decoded);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    EXPECT_TRUE(results[i].ok()) << results[i] << ' ' << writes[i].instance.transfer_syntax();
    const auto slot = (*decoded)->Read(i);
    ASSERT_TRUE(slot.ok());
    const auto picture = testing::Picture(writes[i].instance);
    EXPECT_EQ(std::memcmp(slot->bytes().data(), picture.data(), picture.size()), 0)
        << writes[i].instance.transfer_syntax();
  }
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperTest, ConvertsEveryCharacterSetUnderTheFilter) {
  Spool spool;
  for (const std::string_view charset :
       {"ISO_IR 100",        "ISO_IR 101",       "ISO_IR 109",
        "ISO_IR 110",        "ISO_IR 144",       "ISO_IR 127",
        "ISO_IR 126",        "ISO_IR 138",       "ISO_IR 148",
        "ISO_IR 203",        "ISO_IR 13",        "ISO_IR 166",
        "ISO_IR 192",        "GB18030",          "GBK",
        "\\ISO 2022 IR 100", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
        "\\ISO 2022 IR 149", "\\ISO 2022 IR 58", "ISO_IR 999"}) {
    for (const std::string_view name :
         {"A\xC4\xE4^B", "A\xFF\xFE\x80", "X\x1B$B;3ED\x1B(B", "X\x1B$)C\xFB\xF3", "X\x1B$(D\x22\x6F\x1B(B",
          "X\x1B$)A\xD5\xC5", "X\x1B-A\xE9"}) {
      FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
      file.Text(0x00080005, "CS", charset).Text(0x00080070, "LO", name).Text(0x00100010, "PN", name);
      spool.Add(file.bytes());
    }
  }
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  for (const auto& header : headers) EXPECT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperTest, DecodesRealFilesOfEverySyntaxUnderTheFilter) {
  const std::filesystem::path data = tomoserve::testing::TestData() / "dicom";
  TS_SKIP_WITHOUT(data / "ts_ct_all");
  Spool spool;
  for (const char* folder : {"ts_ct_all", "ts_htj2k", "bits12", "odd_parsing"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(data / folder)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
      spool.Add(std::as_bytes(std::span(bytes)));
    }
  }
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  std::vector<ipc::HelperPool::Frame> frames;
  std::set<std::string> syntaxes;
  for (std::size_t i = 0; i < headers.size(); ++i) {
    if (!headers[i].ok() || headers[i]->kind() != ipc::v1::OBJECT_KIND_IMAGE) continue;
    syntaxes.insert(headers[i]->transfer_syntax_uid());
    frames.push_back({spool.ranges()[i], headers[i]->frames() - 1, static_cast<std::uint32_t>(frames.size()),
                      headers[i]->stored_type(), headers[i]->rows(), headers[i]->columns()});
  }
  EXPECT_GE(syntaxes.size(), 14u);
  const auto arena = ipc::Arena::Create(1 << 20, static_cast<std::uint32_t>(frames.size()), nullptr);
  ASSERT_TRUE(arena.ok());
  for (const absl::Status& status : pool_->Decode(spool.fd(), frames, **arena))
    EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperTest, BombsAreRefusedByTheChildAndTheRestIsRead) {
  Spool spool;
  FileBuilder nested = FileBuilder::WithMeta(kExplicitLittleEndian);
  for (int i = 0; i < 10000; ++i)
    nested.Header(0x00081140, "SQ", FileBuilder::kUndefined).Item(FileBuilder::kUndefined);
  FileBuilder claimed = FileBuilder::WithMeta(kExplicitLittleEndian);
  claimed.Header(0x7FE00010, "OW", 0xFFFFFFFE).Raw("xx");
  FileBuilder huge = FileBuilder::WithMeta(kExplicitLittleEndian);
  huge.Pixels(65535, 65535, 16, 16, 15, false, "2147483647").Header(0x7FE00010, "OW", 2).U16(0);
  FileBuilder text = FileBuilder::Bare(false, false);
  text.Raw("No image but a letter.");
  FileBuilder good = FileBuilder::WithMeta(kExplicitLittleEndian);
  good.Text(0x00100020, "LO", "P1");
  for (const FileBuilder& file : {nested, claimed, huge, text, good}) spool.Add(file.bytes());
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  ASSERT_EQ(headers.size(), 5u);
  EXPECT_EQ(ReasonOf(headers[0].status()), "NESTING_TOO_DEEP");
  EXPECT_EQ(ReasonOf(headers[1].status()), "ELEMENT_TOO_LARGE");
  EXPECT_EQ(ReasonOf(headers[2].status()), "PIXELS_TOO_LARGE");
  EXPECT_EQ(ReasonOf(headers[3].status()), "NOT_DICOM");
  ASSERT_TRUE(headers[4].ok()) << headers[4].status();
  EXPECT_EQ(headers[4]->patient_id(), "P1");
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

// What a broken codestream does to a decoder is the child's affair: the others decode all the same.
TEST_F(HelperTest, DamagedCodestreamsDoNotHurtTheRest) {
  constexpr std::uint32_t kRows = 48, kColumns = 40;
  const std::vector<std::string_view> syntaxes = {kRleLossless, kJpegLossless, kJpegLsLossless,
                                                  kJpeg2000Lossless};
  const auto pixels = ipc::Arena::Create(kRows * kColumns * 2, 1, nullptr);
  const auto files = ipc::Arena::Create(64 * 1024, static_cast<std::uint32_t>(syntaxes.size()), nullptr);
  ASSERT_TRUE(pixels.ok() && files.ok());
  std::vector<ipc::HelperPool::Write> writes;
  for (std::uint32_t i = 0; i < syntaxes.size(); ++i) {
    writes.push_back(
        {testing::Instance(syntaxes[i], "CT", kRows, kColumns, ipc::v1::STORED_TYPE_U16, 16), 0, i});
  }
  const auto picture = testing::Picture(writes[0].instance);
  auto mapping = ipc::Mapping::Map((*pixels)->fds()[0], 0, picture.size(), true);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  std::copy(picture.begin(), picture.end(), mapping->bytes().begin());
  const auto written = pool_->WriteInstances(writes, **pixels, **files);
  Spool spool;
  std::mt19937 random(11);
  std::vector<bool> is_whole;
  for (std::uint32_t i = 0; i < syntaxes.size(); ++i) {
    ASSERT_TRUE(written[i].ok()) << written[i].status();
    const auto file = (*files)->Read(i);
    ASSERT_TRUE(file.ok());
    const auto whole = file->bytes().first(*written[i]);
    for (int damage = 0; damage < 30; ++damage) {
      std::vector<std::byte> copy(whole.begin(), whole.end());
      const std::size_t tail = copy.size() / 2;  // the codestream is the larger half
      for (int c = 0; c < damage; ++c)
        copy[copy.size() - 16 - random() % tail] = static_cast<std::byte>(random());
      is_whole.push_back(damage == 0);
      spool.Add(copy);
    }
  }
  const auto arena =
      ipc::Arena::Create(kRows * kColumns * 2, static_cast<std::uint32_t>(is_whole.size()), nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < is_whole.size(); ++i) {
    frames.push_back({spool.ranges()[i], 0, i, ipc::v1::STORED_TYPE_U16, kRows, kColumns});
  }
  const auto results = pool_->Decode(spool.fd(), frames, **arena);
  std::map<std::string, int> reasons;
  for (std::uint32_t i = 0; i < results.size(); ++i) {
    ++reasons[ReasonOf(results[i])];
    if (!is_whole[i]) continue;
    ASSERT_TRUE(results[i].ok()) << results[i];
    const auto slot = (*arena)->Read(i);
    ASSERT_TRUE(slot.ok());
    EXPECT_EQ(std::memcmp(slot->bytes().data(), picture.data(), picture.size()), 0) << i;
  }
  for (const auto& [reason, count] : reasons) RecordProperty(reason, count);
  EXPECT_GT(reasons["CODESTREAM_BROKEN"], 0);
  EXPECT_EQ(reasons["INTERNAL"], 0);
}

// Where OpenJPH ends its process, OpenJPEG has the last word.
TEST_F(HelperTest, DamagedHighThroughputCodestreamsEndInTypedResults) {
  constexpr std::uint32_t kRows = 48, kColumns = 40, kCount = 60;
  std::mt19937 random(12);
  std::vector<std::int32_t> samples(kRows * kColumns);
  for (std::int32_t& sample : samples) sample = static_cast<std::int32_t>(random() % 4096);
  const std::vector<std::byte> whole = EncodeHtj2k(samples, kRows, kColumns, 12, false);
  Spool spool;
  for (std::uint32_t damage = 0; damage < kCount; ++damage) {
    std::vector<std::byte> copy = whole;
    for (std::uint32_t c = 0; c < damage; ++c) copy[2 + random() % (copy.size() - 2)] = std::byte(random());
    FileBuilder file = FileBuilder::WithMeta(kHtJpeg2000Lossless);
    spool.Add(file.Pixels(kRows, kColumns, 16, 12, 11, false).Encapsulated({copy}).bytes());
  }
  const auto arena = ipc::Arena::Create(kRows * kColumns * 2, kCount, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    frames.push_back({spool.ranges()[i], 0, i, ipc::v1::STORED_TYPE_U16, kRows, kColumns});
    frames.back().high_throughput = true;
  }
  const auto results = pool_->Decode(spool.fd(), frames, **arena);
  ASSERT_TRUE(results[0].ok()) << results[0];
  const auto slot = (*arena)->Read(0);
  ASSERT_TRUE(slot.ok());
  std::vector<std::uint16_t> values(samples.size());
  std::memcpy(values.data(), slot->bytes().data(), values.size() * 2);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), samples.begin(), samples.end()));
  std::map<std::string, int> reasons;
  for (const absl::Status& result : results) ++reasons[ReasonOf(result)];
  for (const auto& [reason, count] : reasons) RecordProperty(reason, count);
  EXPECT_GT(reasons["CODESTREAM_BROKEN"], 0);
  EXPECT_EQ(reasons["INTERNAL"], 0);
}

// A slice that cannot be read is missed by the run of its series.
TEST_F(HelperTest, ARefusedFileSaysWhichInstanceItIs) {
  const auto file = [](std::string_view syntax, std::string_view uid, std::string_view slope = "1") {
    FileBuilder builder = FileBuilder::WithMeta(syntax);
    builder.Text(0x00080018, "UI", "1.2.3.4.5").Text(0x00080060, "CS", "CT").Text(0x0020000E, "UI", uid);
    builder.Pixels(2, 2, 16, 16, 15, false).Text(0x00281053, "DS", slope);
    return builder.Header(0x7FE00010, "OW", 8).Raw("12345678").bytes();
  };
  std::vector<std::vector<std::byte>> files;
  files.push_back(file(kExplicitLittleEndian, "1.2.3.4"));
  files.back().resize(files.back().size() - 3);
  files.push_back(file(kImplicitLittleEndian, "1.2.3.4"));
  files.back().resize(files.back().size() - 3);
  files.push_back(file("1.2.840.10008.1.2.4.111", "1.2.3.4"));  // JPEG XL
  files.push_back(file(kExplicitLittleEndian, "1.2.3.4", "steep"));
  files.push_back(file(kExplicitLittleEndian, "1.2.Smith"));
  files.back().resize(files.back().size() - 3);
  files.push_back(file(kExplicitLittleEndian, "1.2.3.4"));
  files.back().resize(200);  // before the Series Instance UID ends
  Spool spool;
  for (const auto& bytes : files) spool.Add(bytes);
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  std::vector<std::string> said;
  for (const ipc::HeaderResult& header : headers) {
    const ipc::v1::Refusal identity = ipc::RefusedIdentity(header.status());
    said.push_back(ReasonOf(header.status()) + " " + identity.modality() + " " +
                   identity.series_instance_uid() + " " + identity.sop_instance_uid());
  }
  EXPECT_THAT(said, ::testing::ElementsAre("TRUNCATED CT 1.2.3.4 1.2.3.4.5", "TRUNCATED CT 1.2.3.4 1.2.3.4.5",
                                           "UNSUPPORTED_TRANSFER_SYNTAX CT 1.2.3.4 1.2.3.4.5",
                                           "MALFORMED CT 1.2.3.4 1.2.3.4.5", "TRUNCATED CT  1.2.3.4.5",
                                           "TRUNCATED CT  1.2.3.4.5"));
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperTest, RefusesARangeOutsideTheSpool) {
  Spool spool;
  FileBuilder good = FileBuilder::WithMeta(kExplicitLittleEndian);
  good.Text(0x00100020, "LO", "P1");
  spool.Add(good.bytes());
  std::vector<ipc::v1::SpoolRange> ranges = spool.ranges();
  ranges.push_back(ranges[0]);
  ranges[1].set_length(1 << 20);
  ranges.push_back(ranges[0]);
  ranges[2].set_offset(~0ull - 10);
  const auto headers = pool_->ReadHeaders(spool.fd(), ranges);
  EXPECT_TRUE(headers[0].ok());
  EXPECT_EQ(ReasonOf(headers[1].status()), "SPOOL_UNREADABLE");
  EXPECT_EQ(ReasonOf(headers[2].status()), "SPOOL_UNREADABLE");
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

}  // namespace
}  // namespace tomoserve::dicom
