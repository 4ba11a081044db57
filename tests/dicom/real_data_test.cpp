// Real files with independent truth (pydicom + GDCM, dcm2niix).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "shared_data.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> FileBytes(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::vector<fs::path> FilesUnder(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class RealDataTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Runtime::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    runtime_ = std::move(*made);
  }
  static void TearDownTestSuite() { runtime_.reset(); }

  static fs::path Folder(const char* name) { return tomoserve::testing::TestData() / "dicom" / name; }

  struct Image {
    ipc::v1::InstanceHeader header;
    std::vector<std::int64_t> stored;
  };

  static absl::StatusOr<Image> DecodeFile(const fs::path& path, std::uint32_t frame = 0) {
    const std::vector<std::byte> bytes = FileBytes(path);
    TS_ASSIGN_OR_RETURN(const FileLayout layout, Inspect(bytes, Limits{}));
    Image image;
    TS_ASSIGN_OR_RETURN(image.header, ReadHeader(bytes, layout));
    const FrameRequest request{frame, image.header.stored_type(), image.header.rows(),
                               image.header.columns()};
    const std::size_t count = std::size_t{request.rows} * request.columns;
    const std::uint32_t size = base::BytesOf(request.stored_type);
    std::vector<std::byte> slot(count * size);
    TS_RETURN_IF_ERROR(DecodeFrame(*runtime_, bytes, layout, request, slot));
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, slot.data() + i * size, size);
      const bool negative = image.header.pixel_signed() && (word >> (8 * size - 1) & 1) != 0;
      image.stored.push_back(negative ? std::int64_t{word} - (std::int64_t{1} << 8 * size)
                                      : std::int64_t{word});
    }
    return image;
  }

  static std::vector<std::int16_t> Rescaled(const Image& image) {
    std::vector<std::int16_t> values;
    const double slope = image.header.has_rescale_slope() ? image.header.rescale_slope() : 1;
    for (const std::int64_t stored : image.stored) {
      values.push_back(static_cast<std::int16_t>(
          std::nearbyint(static_cast<double>(stored) * slope + image.header.rescale_intercept())));
    }
    return values;
  }

  static std::unique_ptr<Runtime> runtime_;
};
std::unique_ptr<Runtime> RealDataTest::runtime_;

TEST_F(RealDataTest, LosslessCopiesOfOneSliceAreEqual) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  const auto reference = DecodeFile(Folder("ts_ct_all") /
                                    "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm");
  ASSERT_TRUE(reference.ok()) << reference.status();
  const std::map<std::string, std::string> kLossless = {{"BigEndianExplicit", "1.2.840.10008.1.2.2"},
                                                        {"LittleEndianImplicit", "1.2.840.10008.1.2"},
                                                        {"RLELossless", "1.2.840.10008.1.2.5"},
                                                        {"JPEGProcess14SV1", "1.2.840.10008.1.2.4.70"},
                                                        {"JPEGProcess14", "1.2.840.10008.1.2.4.57"},
                                                        {"JPEGLSLossless", "1.2.840.10008.1.2.4.80"},
                                                        {"JPEG2000LosslessOnly", "1.2.840.10008.1.2.4.90"}};
  for (const auto& [name, uid] : kLossless) {
    const auto image =
        DecodeFile(Folder("ts_ct_all") / ("CTImage.dcm_" + name + "TransferSyntax_" + uid + ".dcm"));
    ASSERT_TRUE(image.ok()) << name << ' ' << image.status();
    EXPECT_EQ(Rescaled(*image), Rescaled(*reference)) << name;
    EXPECT_FALSE(image->header.lossy()) << name;
  }
}

