// Real files with independent truth (pydicom + GDCM, dcm2niix).
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "dicom/real_files.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::dicom {
namespace {

namespace fs = std::filesystem;
using testing::FileBytes;
using testing::FilesUnder;
using testing::RealDataTest;

// The folder has one CT slice in fifteen transfer syntaxes.
TEST_F(RealDataTest, EveryCopyOfOneSliceIsLosslessLossyOrRefused) {
  TS_SKIP_WITHOUT(Folder("ts_ct_all"));
  const std::set<std::string> kLossless = {
      "1.2.840.10008.1.2",      "1.2.840.10008.1.2.1",    "1.2.840.10008.1.2.2",    "1.2.840.10008.1.2.5",
      "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"};
  const std::set<std::string> kLossy = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
                                        "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55",
                                        "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"};
  const std::set<std::string> kRefused = {"1.2.840.10008.1.2.1.99"};
  std::set<std::string> lossless, lossy, refused, hashes;
  for (const fs::path& path : FilesUnder(Folder("ts_ct_all"))) {
    const std::string name = path.stem().string();
    if (!name.starts_with("CTImage.dcm_")) continue;
    const std::string uid = name.substr(name.rfind('_') + 1);
    const auto image = DecodeFile(path);
    if (!image.ok()) {
      EXPECT_EQ(base::ReasonOf(image.status()), "UNSUPPORTED_TRANSFER_SYNTAX");
      EXPECT_EQ(base::ValueOf(image.status()), uid);
      refused.insert(uid);
      continue;
    }
    EXPECT_EQ(image->header.transfer_syntax_uid(), uid);
    (image->header.lossy() ? lossy : lossless).insert(uid);
    if (image->header.lossy()) continue;
    base::Sha256 digest;
    const std::vector<std::int16_t> values = Rescaled(*image);
    digest.Update(std::as_bytes(std::span(values)));
    hashes.insert(digest.HexDigest());
  }
  EXPECT_EQ(lossless, kLossless);
  EXPECT_EQ(lossy, kLossy);
  EXPECT_EQ(refused, kRefused);
  EXPECT_EQ(hashes.size(), 1u);
  // Deflated is one of the same where the limits allow it.
  Limits limits;
  limits.deflated = true;
  const auto deflated =
      DecodeFile(Folder("ts_ct_all") /
                     "CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
                 0, limits);
  ASSERT_TRUE(deflated.ok()) << deflated.status();
  base::Sha256 digest;
  const std::vector<std::int16_t> values = Rescaled(*deflated);
  digest.Update(std::as_bytes(std::span(values)));
  EXPECT_EQ(std::set<std::string>{digest.HexDigest()}, hashes);
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
  const fs::path extras = Folder("overlay_lut_palette");
  EXPECT_EQ(kind(extras / "pydicom+pydicom/src/pydicom/data/test_files/examples_palette.dcm"),
            OBJECT_KIND_PICTURE);
  EXPECT_EQ(kind(extras / "pydicom+pydicom-data/data_store/data/vlut_04.dcm"), OBJECT_KIND_PICTURE);
  // A slice with an overlay beside its pixels is a slice.
  EXPECT_EQ(kind(extras / "pydicom+pydicom/src/pydicom/data/test_files/examples_overlay.dcm"),
            OBJECT_KIND_IMAGE);
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
