// Multi-frame images, mosaics and rarer syntaxes through the program tomoserve-dicom, under its filter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "dicom/enhanced_files.h"
#include "dicom/helper_fixture.h"
#include "dicom/htj2k.h"
#include "dicom/siemens_files.h"
#include "shared_data.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::dicom {
namespace {

using ::testing::ElementsAre;
using testing::EnhancedWriter;
using testing::FileBuilder;
using testing::HelperTest;
using testing::SequenceStyle;
using testing::Spool;

class HelperFramesTest : public HelperTest {
 protected:
  // The 16 bit values of a slot.
  static std::vector<std::uint16_t> Values(const ipc::Arena& arena, std::uint32_t slot, std::size_t count) {
    std::vector<std::uint16_t> values(count);
    const auto mapping = arena.Read(slot);
    EXPECT_TRUE(mapping.ok()) << mapping.status();
    if (mapping.ok()) std::memcpy(values.data(), mapping->bytes().data(), count * 2);
    return values;
  }
};

FileBuilder Enhanced(std::uint32_t count) {
  const EnhancedWriter write(SequenceStyle{});
  std::vector<std::vector<FileBuilder>> frames;
  for (std::uint32_t n = 0; n < count; ++n) {
    frames.push_back({write.Content(n), write.Position("-10\\-20\\" + std::to_string(n))});
  }
  return write.File({write.Orientation("1\\0\\0\\0\\1\\0"), write.Measures("0.5\\0.5", "1"),
                     write.Transformation("1", "-1024", "HU")},
                    frames);
}

TEST_F(HelperFramesTest, HeadersOfThousandsOfFramesComeWhole) {
  constexpr std::uint32_t kFrames = 2000;
  Spool spool;
  for (const std::uint32_t count : {1u, 200u, kFrames, 3u}) spool.Add(Enhanced(count).bytes());
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  ASSERT_EQ(headers.size(), 4u);
  for (const auto& header : headers) {
    ASSERT_TRUE(header.ok()) << header.status();
    ASSERT_EQ(header->frame_size(), static_cast<int>(header->frames()));
    for (int n = 0; n < header->frame_size(); ++n) {
      ASSERT_THAT(header->frame(n).image_position(), ElementsAre(-10, -20, n));
      ASSERT_EQ(header->frame(n).rescale_intercept(), -1024);
    }
  }
  EXPECT_EQ(headers[2]->frames(), kFrames);
  EXPECT_GT(headers[2]->ByteSizeLong(), ipc::kMaxRecordBytes);
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperFramesTest, FramesDecodeByTheirNumber) {
  constexpr std::uint32_t kFrames = 200;
  Spool spool;
  spool.Add(std::vector<std::byte>(777, std::byte{1}));  // so that the file begins inside a page
  spool.Add(Enhanced(kFrames).bytes());
  const auto arena = ipc::Arena::Create(8, kFrames, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t n = 0; n < kFrames; ++n) {
    frames.push_back({spool.ranges()[1], n, n, ipc::v1::STORED_TYPE_U16, 2, 2});
  }
  const auto results = pool_->Decode(spool.fd(), frames, **arena);
  for (std::uint32_t n = 0; n < kFrames; ++n) {
    ASSERT_TRUE(results[n].ok()) << results[n];
    ASSERT_THAT(Values(**arena, n, 4), ElementsAre(4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3));
  }
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

TEST_F(HelperFramesTest, TilesOfAMosaicDecodeIntoTheirSlots) {
  Spool spool;
  spool.Add(testing::MosaicFile().Build().bytes());
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  ASSERT_TRUE(headers[0].ok()) << headers[0].status();
  ASSERT_TRUE(headers[0]->has_mosaic());
  // 6 x 12 pixels that count on; tiles of 2 x 4.
  const auto arena = ipc::Arena::Create(16, 6, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t n = 0; n < 5; ++n) {
    ipc::v1::Tile tile;
    tile.set_first_row(n / 3 * 2);
    tile.set_first_column(n % 3 * 4);
    tile.set_rows(2);
    tile.set_columns(4);
    frames.push_back({spool.ranges()[0], 0, n, ipc::v1::STORED_TYPE_U16, 6, 12, tile});
  }
  frames.push_back(frames.back());
  frames.back().slot = 5;
  frames.back().tile->set_first_row(5);
  const auto results = pool_->Decode(spool.fd(), frames, **arena);
  for (std::uint32_t n = 0; n < 5; ++n) {
    ASSERT_TRUE(results[n].ok()) << results[n];
    const std::uint32_t first = n / 3 * 24 + n % 3 * 4;
    EXPECT_THAT(Values(**arena, n, 8), ElementsAre(first, first + 1, first + 2, first + 3, first + 12,
                                                   first + 13, first + 14, first + 15));
  }
  EXPECT_EQ(ReasonOf(results[5]), "FRAME_INVALID");
}

TEST_F(HelperFramesTest, HighThroughputJpeg2000DecodesUnderTheFilter) {
  std::vector<std::int32_t> samples(128 * 96);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<std::int32_t>(i * 7 % 4096);
  const auto stream = EncodeHtj2k(samples, 128, 96, 12, false);
  FileBuilder whole = FileBuilder::WithMeta(kHtJpeg2000Lossless);
  whole.Pixels(128, 96, 16, 12, 11, false).Encapsulated({stream});
  FileBuilder cut = FileBuilder::WithMeta(kHtJpeg2000Lossless);
  cut.Pixels(128, 96, 16, 12, 11, false);
  cut.Encapsulated({std::vector<std::byte>(stream.begin(), stream.begin() + 400)});
  Spool spool;
  spool.Add(cut.bytes());
  spool.Add(whole.bytes());
  const auto arena = ipc::Arena::Create(128 * 96 * 2, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  const auto results = pool_->Decode(spool.fd(),
                                     {{spool.ranges()[0], 0, 0, ipc::v1::STORED_TYPE_U16, 128, 96},
                                      {spool.ranges()[1], 0, 1, ipc::v1::STORED_TYPE_U16, 128, 96}},
                                     **arena);
  EXPECT_EQ(ReasonOf(results[0]), "CODESTREAM_BROKEN");
  ASSERT_TRUE(results[1].ok()) << results[1];
  const auto values = Values(**arena, 1, samples.size());
  EXPECT_TRUE(std::equal(values.begin(), values.end(), samples.begin(), samples.end()));
  EXPECT_EQ(pool_->child_deaths(), 0u);
}

// OpenJPH ends its process for some of them: that is the child's affair.
TEST_F(HelperFramesTest, DamagedHighThroughputCodestreamsDoNotHurtTheRest) {
  constexpr std::uint32_t kSide = 64;
  constexpr std::uint32_t kFiles = 120;
  std::mt19937 random(5);
  std::vector<std::int32_t> samples(std::size_t{kSide} * kSide);
  for (std::int32_t& sample : samples) sample = static_cast<std::int32_t>(random() % 4096);
  const auto whole = EncodeHtj2k(samples, kSide, kSide, 12, false);
  Spool spool;
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < kFiles; ++i) {
    std::vector<std::byte> stream = whole;
    for (std::uint32_t change = 0; change < i % 6; ++change) {
      stream[random() % stream.size()] = static_cast<std::byte>(random());
    }
    FileBuilder file = FileBuilder::WithMeta(kHtJpeg2000Lossless);
    file.Pixels(kSide, kSide, 16, 12, 11, false).Encapsulated({stream});
    spool.Add(file.bytes());
    frames.push_back({spool.ranges()[i], 0, i, ipc::v1::STORED_TYPE_U16, kSide, kSide});
  }
  const auto arena = ipc::Arena::Create(kSide * kSide * 2, kFiles, nullptr);
  ASSERT_TRUE(arena.ok());
  const auto results = pool_->Decode(spool.fd(), frames, **arena);
  int refused = 0;
  for (std::uint32_t i = 0; i < kFiles; ++i) {
    if (i % 6 == 0) {
      ASSERT_TRUE(results[i].ok()) << i << results[i];
      const auto values = Values(**arena, i, samples.size());
      EXPECT_TRUE(std::equal(values.begin(), values.end(), samples.begin(), samples.end())) << i;
    } else if (!results[i].ok()) {
      ++refused;
      const std::string reason = ReasonOf(results[i]);
      EXPECT_TRUE(reason == "CODESTREAM_BROKEN" || reason == "CODESTREAM_MISMATCH" ||
                  reason == "HELPER_CRASHED")
          << reason;
    }
  }
  EXPECT_GT(refused, 10);
}

class DeflatedHelperTest : public HelperFramesTest {
 protected:
  void Configure(ipc::HelperPoolOptions& options) override { options.limits.set_deflated(true); }
};

TEST_F(DeflatedHelperTest, ReadsAndDecodesADeflatedFile) {
  const auto folder = tomoserve::testing::TestData() / "dicom/ts_ct_all";
  TS_SKIP_WITHOUT(folder);
  Spool spool;
  for (const char* name :
       {"CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
        "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm"}) {
    std::ifstream stream(folder / name, std::ios::binary);
    spool.Add(testing::Bytes(std::string{std::istreambuf_iterator<char>(stream), {}}));
  }
  const auto headers = pool_->ReadHeaders(spool.fd(), spool.ranges());
  ASSERT_TRUE(headers[0].ok() && headers[1].ok()) << headers[0].status();
  const std::size_t count = std::size_t{headers[0]->rows()} * headers[0]->columns();
  const auto arena = ipc::Arena::Create(count * 2, 2, nullptr);
  ASSERT_TRUE(arena.ok());
  std::vector<ipc::HelperPool::Frame> frames;
  for (std::uint32_t i = 0; i < 2; ++i) {
    frames.push_back(
        {spool.ranges()[i], 0, i, headers[i]->stored_type(), headers[i]->rows(), headers[i]->columns()});
  }
  for (const absl::Status& status : pool_->Decode(spool.fd(), frames, **arena)) {
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(Values(**arena, 0, count), Values(**arena, 1, count));
}

}  // namespace
}  // namespace tomoserve::dicom
