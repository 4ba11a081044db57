// Uploads: what is accepted, refused, acknowledged.
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

TEST_F(UploadTest, AcknowledgesAStudyOnceItIsDurable) {
  AddModel("m", "ok");
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  EXPECT_EQ(receipt.study_instance_uid(), "1.2.3");
  EXPECT_EQ(receipt.instances_accepted(), 8u);
  EXPECT_EQ(receipt.instances_refused(), 0u);
  EXPECT_THAT(receipt.run_ids(), SizeIs(1));
  const auto study = dispatcher_->GetStudy("1.2.3");
  ASSERT_TRUE(study.ok());
  EXPECT_EQ(study->state(), v1::STUDY_STATE_COMPLETE);
  EXPECT_EQ(study->instances(), 8u);
  EXPECT_EQ(study->ref().patient_id(), "P1");
}

TEST_F(UploadTest, SaysWhatBecameOfEachInstance) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  FakeStudy other = study;
  other.study_uid = "9.9.9";
  FakeStudy changed = study;
  changed.seed = 7;
  auto own = study.Header(5);
  own.set_written_by_tomoserve(true);
  auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  ASSERT_TRUE(upload.ok());
  ASSERT_TRUE(SendInstance(**upload, "good", study.File(0)).ok());
  ASSERT_TRUE(SendInstance(**upload, "good2", study.File(1)).ok());
  ASSERT_TRUE(SendInstance(**upload, "again", study.File(0)).ok());
  ASSERT_TRUE(SendInstance(**upload, "text", "this is no DICOM file").ok());
  ASSERT_TRUE(SendInstance(**upload, "other", other.File(0)).ok());
  ASSERT_TRUE(SendInstance(**upload, "conflict", changed.File(0)).ok());
  ASSERT_TRUE(SendInstance(**upload, "empty", "").ok());
  ASSERT_TRUE(SendInstance(**upload, "own", FakeFile(own, study.Pixels(5))).ok());
  const auto receipt = (*upload)->Finish();
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  auto statuses = ByKey((*upload)->TakeStatuses());
  EXPECT_THAT(statuses, SizeIs(8));
  EXPECT_EQ(statuses["good"].outcome(), v1::INSTANCE_OUTCOME_ACCEPTED);
  EXPECT_EQ(statuses["again"].outcome(), v1::INSTANCE_OUTCOME_DUPLICATE);
  EXPECT_EQ(statuses["text"].reason().code(), "NOT_DICOM");
  EXPECT_EQ(statuses["other"].reason().code(), "STUDY_MISMATCH");
  EXPECT_EQ(statuses["other"].reason().value(), "9.9.9");
  EXPECT_EQ(statuses["conflict"].reason().code(), "DUPLICATE_CONFLICT");
  EXPECT_EQ(statuses["empty"].reason().code(), "EMPTY_FILE");
  EXPECT_EQ(statuses["own"].reason().code(), "OWN_OBJECT");
  EXPECT_EQ(receipt->instances_accepted(), 3u);
  EXPECT_EQ(receipt->instances_duplicate(), 1u);
  EXPECT_EQ(receipt->instances_refused(), 5u);
  EXPECT_THAT(receipt->refused(), SizeIs(5));
  const auto stored = dispatcher_->GetStudy("1.2.3");
  ASSERT_TRUE(stored.ok());
  std::vector<std::string> notices;
  for (const v1::Reason& notice : stored->notices()) notices.push_back(notice.code());
  EXPECT_THAT(notices, ::testing::Contains("DUPLICATE_CONFLICT"));
}

TEST_F(UploadTest, ChecksTheExpectedIdentity) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.mutable_expected()->set_study_instance_uid("1.2.99");
  auto receipt = Submit(header, FakeStudy().Files());
  EXPECT_EQ(receipt.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(receipt.status()), "ALL_REFUSED");
  EXPECT_EQ(base::ValueOf(receipt.status()), "STUDY_MISMATCH");

  header = Wanting({"m"});
  header.mutable_expected()->set_patient_id("P2");
  receipt = Submit(header, FakeStudy().Files());
  EXPECT_EQ(base::ValueOf(receipt.status()), "IDENTITY_MISMATCH");
  EXPECT_EQ(std::string(receipt.status().message()).find("P1"), std::string::npos)
      << "a patient's value in a text";

  header = Wanting({"m"});
  header.mutable_expected()->set_study_instance_uid("1.2.3");
  header.mutable_expected()->set_patient_id("P1");
  EXPECT_TRUE(Submit(header, FakeStudy().Files()).ok());
}

