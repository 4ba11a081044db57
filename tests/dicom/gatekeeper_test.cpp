#include "tomoserve/dicom/gatekeeper.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "dicom/file_builder.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using testing::Bytes;
using testing::FileBuilder;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;

std::string ReasonFor(const FileBuilder& file, const Limits& limits = {}) {
  return base::ReasonOf(Inspect(file.bytes(), limits).status());
}
std::string ValueFor(const FileBuilder& file, const Limits& limits = {}) {
  return base::ValueOf(Inspect(file.bytes(), limits).status());
}

FileBuilder SmallCt(std::string_view syntax = kExplicitLittleEndian) {
  FileBuilder file = FileBuilder::WithMeta(syntax);
  file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2").Text(0x00100020, "LO", "P1");
  file.Pixels(4, 4, 16, 16, 15, true);
  file.Header(0x7FE00010, "OW", 32);
  for (std::uint32_t i = 0; i < 16; ++i) file.U16(i);
  return file;
}

// 64 bytes of RLE header, then one segment per byte of a 16 bit pixel.
std::vector<std::byte> RleFragment(std::uint32_t segments, std::uint32_t first, std::uint32_t second,
                                   std::string_view data) {
  FileBuilder header = FileBuilder::Bare(true, false);
  header.U32(segments).U32(first).U32(second);
  for (int i = 3; i < 16; ++i) header.U32(0);
  return FileBuilder(header).Raw(data).bytes();
}

TEST(GatekeeperTest, PassesASmallImageInEveryNativeEncoding) {
  for (const auto syntax : {kImplicitLittleEndian, kExplicitLittleEndian, kExplicitBigEndian}) {
    const FileBuilder file = SmallCt(syntax);
    const auto layout = Inspect(file.bytes(), {});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->syntax->uid, syntax);
    EXPECT_TRUE(layout->has_pixels);
    EXPECT_EQ(layout->pixels.rows, 4u);
    EXPECT_EQ(layout->pixels.bits_stored, 16u);
    EXPECT_TRUE(layout->pixels.is_signed);
    EXPECT_EQ(layout->native_pixels.length, 32u);
    EXPECT_EQ(layout->native_pixels.offset, file.bytes().size() - 32);
  }
}

TEST(GatekeeperTest, RefusesAnEmptyFile) {
  const auto layout = Inspect({}, {});
  EXPECT_EQ(base::ReasonOf(layout.status()), "EMPTY_FILE");
}

TEST(GatekeeperTest, RefusesWhatIsNoDicom) {
  for (const std::string text : {"Dear colleague, this is a letter and no image.", "x",
                                 "{\"json\": [1, 2, 3]}", "\x89PNG\r\n\x1a\n0000IHDR00000000"}) {
    EXPECT_EQ(base::ReasonOf(Inspect(Bytes(text), {}).status()), "NOT_DICOM") << text;
  }
  EXPECT_EQ(base::ReasonOf(Inspect(Bytes(std::string(4096, 'a')), {}).status()), "NOT_DICOM");
  EXPECT_EQ(base::ReasonOf(Inspect(std::vector<std::byte>(4096), {}).status()), "NOT_DICOM");
}

TEST(GatekeeperTest, RefusesExecutablePreambles) {
  for (const std::string_view magic : {std::string_view("MZ"),
                                       std::string_view("\x7F"
                                                        "ELF"),
                                       std::string_view("#!")}) {
    std::vector<std::byte> file = SmallCt().bytes();
    std::memcpy(file.data(), magic.data(), magic.size());
    EXPECT_EQ(base::ReasonOf(Inspect(file, {}).status()), "EXECUTABLE_PREAMBLE");
  }
}

TEST(GatekeeperTest, RefusesFilesAboveTheInstanceLimit) {
  Limits limits;
  limits.instance_bytes = 300;
  EXPECT_EQ(ReasonFor(SmallCt(), limits), "INSTANCE_TOO_LARGE");
}

