#include "ipc/lease_dispatch.h"

#include <algorithm>
#include <csignal>
#include <deque>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "ipc/reply_checks.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/refused_identity.h"

namespace tomoserve::ipc {
namespace {

using Clock = std::chrono::steady_clock;

// Items that a child has at a time: enough that it never waits, few enough that lease_time has a meaning.
constexpr std::size_t kItemsInHand = 8;
constexpr std::size_t kItemsInHandLow = 4;
// A death that is nobody's fault is forgiven so often per item.
constexpr int kTries = 3;
// A call gives up after so many leases in a row, per lease at a time, that brought nothing because there
// was no helper.
constexpr std::uint32_t kBarrenLeases = 3;

absl::Status Crashed(const LeaseEnd& end) {
  const std::string how =
      end.signal != 0 ? std::to_string(end.signal) : "exit " + std::to_string(end.exit_code);
  return base::Error(absl::StatusCode::kInternal, "HELPER_CRASHED", how,
                     "the helper process died of this item (signal or exit code)");
}

absl::Status TimedOut(std::chrono::milliseconds limit) {
  return base::Error(absl::StatusCode::kDeadlineExceeded, "HELPER_TIMEOUT", std::to_string(limit.count()),
                     "the helper process took longer over this item (milliseconds)");
}

absl::Status Lied() {
  return base::Error(absl::StatusCode::kInternal, "HELPER_LIED", "",
                     "the helper's reply cannot be the answer to what was asked");
}

absl::Status Unavailable() {
  return base::Error(absl::StatusCode::kUnavailable, "HELPER_UNAVAILABLE", "",
                     "no helper process could be had");
}

}  // namespace

void Permits::Take() {
  std::unique_lock lock(mutex_);
  const std::uint64_t ticket = next_ticket_++;
  changed_.wait(lock, [&] { return ticket == serving_ && free_ > 0; });
  ++serving_;
  --free_;
  changed_.notify_all();
}

void Permits::Give() {
  const std::lock_guard lock(mutex_);
  ++free_;
  changed_.notify_all();
}

// The items of one call that wait for a lease. Thread-safe.
class LeaseDispatch::Call {
 public:
  Call(LeaseWork& work, const std::function<bool()>& cancelled, std::uint32_t leases)
      : work_(work), cancelled_(cancelled), barren_limit_(kBarrenLeases * leases), deaths_(work.size(), 0) {
    for (std::size_t item = 0; item < work.size(); ++item) {
      if (absl::Status status = work.Check(item); status.ok()) {
        fresh_.push_back(item);
      } else {
        work.Fail(item, std::move(status));
      }
    }
  }

  struct First {
    std::size_t item;
    bool alone;  // a suspect: its lease serves nothing else
  };
  std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return fresh_.size() + suspects_.size();
  }
  // The first item of a new lease; nothing if all are done or in hand.
  std::optional<First> Begin() {
    const std::lock_guard lock(mutex_);
    if (cancelled_ && (fresh_.size() + suspects_.size()) > 0 && cancelled_()) {
      FailAll(base::Error(absl::StatusCode::kCancelled, "CANCELLED", "", "the caller wants no more results"));
    }
    if (work_.full()) FailAll(NotRead());
    const bool alone = fresh_.empty();
    std::deque<std::size_t>& queue = alone ? suspects_ : fresh_;
    if (queue.empty()) return std::nullopt;
    const First first{queue.front(), alone};
    queue.pop_front();
    return first;
  }
  std::optional<std::size_t> Next() {
    const std::lock_guard lock(mutex_);
    if (fresh_.empty() || work_.full()) return std::nullopt;
    const std::size_t item = fresh_.front();
    fresh_.pop_front();
    return item;
  }
  // Some helper answered.
  void Fruitful() {
    const std::lock_guard lock(mutex_);
    barren_ = 0;
  }
  // A lease came to nothing because of the helper program itself.
  void Barren() {
    const std::lock_guard lock(mutex_);
    if (++barren_ >= barren_limit_) FailAll(Unavailable());
  }
  // Not to blame: waits again, where it waited before.
  void GiveBack(std::size_t item, bool alone) {
    const std::lock_guard lock(mutex_);
    (alone ? suspects_ : fresh_).push_front(item);
  }
  void Suspect(std::size_t item) {
    const std::lock_guard lock(mutex_);
    suspects_.push_back(item);
  }
  // Its lease died of something outside. False when that has happened too often.
  bool Forgive(std::size_t item) {
    const std::lock_guard lock(mutex_);
    return ++deaths_[item] < kTries;
  }
  LeaseWork& work() { return work_; }

 private:
  void FailAll(const absl::Status& status) {
    for (const std::deque<std::size_t>* queue : {&fresh_, &suspects_}) {
      for (const std::size_t item : *queue) work_.Fail(item, status);
    }
    fresh_.clear();
    suspects_.clear();
  }

