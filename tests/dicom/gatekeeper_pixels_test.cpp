#include "tomoserve/dicom/gatekeeper.h"

#include <gtest/gtest.h>

#include <string>

#include "dicom/gatekeeper_files.h"

namespace tomoserve::dicom {
namespace {

using testing::Bytes;
using testing::FileBuilder;
using testing::ReasonFor;
using testing::RleFragment;
using testing::ValueFor;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;

TEST(GatekeeperPixelsTest, RefusesPixelArithmeticThatOverflows) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Pixels(65535, 65535, 16, 16, 15, false, "2147483647").Header(0x7FE00010, "OW", 2).U16(0);
  EXPECT_EQ(ReasonFor(file), "PIXELS_TOO_LARGE");
  FileBuilder samples = FileBuilder::WithMeta(kExplicitLittleEndian);
  samples.Us(0x00280002, 65535)
      .Text(0x00280008, "IS", "2147483647")
      .Us(0x00280010, 65535)
      .Us(0x00280011, 65535);
  samples.Us(0x00280100, 64).Us(0x00280101, 64).Header(0x7FE00010, "OW", 2).U16(0);
  EXPECT_EQ(ReasonFor(samples), "PIXELS_TOO_LARGE");
}

TEST(GatekeeperPixelsTest, RefusesLessPixelDataThanClaimed) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OW", 30).Raw(std::string(30, 'x'));
  EXPECT_EQ(ReasonFor(file), "PIXELS_MISSING");
  EXPECT_EQ(ValueFor(file), "30");
  FileBuilder jpeg = FileBuilder::WithMeta(kJpegLossless);
  jpeg.Pixels(4, 4, 16, 16, 15, false).Encapsulated({});
  EXPECT_EQ(ReasonFor(jpeg), "PIXELS_MISSING");
  FileBuilder frames = FileBuilder::WithMeta(kJpegLossless);
  frames.Pixels(4, 4, 16, 16, 15, false, "3").Encapsulated({Bytes("ab"), Bytes("cd")});
  EXPECT_EQ(ReasonFor(frames), "PIXELS_MISSING");
}

