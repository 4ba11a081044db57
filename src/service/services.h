// The three services. Each is stateless but for its references; all calls are thread-safe.
#pragma once

#include <asio/thread_pool.hpp>

#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/v1/model_service.grpc.pb.h"
#include "tomoserve/v1/study_service.grpc.pb.h"
#include "tomoserve/v1/worklist_service.grpc.pb.h"

namespace tomoserve::service {

class StudyServiceImpl final : public v1::StudyService::CallbackService {
 public:
  StudyServiceImpl(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool)
      : dispatcher_(dispatcher), pool_(pool) {}

  grpc::ServerBidiReactor<v1::SubmitStudyRequest, v1::SubmitStudyResponse>* SubmitStudy(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse>* AnalyzeStudy(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CloseStudy(grpc::CallbackServerContext* context,
                                       const v1::CloseStudyRequest* request,
                                       v1::CloseStudyResponse* response) override;
  grpc::ServerUnaryReactor* GetStudy(grpc::CallbackServerContext* context, const v1::GetStudyRequest* request,
                                     v1::GetStudyResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchStudyResponse>* WatchStudy(grpc::CallbackServerContext* context,
                                                               const v1::WatchStudyRequest* request) override;
  grpc::ServerUnaryReactor* CancelStudy(grpc::CallbackServerContext* context,
                                        const v1::CancelStudyRequest* request,
                                        v1::CancelStudyResponse* response) override;
  grpc::ServerUnaryReactor* PlanStudy(grpc::CallbackServerContext* context,
                                      const v1::PlanStudyRequest* request,
                                      v1::PlanStudyResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadResultResponse>* DownloadResult(
      grpc::CallbackServerContext* context, const v1::DownloadResultRequest* request) override;

  grpc::ServerUnaryReactor* UpdateStudy(grpc::CallbackServerContext* context,
                                        const v1::UpdateStudyRequest* request,
                                        v1::UpdateStudyResponse* response) override;
  grpc::ServerUnaryReactor* RerunStudy(grpc::CallbackServerContext* context,
                                       const v1::RerunStudyRequest* request,
                                       v1::RerunStudyResponse* response) override;
  grpc::ServerUnaryReactor* DeleteStudy(grpc::CallbackServerContext* context,
                                        const v1::DeleteStudyRequest* request,
                                        v1::DeleteStudyResponse* response) override;

 private:
  dispatch::Dispatcher& dispatcher_;
  asio::thread_pool& pool_;
};

class WorklistServiceImpl final : public v1::WorklistService::CallbackService {
 public:
  WorklistServiceImpl(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool)
      : dispatcher_(dispatcher), pool_(pool) {}

  grpc::ServerUnaryReactor* ListFlags(grpc::CallbackServerContext* context,
                                      const v1::ListFlagsRequest* request,
                                      v1::ListFlagsResponse* response) override;
  grpc::ServerUnaryReactor* ListFlagChanges(grpc::CallbackServerContext* context,
                                            const v1::ListFlagChangesRequest* request,
                                            v1::ListFlagChangesResponse* response) override;

  grpc::ServerWriteReactor<v1::WatchFlagsResponse>* WatchFlags(grpc::CallbackServerContext* context,
                                                               const v1::WatchFlagsRequest* request) override;
  grpc::ServerUnaryReactor* AcknowledgeFlag(grpc::CallbackServerContext* context,
                                            const v1::AcknowledgeFlagRequest* request,
                                            v1::AcknowledgeFlagResponse* response) override;
  grpc::ServerUnaryReactor* ReviewFinding(grpc::CallbackServerContext* context,
                                          const v1::ReviewFindingRequest* request,
                                          v1::ReviewFindingResponse* response) override;
  grpc::ServerWriteReactor<v1::ExportReviewsResponse>* ExportReviews(
      grpc::CallbackServerContext* context, const v1::ExportReviewsRequest* request) override;
  grpc::ServerUnaryReactor* RetractResult(grpc::CallbackServerContext* context,
                                          const v1::RetractResultRequest* request,
                                          v1::RetractResultResponse* response) override;

 private:
  dispatch::Dispatcher& dispatcher_;
  asio::thread_pool& pool_;
};

class ModelServiceImpl final : public v1::ModelService::CallbackService {
 public:
  ModelServiceImpl(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool)
      : dispatcher_(dispatcher), pool_(pool) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* SetActivation(grpc::CallbackServerContext* context,
                                          const v1::SetActivationRequest* request,
                                          v1::SetActivationResponse* response) override;
  grpc::ServerUnaryReactor* ReloadModels(grpc::CallbackServerContext* context,
                                         const v1::ReloadModelsRequest* request,
                                         v1::ReloadModelsResponse* response) override;

 private:
  dispatch::Dispatcher& dispatcher_;
  asio::thread_pool& pool_;
};

}  // namespace tomoserve::service