TEST_F(UploadTest, RefusesWhatIsNoStudyOfImages) {
  AddModel("m", "ok");
  Start();
  EXPECT_EQ(base::ReasonOf(Submit(Wanting({"m"}), {}).status()), "EMPTY_STUDY");
  const auto text = Submit(Wanting({"m"}), {"a", "b"});
  EXPECT_EQ(base::ReasonOf(text.status()), "ALL_REFUSED");
  EXPECT_EQ(base::ValueOf(text.status()), "NOT_DICOM");
  auto report = FakeStudy().Header(0);
  report.set_kind(ipc::v1::OBJECT_KIND_OTHER);
  report.set_modality("SR");
  report.set_has_pixels(false);
  const auto no_images = Submit(Wanting({"m"}), {FakeFile(report, {})});
  EXPECT_EQ(no_images.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(no_images.status()), "NO_IMAGES");
  EXPECT_EQ(SpoolFiles(), 0u) << "nothing stays of refused uploads";
  EXPECT_FALSE(dispatcher_->GetStudy("1.2.3").ok());
}

TEST_F(UploadTest, RefusesUnknownAndBrokenModelsAtOnce) {
  AddModel("m", "ok");
  std::filesystem::create_directories(folder_ / "models" / "broken" / "1");
  std::ofstream(folder_ / "models" / "broken" / "1" / "recipe.textproto") << "nonsense: 1";
  ASSERT_TRUE(base::CompleteServerConfig(options_.config).ok());
  auto dispatcher = DispatcherImpl::Start(options_, std::make_unique<FakeHelpers>(helpers_));
  ASSERT_TRUE(dispatcher.ok()) << dispatcher.status();
  dispatcher_ = *std::move(dispatcher);
  EXPECT_EQ(base::ReasonOf(dispatcher_->BeginUpload(Wanting({"nobody"})).status()), "UNKNOWN_MODEL");
  EXPECT_EQ(dispatcher_->BeginUpload(Wanting({"nobody"})).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(dispatcher_->BeginUpload(Wanting({"broken"})).status()), "MODEL_REFUSED");
  EXPECT_TRUE(dispatcher_->BeginUpload(Wanting({"m"})).ok());
}

TEST_F(UploadTest, LargeInstancesAreRefusedBeforeTheirBytes) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_instance_bytes(4096);
  Start();
  auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  ASSERT_TRUE(upload.ok());
  v1::InstanceStart start;
  start.set_instance_key("big");
  start.set_size_bytes(5000);
  ASSERT_TRUE((*upload)->BeginInstance(start).ok());
  std::vector<v1::InstanceStatus> statuses;
  ASSERT_TRUE(Eventually([&] {
    statuses = (*upload)->TakeStatuses();
    return !statuses.empty();
  }));
  EXPECT_EQ(statuses[0].reason().code(), "INSTANCE_TOO_LARGE");
  EXPECT_EQ(statuses[0].reason().value(), "5000");
  // Its bytes are thrown away, the others go on.
  ASSERT_TRUE((*upload)->Append(std::string(5000, 'x')).ok());
  ASSERT_TRUE(SendInstance(**upload, "0", FakeStudy().File(0)).ok());
  const auto receipt = (*upload)->Finish();
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->instances_accepted(), 1u);
  EXPECT_EQ(receipt->instances_refused(), 1u);
}

