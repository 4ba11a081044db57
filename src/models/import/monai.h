// A MONAI bundle on its way to a recipe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/arguments.h"
#include "models/import/config.h"
#include "models/import/draft.h"

namespace tomoserve::models::importer {

struct Bundle {
  Config config;
  const Json& metadata;
  Draft* draft;
  std::string monai_version;  // empty: not stated
  std::uint32_t input_channels = 1;
  std::uint32_t output_channels = 1;
  std::vector<std::string> output_names;  // by channel; may be shorter
  Place preprocessing;                    // what Invertd has to name
  std::vector<std::string> image_keys;    // the series that LoadImaged reads
};

// A transform's name without the ending of its dictionary form: "Spacingd", "SpacingD", "Spacing" ->
// "Spacing".
struct Transform {
  std::string name;
  bool dictionary = false;  // works on `keys`
  Arguments arguments;
};

// The transforms of a Compose that are not switched off, nested ones in their place.
absl::StatusOr<std::vector<Transform>> ActiveTransforms(Config* config, const Located& compose);

// `keys` of a dictionary transform must be exactly these.
absl::Status CheckKeys(Transform* transform, std::string_view argument, const std::vector<std::string>& keys,
                       Config* config);
// dtype: float32, float64 or not stated. Everything else would change values.
absl::Status CheckFloat(Arguments* arguments, std::string_view name);

// Each fills its part of the recipe. Errors: IMPORT_INVALID, IMPORT_UNSUPPORTED.
absl::Status AddPreparation(const Located& preprocessing, Bundle* bundle);
absl::Status AddWindows(const Located& inferer, Bundle* bundle);
absl::Status AddDecode(const std::optional<Located>& postprocessing, Bundle* bundle);
absl::Status AddDetector(const Located& inferer, const std::optional<Located>& postprocessing,
                         Bundle* bundle);
// The strides of a detector's feature maps, finest first, from the structure of its network.
absl::StatusOr<std::vector<std::vector<std::uint32_t>>> DetectorStrides(const Located& network,
                                                                        Config* config);

}  // namespace tomoserve::models::importer
