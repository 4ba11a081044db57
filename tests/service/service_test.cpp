// The gRPC face over a dispatcher that answers from a script: translation, stream order, ends of streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "service/status.h"
#include "tomoserve/base/status.h"
#include "tomoserve/service/server.h"
#include "tomoserve/v1/model_service.grpc.pb.h"
#include "tomoserve/v1/study_service.grpc.pb.h"
#include "tomoserve/v1/worklist_service.grpc.pb.h"

namespace tomoserve::service {
namespace {

// What the uploads of a test did; outlives them.
struct Record {
  std::mutex mutex;
  std::vector<std::string> keys;
  std::string bytes;
  std::atomic<int> finished = 0;
  std::atomic<int> dropped = 0;
};

class FakeUpload final : public dispatch::Upload {
 public:
  FakeUpload(Record& record, std::optional<v1::SubmissionReceipt> receipt)
      : record_(record), receipt_(std::move(receipt)) {}
  ~FakeUpload() override { ++record_.dropped; }
  v1::UploadState state() const override {
    v1::UploadState state;
    state.set_submission_id("submission");
    return state;
  }
  std::optional<v1::SubmissionReceipt> receipt() const override { return receipt_; }
  absl::Status BeginInstance(const v1::InstanceStart& start) override {
    const std::lock_guard lock(record_.mutex);
    record_.keys.push_back(start.instance_key());
    return absl::OkStatus();
  }
  absl::Status Append(std::string_view bytes) override {
    const std::lock_guard lock(record_.mutex);
    record_.bytes += bytes;
    if (bytes == "full") {
      return base::Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", "0", "no space is left");
    }
    return absl::OkStatus();
  }
  std::vector<v1::InstanceStatus> TakeStatuses() override { return {}; }
  absl::StatusOr<v1::SubmissionReceipt> Finish() override {
    ++record_.finished;
    v1::SubmissionReceipt receipt;
    receipt.set_study_instance_uid("1.2.3");
    receipt.add_run_ids("run");
    return receipt;
  }

 private:
  Record& record_;
  std::optional<v1::SubmissionReceipt> receipt_;
};

class FakeDispatcher final : public dispatch::Dispatcher {
 public:
  absl::StatusOr<std::unique_ptr<dispatch::Upload>> BeginUpload(const v1::SubmissionHeader& header) override {
    if (!header.models().empty() && header.models(0).name() == "nobody") {
      return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", "nobody", "no such model");
    }
    std::optional<v1::SubmissionReceipt> receipt;
    if (header.idempotency_key() == "known") {
      receipt.emplace();
      receipt->set_submission_id("earlier");
    }
    return std::make_unique<FakeUpload>(record, receipt);
  }
  absl::StatusOr<v1::Study> GetStudy(std::string_view study_uid) override {
    if (study_uid != "1.2.3") {
      return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_STUDY", "", "no such study");
    }
    v1::Study study;
    v1::Run& run = *study.add_runs();
    run.set_run_id("run");
    run.set_state(done ? v1::RUN_STATE_DONE : v1::RUN_STATE_RUNNING);
    study.mutable_summary()->set_state(done ? v1::SUMMARY_STATE_FINAL : v1::SUMMARY_STATE_PENDING);
    return study;
  }
  absl::StatusOr<v1::Study> CloseStudy(std::string_view study_uid) override { return GetStudy(study_uid); }
  absl::StatusOr<v1::CancelStudyResponse> CancelStudy(std::string_view, std::string_view) override {
    return v1::CancelStudyResponse();
  }
  absl::StatusOr<v1::PlanStudyResponse> PlanStudy(const v1::PlanStudyRequest&) override {
    return v1::PlanStudyResponse();
  }
  std::vector<dispatch::ModelStatus> Models() override {
    return {{.model = &model, .activation = {}, .devices = {}}};
  }
  std::vector<dispatch::DeviceInfo> Devices() override { return {}; }
  store::JobStore& store() override { std::abort(); }  // no test here reads the store
  Subscription Subscribe(std::function<void(const std::string&, const std::string&)> changed) override {
    const std::lock_guard lock(mutex);
    subscriber = std::move(changed);
    return std::make_shared<int>(0);
  }
  std::string NotReady() override { return is_ready ? "" : "STARTING"; }
  absl::Status CheckAlive(std::chrono::milliseconds) override { return absl::OkStatus(); }
  absl::StatusOr<dispatch::Activity> Observe(std::chrono::milliseconds) override {
    return dispatch::Activity();
  }
  void Drain(std::chrono::milliseconds) override {}