TEST_F(RealDataTest, LossyCopiesOfOneSliceAreClose) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  const auto reference = DecodeFile(Folder("ts_ct_all") /
                                    "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm");
  ASSERT_TRUE(reference.ok()) << reference.status();
  const auto expected = Rescaled(*reference);
  for (const char* name : {"CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm",
                           "CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm",
                           "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm",
                           "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
                           "CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm",
                           "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm"}) {
    const auto image = DecodeFile(Folder("ts_ct_all") / name);
    ASSERT_TRUE(image.ok()) << name << ' ' << image.status();
    EXPECT_TRUE(image->header.lossy()) << name;
    const auto values = Rescaled(*image);
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += std::abs(values[i] - expected[i]);
    RecordProperty(name, std::to_string(sum / static_cast<double>(values.size())));
    // The 8 bit copy has steps of 31 HU.
    EXPECT_LT(sum / static_cast<double>(values.size()), 20) << name;
  }
}

TEST_F(RealDataTest, DeflatedIsRefusedByName) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  const auto image =
      DecodeFile(Folder("ts_ct_all") /
                 "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm");
  EXPECT_EQ(base::ReasonOf(image.status()), "UNSUPPORTED_TRANSFER_SYNTAX");
}

TEST_F(RealDataTest, FramesInSeveralFragmentsWithoutATableDecode) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  const fs::path path = Folder("ts_ct_all") / "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm";
  for (const std::uint32_t frame : {0u, 1u}) {
    const auto image = DecodeFile(path, frame);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(image->header.frames(), 2u);
    EXPECT_TRUE(image->header.lossy());
    const auto [low, high] = std::minmax_element(image->stored.begin(), image->stored.end());
    EXPECT_LT(*low, *high);
    EXPECT_LE(*high, 4095);
  }
}

TEST_F(RealDataTest, HighThroughputJpeg2000EqualsItsOriginal) {
  TS_SKIP_WITHOUT(Folder("ts_htj2k"));
  const fs::path folder = Folder("ts_htj2k") / "chafey+DICOMHTJ2K/test/fixtures";
  const auto original = DecodeFile(folder / "dicomp10/CT1_UNC");
  const auto compressed = DecodeFile(folder / "htj2k/CT1_JPH");
  ASSERT_TRUE(original.ok()) << original.status();
  ASSERT_TRUE(compressed.ok()) << compressed.status();
  EXPECT_EQ(original->stored, compressed->stored);
  // The colour one is a picture: read, never decoded into a volume.
  const auto colour = ReadHeader(
      FileBytes(Folder("ts_htj2k") / "pydicom+pydicom-data/data_store/data/HTJ2KLossless_08_RGB.dcm"),
      Limits{});
  ASSERT_TRUE(colour.ok()) << colour.status();
  EXPECT_EQ(colour->kind(), ipc::v1::OBJECT_KIND_PICTURE);
}

TEST_F(RealDataTest, TwelveBitsWithGarbageAboveThemEqualTheCleanOnes) {
  TS_SKIP_WITHOUT(Folder("bits12"));
  const auto clean = DecodeFile(Folder("bits12") / "12bitUnsigned.dcm");
  const auto garbage = DecodeFile(Folder("bits12") / "12bitUnsigned_0x0F0F.dcm");
  const auto is_signed = DecodeFile(Folder("bits12") / "12bitSigned_0x0F0F.dcm");
  ASSERT_TRUE(clean.ok() && garbage.ok() && is_signed.ok());
  EXPECT_LE(*std::max_element(garbage->stored.begin(), garbage->stored.end()), 4095);
  EXPECT_GE(*std::min_element(is_signed->stored.begin(), is_signed->stored.end()), -2048);
  EXPECT_LE(*std::max_element(is_signed->stored.begin(), is_signed->stored.end()), 2047);
  EXPECT_LT(*std::min_element(is_signed->stored.begin(), is_signed->stored.end()), 0);
}

TEST_F(RealDataTest, VolumesHaveTheVoxelsOfTheTruth) {
  const fs::path truth_file = tomoserve::testing::TestData() / "truth.json";
  TS_SKIP_WITHOUT(truth_file);
  const auto truth = nlohmann::json::parse(std::ifstream(truth_file));
  for (const char* name : {"chest_ct_A0001", "totalseg_ct"}) {
    TS_SKIP_WITHOUT(Folder(name));
    std::map<double, std::vector<std::int16_t>> slices;
    for (const fs::path& path : FilesUnder(Folder(name))) {
      const auto image = DecodeFile(path);
      ASSERT_TRUE(image.ok()) << path << ' ' << image.status();
      ASSERT_EQ(image->header.image_position_size(), 3);
      slices[image->header.image_position(2)] = Rescaled(*image);  // both are axial
    }
    base::Sha256 digest;
    for (const auto& [position, values] : slices) digest.Update(std::as_bytes(std::span(values)));
    const auto& series = truth[name]["series"][0]["pydicom_gdcm"];
    EXPECT_EQ(digest.HexDigest(), series["volume"]["sha256_int16le"]) << name;
  }
}

