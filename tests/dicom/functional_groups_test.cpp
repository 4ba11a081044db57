// Headers of enhanced multi-frame images (PS3.3 C.7.6.16).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "dicom/enhanced_files.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using ::testing::ElementsAre;
using testing::EnhancedWriter;
using testing::FileBuilder;
using ::testing::IsEmpty;
using testing::SequenceStyle;

absl::StatusOr<ipc::v1::InstanceHeader> Read(const FileBuilder& file) {
  return ReadHeader(file.bytes(), Limits{});
}

std::string ReasonOf(const FileBuilder& file) { return base::ReasonOf(Read(file).status()); }
std::string ValueOf(const FileBuilder& file) { return base::ValueOf(Read(file).status()); }

class StyleTest : public ::testing::TestWithParam<SequenceStyle> {};

TEST_P(StyleTest, SharedAndPerFrameGroupsAreMerged) {
  const EnhancedWriter write(GetParam());
  const FileBuilder file =
      write.File({write.Orientation("1\\0\\0\\0\\1\\0"), write.Measures("0.5\\0.75", "2.5"),
                  write.Transformation("1", "-1024", "HU"),
                  write.Group(0x00189329, {write.Text(0x00089007, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE")})},
                 {{write.Content(0), write.Position("-10\\-20\\30")},
                  {write.Content(1), write.Position("-10\\-20\\32.5")},
                  {write.Content(2), write.Position("-10\\-20\\35"), write.Transformation("2", "-5", "HU")}});
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->kind(), ipc::v1::OBJECT_KIND_IMAGE);
  EXPECT_EQ(header->frames(), 3u);
  ASSERT_EQ(header->frame_size(), 3);
  for (int n = 0; n < 3; ++n) {
    const ipc::v1::FrameHeader& frame = header->frame(n);
    EXPECT_THAT(frame.image_position(), ElementsAre(-10, -20, 30 + 2.5 * n));
    EXPECT_THAT(frame.image_orientation(), ElementsAre(1, 0, 0, 0, 1, 0));
    EXPECT_THAT(frame.pixel_spacing_mm(), ElementsAre(0.5, 0.75));
    EXPECT_EQ(frame.slice_thickness_mm(), 2.5);
    EXPECT_EQ(frame.rescale_slope(), n == 2 ? 2 : 1);
    EXPECT_EQ(frame.rescale_intercept(), n == 2 ? -5 : -1024);
    EXPECT_EQ(frame.rescale_type(), "HU");
    EXPECT_THAT(frame.frame_type(), ElementsAre("ORIGINAL", "PRIMARY", "VOLUME", "NONE"));
    EXPECT_EQ(frame.stack_id(), "S1");
    EXPECT_EQ(frame.temporal_position(), 1 + n / 2);
    EXPECT_EQ(frame.acquisition_number(), 7 + n);
    EXPECT_THAT(frame.dimension_index_values(), ElementsAre(1u, static_cast<unsigned>(n) + 1));
    EXPECT_FALSE(frame.has_echo_time_ms());
    EXPECT_FALSE(frame.has_diffusion_b_value());
  }
  EXPECT_THAT(header->repairs(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(AllEncodings, StyleTest,
                         ::testing::Values(SequenceStyle{kExplicitLittleEndian, false, false},
                                           SequenceStyle{kExplicitLittleEndian, true, false},
                                           SequenceStyle{kExplicitLittleEndian, true, true},
                                           SequenceStyle{kImplicitLittleEndian, false, false},
                                           SequenceStyle{kImplicitLittleEndian, true, false},
                                           SequenceStyle{kExplicitBigEndian, false, false},
                                           SequenceStyle{kExplicitBigEndian, true, false}),
                         [](const auto& param) {
                           std::string name(param.param.syntax);
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name + (param.param.defined_lengths ? "defined" : "undefined") +
                                  (param.param.hidden ? "UN" : "");
                         });

TEST(FunctionalGroupsTest, MagneticResonanceFramesHaveEchoDiffusionAndTrigger) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder file =
      write.File({write.Group(0x00189114, {write.Fd(0x00189082, {2.3})})},
                 {{write.Group(0x00189117, {write.Text(0x00189075, "CS", "DIRECTIONAL"),
                                            write.Group(0x00189076, {write.Fd(0x00189089, {0.6, 0, 0.8})}),
                                            write.Fd(0x00189087, {1000})}),
                   write.Group(0x00189226, {write.Text(0x00089007, "CS", "ORIGINAL\\PRIMARY\\T1\\M"),
                                            write.Text(0x00089208, "CS", "MAGNITUDE")}),
                   write.Content(0)},
                  {write.Group(0x00189114, {write.Fd(0x00189082, {4.6})}),
                   write.Group(0x00189118, {write.Fd(0x00209153, {312.5})}),
                   write.Group(0x00189226, {write.Text(0x00089208, "CS", "PHASE")}), write.Content(1)}},
                 "1.2.840.10008.5.1.4.1.1.4.1", "MR");
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->frame_size(), 2);
  EXPECT_EQ(header->frame(0).echo_time_ms(), 2.3);
  EXPECT_EQ(header->frame(0).diffusion_b_value(), 1000);
  EXPECT_THAT(header->frame(0).diffusion_direction(), ElementsAre(0.6, 0, 0.8));
  EXPECT_THAT(header->frame(0).frame_type(), ElementsAre("ORIGINAL", "PRIMARY", "T1", "M"));
  EXPECT_EQ(header->frame(0).complex_image_component(), "MAGNITUDE");
  EXPECT_FALSE(header->frame(0).has_trigger_time_ms());
  EXPECT_EQ(header->frame(1).echo_time_ms(), 4.6);
  EXPECT_EQ(header->frame(1).trigger_time_ms(), 312.5);
  EXPECT_EQ(header->frame(1).complex_image_component(), "PHASE");
  EXPECT_FALSE(header->frame(1).has_diffusion_b_value());
}

TEST(FunctionalGroupsTest, ComputedTomographyFramesSayWhatRecipesAskFor) {
  const EnhancedWriter write(SequenceStyle{});
  const auto region = [&](std::string_view meaning) {
    return write.Group(0x00209071, {write.Group(0x00082218, {write.Text(0x00080104, "LO", meaning)}),
                                    write.Text(0x00209072, "CS", "U")});
  };
  const auto time = [&](std::string_view datetime) {
    return write.Group(0x00209111, {write.Text(0x00189074, "DT", datetime)});
  };
  // A CT with two sources has an item for each.
  const FileBuilder sources =
      write.Sequence(0x00189325, {write.Text(0x00180060, "DS", "120"), write.Text(0x00180060, "DS", "140")});
  const FileBuilder file =
      write.File({sources, write.Group(0x00189314, {write.Text(0x00181210, "SH", "B30f")}), region("Chest")},
                 {{time("20240102235959.25")},
                  {time("20240103000001.5+0100"), region("Abdomen"),
                   write.Group(0x00189314, {write.Text(0x00181210, "SH", "B70f\\3")}),
                   write.Group(0x00189325, {write.Text(0x00180060, "DS", "80")})}});
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->frame_size(), 2);
  EXPECT_EQ(header->frame(0).kvp(), 120);
  EXPECT_EQ(header->frame(0).convolution_kernel(), "B30f");
  EXPECT_EQ(header->frame(0).anatomic_region(), "Chest");
  EXPECT_EQ(header->frame(0).acquisition_datetime(), "20240102235959.25");
  EXPECT_EQ(header->frame(1).kvp(), 80);
  EXPECT_EQ(header->frame(1).convolution_kernel(), "B70f\\3");
  EXPECT_EQ(header->frame(1).anatomic_region(), "Abdomen");
  EXPECT_EQ(header->frame(1).acquisition_datetime(), "20240103000001.5+0100");
  EXPECT_FALSE(header->has_kvp()) << "the frames' alone";
}

// A value that only recipes ask for is no reason to lose the images.
TEST(FunctionalGroupsTest, WhatIsWrongWithAValueThatRecipesAskForRefusesNothing) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder kernel = write.Text(0x00181210, "SH", "B30f");
  const auto header =
      Read(write.File({write.Group(0x00189314, {write.Text(0x00181210, "SH", std::string(2000, 'x'))}),
                       write.Group(0x00189325, {write.Text(0x00180060, "DS", "many")})},
                      {{write.Content(0)}, {write.Content(1), write.Group(0x00189314, {kernel, kernel})}}));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->frame(0).convolution_kernel(), "");
  EXPECT_FALSE(header->frame(0).has_kvp());
  EXPECT_EQ(header->frame(1).convolution_kernel(), "B30f");
}

TEST(FunctionalGroupsTest, TheInstancesOwnAttributesDoNotCountForItsFrames) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder position = write.Text(0x00200032, "DS", "1\\2\\3");
  const std::string more(reinterpret_cast<const char*>(position.bytes().data()), position.bytes().size());
  const auto header = Read(
      write.File({}, {{write.Content(0)}, {write.Content(1)}}, "1.2.840.10008.5.1.4.1.1.2.1", "CT", more));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_THAT(header->image_position(), ElementsAre(1, 2, 3));
  ASSERT_EQ(header->frame_size(), 2);
  EXPECT_THAT(header->frame(0).image_position(), IsEmpty());
  EXPECT_FALSE(header->frame(0).has_rescale_slope());
}

