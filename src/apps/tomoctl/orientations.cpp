#include "apps/tomoctl/orientations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/geometry.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::tomoctl {
namespace {

using Names = std::map<std::uint32_t, std::string>;

constexpr std::array<const char*, 3> kSwaps = {"left-right swap", "front-back swap", "head-feet swap"};
// Of grids that should be one.
constexpr double kGridMm = 0.01;
constexpr int kNoFlip = -1;
// Which axes are turned round, by their bits: the first half turns each of them too.
constexpr std::array<unsigned, 8> kTurns = {0, 3, 5, 6, 1, 2, 4, 7};

// Voxels of the other array, along one axis from its other end.
std::size_t Flipped(std::size_t index, const std::array<std::uint32_t, 3>& size, int axis) {
  if (axis == kNoFlip) return index;
  std::size_t step = 1;
  for (int d = 0; d < axis; ++d) step *= size[static_cast<std::size_t>(d)];
  const std::size_t length = size[static_cast<std::size_t>(axis)];
  const std::size_t place = index / step % length;
  return index + (length - 1 - place) * step - place * step;
}

struct Overlaps {
  std::map<std::uint32_t, std::uint64_t> first;  // voxels by label, without the background
  std::map<std::uint32_t, std::uint64_t> other;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> both;

  double Dice(std::uint32_t in_first, std::uint32_t in_other) const {
    const auto count = [](const auto& map, const auto& key) {
      const auto found = map.find(key);
      return found == map.end() ? 0.0 : static_cast<double>(found->second);
    };
    const double sum = count(first, in_first) + count(other, in_other);
    return sum == 0 ? 1 : 2 * count(both, std::pair(in_first, in_other)) / sum;
  }
  std::set<std::uint32_t> labels() const {
    std::set<std::uint32_t> all;
    for (const auto& [label, count] : first) all.insert(label);
    for (const auto& [label, count] : other) all.insert(label);
    return all;
  }
};

Overlaps Count(const PatientAnswer& first, const PatientAnswer& other, int flip) {
  Overlaps overlaps;
  for (std::size_t index = 0; index < first.labels.size(); ++index) {
    const std::uint16_t a = first.labels[index];
    const std::uint16_t b = other.labels[Flipped(index, first.size_xyz, flip)];
    if (a != 0) ++overlaps.first[a];
    if (b != 0) ++overlaps.other[b];
    if (a != 0 && b != 0) ++overlaps.both[{a, b}];
  }
  return overlaps;
}

struct Lowest {
  double dice = 1;
  std::uint32_t label = 0;
};

Lowest LowestDice(const Overlaps& overlaps) {
  Lowest lowest;
  for (const std::uint32_t label : overlaps.labels()) {
    const double dice = overlaps.Dice(label, label);
    if (dice < lowest.dice) lowest = {dice, label};
  }
  return lowest;
}

std::string NameOf(const Names& names, std::uint32_t label) {
  const auto name = names.find(label);
  return name == names.end() ? absl::StrCat("label ", label) : name->second;
}

// Mean place of a label in voxels; nothing where there is none of it.
std::optional<std::array<double, 3>> CentreOf(const PatientAnswer& answer, std::uint32_t label) {
  std::array<double, 3> sum{};
  std::uint64_t count = 0;
  const auto& size = answer.size_xyz;
  for (std::size_t index = 0; index < answer.labels.size(); ++index) {
    if (answer.labels[index] != label) continue;
    ++count;
    sum[0] += static_cast<double>(index % size[0]);
    sum[1] += static_cast<double>(index / size[0] % size[1]);
    sum[2] += static_cast<double>(index / size[0] / size[1] % size[2]);
  }
  if (count == 0) return std::nullopt;
  for (double& coordinate : sum) coordinate /= static_cast<double>(count);
  return sum;
}

// Two labels that have taken each other's place, named by the axis along which these lie apart.
std::optional<std::string> ExchangedLabels(const PatientAnswer& first, const Overlaps& overlaps,
                                           const Names& names) {
  for (const auto& [pair, count] : overlaps.both) {
    const auto [a, b] = pair;
    if (a == b || overlaps.Dice(a, b) < kSameAnswer || overlaps.Dice(b, a) < kSameAnswer) continue;
    const auto centre_a = CentreOf(first, a);
    const auto centre_b = CentreOf(first, b);
    if (!centre_a || !centre_b) continue;
    std::size_t axis = 0;
    const auto apart = [&](std::size_t d) { return std::abs((*centre_a)[d] - (*centre_b)[d]); };
    for (std::size_t d = 1; d < 3; ++d) axis = apart(d) > apart(axis) ? d : axis;
    return absl::StrCat(kSwaps[axis], ": ", NameOf(names, a), " and ", NameOf(names, b));
  }
  return std::nullopt;
}

std::array<std::array<double, 2>, 3> BoxOf(const v1::Finding& finding, int flip) {
  const v1::PointLps& min = finding.box_lps().min();
  const v1::PointLps& max = finding.box_lps().max();
  std::array<std::array<double, 2>, 3> box{
      {{min.x_mm(), max.x_mm()}, {min.y_mm(), max.y_mm()}, {min.z_mm(), max.z_mm()}}};
  if (flip != kNoFlip) {
    auto& range = box[static_cast<std::size_t>(flip)];
    range = {-range[1], -range[0]};
  }
  return box;
}

// Share of the longer table that has a partner in the other one.
double MatchedBoxes(const PatientAnswer& first, const PatientAnswer& other, int flip, double voxel_mm) {
  std::vector<bool> taken(other.boxes.size());
  std::size_t matched = 0;
  for (const v1::Finding& finding : first.boxes) {
    const auto box = BoxOf(finding, kNoFlip);
    std::size_t best = taken.size();
    double best_mm = voxel_mm;
    for (std::size_t n = 0; n < taken.size(); ++n) {
      if (taken[n] || other.boxes[n].label_value() != finding.label_value()) continue;
      const auto place = BoxOf(other.boxes[n], flip);
      double worst = 0;
      for (std::size_t d = 0; d < 3; ++d) {
        for (std::size_t side = 0; side < 2; ++side)
          worst = std::max(worst, std::abs(box[d][side] - place[d][side]));
      }
      if (worst <= best_mm) {
        best = n;
        best_mm = worst;
      }
    }
    if (best == taken.size()) continue;
    taken[best] = true;
    ++matched;
  }
  const std::size_t most = std::max(first.boxes.size(), other.boxes.size());
  return most == 0 ? 1 : static_cast<double>(matched) / static_cast<double>(most);
}

Comparison Judge(double as_it_is, const std::array<double, 3>& mirrored, const std::string& otherwise) {
  Comparison result{as_it_is >= kSameAnswer, as_it_is, ""};
  std::vector<std::string> hidden;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (mirrored[axis] < kSameAnswer || mirrored[axis] < as_it_is) continue;
    if (mirrored[axis] > as_it_is) {
      result.same = false;
      result.text = kSwaps[axis];
      return result;
    }
    hidden.emplace_back(kSwaps[axis]);
  }
  if (!result.same) result.text = otherwise;
  if (!hidden.empty()) {
    result.text = absl::StrCat("the answer is symmetric: no ", absl::StrJoin(hidden, ", no "), " would show");
  }
  return result;
}

