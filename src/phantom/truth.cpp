#include <nlohmann/json.hpp>

#include "tomoserve/phantom/phantom.h"

namespace tomoserve::phantom {
namespace {

const char* NameOf(Kernel kernel) {
  switch (kernel) {
    case Kernel::kSmooth:
      return "smooth";
    case Kernel::kStandard:
      return "standard";
    case Kernel::kSharp:
      return "sharp";
    case Kernel::kNone:
      break;
  }
  return "none";
}

const char* NameOf(LookAlike::Kind kind) {
  switch (kind) {
    case LookAlike::Kind::kBranching:
      return "branching";
    case LookAlike::Kind::kBand:
      return "band";
    case LookAlike::Kind::kStrand:
      return "strand";
    case LookAlike::Kind::kPleuralThickening:
      return "pleural-thickening";
    case LookAlike::Kind::kCrossing:
      break;
  }
  return "crossing";
}

}  // namespace

std::string TruthJson(const Options& options, const Phantom& phantom) {
  nlohmann::ordered_json truth;
  truth["modality"] = options.modality == Modality::kCt ? "CT" : "MR";
  truth["orientation"] = options.orientation;
  truth["seed"] = options.seed;
  truth["noise_hu"] = options.noise_hu;
  truth["kernel"] = NameOf(options.kernel);
  truth["vary"] = options.vary;
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
    nlohmann::ordered_json entry{{"centre_lps_mm", nodule.centre_lps.mm},
                                 {"centre_ijk", phantom.geometry.ToVoxel(nodule.centre_lps).ijk},
                                 {"diameter_mm", d},
                                 {"volume_ml", kPi * d * d * d / 6000},
                                 {"side", nodule.right ? "right" : "left"},
                                 {"kind", nodule.core_mm > 0 ? "part-solid" : "solid"},
                                 {"pleural", nodule.pleural},
                                 {"lobulated", nodule.lobulated}};
    if (nodule.core_mm > 0) entry["core_diameter_mm"] = nodule.core_mm;
    truth["nodules"].push_back(std::move(entry));
  }
  truth["look_alikes"] = nlohmann::ordered_json::array();
  for (const LookAlike& look_alike : phantom.look_alikes) {
    truth["look_alikes"].push_back(
        {{"kind", NameOf(look_alike.kind)}, {"centre_lps_mm", look_alike.centre_lps.mm}});
  }
  return truth.dump(2) + "\n";
}

}  // namespace tomoserve::phantom
