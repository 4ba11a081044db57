#include "tomoserve/volume/run_bytes.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/volume/window_cells.h"

namespace tomoserve::volume {
namespace {

constexpr std::uint64_t kFloat = sizeof(float);
constexpr std::uint64_t kLabel = sizeof(std::uint16_t);
constexpr std::uint64_t kLongestStored = 4;  // bytes of a stored value
constexpr std::uint64_t kPiece = kPieceValues;
// No run has more of either; products of what is cut to them fit into 64 bits.
constexpr std::uint64_t kMostVoxels = std::uint64_t{1} << 40;
constexpr std::uint64_t kMostOnAxis = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostChannels = std::uint64_t{1} << 16;
constexpr std::uint64_t kMostInputs = 64;
constexpr std::uint64_t kMostPreparations = 32;
constexpr std::uint32_t kFewestChannelsInPieces = 4;

std::uint64_t OnAxis(std::uint64_t n) { return std::min(n, kMostOnAxis); }

std::uint64_t Voxels(const std::array<std::uint64_t, 3>& size) {
  return std::min(OnAxis(size[0]) * OnAxis(size[1]) * OnAxis(size[2]), kMostVoxels);
}

std::uint64_t Channels(const RunArrays& arrays) { return std::min(arrays.channels, kMostChannels); }

std::uint64_t Inputs(const RunArrays& arrays) {
  return std::clamp<std::uint64_t>(arrays.inputs, 1, kMostInputs);
}

// Prepared volumes that are there at a time.
std::uint64_t PreparedVolumes(const RunArrays& arrays) {
  return Inputs(arrays) * std::clamp<std::uint64_t>(arrays.preparations, 1, kMostPreparations);
}

// While the last volume is prepared: the other ones, and what a crop or a region over all inputs has to see
// of them before.
std::uint64_t OtherInputBytes(const RunArrays& arrays) {
  const bool all_first = arrays.cropped || arrays.nonzero_region;
  const std::uint64_t of_volumes = all_first ? (Inputs(arrays) - 1) * Voxels(arrays.volume_ijk) : 0;
  return ((PreparedVolumes(arrays) - 1) * Voxels(arrays.prepared_ijk) + of_volumes) * kFloat;
}

// Of the region that labels are kept in.
std::uint64_t KeptRegionBytes(const RunArrays& arrays) {
  return arrays.kept_region ? Voxels(arrays.volume_ijk) : 0;
}

// Of the labels and scores of a composite's parts, on the grid where they are made.
std::uint64_t PaintedBytes(const RunArrays& arrays) {
  if (!arrays.composite) return 0;
  return std::max(Voxels(arrays.prepared_ijk), Voxels(arrays.volume_ijk)) * (kLabel + kFloat);
}

std::uint64_t HeadValues(const RunArrays& arrays) { return std::min(arrays.head_values, kMostVoxels); }

std::uint64_t StagingBytes(const RunArrays& arrays) {
  const std::uint64_t plane = OnAxis(arrays.volume_ijk[0]) * OnAxis(arrays.volume_ijk[1]);
  return std::max<std::uint64_t>(kStagingBytes, plane * kLongestStored);
}

// Where the window depends on the volume: what is cut for the network, the network's own copy, and its
// answer.
std::uint64_t WindowBytes(const RunArrays& arrays) {
  return std::min(arrays.window, kMostVoxels) * (Channels(arrays) + 2 * Inputs(arrays)) * kFloat;
}

// Of the two arrays that resampling passes through at the same time. Splines go axis by axis, first along
// those that become smaller.
std::uint64_t ResamplingBytes(const RunArrays& arrays) {
  const std::uint64_t of_volume = Voxels(arrays.volume_ijk);
  const std::uint64_t of_prepared = Voxels(arrays.prepared_ijk);
  if (!arrays.cubic) return (of_volume + of_prepared) * kFloat;
  std::uint64_t after_first = 0;
  std::uint64_t before_last = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t in = std::max<std::uint64_t>(OnAxis(arrays.volume_ijk[axis]), 1);
    const std::uint64_t out = std::max<std::uint64_t>(OnAxis(arrays.prepared_ijk[axis]), 1);
    if (out < in) after_first = std::max(after_first, of_volume / in * out);
    if (out > in) before_last = std::max(before_last, of_prepared / out * in);
  }
  return std::max({of_volume + after_first, before_last + of_prepared, of_volume + of_prepared}) * kFloat;
}

// The largest plane that resampling passes through: of two axes, each before or after it.
std::uint64_t LargestPlane(const RunArrays& arrays) {
  std::uint64_t plane = 1;
  for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
    plane *= std::max(OnAxis(arrays.prepared_ijk[axis]), OnAxis(arrays.volume_ijk[axis]));
  }
  return plane;
}

}  // namespace