TEST(GatekeeperTest, RefusesSyntaxesByName) {
  for (const std::string uid : {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.102",
                                "1.2.840.10008.1.2.4.110", "1.3.46.670589.33.1.4.1", "1.2.3.4"}) {
    const FileBuilder file = SmallCt(uid);
    EXPECT_EQ(ReasonFor(file), "UNSUPPORTED_TRANSFER_SYNTAX");
    EXPECT_EQ(ValueFor(file), uid);
  }
  const absl::Status deflated = Inspect(SmallCt("1.2.840.10008.1.2.1.99").bytes(), {}).status();
  EXPECT_NE(std::string(base::ToStd(deflated.message())).find("Deflated"), std::string::npos);
}

TEST(GatekeeperTest, NeverRepeatsASyntaxThatIsNoUid) {
  const FileBuilder file = SmallCt("Doe^John");
  EXPECT_EQ(ReasonFor(file), "UNSUPPORTED_TRANSFER_SYNTAX");
  EXPECT_EQ(ValueFor(file), "");
}

TEST(GatekeeperTest, EveryCutOfAFileIsATypedError) {
  FileBuilder file = SmallCt();
  const std::size_t size = file.bytes().size();
  for (std::size_t length = 1; length < size; ++length) {
    const auto cut = std::span(file.bytes()).first(length);
    const auto header = ReadHeader(cut, Limits{});
    // A cut between two elements before the pixel data leaves a whole file without pixels.
    if (header.ok()) {
      EXPECT_FALSE(header->has_pixels()) << length;
      continue;
    }
    const std::string reason = base::ReasonOf(header.status());
    EXPECT_TRUE(reason == "TRUNCATED" || reason == "NOT_DICOM") << length << ' ' << reason;
  }
}

TEST(GatekeeperTest, RefusesAnElementThatReachesOverTheEnd) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00100020, "LO", 100).Raw("short");
  EXPECT_EQ(ReasonFor(file), "TRUNCATED");
}

TEST(GatekeeperTest, RefusesAnElementThatReachesOverItsItem) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00081140, "SQ", 18).Item(10).Header(0x00100020, "LO", 8).Raw("ab");
  file.Text(0x00200010, "SH", "more that follows");
  EXPECT_EQ(ReasonFor(file), "MALFORMED");
}

TEST(GatekeeperTest, RefusesFourGigabytesClaimedInAFewBytes) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x7FE00010, "OW", 0xFFFFFFFE).Raw(std::string(200, 'x'));
  EXPECT_EQ(ReasonFor(file), "ELEMENT_TOO_LARGE");
  EXPECT_EQ(ValueFor(file), "4294967294");
  FileBuilder implicit = FileBuilder::WithMeta(kImplicitLittleEndian);
  implicit.Header(0x00091010, "", 0xF0000000).Raw(std::string(200, 'x'));
  EXPECT_EQ(ReasonFor(implicit), "ELEMENT_TOO_LARGE");
}

TEST(GatekeeperTest, CountsNestingExactly) {
  const auto nested = [](int depth) {
    FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
    for (int i = 0; i < depth; ++i) file.Header(0x00081140, "SQ", kUndefined).Item(kUndefined);
    for (int i = 0; i < depth; ++i) file.ItemEnd().SequenceEnd();
    return file;
  };
  EXPECT_EQ(ReasonFor(nested(64)), "OK");
  EXPECT_EQ(ReasonFor(nested(65)), "NESTING_TOO_DEEP");
  EXPECT_EQ(ValueFor(nested(65)), "64");
}

// 216 KB of nested sequences are a stack overflow in DCMTK 3.6.7.
TEST(GatekeeperTest, RefusesTheNestedSequenceBombs) {
  for (const auto syntax : {kExplicitLittleEndian, kImplicitLittleEndian, kExplicitBigEndian}) {
    FileBuilder undefined = FileBuilder::WithMeta(syntax);
    for (int i = 0; i < 10000; ++i) undefined.Header(0x00081140, "SQ", kUndefined).Item(kUndefined);
    EXPECT_EQ(ReasonFor(undefined), "NESTING_TOO_DEEP");
  }
  FileBuilder defined = FileBuilder::WithMeta(kExplicitLittleEndian);
  for (std::uint32_t left = 200000; left > 40; left -= 20) {
    defined.Header(0x00081140, "SQ", left - 12).Item(left - 20);
  }
  defined.Raw(std::string(200000, '\0'));
  EXPECT_EQ(ReasonFor(defined), "NESTING_TOO_DEEP");
  FileBuilder unknown = FileBuilder::WithMeta(kExplicitLittleEndian);
  unknown.Header(0x00091140, "UN", kUndefined).Item(kUndefined);
  FileBuilder inside = FileBuilder::Bare(true, false);
  for (int i = 0; i < 10000; ++i) inside.Header(0x00091140, "", kUndefined).Item(kUndefined);
  unknown.Raw(inside.bytes());
  EXPECT_EQ(ReasonFor(unknown), "NESTING_TOO_DEEP");
}

