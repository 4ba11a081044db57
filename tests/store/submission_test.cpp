// Submissions, acknowledgements, studies, cancelling.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include <set>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr std::int64_t kDayUs = std::int64_t{24} * 3600 * 1000000;

class SubmissionTest : public StoreTest {
 protected:
  v1::SubmissionHeader Header(v1::Completion completion = v1::COMPLETION_FINAL) {
    v1::SubmissionHeader header;
    header.set_completion(completion);
    return header;
  }
  v1::StudyState StudyState(const std::string& uid) { return store_->GetStudy(uid)->state; }
};

TEST_F(SubmissionTest, SameKeyAndHeaderIsTheSameSubmission) {
  v1::SubmissionHeader header;
  header.set_idempotency_key("key");
  header.set_priority(v1::PRIORITY_STAT);
  const auto first = store_->BeginSubmission(header);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->existing);
  Reopen();
  const auto second = store_->BeginSubmission(header);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(second->existing);
  EXPECT_EQ(second->submission.submission_id, first->submission.submission_id);
  EXPECT_FALSE(second->submission.acknowledged);
  EXPECT_EQ(second->submission.header.priority(), v1::PRIORITY_STAT);
}

TEST_F(SubmissionTest, SameKeyWithAnotherHeaderIsRefused) {
  v1::SubmissionHeader header;
  header.set_idempotency_key("key");
  Begin(header);
  header.set_force_rerun(true);
  const auto refused = store_->BeginSubmission(header);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Reason(refused), "IDEMPOTENCY_KEY_REUSED");
}

TEST_F(SubmissionTest, KeysLiveSevenDays) {
  v1::SubmissionHeader header;
  header.set_idempotency_key("key");
  const std::string first = Begin(header);
  now_us_ += 7 * kDayUs - 10;
  EXPECT_EQ(Begin(header), first);
  now_us_ += 10;
  v1::SubmissionHeader other = header;
  other.set_force_rerun(true);
  const std::string second = Begin(other);
  EXPECT_NE(second, first);
  EXPECT_EQ(Begin(other), second);
  EXPECT_TRUE(store_->GetSubmission(first).ok());
}

// Whether a message or one inside it has a map, whose bytes come in any order.
bool HasMap(const google::protobuf::Descriptor& type, std::set<const google::protobuf::Descriptor*>& seen) {
  if (!seen.insert(&type).second) return false;
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    if (field.is_map() || (field.message_type() != nullptr && HasMap(*field.message_type(), seen)))
      return true;
  }
  return false;
}

TEST_F(SubmissionTest, MessagesThatAreComparedByTheirBytesHaveNoMaps) {
  std::set<const google::protobuf::Descriptor*> seen;
  EXPECT_FALSE(HasMap(*v1::SubmissionHeader::descriptor(), seen));
  EXPECT_FALSE(HasMap(*v1::FlagEntry::descriptor(), seen));
  EXPECT_GT(seen.size(), 5u);
}

TEST_F(SubmissionTest, WithoutAKeyEverySubmissionIsNew) { EXPECT_NE(Begin(), Begin()); }