TEST_F(UploadTest, StudiesHaveALimitOfInstances) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_study_instances(5);
  Start();
  const auto receipt = Submit(Wanting({"m"}), FakeStudy().Files());
  EXPECT_EQ(base::ReasonOf(receipt.status()), "TOO_MANY_INSTANCES");
  EXPECT_EQ(base::ValueOf(receipt.status()), "5");
  EXPECT_EQ(SpoolFiles(), 0u);
  // Over several submissions too.
  FakeStudy study;
  v1::SubmissionHeader more = Wanting({"m"});
  more.set_completion(v1::COMPLETION_MORE_EXPECTED);
  MustSubmit(more, {study.File(0), study.File(1), study.File(2)});
  EXPECT_EQ(base::ReasonOf(Submit(more, {study.File(3), study.File(4), study.File(5)}).status()),
            "TOO_MANY_INSTANCES");
}

TEST_F(UploadTest, StudiesHaveALimitOfBytes) {
  AddModel("m", "ok");
  FakeStudy study;
  const std::uint64_t limit = study.File(0).size() + study.File(1).size() + study.File(2).size();
  options_.config.mutable_limits()->set_study_bytes(limit);
  Start();
  const auto receipt = Submit(Wanting({"m"}), {study.File(0), study.File(1), study.File(2), study.File(3)});
  EXPECT_EQ(base::ReasonOf(receipt.status()), "STUDY_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(receipt.status()), std::to_string(limit));
  EXPECT_EQ(SpoolFiles(), 0u);
  // Over several submissions too; what fills the limit exactly is taken.
  v1::SubmissionHeader more = Wanting({"m"});
  more.set_completion(v1::COMPLETION_MORE_EXPECTED);
  MustSubmit(more, {study.File(0), study.File(1)});
  MustSubmit(more, {study.File(2)});
  EXPECT_EQ(base::ReasonOf(Submit(more, {study.File(3)}).status()), "STUDY_TOO_LARGE");
}

TEST_F(UploadTest, BytesMustMatchTheAnnouncedSize) {
  AddModel("m", "ok");
  Start();
  v1::InstanceStart start;
  start.set_instance_key("a");
  start.set_size_bytes(10);
  {
    auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    ASSERT_TRUE((*upload)->BeginInstance(start).ok());
    EXPECT_EQ(base::ReasonOf((*upload)->Append("more than ten bytes")), "INSTANCE_SIZE");
    EXPECT_EQ(base::ReasonOf((*upload)->Finish().status()), "INSTANCE_SIZE");
  }
  {
    auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    ASSERT_TRUE((*upload)->BeginInstance(start).ok());
    ASSERT_TRUE((*upload)->Append("four").ok());
    EXPECT_EQ(base::ReasonOf((*upload)->Finish().status()), "INSTANCE_SIZE");
  }
  {
    auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    EXPECT_EQ(base::ReasonOf((*upload)->Append("bytes of nothing")), "INSTANCE_SIZE");
  }
  EXPECT_EQ(SpoolFiles(), 0u);
}

TEST_F(UploadTest, HelpersThatAreGoneAreNotBlamedOnTheFiles) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_idempotency_key("k1");
  helpers_.header_calls_unavailable = 1;
  {
    const FakeStudy study;
    auto upload = dispatcher_->BeginUpload(header);
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE(SendInstance(**upload, "0", study.File(0)).ok());
    ASSERT_TRUE(Eventually([this] { return helpers_.header_calls_unavailable == 0; }));
    for (std::uint32_t k = 1; k < study.slices; ++k) {
      ASSERT_TRUE(SendInstance(**upload, std::to_string(k), study.File(k)).ok());
    }
    const auto receipt = (*upload)->Finish();
    EXPECT_EQ(receipt.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(base::ReasonOf(receipt.status()), "HELPER_UNAVAILABLE");
    for (const v1::InstanceStatus& status : (*upload)->TakeStatuses()) {
      EXPECT_NE(status.outcome(), v1::INSTANCE_OUTCOME_REFUSED);
    }
  }
  EXPECT_FALSE(dispatcher_->GetStudy("1.2.3").ok()) << "nothing is acknowledged";
  EXPECT_EQ(SpoolFiles(), 1u);
  auto upload = dispatcher_->BeginUpload(header);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_THAT((*upload)->state().instance_keys(), SizeIs(8));
  const auto receipt = (*upload)->Finish();
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->instances_accepted(), 8u);
  EXPECT_EQ(receipt->instances_refused(), 0u);
}

