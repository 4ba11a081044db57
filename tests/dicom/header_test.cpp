#include "tomoserve/dicom/header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <string>

#include "dicom/file_builder.h"
#include "dicom/text.h"
#include "dicom/values.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/transfer_syntax.h"

namespace tomoserve::dicom {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::FileBuilder;
using ::testing::IsEmpty;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;
constexpr std::string_view kCt = "1.2.840.10008.5.1.4.1.1.2";

absl::StatusOr<ipc::v1::InstanceHeader> Read(const FileBuilder& file) {
  return ReadHeader(file.bytes(), Limits{});
}

std::vector<std::string> Repairs(const ipc::v1::InstanceHeader& header) {
  std::vector<std::string> repairs;
  for (const auto& repair : header.repairs()) repairs.push_back(repair.code() + repair.value());
  return repairs;
}

FileBuilder& NativePixels(FileBuilder& file, std::size_t bytes) {
  return file.Header(0x7FE00010, "OW", static_cast<std::uint32_t>(bytes)).Raw(std::string(bytes, '\0'));
}

TEST(HeaderTest, ReadsAllFields) {
  for (const auto syntax : {kImplicitLittleEndian, kExplicitLittleEndian, kExplicitBigEndian}) {
    FileBuilder file = FileBuilder::WithMeta(syntax);
    file.Text(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL ").Text(0x00080016, "UI", kCt);
    file.Text(0x00080018, "UI", "1.2.3")
        .Text(0x00080020, "DA", "20240131")
        .Text(0x00080030, "TM", "101112.5");
    file.Text(0x00080032, "TM", "101200").Text(0x00080050, "SH", "ACC1");
    file.Header(0x00080051, "SQ", kUndefined)
        .Item(kUndefined)
        .Text(0x00400031, "UT", "HOSP")
        .ItemEnd()
        .SequenceEnd();
    file.Text(0x00080060, "CS", "CT").Text(0x00080070, "LO", "ACME").Text(0x00080080, "LO", "Clinic");
    file.Text(0x00080201, "SH", "+0100").Text(0x00081010, "SH", "CT99").Text(0x0008103E, "LO", "Lung 1.0");
    file.Text(0x00100010, "PN", "Doe^Jane").Text(0x00100020, "LO", "P1").Text(0x00100021, "LO", "ISS");
    file.Text(0x00100030, "DA", "19700101").Text(0x00100040, "CS", "F").Text(0x00101010, "AS", "054Y");
    file.Text(0x00180010, "LO", "Agent").Text(0x00180015, "CS", "CHEST").Text(0x00180050, "DS", "1.25");
    file.Text(0x00180060, "DS", "120").Text(0x00180081, "DS", "4.6").Text(0x00180086, "IS", "2");
    file.Text(0x00181030, "LO", "Thorax").Text(0x00181060, "DS", "300").Text(0x00181120, "DS", "-7.5");
    file.Text(0x00181210, "SH", "B60f\\3");
    file.Header(0x00189087, "FD", 8);
    const auto b_value = std::bit_cast<std::uint64_t>(1000.0);
    if (syntax == kExplicitBigEndian) {
      file.U32(static_cast<std::uint32_t>(b_value >> 32)).U32(static_cast<std::uint32_t>(b_value));
    } else {
      file.U32(static_cast<std::uint32_t>(b_value)).U32(static_cast<std::uint32_t>(b_value >> 32));
    }
    file.Text(0x0020000D, "UI", "1.2").Text(0x0020000E, "UI", "1.2.1").Text(0x00200011, "IS", "3");
    file.Text(0x00200012, "IS", "1").Text(0x00200013, "IS", " 17 ").Text(0x00200032, "DS", "-10.5\\20\\3e1");
    file.Text(0x00200037, "DS", "1\\0\\0\\0\\1\\0").Text(0x00200052, "UI", "1.9").Text(0x00200100, "IS", "4");
    file.Us(0x00280002, 1).Text(0x00280004, "CS", "MONOCHROME2").Us(0x00280010, 3).Us(0x00280011, 2);
    file.Text(0x00280030, "DS", "0.7\\0.8").Us(0x00280100, 16).Us(0x00280101, 12).Us(0x00280102, 11);
    file.Us(0x00280103, 1).Us(0x00280120, 0xF830).Text(0x00281052, "DS", "-1024").Text(0x00281053, "DS", "1");
    file.Text(0x00281054, "LO", "HU").Text(0x00282110, "CS", "01").Text(0x00282112, "DS", "10\\2");
    file.Header(0x00400275, "SQ", kUndefined)
        .Item(kUndefined)
        .Text(0x00401001, "SH", "RP1")
        .ItemEnd()
        .SequenceEnd();
    file.Text(0x00402016, "LO", "PO1").Text(0x00402017, "LO", "FO1");
    NativePixels(file, 12);
    const auto result = Read(file);
    ASSERT_TRUE(result.ok()) << result.status();
    const ipc::v1::InstanceHeader& h = *result;
    EXPECT_THAT(Repairs(h), IsEmpty());
    EXPECT_EQ(h.sop_class_uid(), kCt);
    EXPECT_EQ(h.sop_instance_uid(), "1.2.3");
    EXPECT_EQ(h.study_instance_uid(), "1.2");
    EXPECT_EQ(h.series_instance_uid(), "1.2.1");
    EXPECT_EQ(h.frame_of_reference_uid(), "1.9");
    EXPECT_EQ(h.transfer_syntax_uid(), syntax);
    EXPECT_EQ(h.kind(), ipc::v1::OBJECT_KIND_IMAGE);
    EXPECT_EQ(h.modality(), "CT");
    EXPECT_THAT(h.image_type(), ElementsAre("ORIGINAL", "PRIMARY", "AXIAL"));
    EXPECT_EQ(h.patient_id(), "P1");
    EXPECT_EQ(h.issuer_of_patient_id(), "ISS");
    EXPECT_EQ(h.patient_name(), "Doe^Jane");
    EXPECT_EQ(h.patient_birth_date(), "19700101");
    EXPECT_EQ(h.patient_sex(), "F");
    EXPECT_EQ(h.patient_age(), "054Y");
    EXPECT_EQ(h.accession_number(), "ACC1");
    EXPECT_EQ(h.accession_issuer(), "HOSP");
    EXPECT_EQ(h.requested_procedure_id(), "RP1");
    EXPECT_EQ(h.placer_order_number(), "PO1");
    EXPECT_EQ(h.filler_order_number(), "FO1");
    EXPECT_EQ(h.study_date(), "20240131");
    EXPECT_EQ(h.study_time(), "101112.5");
    EXPECT_EQ(h.acquisition_time(), "101200");
    EXPECT_EQ(h.timezone_offset(), "+0100");
    EXPECT_EQ(h.institution(), "Clinic");
    EXPECT_EQ(h.station(), "CT99");
    EXPECT_EQ(h.manufacturer(), "ACME");
    EXPECT_EQ(h.series_number(), 3);
    EXPECT_EQ(h.acquisition_number(), 1);
    EXPECT_EQ(h.instance_number(), 17);
    EXPECT_EQ(h.temporal_position(), 4);
    EXPECT_EQ(h.echo_time_ms(), 4.6);
    EXPECT_EQ(h.echo_number(), 2);
    EXPECT_EQ(h.trigger_time_ms(), 300);
    EXPECT_EQ(h.diffusion_b_value(), 1000);
    EXPECT_EQ(h.series_description(), "Lung 1.0");
    EXPECT_EQ(h.protocol_name(), "Thorax");
    EXPECT_EQ(h.body_part(), "CHEST");
    EXPECT_EQ(h.convolution_kernel(), "B60f\\3");
    EXPECT_EQ(h.kvp(), 120);
    EXPECT_EQ(h.contrast_agent(), "Agent");
    EXPECT_EQ(h.slice_thickness_mm(), 1.25);
    EXPECT_EQ(h.gantry_tilt_deg(), -7.5);
    EXPECT_THAT(h.image_position(), ElementsAre(-10.5, 20, 30));
    EXPECT_THAT(h.image_orientation(), ElementsAre(1, 0, 0, 0, 1, 0));
    EXPECT_THAT(h.pixel_spacing_mm(), ElementsAre(0.7, 0.8));
    EXPECT_EQ(h.rows(), 3u);
    EXPECT_EQ(h.columns(), 2u);
    EXPECT_EQ(h.frames(), 1u);
    EXPECT_EQ(h.samples_per_pixel(), 1u);
    EXPECT_EQ(h.photometric(), "MONOCHROME2");
    EXPECT_EQ(h.bits_allocated(), 16u);
    EXPECT_EQ(h.bits_stored(), 12u);
    EXPECT_TRUE(h.pixel_signed());
    EXPECT_EQ(h.stored_type(), ipc::v1::STORED_TYPE_I16);
    EXPECT_EQ(h.rescale_slope(), 1);
    EXPECT_EQ(h.rescale_intercept(), -1024);
    EXPECT_EQ(h.rescale_type(), "HU");
    EXPECT_EQ(h.pixel_padding_value(), -2000);
    EXPECT_TRUE(h.lossy());
    EXPECT_EQ(h.lossy_ratio(), 20);
    EXPECT_TRUE(h.has_pixels());
    EXPECT_FALSE(h.written_by_tomoserve());
  }
}

// The attribute of classic images counts first, then the first item of the sequence.
TEST(HeaderTest, ReadsTheContrastAgentOfTheSequence) {
  const auto file = [](std::string_view syntax, bool attribute) {
    FileBuilder builder = FileBuilder::WithMeta(syntax);
    builder.Text(0x00080060, "CS", "CT");
    if (attribute) builder.Text(0x00180010, "LO", "Omnipaque 350");
    FileBuilder item = FileBuilder::Bare(FindTransferSyntax(syntax)->implicit_vr, false);
    item.Text(0x00080100, "SH", "C-B0300").Text(0x00080104, "LO", "Iohexol");
    const auto length = static_cast<std::uint32_t>(item.bytes().size());
    builder.Header(0x00180012, "SQ", 2 * (8 + length));
    builder.Item(length).Raw(item.bytes()).Item(length).Raw(item.bytes());
    return ReadHeader(builder.bytes(), Limits{});
  };
  for (const std::string_view syntax : {kExplicitLittleEndian, kImplicitLittleEndian}) {
    EXPECT_EQ(file(syntax, false)->contrast_agent(), "Iohexol") << syntax;
    EXPECT_EQ(file(syntax, true)->contrast_agent(), "Omnipaque 350") << syntax;
  }
}

TEST(HeaderTest, LeavesAbsentNumbersAbsent) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080060, "CS", "CT").Text(0x00180050, "DS", "").Text(0x00200013, "IS", "  ");
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_FALSE(header->has_instance_number());
  EXPECT_FALSE(header->has_slice_thickness_mm());
  EXPECT_FALSE(header->has_rescale_slope());
  EXPECT_FALSE(header->has_pixel_padding_value());
  EXPECT_EQ(header->frames(), 1u);
  EXPECT_THAT(Repairs(*header), IsEmpty());
}

