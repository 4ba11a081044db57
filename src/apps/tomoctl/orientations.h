// Answers to one body that lay in the scanner in several ways, brought to the patient's axes and compared.
// Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::tomoctl {

// Least Dice of each label, and least share of boxes that have a partner, of answers that count as the same.
inline constexpr double kSameAnswer = 0.98;

// Eight ways to store a volume, each three letters as phantom::Options::orientation has them: all planes,
// each axis both ways; the first one axial as usual. Only those planes that every input of the recipe
// accepts: of one plane, all eight ways to turn its axes round. None where the inputs accept no plane in
// common.
std::vector<std::string> OrientationsFor(const v1::Recipe& recipe);

// What a model says of the phantom, whose centre is the patient's 0.
struct PatientAnswer {
  // Axes run to the Left, Posterior, Superior; x fastest, then y, z, layer. No labels: boxes alone.
  std::array<std::uint32_t, 3> size_xyz{};
  std::array<double, 3> origin_mm{};
  std::vector<std::uint16_t> labels;
  std::vector<v1::Finding> boxes;

  bool empty() const;
};

// `payload`: the label map of DownloadResult, of one time point; empty where the run has none. Errors:
// GEOMETRY_INVALID, LABEL_MAP_SIZE, LABEL_MAP_TYPE.
absl::StatusOr<PatientAnswer> InPatientAxes(const v1::Run& run, const v1::LabelMapInfo& info,
                                            const std::string& payload);

// How one answer is like that of the first orientation.
struct Comparison {
  bool same = false;
  double likeness = 0;  // lowest Dice, or share of boxes within a voxel
  // "left-right swap", "front-back swap", "head-feet swap", with the labels where these changed sides; or
  // what else is wrong; or, of an answer that is the same, which swaps would not show in it.
  std::string text;
};

// `names`: of the labels, by their value. `voxel_mm`: how far a box may be off along each axis.
Comparison Compare(const PatientAnswer& first, const PatientAnswer& other,
                   const std::map<std::uint32_t, std::string>& names, double voxel_mm);

// Labels that come in pairs, whose names differ by "left" and "right" alone, and where the left one lies to
// the right of the right one: a sentence for each pair.
std::vector<std::string> WrongSides(const PatientAnswer& answer,
                                    const std::map<std::uint32_t, std::string>& names);

}  // namespace tomoserve::tomoctl
