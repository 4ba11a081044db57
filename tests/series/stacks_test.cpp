// Series of several stacks that lie apart or are pieces of one, and what is no volume at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(SeriesTest, StacksOfSeveralPlanesAreSeveralVolumes) {
  std::vector<Instance> stack = Stack(5);
  for (std::uint32_t n = 0; n < 4; ++n) {
    Instance coronal = Slice(20 + n, 0);
    SetPosition(coronal, 0, 3.0 * n, 0);
    const double cosines[] = {1, 0, 0, 0, 0, -1};
    for (int value = 0; value < 6; ++value) coronal.header.set_image_orientation(value, cosines[value]);
    stack.push_back(coronal);
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  EXPECT_THAT(study.series[0].volumes[0].slices, SizeIs(5));
  EXPECT_EQ(study.series[0].volumes[1].verdict, Verdict::kAccept);
  EXPECT_THAT(study.series[0].volumes[1].slices, SizeIs(4));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_THAT(Codes(volume), ElementsAre("SPLIT_BY"));
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "orientation");
  }
  EXPECT_EQ(study.series[0].volumes[1].reasons[0].text(), "volume 2 of 2 in its series");
}

TEST(SeriesTest, OneSliceOfEachPlaneIsNoVolume) {
  std::vector<Instance> planes = Stack(3);
  const double cosines[2][6] = {{1, 0, 0, 0, 0, -1}, {0, 1, 0, 0, 0, -1}};
  for (std::size_t plane = 0; plane < 2; ++plane) {
    for (int value = 0; value < 6; ++value)
      planes[plane].header.set_image_orientation(value, cosines[plane][value]);
  }
  const Volume volume = OnlyVolume(planes);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("MIXED_ORIENTATION"));
  EXPECT_THAT(volume.slices, SizeIs(3));
}

TEST(SeriesTest, RejectsSlicesThatCannotBePlacedOrRead) {
  const auto with = [](auto change) {
    std::vector<Instance> stack = Stack(6);
    change(stack[5].header);
    return OnlyVolume(stack);
  };
  using Header = ipc::v1::InstanceHeader;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_image_position(); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_image_orientation(); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_position(1, nan); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_position(1, 1e300); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_pixel_spacing_mm(); })), ElementsAre("NO_SPACING"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_pixel_spacing_mm(0, 0); })), ElementsAre("NO_SPACING"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_image_orientation(1, 0.5); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_orientation(1, nan); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_image_orientation(3, 0.01); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_has_pixels(false); })), ElementsAre("NO_PIXELS"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_stored_type(ipc::v1::STORED_TYPE_UNSPECIFIED); })),
              ElementsAre("PIXELS_UNSUPPORTED"));
}

TEST(SeriesTest, SlicesOfTwoModalitiesInOneStackAreNoVolume) {
  std::vector<Instance> stack = Stack(12);
  for (std::size_t n = 8; n < 12; ++n) {
    stack[n].header.set_modality("MR");
    stack[n].header.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.4");
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series, SizeIs(1));
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kReject);
    EXPECT_EQ(Codes(volume).at(0), "MIXED_MODALITY");
  }
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "MIXED_MODALITY"), "4");
}

// Every volume of `stack` whose slices from `first` on are changed.
template <typename Change>
std::vector<Volume> ChangedFrom(std::uint32_t first, std::vector<Instance> stack, Change change) {
  for (std::size_t n = first; n < stack.size(); ++n) change(stack[n].header);
  return BuildStudy(stack).series.at(0).volumes;
}

