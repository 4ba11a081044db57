#include "tomoserve/metrics/exposer.h"

#include <civetweb.h>

#include <array>
#include <exception>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/loopback.h"
#include "tomoserve/base/status.h"

namespace tomoserve::metrics {
namespace {

constexpr char kText[] = "text/plain; charset=utf-8";
constexpr char kExposition[] = "text/plain; version=0.0.4; charset=utf-8";

struct Answer {
  int code = 200;
  const char* phrase = "OK";
  const char* type = kText;
  std::string body;
  const char* header = "";  // a further header line
};

Answer Probe(const std::function<std::string()>& reason_against) {
  const std::string reason = reason_against();
  if (reason.empty()) return {.body = "ok\n"};
  return {.code = 503, .phrase = "Service Unavailable", .body = reason + "\n"};
}

class ExposerImpl final : public Exposer {
 public:
  explicit ExposerImpl(Pages pages) : pages_(std::move(pages)) { mg_init_library(0); }
  ~ExposerImpl() override {
    if (context_ != nullptr) mg_stop(context_);
    mg_exit_library();
  }
  ExposerImpl(const ExposerImpl&) = delete;
  ExposerImpl& operator=(const ExposerImpl&) = delete;

  absl::Status Start(const base::LoopbackAddress& address) {
    const std::string listen = absl::StrCat(address.host, ":", address.port);
    // Eight threads: a few silent clients do not keep the probes waiting; a bounded queue behind them.
    std::array options{"listening_ports",
                       listen.c_str(),
                       "num_threads",
                       "8",
                       "request_timeout_ms",
                       "2000",
                       "enable_keep_alive",
                       "no",
                       "max_request_size",
                       "8192",
                       static_cast<const char*>(nullptr)};
    mg_callbacks callbacks{};
    callbacks.begin_request = &ExposerImpl::HandleRequest;
    mg_init_data init{.callbacks = &callbacks, .user_data = this, .configuration_options = options.data()};
    unsigned code = 0;
    std::array<char, 256> text{};
    mg_error_data error{.code = &code, .text = text.data(), .text_buffer_size = text.size()};
    context_ = mg_start2(&init, &error);
    mg_server_port port{};
    if (context_ == nullptr || mg_get_server_ports(context_, 1, &port) != 1) {
      return base::Error(
          absl::StatusCode::kUnavailable, "LISTEN_FAILED", absl::StrCat(address.port),
          absl::StrCat("metrics_listen: cannot listen on ", listen, "; is another server running there?"));
    }
    port_ = port.port;
    return absl::OkStatus();
  }

  int port() const override { return port_; }

 private:
  // Takes every request: the library itself serves no files, scripts or uploads.
  static int HandleRequest(mg_connection* connection) {
    const mg_request_info& request = *mg_get_request_info(connection);
    auto& self = *static_cast<ExposerImpl*>(mg_get_user_data(mg_get_context(connection)));
    const std::string_view method = request.request_method;
    Answer answer;
    try {
      answer = self.AnswerFor(method, request.local_uri == nullptr ? "" : request.local_uri);
    } catch (const std::exception&) {
      // Memory, or a lock that the kernel refuses; the C library below must not see it.
      base::Log(base::LogLevel::kError, "page_failed");
      answer = {.code = 500, .phrase = "Internal Server Error", .body = ""};
    }
    mg_printf(connection,
              "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
              "X-Content-Type-Options: nosniff\r\nConnection: close\r\n%s\r\n",
              answer.code, answer.phrase, answer.type, answer.body.size(), answer.header);
    if (method != "HEAD") mg_write(connection, answer.body.data(), answer.body.size());
    return answer.code;
  }

  Answer AnswerFor(std::string_view method, std::string_view path) const {
    const bool known = path == "/metrics" || path == "/healthz" || path == "/readyz";
    if (!known) return {.code = 404, .phrase = "Not Found", .body = "/metrics, /healthz, /readyz\n"};
    if (method != "GET" && method != "HEAD") {
      return {.code = 405, .phrase = "Method Not Allowed", .body = "", .header = "Allow: GET, HEAD\r\n"};
    }
    if (path == "/healthz") return Probe(pages_.not_alive);
    if (path == "/readyz") return Probe(pages_.not_ready);
    return {.type = kExposition, .body = pages_.metrics()};
  }

  const Pages pages_;
  mg_context* context_ = nullptr;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<base::LoopbackAddress> ParseMetricsListen(const std::string& listen) {
  TS_ASSIGN_OR_RETURN(base::LoopbackAddress address, base::ParseLoopback("metrics_listen", listen));
  if (address.host.front() == '[' && mg_check_feature(MG_FEATURES_IPV6) == 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LISTEN_INVALID", listen,
                       "metrics_listen: the HTTP library of this build has no IPv6; use 127.0.0.1:PORT");
  }
  return address;
}

absl::StatusOr<std::unique_ptr<Exposer>> StartExposer(const std::string& listen, Pages pages) {
  TS_ASSIGN_OR_RETURN(const base::LoopbackAddress address, ParseMetricsListen(listen));
  auto exposer = std::make_unique<ExposerImpl>(std::move(pages));
  TS_RETURN_IF_ERROR(exposer->Start(address));
  return exposer;
}

}  // namespace tomoserve::metrics
