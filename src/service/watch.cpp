#include "service/watch.h"

#include <memory>
#include <utility>

#include "service/status.h"
#include "service/strand_reactor.h"

namespace tomoserve::service {
namespace {

// Changes that come while a write is out are folded into one.
class Watch final : public StrandReactor<grpc::ServerWriteReactor<v1::WatchStudyResponse>> {
 public:
  static Watch* Start(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool, std::string study_uid) {
    auto watch = std::shared_ptr<Watch>(new Watch(dispatcher, pool, std::move(study_uid)));
    watch->Begin(watch);
    std::weak_ptr<Watch> weak = watch;
    watch->subscription_ = dispatcher.Subscribe([weak](const std::string& study, const std::string&) {
      if (const auto self = weak.lock(); self && self->study_uid_ == study) {
        self->Post([raw = self.get()] { raw->Send(); });
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

 private:
  Watch(dispatch::Dispatcher& dispatcher, asio::thread_pool& pool, std::string study_uid)
      : StrandReactor(pool), dispatcher_(dispatcher), study_uid_(std::move(study_uid)) {}

  void Release() override { subscription_.reset(); }

  void Send() {
    if (ended() || last_) return;
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

  dispatch::Dispatcher& dispatcher_;
  const std::string study_uid_;
  dispatch::Dispatcher::Subscription subscription_;
  v1::WatchStudyResponse response_;
  std::string sent_;
  bool writing_ = false;
  bool stale_ = false;
  bool last_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchStudyResponse>* StartWatch(dispatch::Dispatcher& dispatcher,
                                                             asio::thread_pool& pool, std::string study_uid) {
  return Watch::Start(dispatcher, pool, std::move(study_uid));
}

}  // namespace tomoserve::service