absl::Status WrongSize(std::size_t bytes) {
  return base::Error(absl::StatusCode::kDataLoss, "LABEL_MAP_SIZE", absl::StrCat(bytes),
                     "the label map's size does not fit its grid and layers");
}

}  // namespace

std::vector<std::string> OrientationsFor(const v1::Recipe& recipe) {
  std::set<int> planes = {v1::PLANE_AXIAL, v1::PLANE_CORONAL, v1::PLANE_SAGITTAL};
  for (const v1::Input& input : recipe.inputs()) {
    if (input.planes().empty()) continue;
    const std::set<int> accepted(input.planes().begin(), input.planes().end());
    std::erase_if(planes, [&](int plane) { return !accepted.contains(plane); });
  }
  if (planes.size() == 3) return {"LPS", "RPS", "LAS", "RAI", "LIP", "RSA", "PIL", "ASR"};
  const std::map<int, std::string> usual = {
      {v1::PLANE_AXIAL, "LPS"}, {v1::PLANE_CORONAL, "LIP"}, {v1::PLANE_SAGITTAL, "PIL"}};
  const std::map<char, char> against = {{'L', 'R'}, {'R', 'L'}, {'A', 'P'},
                                        {'P', 'A'}, {'S', 'I'}, {'I', 'S'}};
  std::vector<std::string> orientations;
  for (const int plane : planes) {
    for (std::size_t n = 0; n < kTurns.size() / planes.size(); ++n) {
      std::string code = usual.at(plane);
      for (unsigned axis = 0; axis < 3; ++axis) {
        if ((kTurns[n] >> axis & 1U) != 0) code[axis] = against.at(code[axis]);
      }
      orientations.push_back(code);
    }
  }
  return orientations;
}

bool PatientAnswer::empty() const {
  return boxes.empty() &&
         std::all_of(labels.begin(), labels.end(), [](std::uint16_t label) { return label == 0; });
}

