#include "apps/tomoctl/known_answer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/tomoctl/known_answer_files.h"
#include "apps/tomoctl/phantom_files.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr char kVolumeFile[] = "known_answer.npy";
constexpr char kLabelsFile[] = "known_answer_labels.npy";
// What other kinds of devices can meet: a thousandth of the labelled voxels and, where there are few, three
// voxels, which lie at a threshold; a tenth of a millimetre; five thousandths of a score.
constexpr double kDifferingVoxels = 0.001;
constexpr double kFewVoxels = 3;
constexpr double kBoxMm = 0.1;
constexpr double kBoxScore = 0.005;
// The recipe's upper bound.
constexpr double kMostDiffering = 0.1;
// Of grids that are one, mm.
constexpr double kGridMm = 1e-6;

// Shortest decimal that is the number.
std::string Exact(double value) {
  std::array<char, 32> text{};
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), result.ptr};
}

template <typename Values>
std::string List(const Values& values) {
  std::string text = "[";
  for (const auto& value : values) {
    absl::StrAppend(&text, text.size() > 1 ? ", " : "", Exact(static_cast<double>(value)));
  }
  return text + "]";
}

std::string GeometryText(const v1::Geometry& grid) {
  const v1::PointLps& origin = grid.origin_lps();
  return absl::StrCat("  geometry {\n    size_ijk: ", List(grid.size_ijk()),
                      "\n    spacing_mm: ", List(grid.spacing_mm()),
                      "\n    origin_lps { x_mm: ", Exact(origin.x_mm()), " y_mm: ", Exact(origin.y_mm()),
                      " z_mm: ", Exact(origin.z_mm()), " }\n    direction_i: ", List(grid.direction_i()),
                      "\n    direction_j: ", List(grid.direction_j()),
                      "\n    direction_k: ", List(grid.direction_k()), "\n  }\n");
}

std::string BoxText(const v1::Finding& finding) {
  const v1::PointLps& centre = finding.centre_lps();
  return absl::StrCat("  boxes { label: ", finding.label_value(), " center_lps: [", Exact(centre.x_mm()),
                      ", ", Exact(centre.y_mm()), ", ", Exact(centre.z_mm()),
                      "] size_mm: ", List(finding.extent_mm()), " score: ", Exact(finding.score()), " }\n");
}

bool IsSameGrid(const volume::Geometry& grid, const v1::Geometry& other) {
  const auto read = volume::Geometry::FromProto(other);
  if (!read.ok() || read->size_ijk() != grid.size_ijk()) return false;
  const auto& size = grid.size_ijk();
  for (unsigned corner = 0; corner < 8; ++corner) {
    volume::ContinuousVoxel voxel;
    for (unsigned axis = 0; axis < 3; ++axis)
      voxel.ijk[axis] = (corner >> axis & 1U) != 0 ? size[axis] - 1 : 0;
    const auto here = grid.ToLps(voxel).mm;
    const auto there = read->ToLps(voxel).mm;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (!(std::abs(here[axis] - there[axis]) <= kGridMm)) return false;
    }
  }
  return true;
}

std::vector<std::uint64_t> ShapeOf(const volume::Geometry& grid) {
  const auto& [i, j, k] = grid.size_ijk();
  return {k, j, i};
}

KnownAnswerFile VolumeFile(const models::Model& model, const phantom::Options& options,
                           const phantom::Phantom& part) {
  const auto channels = static_cast<std::uint32_t>(model.recipe.inputs_size());
  std::vector<std::uint64_t> shape = ShapeOf(part.geometry);
  if (channels > 1) shape.insert(shape.begin(), channels);
  std::vector<std::int16_t> values;
  for (std::uint32_t channel = 0; channel < channels; ++channel) {
    const std::vector<std::int16_t> more = ValuesOfChannel(options, part, channel);
    values.insert(values.end(), more.begin(), more.end());
  }
  return {kVolumeFile, ArrayBytes(shape, "<i2", std::as_bytes(std::span(values)))};
}

absl::StatusOr<KnownAnswerFile> LabelsFile(const phantom::Phantom& part, const Outcome& outcome) {
  const std::uint32_t bytes = outcome.label_map.bytes_per_voxel();
  if (!IsSameGrid(part.geometry, outcome.label_map.grid()) ||
      outcome.labels.size() != part.geometry.voxels() * bytes) {
    return base::Error(absl::StatusCode::kInternal, "GEOMETRY_INVALID", "grid",
                       "the server saw the phantom on another grid");
  }
  return KnownAnswerFile{kLabelsFile, ArrayBytes(ShapeOf(part.geometry), bytes == 1 ? "|u1" : "<u2",
                                                 std::as_bytes(std::span(outcome.labels)))};
}