TEST(GatekeeperPixelsTest, RefusesRleHeadersThatPointOutside) {
  const auto with = [](const std::vector<std::byte>& fragment) {
    FileBuilder file = FileBuilder::WithMeta(kRleLossless);
    file.Pixels(4, 4, 16, 16, 15, false).Encapsulated({fragment});
    return file;
  };
  const std::string data(64, '\x01');
  EXPECT_EQ(ReasonFor(with(RleFragment(2, 64, 96, data))), "OK");
  EXPECT_EQ(ReasonFor(with(RleFragment(2, 64, 0x7FFFFFF0, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(2, 0xFFFFFFFF, 96, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(2, 96, 64, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(2, 0, 96, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(1, 64, 0, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(0, 64, 96, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(RleFragment(0xFFFFFFFF, 64, 96, data))), "MALFORMED");
  EXPECT_EQ(ReasonFor(with(Bytes("too short"))), "MALFORMED");
}

// 1.5 KB that make DCMTK 3.6.7 take 4.2 GB.
TEST(GatekeeperPixelsTest, RefusesTheRleSizeBomb) {
  const auto bomb = [](std::uint32_t rows, std::uint32_t columns) {
    FileBuilder file = FileBuilder::WithMeta(kRleLossless);
    file.Pixels(rows, columns, 16, 16, 15, false)
        .Encapsulated({RleFragment(2, 64, 700, std::string(1400, '\x81'))});
    return file;
  };
  EXPECT_EQ(ReasonFor(bomb(65535, 32767)), "PIXELS_TOO_LARGE");
  EXPECT_EQ(ValueFor(bomb(65535, 32767)), "4294770690");
  EXPECT_EQ(ReasonFor(bomb(16384, 16384)), "PIXELS_MISSING");
}

TEST(GatekeeperPixelsTest, RefusesACompressedFrameAboveTheInstanceLimit) {
  Limits limits;
  limits.instance_bytes = 1 << 20;
  const auto frames = [](std::uint32_t rows, std::string_view count) {
    FileBuilder file = FileBuilder::WithMeta(kJpegLossless);
    file.Pixels(rows, 1024, 16, 16, 15, false, count).Encapsulated({Bytes("ab"), Bytes("cd"), Bytes("ef")});
    return file;
  };
  EXPECT_EQ(ReasonFor(frames(512, "1"), limits), "OK");
  EXPECT_EQ(ReasonFor(frames(513, "1"), limits), "PIXELS_TOO_LARGE");
  EXPECT_EQ(ValueFor(frames(513, "1"), limits), "1050624");
  // The sum of all frames has its own limit.
  EXPECT_EQ(ReasonFor(frames(512, "3"), limits), "OK");
  limits.pixel_bytes = 3 << 20;
  EXPECT_EQ(ReasonFor(frames(512, "3"), limits), "OK");
  limits.pixel_bytes = (3 << 20) - 1;
  EXPECT_EQ(ReasonFor(frames(512, "3"), limits), "PIXELS_TOO_LARGE");
  EXPECT_EQ(ValueFor(frames(512, "3"), limits), "3145728");
}

TEST(GatekeeperPixelsTest, RefusesPixelDataOfTheWrongKind) {
  FileBuilder encapsulated = FileBuilder::WithMeta(kExplicitLittleEndian);
  encapsulated.Pixels(4, 4, 16, 16, 15, false).Encapsulated({Bytes(std::string(32, 'x'))});
  EXPECT_EQ(ReasonFor(encapsulated), "MALFORMED");
  FileBuilder native = FileBuilder::WithMeta(kJpegLossless);
  native.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OW", 32).Raw(std::string(32, 'x'));
  EXPECT_EQ(ReasonFor(native), "MALFORMED");
}

TEST(GatekeeperPixelsTest, RefusesPixelDataWithoutAPixelModule) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x7FE00010, "OW", 2).U16(0);
  EXPECT_EQ(ReasonFor(file), "MALFORMED");
  EXPECT_EQ(ValueFor(file), "(0028,0010)");
  for (const auto& [allocated, stored] : {std::pair{0, 0}, {12, 12}, {16, 17}, {16, 0}, {72, 16}}) {
    FileBuilder bits = FileBuilder::WithMeta(kExplicitLittleEndian);
    bits.Pixels(1, 1, static_cast<std::uint32_t>(allocated), static_cast<std::uint32_t>(stored), 0, false);
    bits.Header(0x7FE00010, "OW", 2).U16(0);
    EXPECT_EQ(ReasonFor(bits), "MALFORMED") << allocated << ' ' << stored;
  }
  for (const std::string_view frames : {"0", "-1", "2.5", "many", "99999999999"}) {
    FileBuilder file_of_frames = FileBuilder::WithMeta(kExplicitLittleEndian);
    file_of_frames.Pixels(1, 1, 16, 16, 15, false, frames).Header(0x7FE00010, "OW", 2).U16(0);
    EXPECT_EQ(ReasonFor(file_of_frames), "MALFORMED") << frames;
  }
}

TEST(GatekeeperPixelsTest, FindsTheFragmentsOfFrames) {
  const auto soi = [](std::string_view rest) {
    return Bytes(std::string("\xFF\xD8\xFF\xC3") + std::string(rest));
  };
  FileBuilder split = FileBuilder::WithMeta(kJpegLossless);
  split.Pixels(4, 4, 16, 16, 15, false, "2").Encapsulated({soi("aa"), Bytes("bb"), soi("cc")});
  const auto layout = Inspect(split.bytes(), {});
  ASSERT_TRUE(layout.ok()) << layout.status();
  const auto first = FragmentsOfFrame(split.bytes(), *layout, 0);
  const auto second = FragmentsOfFrame(split.bytes(), *layout, 1);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->size(), 2u);
  EXPECT_EQ(second->size(), 1u);
  EXPECT_EQ(second->front().offset, layout->fragments[2].offset);
  EXPECT_EQ(base::ReasonOf(FragmentsOfFrame(split.bytes(), *layout, 2).status()), "FRAME_MISMATCH");

  // By the basic offset table: no marker tells.
  FileBuilder table = FileBuilder::WithMeta(kJpegLossless);
  table.Pixels(4, 4, 16, 16, 15, false, "2").Header(0x7FE00010, "OB", kUndefined).Item(8).U32(0).U32(10);
  table.Item(2).Raw("aa").Item(2).Raw("bb").Item(2).Raw("cc").SequenceEnd();
  const auto with_table = Inspect(table.bytes(), {});
  ASSERT_TRUE(with_table.ok()) << with_table.status();
  const auto last = FragmentsOfFrame(table.bytes(), *with_table, 1);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->size(), 2u);

  FileBuilder lying = FileBuilder::WithMeta(kJpegLossless);
  lying.Pixels(4, 4, 16, 16, 15, false, "2")
      .Header(0x7FE00010, "OB", kUndefined)
      .Item(8)
      .U32(0)
      .U32(0xFFFFFFF0);
  lying.Item(2).Raw("aa").Item(2).Raw("bb").Item(2).Raw("cc").SequenceEnd();
  const auto with_lie = Inspect(lying.bytes(), {});
  ASSERT_TRUE(with_lie.ok());
  EXPECT_EQ(base::ReasonOf(FragmentsOfFrame(lying.bytes(), *with_lie, 1).status()), "MALFORMED");
}

}  // namespace
}  // namespace tomoserve::dicom
