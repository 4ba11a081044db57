#include "service/result_stream.h"
#include "service/services.h"
#include "service/unary.h"

namespace tomoserve::service {
namespace {

constexpr std::uint32_t kDefaultChanges = 100;

}  // namespace

grpc::ServerUnaryReactor* WorklistServiceImpl::ListFlags(grpc::CallbackServerContext* context,
                                                         const v1::ListFlagsRequest* request,
                                                         v1::ListFlagsResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    auto page = dispatcher_.store().ListFlags(*request);
    if (!page.ok()) return page.status();
    response->mutable_flags()->Assign(page->flags.begin(), page->flags.end());
    response->set_next_page_token(page->next_page_token);
    response->set_cursor(page->cursor);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorklistServiceImpl::ListFlagChanges(grpc::CallbackServerContext* context,
                                                               const v1::ListFlagChangesRequest* request,
                                                               v1::ListFlagChangesResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    const std::uint32_t limit = request->limit() == 0 ? kDefaultChanges : request->limit();
    auto page = dispatcher_.store().ListChanges(request->cursor(), limit);
    if (!page.ok()) return page.status();
    response->mutable_changes()->Assign(page->changes.begin(), page->changes.end());
    response->set_cursor(page->cursor);
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::WatchFlagsResponse>* WorklistServiceImpl::WatchFlags(
    grpc::CallbackServerContext*, const v1::WatchFlagsRequest*) {
  return EndedStream<v1::WatchFlagsResponse>(NotYet("WatchFlags"));
}

grpc::ServerUnaryReactor* WorklistServiceImpl::AcknowledgeFlag(grpc::CallbackServerContext* context,
                                                               const v1::AcknowledgeFlagRequest*,
                                                               v1::AcknowledgeFlagResponse*) {
  return NotYetUnary(context, "AcknowledgeFlag");
}

grpc::ServerUnaryReactor* WorklistServiceImpl::ReviewFinding(grpc::CallbackServerContext* context,
                                                             const v1::ReviewFindingRequest*,
                                                             v1::ReviewFindingResponse*) {
  return NotYetUnary(context, "ReviewFinding");
}

grpc::ServerWriteReactor<v1::ExportReviewsResponse>* WorklistServiceImpl::ExportReviews(
    grpc::CallbackServerContext*, const v1::ExportReviewsRequest*) {
  return EndedStream<v1::ExportReviewsResponse>(NotYet("ExportReviews"));
}

grpc::ServerUnaryReactor* WorklistServiceImpl::RetractResult(grpc::CallbackServerContext* context,
                                                             const v1::RetractResultRequest*,
                                                             v1::RetractResultResponse*) {
  return NotYetUnary(context, "RetractResult");
}

}  // namespace tomoserve::service
