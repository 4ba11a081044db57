#include "apps/tomoserve_worker/known_answer.h"

#include <unistd.h>

#include <cerrno>
#include <future>
#include <utility>
#include <vector>

#include "apps/tomoserve_worker/run_request.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::worker {
namespace {

// No run of a front: its ids are UUIDs.
constexpr char kRunId[] = "known-answer";

absl::StatusOr<std::string> ReadFile(int fd, const std::string& file) {
  std::string bytes;
  std::string buffer(1 << 20, '\0');
  while (true) {
    const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(bytes.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) return bytes;
    if (count < 0 || bytes.size() > models::kMaxKnownAnswerBytes) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_UNREADABLE", file,
                         "a file of the known answer cannot be read, or is too large");
    }
    bytes.append(buffer, 0, static_cast<std::size_t>(count));
  }
}

RunRequest RequestOf(const models::KnownCase& known, std::span<std::byte> labels,
                     std::uint32_t label_bytes_per_voxel) {
  RunRequest request{.geometry = known.geometry,
                     .channels = known.channels,
                     .pixels = {},
                     .slices = {},
                     .label_map = {},
                     .labels = labels,
                     .label_bytes_per_voxel = label_bytes_per_voxel,
                     .hounsfield_channels = {},
                     .region = std::nullopt};
  for (std::uint32_t channel = 0; channel < known.channels; ++channel) {
    for (std::uint32_t k = 0; k < known.geometry.size_ijk()[2]; ++k) {
      request.slices.push_back({.bytes = known.Slice(channel, k), .type = known.type});
    }
  }
  return request;
}

// Computes the run's windows on the executor's lanes.
absl::Status Compute(const std::shared_ptr<Run>& run, std::shared_ptr<executor::Batcher> batcher,
                     executor::Executor& executor) {
  // Shared: who waits may be gone before the lane has left set_value.
  const auto promise = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> finished = promise->get_future();
  executor::JobOptions options;
  options.run_id = kRunId;
  options.batcher = std::move(batcher);
  options.progress = [](std::uint32_t, std::uint32_t) {};
  options.finished = [promise](const absl::Status& status) { promise->set_value(status); };
  executor.Submit(run, std::move(options));
  return finished.get();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const models::KnownCase>> LoadKnownCase(const v1::Recipe& recipe,
                                                                       std::span<const base::UniqueFd> files,
                                                                       std::span<const std::string> sha256) {
  const std::vector<std::string> names = models::KnownAnswerFiles(recipe);
  if (names.empty()) return nullptr;
  if (files.size() != names.size() || sha256.size() != names.size()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "known_answer",
                       "not as many descriptors and digests as the known answer has files");
  }
  std::vector<std::string> contents;
  for (std::size_t n = 0; n < names.size(); ++n) {
    TS_ASSIGN_OR_RETURN(std::string bytes, ReadFile(files[n].get(), names[n]));
    if (base::Sha256Hex(bytes) != sha256[n]) {
      return base::Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", names[n],
                         "the file is not the one that the front has digested");
    }
    contents.push_back(std::move(bytes));
  }
  TS_ASSIGN_OR_RETURN(models::KnownCase known, models::ReadKnownCase(recipe, contents));
  return std::make_shared<const models::KnownCase>(std::move(known));
}

absl::Status CheckKnownAnswer(const std::shared_ptr<const LoadedModel>& model, const RunResources& resources,
                              executor::Executor& executor, std::uint64_t resident_bytes) {
  if (model->known == nullptr) return absl::OkStatus();
  const models::KnownCase& known = *model->known;
  const std::uint32_t label_bytes = models::LabelBytesPerVoxel(model->recipe);
  std::vector<std::byte> labels(known.geometry.voxels() * label_bytes);
  TS_ASSIGN_OR_RETURN(std::shared_ptr<Run> run,
                      Run::Prepare(RequestOf(known, labels, label_bytes), model, resources, resident_bytes,
                                   [] { return false; }));
  TS_RETURN_IF_ERROR(Compute(run, model->batcher, executor));
  TS_ASSIGN_OR_RETURN(const ipc::v1::RunDone done, run->Finish());
  if (done.has_label_map()) {
    return models::CompareLabels(model->recipe.known_answer(), known, labels, label_bytes);
  }
  std::vector<const v1::Finding*> found;
  for (const v1::Finding& finding : done.findings()) found.push_back(&finding);
  return models::CompareBoxes(model->recipe, found);
}

}  // namespace tomoserve::worker
