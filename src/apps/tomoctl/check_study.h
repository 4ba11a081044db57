// A phantom as a study that a model's recipe asks for, and what the model says of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/tomoctl/orientations.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/phantom/phantom.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {

// The phantom as input `channel` of a recipe sees it. Each has other values, so that exchanged inputs give
// another answer: of a CT everything denser than fat is 40 HU brighter than in the input before, as after a
// contrast agent; of an MR all signal is weaker by 15 % of the first one's.
std::vector<std::int16_t> ValuesOfChannel(const phantom::Options& options, const phantom::Phantom& phantom,
                                          std::uint32_t channel);

struct Outcome {
  v1::Run run;
  PatientAnswer answer;
  v1::LabelMapInfo label_map;  // where the run has one
  std::string labels;          // its voxels, as the server packs them
  double seconds = 0;          // without waiting
};

// Writes a series for each input of the model's recipe into `folder`, which is removed in the end, and has
// them analysed. Errors: those of WriteSeries, Submit, Download and InPatientAxes.
absl::StatusOr<Outcome> Look(const models::Model& model, const phantom::Options& options,
                             const phantom::Phantom& phantom, const std::filesystem::path& folder,
                             ipc::HelperPool& helpers, v1::StudyService::Stub& stub);

// Whether the run looked at the phantom at all.
bool Looked(const v1::Run& run);

}  // namespace tomoserve::tomoctl
