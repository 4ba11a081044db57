#include "dispatch/planning.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <tuple>

#include "dispatch/instance_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/window_size.h"
#include "tomoserve/volume/orientation.h"
#include "tomoserve/volume/resampling_grid.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {
namespace {

std::uint32_t Clamped(double value) {
  return static_cast<std::uint32_t>(std::min(value, double{std::numeric_limits<std::uint32_t>::max()}));
}

// Starts of windows along one axis, MONAI: the volume is padded up to one window. 0: the window is the axis.
double MonaiStarts(std::uint64_t n, std::uint64_t window, double overlap) {
  if (window == 0) return 1;
  const std::uint64_t padded = std::max(n, window);
  const auto interval =
      std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(window) * (1 - overlap)));
  return static_cast<double>((padded - window + interval - 1) / interval + 1);
}

// The same, nnU-Net; windows of one slice do not overlap along it.
double NnunetStarts(std::uint64_t n, std::uint64_t window, double overlap) {
  const std::uint64_t padded = std::max(n, window);
  const double step = window == 1 ? 1 : static_cast<double>(window) * (1 - overlap);
  return std::ceil(static_cast<double>(padded - window) / step) + 1;
}

// The prepared volume's grid, as far as a prediction needs it.
struct PreparedGrid {
  volume::Reorientation reorientation;
  std::array<std::uint64_t, 3> size{};
};

absl::StatusOr<PreparedGrid> PrepareGrid(const v1::Recipe& recipe, const volume::Geometry& grid) {
  PreparedGrid result;
  volume::Geometry prepared = grid;
  const v1::Preparation& preparation = recipe.preparation();
  if (!preparation.orientation().empty()) {
    TS_ASSIGN_OR_RETURN(result.reorientation, volume::ReorientationTo(prepared, preparation.orientation()));
    TS_ASSIGN_OR_RETURN(prepared, volume::Reoriented(prepared, result.reorientation));
  }
  if (preparation.has_spacing() && preparation.spacing().spacing_mm_size() == 3) {
    std::array<double, 3> target{};
    std::copy(preparation.spacing().spacing_mm().begin(), preparation.spacing().spacing_mm().end(),
              target.begin());
    const bool nnunet = preparation.spacing().rule() == v1::SPACING_RULE_NNUNET;
    TS_ASSIGN_OR_RETURN(
        prepared, nnunet ? volume::NnunetSpacing(prepared, target) : volume::MonaiSpacing(prepared, target));
  }
  std::copy(prepared.size_ijk().begin(), prepared.size_ijk().end(), result.size.begin());
  return result;
}

}  // namespace

absl::StatusOr<std::array<std::uint64_t, 3>> PreparedSize(const v1::Recipe& recipe,
                                                          const volume::Geometry& grid) {
  TS_ASSIGN_OR_RETURN(const PreparedGrid prepared, PrepareGrid(recipe, grid));
  return prepared.size;
}

std::uint32_t CountWindows(const v1::Windows& windows, const std::array<std::uint64_t, 3>& size) {
  if (windows.layout() == v1::WINDOW_LAYOUT_SLICES) return Clamped(static_cast<double>(size[2]));
  if (windows.size_size() != 3) return 0;
  double count = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const std::uint64_t n = size[static_cast<std::size_t>(axis)];
    count *= windows.layout() == v1::WINDOW_LAYOUT_NNUNET
                 ? NnunetStarts(n, windows.size(axis), windows.overlap())
                 : MonaiStarts(n, windows.size(axis), windows.overlap());
  }
  return Clamped(count);
}

absl::StatusOr<Prediction> Predict(const v1::Recipe& recipe, const volume::Geometry& grid,
                                   std::uint32_t time_points) {
  Prediction prediction;
  TS_ASSIGN_OR_RETURN(const PreparedGrid prepared, PrepareGrid(recipe, grid));
  prediction.prepared_size = prepared.size;
  const std::uint32_t windows =
      models::SeesWhole(recipe, prepared.size)
          ? 1
          : CountWindows(recipe.windows(), models::PaddedSize(recipe, prepared.size));
  const auto networks = static_cast<double>(models::NetworkCount(recipe));
  prediction.windows = Clamped(static_cast<double>(windows) * networks * time_points);
  volume::RunArrays arrays =
      volume::ArraysOf(grid, prepared.reorientation, prepared.size, models::MostOutputChannels(recipe));
  volume::CountPreparation(recipe, arrays);
  arrays.preparations = models::PreparationCount(recipe);
  arrays.window = models::WholeWindowVoxels(recipe, prepared.size);
  arrays.head_values = volume::HeadValues(recipe, prepared.size);
  arrays.open_voxels = volume::OpenVoxels(recipe, prepared.size);
  prediction.cpu_bytes = volume::LoopBytes(arrays) * time_points;
  prediction.gpu_bytes = volume::DeviceBytes(arrays) * time_points;
  prediction.gpu_host_bytes = volume::HostBytesBesideDevice(arrays) * time_points;
  const std::uint64_t inputs = std::max<std::uint64_t>(arrays.inputs, 1);
  prediction.voxels = (grid.voxels() + std::accumulate(prepared.size.begin(), prepared.size.end(),
                                                       std::uint64_t{1}, std::multiplies<>())) *
                      inputs * time_points;
  prediction.window_ratio = models::WarmUpRatio(recipe, prepared.size);
  return prediction;
}