TEST(SeriesTest, SlicesOfAScannersClassWithoutReadablePixelsAreMissedAndNotSetAside) {
  using Header = ipc::v1::InstanceHeader;
  const auto only = [](auto change) {
    const std::vector<Volume> volumes = ChangedFrom(8, Stack(12), change);
    EXPECT_THAT(volumes, SizeIs(1));
    return volumes.at(0);
  };
  // As the header pass gives them.
  Volume volume = only([](Header& h) {
    h.set_kind(ipc::v1::OBJECT_KIND_OTHER);
    h.set_has_pixels(false);
    h.clear_stored_type();
  });
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("NO_PIXELS"));
  EXPECT_EQ(ValueOf(volume, "NO_PIXELS"), "4");
  // No photometric interpretation, 64 bits, a Modality LUT.
  const std::vector<void (*)(Header&)> unreadable = {
      [](Header& h) { h.clear_photometric(); }, [](Header& h) { h.set_bits_allocated(64); }, [](Header&) {}};
  for (const auto change : unreadable) {
    volume = only([&](Header& h) {
      h.set_kind(ipc::v1::OBJECT_KIND_PICTURE);
      h.clear_stored_type();
      h.set_photometric("MONOCHROME2");
      h.set_samples_per_pixel(1);
      change(h);
    });
    EXPECT_EQ(volume.verdict, Verdict::kReject);
    EXPECT_THAT(Codes(volume), ElementsAre("PIXELS_UNSUPPORTED"));
  }
  // Screens and overlays in the same class are no slices.
  const std::vector<void (*)(Header&)> pictures = {
      [](Header& h) { h.set_samples_per_pixel(3); }, [](Header& h) { h.set_photometric("PALETTE COLOR"); },
      [](Header& h) { h.set_bits_allocated(1); },    [](Header& h) { h.add_image_type("LOCALIZER"); },
      [](Header& h) { h.clear_sop_class_uid(); },    [](Header& h) { h.set_modality("OT"); }};
  for (const auto change : pictures) {
    volume = only([&](Header& h) {
      h.set_kind(ipc::v1::OBJECT_KIND_PICTURE);
      h.clear_stored_type();
      change(h);
    });
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_THAT(volume.slices, SizeIs(8));
  }
}

TEST(SeriesTest, InstancesThatCannotBeReadRejectEveryVolumeOfTheirSeries) {
  using Header = ipc::v1::InstanceHeader;
  const auto rejected = [](auto change, const std::string& code) {
    const std::vector<Volume> volumes = ChangedFrom(8, Stack(12), change);
    ASSERT_THAT(volumes, SizeIs(2)) << code;
    EXPECT_THAT(volumes[0].slices, SizeIs(8));
    EXPECT_THAT(volumes[1].slices, SizeIs(4));
    for (const Volume& volume : volumes) {
      EXPECT_EQ(volume.verdict, Verdict::kReject);
      EXPECT_THAT(Codes(volume), ElementsAre(code));
    }
  };
  const char enhanced[] = "1.2.840.10008.5.1.4.1.1.2.1";
  rejected([](Header& h) { h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.6.1"); }, "SOP_CLASS_UNSUPPORTED");
  rejected([](Header& h) { h.set_modality("OT"); }, "SOP_CLASS_UNSUPPORTED");
  rejected([](Header& h) { h.set_frames(2); }, "NO_FUNCTIONAL_GROUPS");
  rejected([&](Header& h) { h.set_sop_class_uid(enhanced), h.add_frame(), h.add_frame(); },
           "FRAMES_INCONSISTENT");
  rejected([](Header& h) { h.add_image_type("MOSAIC"); }, "MOSAIC");
  rejected([](Header& h) { h.add_image_type("MOSAIC"), h.mutable_mosaic(); }, "MOSAIC_INVALID");
}

TEST(SeriesTest, AStackInPiecesIsNoVolume) {
  using Header = ipc::v1::InstanceHeader;
  const auto pieces = [](auto change, const std::string& code, const std::string& by) {
    const std::vector<Volume> volumes = ChangedFrom(8, Stack(12), change);
    ASSERT_THAT(volumes, SizeIs(2)) << code;
    for (const Volume& volume : volumes) {
      EXPECT_EQ(volume.verdict, Verdict::kReject);
      EXPECT_THAT(Codes(volume), ElementsAre(code, "SPLIT_BY"));
      EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), by);
    }
    EXPECT_EQ(ValueOf(volumes[0], code), "4");
    EXPECT_EQ(ValueOf(volumes[1], code), "8");
  };
  pieces([](Header& h) { h.set_rows(2); }, "MIXED_MATRIX", "matrix");
  pieces([](Header& h) { h.set_pixel_spacing_mm(0, 0.8); }, "MIXED_SPACING", "spacing");
  pieces([](Header& h) { h.set_frame_of_reference_uid("1.9"); }, "MIXED_FRAME_OF_REFERENCE",
         "frame_of_reference");

  // Every second slice turned in its plane: its normal stays.
  std::vector<Instance> turned = Stack(20);
  for (std::size_t n = 1; n < 20; n += 2) {
    turned[n].header.set_image_orientation(0, -1);
    turned[n].header.set_image_orientation(4, -1);
  }
  const std::vector<Volume> volumes = BuildStudy(turned).series[0].volumes;
  ASSERT_THAT(volumes, SizeIs(2));
  for (const Volume& volume : volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kReject);
    EXPECT_THAT(Codes(volume), ElementsAre("MIXED_ORIENTATION", "SPLIT_BY"));
  }
}

