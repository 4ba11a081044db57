#include "dispatch/preparation.h"

#include <algorithm>
#include <array>
#include <map>

#include "absl/strings/str_cat.h"
#include "dispatch/preparation_errors.h"
#include "dispatch/region.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::dispatch {
namespace {

// All volumes have the same stored size.
std::uint64_t SlotBytes(const series::Selection& selection) {
  const auto& size = selection.volume()->stored_size_ij;
  std::uint32_t widest = 1;
  for (const series::Volume* volume : selection.volumes) {
    for (const series::VolumeSlice& slice : volume->slices)
      widest = std::max(widest, base::BytesOf(slice.stored_type));
  }
  return std::uint64_t{size[0]} * size[1] * widest;
}

// Slices that something is decoded into: slot n is the n-th of them, over all volumes.
std::uint32_t StoredSlices(const series::Selection& selection) {
  std::uint32_t stored = 0;
  for (const series::Volume* volume : selection.volumes) {
    stored += static_cast<std::uint32_t>(volume->slices.size()) - volume->synthetic_slices();
  }
  return stored;
}

// Where slices are shifted onto a grid: the value beside them.
double OutsideValue(const series::Volume& volume) {
  constexpr double kAirHu = -1024;
  return volume.representative.modality() == "CT" ? kAirHu : 0;
}

absl::Status FromKernel(const absl::Status& status) {
  return base::ReasonOf(status) == "HOST_MEMORY" ? MayPass(status) : status;
}

std::uint64_t LabelBytes(const models::Model& model, const series::Selection& selection) {
  return selection.volume()->geometry->voxels() * models::LabelBytesPerVoxel(model.recipe) *
         selection.time_points();
}

void AddSlices(const series::Volume& volume, const ipc::Arena& arena, std::uint32_t& slot,
               ipc::v1::StartRun& start) {
  for (const series::VolumeSlice& from : volume.slices) {
    ipc::v1::Slice& slice = *start.add_slices();
    if (from.synthetic) {
      slice.mutable_between()->set_before(from.synthetic->before);
      slice.mutable_between()->set_after(from.synthetic->after);
      slice.mutable_between()->set_weight(from.synthetic->weight);
      continue;
    }
    *slice.mutable_slot() = arena.slot(slot++);
    slice.set_stored_type(from.stored_type);
    slice.set_slope(from.slope);
    slice.set_intercept(from.intercept);
    slice.set_shift_i(from.shift_ij[0]);
    slice.set_shift_j(from.shift_ij[1]);
  }
}

// Channels of which every time point is said to be in Hounsfield units.
void AddHounsfieldChannels(const series::Selection& selection, ipc::v1::StartRun& start) {
  for (std::uint32_t channel = 0; channel < selection.channels; ++channel) {
    bool all = true;
    for (std::size_t n = channel; n < selection.volumes.size(); n += selection.channels) {
      all = all && selection.volumes[n]->unit == "HU";
    }
    if (all) start.add_hounsfield_channels(channel);
  }
}

absl::Status Decode(const PreparationServices& services, const RunInput& input, const ipc::Arena& arena,
                    const std::atomic<bool>& stop) {
  absl::Status unavailable;
  // One call per spool file; slices of late submissions lie in files of their own.
  std::map<std::string, std::vector<ipc::HelperPool::Frame>> frames;
  std::uint32_t slot = 0;
  for (const series::Volume* volume : input.selection.volumes) {
    for (const series::VolumeSlice& slice : volume->slices) {
      if (slice.synthetic) continue;
      const store::StoredInstance& instance = input.study->instances[slice.index];
      ipc::HelperPool::Frame& frame = frames[instance.submission_id].emplace_back();
      frame.range.set_offset(instance.offset);
      frame.range.set_length(instance.length);
      frame.frame = slice.frame;
      frame.slot = slot++;
      frame.stored_type = slice.stored_type;
      frame.rows = instance.header.rows();
      frame.columns = instance.header.columns();
      frame.tile = slice.tile;
      frame.high_throughput = ipc::IsHighThroughput(instance.header.transfer_syntax_uid());
    }
  }
  for (const auto& [submission_id, wanted] : frames) {
    const auto spool = services.spool.OpenReadOnly(submission_id);
    // Only a file that is gone stays gone.
    if (!spool.ok()) return absl::IsNotFound(spool.status()) ? spool.status() : MayPass(spool.status());
    const std::vector<absl::Status> results =
        services.helpers.Decode(spool->get(), wanted, arena, [&stop] { return stop.load(); });
    if (stop.load()) return absl::CancelledError("the run was stopped");
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].ok()) continue;
      if (absl::IsUnavailable(results[i])) {
        unavailable = results[i];
        continue;
      }
      // A volume with a hole is never analysed.
      return Impossible("DECODE_FAILED", base::ReasonOf(results[i]),
                        absl::StrCat("slice ", wanted[i].slot, ": ", results[i].message()));
    }
    if (results.size() != wanted.size())
      return Impossible("DECODE_FAILED", "HELPER_LIED", "slices are missing");
  }
  // A slice that is broken for good counts more.
  return unavailable;
}

}  // namespace

