// Uploads that break off: what a key resumes or repeats, and what is left of the others.
#include <fcntl.h>

#include <fstream>

#include "dispatch/upload_fixture.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(UploadTest, ADroppedUploadWithoutAKeyLeavesNothing) {
  AddModel("m", "ok");
  Start();
  {
    auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE(SendInstance(**upload, "0", FakeStudy().File(0)).ok());
    EXPECT_EQ(SpoolFiles(), 1u);
  }
  EXPECT_EQ(SpoolFiles(), 0u);
  EXPECT_THAT(*dispatcher_->store().SubmissionIds(), IsEmpty());
  // One that is refused as a whole leaves nothing either.
  EXPECT_FALSE(Submit(Wanting({"m"}), {"no DICOM"}).ok());
  EXPECT_EQ(SpoolFiles(), 0u);
  EXPECT_THAT(*dispatcher_->store().SubmissionIds(), IsEmpty());
}

TEST_F(UploadTest, AKeyResumesADroppedUpload) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_idempotency_key("k1");
  std::string submission_id;
  {
    auto upload = dispatcher_->BeginUpload(header);
    ASSERT_TRUE(upload.ok());
    submission_id = (*upload)->state().submission_id();
    EXPECT_THAT((*upload)->state().instance_keys(), IsEmpty());
    for (std::uint32_t k = 0; k < 3; ++k) {
      ASSERT_TRUE(SendInstance(**upload, std::to_string(k), study.File(k)).ok());
    }
    v1::InstanceStart start;  // the client vanishes in the middle of the fourth
    start.set_instance_key("3");
    start.set_size_bytes(study.File(3).size());
    ASSERT_TRUE((*upload)->BeginInstance(start).ok());
    ASSERT_TRUE((*upload)->Append(study.File(3).substr(0, 10)).ok());
  }
  Stop();  // and the server is started again
  Start();
  auto upload = dispatcher_->BeginUpload(header);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ((*upload)->state().submission_id(), submission_id);
  EXPECT_THAT((*upload)->state().instance_keys(), ElementsAre("0", "1", "2"));
  // A client that sends everything again does no harm.
  ASSERT_TRUE(SendInstance(**upload, "0", study.File(0)).ok());
  for (std::uint32_t k = 3; k < study.slices; ++k) {
    ASSERT_TRUE(SendInstance(**upload, std::to_string(k), study.File(k)).ok());
  }
  const auto receipt = (*upload)->Finish();
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->instances_accepted(), study.slices);
  EXPECT_EQ(WaitForRun(receipt->run_ids(0)).findings_size(), 1);
}

TEST_F(UploadTest, AKeyAnswersARepetitionWithTheFirstReceipt) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_idempotency_key("k1");
  const v1::SubmissionReceipt first = MustSubmit(header, FakeStudy().Files());
  auto upload = dispatcher_->BeginUpload(header);
  ASSERT_TRUE(upload.ok());
  ASSERT_TRUE((*upload)->receipt().has_value());
  EXPECT_EQ((*upload)->receipt()->SerializeAsString(), first.SerializeAsString());
  header.set_priority(v1::PRIORITY_STAT);
  const auto reused = dispatcher_->BeginUpload(header);
  EXPECT_EQ(reused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(base::ReasonOf(reused.status()), "IDEMPOTENCY_KEY_REUSED");
}

TEST_F(UploadTest, AKeyIsSentByOneStreamAtATime) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_idempotency_key("k1");
  auto upload = dispatcher_->BeginUpload(header);
  ASSERT_TRUE(upload.ok());
  EXPECT_EQ(base::ReasonOf(dispatcher_->BeginUpload(header).status()), "UPLOAD_IN_PROGRESS");
  upload->reset();
  EXPECT_TRUE(dispatcher_->BeginUpload(header).ok());
}

