#include "dispatch/region.h"

#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/preparation_errors.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/region.h"

namespace tomoserve::dispatch {
namespace {

constexpr char kAbsent[] = "REGION_ABSENT";
constexpr char kElsewhere[] = "REGION_ELSEWHERE";
constexpr char kEmpty[] = "REGION_EMPTY";

const models::Model* ModelOf(const store::StoredRun& run, const Catalogue& catalogue) {
  return catalogue.Find(run.run.model(), run.run.version(), run.model_digest);
}

bool IsFinal(const v1::Run& run) {
  return run.state() != v1::RUN_STATE_QUEUED && run.state() != v1::RUN_STATE_RUNNING;
}

// What says nothing about the run may pass.
absl::Status OfMachine(const absl::Status& status) {
  if (absl::IsNotFound(status) || absl::IsDataLoss(status) || absl::IsFailedPrecondition(status))
    return status;
  return MayPass(status);
}

// No region to look in, with a digest of its own: a later submission may find another reason, or one.
RunInput WithoutRegion(RunInput input, const v1::Reason& reason) {
  base::Sha256 digest;
  digest.Update(absl::StrCat(input.digest, " ", reason.code(), " ", reason.value()));
  input = Inconclusive(std::move(input), reason);
  input.digest = digest.HexDigest();
  return input;
}

// A run that may still answer, or has, of a version that knows the region's labels.
const store::StoredRun* RegionRun(const v1::Region& region,
                                  const std::vector<store::StoredRun>& runs_of_study,
                                  const Catalogue& catalogue) {
  const models::Model* preferred = catalogue.Preferred(region.model());
  const store::StoredRun* best = nullptr;
  for (const store::StoredRun& run : runs_of_study) {
    if (run.run.model() != region.model() || run.run.state() == v1::RUN_STATE_CANCELLED) continue;
    const models::Model* model = ModelOf(run, catalogue);
    if (model == nullptr) continue;
    // The repository asks it of the highest version only.
    if (!models::CheckRegionModel(region, model->name, model->recipe).ok()) continue;
    best = &run;  // ascending versions
    if (model == preferred) break;
  }
  return best;
}

bool Takes(const series::Selection& selection, const series::Volume* volume) {
  return std::find(selection.volumes.begin(), selection.volumes.end(), volume) != selection.volumes.end();
}

absl::Status CheckAnswer(const v1::Run& run, const RegionSource& region, const volume::Geometry& grid) {
  switch (run.state()) {
    case v1::RUN_STATE_DONE:
      break;
    case v1::RUN_STATE_QUEUED:
    case v1::RUN_STATE_RUNNING:
    case v1::RUN_STATE_CANCELLED:
      return base::Error(absl::StatusCode::kUnavailable, "REGION_CHANGED", region.run_id,
                         "the run whose labels are the region is not finished, or was cancelled");
    default:
      return Impossible("REGION_FAILED", run.failure().code(),
                        "the run whose labels are the region has no result");
  }
  if (run.provenance().input_digest() != region.input_digest) {
    return base::Error(absl::StatusCode::kUnavailable, "REGION_CHANGED", region.run_id,
                       "the run whose labels are the region has another input by now");
  }
  if (!run.has_label_map()) {
    const bool says_why = run.flag().reasons_size() > 0;
    return Impossible(kAbsent,
                      says_why ? run.flag().reasons(0).code() : v1::FlagState_Name(run.flag().state()),
                      "the model whose labels are the region has made none");
  }
  const v1::LabelMapInfo& map = run.label_map();
  const bool fits = map.grid().SerializeAsString() == grid.ToProto().SerializeAsString() &&
                    map.bytes_per_voxel() == region.bytes_per_voxel && map.layers_size() == 1 &&
                    map.time_points() <= 1;
  if (!fits)
    return Impossible(kElsewhere, run.model(), "the labels of the region are those of another volume");
  return absl::OkStatus();
}

}  // namespace

bool IsWithoutRegion(std::string_view reason_code) {
  return reason_code == kAbsent || reason_code == kElsewhere || reason_code == kEmpty;
}

RunInput WithRegion(RunInput input, const models::Model& model,
                    const std::vector<store::StoredRun>& runs_of_study, const Catalogue& catalogue) {
  if (!model.recipe.has_region() || input.selection.volume() == nullptr) return input;
  const std::string& name = model.recipe.region().model();
  const store::StoredRun* run = RegionRun(model.recipe.region(), runs_of_study, catalogue);
  if (run == nullptr) {
    return WithoutRegion(std::move(input), MakeReason("REGION_NOT_RUN", name,
                                                      "the model whose labels are the region does not run"));
  }
  const models::Model* region_model = ModelOf(*run, catalogue);
  const RunInput region_input = ChooseInput(region_model->recipe, input.study);
  const series::Volume* region_volume = region_input.selection.volume();
  if (region_volume == nullptr) {
    const auto& reasons = region_input.selection.reasons;
    return WithoutRegion(std::move(input),
                         MakeReason("REGION_NOT_APPLICABLE", reasons.empty() ? name : reasons.front().code(),
                                    "the model whose labels are the region takes no volume of the study"));
  }
  if (!Takes(input.selection, region_volume)) {
    return WithoutRegion(
        std::move(input),
        MakeReason(kElsewhere, name, "the model whose labels are the region takes another volume"));
  }
  if (IsFinal(run->run) && run->input_digest != region_input.digest) {
    // It was not asked again when the study changed: its labels are those of other images.
    return WithoutRegion(
        std::move(input),
        MakeReason("REGION_NOT_RUN", name, "the model whose labels are the region does not run any more"));
  }
  base::Sha256 digest;
  digest.Update(absl::StrCat(input.digest, " region ", run->model_digest, " ", run->recipe_digest, " ",
                             region_input.digest));
  input.digest = digest.HexDigest();
  input.region = RegionSource{.run_id = run->run.run_id(),
                              .input_digest = region_input.digest,
                              .bytes_per_voxel = models::LabelBytesPerVoxel(region_model->recipe)};
  return input;
}

std::uint64_t RegionBytes(const RegionSource& region, const volume::Geometry& grid) {
  return grid.voxels() * region.bytes_per_voxel;
}

absl::StatusOr<base::UniqueFd> ReadRegion(store::JobStore& store, const RegionSource& region,
                                          const volume::Geometry& grid) {
  const auto run = store.GetRun(region.run_id);
  if (!run.ok()) return OfMachine(run.status());
  TS_RETURN_IF_ERROR(CheckAnswer(run->run, region, grid));
  const auto blob = store.GetLabelMap(region.run_id);
  if (!blob.ok()) return OfMachine(blob.status());
  const std::uint64_t bytes = RegionBytes(region, grid);
  auto fd = ipc::CreateSealedMemfd("region", bytes);
  if (!fd.ok()) return OfMachine(fd.status());
  const auto mapped = ipc::Mapping::Map(fd->get(), 0, bytes, /*writable=*/true);
  if (!mapped.ok()) return OfMachine(mapped.status());
  const std::span<std::byte> voxels = mapped->bytes();
  const std::size_t size =
      ZSTD_decompress(voxels.data(), voxels.size(), blob->zstd.data(), blob->zstd.size());
  if (ZSTD_isError(size) || size != bytes) {
    return base::Error(absl::StatusCode::kDataLoss, "RESULT_CORRUPT", region.run_id,
                       "the labels of the region are not what was stored");
  }
  return *std::move(fd);
}

}  // namespace tomoserve::dispatch