TEST_F(UploadTest, OpenUploadsAreLimited) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_open_uploads(2);
  Start();
  auto first = dispatcher_->BeginUpload(Wanting({"m"}));
  auto second = dispatcher_->BeginUpload(Wanting({"m"}));
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = dispatcher_->BeginUpload(Wanting({"m"}));
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(base::ReasonOf(third.status()), "TOO_MANY_UPLOADS");
  first->reset();
  EXPECT_TRUE(dispatcher_->BeginUpload(Wanting({"m"})).ok());
}

TEST_F(UploadTest, ANearlyFullDiskTakesNoUploads) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_min_free_bytes(1ull << 60);
  Start();
  const auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  EXPECT_EQ(upload.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(base::ReasonOf(upload.status()), "DISK_WATERMARK");
}

TEST_F(UploadTest, AnInstanceThatDoesNotFitTheDiskIsNotAcknowledged) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_study_bytes(1ull << 62);
  Start();
  const auto free_bytes = std::filesystem::space(folder_).available;
  // The watermark lets the upload in; the announced instance would leave less than half of it.
  Stop();
  options_.config.mutable_limits()->set_min_free_bytes(free_bytes - free_bytes / 8);
  options_.config.mutable_limits()->set_instance_bytes(free_bytes);
  Start();
  auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  v1::InstanceStart start;
  start.set_instance_key("a");
  start.set_size_bytes(free_bytes - free_bytes / 4);
  const absl::Status status = (*upload)->BeginInstance(start);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(base::ReasonOf(status), "DISK_FULL");
  EXPECT_EQ(base::ReasonOf((*upload)->Finish().status()), "DISK_FULL");
}

TEST_F(UploadTest, StudiesWithoutUidsGetOneFromTheirContent) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  std::vector<std::string> files;
  for (std::uint32_t k = 0; k < study.slices; ++k) {
    auto header = study.Header(k);
    header.clear_study_instance_uid();
    header.clear_series_instance_uid();
    header.clear_sop_instance_uid();
    files.push_back(FakeFile(header, study.Pixels(k)));
  }
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), files);
  EXPECT_THAT(receipt.study_instance_uid(), ::testing::StartsWith("2.25."));
  EXPECT_EQ(dispatcher_->GetStudy(receipt.study_instance_uid())->ref().identity_source(),
            v1::VALUE_SOURCE_DERIVED);
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_NE(run.findings(0).key_sop_instance_uid(), "");
  // The same content is the same study.
  const v1::SubmissionReceipt again = MustSubmit(Wanting({"m"}), files);
  EXPECT_EQ(again.study_instance_uid(), receipt.study_instance_uid());
  EXPECT_EQ(again.instances_duplicate(), study.slices);
  EXPECT_THAT(again.run_ids(), ElementsAre(receipt.run_ids(0)));
  // In parts nobody could tell which study it is.
  v1::SubmissionHeader part = Wanting({"m"});
  part.set_completion(v1::COMPLETION_MORE_EXPECTED);
  EXPECT_EQ(base::ValueOf(Submit(part, files).status()), "NO_STUDY_UID");
}

TEST_F(UploadTest, HeadersAreReadWhileBytesStillCome) {
  AddModel("m", "ok");
  Start();
  auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  ASSERT_TRUE(upload.ok());
  ASSERT_TRUE(SendInstance(**upload, "0", FakeStudy().File(0)).ok());
  std::vector<v1::InstanceStatus> statuses;
  EXPECT_TRUE(Eventually([&] {
    statuses = (*upload)->TakeStatuses();
    return !statuses.empty();
  }));
  // While a batch is read the next one gathers.
  helpers_.header_ms = 50;
  FakeStudy study;
  study.slices = 64;
  const int calls = helpers_.header_calls;
  for (std::uint32_t k = 1; k < study.slices; ++k) {
    ASSERT_TRUE(SendInstance(**upload, std::to_string(k), study.File(k)).ok());
  }
  ASSERT_TRUE((*upload)->Finish().ok());
  EXPECT_LT(helpers_.header_calls - calls, 20);
}

}  // namespace
}  // namespace tomoserve::dispatch
