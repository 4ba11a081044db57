// The two upload streams, SubmitStudy and AnalyzeStudy: one state machine on a strand of the pool.
#pragma once

#include <asio/thread_pool.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "service/status.h"
#include "service/strand_reactor.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::service {

// Whether a run will not change any more.
inline bool Final(v1::RunState state) {
  return state != v1::RUN_STATE_QUEUED && state != v1::RUN_STATE_RUNNING &&
         state != v1::RUN_STATE_UNSPECIFIED;
}

// One read is outstanding at a time, and the next one starts when the bytes of the last are in the spool:
// that is the back-pressure.
template <typename Request, typename Response, bool kWaitForRuns>
class UploadStream final : public StrandReactor<grpc::ServerBidiReactor<Request, Response>> {
  using Base = StrandReactor<grpc::ServerBidiReactor<Request, Response>>;
  using Base::End;
  using Base::ended;

 public:
  using Base::Post;

  static UploadStream* Start(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool) {
    auto stream = std::shared_ptr<UploadStream>(new UploadStream(dispatcher, pool));
    stream->Begin(stream);
    stream->StartRead(&stream->request_);
    return stream.get();
  }

  void OnReadDone(bool ok) override {
    Post([this, ok] { ok ? HandlePart() : HandleReadEnd(); });
  }
  void OnWriteDone(bool ok) override {
    Post([this, ok] {
      writing_ = false;
      if (!ok) outbox_.clear();  // the client is gone: OnCancel follows
      Pump();
    });
  }

 private:
  UploadStream(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool)
      : Base(pool), dispatcher_(dispatcher) {}

  void Release() override {
    subscription_.reset();
    upload_.reset();
  }

  void HandlePart() {
    if (ended()) return;
    absl::Status status = absl::OkStatus();
    switch (request_.part_case()) {
      case Request::kHeader:
        status = HandleHeader();
        break;
      case Request::kInstance:
        ++instances_;
        status =
            upload_ ? upload_->BeginInstance(request_.instance()) : OutOfOrder("instance before the header");
        break;
      case Request::kChunk:
        status = upload_ ? upload_->Append(request_.chunk().data()) : OutOfOrder("chunk before the header");
        break;
      case Request::kEnd:
        HandleEnd();
        return;
      case Request::PART_NOT_SET:
        status = OutOfOrder("a message without a part");
        break;
    }
    if (!status.ok()) return Fail(status);
    SendStatuses();
    if (!receipt_sent_) this->StartRead(&request_);
    Pump();
  }

  absl::Status HandleHeader() {
    if (upload_) return OutOfOrder("a second header");
    auto upload = dispatcher_.BeginUpload(request_.header());
    if (!upload.ok()) return upload.status();
    upload_ = std::move(*upload);
    Response response;
    *response.mutable_upload() = upload_->state();
    outbox_.push_back(std::move(response));
    // The same key was acknowledged before: the answer is there, nothing needs to be sent.
    if (const auto receipt = upload_->receipt()) HandleReceipt(*receipt);
    return absl::OkStatus();
  }

  void HandleEnd() {
    if (!upload_) return Fail(OutOfOrder("the end before the header"));
    if (request_.end().instances() != instances_) {
      return Fail(base::Error(absl::StatusCode::kAborted, "SUBMISSION_CUT", absl::StrCat(instances_),
                              absl::StrCat("the end names ", request_.end().instances(), " instances, ",
                                           instances_, " were announced")));
    }
    auto receipt = upload_->Finish();
    SendStatuses();
    if (!receipt.ok()) return Fail(receipt.status());
    HandleReceipt(*receipt);
    Pump();
  }

  void HandleReadEnd() {
    if (ended() || receipt_sent_) return;
    Fail(base::Error(absl::StatusCode::kAborted, "SUBMISSION_CUT", absl::StrCat(instances_),
                     "the stream closed before its end message; nothing was acknowledged"));
  }