TEST(FunctionalGroupsTest, ClassicMultiFrameImagesAndPicturesHaveNoFrames) {
  FileBuilder classic = FileBuilder::WithMeta(kExplicitLittleEndian);
  classic.Pixels(2, 2, 16, 16, 15, false, "3");
  const auto header = Read(EnhancedWriter::AddPixels(classic, 3));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_THAT(header->frame(), IsEmpty());

  const EnhancedWriter write(SequenceStyle{});
  const auto segmentation = Read(write.File({}, {{write.Content(0)}}, "1.2.840.10008.5.1.4.1.1.66.4", "SEG"));
  ASSERT_TRUE(segmentation.ok()) << segmentation.status();
  EXPECT_THAT(segmentation->frame(), IsEmpty());
}

TEST(FunctionalGroupsTest, MalformedValuesAreLeftOutAndReportedOnce) {
  const EnhancedWriter write(SequenceStyle{});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<FileBuilder> frame = {write.Content(0), write.Position("1\\2\\three"),
                                          write.Group(0x00189114, {write.Fd(0x00189082, {nan})})};
  const auto header = Read(
      write.File({write.Orientation("1\\0\\0\\0\\1"), write.Position("1\\2\\3")}, {frame, frame, frame}));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->frame_size(), 3);
  EXPECT_THAT(header->frame(1).image_position(), IsEmpty());
  EXPECT_THAT(header->frame(1).image_orientation(), IsEmpty());
  EXPECT_FALSE(header->frame(1).has_echo_time_ms());
  std::vector<std::string> repairs;
  for (const auto& repair : header->repairs()) repairs.push_back(repair.code() + repair.value());
  EXPECT_THAT(repairs,
              ::testing::UnorderedElementsAre("MALFORMED_VALUE(0020,0032)", "MALFORMED_VALUE(0020,0037)",
                                              "MALFORMED_VALUE(0018,9082)"));
}

