// What a recipe may ask of a volume beyond modality and size: plane, thickness, contrast, phase.
#include "series/indication.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using tomoserve::v1::Input;
using Header = ipc::v1::InstanceHeader;

// "fits", with its limitations, or "CODE(value)" of the first check that failed.
std::string Judged(const std::function<void(Input&)>& ask, const std::function<void(Header&)>& change = {}) {
  std::vector<Instance> stack = Stack(5);
  for (Instance& instance : stack) {
    if (change) change(instance.header);
  }
  Input input;
  ask(input);
  const Indication indication = CheckIndication(input, OnlyVolume(stack));
  if (indication.misfit)
    return indication.misfit->reason.code() + "(" + indication.misfit->reason.value() + ")";
  std::string text = "fits";
  for (const std::string& limitation : indication.limitations) text += " " + limitation;
  return text;
}

// Slices one after the other along `k`, with rows along `row` and columns along `column`.
std::function<void(Header&)> Orient(std::initializer_list<double> orientation, int k) {
  return [orientation = std::vector<double>(orientation), k](Header& header) {
    const double z = header.image_position(2);
    for (int i = 0; i < 6; ++i) header.set_image_orientation(i, orientation[static_cast<std::size_t>(i)]);
    header.set_image_position(2, 0);
    header.set_image_position(k, z);
  };
}

TEST(IndicationTest, PlaneOfTheSlices) {
  const auto coronal = Orient({1, 0, 0, 0, 0, -1}, 1);
  const auto sagittal = Orient({0, 1, 0, 0, 0, -1}, 0);
  const auto axial_only = [](Input& i) { i.add_planes(tomoserve::v1::PLANE_AXIAL); };
  EXPECT_EQ(Judged(axial_only), "fits");
  EXPECT_EQ(Judged(axial_only, coronal), "ORIENTATION(CORONAL)");
  EXPECT_EQ(Judged(axial_only, sagittal), "ORIENTATION(SAGITTAL)");
  const auto others = [](Input& i) {
    i.add_planes(tomoserve::v1::PLANE_CORONAL);
    i.add_planes(tomoserve::v1::PLANE_SAGITTAL);
  };
  EXPECT_EQ(Judged(others), "ORIENTATION(AXIAL)");
  EXPECT_EQ(Judged(others, coronal), "fits");
  EXPECT_EQ(Judged(others, sagittal), "fits");
  EXPECT_EQ(Judged([](Input&) {}, coronal), "fits") << "nothing is asked";
}

TEST(IndicationTest, AnObliqueStackHasItsNearestPlane) {
  Volume volume = OnlyVolume(Stack(5));
  Input input;
  input.add_planes(tomoserve::v1::PLANE_AXIAL);
  const auto turn = [&](double degrees) {  // about the patient's left-right axis
    const double angle = degrees * 3.14159265358979 / 180;
    volume.representative.set_image_orientation(4, std::cos(angle));
    volume.representative.set_image_orientation(5, std::sin(angle));
    return CheckIndication(input, volume).misfit.has_value();
  };
  EXPECT_FALSE(turn(44));
  EXPECT_TRUE(turn(46));
  EXPECT_FALSE(turn(-44));
}

TEST(IndicationTest, AMissingOrientationRefusesOrWarns) {
  Volume volume = OnlyVolume(Stack(5));
  volume.representative.clear_image_orientation();
  Input input;
  input.add_planes(tomoserve::v1::PLANE_AXIAL);
  EXPECT_EQ(CheckIndication(input, volume).misfit->reason.code(), "TAG_MISSING");
  input.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
  EXPECT_EQ(CheckIndication(input, volume).limitations, std::vector<std::string>{"TAG_MISSING(orientation)"});
}

TEST(IndicationTest, SliceThicknessIsNotTheirDistance) {
  const auto thin = [](Input& i) { i.mutable_slice_thickness_mm()->set_max(1.5); };
  const auto thick = [](double mm) { return [mm](Header& h) { h.set_slice_thickness_mm(mm); }; };
  EXPECT_EQ(Judged(thin, thick(1.25)), "fits");
  EXPECT_EQ(Judged(thin, thick(5)), "SLICE_THICKNESS(5)");
  EXPECT_EQ(Judged(thin), "TAG_MISSING(slice_thickness)");
  EXPECT_EQ(Judged([&](Input& i) {
              thin(i);
              i.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
            }),
            "fits TAG_MISSING(slice_thickness)");
}