// Two streams of one key; the second has read its row before the first one was acknowledged.
class StaleRowTest : public UploadTest {
 protected:
  void SetUp() override {
    AddModel("m", "ok");
    Start();
    ASSERT_TRUE(spool_.ok());
    header_ = Wanting({"m"});
    header_.set_idempotency_key("k1");
    config::v1::Limits limits;
    limits.set_study_instances(1000);
    limits.set_instance_bytes(1 << 20);
    limits.set_study_bytes(1 << 30);
    services_.emplace(UploadServices{
        .store = dispatcher_->store(),
        .spool = *spool_,
        .helpers = fake_,
        .header_pool = pool_,
        .limits = limits,
        .commit = [this](const Proposal& proposal) -> absl::StatusOr<std::optional<v1::SubmissionReceipt>> {
          TS_ASSIGN_OR_RETURN(v1::SubmissionReceipt receipt,
                              dispatcher_->store().Acknowledge(proposal.acknowledgement));
          return receipt;
        },
        .add_notices = nullptr});
  }
  absl::StatusOr<std::unique_ptr<Upload>> Open(const store::Submission& submission) {
    return UploadSession::Open(*services_, submission, {}, [] {});
  }
  absl::StatusOr<store::Submission> Begin() {
    TS_ASSIGN_OR_RETURN(store::JobStore::Begun begun, dispatcher_->store().BeginSubmission(header_));
    return begun.submission;
  }
  absl::StatusOr<v1::SubmissionReceipt> Send(const store::Submission& submission) {
    TS_ASSIGN_OR_RETURN(const std::unique_ptr<Upload> upload, Open(submission));
    const std::vector<std::string> files = FakeStudy().Files();
    for (std::size_t i = 0; i < files.size(); ++i) {
      TS_RETURN_IF_ERROR(SendInstance(*upload, std::to_string(i), files[i]));
    }
    return upload->Finish();
  }

  v1::SubmissionHeader header_;
  absl::StatusOr<store::Spool> spool_ = store::Spool::Open((folder_ / "data" / "spool").string());
  FakeHelpers fake_{helpers_};
  TaskQueue pool_{1};
  std::optional<UploadServices> services_;
};

TEST_F(StaleRowTest, IsAnsweredWithTheReceiptAndTheFirstStreamsBytesStay) {
  const auto first = Begin();
  const auto stale = Begin();
  ASSERT_TRUE(first.ok() && stale.ok());
  ASSERT_FALSE(stale->acknowledged);
  const auto receipt = Send(*first);
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  {
    const auto upload = Open(*stale);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_TRUE((*upload)->receipt().has_value());
    EXPECT_EQ((*upload)->receipt()->SerializeAsString(), receipt->SerializeAsString());
    EXPECT_EQ((*upload)->Finish()->SerializeAsString(), receipt->SerializeAsString());
    EXPECT_THAT((*upload)->TakeStatuses(), IsEmpty());
  }
  const auto records = spool_->Scan(first->submission_id);
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(*records, SizeIs(8));
}

TEST_F(StaleRowTest, LeavesNoFileWhereTheFirstStreamLeftNone) {
  MustSubmit(Wanting({"m"}), FakeStudy().Files());
  const auto first = Begin();
  const auto stale = Begin();
  ASSERT_TRUE(first.ok() && stale.ok());
  const auto receipt = Send(*first);
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->instances_duplicate(), 8u);
  EXPECT_EQ(SpoolFiles(), 1u);
  const auto upload = Open(*stale);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_TRUE((*upload)->receipt().has_value());
  EXPECT_EQ(SpoolFiles(), 1u);
}

TEST_F(UploadTest, UploadsThatNobodyCanResumeAreRemovedAtTheStart) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader keyed = Wanting({"m"});
  keyed.set_idempotency_key("k1");
  v1::SubmissionHeader plain = Wanting({"m"});
  const auto kept = dispatcher_->store().BeginSubmission(keyed);
  const auto lost = dispatcher_->store().BeginSubmission(plain);
  ASSERT_TRUE(kept.ok() && lost.ok());
  Stop();
  // As a kill leaves them.
  const auto spool = store::Spool::Open((folder_ / "data" / "spool").string());
  for (const std::string& id :
       {kept->submission.submission_id, lost->submission.submission_id, std::string("s-gone")}) {
    ASSERT_TRUE(spool->OpenWriter(id).ok());
  }
  Start();
  EXPECT_THAT(*spool->List(), ElementsAre(kept->submission.submission_id));
  EXPECT_THAT(*dispatcher_->store().SubmissionIds(), ElementsAre(kept->submission.submission_id));
}

}  // namespace
}  // namespace tomoserve::dispatch
