// Enhanced multi-frame images, mosaics, PET; what the values are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kEnhancedMr[] = "1.2.840.10008.5.1.4.1.1.4.1";
constexpr char kMr[] = "1.2.840.10008.5.1.4.1.1.4";

// An instance with `frames` axial frames, 3 mm apart from z = 0, whose own attributes say otherwise.
Instance Enhanced(std::uint32_t index, std::uint32_t frames) {
  Instance instance = Slice(index, 1000);
  auto& h = instance.header;
  h.set_sop_class_uid(kEnhancedMr);
  h.set_modality("MR");
  h.set_frames(frames);
  h.set_acquisition_number(99);
  for (std::uint32_t n = 0; n < frames; ++n) {
    auto& frame = *h.add_frame();
    for (const double value : {5.0, 6.0, 3.0 * n}) frame.add_image_position(value);
    for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) frame.add_image_orientation(value);
    for (const double value : {2.0, 1.5}) frame.add_pixel_spacing_mm(value);
    frame.set_rescale_slope(2 + n);
    frame.set_rescale_intercept(-1);
  }
  return instance;
}

TEST(FramesTest, FramesOfAnEnhancedInstanceAreSlices) {
  Instance instance = Enhanced(7, 5);
  // In any order.
  instance.header.mutable_frame()->SwapElements(0, 3);
  instance.header.mutable_frame(2)->set_slice_thickness_mm(3.5);
  const StudySeries study = BuildStudy({instance});
  EXPECT_EQ(study.series[0].instances, 1u);
  EXPECT_EQ(study.series[0].frames, 5u);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  const Volume& volume = study.series[0].volumes[0];
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_THAT(volume.reasons, IsEmpty());
  ASSERT_TRUE(volume.geometry);
  EXPECT_THAT(volume.geometry->size_ijk(), ElementsAre(6, 4, 5));
  EXPECT_THAT(volume.geometry->spacing_mm(), ElementsAre(1.5, 2, 3));
  EXPECT_THAT(volume.geometry->origin_lps().mm, ElementsAre(5, 6, 0));
  std::vector<std::uint32_t> frames;
  for (const VolumeSlice& slice : volume.slices) {
    frames.push_back(slice.frame);
    EXPECT_EQ(slice.index, 7u);
    EXPECT_EQ(slice.intercept, -1);
    EXPECT_FALSE(slice.tile);
  }
  EXPECT_THAT(frames, ElementsAre(3, 1, 2, 0, 4));
  EXPECT_EQ(volume.slices[4].slope, 6);
  EXPECT_THAT(volume.representative.frame(), IsEmpty());
  EXPECT_THAT(volume.representative.image_position(), ElementsAre(5, 6, 0));
}

TEST(FramesTest, WhatRecipesAskForIsThatOfTheFrames) {
  Instance instance = Enhanced(7, 4);
  instance.header.set_kvp(100);
  instance.header.set_convolution_kernel("OWN");
  const auto representative = [&] { return OnlyVolume({instance}).representative; };
  EXPECT_EQ(representative().kvp(), 100);
  EXPECT_EQ(representative().convolution_kernel(), "OWN");
  for (auto& frame : *instance.header.mutable_frame()) {
    frame.set_kvp(120);
    frame.set_convolution_kernel("B30f");
    frame.set_anatomic_region("Chest");
  }
  EXPECT_EQ(representative().kvp(), 120);
  EXPECT_EQ(representative().convolution_kernel(), "B30f");
  EXPECT_EQ(representative().body_part(), "Chest");
  instance.header.set_body_part("THORAX");
  EXPECT_EQ(representative().body_part(), "THORAX");
}

TEST(FramesTest, TwoKernelsOfOneEnhancedInstanceAreTwoVolumes) {
  Instance instance = Enhanced(7, 8);
  for (int n = 0; n < 8; ++n) {
    auto& frame = *instance.header.mutable_frame(n);
    frame.set_image_position(2, 3.0 * (n / 2));
    frame.set_convolution_kernel(n % 2 == 0 ? "B30f" : "B70f");
  }
  const StudySeries study = BuildStudy({instance});
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "convolution_kernel");
  }
}