TEST(IndicationTest, Contrast) {
  const auto with = [](Input& i) { i.set_contrast(tomoserve::v1::CONTRAST_WITH); };
  const auto without = [](Input& i) { i.set_contrast(tomoserve::v1::CONTRAST_WITHOUT); };
  const auto agent = [](const char* text) { return [text](Header& h) { h.set_contrast_agent(text); }; };
  EXPECT_EQ(Judged(with, agent("OMNIPAQUE 350")), "fits");
  EXPECT_EQ(Judged(with, agent("none")), "CONTRAST(NONE)");
  EXPECT_EQ(Judged(with), "TAG_MISSING(contrast)");
  // The standard has the attribute only where contrast was used.
  EXPECT_EQ(Judged(without), "fits");
  EXPECT_EQ(Judged(without, agent(" No ")), "fits");
  // Nor is it always there where it was.
  const auto says = [](const char* text, const char* modality = "CT") {
    return [text, modality](Header& h) {
      h.set_series_description(text);
      h.set_modality(modality);
    };
  };
  for (const char* text : {"AX T1 +C", "T1 MPRAGE GD", "THORAX MIT KM", "CONTRAST", "t1ce"})
    EXPECT_EQ(Judged(without, says(text)), "CONTRAST(DESCRIPTION)") << text;
  for (const char* text :
       {"THORAX OHNE KM", "T1 PRE GD", "HEAD W/O CONTRAST", "NON-CONTRAST", "POST OP", "SPACE"})
    EXPECT_EQ(Judged(without, says(text)), "fits") << text;
  EXPECT_EQ(Judged(
                [&](Input& i) {
                  without(i);
                  i.add_modalities("MR");
                },
                says("AX T1 POST", "MR")),
            "CONTRAST(DESCRIPTION)");
  // The agent is free text and is not repeated.
  EXPECT_EQ(Judged(without, agent("OMNIPAQUE 350")), "CONTRAST(AGENT)");
  EXPECT_EQ(Judged([](Input&) {}, agent("OMNIPAQUE 350")), "fits");
}

TEST(IndicationTest, Units) {
  const auto pet = [](const char* units, const char* suv_type = "") {
    return [=](Header& h) {
      h.set_modality("PT");
      h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.128");
      h.mutable_pet()->set_units(units);
      h.mutable_pet()->set_suv_type(suv_type);
    };
  };
  const auto suv = [](Input& i) { i.add_units("GML"); };
  EXPECT_EQ(Judged(suv, pet("GML")), "fits");
  EXPECT_EQ(Judged(suv, pet("GML", "BW")), "fits");
  EXPECT_EQ(Judged(suv, pet("GML", "LBM")), "UNITS(GML LBM)") << "by lean body mass";
  EXPECT_EQ(Judged(suv, pet("BQML")), "UNITS(BQML)");
  EXPECT_EQ(Judged(suv, pet("")), "TAG_MISSING(units)");
  EXPECT_EQ(Judged(suv, pet("Smith^John")), "UNITS(?)") << "free text is not repeated";
  const auto warned = [&](Input& i) {
    suv(i);
    i.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
  };
  EXPECT_EQ(Judged(warned, pet("")), "fits TAG_MISSING(units)");
  EXPECT_EQ(Judged(warned, pet("BQML")), "UNITS(BQML)");
  const auto either = [&](Input& i) {
    suv(i);
    i.add_units("BQML");
  };
  EXPECT_EQ(Judged(either, pet("BQML")), "fits");
  EXPECT_EQ(Judged([](Input& i) { i.add_units("HU"); }), "fits");
  EXPECT_EQ(Judged(suv), "UNITS(HU)");
  EXPECT_EQ(Judged([](Input&) {}, pet("CNTS")), "fits") << "nothing is asked";
}

TEST(IndicationTest, Phase) {
  const auto portal = [](Input& i) {
    i.add_phase_texts("portal");
    i.add_phase_texts("venous");
  };
  EXPECT_EQ(Judged(portal, [](Header& h) { h.set_series_description("Abdomen PORTAL 70s"); }), "fits");
  EXPECT_EQ(Judged(portal, [](Header& h) { h.set_protocol_name("Liver Venous"); }), "fits");
  EXPECT_EQ(Judged(portal, [](Header& h) { h.add_image_type("PORTAL_VENOUS"); }), "fits");
  EXPECT_EQ(Judged(portal, [](Header& h) { h.set_series_description("Abdomen arterial"); }), "PHASE()");
  EXPECT_EQ(Judged(portal), "TAG_MISSING(phase)");
}

TEST(IndicationTest, ExcludedTexts) {
  const auto input = [](Input& i) {
    i.add_excluded_texts("subtraction");
    i.add_excluded_texts("MIP");
  };
  EXPECT_EQ(Judged(input, [](Header& h) { h.set_series_description("DYN SUBTRACTION 2-1"); }),
            "EXCLUDED_TEXT(subtraction)");
  EXPECT_EQ(Judged(input, [](Header& h) { h.set_protocol_name("liver mip cor"); }), "EXCLUDED_TEXT(MIP)");
  EXPECT_EQ(Judged(input, [](Header& h) { h.add_image_type("SUBTRACTION"); }), "EXCLUDED_TEXT(subtraction)");
  EXPECT_EQ(Judged(input, [](Header& h) { h.set_series_description("DYN 2"); }), "fits");
  EXPECT_EQ(Judged(input), "fits") << "what says nothing holds no text";
}

TEST(IndicationTest, SpacesOfTheRecipesTextsCount) {
  const auto input = [](Input& i) { i.add_excluded_texts(" mip "); };
  const auto says = [&](const char* text) {
    return Judged(input, [text](Header& h) { h.set_series_description(text); });
  };
  EXPECT_EQ(says("CHIMIP"), "fits");
  EXPECT_EQ(says("MIPS COR"), "fits");
  for (const char* text : {"THIN MIP COR", "MIP COR", "cor mip", "MIP"}) {
    EXPECT_EQ(says(text), "EXCLUDED_TEXT( mip )") << text;
  }
  const auto region = [](Input& i) { i.add_region_texts(" arm"); };
  EXPECT_NE(Judged(region, [](Header& h) { h.set_protocol_name("PHARMA TRIAL"); }), "fits");
  EXPECT_EQ(Judged(region, [](Header& h) { h.set_protocol_name("LEFT ARM"); }), "fits");
}

}  // namespace
}  // namespace tomoserve::series