TEST(GatekeeperTest, RefusesFourMillionEmptyItems) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00081140, "SQ", kUndefined);
  for (int i = 0; i < 4'000'000; ++i) file.Item(0);
  file.SequenceEnd();
  EXPECT_EQ(ReasonFor(file), "TOO_MANY_ELEMENTS");
}

TEST(GatekeeperTest, RefusesPixelArithmeticThatOverflows) {
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

TEST(GatekeeperTest, RefusesLessPixelDataThanClaimed) {
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

TEST(GatekeeperTest, RefusesRleHeadersThatPointOutside) {
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

TEST(GatekeeperTest, RefusesTheRleSizeBomb) {
  FileBuilder file = FileBuilder::WithMeta(kRleLossless);
  file.Pixels(65535, 32767, 16, 16, 15, false)
      .Encapsulated({RleFragment(2, 64, 700, std::string(1400, '\x81'))});
  EXPECT_EQ(ReasonFor(file), "PIXELS_MISSING");
}

TEST(GatekeeperTest, RefusesPixelDataOfTheWrongKind) {
  FileBuilder encapsulated = FileBuilder::WithMeta(kExplicitLittleEndian);
  encapsulated.Pixels(4, 4, 16, 16, 15, false).Encapsulated({Bytes(std::string(32, 'x'))});
  EXPECT_EQ(ReasonFor(encapsulated), "MALFORMED");
  FileBuilder native = FileBuilder::WithMeta(kJpegLossless);
  native.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OW", 32).Raw(std::string(32, 'x'));
  EXPECT_EQ(ReasonFor(native), "MALFORMED");
}

TEST(GatekeeperTest, RefusesPixelDataWithoutAPixelModule) {
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

TEST(GatekeeperTest, RefusesAnIdentityThatIsThereTwice) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00100020, "LO", "P1").Text(0x00100020, "LO", "P2");
  EXPECT_EQ(ReasonFor(file), "MALFORMED");
  EXPECT_EQ(ValueFor(file), "(0010,0020)");
}

TEST(GatekeeperTest, RefusesItemsAndElementsOutOfPlace) {
  FileBuilder item = FileBuilder::WithMeta(kExplicitLittleEndian);
  item.Text(0x00100020, "LO", "P1").Item(0);
  EXPECT_EQ(ReasonFor(item), "MALFORMED");
  FileBuilder element = FileBuilder::WithMeta(kExplicitLittleEndian);
  element.Header(0x00081140, "SQ", kUndefined).Text(0x00100020, "LO", "P1").SequenceEnd();
  EXPECT_EQ(ReasonFor(element), "MALFORMED");
  FileBuilder delimiter = FileBuilder::WithMeta(kExplicitLittleEndian);
  delimiter.Header(0x00081140, "SQ", kUndefined).Item(kUndefined).SequenceEnd().ItemEnd();
  EXPECT_EQ(ReasonFor(delimiter), "MALFORMED");
  FileBuilder fragment = FileBuilder::WithMeta(kJpegLossless);
  fragment.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OB", kUndefined).Item(kUndefined);
  EXPECT_EQ(ReasonFor(fragment), "MALFORMED");
  FileBuilder unended = FileBuilder::WithMeta(kJpegLossless);
  unended.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OB", kUndefined).Item(0).Item(2).Raw("ab");
  EXPECT_EQ(ReasonFor(unended), "TRUNCATED");
}

TEST(GatekeeperTest, ToleratesWhatRealFilesDo) {
  // Delimiters behind defined lengths, delimiters at the top level, zeros behind the pixel data.
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00081140, "SQ", 8 + 10 + 8).Item(10).Header(0x00081155, "UI", 2).Raw("1.").ItemEnd();
  file.SequenceEnd();
  file.Pixels(2, 2, 8, 8, 7, false).Header(0x7FE00010, "OB", 4).Raw("abcd").Raw(std::string(37, '\0'));
  EXPECT_EQ(ReasonFor(file), "OK");
  // An implicit element inside an explicit dataset.
  FileBuilder mixed = FileBuilder::WithMeta(kExplicitLittleEndian);
  mixed.Text(0x00080060, "CS", "CT").Tag(0x00091010).U32(4).Raw("abcd").Text(0x00100020, "LO", "P1");
  const auto header = ReadHeader(mixed.bytes(), Limits{});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->patient_id(), "P1");
}