std::string LabelsText(std::uint64_t voxels) {
  // Rounded up, so that so many voxels may differ.
  const double few = std::ceil(kFewVoxels / static_cast<double>(voxels) * 1e4) / 1e4;
  const double tolerance = std::min(std::max(kDifferingVoxels, few), kMostDiffering);
  return absl::StrCat("  labels: \"", kLabelsFile, "\"\n  differing_voxels: ", Exact(tolerance), "\n");
}

}  // namespace

absl::StatusOr<phantom::Phantom> PartAround(const phantom::Phantom& phantom, const volume::LpsPoint& point,
                                            const std::array<std::uint32_t, 3>& most_ijk) {
  const auto& size = phantom.geometry.size_ijk();
  const volume::ContinuousVoxel at = phantom.geometry.ToVoxel(point);
  std::array<std::uint32_t, 3> first{};
  std::array<std::uint32_t, 3> part_size{};
  volume::ContinuousVoxel origin;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    part_size[axis] = std::min(size[axis], most_ijk[axis]);
    const double low = std::round(at.ijk[axis] - part_size[axis] / 2.0);
    first[axis] =
        static_cast<std::uint32_t>(std::clamp(low, 0.0, static_cast<double>(size[axis] - part_size[axis])));
    origin.ijk[axis] = first[axis];
  }
  TS_ASSIGN_OR_RETURN(
      const volume::Geometry grid,
      volume::Geometry::Create(part_size, phantom.geometry.spacing_mm(), phantom.geometry.ToLps(origin),
                               phantom.geometry.directions()));
  phantom::Phantom part{.geometry = grid, .values = {}, .nodules = {}, .look_alikes = {}, .labels = {}};
  part.values.reserve(grid.voxels());
  for (std::size_t k = 0; k < part_size[2]; ++k) {
    for (std::size_t j = 0; j < part_size[1]; ++j) {
      const std::size_t row = ((first[2] + k) * size[1] + first[1] + j) * size[0] + first[0];
      const auto begin = phantom.values.begin() + static_cast<std::ptrdiff_t>(row);
      part.values.insert(part.values.end(), begin, begin + part_size[0]);
    }
  }
  return part;
}

absl::Status CanKnow(const models::Model& model) {
  if (model.recipe.has_known_answer()) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "KNOWN_ANSWER_EXISTS",
                       model.recipe.known_answer().volume(),
                       "take the block known_answer out of the recipe first: it may be what would differ");
  }
  if (model.recipe.has_region()) {
    return base::Error(absl::StatusCode::kUnimplemented, "CHECK_UNSUPPORTED", "region",
                       "a recipe with a region has no known answer: it would need another model's labels");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> WriteKnownAnswer(const fs::path& version, const models::Model& model,
                                             const phantom::Options& options, const phantom::Phantom& part,
                                             const Outcome& outcome) {
  if (outcome.answer.empty()) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "KNOWN_ANSWER_EMPTY", "",
                       "the model marks nothing in the part of the phantom: any network would pass");
  }
  const bool boxes = models::DetectorOf(model.recipe) != nullptr;
  std::string block = absl::StrCat(
      "\n# Written by tomoctl model check --write-known-answer: a part of the phantom, and what this "
      "version\n"
      "# said of it on a CPU.\nknown_answer {\n  volume: \"",
      kVolumeFile, "\"\n", GeometryText(part.geometry.ToProto()));
  std::string what;
  std::vector<KnownAnswerFile> files;
  files.push_back(VolumeFile(model, options, part));
  if (boxes) {
    for (const v1::Finding& finding : outcome.run.findings()) block += BoxText(finding);
    absl::StrAppend(&block, "  box_mm: ", Exact(kBoxMm), "\n  box_score: ", Exact(kBoxScore), "\n");
    what = absl::StrCat(outcome.run.findings_size(), " boxes");
  } else {
    TS_ASSIGN_OR_RETURN(KnownAnswerFile labels, LabelsFile(part, outcome));
    files.push_back(std::move(labels));
    std::uint64_t voxels = 0;
    for (const std::uint16_t label : outcome.answer.labels) voxels += label != 0 ? 1 : 0;
    block += LabelsText(voxels);
    what = absl::StrCat(voxels, " labelled voxels");
  }
  block += "}\n";
  TS_RETURN_IF_ERROR(AddKnownAnswer(version, block, files));
  const auto& size = part.geometry.size_ijk();
  return absl::StrFormat("%s into %s: %s in %u x %u x %u voxels", kVolumeFile, version.string(), what,
                         size[0], size[1], size[2]);
}

}  // namespace tomoserve::tomoctl
