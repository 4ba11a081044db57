#include "service/result_stream.h"
#include "service/services.h"
#include "service/unary.h"
#include "service/upload_stream.h"
#include "service/watch.h"

namespace tomoserve::service {
namespace {

// Puts a StatusOr<Study> into a response that holds a study.
template <typename Response>
absl::Status FillStudy(absl::StatusOr<v1::Study> study, Response* response) {
  if (study.ok()) *response->mutable_study() = *std::move(study);
  return study.status();
}

}  // namespace

grpc::ServerBidiReactor<v1::SubmitStudyRequest, v1::SubmitStudyResponse>* StudyServiceImpl::SubmitStudy(
    grpc::CallbackServerContext*) {
  return UploadStream<v1::SubmitStudyRequest, v1::SubmitStudyResponse, false>::Start(dispatcher_, pool_);
}

grpc::ServerBidiReactor<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse>* StudyServiceImpl::AnalyzeStudy(
    grpc::CallbackServerContext*) {
  return UploadStream<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse, true>::Start(dispatcher_, pool_);
}

grpc::ServerUnaryReactor* StudyServiceImpl::CloseStudy(grpc::CallbackServerContext* context,
                                                       const v1::CloseStudyRequest* request,
                                                       v1::CloseStudyResponse* response) {
  return OnPool(pool_, context, [=, this] {
    return FillStudy(dispatcher_.CloseStudy(request->study_instance_uid()), response);
  });
}

grpc::ServerUnaryReactor* StudyServiceImpl::GetStudy(grpc::CallbackServerContext* context,
                                                     const v1::GetStudyRequest* request,
                                                     v1::GetStudyResponse* response) {
  return OnPool(pool_, context, [=, this] {
    return FillStudy(dispatcher_.GetStudy(request->study_instance_uid()), response);
  });
}

grpc::ServerWriteReactor<v1::WatchStudyResponse>* StudyServiceImpl::WatchStudy(
    grpc::CallbackServerContext*, const v1::WatchStudyRequest* request) {
  return StartWatch(dispatcher_, pool_, request->study_instance_uid());
}

grpc::ServerUnaryReactor* StudyServiceImpl::CancelStudy(grpc::CallbackServerContext* context,
                                                        const v1::CancelStudyRequest* request,
                                                        v1::CancelStudyResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    auto cancelled = dispatcher_.CancelStudy(request->study_instance_uid(), request->submission_id());
    if (cancelled.ok()) *response = *std::move(cancelled);
    return cancelled.status();
  });
}

grpc::ServerUnaryReactor* StudyServiceImpl::PlanStudy(grpc::CallbackServerContext* context,
                                                      const v1::PlanStudyRequest* request,
                                                      v1::PlanStudyResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    auto plan = dispatcher_.PlanStudy(*request);
    if (plan.ok()) *response = *std::move(plan);
    return plan.status();
  });
}

grpc::ServerWriteReactor<v1::DownloadResultResponse>* StudyServiceImpl::DownloadResult(
    grpc::CallbackServerContext*, const v1::DownloadResultRequest* request) {
  return StartDownload(dispatcher_, pool_, *request);
}

grpc::ServerUnaryReactor* StudyServiceImpl::UpdateStudy(grpc::CallbackServerContext* context,
                                                        const v1::UpdateStudyRequest* request,
                                                        v1::UpdateStudyResponse* response) {
  return OnPool(pool_, context, [=, this] { return FillStudy(dispatcher_.UpdateStudy(*request), response); });
}

grpc::ServerUnaryReactor* StudyServiceImpl::RerunStudy(grpc::CallbackServerContext* context,
                                                       const v1::RerunStudyRequest* request,
                                                       v1::RerunStudyResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    auto rerun = dispatcher_.RerunStudy(*request);
    if (rerun.ok()) *response = *std::move(rerun);
    return rerun.status();
  });
}

grpc::ServerUnaryReactor* StudyServiceImpl::DeleteStudy(grpc::CallbackServerContext* context,
                                                        const v1::DeleteStudyRequest*,
                                                        v1::DeleteStudyResponse*) {
  return NotYetUnary(context, "DeleteStudy");
}

}  // namespace tomoserve::service