TEST(HeaderTest, DropsMalformedNumbersAndSaysSo) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00180050, "DS", "1,25").Text(0x00181120, "DS", "nan").Text(0x00200013, "IS", "1.0");
  file.Text(0x00200032, "DS", "1\\2")
      .Text(0x00200037, "DS", "1\\0\\0\\0\\1\\0\\7")
      .Text(0x00280030, "DS", "1\\x");
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_FALSE(header->has_slice_thickness_mm());
  EXPECT_FALSE(header->has_instance_number());
  EXPECT_THAT(header->image_position(), IsEmpty());
  EXPECT_THAT(header->image_orientation(), IsEmpty());
  EXPECT_THAT(header->pixel_spacing_mm(), IsEmpty());
  EXPECT_THAT(Repairs(*header),
              ::testing::UnorderedElementsAre("MALFORMED_VALUE(0018,0050)", "MALFORMED_VALUE(0018,1120)",
                                              "MALFORMED_VALUE(0020,0013)", "MALFORMED_VALUE(0020,0032)",
                                              "MALFORMED_VALUE(0020,0037)", "MALFORMED_VALUE(0028,0030)"));
}

TEST(HeaderTest, RefusesAMalformedRescale) {
  for (const std::uint32_t tag : {0x00281052u, 0x00281053u}) {
    FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
    file.Text(tag, "DS", "1\\2");
    EXPECT_EQ(base::ReasonOf(Read(file).status()), "MALFORMED");
  }
}