TEST(FunctionalGroupsTest, AMalformedRescaleRefusesTheInstance) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder file =
      write.File({}, {{write.Content(0)}, {write.Content(1), write.Transformation("one", "0", "HU")}});
  EXPECT_EQ(ReasonOf(file), "MALFORMED");
  EXPECT_EQ(ValueOf(file), "(0028,1053)");
}

TEST(FunctionalGroupsTest, AnEmptyRescaleOfAFrameHidesTheSharedOne) {
  const EnhancedWriter write(SequenceStyle{});
  const auto header = Read(write.File({write.Transformation("2", "-1024", "HU")},
                                      {{write.Content(0)},
                                       {write.Content(1), write.Transformation("", "-5", "HU")},
                                       {write.Content(2), write.Transformation("3", " ", "HU")}}));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->frame_size(), 3);
  EXPECT_EQ(header->frame(0).rescale_slope(), 2);
  EXPECT_EQ(header->frame(0).rescale_intercept(), -1024);
  EXPECT_FALSE(header->frame(1).has_rescale_slope());
  EXPECT_EQ(header->frame(1).rescale_intercept(), -5);
  EXPECT_EQ(header->frame(2).rescale_slope(), 3);
  EXPECT_FALSE(header->frame(2).has_rescale_intercept());
}

