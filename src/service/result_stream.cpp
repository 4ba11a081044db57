#include "service/result_stream.h"

#include <zstd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/status.h"
#include "service/strand_reactor.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::service {
namespace {

constexpr std::size_t kChunkBytes = 1 << 20;

absl::StatusOr<std::string> Decompress(const store::ResultBlob& blob) {
  std::string bytes(blob.raw_bytes, '\0');
  const std::size_t size = ZSTD_decompress(bytes.data(), bytes.size(), blob.zstd.data(), blob.zstd.size());
  if (ZSTD_isError(size) != 0 || size != bytes.size() || base::Sha256Hex(bytes) != blob.raw_sha256) {
    return base::Error(absl::StatusCode::kDataLoss, "RESULT_DAMAGED", "", "the stored label map is damaged");
  }
  return bytes;
}

absl::StatusOr<std::string> LoadResult(dispatch::Dispatcher& dispatcher,
                                       const v1::DownloadResultRequest& request, v1::ResultInfo& info) {
  store::JobStore& store = dispatcher.store();
  TS_ASSIGN_OR_RETURN(const store::StoredRun run, store.GetRun(request.run_id()));
  if (run.run.state() != v1::RUN_STATE_DONE) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "RUN_NOT_DONE",
                       v1::RunState_Name(run.run.state()), "only a DONE run has results");
  }
  std::string bytes;
  switch (request.kind()) {
    case v1::RESULT_KIND_LABEL_MAP: {
      TS_ASSIGN_OR_RETURN(const store::ResultBlob blob, store.GetLabelMap(request.run_id()));
      TS_ASSIGN_OR_RETURN(bytes, Decompress(blob));
      *info.mutable_label_map() = blob.label_map;
      break;
    }
    case v1::RESULT_KIND_FINDINGS_JSON: {
      TS_ASSIGN_OR_RETURN(const v1::Study study, dispatcher.GetStudy(run.study_uid));
      bytes = findings::FindingsJson(study, {run.run});
      break;
    }
    case v1::RESULT_KIND_DICOM_SEG:
    case v1::RESULT_KIND_DICOM_SR:
      return base::Error(absl::StatusCode::kUnimplemented, "NOT_IN_THIS_VERSION",
                         v1::ResultKind_Name(request.kind()),
                         "DICOM result objects are not part of this version");
    default:
      return base::Error(absl::StatusCode::kInvalidArgument, "RESULT_KIND", absl::StrCat(request.kind()),
                         "kind: not a result kind");
  }
  info.set_kind(request.kind());
  info.set_size_bytes(bytes.size());
  info.set_sha256(base::Sha256Hex(bytes));
  return bytes;
}

class Download final : public StrandReactor<grpc::ServerWriteReactor<v1::DownloadResultResponse>> {
 public:
  static Download* Start(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool,
                         const v1::DownloadResultRequest& request) {
    auto download = std::shared_ptr<Download>(new Download(pool));
    download->Begin(download);
    download->Post([raw = download.get(), &dispatcher, request] { raw->Load(dispatcher, request); });
    return download.get();
  }

  void OnWriteDone(bool ok) override {
    Post([this, ok] {
      if (ok) Send();
    });
  }

 private:
  explicit Download(asio::thread_pool& pool) : StrandReactor(pool) {}

  void Load(dispatch::Dispatcher& dispatcher, const v1::DownloadResultRequest& request) {
    auto bytes = LoadResult(dispatcher, request, *response_.mutable_info());
    if (!bytes.ok()) return End(ToGrpc(bytes.status()));
    bytes_ = *std::move(bytes);
    if (!ended()) StartWrite(&response_);
  }

  void Send() {
    if (ended()) return;
    if (sent_ == bytes_.size()) return End(grpc::Status::OK);
    const std::size_t count = std::min(kChunkBytes, bytes_.size() - sent_);
    response_.set_data(bytes_.substr(sent_, count));
    sent_ += count;
    StartWrite(&response_);
  }

  v1::DownloadResultResponse response_;
  std::string bytes_;
  std::size_t sent_ = 0;
};

}  // namespace

grpc::ServerWriteReactor<v1::DownloadResultResponse>* StartDownload(
    dispatch::Dispatcher& dispatcher, asio::thread_pool& pool, const v1::DownloadResultRequest& request) {
  return Download::Start(dispatcher, pool, request);
}

}  // namespace tomoserve::service