TEST(HeaderTest, ParsesDecimalsStrictly) {
  EXPECT_EQ(ParseDecimal(" 1.5 "), 1.5);
  EXPECT_EQ(ParseDecimal("+1.5E+2"), 150);
  EXPECT_EQ(ParseDecimal(std::string_view("-2\0", 3)), -2);
  for (const std::string_view bad :
       {"", " ", "inf", "nan", "0x10", "1.5.2", "1 2", "1,5", "+-1", "e5", "--1", "1e999"}) {
    EXPECT_FALSE(ParseDecimal(bad)) << bad;
  }
  EXPECT_EQ(ParseInteger("+12"), 12);
  for (const std::string_view bad : {"", "1.0", "2147483648", "1e3", "+-1", "12a"}) {
    EXPECT_FALSE(ParseInteger(bad)) << bad;
  }
}

TEST(HeaderTest, TellsImagesFromPicturesAndOthers) {
  const auto kind = [](std::string_view sop_class, std::string_view photometric, std::uint32_t samples,
                       std::uint32_t bits, bool pixels = true) {
    FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
    file.Text(0x00080016, "UI", sop_class).Us(0x00280002, samples).Text(0x00280004, "CS", photometric);
    file.Us(0x00280010, 2).Us(0x00280011, 8).Us(0x00280100, bits).Us(0x00280101, bits);
    if (pixels) NativePixels(file, 2 * 8 * samples * (bits + 7) / 8);
    const auto header = Read(file);
    EXPECT_TRUE(header.ok()) << header.status();
    return header.ok() ? header->kind() : ipc::v1::OBJECT_KIND_UNSPECIFIED;
  };
  using enum ipc::v1::ObjectKind;
  EXPECT_EQ(kind(kCt, "MONOCHROME2", 1, 16), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind(kCt, "MONOCHROME1", 1, 8), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind("", "MONOCHROME2", 1, 16), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.4", "MONOCHROME2", 1, 32), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.128", "MONOCHROME2", 1, 16), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind(kCt, "RGB", 3, 8), OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind(kCt, "PALETTE COLOR", 1, 8), OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind(kCt, "MONOCHROME2", 1, 1), OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.7", "MONOCHROME2", 1, 8), OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.7.3", "MONOCHROME2", 1, 16), OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.66.4", "MONOCHROME2", 1, 8), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.481.2", "MONOCHROME2", 1, 32), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind("1.2.840.10008.5.1.4.1.1.88.33", "", 1, 16, false), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind(kCt, "MONOCHROME2", 1, 16, false), OBJECT_KIND_OTHER);
}

