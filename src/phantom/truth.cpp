#include <nlohmann/json.hpp>

#include "tomoserve/phantom/phantom.h"

namespace tomoserve::phantom {

std::string TruthJson(const Options& options, const Phantom& phantom) {
  nlohmann::ordered_json truth;
  truth["modality"] = options.modality == Modality::kCt ? "CT" : "MR";
  truth["orientation"] = options.orientation;
  truth["seed"] = options.seed;
  truth["noise_hu"] = options.noise_hu;
  truth["size_ijk"] = phantom.geometry.size_ijk();
  truth["spacing_mm"] = phantom.geometry.spacing_mm();
  truth["origin_lps_mm"] = phantom.geometry.origin_lps().mm;
  truth["direction_i"] = phantom.geometry.directions()[0];
  truth["direction_j"] = phantom.geometry.directions()[1];
  truth["direction_k"] = phantom.geometry.directions()[2];
  truth["lung_volume_ml"] = phantom.lung_volume_ml;
  truth["nodules"] = nlohmann::ordered_json::array();
  for (const Nodule& nodule : phantom.nodules) {
    constexpr double kPi = 3.14159265358979323846;
    const double d = nodule.diameter_mm;
    truth["nodules"].push_back({{"centre_lps_mm", nodule.centre_lps.mm},
                                {"centre_ijk", phantom.geometry.ToVoxel(nodule.centre_lps).ijk},
                                {"diameter_mm", d},
                                {"volume_ml", kPi * d * d * d / 6000},
                                {"side", nodule.right ? "right" : "left"}});
  }
  return truth.dump(2) + "\n";
}

}  // namespace tomoserve::phantom