// Two phases whose frames nothing but their times tell apart, over midnight.
TEST(FramesTest, FramesAreToldApartByTheirAcquisitionTimes) {
  Instance instance = Enhanced(7, 8);
  for (int n = 0; n < 8; ++n) {
    auto& frame = *instance.header.mutable_frame(n);
    frame.set_image_position(2, 3.0 * (n % 4));
    frame.set_rescale_slope(1);
    frame.set_acquisition_datetime(n < 4 ? "2024010223595" + std::to_string(n) + ".5"
                                         : "2024010300000" + std::to_string(n) + "+0100");
  }
  // Frames of the second phase first.
  for (int n = 0; n < 4; ++n) instance.header.mutable_frame()->SwapElements(n, n + 4);
  const StudySeries study = BuildStudy({instance});
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "acquisition_time");
    ASSERT_THAT(volume.slices, SizeIs(4));
    EXPECT_EQ(volume.slices[0].frame, volume.time_point == 0 ? 4u : 0u);
  }
}

TEST(FramesTest, FramesAreSplitByTheirFunctionalGroups) {
  // Echoes x magnitude and phase, one instance.
  Instance instance = Enhanced(0, 12);
  for (int n = 0; n < 12; ++n) {
    auto& frame = *instance.header.mutable_frame(n);
    frame.set_image_position(2, 3.0 * (n / 4));
    frame.set_echo_time_ms(n % 4 < 2 ? 2.3 : 4.6);
    for (const char* value : {"ORIGINAL", "PRIMARY", "T1", n % 2 == 0 ? "M" : "P"})
      frame.add_frame_type(value);
  }
  StudySeries study = BuildStudy({instance});
  ASSERT_THAT(study.series[0].volumes, SizeIs(4));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "echo_time,image_type");
    EXPECT_THAT(volume.slices, SizeIs(3));
  }
  EXPECT_EQ(study.series[0].volumes[3].representative.image_type(3), "P");

  // Time points as instances.
  std::vector<Instance> times;
  for (std::uint32_t n = 0; n < 3; ++n) {
    times.push_back(Enhanced(n, 4));
    for (auto& frame : *times.back().header.mutable_frame())
      frame.set_temporal_position(static_cast<int>(3 - n));
  }
  study = BuildStudy(times);
  ASSERT_THAT(study.series[0].volumes, SizeIs(3));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "temporal_position");
  EXPECT_EQ(study.series[0].volumes[0].slices[0].index, 2u);
}

TEST(FramesTest, DimensionsTellApartWhatNothingElseNames) {
  Instance instance = Enhanced(0, 8);
  for (int n = 0; n < 8; ++n) {
    auto& frame = *instance.header.mutable_frame(n);
    frame.set_image_position(2, 3.0 * (n % 4));
    for (const int index : {1, n % 4 + 1, n / 4 + 1})
      frame.add_dimension_index_values(static_cast<std::uint32_t>(index));
  }
  const StudySeries study = BuildStudy({instance});
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(ValueOf(study.series[0].volumes[1], "SPLIT_BY"), "dimension_index_3");
}

TEST(FramesTest, StacksBesideEachOtherAreSplitByTheirId) {
  Instance instance = Enhanced(0, 8);
  for (int n = 0; n < 8; ++n) {
    auto& frame = *instance.header.mutable_frame(n);
    frame.set_image_position(2, n < 4 ? 3.0 * n : 50.0 + 2.0 * n);
    frame.set_stack_id(n < 4 ? "1" : "2");
  }
  const StudySeries study = BuildStudy({instance});
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  EXPECT_EQ(ValueOf(study.series[0].volumes[1], "SPLIT_BY"), "stack_id");
}