TEST_F(RealDataTest, KindsOfObjectsAreTold) {
  TS_SKIP_WITHOUT(Folder("seg_sr_rt"));
  const auto kind = [](const fs::path& path) {
    const auto header = ReadHeader(FileBytes(path), Limits{});
    EXPECT_TRUE(header.ok()) << path << ' ' << header.status();
    return header.ok() ? header->kind() : ipc::v1::OBJECT_KIND_UNSPECIFIED;
  };
  using enum ipc::v1::ObjectKind;
  const fs::path objects = Folder("seg_sr_rt");
  EXPECT_EQ(kind(objects / "ImagingDataCommons+highdicom/data/test_files/seg_image_ct_binary.dcm"),
            OBJECT_KIND_OTHER);
  EXPECT_EQ(kind(objects / "ImagingDataCommons+highdicom/data/test_files/ct_image.dcm"), OBJECT_KIND_IMAGE);
  EXPECT_EQ(kind(objects / "pydicom+pydicom/src/pydicom/data/test_files/rtdose.dcm"), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind(objects / "pydicom+pydicom/src/pydicom/data/test_files/rtstruct.dcm"), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind(objects / "pydicom+pydicom/src/pydicom/data/test_files/reportsi.dcm"), OBJECT_KIND_OTHER);
  EXPECT_EQ(kind(Folder("ts_ct_all") / "no-pixel-data.dcm"), OBJECT_KIND_OTHER);
  for (const fs::path& path : FilesUnder(Folder("ts_colour")))
    EXPECT_EQ(kind(path), OBJECT_KIND_PICTURE) << path;
}

TEST_F(RealDataTest, EveryFileEndsInATypedResult) {
  const fs::path folder = tomoserve::testing::TestData() / "dicom";
  TS_SKIP_WITHOUT(folder);
  int images = 0;
  for (const fs::path& path : FilesUnder(folder)) {
    const auto header = ReadHeader(FileBytes(path), Limits{});
    if (!header.ok()) {
      const std::string reason = base::ReasonOf(header.status());
      EXPECT_TRUE(reason == "NOT_DICOM" || reason == "TRUNCATED" || reason == "MALFORMED" ||
                  reason == "UNSUPPORTED_TRANSFER_SYNTAX" || reason == "PIXELS_MISSING")
          << path << ' ' << header.status();
      continue;
    }
    if (header->kind() != ipc::v1::OBJECT_KIND_IMAGE) continue;
    ++images;
    const auto image = DecodeFile(path, header->frames() - 1);
    EXPECT_TRUE(image.ok()) << path << ' ' << image.status();
  }
  EXPECT_GT(images, 100);
}

TEST_F(RealDataTest, CutFilesEndInATypedError) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  for (const fs::path& path : FilesUnder(Folder("ts_ct_all"))) {
    const std::vector<std::byte> bytes = FileBytes(path);
    for (std::size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 97) {
      const auto header = ReadHeader(std::span(bytes).first(length), Limits{});
      if (header.ok()) {
        EXPECT_FALSE(header->has_pixels()) << path << ' ' << length;
      } else {
        const std::string reason = base::ReasonOf(header.status());
        EXPECT_TRUE(reason == "TRUNCATED" || reason == "EMPTY_FILE" || reason == "NOT_DICOM" ||
                    reason == "UNSUPPORTED_TRANSFER_SYNTAX")
            << path << ' ' << length << ' ' << header.status();
      }
    }
  }
}

}  // namespace
}  // namespace tomoserve::dicom
