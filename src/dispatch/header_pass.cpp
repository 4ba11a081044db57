#include "dispatch/header_pass.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Of headers that are read and not yet judged.
constexpr std::uint64_t kHeldBytes = 128u << 20;

}  // namespace

HeaderPass::HeaderPass(ipc::HelperPool& helpers, TaskQueue& pool, base::UniqueFd spool, InstanceJudge judge,
                       Observer* observer)
    : helpers_(helpers),
      pool_(pool),
      spool_(std::move(spool)),
      observer_(observer),
      judge_(std::move(judge)) {}

void HeaderPass::Add(store::SpoolRecord record) {
  const std::lock_guard lock(mutex_);
  pending_.push_back(std::move(record));
  StartWork();
}

void HeaderPass::Refuse(const std::string& instance_key, v1::Reason reason) {
  const std::lock_guard lock(mutex_);
  refusals_.emplace_back(instance_key, std::move(reason));
  StartWork();
}

std::vector<v1::InstanceStatus> HeaderPass::TakeStatuses() {
  const std::lock_guard lock(mutex_);
  return std::exchange(statuses_, {});
}

void HeaderPass::AddStatus(v1::InstanceStatus status) {
  const std::lock_guard lock(mutex_);
  statuses_.push_back(std::move(status));
}

absl::StatusOr<const InstanceJudge*> HeaderPass::Wait() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !working_; });
  if (stopped_) return base::Error(absl::StatusCode::kUnavailable, "DRAINING", "", "the server is stopping");
  TS_RETURN_IF_ERROR(unavailable_);
  return &judge_;
}

double HeaderPass::busy_ms() const {
  const std::lock_guard lock(mutex_);
  return busy_ms_;
}

void HeaderPass::Abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
}

void HeaderPass::StartWork() {
  if (working_) return;
  working_ = pool_.Post([self = shared_from_this()] { self->Work(); });
  stopped_ = !working_;
}

void HeaderPass::Work() {
  std::vector<store::SpoolRecord> batch;
  std::vector<std::pair<std::string, v1::Reason>> refusals;
  {
    const std::lock_guard lock(mutex_);
    if (!abandoned_) {
      const auto end = pending_.begin() + static_cast<std::ptrdiff_t>(std::min(batch_size_, pending_.size()));
      batch.assign(std::make_move_iterator(pending_.begin()), std::make_move_iterator(end));
      pending_.erase(pending_.begin(), end);
      if (!unavailable_.ok()) batch.clear();
      refusals = std::exchange(refusals_, {});
    }
  }
  std::vector<ipc::v1::SpoolRange> ranges;
  for (const store::SpoolRecord& record : batch) {
    ipc::v1::SpoolRange& range = ranges.emplace_back();
    range.set_offset(record.offset);
    range.set_length(record.length);
  }
  std::vector<v1::InstanceStatus> statuses;
  for (auto& [key, reason] : refusals) statuses.push_back(judge_.Refuse(key, std::move(reason)));
  absl::Status unavailable;
  double read_ms = 0;
  std::size_t read = 0;
  if (!ranges.empty()) {
    const double began_ms = base::MonotonicMs();
    std::vector<ipc::HeaderResult> results = helpers_.ReadHeadersWithin(spool_.get(), ranges, kHeldBytes);
    read_ms = base::MonotonicMs() - began_ms;
    read = std::min(results.size(), batch.size());
    if (read == 0) {
      unavailable =
          base::Error(absl::StatusCode::kUnavailable, "HELPER_UNAVAILABLE", "", "no header was read");
    }
    for (std::size_t i = 0; i < read; ++i) {
      if (absl::IsUnavailable(results[i].status())) {
        unavailable = results[i].status();
      } else {
        statuses.push_back(judge_.Judge(batch[i], results[i]));
        results[i] = ipc::v1::InstanceHeader();  // its memory, before the judge copies the next one
      }
    }
  }
  for (const v1::InstanceStatus& status : statuses) {
    if (observer_ != nullptr && status.outcome() == v1::INSTANCE_OUTCOME_REFUSED) {
      observer_->OnInstanceRefused(status.reason().code());
    }
  }
  const std::lock_guard lock(mutex_);
  busy_ms_ += read_ms;
  if (unavailable_.ok()) unavailable_ = std::move(unavailable);
  if (read < batch.size()) {
    pending_.insert(pending_.begin(),
                    std::make_move_iterator(batch.begin() + static_cast<std::ptrdiff_t>(read)),
                    std::make_move_iterator(batch.end()));
    batch_size_ = std::max<std::size_t>(read, 1);
  } else if (!batch.empty()) {
    batch_size_ = std::min(batch_size_ * 2, kMaxBatch);
  }
  std::move(statuses.begin(), statuses.end(), std::back_inserter(statuses_));
  working_ = false;
  // Posted anew rather than looped, so that other uploads get their turn.
  if (!abandoned_ && (!pending_.empty() || !refusals_.empty())) StartWork();
  if (!working_) idle_.notify_all();
}

}  // namespace tomoserve::dispatch
