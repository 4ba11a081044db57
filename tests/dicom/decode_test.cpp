#include "tomoserve/dicom/decode.h"
#include "tomoserve/base/stored_type.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>

#include "dicom/errors.h"
#include "dicom/file_builder.h"
#include "dicom/instances.h"
#include "dicom/jpeg2000.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/header.h"
#include "tomoserve/dicom/write.h"

namespace tomoserve::dicom {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::FileBuilder;

class DecodeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Runtime::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    runtime_ = std::move(*made);
  }
  static void TearDownTestSuite() { runtime_.reset(); }

  // All of a frame's values as the given type; an error fails the test.
  template <typename Value>
  static std::vector<Value> DecodeAs(const std::vector<std::byte>& file, std::uint32_t frame = 0) {
    std::vector<Value> values;
    const auto layout = Inspect(file, {});
    EXPECT_TRUE(layout.ok()) << layout.status();
    if (!layout.ok()) return values;
    const FrameRequest request{frame, StoredTypeOf(layout->pixels), layout->pixels.rows,
                               layout->pixels.columns};
    EXPECT_EQ(base::BytesOf(request.stored_type), sizeof(Value));
    values.resize(std::size_t{request.rows} * request.columns);
    const absl::Status status =
        DecodeFrame(*runtime_, file, *layout, request, std::as_writable_bytes(std::span(values)));
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

  static absl::Status DecodeStatus(const std::vector<std::byte>& file, std::size_t slot_bytes = 1 << 16) {
    const auto layout = Inspect(file, {});
    if (!layout.ok()) return layout.status();
    std::vector<std::byte> slot(slot_bytes);
    const FrameRequest request{0, StoredTypeOf(layout->pixels), layout->pixels.rows, layout->pixels.columns};
    return DecodeFrame(*runtime_, file, *layout, request, slot);
  }

  static std::vector<std::byte> Written(const ipc::v1::SyntheticInstance& instance,
                                        const std::vector<std::byte>& pixels) {
    std::vector<std::byte> file(pixels.size() * 2 + 65536);
    const auto length = WriteInstance(*runtime_, instance, pixels, file);
    EXPECT_TRUE(length.ok()) << length.status() << ' ' << instance.transfer_syntax();
    file.resize(length.ok() ? *length : 0);
    return file;
  }

  static std::unique_ptr<Runtime> runtime_;
};
std::unique_ptr<Runtime> DecodeTest::runtime_;

TEST_F(DecodeTest, EverySyntaxRoundTripsEveryStoredType) {
  const std::pair<ipc::v1::StoredType, std::uint32_t> kTypes[] = {{ipc::v1::STORED_TYPE_U16, 12},
                                                                  {ipc::v1::STORED_TYPE_U16, 16},
                                                                  {ipc::v1::STORED_TYPE_I16, 12},
                                                                  {ipc::v1::STORED_TYPE_I16, 16}};
  for (const auto syntax : testing::kWritable) {
    for (const auto& [type, bits] : kTypes) {
      const auto instance = testing::Instance(syntax, "CT", 61, 48, type, bits);
      const auto pixels = testing::Picture(instance);
      const auto file = Written(instance, pixels);
      const auto header = ReadHeader(file, Limits{});
      ASSERT_TRUE(header.ok()) << header.status() << ' ' << syntax;
      EXPECT_EQ(header->transfer_syntax_uid(), syntax);
      EXPECT_EQ(header->stored_type(), type);
      EXPECT_EQ(header->bits_stored(), bits);
      EXPECT_FALSE(header->lossy()) << syntax;
      const auto values = DecodeAs<std::uint16_t>(file);
      ASSERT_EQ(values.size() * 2, pixels.size());
      EXPECT_EQ(std::memcmp(values.data(), pixels.data(), pixels.size()), 0)
          << syntax << ' ' << bits << ' ' << header->pixel_signed();
    }
  }
}

