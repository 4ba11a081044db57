// Whether a label map is the known one.
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/known_answer.h"

namespace tomoserve::models {
namespace {

// Tolerances are decimal fractions.
constexpr double kRounding = 1e-9;
// So many voxels of a label may come or go wholly: they may lie at a threshold.
constexpr std::uint64_t kFewVoxels = 10;

absl::Status Differs(const std::string& figures, std::string_view text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, "KNOWN_ANSWER_DIFFERS", figures, text);
}

struct Counts {
  std::uint64_t labelled = 0;  // voxels with a label, here or there
  std::uint64_t different = 0;
  // Of each value, in the known labels and in those that were found.
  std::vector<std::array<std::uint64_t, 2>> of = std::vector<std::array<std::uint64_t, 2>>(65536);
};

Counts Count(const KnownCase& known, std::span<const std::byte> labels, std::uint32_t bytes_per_voxel) {
  Counts counts;
  for (std::size_t n = 0; n < known.labels.size(); ++n) {
    std::uint16_t label = std::to_integer<std::uint8_t>(labels[n * bytes_per_voxel]);
    if (bytes_per_voxel == 2) std::memcpy(&label, labels.data() + 2 * n, 2);
    counts.labelled += label != 0 || known.labels[n] != 0 ? 1 : 0;
    counts.different += label != known.labels[n] ? 1 : 0;
    ++counts.of[known.labels[n]][0];
    ++counts.of[label][1];
  }
  return counts;
}

}  // namespace

absl::Status CompareLabels(const v1::KnownAnswer& tolerances, const KnownCase& known,
                           std::span<const std::byte> labels, std::uint32_t bytes_per_voxel) {
  if (labels.size() != known.labels.size() * bytes_per_voxel) {
    return Differs(absl::StrCat(labels.size(), " bytes"), "the label map is of another size");
  }
  const Counts counts = Count(known, labels, bytes_per_voxel);
  const auto counted = static_cast<double>(counts.labelled);
  const auto different = static_cast<double>(counts.different);
  if (different > tolerances.differing_voxels() * counted + kRounding) {
    return Differs(absl::StrFormat("%.3g %% of %d voxels differ, %.3g %% may", 100 * different / counted,
                                   counts.labelled, 100 * tolerances.differing_voxels()),
                   "the labels are not those that the version's known answer says");
  }
  // A small label that is gone is a small part of all labels.
  for (std::size_t label = 1; label < counts.of.size(); ++label) {
    const auto& [there, here] = counts.of[label];
    if (here == 0 && there > kFewVoxels) {
      return Differs(absl::StrFormat("label %d is missing, %d voxels", label, there),
                     "a label of the version's known answer was not found");
    }
    if (there == 0 && here > kFewVoxels) {
      return Differs(absl::StrFormat("label %d is new, %d voxels", label, here),
                     "a label was found that the version's known answer has not");
    }
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