TEST(FramesTest, HostileFramesAreTyped) {
  const auto codes = [](auto change) {
    Instance instance = Enhanced(0, 6);
    change(instance.header);
    return Codes(OnlyVolume({instance}));
  };
  using Header = ipc::v1::InstanceHeader;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(codes([](Header& h) { h.clear_frame(); }), ElementsAre("NO_FUNCTIONAL_GROUPS"));
  EXPECT_THAT(codes([](Header& h) { h.set_frames(7); }), ElementsAre("FRAMES_INCONSISTENT"));
  EXPECT_THAT(codes([](Header& h) { h.set_frames(0x7FFFFFFF); }), ElementsAre("FRAMES_INCONSISTENT"));
  EXPECT_THAT(codes([](Header& h) { h.set_has_pixels(false); }), ElementsAre("NO_PIXELS"));
  EXPECT_THAT(codes([&](Header& h) { h.mutable_frame(5)->set_image_position(0, nan); }),
              ElementsAre("NO_POSITION"));
  EXPECT_THAT(codes([](Header& h) { h.mutable_frame(5)->clear_pixel_spacing_mm(); }),
              ElementsAre("NO_SPACING"));
  EXPECT_THAT(codes([&](Header& h) { h.mutable_frame(1)->set_rescale_slope(nan); }),
              ElementsAre("RESCALE_INVALID"));
  EXPECT_THAT(codes([](Header& h) { h.mutable_frame(1)->clear_rescale_slope(); }),
              ElementsAre("MIXED_RESCALE"));
  EXPECT_THAT(codes([](Header& h) {
                h.mutable_frame(1)->clear_rescale_slope();
                h.mutable_frame(1)->clear_rescale_intercept();
              }),
              ElementsAre("MIXED_RESCALE"));
  // The value counts frames.
  Instance whole = Enhanced(0, 6);
  whole.header.clear_frame();
  EXPECT_EQ(ValueOf(OnlyVolume({whole}), "NO_FUNCTIONAL_GROUPS"), "6");
}

