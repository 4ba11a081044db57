#include "tomoserve/models/known_answer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "models/known_answer_scores.h"
#include "models/names.h"
#include "models/recipe_checks.h"
#include "tomoserve/models/npy.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

// A tolerance that lets more pass is none.
constexpr double kMostDiffering = 0.1;
constexpr double kMostBoxMm = 10;
constexpr double kMostBoxScore = 0.1;
constexpr double kMaxMm = 10000;
constexpr double kMaxScore = 1e9;
constexpr int kMaxBoxes = 1000;
// Scores are decimal fractions.
constexpr double kRounding = 1e-9;

absl::Status CheckFile(const std::string& path, const std::string& file) {
  if (IsName(file)) return absl::OkStatus();
  return Invalid(
      path, "a file of the version folder is 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', no leading dot");
}

absl::Status CheckTolerance(const std::string& path, double value, double most) {
  if (value < 0 || value > most) return Invalid(path, absl::StrCat("from 0 to ", most));
  return absl::OkStatus();
}

absl::Status CheckBox(const v1::Recipe& recipe, int index) {
  const v1::KnownBox& box = recipe.known_answer().boxes(index);
  const auto path = [index](std::string_view field) { return Path("known_answer.boxes", index, field); };
  const bool found = std::any_of(recipe.findings().begin(), recipe.findings().end(),
                                 [&](const v1::FindingRule& rule) { return rule.label() == box.label(); });
  if (!found) return Invalid(path("label"), "no rule of findings makes findings of this label");
  if (box.center_lps_size() != 3) return Invalid(path("center_lps"), "three values are required");
  if (box.size_mm_size() != 3) return Invalid(path("size_mm"), "three values are required");
  for (const double mm : box.size_mm()) {
    if (mm <= 0 || mm > kMaxMm) return Invalid(path("size_mm"), "each is above 0, at most 10000");
  }
  if (std::abs(box.score()) > kMaxScore) return Invalid(path("score"), "no score is that large");
  return absl::OkStatus();
}

absl::Status CheckBoxes(const v1::Recipe& recipe) {
  const v1::KnownAnswer& known = recipe.known_answer();
  if (!known.labels().empty()) return Invalid("known_answer.labels", "the recipe makes boxes, no labels");
  if (known.differing_voxels() != 0) {
    return Invalid("known_answer.differing_voxels", "the recipe makes boxes, no labels");
  }
  if (known.boxes().empty()) {
    return Invalid("known_answer.boxes",
                   "at least one is required: a network that finds nothing would pass, too");
  }
  if (known.boxes_size() > kMaxBoxes)
    return Invalid("known_answer.boxes", absl::StrCat("at most ", kMaxBoxes));
  for (int i = 0; i < known.boxes_size(); ++i) TS_RETURN_IF_ERROR(CheckBox(recipe, i));
  TS_RETURN_IF_ERROR(CheckTolerance("known_answer.box_mm", known.box_mm(), kMostBoxMm));
  TS_RETURN_IF_ERROR(CheckTolerance("known_answer.box_score", known.box_score(), kMostBoxScore));
  const bool any_must_be_found =
      std::any_of(known.boxes().begin(), known.boxes().end(), [&](const auto& box) {
        return box.score() > LowestScore(recipe, box.label()) + known.box_score() + kRounding;
      });
  if (any_must_be_found) return absl::OkStatus();
  return Invalid("known_answer.boxes",
                 "no score is above the lowest that the recipe keeps by more than box_score: each box may be "
                 "missing, and a network that finds nothing would pass, too");
}

absl::Status CheckLabelFields(const v1::Recipe& recipe) {
  const v1::KnownAnswer& known = recipe.known_answer();
  TS_RETURN_IF_ERROR(CheckFile("known_answer.labels", known.labels()));
  if (known.labels() == known.volume()) return Invalid("known_answer.labels", "is the volume's file");
  if (!known.boxes().empty()) return Invalid("known_answer.boxes", "the recipe makes labels, no boxes");
  if (known.box_mm() != 0) return Invalid("known_answer.box_mm", "the recipe makes labels, no boxes");
  if (known.box_score() != 0) return Invalid("known_answer.box_score", "the recipe makes labels, no boxes");
  return CheckTolerance("known_answer.differing_voxels", known.differing_voxels(), kMostDiffering);
}