  void CompleteRun() {
    done = true;
    std::function<void(const std::string&, const std::string&)> call;
    {
      const std::lock_guard lock(mutex);
      call = subscriber;
    }
    if (call) call("1.2.3", "run");
  }

  Record record;
  models::Model model = [] {
    models::Model made;
    made.name = "finder";
    made.version = "1";
    return made;
  }();
  std::atomic<bool> done = false;
  std::atomic<bool> is_ready = true;
  std::mutex mutex;
  std::function<void(const std::string&, const std::string&)> subscriber;
};

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = StartServer({.listen = "127.0.0.1:0"}, dispatcher_);
    ASSERT_TRUE(made.ok()) << made.status();
    server_ = *std::move(made);
    channel_ =
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()), grpc::InsecureChannelCredentials());
    study_ = v1::StudyService::NewStub(channel_);
  }
  void TearDown() override { server_->Shutdown(std::chrono::milliseconds(500)); }

  template <typename Request>
  static Request Header(const std::string& key = "", const std::string& model = "") {
    Request request;
    request.mutable_header()->set_idempotency_key(key);
    if (!model.empty()) request.mutable_header()->add_models()->set_name(model);
    return request;
  }

  // Sends requests and returns what came back.
  template <typename Stream, typename Request, typename Response>
  static grpc::Status Talk(Stream& stream, const std::vector<Request>& requests,
                           std::vector<Response>& responses) {
    for (const Request& request : requests) {
      if (!stream.Write(request)) break;
    }
    stream.WritesDone();
    Response response;
    while (stream.Read(&response)) responses.push_back(response);
    return stream.Finish();
  }

  grpc::Status Submit(const std::vector<v1::SubmitStudyRequest>& requests,
                      std::vector<v1::SubmitStudyResponse>& responses) {
    grpc::ClientContext context;
    const auto stream = study_->SubmitStudy(&context);
    return Talk(*stream, requests, responses);
  }

  static std::vector<v1::SubmitStudyRequest> OneInstance(const std::string& bytes,
                                                         std::uint32_t announced = 1) {
    std::vector<v1::SubmitStudyRequest> requests{Header<v1::SubmitStudyRequest>()};
    requests.emplace_back().mutable_instance()->set_instance_key("a");
    requests.emplace_back().mutable_chunk()->set_data(bytes);
    requests.emplace_back().mutable_end()->set_instances(announced);
    return requests;
  }

  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status details;
    google::rpc::ErrorInfo info;
    if (!details.ParseFromString(status.error_details()) || details.details().empty()) return "";
    details.details(0).UnpackTo(&info);
    return info.domain() == "tomoserve" ? info.reason() : "";
  }

  FakeDispatcher dispatcher_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::StudyService::Stub> study_;
};

TEST_F(ServiceTest, SubmitEndsWithTheReceipt) {
  std::vector<v1::SubmitStudyResponse> responses;
  ASSERT_TRUE(Submit(OneInstance("bytes"), responses).ok());
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(responses[0].upload().submission_id(), "submission");
  EXPECT_EQ(responses[1].receipt().study_instance_uid(), "1.2.3");
  EXPECT_EQ(dispatcher_.record.bytes, "bytes");
  EXPECT_THAT(dispatcher_.record.keys, ::testing::ElementsAre("a"));
}

