// Which transfer syntaxes are read, and how the others are refused.
#include <gtest/gtest.h>

#include <set>

#include "dicom/gatekeeper_files.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;

TEST(SyntaxTest, ReadsTheseAndNoOthers) {
  const std::set<std::string> kRead = {
      "1.2.840.10008.1.2",       "1.2.840.10008.1.2.1",    "1.2.840.10008.1.2.2",
      "1.2.840.10008.1.2.5",     "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
      "1.2.840.10008.1.2.4.53",  "1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.57",
      "1.2.840.10008.1.2.4.70",  "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81",
      "1.2.840.10008.1.2.4.90",  "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201",
      "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"};
  std::set<std::string> candidates;
  for (int n = 0; n < 300; ++n) candidates.insert("1.2.840.10008.1.2.4." + std::to_string(n));
  for (int n = 0; n < 200; ++n) candidates.insert("1.2.840.10008.1.2.1." + std::to_string(n));
  for (int n = 0; n < 20; ++n) candidates.insert("1.2.840.10008.1.2." + std::to_string(n));
  candidates.insert("1.2.840.10008.1.2");
  for (const std::string& uid : candidates) {
    FileBuilder file = FileBuilder::WithMeta(uid);
    file.Text(0x00080060, "CS", "CT").Text(0x00100020, "LO", "P1");
    const bool read = kRead.count(uid) > 0;
    EXPECT_EQ(testing::ReasonFor(file), read ? "OK" : "UNSUPPORTED_TRANSFER_SYNTAX") << uid;
    EXPECT_EQ(testing::ValueFor(file), read ? "" : uid);
  }
}

TEST(SyntaxTest, WhatIsRefusedIsRefusedByName) {
  const std::pair<const char*, const char*> kRefused[] = {
      {"1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"},
      {"1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Lossless"},
      {"1.2.840.10008.1.2.4.94", "JPIP Referenced"},
      {"1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"},
      {"1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile"},
      {"1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile"},
      {"1.2.840.10008.1.2.4.110", "JPEG XL Lossless"},
      {"1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"},
      {"1.2.840.10008.1.2.4.112", "JPEG XL"},
      {"1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"},
      {"1.3.46.670589.33.1.4.1", "Philips private RLE (ELSCINT1)"},
      {"1.2.3.4.5", "unknown transfer syntax"}};
  for (const auto& [uid, name] : kRefused) {
    FileBuilder file = FileBuilder::WithMeta(uid);
    file.Text(0x00080060, "CS", "CT").Text(0x00100020, "LO", "P1");
    const absl::Status status = Inspect(file.bytes(), Limits{}).status();
    EXPECT_EQ(base::ReasonOf(status), "UNSUPPORTED_TRANSFER_SYNTAX");
    EXPECT_EQ(base::ValueOf(status), uid);
    EXPECT_NE(base::ToStd(status.message()).find(name), std::string_view::npos) << status;
  }
}

}  // namespace
}  // namespace tomoserve::dicom
