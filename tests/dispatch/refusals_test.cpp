// What refused instances mean for the runs of their study.
#include "dispatch/refusals.h"

#include "absl/strings/str_cat.h"
#include "dispatch/growing_fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class RefusalsTest : public StudyInPartsTest {
 protected:
  static std::vector<std::string> Texts(const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
    std::vector<std::string> texts;
    for (const v1::Reason& reason : reasons)
      texts.push_back(absl::StrCat(reason.code(), "(", reason.value(), ")"));
    return texts;
  }
  std::vector<std::string> Notices() { return Texts(Study().notices()); }
  v1::Run RunWith(const std::vector<std::string>& files) {
    return WaitForRun(MustSubmit(Wanting({"m"}), files).run_ids(0));
  }
  // The study with its last slice refused.
  std::vector<std::string> CutOff(bool unknown = false) const {
    std::vector<std::string> files = Part(study_, 0, 15);
    files.push_back(study_.RefusedFile(15, "TRUNCATED", unknown));
    return files;
  }
};

TEST_F(RefusalsTest, ARefusedSliceAtAnEndOfTheStackIsMissed) {
  AddModel("m", "blind");
  Start();
  const auto receipt = MustSubmit(Wanting({"m"}), CutOff());
  ASSERT_THAT(receipt.refused(), SizeIs(1));
  EXPECT_EQ(receipt.refused(0).series_instance_uid(), "1.2.3.4");
  EXPECT_EQ(receipt.refused(0).sop_instance_uid(), "1.2.3.4.115");
  EXPECT_EQ(receipt.refused(0).modality(), "CT");
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Texts(run.coverage().reasons()), Contains("INSTANCES_REFUSED(1)"));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(Texts(run.flag().reasons()), Contains("INSTANCES_REFUSED(1)"));
  EXPECT_THAT(Notices(), ElementsAre("INSTANCES_REFUSED(1,TRUNCATED)"));

  // The same again is no news.
  EXPECT_EQ(RunWith(CutOff()).provenance().input_digest(), run.provenance().input_digest());
  EXPECT_THAT(Study().runs(), SizeIs(1));
  EXPECT_EQ(Study().runs(0).run_id(), run.run_id());
  // Once it comes whole, nothing is missing.
  const v1::Run whole = RunWith({study_.File(15)});
  EXPECT_EQ(whole.provenance().generation(), 2u);
  EXPECT_EQ(whole.flag().state(), v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(Texts(whole.coverage().reasons()), Not(Contains("INSTANCES_REFUSED(1)")));
}

TEST_F(RefusalsTest, AFindingSaysThatInstancesWereRefused) {
  AddModel("m", "ok");
  Start();
  const v1::Run run = RunWith(CutOff());
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_THAT(Texts(run.flag().reasons()), Contains("PARTIAL_COVERAGE(PARTIAL)"));
  ASSERT_GT(run.findings_size(), 0);
  EXPECT_THAT(run.findings(0).limitations(), Contains("INSTANCES_REFUSED(1)"));
}

TEST_F(RefusalsTest, WhatIsRefusedLaterMakesTheAnswerAnew) {
  AddModel("m", "blind");
  Start();
  const v1::Run before = RunWith(Part(study_, 0, 15));
  EXPECT_EQ(before.flag().state(), v1::FLAG_STATE_NO_FINDING);
  const v1::Run after = RunWith(CutOff());
  EXPECT_EQ(after.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_NE(after.provenance().input_digest(), before.provenance().input_digest());
  // A text beside it says nothing of the images.
  std::vector<std::string> files = Part(study_, 0, 15);
  files.push_back("no DICOM file");
  EXPECT_EQ(MustSubmit(Wanting({"m"}), files).run_ids(0), after.run_id());
}

TEST_F(RefusalsTest, OfAnUnknownSeriesAnyMayBe) {
  AddModel("m", "blind");
  AddModel("mr", "blind", "MR");
  Start();
  const auto receipt = MustSubmit(Wanting({"m", "mr"}), CutOff(/*unknown=*/true));
  EXPECT_EQ(receipt.refused(0).series_instance_uid(), "");
  EXPECT_EQ(WaitForRun(receipt.run_ids(0)).coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  // Its only image may be the one that was refused.
  const v1::Run mr = WaitForRun(receipt.run_ids(1));
  EXPECT_EQ(mr.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(Texts(mr.flag().reasons()), ElementsAre("INSTANCES_REFUSED(1)", "MODALITY(CT)"));
}

TEST_F(RefusalsTest, ASeriesThatIsWholeByItsExpectationLacksNothing) {
  AddModel("m", "blind");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid("1.2.3.4");
  expected.set_instances(15);
  const v1::Run run = WaitForRun(MustSubmit(header, CutOff(/*unknown=*/true)).run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_NO_FINDING);
}

TEST_F(RefusalsTest, AnotherSeriesOrModalityIsNotMissed) {
  AddModel("m", "blind");
  AddModel("mr", "blind", "MR");
  Start();
  FakeStudy other = study_;
  other.series_uid = "1.2.3.5";
  std::vector<std::string> files = study_.Files();
  files.push_back(other.RefusedFile(0, "CODESTREAM_BROKEN"));
  const auto receipt = MustSubmit(Wanting({"m", "mr"}), files);
  EXPECT_EQ(WaitForRun(receipt.run_ids(0)).flag().state(), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(WaitForRun(receipt.run_ids(1)).flag().state(), v1::FLAG_STATE_NOT_APPLICABLE);
  EXPECT_THAT(Notices(), ElementsAre("INSTANCES_REFUSED(1,CODESTREAM_BROKEN)"));
}

TEST_F(RefusalsTest, AConflictOfAnAnalysedSliceIsALimitation) {
  AddModel("m", "ok");
  Start();
  FakeStudy changed = study_;
  changed.seed = 7;
  std::vector<std::string> files = study_.Files();
  files.push_back(changed.File(3));
  files.push_back(changed.File(5));
  const v1::Run run = RunWith(files);
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_THAT(Texts(run.coverage().reasons()), Contains("LIMITATION(DUPLICATE_CONFLICT(2))"));
  ASSERT_GT(run.findings_size(), 0);
  EXPECT_THAT(run.findings(0).limitations(), Contains("DUPLICATE_CONFLICT(2)"));
}

TEST(RefusalNoticesTest, OneForAllAndOneForConflicts) {
  std::vector<v1::InstanceStatus> refused(4);
  refused[0].mutable_reason()->set_code("TRUNCATED");
  refused[1].mutable_reason()->set_code("DUPLICATE_CONFLICT");
  refused[1].mutable_reason()->set_value("1.2.7");
  refused[2].mutable_reason()->set_code("EMPTY_FILE");
  refused[3].mutable_reason()->set_code("TRUNCATED");
  std::vector<std::string> texts;
  for (const v1::Reason& notice : RefusalNotices(refused)) {
    texts.push_back(absl::StrCat(notice.code(), "(", notice.value(), ")"));
  }
  EXPECT_THAT(texts, ElementsAre("INSTANCES_REFUSED(3,EMPTY_FILE,TRUNCATED)", "DUPLICATE_CONFLICT(1.2.7)"));
  EXPECT_THAT(RefusalNotices({}), IsEmpty());
}

}  // namespace
}  // namespace tomoserve::dispatch
