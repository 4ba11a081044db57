// A worker that follows the script in a recipe's title instead of running a network: "VERB ARGUMENT".
//   ok            answers with one finding: the voxels above 0
//   slow MS       the same after MS milliseconds, with progress and heartbeats; can be cancelled
//   once FILE     dies by SIGSEGV in its first run; FILE remembers that
//   crash         dies by SIGSEGV in every run
//   exit          exits with 1 in every run
//   hang          stops answering in every run
//   stall         computes for ever: nothing but heartbeats
//   stall_late    the same after the first of many windows
//   quiet MS      as slow, but only its heartbeats show that windows are computed
//   not_hu        as ok, and half of the values are as dense as bone
//   stuck         never answers; others beside it go on
//   lower         as ok, but sees the lower half of the slices only
//   blind         as ok, but sees nothing
//   key K         as ok, and the finding is largest on slice K
//   fail          answers RunFailed NETWORK_FAILED
//   short FILE    answers RunFailed OUT_OF_MEMORY as often as the number in FILE says
//   lost FILE     exits with 5 (the device is lost) in so many runs
//   lost_at_once FILE  the same, as soon as it comes, whatever runs then
//   lost_in NAME  exits with 5 in every run on the device of that name
//   lost_on NAME  exits with 5 when it is loaded on that device; "any": on each
//   lost_later MS exits with 5 when it has been loaded for so long
//   lie FIELD     answers with something that cannot be true
//   deaf MS       as slow, but cannot be cancelled
//   heavy MS      as slow, but lets go a second after it is cancelled
//   sour FILE     is refused from its second loading on; FILE remembers the first
//   forget FILE   has another known answer from when FILE exists; "forget_held FILE": and does not say so
//                 while FILE.hold exists, but does all else
//   weighs BYTES FILE  as slow 100, and its weights take so much; FILE has a letter for each time that it was
//                 loaded, which takes 500 ms as it says
//   weighs_on DEVICE BYTES  as ok, and its weights take so much on the device of that name
//   unmeasured    as ok, and what its forward pass takes is known only when it is asked again
//   stall_check   never answers when it is asked again: nothing but heartbeats
//   fail_check CODE FILE  fails with CODE where it carries its known answer out again
//   proof FILE    writes k to FILE where its batch sizes are known when it is loaded, else n
//   refuse        is refused when it is loaded
//   bomb          dies when it is loaded
//   stall_load    is loaded for ever: nothing but heartbeats
//   short_load FILE  is refused for OUT_OF_MEMORY as often as the number in FILE says
//   lost_load FILE   exits with 5 in so many loads
//   lonely_load FILE  as short_load; and is refused so when anything comes while it is loaded, which takes
//                     300 ms
// The devices cuda:6 to cuda:8 cannot be used: cuda:7 says why (its environment and arguments), cuda:6 says
// so and goes on all the same, cuda:8 just ends. cuda:5 has memory for one run,
// cuda:4 another driver, cuda:9 takes eight times as long for a window.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "dispatch/fake_answer.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/ipc/worker_exit.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve {
namespace {

constexpr std::uint64_t kGpuBytesUsed = 123456;
constexpr std::uint64_t kMemoryBytes = std::uint64_t{4} << 30;
// Of a GPU, for one small run: pieces of any array are 32 MiB.
constexpr std::uint64_t kMemoryForOne = std::uint64_t{400} << 20;
constexpr std::uint64_t kWeightBytes = 1000;
constexpr std::uint64_t kForwardBytes = 500;
// Of each life, from its first heartbeat on.
constexpr std::uint64_t kBatchWindows = 3;
constexpr std::uint64_t kBatchSlots = 4;
constexpr double kBusySeconds = 2;

// Takes one from the number in a file; whether it was above 0.
bool TakeOne(const std::string& path) {
  int left = 0;
  std::ifstream(path) >> left;
  if (left > 0) std::ofstream(path) << left - 1;
  return left > 0;
}

struct Run {
  ipc::v1::StartRun start;
  std::vector<base::UniqueFd> fds;
  double end_ms = 0;
  double total_ms = 0;
  bool told = false;  // progress was sent
  std::optional<double> let_go_ms;
};

class FakeWorker {
 public:
  // `host_bytes`: as its arguments say; a CPU has no more.
  FakeWorker(std::string device, std::uint64_t host_bytes)
      : device_(std::move(device)),
        memory_bytes_(device_ == "cuda:5" ? kMemoryForOne
                      : device_ == "cpu"  ? std::min(host_bytes, kMemoryBytes)
                                          : kMemoryBytes),
        socket_(base::UniqueFd(ipc::kChildSocketFd)) {}

