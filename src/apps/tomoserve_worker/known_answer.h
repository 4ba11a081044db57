// The known answer of a model, carried out on this worker's device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "apps/tomoserve_worker/run.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::worker {

// Reads the files of the recipe's known answer, whose digests are `sha256`, hex; null where it has none.
// Errors: DIGEST_MISMATCH (value: the file), FILE_UNREADABLE (value: the file), those of
// models::ReadKnownCase.
absl::StatusOr<std::shared_ptr<const models::KnownCase>> LoadKnownCase(const v1::Recipe& recipe,
                                                                       std::span<const base::UniqueFd> files,
                                                                       std::span<const std::string> sha256);

// Carries the case of `model` out as any other run, its windows on the executor's lanes, and compares the
// answers; at once OK where the model has none. `resident_bytes`: of loaded networks, with this one. Returns
// when it is done; not from a lane. Errors: KNOWN_ANSWER_DIFFERS (models::CompareLabels), those of
// Run::Prepare, of its windows and of Finish.
absl::Status CheckKnownAnswer(const std::shared_ptr<const LoadedModel>& model, const RunResources& resources,
                              executor::Executor& executor, std::uint64_t resident_bytes);

}  // namespace tomoserve::worker