  LeaseWork& work_;
  const std::function<bool()>& cancelled_;
  const std::uint32_t barren_limit_;
  mutable std::mutex mutex_;
  std::deque<std::size_t> fresh_;
  std::deque<std::size_t> suspects_;
  std::vector<int> deaths_;
  std::uint32_t barren_ = 0;
};

// What one lease's child has in hand.
struct LeaseDispatch::Hand {
  bool alone = false;
  std::optional<std::size_t> first = {};  // not asked yet
  std::deque<std::size_t> items = {};     // asked and not answered, in order
  v1::FramePart frames = {};              // of the first item's header, so far
  std::size_t frame_bytes = 0;            // of those
  std::uint32_t handed_out = 0;
  Clock::time_point started = Clock::now();
  Clock::time_point item_started = started;
};

// Items that a child is asked for in one record, each of which it answers with one of its own.
struct LeaseDispatch::Batch {
  LeaseRecord record = {};
  std::size_t items = 0;

  bool Fits(const LeaseRecord& next) const {
    return items == 0 || (next.fds == record.fds &&
                          record.request.ByteSizeLong() + next.request.ByteSizeLong() <= kMaxRecordBytes);
  }
  void Add(LeaseRecord next) {
    if (items++ == 0) {
      record = std::move(next);
    } else {
      record.request.MergeFrom(next.request);
    }
  }
};

void LeaseDispatch::Run(LeaseWork& work, const std::function<bool()>& cancelled) {
  Call call(work, cancelled, options_.leases);
  const std::size_t useful = (call.waiting() + kItemsInHand - 1) / kItemsInHand;
  std::vector<std::jthread> others;
  try {
    while (others.size() + 1 < std::min<std::size_t>(options_.leases, useful)) {
      others.emplace_back([this, &call] { Work(call); });
    }
  } catch (const std::system_error&) {
    // No more threads: the ones that run do all of it.
  }
  Work(call);
}

void LeaseDispatch::Work(Call& call) {
  while (call.waiting() > 0) {
    permits_.Take();
    if (const auto first = call.Begin()) RunLease(call, first->item, first->alone);
    permits_.Give();
  }
}

void LeaseDispatch::RunLease(Call& call, std::size_t first, bool alone) {
  v1::LeaseRequest request;
  request.set_role(call.work().role());
  request.set_memory_bytes(options_.memory_bytes);
  request.set_cpu_seconds(options_.cpu_seconds);
  *request.mutable_limits() = options_.limits;
  auto lease = zygotes_.Open(request);
  if (!lease.ok()) {
    call.GiveBack(first, alone);
    call.Barren();
    return;
  }
  Hand hand{.alone = alone, .first = first};
  Outcome outcome = Outcome::kDied;
  if (lease->socket.SetSendTimeout(options_.item_timeout).ok()) outcome = Serve(call, lease->socket, hand);
  const bool kill = outcome == Outcome::kTimeout || outcome == Outcome::kLied;
  const LeaseEnd end = zygotes_.Finish(*std::move(lease), kill);
  if (outcome == Outcome::kServed) return;
  ++child_deaths_;
  base::Log(base::LogLevel::kWarning, "helper_died",
            {{"role", v1::HelperRole_Name(call.work().role())},
             {"signal", std::int64_t{end.signal}},
             {"exit_code", std::int64_t{end.exit_code}},
             {"zygote_died", end.zygote_died},
             {"killed_by_us", end.killed_by_us},
             {"alone", alone}});
  Blame(call, hand, outcome, end);
}

LeaseDispatch::Outcome LeaseDispatch::Serve(Call& call, RecordSocket& socket, Hand& hand) {
  const LeaseRecord opening = call.work().Opening();
  if (opening.request.job_case() != v1::HelperRequest::JOB_NOT_SET) {
    if (!socket.Send(opening.request, opening.fds).ok()) return Outcome::kDied;
  }
  while (true) {
    if (hand.items.size() <= kItemsInHandLow) {
      if (const Outcome outcome = HandOut(call, socket, hand); outcome != Outcome::kServed) return outcome;
    }
    if (hand.items.empty()) return Outcome::kServed;
    if (const Outcome outcome = TakeReply(call, socket, hand); outcome != Outcome::kServed) return outcome;
  }
}

LeaseDispatch::Outcome LeaseDispatch::HandOut(Call& call, RecordSocket& socket, Hand& hand) {
  Batch batch;
  while (hand.items.size() < kItemsInHand) {
    std::optional<std::size_t> item = std::exchange(hand.first, std::nullopt);
    const Clock::time_point now = Clock::now();
    if (!item && !hand.alone && hand.handed_out < options_.lease_items &&
        now - hand.started < options_.lease_time) {
      item = call.Next();
    }
    if (!item) break;
    ++hand.handed_out;
    if (absl::Status prepared = call.work().Prepare(*item); !prepared.ok()) {
      call.work().Fail(*item, std::move(prepared));
      continue;
    }
    LeaseRecord record = call.work().Ask(*item);
    if (!batch.Fits(record)) {
      const Outcome outcome = SendBatch(call, socket, hand, std::exchange(batch, {}));
      if (outcome != Outcome::kServed) {
        call.GiveBack(*item, hand.alone);
        return outcome;
      }
    }
    hand.items.push_back(*item);
    batch.Add(std::move(record));
  }
  return SendBatch(call, socket, hand, std::move(batch));
}

