// What an answer says about what it rests on: interpolated slices, values, what is missing.
#include "dispatch/fixture.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::Contains;

class AnswerTest : public DispatchTest {
 protected:
  static std::vector<std::string> Codes(const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
    std::vector<std::string> codes;
    for (const v1::Reason& reason : reasons) codes.push_back(reason.code());
    return codes;
  }
  // Of a study of which slices 3 and 4 are missing, with the finding largest on slice `k`.
  v1::Finding FindingWithKeySlice(std::uint32_t k) {
    AddModel("m", "key " + std::to_string(k));
    AllowSyntheticSlices("m", 2);
    Start();
    std::vector<std::string> files = FakeStudy().Files();
    files.erase(files.begin() + 3, files.begin() + 5);
    const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), files).run_ids(0));
    EXPECT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
    EXPECT_EQ(run.coverage().synthetic_slices(), 2u);
    return run.findings_size() == 1 ? run.findings(0) : v1::Finding();
  }
};

TEST_F(AnswerTest, TheKeyInstanceBelowAnInterpolatedSliceIsTheNearestAcquiredOne) {
  const v1::Finding finding = FindingWithKeySlice(3);
  EXPECT_EQ(finding.key_slice_k(), 2u);
  EXPECT_EQ(finding.key_sop_instance_uid(), "1.2.3.4.102");
}

TEST_F(AnswerTest, TheKeyInstanceAboveAnInterpolatedSliceIsTheNearestAcquiredOne) {
  const v1::Finding finding = FindingWithKeySlice(4);
  EXPECT_EQ(finding.key_slice_k(), 5u);
  EXPECT_EQ(finding.key_sop_instance_uid(), "1.2.3.4.105");
}

TEST_F(AnswerTest, TheKeyInstanceOnAnAcquiredSliceIsThatSlice) {
  const v1::Finding finding = FindingWithKeySlice(5);
  EXPECT_EQ(finding.key_slice_k(), 5u);
  EXPECT_EQ(finding.key_sop_instance_uid(), "1.2.3.4.105");
}

TEST_F(AnswerTest, ImplausibleValuesAreALimitationOfEachFinding) {
  AddModel("m", "not_hu");
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_THAT(Codes(run.flag().reasons()), Contains("HU_IMPLAUSIBLE"));
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_UNKNOWN);
  ASSERT_EQ(run.findings_size(), 1);
  EXPECT_THAT(run.findings(0).limitations(), Contains("HU_IMPLAUSIBLE(dense 0.5)"));
  EXPECT_FALSE(run.findings(0).has_mean_hu()) << "a mean of what is no Hounsfield unit";
  EXPECT_FALSE(run.findings(0).has_standard_deviation_hu());
}

TEST_F(AnswerTest, TheMeanValueIsTheWorkers) {
  AddModel("m", "ok");
  Start();
  const v1::Run run = RunOf("m");
  ASSERT_EQ(run.findings_size(), 1) << run.failure().ShortDebugString();
  EXPECT_EQ(run.findings(0).mean_hu().value(), 500);
}

TEST_F(AnswerTest, SideAndSiteAreTheRecipes) {
  AddModel("m", "ok");
  EditRecipe("m", "name: \"spot\"", "name: \"spot right\"");
  EditRecipe("m", "each_component: true",
             "each_component: true laterality { of_label {} } "
             "anatomic_site { value: \"39607008\" scheme: \"SCT\" meaning: \"Lung\" }");
  EditRecipe("m", "level: FLAG_LEVEL_ATTENTION", "level: FLAG_LEVEL_ATTENTION side: TOWARDS_LEFT");
  Start();
  const v1::Run run = RunOf("m");
  ASSERT_EQ(run.findings_size(), 1) << run.failure().ShortDebugString();
  EXPECT_EQ(run.findings(0).laterality(), v1::LATERALITY_RIGHT);
  EXPECT_EQ(run.findings(0).anatomic_site().meaning(), "Lung");
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_NO_FINDING) << "the rule asks for the other side";
}

TEST_F(AnswerTest, ImplausibleValuesAreWorseThanMissingInstances) {
  AddModel("m", "not_hu");
  Start();
  const FakeStudy study;
  v1::SubmissionHeader header = Wanting({"m"});
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid(study.series_uid);
  expected.set_instances(10);
  const v1::Run run = WaitForRun(MustSubmit(header, study.Files()).run_ids(0));
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_UNKNOWN);
  EXPECT_THAT(Codes(run.coverage().reasons()), Contains("EXPECTED_INSTANCES_MISSING"));
  EXPECT_EQ(Codes(run.coverage().reasons()).back(), "HU_IMPLAUSIBLE");
}

TEST_F(AnswerTest, AnotherSeriesThatIsMissingLeavesNoCompleteCoverage) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid("1.2.3.99");
  expected.set_instances(3);
  const v1::Run run = WaitForRun(MustSubmit(header, FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(run.flag().reasons()), Contains("EXPECTED_SERIES_INCOMPLETE"));
}

}  // namespace
}  // namespace tomoserve::dispatch
