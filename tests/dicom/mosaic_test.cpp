// Siemens mosaics: where their slices lie, and how they are cut out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "dicom/siemens_files.h"
#include "shared_data.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using testing::FileBuilder;
using testing::MosaicFile;

ipc::v1::InstanceHeader Read(const FileBuilder& file) {
  const auto header = ReadHeader(file.bytes(), Limits{});
  EXPECT_TRUE(header.ok()) << header.status();
  return header.ok() ? *header : ipc::v1::InstanceHeader();
}

bool HasRepair(const ipc::v1::InstanceHeader& header, std::string_view code) {
  return std::any_of(header.repairs().begin(), header.repairs().end(),
                     [&](const auto& repair) { return repair.code() == code; });
}

TEST(MosaicTest, TheFirstTileIsMovedFromTheCornerOfTheLargeImage) {
  const auto header = Read(MosaicFile().Build());
  ASSERT_TRUE(header.has_mosaic());
  const ipc::v1::Mosaic& mosaic = header.mosaic();
  // Five slices: three by three tiles of 2 rows x 4 columns, 2 mm between rows and 3 mm between columns.
  EXPECT_EQ(mosaic.slices(), 5u);
  EXPECT_EQ(mosaic.tile_rows(), 2u);
  EXPECT_EQ(mosaic.tile_columns(), 4u);
  EXPECT_THAT(mosaic.first_position(),
              ElementsAre(DoubleEq(-100 + 3 * 4), DoubleEq(-200 + 2 * 2), DoubleEq(30)));
  EXPECT_THAT(mosaic.step(), ElementsAre(DoubleEq(0), DoubleEq(0), DoubleEq(4.5)));
  EXPECT_THAT(header.image_position(), ElementsAre(-100, -200, 30));
  EXPECT_FALSE(HasRepair(header, "MOSAIC_UNREADABLE"));
}

TEST(MosaicTest, TheSliceNormalsSignIsTheOrderOfTheTiles) {
  MosaicFile file;
  // Sagittal: row x column = (-1, 0, 0), and the slices run the other way.
  file.orientation = "0\\1\\0\\0\\0\\-1";
  file.normal = {"1.0", "0.0", "0.0"};
  const auto header = Read(file.Build());
  ASSERT_TRUE(header.has_mosaic());
  EXPECT_THAT(header.mosaic().step(), ElementsAre(DoubleEq(4.5), DoubleNear(0, 1e-12), DoubleNear(0, 1e-12)));
  EXPECT_THAT(header.mosaic().first_position(),
              ElementsAre(DoubleEq(-100), DoubleEq(-200 + 3 * 4), DoubleEq(30 - 2 * 2)));
}

TEST(MosaicTest, AnObliqueStepIsAtARightAngleToTheSlices) {
  MosaicFile file;
  file.orientation = "0.8\\0.6\\0\\0\\0\\-1";
  // Six digits, as the scanner writes them.
  file.normal = {"-0.600001", "0.799999", "0.0"};
  const auto header = Read(file.Build());
  ASSERT_TRUE(header.has_mosaic());
  EXPECT_THAT(header.mosaic().step(),
              ElementsAre(DoubleNear(-0.6 * 4.5, 1e-12), DoubleNear(0.8 * 4.5, 1e-12), DoubleNear(0, 1e-12)));
}

TEST(MosaicTest, PrivateBlocksMayLieAnywhere) {
  MosaicFile file;
  file.block = 0x13;
  file.slices.clear();
  file.private_slices = 5;
  EXPECT_EQ(Read(file.Build()).mosaic().slices(), 5u);
}

