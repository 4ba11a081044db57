// Whose study it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "series/headers.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> Notices(const StudySeries& study) {
  std::vector<std::string> notices;
  for (const auto& notice : study.notices) notices.push_back(notice.code() + "(" + notice.value() + ")");
  return notices;
}

TEST(IdentityTest, ReferenceComesFromTheHeaders) {
  std::vector<Instance> stack = Stack(3);
  for (Instance& instance : stack) {
    instance.header.set_issuer_of_patient_id("HOSPITAL");
    instance.header.set_accession_number("A1 ");
    instance.header.set_accession_issuer("RIS");
    instance.header.set_study_date("20240229");
    instance.header.set_timezone_offset("+0100");
    instance.header.set_station("CT2");
  }
  const StudySeries study = BuildStudy(stack);
  EXPECT_EQ(study.ref.study_instance_uid(), "1.2.3");
  EXPECT_EQ(study.ref.identity_source(), tomoserve::v1::VALUE_SOURCE_DICOM);
  EXPECT_EQ(study.ref.patient_id(), "P1");
  EXPECT_EQ(study.ref.issuer_of_patient_id(), "HOSPITAL");
  EXPECT_EQ(study.ref.patient_source(), tomoserve::v1::VALUE_SOURCE_DICOM);
  EXPECT_EQ(study.ref.study_date(), "20240229");
  EXPECT_EQ(study.ref.timezone_offset(), "+0100");
  EXPECT_EQ(study.ref.station(), "CT2");
  EXPECT_THAT(study.ref.modalities(), ElementsAre("CT"));
  ASSERT_EQ(study.ref.orders_size(), 1);
  EXPECT_EQ(study.ref.orders(0).accession_number(), "A1");
  EXPECT_EQ(study.ref.orders(0).issuer(), "RIS");
  EXPECT_THAT(study.notices, IsEmpty());
}

TEST(IdentityTest, TwoPatientsAreAConflict) {
  using Header = ipc::v1::InstanceHeader;
  const auto with = [](auto change) {
    std::vector<Instance> stack = Stack(4);
    for (Instance& instance : stack) {
      instance.header.set_issuer_of_patient_id("HOSPITAL");
      instance.header.set_patient_birth_date("19600101");
      instance.header.set_patient_sex("F");
    }
    change(stack[2].header);
    return BuildStudy(stack);
  };
  EXPECT_FALSE(with([](Header&) {}).identity_conflict);
  // A missing value contradicts nothing.
  EXPECT_FALSE(with([](Header& h) {
                 h.clear_patient_id();
                 h.clear_issuer_of_patient_id();
                 h.clear_patient_birth_date();
                 h.clear_patient_sex();
               }).identity_conflict);
  EXPECT_FALSE(with([](Header& h) { h.set_patient_id(" P1 "); }).identity_conflict);
  const StudySeries ids = with([](Header& h) { h.set_patient_id("P2"); });
  EXPECT_TRUE(ids.identity_conflict);
  EXPECT_THAT(Notices(ids), ElementsAre("IDENTITY_CONFLICT(patient_id)"));
  EXPECT_EQ(ids.ref.patient_id(), "P1");
  EXPECT_TRUE(with([](Header& h) { h.set_issuer_of_patient_id("OTHER"); }).identity_conflict);
  EXPECT_TRUE(with([](Header& h) { h.set_patient_birth_date("19600102"); }).identity_conflict);
  EXPECT_TRUE(with([](Header& h) { h.set_patient_sex("M"); }).identity_conflict);
}

TEST(IdentityTest, TheMostCommonStudyUidIsTheStudys) {
  std::vector<Instance> stack = Stack(5);
  stack[0].header.set_study_instance_uid("9.9");
  const StudySeries study = BuildStudy(stack);
  EXPECT_EQ(study.ref.study_instance_uid(), "1.2.3");
  EXPECT_THAT(Notices(study), ElementsAre("STUDY_UID_DIFFERS(2)"));
}