TEST_F(DecodeTest, SmallAndOddSizesRoundTrip) {
  for (const auto syntax : testing::kWritable) {
    for (const auto& [rows, columns] : {std::pair{1u, 1u}, {1u, 7u}, {5u, 1u}, {3u, 3u}, {129u, 2u}}) {
      const auto instance = testing::Instance(syntax, "MR", rows, columns, ipc::v1::STORED_TYPE_U16, 16);
      const auto pixels = testing::Picture(instance);
      const auto values = DecodeAs<std::uint16_t>(Written(instance, pixels));
      ASSERT_EQ(values.size() * 2, pixels.size());
      EXPECT_EQ(std::memcmp(values.data(), pixels.data(), pixels.size()), 0)
          << syntax << rows << 'x' << columns;
    }
  }
}

TEST_F(DecodeTest, MasksGarbageAndExtendsTheSign) {
  FileBuilder is_signed = FileBuilder::WithMeta(kExplicitLittleEndian);
  is_signed.Pixels(1, 4, 16, 12, 11, true)
      .Header(0x7FE00010, "OW", 8)
      .U16(0xF000)
      .U16(0x5FFF)
      .U16(0x0800)
      .U16(0xA7FF);
  EXPECT_THAT(DecodeAs<std::int16_t>(is_signed.bytes()), ElementsAre(0, -1, -2048, 2047));
  FileBuilder is_unsigned = FileBuilder::WithMeta(kExplicitBigEndian);
  is_unsigned.Pixels(1, 3, 16, 12, 11, false).Header(0x7FE00010, "OW", 6).U16(0xF000).U16(0x5FFF).U16(0x0800);
  EXPECT_THAT(DecodeAs<std::uint16_t>(is_unsigned.bytes()), ElementsAre(0, 4095, 2048));
}

TEST_F(DecodeTest, ShiftsDownFromAHighBit) {
  FileBuilder file = FileBuilder::WithMeta(kImplicitLittleEndian);
  file.Pixels(1, 3, 16, 12, 15, true).Header(0x7FE00010, "OW", 6).U16(0x0010).U16(0xFFF7).U16(0x8005);
  EXPECT_THAT(DecodeAs<std::int16_t>(file.bytes()), ElementsAre(1, -1, -2048));
}

TEST_F(DecodeTest, DecodesEightAndThirtyTwoBits) {
  FileBuilder bytes = FileBuilder::WithMeta(kExplicitLittleEndian);
  bytes.Pixels(1, 4, 8, 8, 7, true).Header(0x7FE00010, "OB", 4).Raw(std::string_view("\x00\x7F\x80\xFF", 4));
  EXPECT_THAT(DecodeAs<std::int8_t>(bytes.bytes()), ElementsAre(0, 127, -128, -1));
  for (const auto syntax : {kExplicitLittleEndian, kExplicitBigEndian}) {
    FileBuilder wide = FileBuilder::WithMeta(syntax);
    wide.Pixels(1, 3, 32, 32, 31, true).Header(0x7FE00010, "OW", 12).U32(5).U32(0xFFFFFFFF).U32(0x80000000);
    EXPECT_THAT(DecodeAs<std::int32_t>(wide.bytes()), ElementsAre(5, -1, INT32_MIN));
  }
}

TEST_F(DecodeTest, EightBitsInBigEndianWordsAreSwapped) {
  FileBuilder words = FileBuilder::WithMeta(kExplicitBigEndian);
  words.Pixels(1, 4, 8, 8, 7, false).Header(0x7FE00010, "OW", 4).Raw("badc");
  EXPECT_THAT(DecodeAs<std::uint8_t>(words.bytes()), ElementsAre('a', 'b', 'c', 'd'));
  FileBuilder plain = FileBuilder::WithMeta(kExplicitBigEndian);
  plain.Pixels(1, 4, 8, 8, 7, false).Header(0x7FE00010, "OB", 4).Raw("abcd");
  EXPECT_THAT(DecodeAs<std::uint8_t>(plain.bytes()), ElementsAre('a', 'b', 'c', 'd'));
}

