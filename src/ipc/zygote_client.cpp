#include "ipc/zygote_client.h"

#include <algorithm>
#include <csignal>

#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

constexpr std::chrono::milliseconds kOrderlyEnd{2000};
constexpr std::chrono::milliseconds kKilledEnd{5000};
constexpr std::chrono::milliseconds kControlSend{5000};
constexpr std::chrono::milliseconds kShortestPause{100};
constexpr std::chrono::milliseconds kLongestPause{5000};
// A zygote that lived for so long is healthy.
constexpr std::chrono::seconds kHealthyLife{10};

}  // namespace

absl::StatusOr<std::shared_ptr<ZygoteProcess>> ZygoteProcess::Start(const std::string& program) {
  TS_ASSIGN_OR_RETURN(Child child, Child::Spawn({program}));
  TS_RETURN_IF_ERROR(child.socket().SetSendTimeout(kControlSend));
  std::shared_ptr<ZygoteProcess> zygote(new ZygoteProcess(std::move(child)));
  zygote->reader_ = std::jthread([self = zygote.get()] { self->ReadEnds(); });
  return zygote;
}

ZygoteProcess::~ZygoteProcess() {
  child_.socket().Shutdown();
  if (reader_.joinable()) reader_.join();
}

bool ZygoteProcess::dead() const {
  const std::lock_guard lock(mutex_);
  return dead_;
}

void ZygoteProcess::ReadEnds() {
  while (true) {
    v1::LeaseEnded ended;
    const absl::Status received = child_.socket().ReceiveMessage(ended, nullptr);
    if (!received.ok()) {
      if (base::ReasonOf(received) != "PEER_GONE") child_.Kill(SIGKILL);
      break;
    }
    const std::lock_guard lock(mutex_);
    if (const auto lease = leases_.find(ended.lease_id()); lease != leases_.end()) {
      lease->second = LeaseEnd{
          .not_started = ended.not_started(), .exit_code = ended.exit_code(), .signal = ended.signal()};
      changed_.notify_all();
    }
  }
  // It is gone, or its socket is and it will not be heard again.
  if (!child_.Wait(kOrderlyEnd).ok()) {
    child_.Kill(SIGKILL);
    (void)child_.Wait(kKilledEnd);
  }
  const std::lock_guard lock(mutex_);
  dead_ = true;
  changed_.notify_all();
}

absl::Status ZygoteProcess::StartLease(const v1::LeaseRequest& request, int socket) {
  {
    const std::lock_guard lock(mutex_);
    leases_.emplace(request.lease_id(), std::nullopt);
  }
  v1::ZygoteRequest message;
  *message.mutable_lease() = request;
  const std::lock_guard lock(sending_);
  absl::Status sent = child_.socket().Send(message, std::span(&socket, 1));
  if (!sent.ok()) {
    const std::lock_guard forget(mutex_);
    leases_.erase(request.lease_id());
  }
  return sent;
}

void ZygoteProcess::EndLease(std::uint64_t lease_id) {
  v1::ZygoteRequest message;
  message.mutable_end()->set_lease_id(lease_id);
  const std::lock_guard lock(sending_);
  // A zygote that cannot be told is dead or will be killed: the caller waits for the lease's end.
  (void)child_.socket().Send(message);
}

std::optional<LeaseEnd> ZygoteProcess::AwaitLease(std::uint64_t lease_id, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const auto lease = leases_.find(lease_id);
  if (lease == leases_.end()) return LeaseEnd{.zygote_died = true};
  changed_.wait_for(lock, timeout, [&] { return dead_ || lease->second.has_value(); });
  std::optional<LeaseEnd> end = lease->second;
  if (!end && dead_) end = LeaseEnd{.zygote_died = true};
  if (end) leases_.erase(lease);
  return end;
}

void ZygoteProcess::Kill() { child_.Kill(SIGKILL); }

void ZygoteProcess::KillAndAwait() {
  Kill();
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, 2 * kKilledEnd, [&] { return dead_; });
}

absl::StatusOr<std::unique_ptr<ZygoteClient>> ZygoteClient::Start(std::string program) {
  std::unique_ptr<ZygoteClient> client(new ZygoteClient(std::move(program)));
  TS_RETURN_IF_ERROR(client->Running().status());
  return client;
}

absl::StatusOr<std::shared_ptr<ZygoteProcess>> ZygoteClient::Running() {
  std::unique_lock lock(mutex_);
  while (zygote_ == nullptr || zygote_->dead()) {
    const Clock::time_point now = Clock::now();
    if (now < started_at_ + pause_) {
      waiting_.wait_until(lock, started_at_ + pause_);
      continue;
    }
    if (zygote_ != nullptr) base::Log(base::LogLevel::kWarning, "helper_zygote_restarted");
    zygote_.reset();
    pause_ = now - started_at_ > kHealthyLife ? kShortestPause
                                              : std::min<Clock::duration>(2 * pause_, kLongestPause);
    started_at_ = now;
    auto started = ZygoteProcess::Start(program_);
    if (!started.ok()) {
      return base::Error(absl::StatusCode::kUnavailable, "HELPER_UNAVAILABLE",
                         base::ValueOf(started.status()), "the helper program could not be started");
    }
    zygote_ = *std::move(started);
    pid_ = zygote_->pid();
  }
  return zygote_;
}

absl::StatusOr<Lease> ZygoteClient::Open(v1::LeaseRequest request) {
  TS_ASSIGN_OR_RETURN(std::shared_ptr<ZygoteProcess> zygote, Running());
  TS_ASSIGN_OR_RETURN(auto ends, RecordSocket::Pair());
  Lease lease{next_lease_id_++, std::move(ends.first), std::move(zygote)};
  request.set_lease_id(lease.id);
  if (const absl::Status sent = lease.zygote->StartLease(request, ends.second.fd()); !sent.ok()) {
    // Whoever does not take requests is dead or as good as dead.
    lease.zygote->KillAndAwait();
    return base::Error(absl::StatusCode::kUnavailable, "HELPER_UNAVAILABLE", base::ReasonOf(sent),
                       "the helper program is gone");
  }
  ++leases_started_;
  return lease;
}

LeaseEnd ZygoteClient::Finish(Lease lease, bool kill) {
  lease.socket.Close();
  if (!kill) {
    if (const auto end = lease.zygote->AwaitLease(lease.id, kOrderlyEnd)) return *end;
  }
  lease.zygote->EndLease(lease.id);
  auto end = lease.zygote->AwaitLease(lease.id, kKilledEnd);
  if (!end) {
    lease.zygote->Kill();
    end = lease.zygote->AwaitLease(lease.id, 2 * kKilledEnd);
  }
  if (!end) end = LeaseEnd{.zygote_died = true};
  end->killed_by_us = true;
  return *end;
}

}  // namespace tomoserve::ipc