TEST(MosaicTest, WhatCannotBePlacedHasNoMosaicAndSaysSo) {
  using Change = void (*)(MosaicFile&);
  const std::vector<std::pair<const char*, Change>> changes = {
      {"no normal", [](MosaicFile& f) { f.normal.clear(); }},
      {"two numbers", [](MosaicFile& f) { f.normal.pop_back(); }},
      {"normal is no number", [](MosaicFile& f) { f.normal[1] = "x"; }},
      {"normal is zero",
       [](MosaicFile& f) {
         f.normal = {"0", "0", "0"};
       }},
      {"normal in the slices' plane",
       [](MosaicFile& f) {
         f.normal = {"1", "0", "0"};
       }},
      {"no gap", [](MosaicFile& f) { f.slice_gap.clear(); }},
      {"no positive gap", [](MosaicFile& f) { f.slice_gap = "0"; }},
      {"no number of slices", [](MosaicFile& f) { f.slices.clear(); }},
      {"no positive number", [](MosaicFile& f) { f.slices = "0"; }},
      {"two numbers of slices", [](MosaicFile& f) { f.private_slices = 6; }},
      {"more slices than any mosaic", [](MosaicFile& f) { f.slices = "4097"; }},
      {"tiles that do not fit", [](MosaicFile& f) { f.slices = "17"; }},
      {"no position", [](MosaicFile& f) { f.position.clear(); }},
      {"no orientation", [](MosaicFile& f) { f.orientation.clear(); }},
      {"no unit vectors", [](MosaicFile& f) { f.orientation = "2\\0\\0\\0\\2\\0"; }},
      {"parallel vectors", [](MosaicFile& f) { f.orientation = "1\\0\\0\\1\\0\\0"; }},
      {"no pixel spacing", [](MosaicFile& f) { f.pixel_spacing.clear(); }},
      {"position overflows",
       [](MosaicFile& f) {
         f.position = "1.7e308\\0\\0";
         f.pixel_spacing = "1e308\\1e308";
       }},
  };
  for (const auto& [name, change] : changes) {
    MosaicFile file;
    change(file);
    const auto header = Read(file.Build());
    EXPECT_FALSE(header.has_mosaic()) << name;
    EXPECT_TRUE(HasRepair(header, "MOSAIC_UNREADABLE")) << name;
    EXPECT_EQ(header.kind(), ipc::v1::OBJECT_KIND_IMAGE) << name;
    EXPECT_EQ(header.image_type(4), "MOSAIC") << name;
  }
}

// An image that was derived from a mosaic and kept its private elements.
TEST(MosaicTest, OnlyAnImageThatIsLabelledAsAMosaicIsCutIntoTiles) {
  MosaicFile file;
  file.rows = file.columns = 64;
  file.slices = "16";
  EXPECT_EQ(Read(file.Build()).mosaic().tile_rows(), 16u);
  for (const char* image_type : {"DERIVED\\SECONDARY\\MPR", "ORIGINAL\\PRIMARY\\M\\ND", ""}) {
    for (const std::uint32_t private_slices : {0u, 16u, 17u}) {
      file.image_type = image_type;
      file.private_slices = private_slices;
      const auto header = Read(file.Build());
      EXPECT_FALSE(header.has_mosaic()) << image_type;
      EXPECT_EQ(header.kind(), ipc::v1::OBJECT_KIND_IMAGE) << image_type;
      EXPECT_EQ(header.stored_type(), ipc::v1::STORED_TYPE_U16) << image_type;
      EXPECT_TRUE(HasRepair(header, "MOSAIC_UNLABELLED")) << image_type;
      EXPECT_FALSE(HasRepair(header, "MOSAIC_UNREADABLE")) << image_type;
    }
  }
}

TEST(MosaicTest, ImagesThatAreNoMosaicHaveNone) {
  MosaicFile file;
  file.image_type = "ORIGINAL\\PRIMARY\\M\\ND";
  file.slices = "1";
  const auto header = Read(file.Build());
  EXPECT_FALSE(header.has_mosaic());
  EXPECT_FALSE(HasRepair(header, "MOSAIC_UNREADABLE"));
  EXPECT_FALSE(HasRepair(header, "MOSAIC_UNLABELLED"));
  EXPECT_EQ(header.kind(), ipc::v1::OBJECT_KIND_IMAGE);
}