TEST(FramesTest, NoSeriesHasMoreThanAHundredThousandSlices) {
  const StudySeries study = BuildStudy({Enhanced(0, 60'000), Enhanced(1, 60'000), Enhanced(2, 30'000)});
  ASSERT_THAT(study.series[0].volumes, Not(IsEmpty()));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kReject);
    EXPECT_EQ(ValueOf(volume, "TOO_MANY_SLICES"), "1");
  }
}

// However attributes vary, telling stacks apart ends soon: in seconds on a busy machine, of minutes for the
// straightforward way.
TEST(FramesTest, ManyFramesThatNothingTellsApartAreRefusedSoon) {
  Instance instance = Enhanced(0, 40'000);
  std::uint64_t state = 1;
  const auto random = [&state](std::uint64_t below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % below;
  };
  for (auto& frame : *instance.header.mutable_frame()) {
    frame.set_image_position(2, 2.0 * static_cast<double>(random(50)));
    frame.set_temporal_position(static_cast<int>(random(7)));
    frame.set_acquisition_number(static_cast<int>(random(90)));
    frame.set_echo_time_ms(static_cast<double>(random(3)));
    frame.set_trigger_time_ms(static_cast<double>(random(1000)));
    frame.set_diffusion_b_value(static_cast<double>(random(5)));
    for (int dimension = 0; dimension < 8; ++dimension) {
      frame.add_dimension_index_values(static_cast<std::uint32_t>(random(200)));
    }
  }
  const Volume volume = OnlyVolume({instance});
  EXPECT_THAT(Codes(volume), ElementsAre("MULTI_PHASE"));
}

TEST(FramesTest, TwoContentsOfAnEnhancedInstanceAreAConflictAndOneIsKept) {
  const Instance instance = Enhanced(0, 6);
  Instance other = instance;
  other.index = 1;
  other.content_sha256 = base::Sha256Hex("other");
  const Volume volume = OnlyVolume({instance, other});
  EXPECT_THAT(Codes(volume), ElementsAre("DUPLICATE_CONFLICT"));
  EXPECT_EQ(ValueOf(volume, "DUPLICATE_CONFLICT"), "1");
  EXPECT_THAT(volume.slices, SizeIs(6));
}

// A mosaic of 5 tiles of 4 x 6 in a 3 x 3 square.
Instance Mosaic(std::uint32_t index) {
  Instance instance = Slice(index, 0);
  auto& h = instance.header;
  h.set_sop_class_uid(kMr);
  h.set_modality("MR");
  h.add_image_type("MOSAIC");
  h.set_rows(12);
  h.set_columns(18);
  auto& mosaic = *h.mutable_mosaic();
  mosaic.set_slices(5);
  mosaic.set_tile_rows(4);
  mosaic.set_tile_columns(6);
  for (const double value : {-10.0, -20.0, 30.0}) mosaic.add_first_position(value);
  for (const double value : {0.0, 0.0, 12.0}) mosaic.add_step(value);
  return instance;
}

TEST(FramesTest, TilesOfAMosaicAreSlices) {
  const Volume volume = OnlyVolume({Mosaic(3)});
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  ASSERT_TRUE(volume.geometry);
  EXPECT_THAT(volume.geometry->size_ijk(), ElementsAre(6, 4, 5));
  EXPECT_THAT(volume.geometry->origin_lps().mm, ElementsAre(-10, -20, 30));
  EXPECT_THAT(volume.geometry->spacing_mm(), ElementsAre(0.75, 0.5, 12));
  ASSERT_TRUE(volume.slices[4].tile);
  EXPECT_EQ(volume.slices[4].tile->first_row(), 4u);
  EXPECT_EQ(volume.slices[4].tile->first_column(), 6u);
  EXPECT_EQ(volume.slices[4].tile->rows(), 4u);
  EXPECT_EQ(volume.slices[4].tile->columns(), 6u);
  EXPECT_THAT(volume.stored_size_ij, ElementsAre(6, 4));
}

TEST(FramesTest, MosaicsInTimeAreVolumes) {
  std::vector<Instance> mosaics;
  for (std::uint32_t n = 0; n < 3; ++n) {
    mosaics.push_back(Mosaic(n));
    mosaics.back().header.set_acquisition_number(static_cast<int>(n + 1));
  }
  const StudySeries study = BuildStudy(mosaics);
  ASSERT_THAT(study.series[0].volumes, SizeIs(3));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "acquisition_number");
  EXPECT_EQ(study.series[0].frames, 3u);
}

TEST(FramesTest, MosaicsThatDoNotAddUpAreTyped) {
  const auto codes = [](auto change) {
    Instance instance = Mosaic(0);
    change(instance.header);
    return Codes(OnlyVolume({instance}));
  };
  using Header = ipc::v1::InstanceHeader;
  EXPECT_THAT(codes([](Header& h) { h.clear_mosaic(); }), ElementsAre("MOSAIC"));
  for (const std::uint32_t slices : {0u, 10u, 0xFFFFFFFFu}) {
    EXPECT_THAT(codes([&](Header& h) { h.mutable_mosaic()->set_slices(slices); }),
                ElementsAre("MOSAIC_INVALID"));
  }
  EXPECT_THAT(codes([](Header& h) { h.mutable_mosaic()->set_tile_rows(0); }), ElementsAre("MOSAIC_INVALID"));
  EXPECT_THAT(codes([](Header& h) { h.mutable_mosaic()->set_tile_columns(19); }),
              ElementsAre("MOSAIC_INVALID"));
  EXPECT_THAT(codes([](Header& h) { h.mutable_mosaic()->clear_step(); }), ElementsAre("MOSAIC_INVALID"));
  EXPECT_THAT(codes([](Header& h) {
                h.mutable_mosaic()->set_first_position(0, std::numeric_limits<double>::quiet_NaN());
              }),
              ElementsAre("NO_POSITION"));
  EXPECT_THAT(codes([](Header& h) { h.mutable_mosaic()->set_step(2, 0); }), Contains("DUPLICATE_POSITIONS"));
}

TEST(FramesTest, PetIsReadInTheUnitsItNames) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) {
    instance.header.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.128");
    instance.header.set_modality("PT");
    instance.header.set_rescale_slope(0.5 + instance.index);
    instance.header.set_rescale_intercept(0);
    instance.header.mutable_pet()->set_units("BQML");
  }
  Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_EQ(volume.unit, "BQML");
  EXPECT_EQ(volume.slices[3].slope, 3.5);
  stack[1].header.mutable_pet()->set_units("GML");
  volume = OnlyVolume(stack);
  EXPECT_THAT(Codes(volume), ElementsAre("MIXED_UNITS"));
  EXPECT_EQ(volume.unit, "");
}