double RunSeconds(const v1::Recipe& recipe, const Prediction& prediction,
                  const std::optional<WindowSpeed>& speed, const std::optional<RunTime>& learnt) {
  const std::uint32_t lanes = speed ? speed->lanes : 1;
  if (learnt) return SecondsOf(*learnt, WorkOf(prediction), lanes);
  const double pass_seconds = speed ? speed->ms_per_window / 1000 * prediction.window_ratio
                                    : recipe.profile().cpu_seconds_per_window();
  return pass_seconds * models::PassesPerWindow(recipe) * RoundsOf(prediction.windows, lanes);
}

RunDemand Demand(const v1::Recipe& recipe, const Prediction& prediction, bool on_cpu,
                 const models::WindowPasses& passes) {
  const std::uint64_t windows =
      models::WindowBytes(recipe, prediction.prepared_size, prediction.windows, passes);
  if (on_cpu) return {.windows = prediction.windows, .bytes = prediction.cpu_bytes + windows};
  return {.windows = prediction.windows,
          .bytes = prediction.gpu_bytes + windows,
          .host_bytes = prediction.gpu_host_bytes};
}

RunWork WorkOf(const Prediction& prediction) {
  return {
      .windows = prediction.windows, .voxels = prediction.voxels, .window_ratio = prediction.window_ratio};
}

namespace {

// Where a run would be, and what it would cost there; first the devices that it fits, the fastest of them.
struct Place {
  bool fits = false;
  double seconds = 0;  // 0: not known
  std::uint64_t bytes = 0;
  absl::Status too_large;
};

bool IsBetter(const Place& a, const Place& b) {
  const auto key = [](const Place& place) {
    return std::make_tuple(!place.fits, place.seconds == 0, place.seconds, place.bytes);
  };
  return key(a) < key(b);
}

Place PlaceOn(const PlanDevice& device, const v1::Recipe& recipe, const Prediction& prediction) {
  const RunDemand demand = Demand(recipe, prediction, device.is_cpu, device.passes);
  Place place;
  place.too_large = device.ledger.CheckFitsEver(demand);
  place.fits = place.too_large.ok();
  place.bytes = demand.bytes + device.weight_bytes + device.passes.forward_bytes;
  place.seconds = RunSeconds(recipe, prediction, device.speed, device.learnt);
  return place;
}

}  // namespace

v1::PlannedRun PlanRun(const models::Model& model, const RunInput& input,
                       std::span<const PlanDevice> devices) {
  v1::PlannedRun plan;
  plan.set_model(model.name);
  plan.set_version(model.version);
  const series::Selection& selection = input.selection;
  for (const v1::SeriesUse& use : selection.uses) *plan.add_series() = use;
  for (const v1::Reason& reason : selection.reasons) *plan.add_reasons() = reason;
  for (const std::string& limitation : selection.limitations) {
    *plan.add_reasons() = MakeReason("LIMITATION", limitation, "the run would go on and say so");
  }
  if (input.incomplete_series > 0) {
    *plan.add_reasons() = MakeReason("EXPECTED_SERIES_INCOMPLETE", std::to_string(input.incomplete_series),
                                     "so many other series are not whole yet");
  }
  if (input.refusals.instances() > 0) *plan.add_reasons() = input.refusals.AsReason();
  if (selection.volume() == nullptr) return plan;
  plan.set_applicable(true);
  if (input.missing > 0) {
    *plan.add_reasons() = MakeReason("EXPECTED_INSTANCES_MISSING", std::to_string(input.missing),
                                     "the series has fewer instances than its submitter announced");
  }
  const volume::Geometry& grid = *selection.volume()->geometry;
  const auto prediction = Predict(model.recipe, grid, selection.time_points());
  if (!prediction.ok()) {
    *plan.add_reasons() = ReasonFrom(prediction.status());
    return plan;
  }
  plan.set_windows(prediction->windows);
  std::optional<Place> best;
  bool may_fit = false;
  for (const PlanDevice& device : devices) {
    may_fit = may_fit || !device.warm;
    if (!device.warm) continue;
    const Place place = PlaceOn(device, model.recipe, *prediction);
    if (!best || IsBetter(place, *best)) best = place;
  }
  plan.set_predicted_bytes(best ? best->bytes : std::max(prediction->cpu_bytes, prediction->gpu_bytes));
  plan.set_predicted_seconds(best ? best->seconds : RunSeconds(model.recipe, *prediction, {}, {}));
  if (best && !best->fits && !may_fit) {
    plan.set_applicable(false);
    *plan.add_reasons() = ReasonFrom(best->too_large);
  }
  return plan;
}

}  // namespace tomoserve::dispatch