TEST_F(DecodeTest, DecodesEachFrameOfAMultiFrameFile) {
  FileBuilder native = FileBuilder::WithMeta(kExplicitLittleEndian);
  native.Pixels(1, 2, 16, 16, 15, false, "3").Header(0x7FE00010, "OW", 12);
  for (std::uint32_t i = 0; i < 6; ++i) native.U16(10 + i);
  EXPECT_THAT(DecodeAs<std::uint16_t>(native.bytes(), 0), ElementsAre(10, 11));
  EXPECT_THAT(DecodeAs<std::uint16_t>(native.bytes(), 2), ElementsAre(14, 15));

  const auto stream = [](std::initializer_list<std::int32_t> values) {
    const auto encoded = EncodeJpeg2000(std::vector<std::int32_t>(values), 1, 2, 12, false);
    EXPECT_TRUE(encoded.ok());
    return encoded.ok() ? *encoded : std::vector<std::byte>();
  };
  const auto second = stream({7, 4095});
  const std::size_t half = second.size() / 2;
  FileBuilder split = FileBuilder::WithMeta(kJpeg2000Lossless);
  split.Pixels(1, 2, 16, 12, 11, false, "2");
  split.Encapsulated({stream({1, 2}),
                      {second.begin(), second.begin() + static_cast<std::ptrdiff_t>(half)},
                      {second.begin() + static_cast<std::ptrdiff_t>(half), second.end()}});
  EXPECT_THAT(DecodeAs<std::uint16_t>(split.bytes(), 0), ElementsAre(1, 2));
  EXPECT_THAT(DecodeAs<std::uint16_t>(split.bytes(), 1), ElementsAre(7, 4095));
}

TEST_F(DecodeTest, TheHeaderDecidesTheSignOfJpeg2000) {
  // A signed image in an unsigned codestream, and the other way round.
  const auto as_unsigned = EncodeJpeg2000(std::vector<std::int32_t>{0, 1, 0xFFF, 0x800}, 1, 4, 12, false);
  ASSERT_TRUE(as_unsigned.ok());
  FileBuilder wants_signed = FileBuilder::WithMeta(kJpeg2000Lossless);
  wants_signed.Pixels(1, 4, 16, 12, 11, true).Encapsulated({*as_unsigned});
  EXPECT_THAT(DecodeAs<std::int16_t>(wants_signed.bytes()), ElementsAre(0, 1, -1, -2048));
  const auto as_signed = EncodeJpeg2000(std::vector<std::int32_t>{0, 1, -1, -2048}, 1, 4, 12, true);
  ASSERT_TRUE(as_signed.ok());
  FileBuilder wants_unsigned = FileBuilder::WithMeta(kJpeg2000Lossless);
  wants_unsigned.Pixels(1, 4, 16, 12, 11, false).Encapsulated({*as_signed});
  EXPECT_THAT(DecodeAs<std::uint16_t>(wants_unsigned.bytes()), ElementsAre(0, 1, 0xFFF, 0x800));
}