TEST_F(ServiceTest, StreamWithoutItsEndIsNotAcknowledged) {
  auto requests = OneInstance("bytes");
  requests.pop_back();
  std::vector<v1::SubmitStudyResponse> responses;
  const grpc::Status status = Submit(requests, responses);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(ReasonOf(status), "SUBMISSION_CUT");
  EXPECT_EQ(dispatcher_.record.finished, 0);
}

TEST_F(ServiceTest, EndWithAnotherCountIsNotAcknowledged) {
  std::vector<v1::SubmitStudyResponse> responses;
  const grpc::Status status = Submit(OneInstance("bytes", 2), responses);
  EXPECT_EQ(ReasonOf(status), "SUBMISSION_CUT");
  EXPECT_EQ(dispatcher_.record.finished, 0);
}

TEST_F(ServiceTest, CancelledUploadIsDropped) {
  {
    grpc::ClientContext context;
    const auto stream = study_->SubmitStudy(&context);
    stream->Write(Header<v1::SubmitStudyRequest>());
    v1::SubmitStudyResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  for (int turn = 0; turn < 500 && dispatcher_.record.dropped == 0; ++turn) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(dispatcher_.record.dropped, 1);
  EXPECT_EQ(dispatcher_.record.finished, 0);
}

TEST_F(ServiceTest, KnownKeyIsAnsweredAtOnce) {
  std::vector<v1::SubmitStudyResponse> responses;
  ASSERT_TRUE(Submit({Header<v1::SubmitStudyRequest>("known")}, responses).ok());
  EXPECT_EQ(responses.back().receipt().submission_id(), "earlier");
}

TEST_F(ServiceTest, ErrorsKeepTheirCodeAndReason) {
  std::vector<v1::SubmitStudyResponse> responses;
  grpc::Status status = Submit({Header<v1::SubmitStudyRequest>("", "nobody")}, responses);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "UNKNOWN_MODEL");
  status = Submit(OneInstance("full"), responses);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(status), "DISK_FULL");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  google::rpc::RetryInfo retry;
  ASSERT_EQ(details.details_size(), 2);
  EXPECT_TRUE(details.details(1).UnpackTo(&retry));
}

TEST_F(ServiceTest, PartsOutOfOrderAreRefused) {
  std::vector<v1::SubmitStudyResponse> responses;
  v1::SubmitStudyRequest chunk;
  chunk.mutable_chunk()->set_data("x");
  EXPECT_EQ(ReasonOf(Submit({chunk}, responses)), "STREAM_ORDER");
  EXPECT_EQ(ReasonOf(Submit({v1::SubmitStudyRequest()}, responses)), "STREAM_ORDER");
  const auto header = Header<v1::SubmitStudyRequest>();
  EXPECT_EQ(ReasonOf(Submit({header, header}, responses)), "STREAM_ORDER");
}

TEST_F(ServiceTest, AnalyzeStaysUntilTheRunIsFinal) {
  grpc::ClientContext context;
  const auto stream = study_->AnalyzeStudy(&context);
  stream->Write(Header<v1::AnalyzeStudyRequest>());
  v1::AnalyzeStudyRequest end;
  end.mutable_end();
  stream->Write(end);
  stream->WritesDone();
  v1::AnalyzeStudyResponse response;
  while (stream->Read(&response) && !response.has_run()) {
  }
  EXPECT_EQ(response.run().state(), v1::RUN_STATE_RUNNING);
  dispatcher_.CompleteRun();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.run().state(), v1::RUN_STATE_DONE);
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.has_study());
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, WatchEndsWithTheFinalStudy) {
  grpc::ClientContext context;
  v1::WatchStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  const auto reader = study_->WatchStudy(&context, request);
  v1::WatchStudyResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.study().summary().state(), v1::SUMMARY_STATE_PENDING);
  dispatcher_.CompleteRun();
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.study().summary().state(), v1::SUMMARY_STATE_FINAL);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(ServiceTest, WatchOfAnUnknownStudyFails) {
  grpc::ClientContext context;
  const auto reader = study_->WatchStudy(&context, v1::WatchStudyRequest());
  v1::WatchStudyResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(ReasonOf(reader->Finish()), "UNKNOWN_STUDY");
}

