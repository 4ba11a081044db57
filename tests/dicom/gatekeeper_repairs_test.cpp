#include "tomoserve/dicom/gatekeeper.h"

#include <gtest/gtest.h>

#include <string>

#include "dicom/gatekeeper_files.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;
using testing::ReasonFor;

TEST(GatekeeperRepairsTest, ToleratesWhatRealFilesDo) {
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

TEST(GatekeeperRepairsTest, GuessesAMissingSyntaxAsPydicomDoes) {
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

TEST(GatekeeperRepairsTest, ReadsADatasetThatIsNotEncodedAsDeclared) {
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

}  // namespace
}  // namespace tomoserve::dicom