TEST_F(SubmissionTest, AcknowledgementKeepsEverything) {
  v1::SubmissionHeader header = Header();
  header.set_priority(v1::PRIORITY_URGENT);
  const v1::SubmissionReceipt receipt =
      Submit("1.2", {"1.2.2", "1.2.1"}, {Model("lung"), Model("liver")}, header);
  Reopen();
  EXPECT_EQ(receipt.study_instance_uid(), "1.2");
  EXPECT_EQ(receipt.run_ids_size(), 2);
  const auto submission = store_->GetSubmission(receipt.submission_id());
  ASSERT_TRUE(submission.ok());
  EXPECT_TRUE(submission->acknowledged);
  EXPECT_EQ(submission->study_uid, "1.2");
  EXPECT_EQ(submission->receipt.SerializeAsString(), receipt.SerializeAsString());

  const auto study = store_->GetStudy("1.2");
  ASSERT_TRUE(study.ok());
  EXPECT_EQ(study->state, v1::STUDY_STATE_COMPLETE);
  EXPECT_EQ(study->priority, v1::PRIORITY_URGENT);
  EXPECT_EQ(study->instances, 2u);
  EXPECT_EQ(study->ref.study_instance_uid(), "1.2");
  EXPECT_GT(study->received_us, 0);

  const auto instances = store_->Instances("1.2");
  ASSERT_TRUE(instances.ok());
  ASSERT_EQ(instances->size(), 2u);
  EXPECT_EQ((*instances)[0].sop_uid, "1.2.1");
  EXPECT_EQ((*instances)[0].sha256, base::Sha256Hex("1.2.1"));
  EXPECT_EQ((*instances)[0].submission_id, receipt.submission_id());
  EXPECT_EQ((*instances)[0].offset, 2032u);
  EXPECT_EQ((*instances)[0].length, 900u);
  EXPECT_EQ((*instances)[0].header.rows(), 512u);

  const auto runs = store_->RunsOfStudy("1.2");
  ASSERT_TRUE(runs.ok());
  ASSERT_EQ(runs->size(), 2u);
  EXPECT_EQ((*runs)[0].run.model(), "liver");
  EXPECT_EQ((*runs)[0].run.run_id(), receipt.run_ids(1));
  EXPECT_EQ((*runs)[1].run.run_id(), receipt.run_ids(0));
  for (const StoredRun& run : *runs) {
    EXPECT_EQ(run.run.state(), v1::RUN_STATE_QUEUED);
    EXPECT_EQ(run.generation, 1u);
    EXPECT_EQ(run.priority, v1::PRIORITY_URGENT);
    EXPECT_EQ(run.study_uid, "1.2");
    EXPECT_TRUE(run.listed);
    EXPECT_TRUE(run.run.has_created_at());
    EXPECT_FALSE(run.run.has_finished_at());
  }
}

TEST_F(SubmissionTest, AcknowledgingAgainReturnsTheReceiptAndChangesNothing) {
  Acknowledgement acknowledgement;
  acknowledgement.submission_id = Begin();
  acknowledgement.study.study_uid = "1.2";
  acknowledgement.instances = InstancesOf(acknowledgement.submission_id, {"1.2.1"});
  acknowledgement.models = {Model("lung")};
  const auto first = store_->Acknowledge(acknowledgement);
  ASSERT_TRUE(first.ok());
  acknowledgement.models.push_back(Model("liver"));
  acknowledgement.instances = InstancesOf(acknowledgement.submission_id, {"1.2.9"});
  const auto second = store_->Acknowledge(acknowledgement);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->SerializeAsString(), first->SerializeAsString());
  EXPECT_EQ(store_->RunsOfStudy("1.2")->size(), 1u);
  EXPECT_EQ(store_->Instances("1.2")->size(), 1u);
}

TEST_F(SubmissionTest, UnknownSubmissionAndStudyAreTyped) {
  Acknowledgement acknowledgement;
  acknowledgement.submission_id = "none";
  EXPECT_EQ(Reason(store_->Acknowledge(acknowledgement)), "UNKNOWN_SUBMISSION");
  acknowledgement.submission_id = Begin();
  EXPECT_EQ(Reason(store_->Acknowledge(acknowledgement)), "STUDY_UID_MISSING");
  EXPECT_EQ(Reason(store_->GetSubmission("none")), "UNKNOWN_SUBMISSION");
  for (const std::string& reason :
       {Reason(store_->GetStudy("9")), Reason(store_->Instances("9")), Reason(store_->RunsOfStudy("9")),
        Reason(store_->SetStudyState("9", v1::STUDY_STATE_COMPLETE)), Reason(store_->SetNotices("9", {})),
        Reason(store_->CancelSubmission("9", ""))}) {
    EXPECT_EQ(reason, "UNKNOWN_STUDY");
  }
}

TEST_F(SubmissionTest, RefusedAcknowledgementLeavesNothing) {
  Submit("1.2", {"1.2.1"}, {Model("lung")});
  Acknowledgement acknowledgement;
  acknowledgement.submission_id = Begin();
  acknowledgement.study.study_uid = "1.2";
  acknowledgement.instances = InstancesOf(acknowledgement.submission_id, {"1.2.2", "1.2.1"});
  acknowledgement.instances[1].sha256 = base::Sha256Hex("other content");
  acknowledgement.models = {Model("liver")};
  const auto refused = store_->Acknowledge(acknowledgement);
  EXPECT_EQ(Reason(refused), "INSTANCE_CONFLICT");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(base::ValueOf(refused.status()), "1.2.1");
  EXPECT_EQ(store_->Instances("1.2")->size(), 1u);
  EXPECT_EQ(store_->RunsOfStudy("1.2")->size(), 1u);
  EXPECT_FALSE(store_->GetSubmission(acknowledgement.submission_id)->acknowledged);
}