TEST(IdentityTest, NamesOnlyWarn) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) instance.header.set_patient_name("Doe^Jane");
  stack[1].header.set_patient_name("DOE^JANE^^");
  EXPECT_THAT(BuildStudy(stack).notices, IsEmpty());
  stack[2].header.set_patient_name("Smith^Jane");
  const StudySeries study = BuildStudy(stack);
  EXPECT_FALSE(study.identity_conflict);
  EXPECT_THAT(Notices(study), ElementsAre("NAME_DIFFERS(2)"));
}

TEST(IdentityTest, NoticesNeverHoldPatientData) {
  std::vector<Instance> stack = Stack(2);
  stack[0].header.set_patient_name("Doe^Jane");
  stack[1].header.set_patient_name("Smith^Jane");
  stack[1].header.set_patient_id("SECRET");
  stack[1].header.set_patient_birth_date("19600102");
  for (const auto& notice : BuildStudy(stack).notices) {
    for (const char* secret : {"Doe", "Smith", "SECRET", "P1", "1960"}) {
      EXPECT_EQ(notice.DebugString().find(secret), std::string::npos) << notice.DebugString();
    }
  }
}

TEST(IdentityTest, MissingUidsAreDerivedAndStable) {
  std::vector<Instance> stack = Stack(5);
  for (Instance& instance : stack) {
    instance.header.clear_study_instance_uid();
    instance.header.clear_series_instance_uid();
    instance.header.clear_sop_instance_uid();
    instance.header.clear_sop_class_uid();
    EXPECT_EQ(StudyUidOf(instance), "");
  }
  const StudySeries study = BuildStudy(stack);
  EXPECT_EQ(study.ref.study_instance_uid().substr(0, 5), "2.25.");
  EXPECT_LE(study.ref.study_instance_uid().size(), 64u);
  EXPECT_EQ(study.ref.identity_source(), tomoserve::v1::VALUE_SOURCE_DERIVED);
  EXPECT_THAT(Notices(study), ElementsAre("UIDS_DERIVED(5)"));
  ASSERT_THAT(study.series, SizeIs(1));
  EXPECT_EQ(study.series[0].series_instance_uid.substr(0, 5), "2.25.");
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  ASSERT_THAT(study.series[0].volumes[0].slices, SizeIs(5));
  EXPECT_NE(study.series[0].volumes[0].slices[0].sop_instance_uid,
            study.series[0].volumes[0].slices[1].sop_instance_uid);

  std::reverse(stack.begin(), stack.end());
  for (std::uint32_t n = 0; n < 5; ++n) stack[n].index = 70 + n;
  const StudySeries again = BuildStudy(stack);
  EXPECT_EQ(again.ref.study_instance_uid(), study.ref.study_instance_uid());
  EXPECT_EQ(again.series[0].series_instance_uid, study.series[0].series_instance_uid);
  EXPECT_EQ(again.series[0].volumes[0].slices[0].sop_instance_uid,
            study.series[0].volumes[0].slices[0].sop_instance_uid);
}

TEST(IdentityTest, DerivedSeriesAreToldApartByWhatAScannerChanges) {
  std::vector<Instance> stack = Stack(6);
  for (Instance& instance : stack) instance.header.clear_series_instance_uid();
  // Noise in the cosines does not make another series.
  stack[1].header.set_image_orientation(1, 1e-6);
  EXPECT_THAT(BuildStudy(stack).series, SizeIs(1));
  for (std::size_t n = 0; n < 3; ++n) stack[n].header.set_frame_of_reference_uid("1.7");
  EXPECT_THAT(BuildStudy(stack).series, SizeIs(2));
}

TEST(IdentityTest, RepairsOfTheHelpersAreCounted) {
  std::vector<Instance> stack = Stack(3);
  for (std::size_t n = 0; n < 2; ++n) {
    ipc::v1::Refusal& repair = *stack[n].header.add_repairs();
    repair.set_code("CHARSET_REPAIRED");
    repair.set_text("text was not valid in its character set");
  }
  EXPECT_THAT(Notices(BuildStudy(stack)), ElementsAre("CHARSET_REPAIRED(2)"));
}

}  // namespace
}  // namespace tomoserve::series