TEST(MosaicTest, TilesAreCutOutOfTheFrame) {
  // 3 rows x 4 columns of 16 bits: 0, 1, 2, ...
  std::array<std::uint16_t, 12> frame{};
  for (std::uint16_t i = 0; i < 12; ++i) frame[i] = i;
  const FrameRequest request{0, ipc::v1::STORED_TYPE_U16, 3, 4};
  const auto cut = [&](std::uint32_t row, std::uint32_t column, std::uint32_t rows, std::uint32_t columns,
                       std::span<std::uint16_t> slot) {
    ipc::v1::Tile tile;
    tile.set_first_row(row);
    tile.set_first_column(column);
    tile.set_rows(rows);
    tile.set_columns(columns);
    return base::ReasonOf(
        CutTile(std::as_bytes(std::span(frame)), request, tile, std::as_writable_bytes(slot)));
  };
  std::array<std::uint16_t, 6> slot{};
  slot.fill(99);
  EXPECT_EQ(cut(1, 2, 2, 2, slot), "OK");
  EXPECT_THAT(slot, ElementsAre(6, 7, 10, 11, 99, 99));
  EXPECT_EQ(cut(0, 3, 3, 1, slot), "OK");
  EXPECT_THAT(slot, ElementsAre(3, 7, 11, 11, 99, 99));
  EXPECT_EQ(cut(2, 2, 2, 2, slot), "FRAME_MISMATCH");
  EXPECT_EQ(cut(0, 3, 1, 2, slot), "FRAME_MISMATCH");
  EXPECT_EQ(cut(0xFFFFFFFF, 0, 2, 1, slot), "FRAME_MISMATCH");
  EXPECT_EQ(cut(0, 0, 0, 1, slot), "FRAME_MISMATCH");
  EXPECT_EQ(cut(0, 0, 3, 4, slot), "SLOT_TOO_SMALL");
}

// dcm2niix: shape and affine of the same two files. NIfTI has the opposite signs of x and y.
TEST(MosaicTest, ARealMosaicLiesWhereDcm2niixPutsIt) {
  const auto folder = tomoserve::testing::TestData() / "dicom/mr_siemens_mosaic";
  TS_SKIP_WITHOUT(folder);
  const auto truth_file = tomoserve::testing::TestData() / "truth.json";
  TS_SKIP_WITHOUT(truth_file);
  const auto truth =
      nlohmann::json::parse(std::ifstream(truth_file))["mr_siemens_mosaic"]["series"][0]["dcm2niix"][0];
  const auto& affine = truth["affine_RAS"];
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    ++files;
    std::ifstream stream(entry.path(), std::ios::binary);
    const auto header =
        ReadHeader(testing::Bytes({std::string{std::istreambuf_iterator<char>(stream), {}}}), Limits{});
    ASSERT_TRUE(header.ok()) << header.status();
    ASSERT_TRUE(header->has_mosaic());
    const ipc::v1::Mosaic& mosaic = header->mosaic();
    EXPECT_EQ(mosaic.tile_columns(), truth["shape"][0]);
    EXPECT_EQ(mosaic.tile_rows(), truth["shape"][1]);
    EXPECT_EQ(mosaic.slices(), truth["shape"][2]);
    for (int axis = 0; axis < 3; ++axis) {
      const double sign = axis == 2 ? 1 : -1;
      const auto row = static_cast<std::size_t>(axis);
      EXPECT_NEAR(mosaic.step(axis), sign * affine[row][2].get<double>(), 1e-4);
      // dcm2niix has turned the rows upside down: its last row is the first one here.
      const double first = affine[row][3].get<double>() +
                           affine[row][1].get<double>() * static_cast<double>(mosaic.tile_rows() - 1);
      EXPECT_NEAR(mosaic.first_position(axis), sign * first, 1e-4);
    }
  }
  EXPECT_EQ(files, 2);
}

}  // namespace
}  // namespace tomoserve::dicom
