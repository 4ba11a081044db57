// The gRPC face over a dispatcher that answers from a script: translation, stream order, ends of streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "service/fake_dispatcher.h"
#include "tomoserve/service/server.h"
#include "tomoserve/v1/model_service.grpc.pb.h"
#include "tomoserve/v1/study_service.grpc.pb.h"
#include "tomoserve/v1/worklist_service.grpc.pb.h"

namespace tomoserve::service {
namespace {

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

  const v1::Model& listed = response.models(0);
  v1::SetActivationRequest change;
  change.set_name(listed.name());
  change.set_version(listed.version());
  change.set_stage(v1::ACTIVATION_STAGE_SHADOW);
  change.set_by("head of physics");
  v1::SetActivationResponse changed;
  grpc::ClientContext set;
  ASSERT_TRUE(stub->SetActivation(&set, change, &changed).ok());
  EXPECT_EQ(changed.model().activation().by(), "head of physics");
  request.set_name(listed.name());
  grpc::ClientContext get;
  ASSERT_TRUE(stub->GetModel(&get, request, &model).ok());
  ASSERT_EQ(model.history_size(), 1);
  EXPECT_EQ(model.history(0).stage(), v1::ACTIVATION_STAGE_SHADOW);
  change.set_name("nobody");
  grpc::ClientContext set_unknown;
  EXPECT_EQ(ReasonOf(stub->SetActivation(&set_unknown, change, &changed)), "UNKNOWN_MODEL");
}

TEST_F(ServiceTest, AReloadSaysWhatIsNew) {
  const auto stub = v1::ModelService::NewStub(channel_);
  grpc::ClientContext context;
  v1::ReloadModelsResponse response;
  ASSERT_TRUE(stub->ReloadModels(&context, {}, &response).ok());
  ASSERT_EQ(response.added_size(), 1);
  EXPECT_EQ(response.added(0).rfind("finder@", 0), 0u) << response.added(0);
  EXPECT_EQ(response.removed_size(), 0);
  EXPECT_EQ(response.refused_size(), 0);
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

}  // namespace
}  // namespace tomoserve::service