TEST_F(DecodeTest, RefusesCodestreamsOfOtherSizes) {
  const auto small = EncodeJpeg2000(std::vector<std::int32_t>(16), 4, 4, 12, false);
  ASSERT_TRUE(small.ok());
  FileBuilder larger = FileBuilder::WithMeta(kJpeg2000Lossless);
  larger.Pixels(4, 5, 16, 12, 11, false).Encapsulated({*small});
  EXPECT_EQ(base::ReasonOf(DecodeStatus(larger.bytes())), "CODESTREAM_MISMATCH");
  FileBuilder narrower = FileBuilder::WithMeta(kJpeg2000Lossless);
  narrower.Pixels(4, 4, 8, 8, 7, false).Encapsulated({*small});
  EXPECT_EQ(base::ReasonOf(DecodeStatus(narrower.bytes())), "CODESTREAM_MISMATCH");
  for (const auto syntax : {kJpegLossless, kJpegLsLossless}) {
    auto instance = testing::Instance(syntax, "CT", 8, 8, ipc::v1::STORED_TYPE_U16, 16);
    std::vector<std::byte> file = Written(instance, testing::Picture(instance));
    // Rows of the header: 8 becomes 7.
    const std::string rows("\x28\x00\x10\x00US\x02\x00\x08\x00", 10);
    const auto at = std::search(file.begin(), file.end(), rows.begin(), rows.end(),
                                [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
    ASSERT_NE(at, file.end());
    *(at + 8) = std::byte{7};
    EXPECT_EQ(base::ReasonOf(DecodeStatus(file)), "CODESTREAM_MISMATCH");
  }
}

TEST_F(DecodeTest, RefusesCutAndEmptyCodestreams) {
  for (const auto syntax : {kRleLossless, kJpegLossless, kJpegLsLossless, kJpeg2000Lossless}) {
    const auto instance = testing::Instance(syntax, "CT", 32, 32, ipc::v1::STORED_TYPE_U16, 16);
    const auto file = Written(instance, testing::Picture(instance));
    const auto layout = Inspect(file, {});
    ASSERT_TRUE(layout.ok());
    const ByteRange whole = layout->fragments.front();
    for (const std::size_t keep : {std::size_t{0}, std::size_t{2}, std::size_t{20}, std::size_t{64},
                                   static_cast<std::size_t>(whole.length / 2)}) {
      const auto* begin = file.data() + whole.offset;
      FileBuilder cut = FileBuilder::WithMeta(syntax);
      cut.Pixels(32, 32, 16, 16, 15, false).Encapsulated({std::vector<std::byte>(begin, begin + keep)});
      const absl::Status status = DecodeStatus(cut.bytes());
      const std::string reason = base::ReasonOf(status);
      EXPECT_TRUE(reason == "CODESTREAM_BROKEN" || reason == "PIXELS_MISSING" || reason == "MALFORMED")
          << syntax << ' ' << keep << ' ' << status;
    }
  }
}

TEST_F(DecodeTest, RefusesAFrameThatIsNotWhatTheHeaderPassSaid) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Pixels(1, 2, 16, 16, 15, false).Header(0x7FE00010, "OW", 4).U16(1).U16(2);
  const auto layout = Inspect(file.bytes(), {});
  ASSERT_TRUE(layout.ok());
  std::vector<std::byte> slot(64);
  using ipc::v1::STORED_TYPE_I16;
  using ipc::v1::STORED_TYPE_U16;
  for (const FrameRequest& wrong : {FrameRequest{1, STORED_TYPE_U16, 1, 2},
                                    {0, STORED_TYPE_I16, 1, 2},
                                    {0, STORED_TYPE_U16, 2, 1},
                                    {0, ipc::v1::STORED_TYPE_UNSPECIFIED, 1, 2}}) {
    EXPECT_EQ(base::ReasonOf(DecodeFrame(*runtime_, file.bytes(), *layout, wrong, slot)), "FRAME_MISMATCH");
  }
  EXPECT_EQ(base::ReasonOf(DecodeStatus(file.bytes(), 3)), "SLOT_TOO_SMALL");
}

TEST_F(DecodeTest, RefusesPixelsThatNoSlotCanHold) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Us(0x00280002, 3).Text(0x00280004, "CS", "RGB").Us(0x00280010, 1).Us(0x00280011, 2);
  file.Us(0x00280100, 8).Us(0x00280101, 8).Us(0x00280102, 7).Us(0x00280103, 0);
  file.Header(0x7FE00010, "OW", 6).Raw("rgbrgb");
  const auto layout = Inspect(file.bytes(), Limits{});
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::vector<std::byte> slot(64);
  const FrameRequest request{0, ipc::v1::STORED_TYPE_UNSPECIFIED, 1, 2};
  EXPECT_EQ(base::ReasonOf(DecodeFrame(*runtime_, file.bytes(), *layout, request, slot)),
            "UNSUPPORTED_PIXELS");
}