  void HandleReceipt(const v1::SubmissionReceipt& receipt) {
    Response response;
    *response.mutable_receipt() = receipt;
    outbox_.push_back(std::move(response));
    receipt_sent_ = true;
    upload_.reset();
    if constexpr (kWaitForRuns) {
      study_uid_ = receipt.study_instance_uid();
      wanted_.insert(receipt.run_ids().begin(), receipt.run_ids().end());
      const std::weak_ptr<Base> weak = this->weak_from_this();
      subscription_ = dispatcher_.Subscribe([weak](const std::string& study, const std::string&) {
        const auto self = std::static_pointer_cast<UploadStream>(weak.lock());
        if (self && self->study_uid_ == study) self->Post([raw = self.get()] { raw->SendRuns(); });
      });
      SendRuns();
    } else {
      finish_ = grpc::Status::OK;
    }
  }

  void SendStatuses() {
    if (!upload_) return;
    for (v1::InstanceStatus& status : upload_->TakeStatuses()) {
      Response response;
      *response.mutable_instance() = std::move(status);
      outbox_.push_back(std::move(response));
    }
  }

  // Runs that changed since they were last sent; the study when all are final. Skips a turn while the client
  // has not taken the last ones.
  void SendRuns() {
    if constexpr (kWaitForRuns) {
      if (ended() || finish_) return;
      if (writing_ || !outbox_.empty()) {
        stale_ = true;
        return Pump();
      }
      stale_ = false;
      auto study = dispatcher_.GetStudy(study_uid_);
      if (!study.ok()) return Fail(study.status());
      bool all_final = true;
      for (const std::string& run_id : wanted_) {
        const absl::StatusOr<v1::Run> run = FindRun(*study, run_id);
        if (!run.ok()) return Fail(run.status());
        all_final = all_final && Final(run->state());
        std::string bytes = run->SerializeAsString();
        if (sent_[run_id] == bytes) continue;
        sent_[run_id] = std::move(bytes);
        Response response;
        *response.mutable_run() = *run;
        outbox_.push_back(std::move(response));
      }
      if (all_final) {
        Response response;
        *response.mutable_study() = *std::move(study);
        outbox_.push_back(std::move(response));
        finish_ = grpc::Status::OK;
      }
      Pump();
    }
  }

  // The study holds the newest generation of each run; one that was superseded meanwhile is still owed.
  absl::StatusOr<v1::Run> FindRun(const v1::Study& study, const std::string& run_id) {
    for (const v1::Run& run : study.runs()) {
      if (run.run_id() == run_id) return run;
    }
    TS_ASSIGN_OR_RETURN(store::StoredRun stored, dispatcher_.store().GetRun(run_id));
    return std::move(stored.run);
  }

  // One write at a time; when the outbox is empty and the outcome is known, the call ends.
  void Pump() {
    if (ended() || writing_) return;
    if (!outbox_.empty()) {
      current_ = std::move(outbox_.front());
      outbox_.pop_front();
      writing_ = true;
      this->StartWrite(&current_);
      return;
    }
    if (finish_) return End(*finish_);
    if (stale_) SendRuns();
  }

  void Fail(const absl::Status& status) {
    if (!finish_) finish_ = ToGrpc(status);
    Pump();
  }

  static absl::Status OutOfOrder(const char* what) {
    return base::Error(absl::StatusCode::kInvalidArgument, "STREAM_ORDER", "", what);
  }

  dispatch::Dispatcher& dispatcher_;

  Request request_;
  Response current_;
  std::deque<Response> outbox_;
  bool writing_ = false;
  bool receipt_sent_ = false;
  bool stale_ = false;
  std::optional<grpc::Status> finish_;
  std::uint32_t instances_ = 0;
  std::unique_ptr<dispatch::Upload> upload_;
  // AnalyzeStudy only:
  std::string study_uid_;
  std::set<std::string> wanted_;
  std::map<std::string, std::string> sent_;
  dispatch::Dispatcher::Subscription subscription_;
};

}  // namespace tomoserve::service