TEST_F(SubmissionTest, TwoSubmittersOfOneStudyShareInstancesAndRuns) {
  const v1::SubmissionReceipt first = Submit("1.2", {"1.2.1", "1.2.2"}, {Model("lung")});
  v1::SubmissionHeader stat = Header();
  stat.set_priority(v1::PRIORITY_STAT);
  const v1::SubmissionReceipt second =
      Submit("1.2", {"1.2.1", "1.2.2"}, {Model("liver"), Model("lung")}, stat);
  EXPECT_EQ(second.instances_duplicate(), 2u);
  EXPECT_EQ(second.run_ids(1), first.run_ids(0));
  EXPECT_EQ(store_->Instances("1.2")->size(), 2u);
  EXPECT_EQ(store_->RunsOfStudy("1.2")->size(), 2u);
  EXPECT_EQ(Run(first.run_ids(0)).priority, v1::PRIORITY_STAT);
  EXPECT_EQ(store_->GetStudy("1.2")->priority, v1::PRIORITY_STAT);
}

TEST_F(SubmissionTest, CancelStopsOnlyWhatNobodyWants) {
  const auto first = Submit("1.2", {"1.2.1"}, {Model("lung"), Model("liver")});
  v1::SubmissionHeader stat = Header();
  stat.set_priority(v1::PRIORITY_STAT);
  const auto second = Submit("1.2", {"1.2.1"}, {Model("lung")}, stat);

  auto cancelled = store_->CancelSubmission("1.2", first.submission_id());
  ASSERT_TRUE(cancelled.ok());
  EXPECT_THAT(*cancelled, ElementsAre(first.run_ids(1)));
  EXPECT_EQ(StateOf(first.run_ids(1)), v1::RUN_STATE_CANCELLED);
  EXPECT_EQ(StateOf(first.run_ids(0)), v1::RUN_STATE_QUEUED);
  EXPECT_TRUE(store_->GetSubmission(first.submission_id())->cancelled);
  EXPECT_THAT(*store_->CancelSubmission("1.2", first.submission_id()), IsEmpty());

  EXPECT_THAT(*store_->CancelSubmission("1.2", second.submission_id()), ElementsAre(first.run_ids(0)));
  EXPECT_THAT(*store_->OpenRuns(), IsEmpty());
  EXPECT_THAT(Flags(), IsEmpty());
}

TEST_F(SubmissionTest, CancelLowersThePriorityToThatOfTheOthers) {
  Submit("1.2", {"1.2.1"}, {Model("lung")});
  v1::SubmissionHeader stat = Header();
  stat.set_priority(v1::PRIORITY_STAT);
  const auto second = Submit("1.2", {"1.2.1"}, {Model("lung")}, stat);
  ASSERT_TRUE(store_->CancelSubmission("1.2", second.submission_id()).ok());
  EXPECT_EQ(store_->GetStudy("1.2")->priority, v1::PRIORITY_ROUTINE);
  EXPECT_EQ(Run(second.run_ids(0)).priority, v1::PRIORITY_ROUTINE);
}