// What a library throws has a code, and its words, which may hold values of the file, are not repeated.
TEST(FenceTest, ExceptionsAreTypedErrors) {
  const absl::Status thrown = Fenced([]() -> absl::Status { throw std::runtime_error("Smith^John"); });
  EXPECT_EQ(base::ReasonOf(thrown), "DECODER_EXCEPTION");
  EXPECT_EQ(std::string(thrown.message()).find("Smith"), std::string::npos);
  EXPECT_EQ(base::ReasonOf(Fenced([]() -> absl::Status { throw 7; })), "DECODER_EXCEPTION");
  EXPECT_EQ(base::ReasonOf(Fenced([]() -> absl::Status { throw std::bad_alloc(); })), "OUT_OF_MEMORY");
  EXPECT_TRUE(Fenced([] { return absl::OkStatus(); }).ok());
}

TEST_F(DecodeTest, WritesNothingBehindTheFrame) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Pixels(1, 2, 16, 16, 15, false).Header(0x7FE00010, "OW", 4).U16(1).U16(2);
  const auto layout = Inspect(file.bytes(), {});
  ASSERT_TRUE(layout.ok());
  std::vector<std::byte> slot(8, std::byte{0x55});
  ASSERT_TRUE(DecodeFrame(*runtime_, file.bytes(), *layout, {0, ipc::v1::STORED_TYPE_U16, 1, 2}, slot).ok());
  EXPECT_THAT(std::vector<std::byte>(slot.begin() + 4, slot.end()), ::testing::Each(std::byte{0x55}));
}

TEST_F(DecodeTest, RefusesAJpeg2000TileBomb) {
  // 65535 x 32767 tiles of one pixel.
  FileBuilder stream = FileBuilder::Bare(true, true);
  stream.U16(0xFF4F)
      .U16(0xFF51)
      .U16(41)
      .U16(0)
      .U32(65535)
      .U32(32767)
      .U32(0)
      .U32(0)
      .U32(1)
      .U32(1)
      .U32(0)
      .U32(0)
      .U16(1);
  stream.Raw(std::string_view("\x0B\x01\x01", 3)).U16(0xFF52).U16(12);
  stream.Raw(std::string_view("\x00\x00\x00\x01\x00\x00\x04\x04\x00\x01", 10)).Raw("00");
  FileBuilder file = FileBuilder::WithMeta(kJpeg2000Lossless);
  file.Pixels(32767, 65535, 16, 12, 11, false).Encapsulated({stream.bytes()});
  Limits limits;
  limits.instance_bytes = 4ull << 30;  // or the gatekeeper refuses the frame
  const auto layout = Inspect(file.bytes(), limits);
  ASSERT_TRUE(layout.ok()) << layout.status();
  // The slot would be 4 GiB: a span that is never touched stands for it.
  std::vector<std::byte> slot(64);
  EXPECT_EQ(base::ReasonOf(DecodeFrame(*runtime_, file.bytes(), *layout,
                                       {0, ipc::v1::STORED_TYPE_U16, 32767, 65535}, slot)),
            "SLOT_TOO_SMALL");
  FileBuilder fits = FileBuilder::WithMeta(kJpeg2000Lossless);
  FileBuilder tiles = FileBuilder::Bare(true, true);
  tiles.U16(0xFF4F)
      .U16(0xFF51)
      .U16(41)
      .U16(0)
      .U32(128)
      .U32(128)
      .U32(0)
      .U32(0)
      .U32(1)
      .U32(1)
      .U32(0)
      .U32(0)
      .U16(1);
  tiles.Raw(std::string_view("\x0B\x01\x01", 3));
  fits.Pixels(128, 128, 16, 12, 11, false).Encapsulated({tiles.bytes()});
  EXPECT_EQ(base::ReasonOf(DecodeStatus(fits.bytes())), "CODESTREAM_BROKEN");
}

}  // namespace
}  // namespace tomoserve::dicom
