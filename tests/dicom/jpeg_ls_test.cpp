#include "dicom/jpeg_ls.h"

#include <gtest/gtest.h>

#include "dicom/file_builder.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;

// Start of image, a frame of 2 x 2 with 16 bits, preset parameters, start of scan.
std::vector<std::byte> Stream(std::uint32_t maxval, std::uint32_t t1, std::uint32_t t2, std::uint32_t t3,
                              std::uint32_t reset, std::uint32_t length = 13) {
  FileBuilder stream = FileBuilder::Bare(true, true);
  stream.U16(0xFFD8).U16(0xFFF7).U16(11).Raw("\x10").U16(2).U16(2).Raw(
      std::string_view("\x01\x01\x11\x00", 4));
  stream.U16(0xFFF8).U16(length).Raw("\x01").U16(maxval).U16(t1).U16(t2).U16(t3).U16(reset);
  return stream.U16(0xFFDA).U16(8).Raw("scan data").bytes();
}

std::string ReasonFor(const std::vector<std::byte>& stream) {
  return base::ReasonOf(CheckJpegLsParameters(stream));
}

TEST(JpegLsTest, UsualParametersPass) {
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 64)), "OK");
  EXPECT_EQ(ReasonFor(Stream(4095, 18, 67, 276, 64)), "OK");
  EXPECT_EQ(ReasonFor(Stream(0, 0, 0, 0, 0)), "OK");
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 256)), "OK");
}

// CharLS of DCMTK 3.6.7 asserts that its sums stay below 65536 x 256.
TEST(JpegLsTest, AResetThatOverflowsTheCountersIsRefused) {
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 257)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 0x3B40)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor(Stream(0, 0, 0, 0, 300)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor(Stream(4095, 18, 67, 276, 2)), "CODESTREAM_BROKEN");
}

TEST(JpegLsTest, ThresholdsOutOfOrderAreRefused) {
  EXPECT_EQ(ReasonFor(Stream(4095, 67, 18, 276, 64)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor(Stream(4095, 18, 67, 4096, 64)), "CODESTREAM_BROKEN");
}

TEST(JpegLsTest, MarkersThatLeadNowhereAreRefused) {
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 64, 14)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor(Stream(65535, 18, 67, 276, 64, 0xFFFF)), "CODESTREAM_BROKEN");
  EXPECT_EQ(ReasonFor({}), "CODESTREAM_BROKEN");
  std::vector<std::byte> cut = Stream(65535, 18, 67, 276, 64);
  cut.resize(20);
  EXPECT_EQ(ReasonFor(cut), "CODESTREAM_BROKEN");
}

}  // namespace
}  // namespace tomoserve::dicom
