// Real enhanced multi-frame images with independent truth (pydicom + GDCM).
#include <gmock/gmock.h>

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

class EnhancedDataTest : public testing::RealDataTest {
 protected:
  static ipc::v1::InstanceHeader Header(const fs::path& path) {
    const auto header = ReadHeader(FileBytes(path), Limits{});
    EXPECT_TRUE(header.ok()) << path << header.status();
    return header.ok() ? *header : ipc::v1::InstanceHeader();
  }

  static nlohmann::json Truth(const char* name) {
    const auto truth = nlohmann::json::parse(std::ifstream(tomoserve::testing::TestData() / "truth.json"));
    return truth[name]["series"][0]["pydicom_gdcm"];
  }

  // Where a frame lies along its own normal.
  static double Along(const ipc::v1::FrameHeader& frame) {
    const auto& o = frame.image_orientation();
    const auto& p = frame.image_position();
    return p[0] * (o[1] * o[5] - o[2] * o[4]) + p[1] * (o[2] * o[3] - o[0] * o[5]) +
           p[2] * (o[0] * o[4] - o[1] * o[3]);
  }
};

TEST_F(EnhancedDataTest, ComputedTomographyHasTheVoxelsOfTheTruth) {
  TS_SKIP_WITHOUT(Folder("enh_ct"));
  const fs::path path = FilesUnder(Folder("enh_ct")).front();
  const auto header = Header(path);
  ASSERT_EQ(header.frame_size(), 2);
  std::map<double, std::vector<std::int16_t>> slices;
  for (int n = 0; n < 2; ++n) {
    const ipc::v1::FrameHeader& frame = header.frame(n);
    EXPECT_THAT(frame.pixel_spacing_mm(), ::testing::ElementsAre(0.388672, 0.388672));
    EXPECT_EQ(frame.slice_thickness_mm(), 10);
    EXPECT_EQ(frame.rescale_type(), "US");
    EXPECT_THAT(frame.frame_type(), ::testing::ElementsAre("DERIVED", "PRIMARY", "PERFUSION", "RCBF"));
    const auto image = DecodeFile(path, static_cast<std::uint32_t>(n));
    ASSERT_TRUE(image.ok()) << image.status();
    slices[Along(frame)] = Rescaled(*image, frame.rescale_slope(), frame.rescale_intercept());
  }
  base::Sha256 digest;
  for (const auto& [position, values] : slices) digest.Update(std::as_bytes(std::span(values)));
  EXPECT_EQ(digest.HexDigest(), Truth("enh_ct")["volume"]["sha256_int16le"]);
}

TEST_F(EnhancedDataTest, TwoEchoesWithMagnitudeAndPhase) {
  TS_SKIP_WITHOUT(Folder("mr_philips_enh_multiecho"));
  const fs::path path = FilesUnder(Folder("mr_philips_enh_multiecho")).front();
  const auto truth = Truth("mr_philips_enh_multiecho");
  const auto header = Header(path);
  ASSERT_EQ(header.frame_size(), truth["frames"]);
  std::map<std::pair<double, std::string>, int> kinds;
  std::set<std::int64_t> places;
  const std::vector<std::byte> bytes = FileBytes(path);
  const auto layout = Inspect(bytes, Limits{});
  ASSERT_TRUE(layout.ok());
  double low = 0, high = 0;
  for (int n = 0; n < header.frame_size(); ++n) {
    const ipc::v1::FrameHeader& frame = header.frame(n);
    ASSERT_EQ(frame.image_position_size(), 3) << n;
    ASSERT_EQ(frame.image_orientation_size(), 6) << n;
    EXPECT_THAT(frame.pixel_spacing_mm(), ::testing::ElementsAre(3, 3));
    EXPECT_EQ(frame.dimension_index_values_size(), 4);
    ++kinds[{frame.echo_time_ms(), frame.complex_image_component()}];
    places.insert(std::llround(Along(frame) * 1000));
    std::vector<std::uint16_t> values(std::size_t{header.rows()} * header.columns());
    const FrameRequest request{static_cast<std::uint32_t>(n), header.stored_type(), header.rows(),
                               header.columns()};
    ASSERT_TRUE(
        DecodeFrame(*runtime_, bytes, *layout, request, std::as_writable_bytes(std::span(values))).ok());
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    low = std::min(low, *least * frame.rescale_slope() + frame.rescale_intercept());
    high = std::max(high, *most * frame.rescale_slope() + frame.rescale_intercept());
  }
  const std::map<std::pair<double, std::string>, int> expected = {
      {{2.3, "MAGNITUDE"}, 53}, {{2.3, "PHASE"}, 53}, {{4.6, "MAGNITUDE"}, 53}, {{4.6, "PHASE"}, 53}};
  EXPECT_EQ(kinds, expected);
  EXPECT_EQ(places.size(), truth["distinct_positions"].get<std::size_t>());
  EXPECT_NEAR(low, truth["stats_all_frames"]["min"].get<double>(), 1e-3);
  EXPECT_NEAR(high, truth["stats_all_frames"]["max"].get<double>(), 1e-3);
  // Philips' own scale slope is there.
  ASSERT_EQ(header.repairs_size(), 1);
  EXPECT_EQ(header.repairs(0).code(), "PRIVATE_SCALING_UNUSED");
}

TEST_F(EnhancedDataTest, AFunctionalSeriesHasItsTimesInDifferentInstances) {
  TS_SKIP_WITHOUT(Folder("mr_siemens_enh"));
  std::set<int> times;
  for (const fs::path& path : FilesUnder(Folder("mr_siemens_enh"))) {
    const auto header = Header(path);
    ASSERT_EQ(header.frame_size(), 6);
    for (const ipc::v1::FrameHeader& frame : header.frame()) {
      EXPECT_EQ(frame.echo_time_ms(), 30);
      EXPECT_TRUE(frame.has_temporal_position());
      EXPECT_TRUE(frame.has_acquisition_number());
      EXPECT_EQ(frame.stack_id(), "1");
      EXPECT_EQ(frame.complex_image_component(), "MAGNITUDE");
      times.insert(frame.acquisition_number());
    }
  }
  EXPECT_EQ(times.size(), 4u);
}

TEST_F(EnhancedDataTest, FiveEncodingsOfOneImageAreEqual) {
  TS_SKIP_WITHOUT(Folder("enh_small"));
  const auto reference = Header(Folder("enh_small") / "emri_small.dcm");
  ASSERT_EQ(reference.frames(), 10u);
  int files = 0;
  for (const fs::path& path : FilesUnder(Folder("enh_small"))) {
    ++files;
    const auto header = Header(path);
    ASSERT_EQ(header.frames(), 10u) << path;
    // It is called enhanced and has no functional groups: no volume can be made of it.
    EXPECT_THAT(header.frame(), ::testing::IsEmpty()) << path;
    for (int n = 0; n < 10; ++n) {
      const auto image = DecodeFile(path, static_cast<std::uint32_t>(n));
      const auto expected = DecodeFile(Folder("enh_small") / "emri_small.dcm", static_cast<std::uint32_t>(n));
      ASSERT_TRUE(image.ok() && expected.ok()) << path << image.status();
      EXPECT_EQ(image->stored, expected->stored) << path << n;
    }
  }
  EXPECT_EQ(files, 5);
}

}  // namespace
}  // namespace tomoserve::dicom
