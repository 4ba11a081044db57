// High-throughput JPEG 2000: OpenJPH is what decodes, OpenJPEG the second reader that must agree.
#include "dicom/htj2k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openjph/ojph_arch.h>
#include <openjph/ojph_codestream.h>
#include <openjph/ojph_file.h>
#include <openjph/ojph_mem.h>
#include <openjph/ojph_params.h>

#include <fstream>
#include <random>

#include "dicom/file_builder.h"
#include "dicom/htj2k_markers.h"
#include "dicom/jpeg2000.h"
#include "shared_data.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using ::testing::ElementsAre;
using testing::FileBuilder;

// A slope with noise that reaches both ends of the range.
std::vector<std::int32_t> Samples(std::uint32_t rows, std::uint32_t columns, std::uint32_t bits,
                                  bool is_signed) {
  std::mt19937 random(rows * 31 + columns);
  const std::int32_t low = is_signed ? -(1 << (bits - 1)) : 0;
  const std::int32_t range = 1 << bits;
  std::vector<std::int32_t> samples(std::size_t{rows} * columns);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto slope = static_cast<std::int32_t>(i * 13 % static_cast<std::size_t>(range));
    samples[i] =
        low + (i % 7 == 0 ? static_cast<std::int32_t>(random() % static_cast<unsigned>(range)) : slope);
  }
  samples.front() = low;
  samples.back() = low + range - 1;
  return samples;
}

absl::StatusOr<std::vector<std::int32_t>> ByOpenjph(std::span<const std::byte> stream) {
  TS_ASSIGN_OR_RETURN(const CodestreamInfo info, ReadJpeg2000Info(stream));
  std::vector<std::int32_t> samples(std::size_t{info.width} * info.height);
  try {
    TS_RETURN_IF_ERROR(DecodeHtj2k(stream, info, samples));
  } catch (const std::exception&) {
    return absl::InternalError("thrown");
  }
  return samples;
}

absl::StatusOr<std::vector<std::int32_t>> ByOpenjpeg(std::span<const std::byte> stream) {
  TS_ASSIGN_OR_RETURN(const CodestreamInfo info, ReadJpeg2000Info(stream));
  std::vector<std::int32_t> samples(std::size_t{info.width} * info.height);
  TS_RETURN_IF_ERROR(DecodeJpeg2000(stream, samples));
  return samples;
}

std::vector<std::byte> FileOf(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return testing::Bytes(std::string{std::istreambuf_iterator<char>(stream), {}});
}

// With the 9-7 wavelet, almost lossless.
std::vector<std::byte> EncodeLossy(std::span<const std::int32_t> samples, std::uint32_t rows,
                                   std::uint32_t columns, std::uint32_t bits, bool is_signed) {
  ojph::codestream encoder;
  ojph::param_siz size = encoder.access_siz();
  size.set_image_extent(ojph::point(columns, rows));
  size.set_num_components(1);
  size.set_component(0, ojph::point(1, 1), bits, is_signed);
  ojph::param_cod style = encoder.access_cod();
  style.set_reversible(false);
  style.set_color_transform(false);
  encoder.access_qcd().set_irrev_quant(0.0005f);
  encoder.set_planar(true);
  ojph::mem_outfile file;
  file.open();
  encoder.write_headers(&file);
  ojph::ui32 component = 0;
  ojph::line_buf* line = encoder.exchange(nullptr, component);
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::copy_n(samples.data() + std::size_t{row} * columns, columns, line->i32);
    line = encoder.exchange(line, component);
  }
  encoder.flush();
  const auto* begin = reinterpret_cast<const std::byte*>(file.get_data());
  std::vector<std::byte> bytes(begin, begin + file.tell());
  encoder.close();
  return bytes;
}

class Htj2kTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Runtime::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    runtime_ = std::move(*made);
  }
  static void TearDownTestSuite() { runtime_.reset(); }

  static absl::StatusOr<std::vector<std::int16_t>> Decode(const FileBuilder& file, bool slow_codec = false) {
    TS_ASSIGN_OR_RETURN(const FileLayout layout, Inspect(file.bytes(), Limits{}));
    const PixelFormat& pixels = layout.pixels;
    std::vector<std::int16_t> values(std::size_t{pixels.rows} * pixels.columns);
    TS_RETURN_IF_ERROR(DecodeFrame(*runtime_, file.bytes(), layout,
                                   {0, StoredTypeOf(pixels), pixels.rows, pixels.columns, slow_codec},
                                   std::as_writable_bytes(std::span(values))));
    return values;
  }

  static std::unique_ptr<Runtime> runtime_;
};
std::unique_ptr<Runtime> Htj2kTest::runtime_;

TEST_F(Htj2kTest, BothReadersGiveTheSamplesBackExactly) {
  for (const auto& [rows, columns] : {std::pair{1u, 1u}, {1u, 9u}, {7u, 1u}, {64u, 64u}, {61u, 130u}}) {
    for (const std::uint32_t bits : {8u, 10u, 12u, 16u}) {
      for (const bool is_signed : {false, true}) {
        const auto samples = Samples(rows, columns, bits, is_signed);
        const auto stream = EncodeHtj2k(samples, rows, columns, bits, is_signed);
        const auto info = ReadJpeg2000Info(stream);
        ASSERT_TRUE(info.ok()) << info.status();
        EXPECT_TRUE(info->high_throughput);
        EXPECT_TRUE(info->reversible);
        const auto first = ByOpenjph(stream);
        ASSERT_TRUE(first.ok()) << first.status() << rows << 'x' << columns << ' ' << bits;
        EXPECT_EQ(*first, samples) << rows << 'x' << columns << ' ' << bits << is_signed;
        const auto second = ByOpenjpeg(stream);
        ASSERT_TRUE(second.ok()) << second.status() << rows << 'x' << columns << ' ' << bits;
        EXPECT_EQ(*second, samples) << rows << 'x' << columns << ' ' << bits << is_signed;
      }
    }
  }
}

