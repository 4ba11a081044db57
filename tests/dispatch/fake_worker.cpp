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
//   lost_in NAME  exits with 5 in every run on the device of that name
//   lost_on NAME  exits with 5 when it is loaded on that device; "any": on each
//   lost_later MS exits with 5 when it has been loaded for so long
//   lie FIELD     answers with something that cannot be true
//   deaf MS       as slow, but cannot be cancelled
//   sour FILE     is refused from its second loading on; FILE remembers the first
//   refuse        is refused when it is loaded
//   bomb          dies when it is loaded
//   stall_load    is loaded for ever: nothing but heartbeats
//   short_load FILE  is refused for OUT_OF_MEMORY as often as the number in FILE says
//   lost_load FILE   exits with 5 in so many loads
//   lonely_load FILE  as short_load; and is refused so when anything comes while it is loaded, which takes
//                     300 ms
// The devices cuda:6 to cuda:8 cannot be used: cuda:7 says why (its environment and arguments), cuda:6 says
// so and goes on all the same, cuda:8 just ends. cuda:5 has memory for one run.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

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
};

class FakeWorker {
 public:
  explicit FakeWorker(std::string device)
      : device_(std::move(device)), socket_(base::UniqueFd(ipc::kChildSocketFd)) {}

  int Serve() {
    ipc::v1::WorkerReply hello;
    hello.mutable_hello()->set_device_kind("fake");
    hello.mutable_hello()->set_torch_version("none");
    hello.mutable_hello()->set_lanes(2);
    hello.mutable_hello()->set_memory_bytes(device_ == "cuda:5" ? kMemoryForOne : kMemoryBytes);
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
      default:
        return;
    }
  }

  void Load(const ipc::v1::LoadModel& load) {
    std::istringstream title(load.recipe().title());
    Script script;
    title >> script.verb >> script.argument;
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
    state.set_weight_bytes(kWeightBytes);
    state.set_forward_bytes(kForwardBytes);
    state.set_ms_per_window(2);
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

  // One run after the other, most urgent first.
  void Start(const ipc::v1::StartRun& start, std::vector<base::UniqueFd> fds) {
    Run run;
    run.start = start;
    run.fds = std::move(fds);
    const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const Run& other) {
      return other.start.urgency() < start.urgency();
    });
    waiting_.insert(place, std::move(run));
    BeginNext();
  }

  void Cancel(const std::string& run_id) {
    const auto waits = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Run& run) { return run.start.run_id() == run_id; });
    if (waits != waiting_.end()) {
      waiting_.erase(waits);
      return SendFailed(run_id, "CANCELLED");
    }
    const bool is_current = run_ && run_->start.run_id() == run_id;
    if (is_current && scripts_[run_->start.model_digest()].verb != "deaf") Fail("CANCELLED");
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
    const bool takes_time = script.verb == "slow" || script.verb == "deaf" || script.verb == "quiet";
    run_->total_ms = takes_time ? std::stod(script.argument) : 0;
    if (script.verb == "stall" || script.verb == "stall_late") run_->total_ms = 1e9;
    if (script.verb == "stall_late") Progress(1);
    run_->end_ms = base::MonotonicMs() + run_->total_ms;
  }

  void Continue() {
    ipc::v1::WorkerReply reply;
    const std::string verb = run_ ? scripts_[run_->start.model_digest()].verb : "";
    if (!run_ || verb == "stall" || verb == "stall_late") {
      reply.mutable_heartbeat()->set_windows(windows_);
      if (device_ != "cpu") reply.mutable_heartbeat()->set_device_memory_used_bytes(kGpuBytesUsed);
      return Send(reply);
    }
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

  // Whether the region's label map has 1 at this voxel; everywhere where there is no region.
  bool IsInRegion(std::span<const std::byte> region, std::size_t voxel) const {
    if (!run_->start.has_region()) return true;
    return region[voxel * run_->start.region().bytes_per_voxel()] == std::byte{1};
  }

  // Labels the voxels of a time point that are above 0 in its last channel, in the region if there is one,
  // and says where they are. False where the request cannot be read.
  bool Look(std::uint32_t time_point, const volume::Geometry& geometry, std::span<std::byte> labels,
            std::span<const std::byte> region, ipc::v1::RunDone& done) const {
    const ipc::v1::StartRun& start = run_->start;
    const auto& size = geometry.size_ijk();
    const std::size_t plane = std::size_t{size[0]} * size[1];
    const std::size_t first_arena = start.has_region() ? 2 : 1;
    std::uint64_t voxels = 0;
    std::array<double, 3> sum{};
    std::uint32_t first_k = size[2];
    std::uint32_t last_k = 0;
    const bool lower = scripts_.at(start.model_digest()).verb == "lower";
    for (std::uint32_t k = 0; k < (lower ? size[2] / 2 : size[2]); ++k) {
      const std::size_t volume = std::size_t{time_point} * start.channels() + start.channels() - 1;
      const ipc::v1::Slice& slice = start.slices(static_cast<int>(volume * size[2] + k));
      if (slice.has_between()) continue;
      auto pixels = ipc::Mapping::Map(run_->fds[first_arena + slice.slot().arena()].get(),
                                      slice.slot().offset(), slice.slot().bytes(), false);
      if (!pixels.ok()) return false;
      for (std::uint32_t n = 0; n < plane; ++n) {
        std::int16_t stored = 0;
        std::memcpy(&stored, pixels->bytes().data() + std::size_t{n} * 2, sizeof stored);
        if (stored * slice.slope() + slice.intercept() <= 0 || !IsInRegion(region, k * plane + n)) continue;
        labels[k * plane + n] = std::byte{1};
        ++voxels;
        sum[0] += n % size[0];
        sum[1] += n / size[0];
        sum[2] += k;
        first_k = std::min(first_k, k);
        last_k = std::max(last_k, k);
      }
    }
    ipc::v1::LabelExtent& extent = *done.add_labels();
    extent.set_label(1);
    extent.set_voxels(voxels);
    extent.set_volume_ml(static_cast<double>(voxels) * geometry.voxel_volume_ml());
    extent.set_first_k(std::min(first_k, last_k));
    extent.set_last_k(last_k);
    extent.set_time_point(time_point);
    if (voxels == 0) return true;
    v1::Finding& finding = *done.add_findings();
    finding.set_label_value(1);
    finding.set_score(0.9);
    for (double& axis : sum) axis /= static_cast<double>(voxels);
    const v1::PointLps centre = volume::ToProto(geometry.ToLps({sum}));
    *finding.mutable_centre_lps() = centre;
    *finding.mutable_box_lps()->mutable_min() = centre;
    *finding.mutable_box_lps()->mutable_max() = centre;
    for (int axis = 0; axis < 3; ++axis) finding.add_extent_mm(1);
    finding.mutable_longest_diameter_3d_mm()->set_value(10);
    finding.mutable_volume_ml()->set_value(extent.volume_ml());
    finding.set_voxels(voxels);
    finding.set_key_slice_k(first_k);
    finding.set_time_point(time_point);
    return true;
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
    for (std::uint32_t time_point = 0; time_point < start.time_points(); ++time_point) {
      if (script.verb == "blind") break;
      const bool seen = Look(time_point, *geometry, labels->bytes().subspan(time_point * layer, layer),
                             region.bytes(), done);
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
    const auto& size = geometry->size_ijk();
    if (start.hounsfield_channels_size() > 0)
      Count(std::uint64_t{size[0]} * size[1], script.verb == "not_hu", done);
    if (script.verb == "lie") Lie(script.argument, done, labels->bytes());
    run_.reset();
    Send(reply);
    BeginNext();
  }

  // What a patient's values may look like.
  static void Count(std::uint64_t values, bool dense, ipc::v1::RunDone& done) {
    ipc::v1::HounsfieldCounts& counts = *done.mutable_hounsfield();
    counts.set_all(values);
    counts.set_body(values);
    counts.set_dense(dense ? values / 2 : 0);
    counts.set_tissue(values - counts.dense());
  }

  static void Lie(const std::string& field, ipc::v1::RunDone& done, std::span<std::byte> labels) {
    if (field == "run_id") done.set_run_id("another");
    if (field == "windows_told") done.set_windows(99);
    if (field == "windows_many") done.set_windows(std::numeric_limits<std::uint32_t>::max());
    if (field == "windows_none") done.set_windows(0);
    if (field == "timing_nan") done.mutable_timings(0)->set_ms(std::numeric_limits<double>::quiet_NaN());
    if (field == "timing_negative") done.mutable_timings(0)->set_ms(-1);
    if (field == "timing_long") done.mutable_timings(0)->set_ms(1e12);
    if (field == "timing_twice") *done.add_timings() = done.timings(0);
    if (field == "no_label_map") done.set_has_label_map(false);
    if (field == "label_map") labels[0] = std::byte{77};
    if (field == "label_value") done.mutable_findings(0)->set_label_value(5);
    if (field == "score") done.mutable_findings(0)->set_score(std::numeric_limits<double>::quiet_NaN());
    if (field == "key_slice_k") done.mutable_findings(0)->set_key_slice_k(1000000);
    if (field == "centre_lps") done.mutable_findings(0)->mutable_centre_lps()->set_x_mm(1e9);
    if (field == "labels") done.mutable_labels(0)->set_voxels(std::numeric_limits<std::uint64_t>::max());
    if (field == "time_point") done.mutable_findings(0)->set_time_point(1);
    if (field == "label_time_point") done.mutable_labels(0)->set_time_point(1);
    if (field == "hounsfield_none") done.clear_hounsfield();
    if (field == "hounsfield_all")
      done.mutable_hounsfield()->set_all(std::numeric_limits<std::uint64_t>::max());
    if (field == "hounsfield_body") done.mutable_hounsfield()->set_body(done.hounsfield().all() + 1);
    if (field == "hounsfield_tissue") done.mutable_hounsfield()->set_tissue(done.hounsfield().body() + 1);
    if (field == "hounsfield_dense") done.mutable_hounsfield()->set_dense(1);
    if (field == "hounsfield_unasked") done.mutable_hounsfield();
    if (field == "findings") {
      for (int i = 0; i < 300; ++i) *done.add_findings() = done.findings(0);
    }
  }

  struct Script {
    std::string verb;
    std::string argument;
  };
  const std::string device_;
  ipc::RecordSocket socket_;
  std::map<std::string, Script> scripts_;
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
  for (int i = 1; i < argc; ++i) {
    arguments += std::string(" ") + argv[i];
    if (std::string_view(argv[i - 1]) == "--device") device = argv[i];
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
  tomoserve::FakeWorker worker(device);
  return worker.Serve();
}
