#include "service/watch.h"

#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <memory>
#include <utility>

#include "service/status.h"

namespace tomoserve::service {
namespace {

// As UploadStream: callbacks post to a strand, changes that come while a write is out are folded into one.
class Watch final : public grpc::ServerWriteReactor<v1::WatchStudyResponse> {
 public:
  static Watch* Start(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool, std::string study_uid) {
    auto watch = std::shared_ptr<Watch>(new Watch(dispatcher, pool, std::move(study_uid)));
    watch->self_ = watch;
    std::weak_ptr<Watch> weak = watch;
    watch->subscription_ = dispatcher.Subscribe([weak](const std::string& study, const std::string&) {
      if (const auto self = weak.lock(); self && self->study_uid_ == study) {
        asio::post(self->strand_, [self] { self->Send(); });
      }
    });
    watch->Post([raw = watch.get()] { raw->Send(); });
    return watch.get();
  }

  void OnWriteDone(bool ok) override {
    Post([this, ok] {
      writing_ = false;
      if (!ok) return;  // the client is gone: OnCancel follows
      if (last_) return End(grpc::Status::OK);
      if (stale_) Send();
    });
  }
  void OnCancel() override {
    Post([this] { End(grpc::Status(grpc::StatusCode::CANCELLED, "the client went away")); });
  }
  void OnDone() override {
    Post([this] { self_.reset(); });
  }

 private:
  Watch(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool, std::string study_uid)
      : dispatcher_(dispatcher), strand_(asio::make_strand(pool)), study_uid_(std::move(study_uid)) {}

  template <typename Task>
  void Post(Task task) {
    asio::post(strand_, [self = self_, task = std::move(task)]() mutable { task(); });
  }

  void Send() {
    if (ended_ || last_) return;
    stale_ = writing_;
    if (writing_) return;
    auto study = dispatcher_.GetStudy(study_uid_);
    if (!study.ok()) return End(ToGrpc(study.status()));
    std::string bytes = study->SerializeAsString();
    last_ = study->summary().state() == v1::SUMMARY_STATE_FINAL;
    if (bytes == sent_ && !last_) return;
    sent_ = std::move(bytes);
    *response_.mutable_study() = *std::move(study);
    writing_ = true;
    StartWrite(&response_);
  }

  void End(const grpc::Status& status) {
    if (std::exchange(ended_, true)) return;
    subscription_.reset();
    Finish(status);
  }

  dispatch::Dispatcher& dispatcher_;
  asio::strand<asio::thread_pool::executor_type> strand_;
  const std::string study_uid_;
  std::shared_ptr<Watch> self_;
  dispatch::Dispatcher::Subscription subscription_;
  v1::WatchStudyResponse response_;
  std::string sent_;
  bool writing_ = false;
  bool stale_ = false;
  bool last_ = false;
  bool ended_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchStudyResponse>* StartWatch(dispatch::Dispatcher& dispatcher,
                                                             asio::thread_pool& pool, std::string study_uid) {
  return Watch::Start(dispatcher, pool, std::move(study_uid));
}

}  // namespace tomoserve::service