RunArrays ArraysOf(const Geometry& volume, const Reorientation& reorientation,
                   const std::array<std::uint64_t, 3>& prepared_xyz, std::uint64_t channels) {
  RunArrays arrays;
  arrays.channels = channels;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    arrays.volume_ijk[axis] = volume.size_ijk()[axis];
    arrays.prepared_ijk[static_cast<std::size_t>(reorientation.source_axis[axis])] = prepared_xyz[axis];
  }
  return arrays;
}

void CountPreparation(const v1::Recipe& recipe, RunArrays& arrays) {
  const v1::Preparation& preparation = recipe.preparation();
  const auto fills_holes = [](const auto& steps) {
    return std::any_of(steps.begin(), steps.end(),
                       [](const v1::IntensityStep& step) { return step.z_score().fill_holes(); });
  };
  arrays.inputs = static_cast<std::uint64_t>(std::max(1, recipe.inputs_size()));
  arrays.composite = recipe.network().parts_size() > 0;
  arrays.cropped = preparation.has_crop();
  arrays.cubic = preparation.spacing().interpolation() == v1::INTERPOLATION_CUBIC;
  arrays.nonzero_region =
      fills_holes(preparation.intensity()) ||
      std::any_of(recipe.inputs().begin(), recipe.inputs().end(),
                  [&](const v1::Input& input) { return fills_holes(input.intensity()); }) ||
      std::any_of(recipe.network().parts().begin(), recipe.network().parts().end(),
                  [&](const v1::Part& part) { return fills_holes(part.intensity()); });
  arrays.kept_region = std::any_of(recipe.decode().begin(), recipe.decode().end(),
                                   [](const v1::DecodeStep& step) { return step.has_keep_in_region(); });
  arrays.model_objects = std::any_of(recipe.findings().begin(), recipe.findings().end(),
                                     [](const v1::FindingRule& rule) { return rule.on_model_grid(); });
}

std::uint64_t HeadValues(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  constexpr double kDeltas = 6;
  if (recipe.decode_size() != 1 || !recipe.decode(0).has_detect_boxes()) return 0;
  const v1::DetectBoxes& boxes = recipe.decode(0).detect_boxes();
  // As doubles: what fields of a recipe multiply to need not fit into 64 bits.
  const auto at = [](const auto& field, int axis) {
    return axis < field.size() ? std::max(1.0, static_cast<double>(field.Get(axis))) : 1.0;
  };
  std::array<double, 3> padded{};
  double voxels = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const auto size = static_cast<double>(prepared_xyz[static_cast<std::size_t>(axis)]);
    const double multiple = at(boxes.pad_to_multiple_of(), axis);
    padded[static_cast<std::size_t>(axis)] = std::ceil(size / multiple) * multiple;
    voxels *= size;
  }
  const bool whole = voxels < static_cast<double>(boxes.whole_below_voxels());
  const auto product = [&](auto size_on_axis) { return size_on_axis(0) * size_on_axis(1) * size_on_axis(2); };
  const auto window = [&](int axis) {
    return whole ? padded[static_cast<std::size_t>(axis)] : at(recipe.windows().size(), axis);
  };
  const auto all = [&](int axis) { return std::max(padded[static_cast<std::size_t>(axis)], window(axis)); };
  const double of_cell = boxes.anchors_size() * (recipe.network().output_channels() + kDeltas);
  double values = 2.0 * std::max(1, recipe.inputs_size()) * product(window);
  for (const v1::BoxLevel& level : boxes.levels()) {
    const double stride = product([&](int axis) { return at(level.stride(), axis); });
    values += product(window) / stride * of_cell;
    if (!whole) values += product(all) / stride * (of_cell + 1);
  }
  return static_cast<std::uint64_t>(std::min(values, static_cast<double>(kMostVoxels)));
}