TEST(FramesTest, OtherClassesAreNotRead) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) {
    instance.header.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.20");
    instance.header.set_modality("NM");
    instance.header.set_frames(60);
  }
  const Volume volume = OnlyVolume(stack);
  EXPECT_THAT(Codes(volume), ElementsAre("SOP_CLASS_UNSUPPORTED"));
  EXPECT_EQ(ValueOf(volume, "SOP_CLASS_UNSUPPORTED"), "1.2.840.10008.5.1.4.1.1.20");
  EXPECT_THAT(volume.slices, SizeIs(4));
}

TEST(FramesTest, ClassAndModalityMustBeOfOneKind) {
  const auto with = [](const char* uid, const char* modality) {
    std::vector<Instance> stack = Stack(4);
    for (Instance& instance : stack) {
      instance.header.set_sop_class_uid(uid);
      instance.header.set_modality(modality);
    }
    return OnlyVolume(stack);
  };
  EXPECT_EQ(with("1.2.840.10008.5.1.4.1.1.2", "CT").verdict, Verdict::kAccept);
  EXPECT_EQ(with("1.2.840.10008.5.1.4.1.1.4", "MR").verdict, Verdict::kAccept);
  EXPECT_EQ(with("1.2.840.10008.5.1.4.1.1.128", "PT").verdict, Verdict::kAccept);
  EXPECT_EQ(with("", "CT").verdict, Verdict::kAccept);
  for (const auto& [uid, modality] : {std::pair{"1.2.840.10008.5.1.4.1.1.4", "CT"},
                                      {"1.2.840.10008.5.1.4.1.1.2", "MR"},
                                      {"1.2.840.10008.5.1.4.1.1.128", "CT"},
                                      {"1.2.840.10008.5.1.4.1.1.4.1", "PT"},
                                      {"1.2.840.10008.5.1.4.1.1.2", "OT"},
                                      {"", "OT"}}) {
    const Volume volume = with(uid, modality);
    EXPECT_THAT(Codes(volume), ElementsAre("SOP_CLASS_UNSUPPORTED")) << uid << " " << modality;
  }
}

TEST(FramesTest, CtInOtherUnitsSaysSo) {
  const auto with = [](auto change) {
    std::vector<Instance> stack = Stack(4);
    for (Instance& instance : stack) change(instance.header);
    return OnlyVolume(stack);
  };
  using Header = ipc::v1::InstanceHeader;
  EXPECT_EQ(with([](Header&) {}).unit, "HU");
  EXPECT_EQ(with([](Header& h) { h.set_rescale_type("HU"); }).unit, "HU");
  EXPECT_EQ(with([](Header& h) { h.set_rescale_type("US"); }).unit, "HU");
  Volume volume = with([](Header& h) { h.set_rescale_type("mgml"); });
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_EQ(ValueOf(volume, "NOT_HU"), "MGML");
  EXPECT_EQ(volume.unit, "");
  // Free text is not repeated.
  EXPECT_EQ(ValueOf(with([](Header& h) { h.set_rescale_type("DOE^JOHN"); }), "NOT_HU"), "");
  for (const char* value : {"IODINE MAP", "ZEFF", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "RCBF"}) {
    EXPECT_THAT(Codes(with([&](Header& h) { h.add_image_type(value); })), ElementsAre("NOT_HU")) << value;
  }
  for (const char* value : {"AXIAL", "VMI", "MAT_REMOVED", "VNC", "CT_SOM5 SEQ"}) {
    EXPECT_THAT(Codes(with([&](Header& h) { h.add_image_type(value); })), IsEmpty()) << value;
  }
}

TEST(FramesTest, LossyImagesSayTheirWorstRatio) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) instance.header.set_lossy(true);
  EXPECT_EQ(ValueOf(OnlyVolume(stack), "LOSSY"), "");
  stack[2].header.set_lossy_ratio(12.5);
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_EQ(ValueOf(volume, "LOSSY"), "12.5");
}

}  // namespace
}  // namespace tomoserve::series
