// Deflated Explicit VR Little Endian: refused, or read within limits.
#include "dicom/inflate.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>

#include "dicom/file_builder.h"
#include "dicom/gatekeeper_files.h"
#include "shared_data.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using testing::FileBuilder;

// A bare deflate stream (RFC 1951).
std::vector<std::byte> Deflated(std::span<const std::byte> plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::vector<std::byte> out(deflateBound(&stream, plain.size()));
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// Meta header, then the dataset of a small CT image, deflated.
FileBuilder SmallDeflated(std::string_view more = "") {
  FileBuilder dataset = FileBuilder::Bare(false, false);
  dataset.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2").Text(0x00080060, "CS", "CT").Raw(more);
  dataset.Pixels(4, 4, 16, 16, 15, true).Header(0x7FE00010, "OW", 32);
  for (std::uint32_t i = 0; i < 16; ++i) dataset.U16(i * 2531);
  FileBuilder file = FileBuilder::WithMeta(kDeflated);
  return file.Raw(Deflated(dataset.bytes()));
}

Limits Allowed() {
  Limits limits;
  limits.deflated = true;
  return limits;
}

std::string InflateReason(std::span<const std::byte> file, const Limits& limits) {
  return base::ReasonOf(Inflate(file, limits).status());
}

TEST(InflateTest, RefusedByNameUnlessAllowed) {
  const FileBuilder file = SmallDeflated();
  const auto layout = Inspect(file.bytes(), Limits{});
  EXPECT_EQ(base::ReasonOf(layout.status()), "UNSUPPORTED_TRANSFER_SYNTAX");
  EXPECT_EQ(base::ValueOf(layout.status()), "1.2.840.10008.1.2.1.99");
  const auto untouched = Inflate(file.bytes(), Limits{});
  ASSERT_TRUE(untouched.ok());
  EXPECT_FALSE(untouched->has_value());
  EXPECT_FALSE(LimitsFrom(ipc::v1::GatekeeperLimits()).deflated);
  ipc::v1::GatekeeperLimits limits;
  limits.set_deflated(true);
  EXPECT_TRUE(LimitsFrom(limits).deflated);
}

TEST(InflateTest, AllowedItIsReadLikeAnyOther) {
  for (const std::string_view padding : {std::string_view(), std::string_view("\0", 1)}) {
    FileBuilder file = SmallDeflated();
    file.Raw(padding);
    const auto plain = Inflate(file.bytes(), Allowed());
    ASSERT_TRUE(plain.ok()) << plain.status();
    ASSERT_TRUE(plain->has_value());
    const auto layout = Inspect(**plain, Allowed());
    ASSERT_TRUE(layout.ok()) << layout.status();
    const auto header = ReadHeader(**plain, *layout);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->modality(), "CT");
    EXPECT_EQ(header->transfer_syntax_uid(), "1.2.840.10008.1.2.1.99");
    EXPECT_FALSE(header->lossy());
    EXPECT_EQ(layout->native_pixels.length, 32u);
  }
}

TEST(InflateTest, OtherSyntaxesAreLeftAlone) {
  for (const FileBuilder& file : {testing::SmallCt(), FileBuilder::Bare(false, false).Raw("no DICOM")}) {
    const auto plain = Inflate(file.bytes(), Allowed());
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_FALSE(plain->has_value());
  }
}

TEST(InflateTest, ABombIsStoppedAtAHundredTimesTheFile) {
  FileBuilder file = FileBuilder::WithMeta(kDeflated);
  file.Raw(Deflated(std::vector<std::byte>(64 << 20)));
  ASSERT_LT(file.bytes().size(), 100'000u);
  const absl::Status status = Inflate(file.bytes(), Allowed()).status();
  EXPECT_EQ(base::ReasonOf(status), "INFLATED_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(status), std::to_string(file.bytes().size() * 100));
}

TEST(InflateTest, NoMoreThanAnInstanceMayHave) {
  Limits limits = Allowed();
  const FileBuilder file = SmallDeflated();
  const auto plain = Inflate(file.bytes(), limits);
  ASSERT_TRUE(plain.ok() && plain->has_value());
  limits.instance_bytes = (*plain)->size();
  EXPECT_EQ(InflateReason(file.bytes(), limits), "OK");
  limits.instance_bytes = (*plain)->size() - 1;
  EXPECT_EQ(InflateReason(file.bytes(), limits), "INFLATED_TOO_LARGE");
}

TEST(InflateTest, CutAndBrokenStreamsAreTypedErrors) {
  const FileBuilder file = SmallDeflated();
  const std::span<const std::byte> whole(file.bytes());
  const std::size_t start = 128 + 4 + 8 + 22;
  for (std::size_t length = start + 1; length < whole.size(); ++length) {
    const auto plain = Inflate(whole.first(length), Allowed());
    // So few bytes that no dataset begins are the gatekeeper's to refuse.
    const std::string reason =
        base::ReasonOf(plain.ok() ? Inspect(whole.first(length), Allowed()).status() : plain.status());
    EXPECT_EQ(reason, "TRUNCATED") << length;
  }
  int refused = 0;
  for (std::size_t at = start; at < whole.size(); ++at) {
    for (const std::byte flip : {std::byte{0xFF}, std::byte{0x10}}) {
      std::vector<std::byte> broken = file.bytes();
      broken[at] ^= flip;
      const auto plain = Inflate(broken, Allowed());
      std::string reason = base::ReasonOf(plain.status());
      if (plain.ok() && plain->has_value()) reason = base::ReasonOf(Inspect(**plain, Allowed()).status());
      EXPECT_TRUE(reason == "OK" || reason == "MALFORMED" || reason == "TRUNCATED" ||
                  reason == "PIXELS_MISSING" || reason == "PIXELS_TOO_LARGE" ||
                  reason == "ELEMENT_TOO_LARGE" || reason == "INFLATED_TOO_LARGE")
          << reason;
      refused += reason == "OK" ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 10);
}

TEST(InflateTest, ARealFileEqualsItsPlainOriginal) {
  const auto folder = tomoserve::testing::TestData() / "dicom/ts_ct_all";
  TS_SKIP_WITHOUT(folder);
  const auto read = [&](const char* name) {
    std::ifstream stream(folder / name, std::ios::binary);
    return testing::Bytes(std::string{std::istreambuf_iterator<char>(stream), {}});
  };
  const auto original = read("CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm");
  const auto plain = Inflate(
      read("CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm"), Allowed());
  ASSERT_TRUE(plain.ok() && plain->has_value()) << plain.status();
  const auto layout = Inspect(**plain, Allowed());
  const auto original_layout = Inspect(original, Limits{});
  ASSERT_TRUE(layout.ok() && original_layout.ok()) << layout.status();
  const auto pixels = [](std::span<const std::byte> file, const FileLayout& from) {
    const auto part = file.subspan(from.native_pixels.offset, from.native_pixels.length);
    return std::vector<std::byte>(part.begin(), part.end());
  };
  EXPECT_EQ(pixels(**plain, *layout), pixels(original, *original_layout));
}

}  // namespace
}  // namespace tomoserve::dicom
