// A trained nnU-Net v2 model on its way to a recipe.
//
// nnU-Net counts axes as its reader gives them, slowest first (z, y, x), then transposes them: dimension d of
// the network's tensor is axis 2 - transpose_forward[d] of the recipe (0 = x).
#pragma once

#include <array>
#include <set>
#include <string>
#include <vector>

#include "models/import/draft.h"
#include "models/import/errors.h"

namespace tomoserve::models::importer {

// Fills a draft from the three files.
class NnunetReader {
 public:
  NnunetReader(const Json& plans, const Json& dataset, const Json& checkpoint, Draft* draft)
      : plans_(plans), dataset_(dataset), checkpoint_(checkpoint), draft_(draft), recipe_(draft->recipe) {}

  absl::Status Read(bool mirroring);
  // After Read: what nnU-Net's find_best_configuration found to improve the labels.
  absl::Status Postprocessing(const Json& postprocessing);

 private:
  absl::Status CheckKeysOf(const Json& object, const std::string& place, const std::set<std::string>& known);
  absl::Status Configuration();
  absl::Status Axes();
  absl::Status Inputs();
  absl::Status Normalization();
  // Intensity steps of a channel, in a preparation of their own.
  absl::StatusOr<v1::Preparation> StepsOf(std::size_t channel, const Json& scheme, bool mask) const;
  absl::Status Spacing();
  absl::Status Resampling(const std::string& name, bool scores);
  absl::Status Windows();
  absl::Status Mirroring();
  absl::Status Labels();
  absl::Status Regions(const Json& labels);
  void FillAbout();

  // A member of the configuration; null where there is none.
  const Json& Of(const std::string& key) const;
  std::string PathOf(const std::string& key) const {
    return absl::StrCat("configurations.", name_, ".", key);
  }
  absl::StatusOr<std::vector<double>> NumbersOf(const std::string& key) const;

  const Json& plans_;
  const Json& dataset_;
  const Json& checkpoint_;
  Draft* draft_;
  v1::Recipe& recipe_;
  std::string name_;           // of the configuration
  Json configuration_;         // with what it inherits
  std::array<int, 3> axes_{};  // recipe axis of each dimension of the network's tensor
  std::vector<std::string> channels_;
};

}  // namespace tomoserve::models::importer
