// A study as its stored instances make it, and what each recipe takes of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dispatch/refusals.h"
#include "tomoserve/series/selection.h"
#include "tomoserve/series/study_series.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::dispatch {

// Immutable once made; shared by the study's runs.
struct StudyInput {
  std::string study_uid;
  std::vector<store::StoredInstance> instances;  // VolumeSlice::index counts these
  series::StudySeries series;
  store::ExpectedInstances expected;        // of all its submissions
  std::vector<v1::InstanceStatus> refused;  // likewise
};

// The run of a recipe's region (Recipe.region) on the same volume.
struct RegionSource {
  std::string run_id;
  std::string input_digest;           // of that run
  std::uint32_t bytes_per_voxel = 1;  // of its label map
};

// One recipe's choice.
struct RunInput {
  std::shared_ptr<const StudyInput> study;
  series::Selection selection;  // points into *study
  // SHA-256, hex, over what decides: the sorted SOP Instance UIDs and contents of the volume's instances
  // (with frame and tile, where an instance is more than one image), or of all the study's where no volume
  // was chosen; of several volumes each in turn; then the region; then the counts and refusals below, where
  // there are any.
  std::string digest;
  std::optional<RegionSource> region;  // where the recipe has one and a volume was chosen
  bool expectation = false;            // submitters said how many instances each chosen series has
  std::uint32_t missing = 0;           // that many of them are not there
  // Other series that a submitter expects and that are not whole.
  std::uint32_t incomplete_series = 0;
  Refusals refusals;
};

// Reads a study. Blocks on the store; for a pool thread. Errors: UNKNOWN_STUDY.
absl::StatusOr<std::shared_ptr<const StudyInput>> LoadStudyInput(store::JobStore& store,
                                                                 const std::string& study_uid);

// Pure.
RunInput ChooseInput(const v1::Recipe& recipe, std::shared_ptr<const StudyInput> study);

// The same without a volume, for this one reason, which stands at every series; with a digest of its own, in
// which no counts are. Pure.
RunInput WithoutVolume(RunInput input, const v1::Reason& reason);

// The same input, which turned out to be none: INCONCLUSIVE for this one reason. Pure.
RunInput Inconclusive(RunInput input, const v1::Reason& reason);

}  // namespace tomoserve::dispatch