bool MakesLabelsInPieces(const v1::Recipe& recipe) {
  const v1::Windows& windows = recipe.windows();
  if (windows.layout() != v1::WINDOW_LAYOUT_MONAI && windows.layout() != v1::WINDOW_LAYOUT_SLICES)
    return false;
  std::uint32_t channels = recipe.network().output_channels();
  for (const v1::Part& part : recipe.network().parts()) channels = std::max(channels, part.output_channels());
  if (channels < kFewestChannelsInPieces) return false;
  const bool resampled = recipe.preparation().has_spacing();
  bool labelled = false;
  bool on_volume_grid = false;
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_fill_holes() || step.has_detect_boxes()) return false;
    if (step.has_activation() && on_volume_grid) return false;
    // Between two labels lies a third one, whose scores are gone by then.
    if (labelled && resampled && step.to_volume_grid().interpolation() == v1::INTERPOLATION_LINEAR)
      return false;
    on_volume_grid = on_volume_grid || step.has_to_volume_grid();
    if (on_volume_grid && resampled && !labelled) return false;
    labelled = labelled || step.has_arg_max() || step.has_threshold();
  }
  return labelled;
}

std::uint64_t OpenVoxels(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  if (!MakesLabelsInPieces(recipe)) return 0;
  const v1::Windows& windows = recipe.windows();
  std::array<std::uint64_t, 3> size{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    size[axis] = std::max<std::uint64_t>(OnAxis(prepared_xyz[axis]), 1);
  }
  if (windows.layout() == v1::WINDOW_LAYOUT_SLICES) return size[0] * size[1];
  if (windows.size_size() != 3 || !(windows.overlap() >= 0 && windows.overlap() < 1)) return 0;
  std::array<std::uint64_t, 3> window{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    window[axis] = windows.size(static_cast<int>(axis));
    if (window[axis] == 0) window[axis] = size[axis];
  }
  // What a crop leaves may be more at a time, as its last windows overlap more: never more than two windows
  // begin and end in the cells that are open along the first axis, and these are joined where they are small.
  if (recipe.preparation().has_crop()) {
    return std::min(2 * window[0] + 2 * (window[0] / 8), size[0]) * size[1] * size[2];
  }
  std::array<AxisCells, 3> cells;
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto voxels = static_cast<std::int64_t>(size[axis]);
    const auto of_window = static_cast<std::int64_t>(window[axis]);
    const std::vector<std::int64_t> starts = MonaiStarts(voxels, of_window, windows.overlap());
    count *= static_cast<std::int64_t>(starts.size());
    if (count > kMaxWindows) return 0;  // no run has so many
    cells[axis] = CellsOf(starts, of_window, voxels);
  }
  return MostOpenVoxels(cells);
}

// Before the windows the volumes and the prepared copies or the region, then the prepared volumes, the sums
// and a window, after them the sums and the weights, then labels on the model grid in place of the weights.
// In pieces labels and scores take the place of what is not open. The parts of a composite that come keep
// their prepared volumes.
std::uint64_t LoopBytes(const RunArrays& arrays) {
  const std::uint64_t of_prepared = Voxels(arrays.prepared_ijk);
  const std::uint64_t of_volume = Voxels(arrays.volume_ijk);
  const std::uint64_t inputs = Inputs(arrays);
  const std::uint64_t before =
      std::max(ResamplingBytes(arrays),
               (of_volume + of_prepared) * kFloat + (arrays.nonzero_region ? of_volume : 0)) +
      OtherInputBytes(arrays) + (arrays.nonzero_region && inputs > 1 ? of_volume : 0);
  if (arrays.head_values > 0) return std::max(before, (of_prepared * inputs + HeadValues(arrays)) * kFloat);
  const std::uint64_t of_crop = arrays.cropped ? of_volume * kLabel : 0;
  const std::uint64_t volumes = PreparedVolumes(arrays);
  std::uint64_t between = of_prepared * (Channels(arrays) + volumes) * kFloat + WindowBytes(arrays);
  const std::uint64_t of_sums = of_prepared * Channels(arrays) * kFloat;
  // Of a composite's parts: what has been painted, and what the part that ends has made.
  const std::uint64_t painted = PaintedBytes(arrays);
  std::uint64_t after = std::max(of_sums + of_prepared * kFloat, of_sums + of_prepared * kLabel + of_crop);
  if (arrays.composite) {
    after = of_prepared * volumes * kFloat +
            std::max(of_sums + of_prepared * kFloat + painted, of_sums + 2 * painted);
  }
  if (arrays.open_voxels > 0) {
    const std::uint64_t open = std::min(arrays.open_voxels, of_prepared);
    // Of a cell that has become final also its labels and scores; the weights of one window.
    between = of_prepared * (volumes * kFloat + kLabel + kFloat) +
              open * ((Channels(arrays) + 2) * kFloat + kLabel) + WindowBytes(arrays) +
              std::min(arrays.window, kMostVoxels) * kFloat;
    // Labels of two types for a moment; a composite's are those that are painted.
    after =
        (arrays.composite ? painted + of_prepared * kLabel : of_prepared * (2 * kLabel + kFloat)) + of_crop;
  }
  return std::max({before, between + painted, after}) + KeptRegionBytes(arrays);
}