std::string Shown(const std::vector<std::uint64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// `file` with what it holds, as one of these shapes.
absl::StatusOr<NpyArray> ReadArray(const std::string& path, const std::string& file,
                                   const std::vector<std::uint64_t>& shape) {
  const auto array = ReadNpy(file);
  if (!array.ok()) {
    return Invalid(path, absl::StrCat(base::ReasonOf(array.status()), "(", base::ValueOf(array.status()),
                                      "): ", array.status().message()));
  }
  if (array->shape != shape) {
    return Invalid(path, absl::StrCat("the file's shape is ", Shown(array->shape), ", not ", Shown(shape)));
  }
  return *array;
}

absl::StatusOr<std::vector<std::uint16_t>> ReadLabels(const v1::Recipe& recipe, const std::string& file,
                                                      const std::vector<std::uint64_t>& shape) {
  const std::string path = "known_answer.labels";
  TS_ASSIGN_OR_RETURN(const NpyArray array, ReadArray(path, file, shape));
  if (array.type == NpyType::kI16) return Invalid(path, "label values are uint8 or uint16");
  const std::size_t bytes = BytesOf(array.type);
  std::vector<std::uint16_t> labels(array.data.size() / bytes);
  std::set<std::uint16_t> values;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    labels[n] = static_cast<unsigned char>(array.data[n * bytes]);
    if (bytes == 2) std::memcpy(&labels[n], array.data.data() + n * bytes, 2);
    if (n == 0 || labels[n] != labels[n - 1]) values.insert(labels[n]);
  }
  for (const std::uint16_t value : values) {
    if (value != 0 && !HasLabel(recipe, value)) {
      return Invalid(path, absl::StrCat("the file has the value ", value, ", which no label has"));
    }
  }
  if (values == std::set<std::uint16_t>{0}) {
    return Invalid(path, "the file has no label: a network that finds nothing would pass, too");
  }
  return labels;
}

}  // namespace

absl::Status CheckKnownAnswer(const v1::Recipe& recipe) {
  if (!recipe.has_known_answer()) return absl::OkStatus();
  const v1::KnownAnswer& known = recipe.known_answer();
  if (recipe.has_region()) {
    return Unsupported("known_answer",
                       "a recipe with a region has none: it would need another model's labels");
  }
  TS_RETURN_IF_ERROR(CheckFile("known_answer.volume", known.volume()));
  const auto geometry = volume::Geometry::FromProto(known.geometry());
  if (!geometry.ok()) {
    return Invalid(absl::StrCat("known_answer.geometry.", base::ValueOf(geometry.status())),
                   base::ToStd(geometry.status().message()));
  }
  return DetectorOf(recipe) != nullptr ? CheckBoxes(recipe) : CheckLabelFields(recipe);
}

std::vector<std::string> KnownAnswerFiles(const v1::Recipe& recipe) {
  if (!recipe.has_known_answer()) return {};
  std::vector<std::string> files{recipe.known_answer().volume()};
  if (!recipe.known_answer().labels().empty()) files.push_back(recipe.known_answer().labels());
  return files;
}

std::span<const std::byte> KnownCase::Slice(std::uint32_t channel, std::uint32_t k) const {
  const auto& size = geometry.size_ijk();
  const std::size_t bytes = std::size_t{size[0]} * size[1] * 2;
  return std::span(values).subspan((std::size_t{channel} * size[2] + k) * bytes, bytes);
}

absl::StatusOr<KnownCase> ReadKnownCase(const v1::Recipe& recipe, std::span<const std::string> files) {
  if (files.size() != KnownAnswerFiles(recipe).size()) {
    return Invalid("known_answer", "not as many files as the known answer has");
  }
  const auto geometry = volume::Geometry::FromProto(recipe.known_answer().geometry());
  if (!geometry.ok()) return Invalid("known_answer.geometry", base::ToStd(geometry.status().message()));
  KnownCase known{.geometry = *geometry, .values = {}, .labels = {}};
  known.channels = static_cast<std::uint32_t>(recipe.inputs_size());
  const auto& [i, j, k] = known.geometry.size_ijk();
  const std::vector<std::uint64_t> grid{k, j, i};
  std::vector<std::uint64_t> shape = grid;
  if (known.channels > 1) shape.insert(shape.begin(), known.channels);
  TS_ASSIGN_OR_RETURN(const NpyArray volume, ReadArray("known_answer.volume", files[0], shape));
  if (volume.type == NpyType::kU8)
    return Invalid("known_answer.volume", "stored values are int16 or uint16, not uint8");
  known.type = volume.type == NpyType::kI16 ? ipc::v1::STORED_TYPE_I16 : ipc::v1::STORED_TYPE_U16;
  known.values.resize(volume.data.size());
  std::memcpy(known.values.data(), volume.data.data(), volume.data.size());
  if (files.size() > 1) {
    TS_ASSIGN_OR_RETURN(known.labels, ReadLabels(recipe, files[1], grid));
  }
  return known;
}

}  // namespace tomoserve::models