TEST(FunctionalGroupsTest, RefusesAnotherNumberOfItemsThanFrames) {
  const EnhancedWriter write(SequenceStyle{});
  for (const std::uint32_t items : {1u, 2u, 4u, 200u}) {
    FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
    file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2.1").Pixels(2, 2, 16, 16, 15, false, "3");
    write.AddGroups(file, 0x52009230, std::vector<FileBuilder>(items, write.Content(0)));
    EnhancedWriter::AddPixels(file, 3);
    EXPECT_EQ(ReasonOf(file), "MALFORMED") << items;
    EXPECT_EQ(ValueOf(file), "(5200,9230)") << items;
  }
}

TEST(FunctionalGroupsTest, RefusesWhatIsThereTwice) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder one = write.Text(0x00200032, "DS", "1\\2\\3");
  const FileBuilder two = write.Text(0x00200032, "DS", "1\\2\\4");
  // Two items in a group, two groups in an item, two values in a group.
  const FileBuilder items = write.File({}, {{write.Sequence(0x00209113, {one, two})}});
  EXPECT_EQ(ReasonOf(items), "MALFORMED");
  EXPECT_EQ(ValueOf(items), "(0020,9113)");
  EXPECT_EQ(ReasonOf(write.File({}, {{write.Position("1\\2\\3"), write.Position("1\\2\\4")}})), "MALFORMED");
  EXPECT_EQ(ReasonOf(write.File({}, {{write.Group(0x00209113, {one, two})}})), "MALFORMED");
  // The whole sequence, and a second shared item.
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2.1").Pixels(2, 2, 16, 16, 15, false, "1");
  FileBuilder shared = file;
  for (int i = 0; i < 2; ++i) write.AddGroups(file, 0x52009230, {write.Position("1\\2\\3")});
  EXPECT_EQ(ReasonOf(EnhancedWriter::AddPixels(file, 1)), "MALFORMED");
  write.AddGroups(shared, 0x52009229, {write.Content(0), write.Position("1\\2\\3")});
  EXPECT_EQ(ReasonOf(EnhancedWriter::AddPixels(shared, 1)), "MALFORMED");
}

TEST(FunctionalGroupsTest, RefusesAValueThatIsLongerThanAnyValidOne) {
  const EnhancedWriter write(SequenceStyle{});
  EXPECT_EQ(ReasonOf(write.File({}, {{write.Position(std::string(2000, '1'))}})), "MALFORMED");
}

TEST(FunctionalGroupsTest, RefusesMoreFramesThanTheLimit) {
  const EnhancedWriter write(SequenceStyle{});
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2.1").Pixels(1, 1, 16, 16, 15, false, "65537");
  write.AddGroups(file, 0x52009230, {write.Content(0)});
  file.Header(0x7FE00010, "OW", 65537 * 2).Raw(std::string(65537 * 2, '\0'));
  EXPECT_EQ(ReasonOf(file), "TOO_MANY_FRAMES");
  EXPECT_EQ(ValueOf(file), "65536");
}