TEST(HeaderTest, SaysThatItGuessedTheTransferSyntax) {
  FileBuilder file = FileBuilder::Bare(/*implicit_vr=*/true, /*big_endian=*/false);
  file.Text(0x00080018, "UI", "1.2.3").Text(0x00100020, "LO", "P1");
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->transfer_syntax_uid(), kImplicitLittleEndian);
  EXPECT_THAT(Repairs(*header), ElementsAre("TRANSFER_SYNTAX_GUESSED(0002,0010)"));
}

TEST(HeaderTest, RepairsAHighBitThatCannotBe) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Pixels(1, 1, 16, 12, 3, false);
  NativePixels(file, 2);
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_THAT(Repairs(*header), ElementsAre("HIGH_BIT_REPAIRED(0028,0102)"));
}

TEST(HeaderTest, RecognisesOurOwnResults) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x0018A001, "SQ", kUndefined);
  file.Item(kUndefined).Text(0x00080070, "LO", "ACME").ItemEnd();
  file.Item(kUndefined).Text(0x00080070, "LO", kResultManufacturer).ItemEnd().SequenceEnd();
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_TRUE(header->written_by_tomoserve());
}

TEST(HeaderTest, CutsTextsThatWouldFillARecord) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  for (const std::uint32_t tag : {0x00080050u, 0x00080070u, 0x00080080u, 0x00081010u, 0x0008103Eu,
                                  0x00100010u, 0x00100020u, 0x00180010u, 0x00181030u, 0x00181210u}) {
    file.Text(tag, "LO", std::string(65000, 'x'));
  }
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_LT(header->ByteSizeLong(), 60000u);
  EXPECT_EQ(header->patient_id().size(), 1024u);
  EXPECT_EQ(header->repairs(0).code(), "TEXT_CUT");
}

struct CharsetCase {
  const char* charset;
  std::string_view name;
  std::string_view expected;
};

class CharsetTest : public ::testing::TestWithParam<CharsetCase> {};

