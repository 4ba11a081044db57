#include "tomoserve/dicom/gatekeeper.h"

#include <gtest/gtest.h>

#include <string>

#include "dicom/gatekeeper_files.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;
using testing::ReasonFor;
using testing::SmallCt;
using testing::ValueFor;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;

TEST(GatekeeperLimitsTest, RefusesFilesAboveTheInstanceLimit) {
  Limits limits;
  limits.instance_bytes = 300;
  EXPECT_EQ(ReasonFor(SmallCt(), limits), "INSTANCE_TOO_LARGE");
}

TEST(GatekeeperLimitsTest, RefusesFourGigabytesClaimedInAFewBytes) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x7FE00010, "OW", 0xFFFFFFFE).Raw(std::string(200, 'x'));
  EXPECT_EQ(ReasonFor(file), "ELEMENT_TOO_LARGE");
  EXPECT_EQ(ValueFor(file), "4294967294");
  FileBuilder implicit = FileBuilder::WithMeta(kImplicitLittleEndian);
  implicit.Header(0x00091010, "", 0xF0000000).Raw(std::string(200, 'x'));
  EXPECT_EQ(ReasonFor(implicit), "ELEMENT_TOO_LARGE");
}

TEST(GatekeeperLimitsTest, CountsNestingExactly) {
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
TEST(GatekeeperLimitsTest, RefusesTheNestedSequenceBombs) {
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

TEST(GatekeeperLimitsTest, RefusesFourMillionEmptyItems) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00081140, "SQ", kUndefined);
  for (int i = 0; i < 4'000'000; ++i) file.Item(0);
  file.SequenceEnd();
  EXPECT_EQ(ReasonFor(file), "TOO_MANY_ELEMENTS");
}

TEST(GatekeeperLimitsTest, EveryLimitIsExactAndSaysItsNumber) {
  const FileBuilder file = SmallCt();
  Limits limits;
  limits.instance_bytes = file.bytes().size();
  EXPECT_EQ(ReasonFor(file, limits), "OK");
  --limits.instance_bytes;
  EXPECT_EQ(ReasonFor(file, limits), "INSTANCE_TOO_LARGE");
  EXPECT_EQ(ValueFor(file, limits), std::to_string(file.bytes().size()));

  // One of the meta header, two of identity, eight of the pixel module, the pixels.
  limits = {};
  limits.elements = 12;
  EXPECT_EQ(ReasonFor(file, limits), "OK");
  limits.elements = 11;
  EXPECT_EQ(ReasonFor(file, limits), "TOO_MANY_ELEMENTS");
  EXPECT_EQ(ValueFor(file, limits), "11");

  limits = {};
  limits.pixel_bytes = 32;
  EXPECT_EQ(ReasonFor(file, limits), "OK");
  limits.pixel_bytes = 31;
  EXPECT_EQ(ReasonFor(file, limits), "PIXELS_TOO_LARGE");
  EXPECT_EQ(ValueFor(file, limits), "32");

  FileBuilder nested = FileBuilder::WithMeta(kExplicitLittleEndian);
  for (int i = 0; i < 3; ++i) nested.Header(0x00081140, "SQ", kUndefined).Item(kUndefined);
  for (int i = 0; i < 3; ++i) nested.ItemEnd().SequenceEnd();
  limits = {};
  limits.nesting = 3;
  EXPECT_EQ(ReasonFor(nested, limits), "OK");
  limits.nesting = 2;
  EXPECT_EQ(ReasonFor(nested, limits), "NESTING_TOO_DEEP");
  EXPECT_EQ(ValueFor(nested, limits), "2");
}

TEST(GatekeeperLimitsTest, FragmentsCountAsElements) {
  FileBuilder file = FileBuilder::WithMeta(kJpegLossless);
  file.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OB", kUndefined);
  for (int i = 0; i < 1000; ++i) file.Item(0);
  file.SequenceEnd();
  Limits limits;
  limits.elements = 1000;
  EXPECT_EQ(ReasonFor(file, limits), "TOO_MANY_ELEMENTS");
}

TEST(GatekeeperLimitsTest, LimitsComeFromTheLease) {
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