TEST(GatekeeperTest, GuessesAMissingSyntaxAsPydicomDoes) {
  const struct {
    bool implicit_vr;
    bool big_endian;
    std::string_view expected;
  } kCases[] = {{true, false, kImplicitLittleEndian},
                {false, false, kExplicitLittleEndian},
                {false, true, kExplicitBigEndian}};
  for (const auto& example : kCases) {
    FileBuilder file = FileBuilder::Bare(example.implicit_vr, example.big_endian);
    file.Text(0x00080060, "CS", "CT").Text(0x00100020, "LO", "P1").Pixels(2, 2, 16, 12, 11, false);
    file.Header(0x7FE00010, "OW", 8).U16(1).U16(2).U16(3).U16(4);
    const auto layout = Inspect(file.bytes(), {});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->syntax->uid, example.expected);
    EXPECT_TRUE(layout->syntax_guessed);
    EXPECT_EQ(layout->pixels.columns, 2u);
  }
  // Magic and meta header, but no transfer syntax in it.
  FileBuilder meta = FileBuilder::Bare(false, false);
  meta.Raw(std::string(128, '\0')).Raw("DICM").Text(0x00020012, "UI", "1.2.3");
  meta.Text(0x00080060, "CS", "MR");
  const auto header = ReadHeader(meta.bytes(), Limits{});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->modality(), "MR");
  EXPECT_EQ(header->transfer_syntax_uid(), kExplicitLittleEndian);
}

TEST(GatekeeperTest, ReadsADatasetThatIsNotEncodedAsDeclared) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  FileBuilder implicit = FileBuilder::Bare(true, false);
  implicit.Text(0x00080060, "CS", "CT").Text(0x00100020, "LO", "P1");
  file.Raw(implicit.bytes());
  const auto header = ReadHeader(file.bytes(), Limits{});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->patient_id(), "P1");
  ASSERT_EQ(header->repairs_size(), 1);
  EXPECT_EQ(header->repairs(0).code(), "ENCODING_REPAIRED");
}

TEST(GatekeeperTest, FindsTheFragmentsOfFrames) {
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

TEST(GatekeeperTest, DamagedFilesEndInATypedResult) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00080051, "SQ", kUndefined)
      .Item(kUndefined)
      .Text(0x00400031, "UT", "H1")
      .ItemEnd()
      .SequenceEnd();
  file.Header(0x00081140, "SQ", 18).Item(10).Header(0x00081155, "UI", 2).Raw("1.");
  file.Text(0x00100010, "PN", "A^B")
      .Pixels(4, 4, 16, 16, 15, true, "1")
      .Encapsulated({Bytes(std::string(64, 'x'))});
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> damaged = file.bytes();
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int c = 0; c < changes; ++c)
      damaged[132 + random() % (damaged.size() - 132)] = static_cast<std::byte>(random());
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto header = ReadHeader(damaged, Limits{});
    if (header.ok()) continue;
    ++refused;
    EXPECT_NE(base::ReasonOf(header.status()), "INTERNAL");
  }
  EXPECT_GT(refused, 1000);
}

TEST(GatekeeperTest, LimitsComeFromTheLease) {
  ipc::v1::GatekeeperLimits message;
  EXPECT_EQ(LimitsFrom(message).nesting, 64u);
  EXPECT_EQ(LimitsFrom(message).instance_bytes, 512ull << 20);
  message.set_nesting(3);
  message.set_elements(10);
  message.set_instance_bytes(1ull << 40);
  EXPECT_EQ(LimitsFrom(message).nesting, 3u);
  EXPECT_EQ(LimitsFrom(message).elements, 10u);
  EXPECT_EQ(LimitsFrom(message).instance_bytes, 2ull << 30);
}

}  // namespace
}  // namespace tomoserve::dicom