absl::StatusOr<PatientAnswer> InPatientAxes(const v1::Run& run, const v1::LabelMapInfo& info,
                                            const std::string& payload) {
  PatientAnswer answer;
  if (!run.has_label_map()) {
    answer.boxes.assign(run.findings().begin(), run.findings().end());
    return answer;
  }
  TS_ASSIGN_OR_RETURN(const volume::Geometry grid, volume::Geometry::FromProto(info.grid()));
  TS_ASSIGN_OR_RETURN(const volume::Reorientation turn, volume::ReorientationTo(grid, "LPS"));
  TS_ASSIGN_OR_RETURN(const volume::Geometry turned, volume::Reoriented(grid, turn));
  const std::size_t bytes = info.bytes_per_voxel();
  if (bytes != 1 && bytes != 2) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LABEL_MAP_TYPE", absl::StrCat(bytes),
                       "the label map's voxels have neither 1 byte nor 2");
  }
  const auto layers = static_cast<std::size_t>(std::max(info.layers_size(), 1));
  const std::size_t voxels = grid.voxels();
  if (info.time_points() > 1 || payload.size() % (bytes * layers) != 0 ||
      payload.size() / (bytes * layers) != voxels) {
    return WrongSize(payload.size());
  }
  answer.size_xyz = turned.size_ijk();
  answer.origin_mm = turned.origin_lps().mm;
  const auto& stored_size = grid.size_ijk();
  const std::array<std::size_t, 3> stored_step = {1, stored_size[0],
                                                  std::size_t{stored_size[0]} * stored_size[1]};
  const auto& size = answer.size_xyz;
  answer.labels.reserve(voxels * layers);
  const auto place = [&](std::size_t axis, std::size_t index) {
    const std::size_t along = turn.flip[axis] ? size[axis] - 1 - index : index;
    return along * stored_step[static_cast<std::size_t>(turn.source_axis[axis])];
  };
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t z = 0; z < size[2]; ++z) {
      for (std::size_t y = 0; y < size[1]; ++y) {
        for (std::size_t x = 0; x < size[0]; ++x) {
          const std::size_t from = layer * voxels + place(2, z) + place(1, y) + place(0, x);
          std::uint16_t label = static_cast<unsigned char>(payload[from]);
          if (bytes == 2) std::memcpy(&label, payload.data() + 2 * from, 2);
          answer.labels.push_back(label);
        }
      }
    }
  }
  return answer;
}

Comparison Compare(const PatientAnswer& first, const PatientAnswer& other, const Names& names,
                   double voxel_mm) {
  std::array<double, 3> mirrored{};
  if (first.labels.empty() && other.labels.empty()) {
    for (int axis = 0; axis < 3; ++axis) {
      mirrored[static_cast<std::size_t>(axis)] = MatchedBoxes(first, other, axis, voxel_mm);
    }
    return Judge(MatchedBoxes(first, other, kNoFlip, voxel_mm), mirrored, "boxes are elsewhere");
  }
  bool one_grid = first.size_xyz == other.size_xyz && first.labels.size() == other.labels.size();
  for (std::size_t axis = 0; axis < 3; ++axis) {
    one_grid = one_grid && std::abs(first.origin_mm[axis] - other.origin_mm[axis]) <= kGridMm;
  }
  if (!one_grid) return {false, 0, "the label map lies on another grid"};
  const Overlaps overlaps = Count(first, other, kNoFlip);
  const Lowest lowest = LowestDice(overlaps);
  if (lowest.dice < kSameAnswer) {
    if (const auto exchanged = ExchangedLabels(first, overlaps, names))
      return {false, lowest.dice, *exchanged};
  }
  for (int axis = 0; axis < 3; ++axis) {
    mirrored[static_cast<std::size_t>(axis)] = LowestDice(Count(first, other, axis)).dice;
  }
  return Judge(lowest.dice, mirrored, absl::StrCat(NameOf(names, lowest.label), " is elsewhere"));
}

std::vector<std::string> WrongSides(const PatientAnswer& answer, const Names& names) {
  std::vector<std::string> wrong;
  for (const auto& [left, name] : names) {
    const std::string lower = absl::AsciiStrToLower(name);
    const std::size_t at = lower.find("left");
    if (at == std::string::npos) continue;
    const std::string partner = lower.substr(0, at) + "right" + lower.substr(at + 4);
    for (const auto& [right, other_name] : names) {
      if (absl::AsciiStrToLower(other_name) != partner) continue;
      const auto left_centre = CentreOf(answer, left);
      const auto right_centre = CentreOf(answer, right);
      if (left_centre && right_centre && (*left_centre)[0] < (*right_centre)[0]) {
        wrong.push_back(absl::StrCat(name, " lies to the right of ", other_name));
      }
    }
  }
  return wrong;
}

}  // namespace tomoserve::tomoctl
