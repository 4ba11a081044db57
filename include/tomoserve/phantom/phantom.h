// Synthetic chest CT or head MR with known truth: voxels, geometry, nodules. Pure functions of their options.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::phantom {

enum class Modality { kCt, kMr };

struct Options {
  Modality modality = Modality::kCt;
  // At most 2^31 voxels. The grid's centre is the patient's, at (0, 0, 0). Anatomy is shrunk in the axial
  // plane where the extent is too small for it, and the lungs along z so that they end 12 mm before both end
  // slices.
  std::array<std::uint32_t, 3> size_ijk{256, 256, 120};
  std::array<double, 3> spacing_mm{1.4, 1.4, 2.5};
  // Three letters, the directions of i, j, k: "LPS" is the usual axial CT (i to Left, j to Posterior, k to
  // Superior). Any right- or left-handed combination.
  std::string orientation = "LPS";
  std::uint32_t nodules = 4;  // CT only, at most 64
  std::uint64_t seed = 1;
  double noise_hu = 12;  // standard deviation, HU (CT) or signal (MR)
};

struct Nodule {
  volume::LpsPoint centre_lps;
  double diameter_mm = 0;
  bool right = false;  // patient's right lung
};

struct Phantom {
  volume::Geometry geometry;
  std::vector<std::int16_t> values;  // HU (CT) or signal (MR), [k][j][i]
  std::vector<Nodule> nodules;
  double lung_volume_ml = 0;  // without trachea and main bronchi
};

// Errors: kInvalidArgument PHANTOM_OPTIONS (value: the field). A CT holds: body, lungs with vessels, trachea
// (from the top of the volume) and main bronchi, spine, ribs, heart (left of the midline), liver (right),
// table; nodules lie in lung tissue, solid spheres with soft edges.
absl::StatusOr<Phantom> MakePhantom(const Options& options);

// Truth as JSON: modality, orientation, seed, noise_hu, size_ijk, spacing_mm, origin_lps_mm, direction_i/j/k,
// lung_volume_ml, nodules (centre_lps_mm, centre_ijk, diameter_mm, volume_ml of the ideal sphere, side).
std::string TruthJson(const Options& options, const Phantom& phantom);

}  // namespace tomoserve::phantom
