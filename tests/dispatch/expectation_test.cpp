// Instances and series that a submitter announces.
#include <algorithm>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dispatch/growing_fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class ExpectationTest : public StudyInPartsTest {
 protected:
  static v1::ExpectedSeries Expecting(const std::string& series_uid, std::uint32_t instances) {
    v1::ExpectedSeries expected;
    expected.set_series_instance_uid(series_uid);
    expected.set_instances(instances);
    return expected;
  }
  static std::vector<std::string> Codes(const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
    std::vector<std::string> codes;
    for (const v1::Reason& reason : reasons) codes.push_back(reason.code());
    return codes;
  }
};

TEST_F(ExpectationTest, AnExpectedSeriesThatNeverCameIsNoReasonToSayNotApplicable) {
  AddModel("mr", "ok", "MR");
  Start();
  v1::SubmissionHeader header = Wanting({"mr"});
  *header.add_expected_series() = Expecting("1.2.3.99", 20);
  const v1::Run run = WaitForRun(MustSubmit(header, study_.Files()).run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  ASSERT_THAT(run.flag().reasons(), SizeIs(2));
  EXPECT_EQ(run.flag().reasons(0).code(), "EXPECTED_SERIES_INCOMPLETE");
  EXPECT_EQ(run.flag().reasons(0).value(), "1");
  EXPECT_EQ(run.flag().reasons(1).code(), "MODALITY");
}

TEST_F(ExpectationTest, WhenWhatWasExpectedComesTheAnswerIsMadeAnew) {
  AddModel("m", "ok");
  Start();
  FakeStudy mr = study_;
  mr.series_uid = "1.2.3.5";
  mr.modality = "MR";
  v1::SubmissionHeader header = Wanting({"m"});
  *header.add_expected_series() = Expecting(mr.series_uid, mr.slices);
  const v1::Run before = WaitForRun(MustSubmit(header, study_.Files()).run_ids(0));
  EXPECT_EQ(before.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  const v1::Run after = WaitForRun(MustSubmit(Wanting({"m"}), mr.Files()).run_ids(0));
  EXPECT_EQ(after.provenance().generation(), 2u);
  EXPECT_EQ(after.coverage().target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_NE(after.provenance().input_digest(), before.provenance().input_digest());
}

TEST_F(ExpectationTest, ASubmissionThatBringsNothingNewMayExpectMore) {
  AddModel("m", "ok");
  AddModel("n", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m", "n"}), study_.Files());
  for (const std::string& run_id : first.run_ids()) WaitForRun(run_id);
  v1::SubmissionHeader header = Wanting({"m"});
  *header.add_expected_series() = Expecting(study_.series_uid, 20);
  const auto again = MustSubmit(header, study_.Files());
  EXPECT_EQ(again.instances_duplicate(), 16u);
  const v1::Run run = WaitForRun(again.run_ids(0));
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(run.coverage().reasons()), Contains("EXPECTED_INSTANCES_MISSING"));
  // The other submitter's model hears of it too.
  EXPECT_TRUE(Eventually([&] {
    const v1::Study study = Study();
    return std::all_of(study.runs().begin(), study.runs().end(), [](const v1::Run& one) {
      return one.state() == v1::RUN_STATE_DONE && one.coverage().target() == v1::COVERAGE_TARGET_PARTIAL;
    });
  }));
  // The same again is no news.
  EXPECT_THAT(MustSubmit(header, study_.Files()).run_ids(), ElementsAre(again.run_ids(0)));
}

TEST_F(ExpectationTest, ExpectedSeriesThatComeOneByOneMakeOneGenerationMore) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_completion(v1::COMPLETION_MORE_EXPECTED);
  std::vector<FakeStudy> series(6, study_);
  for (std::size_t n = 0; n < series.size(); ++n) {
    if (n > 0) series[n].modality = "MR";
    series[n].series_uid = absl::StrCat("1.2.3.", 10 + n);
    *header.add_expected_series() = Expecting(series[n].series_uid, series[n].slices);
  }
  const auto first = MustSubmit(header, series[0].Files());
  const v1::Run early = WaitForRun(first.run_ids(0));
  EXPECT_EQ(Study().state(), v1::STUDY_STATE_RECEIVING);
  EXPECT_EQ(early.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  std::string last;
  for (std::size_t n = 1; n < series.size(); ++n) {
    last = MustSubmit(header, series[n].Files()).run_ids(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (n + 1 < series.size()) {
      EXPECT_EQ(StateOf(last), v1::RUN_STATE_QUEUED);
    }
  }
  const v1::Run run = WaitForRun(last);
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_EQ(run.provenance().generation(), 2u);
  EXPECT_EQ(observer_.held, 0);
}

TEST_F(ExpectationTest, AnExpectationOfNothingIsRefused) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.add_expected_series()->set_series_instance_uid("1.2.3.4");
  EXPECT_EQ(base::ReasonOf(dispatcher_->BeginUpload(header).status()), "HEADER_INVALID");
  header.mutable_expected_series(0)->set_instances(3);
  EXPECT_TRUE(dispatcher_->BeginUpload(header).ok());
  header.mutable_expected_series(0)->clear_series_instance_uid();
  EXPECT_EQ(base::ValueOf(dispatcher_->BeginUpload(header).status()), "expected_series");
}

}  // namespace
}  // namespace tomoserve::dispatch