TEST_F(SubmissionTest, CancelWithoutIdStopsEverybodysAndLeavesAnswers) {
  const auto first = Submit("1.2", {"1.2.1"}, {Model("lung"), Model("liver")});
  Submit("1.2", {"1.2.1"}, {Model("heart")});
  Finish(first.run_ids(0), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(store_->CancelSubmission("1.2", "")->size(), 2u);
  EXPECT_EQ(StateOf(first.run_ids(0)), v1::RUN_STATE_DONE);
  EXPECT_THAT(FlagRuns(), ElementsAre(first.run_ids(0)));
}

TEST_F(SubmissionTest, CancelOfAnotherStudysSubmissionIsUnknown) {
  const auto first = Submit("1.2", {"1.2.1"}, {Model("lung")});
  Submit("1.3", {"1.3.1"}, {Model("lung")});
  EXPECT_EQ(Reason(store_->CancelSubmission("1.3", first.submission_id())), "UNKNOWN_SUBMISSION");
  EXPECT_EQ(Reason(store_->CancelSubmission("1.3", "none")), "UNKNOWN_SUBMISSION");
  EXPECT_EQ(store_->OpenRuns()->size(), 2u);
}

TEST_F(SubmissionTest, WantedAgainAfterCancelIsANewGeneration) {
  const auto first = Submit("1.2", {"1.2.1"}, {Model("lung")});
  ASSERT_TRUE(store_->CancelSubmission("1.2", first.submission_id()).ok());
  const auto second = Submit("1.2", {"1.2.1"}, {Model("lung")});
  EXPECT_NE(second.run_ids(0), first.run_ids(0));
  EXPECT_EQ(Run(second.run_ids(0)).generation, 2u);
  EXPECT_EQ(StateOf(second.run_ids(0)), v1::RUN_STATE_QUEUED);
}

TEST_F(SubmissionTest, CompletionFollowsTheSubmissions) {
  Submit("1.2", {"1.2.1"}, {}, Header(v1::COMPLETION_MORE_EXPECTED));
  EXPECT_EQ(StudyState("1.2"), v1::STUDY_STATE_RECEIVING);
  Submit("1.2", {"1.2.2"}, {}, Header(v1::COMPLETION_FINAL));
  EXPECT_EQ(StudyState("1.2"), v1::STUDY_STATE_COMPLETE);
  // Nothing new: stays complete.
  Submit("1.2", {"1.2.2"}, {}, Header(v1::COMPLETION_MORE_EXPECTED));
  EXPECT_EQ(StudyState("1.2"), v1::STUDY_STATE_COMPLETE);
  v1::SubmissionHeader settle = Header(v1::COMPLETION_SETTLE);
  settle.set_settle_seconds(30);
  Submit("1.2", {"1.2.3"}, {}, settle);
  EXPECT_EQ(StudyState("1.2"), v1::STUDY_STATE_REOPENED);
  EXPECT_EQ(store_->GetStudy("1.2")->settle_seconds, 30u);
  Submit("1.2", {"1.2.4"}, {}, Header(v1::COMPLETION_FINAL));
  EXPECT_EQ(StudyState("1.2"), v1::STUDY_STATE_COMPLETE);
  Submit("1.3", {"1.3.1"}, {}, settle);
  EXPECT_EQ(StudyState("1.3"), v1::STUDY_STATE_SETTLING);
}

TEST_F(SubmissionTest, OpenStudiesAreListedUntilComplete) {
  Submit("1.2", {"1.2.1"}, {}, Header(v1::COMPLETION_MORE_EXPECTED));
  Submit("1.3", {"1.3.1"}, {}, Header(v1::COMPLETION_SETTLE));
  Submit("1.4", {"1.4.1"}, {}, Header(v1::COMPLETION_FINAL));
  std::vector<std::string> open;
  const auto studies = store_->OpenStudies();
  ASSERT_TRUE(studies.ok());
  for (const StoredStudy& study : *studies) open.push_back(study.study_uid);
  EXPECT_THAT(open, ElementsAre("1.2", "1.3"));
  EXPECT_EQ(store_->SetStudyState("1.2", v1::STUDY_STATE_COMPLETE), absl::OkStatus());
  EXPECT_EQ(store_->OpenStudies()->size(), 1u);
  EXPECT_EQ(Reason(store_->SetStudyState("1.2", v1::STUDY_STATE_UNSPECIFIED)), "STATE_INVALID");
}

TEST_F(SubmissionTest, IdentityFillsGapsAndAddsUp) {
  Acknowledgement first;
  first.submission_id = Begin();
  first.study.study_uid = "1.2";
  first.study.ref.set_patient_id("DICOM");
  first.study.ref.set_patient_source(v1::VALUE_SOURCE_DICOM);
  first.study.ref.add_modalities("SR");
  first.study.ref.add_orders()->set_accession_number("A1");
  first.study.notices.emplace_back().set_code("CHARSET_REPAIRED");
  ASSERT_TRUE(store_->Acknowledge(first).ok());
  Acknowledgement second;
  second.submission_id = Begin();
  second.study.study_uid = "1.2";
  second.study.ref.set_patient_id("SUBMITTER");
  second.study.ref.set_patient_source(v1::VALUE_SOURCE_SUBMITTER);
  second.study.ref.set_institution("house");
  second.study.ref.add_modalities("CT");
  second.study.ref.add_orders()->set_accession_number("A1");
  second.study.ref.add_orders()->set_accession_number("A2");
  second.study.notices.emplace_back().set_code("CHARSET_REPAIRED");
  second.study.notices.emplace_back().set_code("IDENTITY_CONFLICT");
  ASSERT_TRUE(store_->Acknowledge(second).ok());

  const auto study = store_->GetStudy("1.2");
  ASSERT_TRUE(study.ok());
  EXPECT_EQ(study->ref.patient_id(), "SUBMITTER");
  EXPECT_EQ(study->ref.institution(), "house");
  EXPECT_EQ(study->ref.orders_size(), 2);
  EXPECT_THAT(study->ref.modalities(), ElementsAre("CT", "SR"));
  EXPECT_EQ(study->notices.size(), 2u);
  EXPECT_EQ(store_->SetNotices("1.2", {}), absl::OkStatus());
  EXPECT_THAT(store_->GetStudy("1.2")->notices, IsEmpty());
}

TEST_F(SubmissionTest, ExpectsTheMostThatAnyAcknowledgedSubmissionAnnounces) {
  const auto expecting = [](const std::string& series_uid, std::uint32_t instances) {
    v1::SubmissionHeader header;
    v1::ExpectedSeries& expected = *header.add_expected_series();
    expected.set_series_instance_uid(series_uid);
    expected.set_instances(instances);
    return header;
  };
  EXPECT_EQ(Reason(store_->Expected("1.2")), "UNKNOWN_STUDY");
  Submit("1.2", {"1.2.1"}, {}, expecting("1.2.3", 20));
  Submit("1.2", {"1.2.2"}, {}, expecting("1.2.3", 10));
  Submit("1.2", {"1.2.2"}, {}, expecting("1.2.4", 5));  // brings nothing new
  Submit("1.5", {"1.5.1"}, {}, expecting("1.2.3", 99));
  Begin(expecting("1.2.3", 99));
  const auto expected = store_->Expected("1.2");
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(*expected, (ExpectedInstances{{"1.2.3", 20}, {"1.2.4", 5}}));
  EXPECT_TRUE(store_->Expected("1.5").ok());
}

TEST_F(SubmissionTest, AnAnnouncementOfMoreMakesANewGeneration) {
  const std::string first = OneRun("1.2");
  Start(first, "digest");
  Finish(first, v1::FLAG_STATE_NO_FINDING);
  v1::SubmissionHeader header;
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid("1.2.3");
  expected.set_instances(20);
  const std::string second = Submit("1.2", {"1.2.1"}, {Model("lung")}, header).run_ids(0);
  EXPECT_NE(second, first);
  // Its input stays as it was given as long as nothing else comes, the same announcement included.
  SetInput(second, "digest of more");
  EXPECT_EQ(Submit("1.2", {"1.2.1"}, {Model("lung")}, header).run_ids(0), second);
  EXPECT_EQ(Run(second).input_digest, "digest of more");
  header.mutable_expected_series(0)->set_instances(21);
  EXPECT_EQ(Submit("1.2", {"1.2.1"}, {Model("lung")}, header).run_ids(0), second);
  EXPECT_EQ(Run(second).input_digest, "");
}

TEST_F(SubmissionTest, ForgetsOldUploadsOnly) {
  v1::SubmissionHeader header;
  header.set_idempotency_key("resumed");
  const std::string resumed = Begin(header);
  const std::string old = Begin();
  const auto acknowledged = Submit("1.2", {"1.2.1"}, {});
  now_us_ += kDayUs;
  const std::int64_t before = now_us_;
  EXPECT_EQ(Begin(header), resumed);
  const std::string young = Begin();
  auto forgotten = store_->ForgetUploads(before);
  ASSERT_TRUE(forgotten.ok());
  EXPECT_THAT(*forgotten, ElementsAre(old));
  EXPECT_THAT(*store_->SubmissionIds(), UnorderedElementsAre(resumed, young, acknowledged.submission_id()));
  EXPECT_EQ(Reason(store_->GetSubmission(old)), "UNKNOWN_SUBMISSION");
}

TEST_F(SubmissionTest, ForgetsWhatNobodyCanResume) {
  v1::SubmissionHeader header;
  header.set_idempotency_key("key");
  const std::string keyed = Begin(header);
  const std::string dropped = Begin();
  const std::string other = Begin();
  const auto acknowledged = Submit("1.2", {"1.2.1"}, {});
  for (const std::string& id : {dropped, keyed, acknowledged.submission_id()}) {
    EXPECT_EQ(store_->ForgetKeyless(id), absl::OkStatus());
  }
  EXPECT_THAT(*store_->SubmissionIds(), UnorderedElementsAre(keyed, other, acknowledged.submission_id()));
  EXPECT_EQ(store_->ForgetKeyless(""), absl::OkStatus());
  EXPECT_THAT(*store_->SubmissionIds(), UnorderedElementsAre(keyed, acknowledged.submission_id()));
}

}  // namespace
}  // namespace tomoserve::store
