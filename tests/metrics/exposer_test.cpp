// The HTTP face over raw sockets: what a probe, a scraper and a stranger get.
#include <arpa/inet.h>
#include <civetweb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/metrics/exposer.h"

namespace tomoserve::metrics {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

base::UniqueFd Connect(int port) {
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

// Everything that the server sends until it closes.
std::string ReadAll(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t bytes = 0; (bytes = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(bytes));
  }
  return all;
}

std::string Ask(int port, const std::string& request) {
  const base::UniqueFd fd = Connect(port);
  if (fd.get() < 0) return "not connected";
  // The server may close before it has read everything.
  [[maybe_unused]] const ssize_t sent = ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  return ReadAll(fd.get());
}

std::string Get(int port, const std::string& path) {
  return Ask(port, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

class ExposerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto exposer = StartExposer("127.0.0.1:0", {.metrics =
                                                    [this] {
                                                      if (broken) throw std::runtime_error("broken");
                                                      ++scrapes;
                                                      return page;
                                                    },
                                                .not_alive = [this] { return Reason(not_alive); },
                                                .not_ready = [this] { return Reason(not_ready); }});
    ASSERT_TRUE(exposer.ok()) << exposer.status();
    exposer_ = *std::move(exposer);
    port_ = exposer_->port();
    ASSERT_GT(port_, 0);
  }

  std::string Reason(const std::string& reason) {
    const std::lock_guard lock(mutex);
    return reason;
  }

  std::mutex mutex;
  std::string not_alive;
  std::string not_ready;
  std::string page = "tomoserve_ready 1\n";
  std::atomic<int> scrapes = 0;
  std::atomic<bool> broken = false;
  std::unique_ptr<Exposer> exposer_;
  int port_ = 0;
};

TEST_F(ExposerTest, ServesTheExpositionAsPrometheusText) {
  const std::string answer = Get(port_, "/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 18\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\ntomoserve_ready 1\n"));
}

TEST_F(ExposerTest, ProbesSay503WithTheReasonCode) {
  EXPECT_THAT(Get(port_, "/healthz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(Get(port_, "/readyz"), EndsWith("\r\n\r\nok\n"));
  {
    const std::lock_guard lock(mutex);
    not_alive = "COORDINATOR_STALLED";
    not_ready = "STARTING";
  }
  const std::string health = Get(port_, "/healthz");
  EXPECT_THAT(health, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(health, EndsWith("\r\n\r\nCOORDINATOR_STALLED\n"));
  EXPECT_THAT(Get(port_, "/readyz"), EndsWith("\r\n\r\nSTARTING\n"));
}

TEST_F(ExposerTest, AHeadRequestGetsNoBody) {
  const std::string answer = Ask(port_, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(ExposerTest, NothingElseIsServed) {
  for (const char* path : {"/", "/metrics/", "/etc/passwd", "/../../etc/passwd", "/%2e%2e/etc/passwd",
                           "/index.html", "//metrics.cgi"}) {
    EXPECT_THAT(Get(port_, path), ::testing::AnyOf(StartsWith("HTTP/1.1 404"), StartsWith("HTTP/1.1 400")))
        << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "MKCOL", "PROPFIND"}) {
    const std::string answer = Ask(
        port_, std::string(method) + " /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n")) << method;
    EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD\r\n"));
  }
  EXPECT_EQ(scrapes, 0);
}

TEST_F(ExposerTest, GarbageDoesNotHarm) {
  std::mt19937 random(4);
  for (int i = 0; i < 100; ++i) {
    std::string garbage(1 + random() % 3000, '\0');
    for (char& c : garbage) c = static_cast<char>(random());
    if (i % 4 == 0) garbage = "GET /metrics HTTP/1.1\r\n" + garbage + "\r\n\r\n";
    if (i % 4 == 1) garbage += "\r\n\r\n";
    const base::UniqueFd fd = Connect(port_);
    ASSERT_GE(fd.get(), 0) << i;
    [[maybe_unused]] const ssize_t sent = ::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    ::shutdown(fd.get(), SHUT_WR);
    ReadAll(fd.get());
  }
  const std::string endless = "GET /metrics HTTP/1.1\r\nX: " + std::string(1 << 20, 'a');
  EXPECT_THAT(Ask(port_, endless), Not(HasSubstr("200 OK")));
  EXPECT_THAT(Get(port_, "/metrics"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ExposerTest, SilentClientsAreDroppedAndTheProbeGetsThrough) {
  std::vector<base::UniqueFd> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(Connect(port_));
    ASSERT_GE(silent.back().get(), 0);
  }
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THAT(Get(port_, "/healthz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(9));
  // The first of them has been hung up on by now, or will be in two seconds; ReadAll would wait ten.
  ReadAll(silent.front().get());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(9));
}

TEST_F(ExposerTest, ManyScrapesAtATimeAreAllAnswered) {
  page = std::string(200000, 'x');
  std::atomic<int> whole = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 10; ++turn) whole += Get(port_, "/metrics").ends_with(page) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(whole, 160);
  EXPECT_EQ(scrapes, 160);
}

TEST_F(ExposerTest, AFailingPageIsAnErrorAndTheServerLivesOn) {
  broken = true;
  EXPECT_THAT(Get(port_, "/metrics"), StartsWith("HTTP/1.1 500 "));
  broken = false;
  EXPECT_THAT(Get(port_, "/metrics"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ExposerTest, ATakenPortIsAnError) {
  const auto second = StartExposer("127.0.0.1:" + std::to_string(port_), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(second.status()), "LISTEN_FAILED");
  EXPECT_EQ(base::ValueOf(second.status()), std::to_string(port_));
  EXPECT_THAT(Get(port_, "/readyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ExposerTest, ThePortIsFreeAgainAfterItsEnd) {
  exposer_.reset();
  EXPECT_EQ(Get(port_, "/readyz"), "not connected");
  const auto again = StartExposer("127.0.0.1:" + std::to_string(port_), {});
  EXPECT_TRUE(again.ok()) << again.status();
}

TEST(ExposerAddress, OnlyLoopbackIsServed) {
  for (const char* listen :
       {"0.0.0.0:0", "192.168.1.4:0", "[::]:0", "example.org:80", "127.0.0.1,0.0.0.0:80"}) {
    const auto exposer = StartExposer(listen, {});
    EXPECT_EQ(exposer.status().code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_EQ(base::ReasonOf(exposer.status()), "NOT_LOOPBACK") << listen;
  }
  for (const char* listen : {"127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000", "127.0.0.1:-1", ""}) {
    EXPECT_EQ(base::ReasonOf(StartExposer(listen, {}).status()), "LISTEN_INVALID") << listen;
  }
  EXPECT_TRUE(StartExposer("localhost:0", {}).ok());
}

// Debian's civetweb has no IPv6: a server that would only find out when it listens has started workers by
// then.
TEST(ExposerAddress, Ipv6LoopbackIsServedOrRefusedBeforeItListens) {
  const auto parsed = ParseMetricsListen("[::1]:0");
  if (mg_check_feature(MG_FEATURES_IPV6) != 0) {
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const auto exposer = StartExposer("[::1]:0", {});
    ASSERT_TRUE(exposer.ok()) << exposer.status();
    EXPECT_GT((*exposer)->port(), 0);
    return;
  }
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(parsed.status()), "LISTEN_INVALID");
  EXPECT_EQ(base::ValueOf(parsed.status()), "[::1]:0");
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("metrics_listen"));
  EXPECT_EQ(StartExposer("[::1]:0", {}).status(), parsed.status());
}

}  // namespace
}  // namespace tomoserve::metrics