absl::StatusOr<LedgerShare> LedgerShare::Take(ipc::HostLedger& ledger, std::uint64_t bytes) {
  TS_RETURN_IF_ERROR(ledger.Take(bytes));
  LedgerShare share;
  share.ledger_ = &ledger;
  share.bytes_ = bytes;
  return share;
}

std::vector<int> PreparedRun::fds() const {
  std::vector<int> fds{label_map.get()};
  if (start.has_region()) fds.push_back(region.get());
  for (const int fd : arena->fds()) fds.push_back(fd);
  return fds;
}

std::uint64_t HostBytes(const models::Model& model, const RunInput& input) {
  // The arena rounds each slot up to pages.
  constexpr std::uint64_t kPage = 4096;
  const series::Selection& selection = input.selection;
  const std::uint64_t stride = (SlotBytes(selection) + kPage - 1) / kPage * kPage;
  const std::uint64_t region_bytes =
      input.region ? RegionBytes(*input.region, *selection.volume()->geometry) : 0;
  return stride * StoredSlices(selection) + LabelBytes(model, selection) + region_bytes;
}

absl::StatusOr<std::unique_ptr<PreparedRun>> PrepareRun(const PreparationServices& services,
                                                        const std::string& run_id, const models::Model& model,
                                                        const RunInput& input, std::uint32_t urgency,
                                                        const std::atomic<bool>& stop) {
  const series::Selection& selection = input.selection;
  const series::Volume& volume = *selection.volume();
  const std::uint64_t host_bytes = HostBytes(model, input);
  if (host_bytes > services.ledger.limit()) {
    return Impossible("HOST_MEMORY", absl::StrCat(host_bytes),
                      absl::StrCat("the run needs ", host_bytes, " bytes of host memory, the limit is ",
                                   services.ledger.limit()));
  }
  const double began_ms = base::MonotonicMs();
  auto prepared = std::make_unique<PreparedRun>();
  const std::uint64_t label_bytes = LabelBytes(model, selection);
  // All at once, and not by the arena: what the ledger refuses others hold and give back, what the kernel
  // refuses nobody may ever give.
  TS_ASSIGN_OR_RETURN(prepared->share, LedgerShare::Take(services.ledger, host_bytes));
  auto arena = ipc::Arena::Create(SlotBytes(selection), StoredSlices(selection), nullptr);
  if (!arena.ok()) return FromKernel(arena.status());
  prepared->arena = *std::move(arena);
  auto label_map = ipc::CreateSealedMemfd("labels", label_bytes);
  if (!label_map.ok()) return FromKernel(label_map.status());
  prepared->label_map = *std::move(label_map);

  ipc::v1::StartRun& start = prepared->start;
  start.set_run_id(run_id);
  start.set_model_digest(model.model_digest);
  *start.mutable_geometry() = volume.geometry->ToProto();
  start.set_time_points(selection.time_points());
  start.set_channels(selection.channels);
  std::uint32_t slot = 0;
  for (const series::Volume* of : selection.volumes) AddSlices(*of, *prepared->arena, slot, start);
  AddHounsfieldChannels(selection, start);
  if (input.region) {
    start.mutable_region()->set_bytes_per_voxel(input.region->bytes_per_voxel);
    TS_ASSIGN_OR_RETURN(prepared->region, ReadRegion(services.store, *input.region, *volume.geometry));
  }
  const auto& size = volume.geometry->size_ijk();
  if (volume.stored_size_ij != std::array{size[0], size[1]}) {
    start.set_stored_columns(volume.stored_size_ij[0]);
    start.set_stored_rows(volume.stored_size_ij[1]);
    start.set_outside_value(OutsideValue(volume));
  }
  start.set_label_bytes(label_bytes);
  start.set_label_bytes_per_voxel(models::LabelBytesPerVoxel(model.recipe));
  start.set_urgency(urgency);
  TS_RETURN_IF_ERROR(Decode(services, input, *prepared->arena, stop));
  prepared->decode_ms = base::MonotonicMs() - began_ms;
  return prepared;
}

}  // namespace tomoserve::dispatch