  int Serve() {
    ipc::v1::WorkerReply hello;
    hello.mutable_hello()->set_device_kind(device_ == "cuda:9" ? "slow fake" : "fake");
    hello.mutable_hello()->set_torch_version("none");
    hello.mutable_hello()->set_driver_version(device_ == "cuda:4" ? "2" : "1");
    hello.mutable_hello()->set_lanes(2);
    hello.mutable_hello()->set_memory_bytes(memory_bytes_);
    Send(hello);
    for (;;) {
      ipc::v1::WorkerRequest request;
      std::vector<base::UniqueFd> fds;
      const absl::Status status = socket_.ReceiveLarge(request, &fds, std::chrono::milliseconds(20));
      if (status.ok()) {
        Handle(request, std::move(fds));
      } else if (!absl::IsDeadlineExceeded(status)) {
        return 0;
      }
      Continue();
    }
  }

 private:
  void Send(const ipc::v1::WorkerReply& reply) {
    if (!socket_.Send(reply).ok()) ::_exit(0);
  }

  void Handle(const ipc::v1::WorkerRequest& request, std::vector<base::UniqueFd> fds) {
    switch (request.request_case()) {
      case ipc::v1::WorkerRequest::kLoad:
        return Load(request.load());
      case ipc::v1::WorkerRequest::kStart:
        return Start(request.start(), std::move(fds));
      case ipc::v1::WorkerRequest::kCancel:
        return Cancel(request.cancel().run_id());
      case ipc::v1::WorkerRequest::kUpdate:
        return Update(request.update());
      case ipc::v1::WorkerRequest::kUnload:
        scripts_.erase(request.unload().model_digest());
        return;
      case ipc::v1::WorkerRequest::kCheck:
        return Check(request.check().model_digest());
      default:
        return;
    }
  }

