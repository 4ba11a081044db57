#include "apps/tomoctl/load_run.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/load_call.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

using Clock = std::chrono::steady_clock;

// Before a closed load sends the next one: a server that refuses at once is not asked a thousand times.
constexpr std::chrono::milliseconds kAfterFailure{100};

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Threads that are made when they are needed, one for each study that is open.
class Load {
 public:
  Load(const LoadOptions& options, const std::vector<LoadStudy>& studies, Clock::time_point start)
      : options_(options),
        studies_(studies),
        start_(start),
        arrivals_(options.seed, options.per_second, options.priorities, options.sizes),
        // Another load of the same seed must not be the same studies.
        nonce_(absl::StrCat(std::chrono::system_clock::now().time_since_epoch().count(), "|", options.seed)) {
  }

  LoadRun Run() {
    options_.closed > 0 ? Closed() : Open();
    for (std::thread& thread : threads_) thread.join();
    std::sort(run_.samples.begin(), run_.samples.end(),
              [](const LoadSample& a, const LoadSample& b) { return a.intended_s < b.intended_s; });
    return std::move(run_);
  }

 private:
  double EndSeconds() const { return options_.warm_up_s + options_.duration_s; }
  double NowSeconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  static LoadSample Due(const Arrival& arrival) {
    LoadSample sample;
    sample.priority = arrival.priority;
    sample.study = arrival.study;
    sample.intended_s = arrival.at_s;
    return sample;
  }

  // The next one is sent at its time, whatever became of those before it.
  void Open() {
    for (Arrival next = arrivals_.Next(); next.at_s < EndSeconds(); next = arrivals_.Next()) {
      std::this_thread::sleep_until(start_ + Seconds(next.at_s));
      const std::lock_guard lock(mutex_);
      LoadSample sample = Due(next);
      sample.held = idle_ <= due_.size() && threads_.size() >= options_.max_open;
      due_.push_back(std::move(sample));
      if (idle_ < due_.size() && threads_.size() < options_.max_open) {
        ++idle_;
        threads_.emplace_back([this] { SendWhatIsDue(); });
      }
      wake_.notify_one();
    }
    const std::lock_guard lock(mutex_);
    over_ = true;
    wake_.notify_all();
  }

  void SendWhatIsDue() {
    LoadCall call(options_, nonce_);
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return !due_.empty() || over_; });
      if (due_.empty()) return;
      --idle_;
      LoadSample sample = std::move(due_.front());
      due_.pop_front();
      Send(call, std::move(sample), lock);
      ++idle_;
    }
  }

  void Closed() {
    for (std::uint32_t n = 0; n < options_.closed; ++n) {
      threads_.emplace_back([this] {
        LoadCall call(options_, nonce_);
        std::unique_lock lock(mutex_);
        for (double now = NowSeconds(); now < EndSeconds(); now = NowSeconds()) {
          LoadSample sample = Due(arrivals_.Next());
          sample.intended_s = now;
          Send(call, std::move(sample), lock);
          if (run_.samples.back().code.empty()) continue;
          lock.unlock();
          std::this_thread::sleep_for(kAfterFailure);
          lock.lock();
        }
      });
    }
  }

  // The sample is the last one when it returns.
  void Send(LoadCall& call, LoadSample sample, std::unique_lock<std::mutex>& lock) {
    const std::size_t number = sent_++;
    run_.most_open = std::max(run_.most_open, ++open_);
    lock.unlock();
    call.Send(studies_[sample.study], number, start_, EndSeconds() + options_.drain_s, sample);
    lock.lock();
    --open_;
    run_.samples.push_back(std::move(sample));
  }

  const LoadOptions& options_;
  const std::vector<LoadStudy>& studies_;
  const Clock::time_point start_;
  std::mutex mutex_;  // all below
  Arrivals arrivals_;
  const std::string nonce_;
  std::condition_variable wake_;
  std::deque<LoadSample> due_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;  // threads without a study
  std::size_t open_ = 0;
  std::size_t sent_ = 0;
  bool over_ = false;
  LoadRun run_;
};

}  // namespace

LoadRun RunLoad(const LoadOptions& options, const std::vector<LoadStudy>& studies, Clock::time_point start) {
  return Load(options, studies, start).Run();
}

std::optional<std::uint64_t> WindowsOf(const LoadOptions& options, const std::string& study_uid) {
  const auto stub = v1::StudyService::NewStub(Connect(options.server));
  v1::PlanStudyRequest request;
  request.set_study_instance_uid(study_uid);
  for (const std::string& model : options.models) *request.add_models() = ParseModel(model);
  v1::PlanStudyResponse plan;
  grpc::ClientContext context;
  if (!stub->PlanStudy(&context, request, &plan).ok()) return std::nullopt;
  std::uint64_t windows = 0;
  for (const v1::PlannedRun& run : plan.runs()) windows += run.applicable() ? run.windows() : 0;
  return windows;
}

}  // namespace tomoserve::tomoctl
