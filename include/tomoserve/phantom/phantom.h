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

// How the image looks as if it had been reconstructed: in-plane blur of edges and noise that is correlated
// accordingly. The deviation of the noise stays what was asked for.
enum class Kernel {
  kNone,      // edges one voxel wide, white noise
  kSmooth,    // Gaussian of sigma 0.9 mm, noise of 1.1 mm
  kStandard,  // 0.55 mm, noise of 0.7 mm
  kSharp,     // edges overshoot, noise of high frequency
};

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
  Kernel kernel = Kernel::kNone;

  // CT only, from here on.
  std::array<double, 2> nodule_mm{6, 20};  // smallest and largest diameter, within 3 to 60
  // Probabilities, 0 to 1, that a nodule is part-solid (from 6 mm: ground glass around a solid core), that it
  // lies on the pleura of the chest wall, and that lobes stick out of it.
  double part_solid = 0;
  double pleural = 0;
  double lobulated = 0;
  // Things in the lungs that are no nodules, at most 256; fewer where there is no room.
  std::uint32_t look_alikes = 0;
  // How much the anatomy differs between seeds, 0 (not at all) to 1: sizes of body, lungs and organs, fat,
  // densities of all tissues and nodules, number and thickness of vessels, airways beyond the main bronchi,
  // fissures, vessels that reach nodules.
  double vary = 0;
  bool labels = false;  // fill Phantom::labels
};

struct Nodule {
  volume::LpsPoint centre_lps;
  double diameter_mm = 0;  // of the sphere, without lobes; on the pleura only a part of it lies in the lung
  bool right = false;      // patient's right lung
  double core_mm = 0;      // part-solid: diameter of the solid core; else 0
  bool pleural = false;
  bool lobulated = false;
};

struct LookAlike {
  enum class Kind { kCrossing, kBranching, kBand, kStrand, kPleuralThickening };
  Kind kind = Kind::kCrossing;
  volume::LpsPoint centre_lps;  // where it is thickest
};

struct Phantom {
  volume::Geometry geometry;
  std::vector<std::int16_t> values;  // HU (CT) or signal (MR), [k][j][i]
  std::vector<Nodule> nodules;
  double lung_volume_ml = 0;  // without trachea and main bronchi
  std::vector<LookAlike> look_alikes;
  // If asked for: number + 1 of the nodule that fills at least half of a voxel (and lies in lung), else 0.
  std::vector<std::uint8_t> labels;
};

// Errors: kInvalidArgument PHANTOM_OPTIONS (value: the field). A CT holds: body, lungs with vessels, trachea
// (from the top of the volume) and main bronchi, spine, ribs, heart (left of the midline), liver (right),
// table; nodules lie in lung tissue, solid spheres with soft edges where the options say nothing else. Same
// options: same bytes on every machine.
absl::StatusOr<Phantom> MakePhantom(const Options& options);

// Truth as JSON: modality, orientation, seed, noise_hu, size_ijk, spacing_mm, origin_lps_mm, direction_i/j/k,
// lung_volume_ml, nodules (centre_lps_mm, centre_ijk, diameter_mm, volume_ml of the ideal sphere, side, kind:
// solid or part-solid, core_diameter_mm of the part-solid, pleural, lobulated), look_alikes (kind,
// centre_lps_mm), kernel, vary.
std::string TruthJson(const Options& options, const Phantom& phantom);

}  // namespace tomoserve::phantom
