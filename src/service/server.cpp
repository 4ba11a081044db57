#include "tomoserve/service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <asio/thread_pool.hpp>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/services.h"
#include "tomoserve/base/loopback.h"
#include "tomoserve/base/status.h"

namespace tomoserve::service {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr int kMaxMetadataBytes = 8 << 10;

class ServerImpl final : public Server {
 public:
  ServerImpl(const ServerOptions& options, dispatch::Dispatcher& dispatcher)
      : dispatcher_(dispatcher),
        pool_(options.pool_threads),
        study_(dispatcher, pool_),
        worklist_(dispatcher, pool_),
        model_(dispatcher, pool_) {}

  ~ServerImpl() override {
    Shutdown(std::chrono::milliseconds(0));
    pool_.join();
  }

  absl::Status Start(const base::LoopbackAddress& address) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    // Limits: SAFETY of the design notes; an idle or silent client costs little and ends.
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 5 * 60 * 1000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60 * 1000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20 * 1000);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    grpc::ResourceQuota quota("server");
    quota.Resize(128u << 20);
    builder.SetResourceQuota(quota);
    builder.AddListeningPort(absl::StrCat(address.host, ":", address.port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&study_);
    builder.RegisterService(&worklist_);
    builder.RegisterService(&model_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return base::Error(absl::StatusCode::kUnavailable, "LISTEN_FAILED", absl::StrCat(address.port),
                         absl::StrCat("cannot listen on ", address.host, ":", address.port,
                                      "; is another server running there?"));
    }
    UpdateHealth();
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  std::string UpdateHealth() override {
    const std::lock_guard lock(mutex_);
    if (draining_) return "DRAINING";
    std::string reason = dispatcher_.NotReady();
    SetHealth(reason.empty());
    return reason;
  }

  void StopServing() override {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(draining_, true)) SetHealth(false);
  }

  void Shutdown(std::chrono::milliseconds deadline) override {
    StopServing();
    if (server_ == nullptr || std::exchange(shut_down_, true)) return;
    server_->Shutdown(std::chrono::system_clock::now() + deadline);
    server_->Wait();
  }

 private:
  void SetHealth(bool serving) {
    if (server_ == nullptr) return;
    auto* health = server_->GetHealthCheckService();
    health->SetServingStatus(serving);
    for (const char* name :
         {"tomoserve.v1.StudyService", "tomoserve.v1.WorklistService", "tomoserve.v1.ModelService"}) {
      health->SetServingStatus(name, serving);
    }
  }

  dispatch::Dispatcher& dispatcher_;
  asio::thread_pool pool_;
  StudyServiceImpl study_;
  WorklistServiceImpl worklist_;
  ModelServiceImpl model_;
  std::mutex mutex_;
  bool draining_ = false;
  bool shut_down_ = false;  // confined to the owner
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> StartServer(const ServerOptions& options,
                                                    dispatch::Dispatcher& dispatcher) {
  TS_ASSIGN_OR_RETURN(const base::LoopbackAddress address, base::ParseLoopback("listen", options.listen));
  auto server = std::make_unique<ServerImpl>(options, dispatcher);
  TS_RETURN_IF_ERROR(server->Start(address));
  return server;
}

}  // namespace tomoserve::service