// Examples of PS3.5 annexes H to K, and one per single-byte set.
TEST_P(CharsetTest, BecomesUtf8) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080005, "CS", GetParam().charset).Text(0x00100010, "PN", GetParam().name);
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->patient_name(), GetParam().expected);
  EXPECT_THAT(Repairs(*header), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    AllSets, CharsetTest,
    ::testing::Values(
        CharsetCase{"", "Doe^John", "Doe^John"}, CharsetCase{"ISO_IR 6", "Doe^John", "Doe^John"},
        CharsetCase{"ISO_IR 100", "Buc^J\xE9r\xF4me", "Buc^Jérôme"},
        CharsetCase{"ISO IR 100", "Buc^J\xE9r\xF4me", "Buc^Jérôme"},
        CharsetCase{"ISO_IR 101", "Wa\xB3\xEAsa", "Wałęsa"}, CharsetCase{"ISO_IR 109", "\xA6uman", "Ĥuman"},
        CharsetCase{"ISO_IR 110", "\xA3", "Ŗ"},
        CharsetCase{"ISO_IR 144", "\xBB\xEE\xDA\x63\x65\xDC\xD1\x79\x70\xD3", "Люкceмбypг"},
        CharsetCase{"ISO_IR 127", "\xE2\xC8\xC7\xE6\xEA^\xE4\xE6\xD2\xC7\xD1", "قباني^لنزار"},
        CharsetCase{"ISO_IR 126", "\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"},
        CharsetCase{"ISO_IR 138", "\xF9\xF8\xE5\xEF^\xE3\xE1\xE5\xF8\xE4", "שרון^דבורה"},
        CharsetCase{"ISO_IR 148", "\xC7\xFD\xF0", "Çığ"}, CharsetCase{"ISO_IR 203", "\xA4", "€"},
        CharsetCase{"\\ISO 2022 IR 159", "X\x1B$(D\x22\x6F\x1B(B^Y", "X™^Y"},
        CharsetCase{"ISO 2022 IR 149", "\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7", "洪^吉洞"},
        CharsetCase{"ISO_IR 13", "\xD4\xCF\xC0\xDE^\xC0\xDB\xB3", "ﾔﾏﾀﾞ^ﾀﾛｳ"},
        CharsetCase{"ISO_IR 166", "\xB9\xD3", "นำ"},
        CharsetCase{"ISO_IR 192", "Wang^XiaoDong=王^小东=", "Wang^XiaoDong=王^小东="},
        CharsetCase{"GB18030", "Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="},
        CharsetCase{"GBK", "Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="},
        CharsetCase{"\\ISO 2022 IR 87",
                    "Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B",
                    "Yamada^Tarou=山田^太郎=やまだ^たろう"},
        CharsetCase{"ISO 2022 IR 13\\ISO 2022 IR 87",
                    "\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"},
        CharsetCase{"\\ISO 2022 IR 149",
                    "Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=", "Hong^Gildong=洪^吉洞="},
        CharsetCase{"\\ISO 2022 IR 58",
                    "Zhang^XiaoDong=\x1B$)A\xD5\xC5^\x1B$)A\xD0\xA1\xB6\xAB=", "Zhang^XiaoDong=张^小东="},
        CharsetCase{"\\ISO 2022 IR 100", "Buc^J\x1B-A\xE9r\xF4me", "Buc^Jérôme"}));

struct BrokenCharset {
  const char* charset;
  std::string_view name;
  std::string_view expected;
};

class BrokenCharsetTest : public ::testing::TestWithParam<BrokenCharset> {};

TEST_P(BrokenCharsetTest, IsRepairedAndReported) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080005, "CS", GetParam().charset).Text(0x00100010, "PN", GetParam().name);
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->patient_name(), GetParam().expected);
  EXPECT_THAT(Repairs(*header), ElementsAre("CHARSET_REPAIRED(0010,0010)"));
  // The receiver parses it: proto3 refuses broken UTF-8.
  ipc::v1::InstanceHeader parsed;
  EXPECT_TRUE(parsed.ParseFromString(header->SerializeAsString()));
}

INSTANTIATE_TEST_SUITE_P(AllCases, BrokenCharsetTest,
                         ::testing::Values(BrokenCharset{"", "Buc^J\xE9r\xF4me", "Buc^Jérôme"},
                                           BrokenCharset{"", "Buc^Jérôme", "Buc^Jérôme"},
                                           BrokenCharset{"ISO_IR 192", "M\xFCller", "M\uFFFDller"},
                                           BrokenCharset{"ISO_IR 192", "a\xE2\x82", "a\uFFFD\uFFFD"},
                                           BrokenCharset{"ISO_IR 999", "M\xFCller", "Müller"},
                                           BrokenCharset{"GB18030", "X\xFF\xFFY", "X\uFFFD\uFFFDY"},
                                           BrokenCharset{"ISO_IR 100",
                                                         "a\x01"
                                                         "b",
                                                         "a\uFFFDb"}));

TEST(TextTest, RefusesEveryKindOfBrokenUtf8) {
  for (const std::string_view broken : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                        "\xF8\x88\x80\x80\x80", "\x80", "\xC3", "\xF0\x9F\x92"}) {
    EXPECT_TRUE(CleanUtf8(broken).repaired);
  }
  for (const std::string_view whole : {"a", "é", "€", "😀", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_FALSE(CleanUtf8(whole).repaired);
    EXPECT_EQ(CleanUtf8(whole).utf8, whole);
  }
}

TEST(TextTest, CutsBetweenCharacters) {
  EXPECT_EQ(CutUtf8("aé", 2), "a");
  EXPECT_EQ(CutUtf8("aé", 3), "aé");
  EXPECT_EQ(CutUtf8("€", 2), "");
}

}  // namespace
}  // namespace tomoserve::dicom