TEST_F(Htj2kTest, EverySyntaxDecodesAndTheHeaderDecidesTheSign) {
  const auto as_signed = EncodeHtj2k(std::vector<std::int32_t>{0, 1, -1, -2048}, 2, 2, 12, true);
  const auto as_unsigned = EncodeHtj2k(std::vector<std::int32_t>{0, 1, 0xFFF, 0x800}, 2, 2, 12, false);
  for (const auto syntax : {kHtJpeg2000Lossless, kHtJpeg2000LosslessRpcl, kHtJpeg2000}) {
    for (const bool contradicts : {false, true}) {
      FileBuilder file = FileBuilder::WithMeta(syntax);
      file.Pixels(2, 2, 16, 12, 11, true).Encapsulated({contradicts ? as_unsigned : as_signed});
      const auto values = Decode(file);
      ASSERT_TRUE(values.ok()) << values.status();
      EXPECT_THAT(*values, ElementsAre(0, 1, -1, -2048)) << syntax << contradicts;
      const auto header = ReadHeader(file.bytes(), Limits{});
      ASSERT_TRUE(header.ok()) << header.status();
      EXPECT_FALSE(header->lossy());
      EXPECT_EQ(header->repairs_size() == 1 && header->repairs(0).code() == "CODESTREAM_SIGN", contradicts);
    }
  }
}

TEST_F(Htj2kTest, PlainJpeg2000UnderItsSyntaxDecodesToo) {
  const auto stream = EncodeJpeg2000(std::vector<std::int32_t>{5, 6, 7, 8}, 2, 2, 12, true);
  ASSERT_TRUE(stream.ok());
  FileBuilder file = FileBuilder::WithMeta(kHtJpeg2000Lossless);
  file.Pixels(2, 2, 16, 12, 11, true).Encapsulated({*stream});
  const auto values = Decode(file);
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre(5, 6, 7, 8));
}

TEST_F(Htj2kTest, LossyCodestreamsAreCloseNeverWrapAndAreCalledLossy) {
  const auto samples = Samples(64, 96, 12, true);
  const auto stream = EncodeLossy(samples, 64, 96, 12, true);
  const auto plain = IsPlainHtj2k(stream);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(*plain);
  const auto first = ByOpenjph(stream);
  const auto second = ByOpenjpeg(stream);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    // Both ends of the range are among them: without clamping some would come out at the other end.
    ASSERT_NEAR((*first)[i], samples[i], 8) << i;
    ASSERT_NEAR((*first)[i], (*second)[i], 2) << i;
  }
  FileBuilder file = FileBuilder::WithMeta(kHtJpeg2000);
  file.Pixels(64, 96, 16, 12, 11, true).Encapsulated({stream});
  const auto header = ReadHeader(file.bytes(), Limits{});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_TRUE(header->lossy());
  const auto values = Decode(file);
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_TRUE(std::equal(values->begin(), values->end(), first->begin(), first->end()));
  // The slow codec is the other reader, and none of the fast one.
  const auto slowly = Decode(file, /*slow_codec=*/true);
  ASSERT_TRUE(slowly.ok()) << slowly.status();
  EXPECT_TRUE(std::equal(slowly->begin(), slowly->end(), second->begin(), second->end()));
  EXPECT_NE(*slowly, *values);
}

TEST_F(Htj2kTest, CutCodestreamsAreRefused) {
  const auto stream = EncodeHtj2k(Samples(48, 40, 12, true), 48, 40, 12, true);
  for (std::size_t length = 0; length < stream.size(); length += 1 + length / 16) {
    FileBuilder file = FileBuilder::WithMeta(kHtJpeg2000Lossless);
    file.Pixels(48, 40, 16, 12, 11, true);
    file.Encapsulated(
        {std::vector<std::byte>(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length))});
    const std::string reason = base::ReasonOf(Decode(file).status());
    EXPECT_TRUE(reason == "CODESTREAM_BROKEN" || reason == "PIXELS_MISSING") << length << ' ' << reason;
  }
}

TEST_F(Htj2kTest, RealFilesDecodeTheSameByBothReaders) {
  const auto folder = tomoserve::testing::TestData() / "dicom/ts_htj2k";
  TS_SKIP_WITHOUT(folder);
  const auto file = FileOf(folder / "chafey+DICOMHTJ2K/test/fixtures/htj2k/CT1_JPH");
  const auto layout = Inspect(file, Limits{});
  ASSERT_TRUE(layout.ok()) << layout.status();
  const auto fragments = FragmentsOfFrame(file, *layout, 0);
  ASSERT_TRUE(fragments.ok()) << fragments.status();
  const auto stream = std::span(file).subspan((*fragments)[0].offset, (*fragments)[0].length);
  const auto first = ByOpenjph(stream);
  const auto second = ByOpenjpeg(stream);
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ(*first, *second);
  EXPECT_LT(*std::min_element(first->begin(), first->end()), *std::max_element(first->begin(), first->end()));
}

}  // namespace
}  // namespace tomoserve::dicom
