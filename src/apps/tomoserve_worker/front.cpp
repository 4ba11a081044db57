#include "apps/tomoserve_worker/front.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::worker {
namespace {

constexpr std::size_t kMaxText = 512;
// A front that has not read for so long is as good as gone.
constexpr std::chrono::seconds kSendTimeout{30};

// Texts may come from a library or a model; a string field that is not UTF-8 would spoil the whole record.
std::string Printable(std::string_view text) {
  std::string printable(text.substr(0, kMaxText));
  std::replace_if(
      printable.begin(), printable.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return printable;
}

}  // namespace

Front::Front(ipc::RecordSocket socket) : socket_(std::move(socket)) {
  if (!socket_.SetSendTimeout(kSendTimeout).ok()) base::Log(base::LogLevel::kWarning, "no_send_timeout");
}

absl::Status Front::Send(const ipc::v1::WorkerReply& reply) {
  const std::lock_guard lock(sending_);
  absl::Status sent = socket_.SendLarge(reply);
  if (!sent.ok() && base::ReasonOf(sent) != "RECORD_TOO_LARGE") {
    base::Log(base::LogLevel::kWarning, "front_unreachable", {{"reason", base::ReasonOf(sent)}});
    socket_.Shutdown();
  }
  return sent;
}

void Front::SendRunFailed(std::string_view run_id, const absl::Status& status) {
  ipc::v1::WorkerReply reply;
  reply.mutable_failed()->set_run_id(std::string(run_id));
  *reply.mutable_failed()->mutable_reason() = RefusalOf(status);
  base::Log(base::LogLevel::kInfo, "run_failed",
            {{"run_id", run_id}, {"reason", reply.failed().reason().code()}});
  Send(reply).IgnoreError();  // logged; the receiving loop ends
}

absl::Status Front::Receive(ipc::v1::WorkerRequest& request, std::vector<base::UniqueFd>& fds) {
  return socket_.ReceiveLarge(request, &fds);
}

void Front::Shutdown() { socket_.Shutdown(); }

ipc::v1::Refusal RefusalOf(const absl::Status& status) {
  ipc::v1::Refusal refusal;
  refusal.set_code(Printable(base::ReasonOf(status)));
  refusal.set_value(Printable(base::ValueOf(status)));
  refusal.set_text(Printable(base::ToStd(status.message())));
  return refusal;
}

}  // namespace tomoserve::worker
