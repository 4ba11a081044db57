// From a worker's checked reply to the run that is committed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "dispatch/preparation.h"
#include "dispatch/study_input.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/finding.pb.h"

namespace tomoserve::dispatch {

// What is to be committed.
struct RunResult {
  v1::Run run;
  std::optional<store::ResultBlob> blob;
  std::uint32_t windows = 0;  // that the worker says it computed
};

// What a result says about how it came about.
struct ResultContext {
  const store::StoredRun& stored;
  const models::Model& model;
  const RunInput& input;
  const std::string& build;
  std::uint32_t windows_total = 0;  // that the worker spoke of while it computed; 0: it did not
};

// A run that needs no device: NOT_APPLICABLE, or INCONCLUSIVE where every candidate was rejected for its
// geometry.
RunResult ResultWithoutVolume(const ResultContext& context);

// Checks the worker's reply, names the findings, judges coverage and flag, packs the label map. Blocks; for a
// pool thread. `queue_ms`: from the input's completion to its preparation. Errors: WORKER_LIED (value: the
// field).
absl::StatusOr<RunResult> FinishRun(const ResultContext& context, const PreparedRun& prepared,
                                    const ipc::v1::Hello& worker, bool on_cpu, ipc::v1::RunDone done,
                                    double queue_ms);

}  // namespace tomoserve::dispatch