// A file of one pixel in each frame; all frames have the same groups.
FileBuilder ManyFrames(const EnhancedWriter& write, std::uint32_t frames, const FileBuilder& shared,
                       const FileBuilder& frame) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2.1").Text(0x00080060, "CS", "CT");
  file.Pixels(1, 1, 16, 16, 15, false, std::to_string(frames));
  write.AddGroups(file, 0x52009229, {shared});
  std::string items;
  FileBuilder item = write.Item();
  item.Item(static_cast<std::uint32_t>(frame.bytes().size())).Raw(frame.bytes());
  const std::string bytes(reinterpret_cast<const char*>(item.bytes().data()), item.bytes().size());
  for (std::uint32_t n = 0; n < frames; ++n) items += bytes;
  file.Header(0x52009230, "SQ", static_cast<std::uint32_t>(items.size())).Raw(items);
  file.Header(0x7FE00010, "OW", frames * 2).Raw(std::string(frames * 2, '\0'));
  return file;
}

TEST(FunctionalGroupsTest, RefusesValuesThatAreTooLargeForAllFramesTogether) {
  const EnhancedWriter write(SequenceStyle{});
  std::string types(64, 'A');
  for (int n = 1; n < 15; ++n) types += "\\" + std::string(64, 'A');
  const FileBuilder large = write.Group(0x00189329, {write.Text(0x00089007, "CS", types)});
  const FileBuilder small = write.Content(0);
  for (const FileBuilder& file :
       {ManyFrames(write, 65'536, large, small), ManyFrames(write, 65'536, small, large)}) {
    EXPECT_EQ(ReasonOf(file), "HEADER_TOO_LARGE");
    EXPECT_EQ(ValueOf(file), "16777216");
  }
}

TEST(FunctionalGroupsTest, TwentyThousandFramesHoldAllThatIsReadOfThem) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder shared =
      write.Join({write.Orientation("1\\0\\0\\0\\1\\0"), write.Measures("0.5\\0.5", "1"),
                  write.Transformation("1", "-1024", "HU"),
                  write.Group(0x00189226, {write.Text(0x00089007, "CS", "ORIGINAL\\PRIMARY\\DIFFUSION\\NONE"),
                                           write.Text(0x00089208, "CS", "MAGNITUDE")})});
  const FileBuilder frame =
      write.Join({write.Content(0), write.Position("-123.456\\-123.456\\123.456"),
                  write.Group(0x00189114, {write.Fd(0x00189082, {2.3})}),
                  write.Group(0x00189117, {write.Group(0x00189076, {write.Fd(0x00189089, {0.6, 0, 0.8})}),
                                           write.Fd(0x00189087, {1000})})});
  const auto header = Read(ManyFrames(write, 20'000, shared, frame));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->frame_size(), 20'000);
  EXPECT_EQ(header->frame(19'999).diffusion_b_value(), 1000);
}

TEST(FunctionalGroupsTest, DamagedGroupsEndInATypedResult) {
  const EnhancedWriter write(SequenceStyle{kExplicitLittleEndian, true, false});
  const std::vector<std::byte> whole =
      write
          .File(
              {write.Orientation("1\\0\\0\\0\\1\\0"), write.Measures("0.5\\0.5", "1")},
              {{write.Content(0), write.Position("0\\0\\0")}, {write.Content(1), write.Position("0\\0\\1")}})
          .bytes();
  std::mt19937 random(5);
  int read = 0;
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> file = whole;
    for (std::uint32_t change = 0; change <= random() % 3; ++change) {
      file[200 + random() % (file.size() - 200)] = static_cast<std::byte>(random());
    }
    const auto header = ReadHeader(file, Limits{});
    if (!header.ok()) {
      ++refused;
      EXPECT_FALSE(base::ReasonOf(header.status()).empty());
      continue;
    }
    ++read;
    ASSERT_TRUE(header->frame().empty() || header->frame_size() == static_cast<int>(header->frames()));
    for (const ipc::v1::FrameHeader& frame : header->frame()) {
      ASSERT_TRUE(frame.image_position().empty() || frame.image_position_size() == 3);
      for (const double value : frame.image_position()) ASSERT_TRUE(std::isfinite(value));
    }
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace tomoserve::dicom