  void Load(const ipc::v1::LoadModel& load) {
    std::istringstream title(load.recipe().title());
    Script script;
    title >> script.verb >> script.argument >> script.file;
    scripts_[load.model_digest()] = script;
    if (script.verb == "bomb") ::abort();
    if (script.verb == "stall_load") return;
    if (script.verb == "lost_later") {
      std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(script.argument)));
    }
    const bool lost = (script.verb == "lost_load" && TakeOne(script.argument)) ||
                      script.verb == "lost_later" ||
                      (script.verb == "lost_on" && (script.argument == device_ || script.argument == "any"));
    if (lost) ::_exit(ipc::kWorkerDeviceLost);
    ipc::v1::WorkerReply reply;
    ipc::v1::ModelState& state = *reply.mutable_model();
    state.set_model_digest(load.model_digest());
    const bool sour = script.verb == "sour" && std::filesystem::exists(script.argument);
    if (script.verb == "sour") std::ofstream(script.argument) << "loaded";
    state.set_warm(script.verb != "refuse" && !sour);
    state.set_weight_bytes(script.verb == "weighs" ? std::stoull(script.argument) : kWeightBytes);
    if (script.verb == "weighs_on" && script.argument == device_)
      state.set_weight_bytes(std::stoull(script.file));
    if (script.verb == "weighs") {
      std::ofstream(script.file, std::ios::app) << 'l';
      state.set_load_ms(500);
    }
    if (script.verb != "unmeasured") state.set_forward_bytes(kForwardBytes);
    state.set_ms_per_window(device_ == "cuda:9" ? 16 : 2);
    for (const std::uint32_t bucket : {1, 2, 4}) state.mutable_proof()->add_buckets(bucket);
    *state.mutable_proof()->mutable_tried() = state.proof().buckets();
    if (script.verb == "proof") {
      std::ofstream(script.argument, std::ios::app) << (load.proof().buckets_size() == 3 ? "k" : "n");
    }
    if (!state.warm()) state.mutable_refused()->set_code("DIGEST_MISMATCH");
    const bool lonely = script.verb == "lonely_load";
    const bool is_short = (script.verb == "short_load" || lonely) && TakeOne(script.argument);
    ipc::v1::WorkerRequest beside;
    std::vector<base::UniqueFd> fds;
    const bool disturbed =
        lonely && !is_short && socket_.ReceiveLarge(beside, &fds, std::chrono::milliseconds(300)).ok();
    if (is_short || disturbed) {
      state.set_warm(false);
      state.mutable_refused()->set_code("OUT_OF_MEMORY");
    }
    Send(reply);
    if (disturbed) Handle(beside, std::move(fds));
  }

  // FILE.asked says that it was asked.
  void Check(const std::string& digest) {
    const Script script = scripts_[digest];
    const bool fails = script.verb == "fail_check";
    std::ofstream((fails ? script.file : script.argument) + ".asked", std::ios::app) << '.';
    if (script.verb == "stall_check") return;
    ipc::v1::ModelState state;
    state.set_model_digest(digest);
    const bool differs = !fails && std::filesystem::exists(script.argument);
    if (script.verb == "unmeasured") state.set_forward_bytes(2 * kForwardBytes);
    state.set_warm(!fails && !differs);
    if (!state.warm()) {
      state.mutable_refused()->set_code(fails ? script.argument : "KNOWN_ANSWER_DIFFERS");
      state.mutable_refused()->set_value("20 % of 80 voxels differ, 0.1 % may");
    }
    if (differs) scripts_.erase(digest);
    checked_ = {.state = state, .hold = script.verb == "forget_held" ? script.argument + ".hold" : ""};
    AnswerCheck();
  }

  void AnswerCheck() {
    if (!checked_ || (!checked_->hold.empty() && std::filesystem::exists(checked_->hold))) return;
    ipc::v1::WorkerReply reply;
    *reply.mutable_model() = std::exchange(checked_, std::nullopt)->state;
    Send(reply);
  }

  // One run after the other, most urgent first.
  void Start(const ipc::v1::StartRun& start, std::vector<base::UniqueFd> fds) {
    if (!scripts_.contains(start.model_digest())) return SendFailed(start.run_id(), "MODEL_NOT_LOADED");
    const Script& script = scripts_[start.model_digest()];
    if (script.verb == "lost_at_once" && TakeOne(script.argument)) ::_exit(ipc::kWorkerDeviceLost);
    Run run;
    run.start = start;
    run.fds = std::move(fds);
    Queue(std::move(run));
    BeginNext();
  }

  void Queue(Run run) {
    const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const Run& other) {
      return other.start.urgency() < run.start.urgency();
    });
    waiting_.insert(place, std::move(run));
  }

  void Update(const ipc::v1::UpdateRun& update) {
    const auto waits = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Run& run) { return run.start.run_id() == update.run_id(); });
    if (waits == waiting_.end()) return;
    Run run = std::move(*waits);
    waiting_.erase(waits);
    run.start.set_urgency(update.urgency());
    Queue(std::move(run));
  }

  void Cancel(const std::string& run_id) {
    const auto waits = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Run& run) { return run.start.run_id() == run_id; });
    if (waits != waiting_.end()) {
      waiting_.erase(waits);
      return SendFailed(run_id, "CANCELLED");
    }
    if (!run_ || run_->start.run_id() != run_id) return;
    const std::string verb = scripts_[run_->start.model_digest()].verb;
    if (verb == "heavy") {
      run_->let_go_ms = base::MonotonicMs() + 1000;
    } else if (verb != "deaf") {
      Fail("CANCELLED");
    }
  }

  void BeginNext() {
    if (run_ || waiting_.empty()) return;
    run_ = std::move(waiting_.front());
    waiting_.pop_front();
    const ipc::v1::StartRun& start = run_->start;
    const Script& script = scripts_[start.model_digest()];
    if (script.verb == "stuck") {
      stuck_.push_back(*std::exchange(run_, std::nullopt));
      return BeginNext();
    }
    if (script.verb == "crash") {
      ::signal(SIGSEGV, SIG_DFL);  // a sanitizer would turn the signal into an exit code
      ::raise(SIGSEGV);
    }
    if (script.verb == "exit") ::_exit(1);
    if (script.verb == "hang") ::pause();
    if (script.verb == "once" && !std::filesystem::exists(script.argument)) {
      std::ofstream(script.argument) << "died";
      ::raise(SIGSEGV);
    }
    if (script.verb == "fail") return Fail("NETWORK_FAILED");
    if (script.verb == "short" && TakeOne(script.argument)) return Fail("OUT_OF_MEMORY");
    const bool lost = (script.verb == "lost" && TakeOne(script.argument)) ||
                      (script.verb == "lost_in" && script.argument == device_);
    if (lost) ::_exit(ipc::kWorkerDeviceLost);
    const bool takes_time =
        script.verb == "slow" || script.verb == "deaf" || script.verb == "heavy" || script.verb == "quiet";
    run_->total_ms = takes_time ? std::stod(script.argument) : 0;
    if (script.verb == "weighs") run_->total_ms = 100;
    if (script.verb == "stall" || script.verb == "stall_late") run_->total_ms = 1e9;
    if (script.verb == "stall_late") Progress(1);
    run_->end_ms = base::MonotonicMs() + run_->total_ms;
  }

  void Continue() {
    AnswerCheck();
    ipc::v1::WorkerReply reply;
    const std::string verb = run_ ? scripts_[run_->start.model_digest()].verb : "";
    if (!run_ || verb == "stall" || verb == "stall_late") {
      reply.mutable_heartbeat()->set_windows(windows_);
      reply.mutable_heartbeat()->set_batch_windows(kBatchWindows);
      reply.mutable_heartbeat()->set_batch_slots(kBatchSlots);
      reply.mutable_heartbeat()->set_busy_seconds(kBusySeconds);
      if (device_ != "cpu") reply.mutable_heartbeat()->set_device_memory_used_bytes(kGpuBytesUsed);
      return Send(reply);
    }
    if (run_->let_go_ms && base::MonotonicMs() >= *run_->let_go_ms) return Fail("CANCELLED");
    const double left_ms = run_->end_ms - base::MonotonicMs();
    if (left_ms > 0 && verb == "quiet") {
      reply.mutable_heartbeat()->set_windows(++windows_);
      return Send(reply);
    }
    if (left_ms > 0) return Progress(static_cast<std::uint32_t>(100 * (1 - left_ms / run_->total_ms)));
    Finish();
  }

  void Progress(std::uint32_t percent) {
    ipc::v1::WorkerReply reply;
    reply.mutable_progress()->set_run_id(run_->start.run_id());
    reply.mutable_progress()->set_windows_total(100);
    reply.mutable_progress()->set_windows_done(percent);
    run_->told = true;
    Send(reply);
  }

  void SendFailed(const std::string& run_id, const char* code) {
    ipc::v1::WorkerReply reply;
    reply.mutable_failed()->set_run_id(run_id);
    reply.mutable_failed()->mutable_reason()->set_code(code);
    Send(reply);
  }

  void Fail(const char* code) {
    const std::string run_id = run_->start.run_id();
    run_.reset();
    SendFailed(run_id, code);
    BeginNext();
  }

  void Finish() {
    const ipc::v1::StartRun& start = run_->start;
    const auto geometry = volume::Geometry::FromProto(start.geometry());
    auto labels = ipc::Mapping::Map(run_->fds[0].get(), 0, start.label_bytes(), true);
    if (!geometry.ok() || !labels.ok()) return Fail("REQUEST_INVALID");
    ipc::Mapping region;
    if (start.has_region()) {
      auto mapped = ipc::Mapping::Map(run_->fds[1].get(), 0,
                                      geometry->voxels() * start.region().bytes_per_voxel(), false);
      if (!mapped.ok()) return Fail("REQUEST_INVALID");
      region = *std::move(mapped);
      const std::span<const std::byte> voxels = region.bytes();
      if (std::all_of(voxels.begin(), voxels.end(), [](std::byte voxel) { return voxel == std::byte{0}; })) {
        return Fail("REGION_EMPTY");
      }
    }
    ipc::v1::WorkerReply reply;
    ipc::v1::RunDone& done = *reply.mutable_done();
    done.set_run_id(start.run_id());
    const Script script = scripts_[start.model_digest()];
    const std::size_t layer = labels->bytes().size() / start.time_points();
    const auto& size = geometry->size_ijk();
    const std::uint32_t slices = script.verb == "lower" ? size[2] / 2 : size[2];
    for (std::uint32_t time_point = 0; time_point < start.time_points(); ++time_point) {
      if (script.verb == "blind") break;
      const bool seen = Look(start, run_->fds, time_point, slices, *geometry,
                             labels->bytes().subspan(time_point * layer, layer), region.bytes(), done);
      if (!seen) return Fail("REQUEST_INVALID");
    }
    if (script.verb == "lie" && script.argument == "windows_told") Progress(50);
    done.set_windows(run_->told ? 100 : 1);
    done.set_has_label_map(true);
    v1::StageTiming& timing = *done.add_timings();
    timing.set_stage("forward");
    timing.set_ms(1);
    if (script.verb == "key") {
      done.mutable_findings(0)->set_key_slice_k(static_cast<std::uint32_t>(std::stoul(script.argument)));
    }
    if (start.hounsfield_channels_size() > 0)
      CountHounsfield(std::uint64_t{size[0]} * size[1], script.verb == "not_hu", done);
    if (script.verb == "lie") Lie(script.argument, done, labels->bytes());
    run_.reset();
    Send(reply);
    BeginNext();
  }

  struct Script {
    std::string verb;
    std::string argument;
    std::string file = {};  // of a script with two arguments
  };
  const std::string device_;
  const std::uint64_t memory_bytes_;
  ipc::RecordSocket socket_;
  std::map<std::string, Script> scripts_;
  struct Checked {
    ipc::v1::ModelState state;
    std::string hold;  // a file that holds the answer back; empty: none
  };
  std::optional<Checked> checked_;
  std::optional<Run> run_;
  std::deque<Run> waiting_;
  std::deque<Run> stuck_;
  std::uint64_t windows_ = 0;
};

}  // namespace
}  // namespace tomoserve