std::uint64_t DeviceBytes(const RunArrays& arrays) {
  const std::uint64_t of_volume = Voxels(arrays.volume_ijk);
  const std::uint64_t of_prepared = Voxels(arrays.prepared_ijk);
  const std::uint64_t channels = Channels(arrays);
  const std::uint64_t inputs = Inputs(arrays);
  const std::uint64_t plane = LargestPlane(arrays);
  // Three stored copies and, of one, integers and doubles: of a byte eight at most.
  const std::uint64_t crop = arrays.cropped ? of_volume : 0;
  const std::uint64_t upload =
      of_volume * kFloat + StagingBytes(arrays) * (3 + 8 + 4) + OtherInputBytes(arrays);
  // A mix holds what it reads from, low, high and their difference; a statistic doubles and masks.
  const std::uint64_t prepare = std::max(ResamplingBytes(arrays), (of_volume + crop) * kFloat) +
                                (arrays.nonzero_region ? of_volume : 0) +
                                std::max(kPiece, plane) * 4 * kFloat + OtherInputBytes(arrays);
  if (arrays.head_values > 0) {
    return std::max({upload, prepare, (of_prepared * inputs + HeadValues(arrays)) * kFloat});
  }
  // Prepared volumes or weights, sums, labels of both grids; of one piece the scores read, mixed and
  // activated, channel numbers and indices.
  const std::uint64_t volumes = PreparedVolumes(arrays);
  const std::uint64_t painted = PaintedBytes(arrays);
  const std::uint64_t finish = of_prepared * (channels + volumes) * kFloat +
                               (of_volume + crop + of_prepared) * kLabel +
                               std::max(kPiece, plane * channels) * 6 * kFloat + 2 * painted;
  const std::uint64_t forward = of_prepared * (channels + volumes) * kFloat + WindowBytes(arrays) + painted;
  return std::max({upload, prepare, forward, finish}) + KeptRegionBytes(arrays);
}

// Staging, samples of enclosed air, and the model grid's labels; with plain loops and on a device these take
// no more than what is gone by then.
std::uint64_t HostBytesBesideDevice(const RunArrays& arrays) {
  const std::uint64_t model_labels = arrays.model_objects ? Voxels(arrays.prepared_ijk) * kLabel : 0;
  return 3 * StagingBytes(arrays) + Voxels(arrays.volume_ijk) + KeptRegionBytes(arrays) + model_labels;
}

absl::Status CheckRunFits(std::uint64_t needed, std::uint64_t limit, std::uint64_t resident,
                          std::string_view where) {
  const std::uint64_t free = limit - std::min(limit, resident);
  if (needed <= free) return absl::OkStatus();
  return base::Error(absl::StatusCode::kResourceExhausted, "RUN_TOO_LARGE", std::to_string(needed),
                     "the run needs more memory than " + std::string(where) +
                         " has for it: " + std::to_string(free) + " bytes beside the loaded models");
}

}  // namespace tomoserve::volume