TEST_F(ServiceTest, ModelsAreListed) {
  const auto stub = v1::ModelService::NewStub(channel_);
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(stub->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.models(0).name(), "finder");
  grpc::ClientContext unknown;
  v1::GetModelRequest request;
  request.set_name("other");
  v1::GetModelResponse model;
  EXPECT_EQ(ReasonOf(stub->GetModel(&unknown, request, &model)), "UNKNOWN_MODEL");
}

TEST_F(ServiceTest, MethodsOfLaterVersionsSaySo) {
  grpc::ClientContext context;
  v1::DeleteStudyResponse response;
  const grpc::Status status = study_->DeleteStudy(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(ReasonOf(status), "NOT_IN_THIS_VERSION");
  const auto worklist = v1::WorklistService::NewStub(channel_);
  grpc::ClientContext stream_context;
  const auto reader = worklist->WatchFlags(&stream_context, {});
  v1::WatchFlagsResponse flags;
  EXPECT_FALSE(reader->Read(&flags));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(ServerTest, HealthEndsBeforeTheServer) {
  FakeDispatcher dispatcher;
  dispatcher.is_ready = false;
  auto server = StartServer({.listen = "127.0.0.1:0"}, dispatcher);
  ASSERT_TRUE(server.ok());
  const auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", (*server)->port()), grpc::InsecureChannelCredentials());
  // grpc.health.v1.HealthCheckResponse {status}: 1 is SERVING, 2 is NOT_SERVING; on the wire 08 and the
  // number.
  const auto health = [&] {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice nothing("");
    const grpc::ByteBuffer request(&nothing, 1);
    const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    std::vector<grpc::Slice> slices;
    if (!status.ok() || !answer.Dump(&slices).ok() || slices.empty() || slices[0].size() != 2) return -1;
    return static_cast<int>(slices[0].begin()[1]);
  };
  EXPECT_EQ(health(), 2);
  dispatcher.is_ready = true;
  (*server)->UpdateHealth();
  EXPECT_EQ(health(), 1);
  (*server)->StopServing();
  EXPECT_EQ(health(), 2);
  (*server)->UpdateHealth();
  EXPECT_EQ(health(), 2);
}

TEST(ServerTest, OnlyLoopbackIsServed) {
  FakeDispatcher dispatcher;
  for (const char* listen :
       {"0.0.0.0:0", "[::]:0", "192.168.1.1:0", "example.org:0", "127.0.0.1.evil.example:0"}) {
    const auto server = StartServer({.listen = listen}, dispatcher);
    ASSERT_FALSE(server.ok()) << listen;
    EXPECT_EQ(base::ReasonOf(server.status()), "NOT_LOOPBACK") << listen;
  }
  for (const char* listen : {"127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"}) {
    EXPECT_EQ(base::ReasonOf(StartServer({.listen = listen}, dispatcher).status()), "LISTEN_INVALID")
        << listen;
  }
}

TEST(ServerTest, TakenPortIsSaid) {
  FakeDispatcher dispatcher;
  const auto first = StartServer({.listen = "127.0.0.1:0"}, dispatcher);
  ASSERT_TRUE(first.ok());
  const auto second = StartServer({.listen = absl::StrCat("127.0.0.1:", (*first)->port())}, dispatcher);
  EXPECT_EQ(base::ReasonOf(second.status()), "LISTEN_FAILED");
}

}  // namespace
}  // namespace tomoserve::service
