#include "apps/tomoserve_worker/run_request.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::worker {
namespace {

absl::Status Invalid(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", field, text);
}

absl::Status InvalidSlice(std::size_t n, std::string_view field, std::string_view text) {
  return Invalid("slices[" + std::to_string(n) + "]." + std::string(field), text);
}

// A message of ours that another room refused.
absl::Status Because(std::string_view field, const absl::Status& status) {
  return Invalid(field, base::ToStd(status.message()));
}

absl::Status MapSlice(const ipc::v1::StartRun& start, std::size_t n, std::span<const base::UniqueFd> arenas,
                      RunRequest& request) {
  const ipc::v1::Slice& slice = start.slices(static_cast<int>(n));
  compute::StoredSlice& out = request.slices.emplace_back();
  if (slice.has_between()) {
    // Which neighbours, and how much of them, the upload checks.
    out.between =
        compute::Between{slice.between().before(), slice.between().after(), slice.between().weight()};
    return absl::OkStatus();
  }
  const auto& size = request.geometry.size_ijk();
  const bool shifted = start.stored_columns() != 0;
  const std::array<std::uint32_t, 2> stored{shifted ? start.stored_columns() : size[0],
                                            shifted ? start.stored_rows() : size[1]};
  const std::uint64_t pixels = std::uint64_t{stored[0]} * stored[1];
  const std::uint64_t value_bytes =
      ipc::v1::StoredType_IsValid(slice.stored_type()) ? base::BytesOf(slice.stored_type()) : 0;
  if (value_bytes == 0) return InvalidSlice(n, "stored_type", "no type of stored values");
  if (!std::isfinite(slice.slope()) || !std::isfinite(slice.intercept())) {
    return InvalidSlice(n, "slope", "slope and intercept must be finite");
  }
  if (slice.slot().arena() >= arenas.size()) return InvalidSlice(n, "slot.arena", "no such arena");
  if (slice.slot().bytes() < pixels * value_bytes) {
    return InvalidSlice(n, "slot.bytes", "the slot is smaller than a slice");
  }
  auto mapping =
      ipc::Mapping::Map(arenas[slice.slot().arena()].get(), slice.slot().offset(), pixels * value_bytes,
                        /*writable=*/false);
  if (!mapping.ok()) return Because("slices[" + std::to_string(n) + "].slot", mapping.status());
  request.pixels.push_back(*std::move(mapping));
  out.bytes = request.pixels.back().bytes();
  out.type = slice.stored_type();
  out.slope = slice.slope();
  out.intercept = slice.intercept();
  if (shifted) out.shift = compute::Shift{{slice.shift_i(), slice.shift_j()}, stored, start.outside_value()};
  return absl::OkStatus();
}

absl::Status MapLabels(const ipc::v1::StartRun& start, std::span<const base::UniqueFd> fds,
                       RunRequest& request) {
  if (fds.empty()) return Invalid("", "no descriptor of a label map");
  if (start.label_bytes_per_voxel() != 1 && start.label_bytes_per_voxel() != 2) {
    return Invalid("label_bytes_per_voxel", "1 or 2");
  }
  const std::uint64_t layer = request.geometry.voxels() * start.label_bytes_per_voxel();
  if (start.label_bytes() != layer * request.time_points) {
    return Invalid("label_bytes", "not the bytes of one layer of the grid for each time point");
  }
  auto labels = ipc::Mapping::Map(fds[0].get(), 0, start.label_bytes(), /*writable=*/true);
  if (!labels.ok()) return Because("label_bytes", labels.status());
  request.label_map = *std::move(labels);
  request.labels = request.label_map.bytes();
  return absl::OkStatus();
}

absl::Status MapRegion(const ipc::v1::StartRun& start, std::span<const base::UniqueFd> fds,
                       RunRequest& request) {
  if (fds.size() < 2) return Invalid("region", "no descriptor of the region's label map");
  const std::uint32_t bytes_per_voxel = start.region().bytes_per_voxel();
  if (bytes_per_voxel != 1 && bytes_per_voxel != 2) return Invalid("region.bytes_per_voxel", "1 or 2");
  auto region =
      ipc::Mapping::Map(fds[1].get(), 0, request.geometry.voxels() * bytes_per_voxel, /*writable=*/false);
  if (!region.ok()) return Because("region", region.status());
  request.region = *std::move(region);
  request.region_bytes_per_voxel = bytes_per_voxel;
  return absl::OkStatus();
}

}  // namespace

std::span<const compute::StoredSlice> RunRequest::SlicesOf(std::uint32_t time_point) const {
  const std::size_t count = std::size_t{channels} * geometry.size_ijk()[2];
  return std::span(slices).subspan(time_point * count, count);
}

absl::StatusOr<RunRequest> ReadRunRequest(const ipc::v1::StartRun& start,
                                          std::span<const base::UniqueFd> fds) {
  auto geometry = volume::Geometry::FromProto(start.geometry());
  if (!geometry.ok()) return Because("geometry", geometry.status());
  RunRequest request{
      .geometry = *std::move(geometry),
      .time_points = std::max(1u, start.time_points()),
      .channels = std::max(1u, start.channels()),
      .pixels = {},
      .slices = {},
      .label_map = {},
      .labels = {},
      .label_bytes_per_voxel = start.label_bytes_per_voxel(),
      .hounsfield_channels = {start.hounsfield_channels().begin(), start.hounsfield_channels().end()},
      .region = std::nullopt};
  const auto& size = request.geometry.size_ijk();
  // At most as many as a message has slices: what is multiplied from here on does not overflow, a geometry
  // has at most 2^40 voxels.
  const auto slices = static_cast<std::uint64_t>(start.slices_size());
  if (request.time_points > slices || request.channels > slices ||
      slices != std::uint64_t{request.time_points} * request.channels * size[2]) {
    return Invalid("slices", "not as many slices as the volumes have");
  }
  TS_RETURN_IF_ERROR(MapLabels(start, fds, request));
  if (start.has_region()) TS_RETURN_IF_ERROR(MapRegion(start, fds, request));
  request.pixels.reserve(slices);
  request.slices.reserve(slices);
  if ((start.stored_columns() == 0) != (start.stored_rows() == 0) || start.stored_columns() > size[0] ||
      start.stored_rows() > size[1]) {
    return Invalid("stored_columns", "a stored slice is not larger than the grid");
  }
  const std::span<const base::UniqueFd> arenas = fds.subspan(request.region ? 2 : 1);
  for (std::size_t n = 0; n < slices; ++n) TS_RETURN_IF_ERROR(MapSlice(start, n, arenas, request));
  return request;
}

}  // namespace tomoserve::worker