TEST(SeriesTest, StacksApartOrAtTheSamePlacesAreVolumesOfTheirOwn) {
  const auto accepted = [](double from_z) {
    std::vector<Instance> stack = Stack(8);
    for (std::uint32_t n = 0; n < 4; ++n) {
      stack.push_back(Slice(20 + n, from_z + 2.5 * n));
      stack.back().header.set_rows(2);
    }
    const std::vector<Volume> volumes = BuildStudy(stack).series[0].volumes;
    EXPECT_THAT(volumes, SizeIs(2));
    for (const Volume& volume : volumes) {
      if (volume.verdict != Verdict::kAccept) return false;
      EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "matrix");
    }
    return true;
  };
  // The last of the other slices is at z = 17.5.
  EXPECT_FALSE(accepted(20));
  EXPECT_FALSE(accepted(21.2));
  EXPECT_TRUE(accepted(21.3));
  EXPECT_TRUE(accepted(60));
  EXPECT_TRUE(accepted(5));
  EXPECT_FALSE(accepted(6));
  EXPECT_FALSE(accepted(12.5));
}

TEST(SeriesTest, ASeriesWithoutAnyPositionIsOneRejectedVolume) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) instance.header.clear_image_position();
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  const Volume& volume = study.series[0].volumes[0];
  EXPECT_THAT(Codes(volume), ElementsAre("NO_POSITION"));
  EXPECT_EQ(ValueOf(volume, "NO_POSITION"), "4");
  EXPECT_FALSE(volume.geometry);
  EXPECT_THAT(study.series[0].set_aside, IsEmpty());
}

TEST(SeriesTest, LocalizersPicturesAndObjectsAreSetAside) {
  std::vector<Instance> stack = Stack(5);
  const auto add = [&](auto change) {
    Instance instance = Slice(static_cast<std::uint32_t>(20 + stack.size()), 77);
    change(instance.header);
    stack.push_back(instance);
  };
  using Header = ipc::v1::InstanceHeader;
  add([](Header& h) {
    for (const char* value : {"ORIGINAL", "PRIMARY", "LOCALIZER"}) h.add_image_type(value);
  });
  // Secondary capture, segmentation.
  add([](Header& h) {
    h.set_kind(ipc::v1::OBJECT_KIND_PICTURE), h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.7");
  });
  add([](Header& h) {
    h.set_kind(ipc::v1::OBJECT_KIND_OTHER), h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.66.4");
  });
  add([](Header& h) { h.set_written_by_tomoserve(true); });
  const StudySeries study = BuildStudy(stack);
  EXPECT_EQ(study.series[0].instances, 9u);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  std::vector<std::string> codes;
  for (const SetAside& aside : study.series[0].set_aside) {
    EXPECT_EQ(aside.count, 1u);
    codes.push_back(aside.reason.code());
  }
  EXPECT_THAT(codes, ElementsAre("LOCALIZER", "NOT_AN_IMAGE", "OWN_OBJECT", "PICTURE"));
}

}  // namespace
}  // namespace tomoserve::series