int main(int argc, char** argv) {
  std::string arguments;
  std::string device;
  std::uint64_t host_bytes = 0;
  for (int i = 1; i < argc; ++i) {
    arguments += std::string(" ") + argv[i];
    if (std::string_view(argv[i - 1]) == "--device") device = argv[i];
    if (std::string_view(argv[i - 1]) == "--host-bytes") host_bytes = std::stoull(argv[i]);
  }
  if (device == "cuda:8") return 1;
  if (device == "cuda:6") {
    const int socket = ::dup(tomoserve::ipc::kChildSocketFd);
    tomoserve::ipc::RecordSocket front{tomoserve::base::UniqueFd(socket)};
    tomoserve::ipc::v1::WorkerReply reply;
    reply.mutable_unusable()->set_code("DEVICE_UNSUPPORTED");
    if (!front.Send(reply).ok()) return 1;
  }
  if (device == "cuda:7") {
    tomoserve::ipc::RecordSocket front{tomoserve::base::UniqueFd(tomoserve::ipc::kChildSocketFd)};
    tomoserve::ipc::v1::WorkerReply reply;
    reply.mutable_unusable()->set_code("DEVICE_UNSUPPORTED");
    reply.mutable_unusable()->set_value("sm_61");
    const char* visible = ::getenv("CUDA_VISIBLE_DEVICES");
    reply.mutable_unusable()->set_text(std::string("sees ") + (visible == nullptr ? "all" : visible) +
                                       arguments);
    return front.Send(reply).ok() ? 3 : 1;
  }
  tomoserve::FakeWorker worker(device, host_bytes);
  return worker.Serve();
}