LeaseDispatch::Outcome LeaseDispatch::SendBatch(Call& call, RecordSocket& socket, Hand& hand, Batch batch) {
  if (batch.items == 0) return Outcome::kServed;
  // The child's time, not that of our preparations.
  if (hand.items.size() == batch.items) hand.item_started = Clock::now();
  const absl::Status sent = socket.Send(batch.record.request, batch.record.fds);
  if (sent.ok()) return Outcome::kServed;
  const std::string reason = base::ReasonOf(sent);
  if (reason == "PEER_GONE") return Outcome::kDied;
  if (reason == "TIMEOUT") return Outcome::kTimeout;
  // These items, the last ones, cannot be asked for.
  for (; batch.items > 0; --batch.items) {
    call.work().Fail(hand.items.back(), sent);
    hand.items.pop_back();
  }
  return Outcome::kServed;
}

LeaseDispatch::Outcome LeaseDispatch::TakeReply(Call& call, RecordSocket& socket, Hand& hand) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(hand.item_started + options_.item_timeout - Clock::now());
  v1::HelperReply reply;
  const absl::Status received =
      socket.ReceiveMessage(reply, nullptr, std::max(left, std::chrono::milliseconds::zero()));
  if (!received.ok()) {
    const std::string reason = base::ReasonOf(received);
    if (reason == "TIMEOUT") return Outcome::kTimeout;
    return reason == "PEER_GONE" ? Outcome::kDied : Outcome::kLied;
  }
  const std::size_t item = hand.items.front();
  if (reply.index() != item) return Outcome::kLied;
  if (reply.has_frames()) {
    if (call.work().role() != v1::HELPER_ROLE_HEADER || !IsPlausible(reply.frames())) return Outcome::kLied;
    const int frames = hand.frames.frame_size() + reply.frames().frame_size();
    hand.frame_bytes += FrameBytes(reply.frames().frame());
    if (frames > kMaxHeaderFrames || hand.frame_bytes > kMaxHeaderFrameBytes) return Outcome::kLied;
    for (v1::FrameHeader& frame : *reply.mutable_frames()->mutable_frame()) {
      *hand.frames.add_frame() = std::move(frame);
    }
    return Outcome::kServed;
  }
  v1::FramePart frames = std::exchange(hand.frames, {});
  hand.frame_bytes = 0;
  if (reply.has_header() && !frames.frame().empty()) {
    if (!reply.header().frame().empty()) return Outcome::kLied;
    reply.mutable_header()->mutable_frame()->Swap(frames.mutable_frame());
  }
  if (reply.has_refused()) {
    const v1::Refusal& refusal = reply.refused();
    if (!IsPlausible(refusal)) return Outcome::kLied;
    absl::Status status =
        base::Error(absl::StatusCode::kInvalidArgument, refusal.code(), refusal.value(), refusal.text());
    SetRefusedIdentity(refusal, status);
    call.work().Fail(item, std::move(status));
  } else if (!call.work().Take(item, reply)) {
    return Outcome::kLied;
  }
  hand.items.pop_front();
  hand.item_started = Clock::now();
  call.Fruitful();
  return Outcome::kServed;
}

void LeaseDispatch::Blame(Call& call, Hand& hand, Outcome outcome, const LeaseEnd& end) {
  if (hand.first) hand.items.push_front(*hand.first);
  if (hand.items.empty()) return;
  if (outcome != Outcome::kLied && (end.zygote_died || end.not_started)) {
    // Nothing is known of the child, not even whether it began.
    for (auto item = hand.items.rbegin(); item != hand.items.rend(); ++item) {
      if (call.Forgive(*item)) {
        call.GiveBack(*item, hand.alone);
      } else {
        call.work().Fail(*item, Unavailable());
      }
    }
    call.Barren();
    return;
  }
  if (outcome != Outcome::kDied) {
    // The child answers in order: it was at the first one.
    call.work().Fail(hand.items.front(),
                     outcome == Outcome::kLied ? Lied() : TimedOut(options_.item_timeout));
    hand.items.pop_front();
    for (auto item = hand.items.rbegin(); item != hand.items.rend(); ++item) call.GiveBack(*item, hand.alone);
    return;
  }
  const bool from_outside = !end.killed_by_us && (end.signal == SIGKILL || end.signal == SIGTERM);
  for (const std::size_t item : hand.items) {
    if (from_outside ? call.Forgive(item) : !hand.alone) {
      call.Suspect(item);
    } else if (end.signal == SIGXCPU) {
      call.work().Fail(item, TimedOut(std::chrono::seconds(options_.cpu_seconds)));
    } else if (!from_outside && call.work().Ease(item)) {
      call.Suspect(item);
    } else {
      call.work().Fail(item, Crashed(end));
    }
  }
}

}  // namespace tomoserve::ipc
