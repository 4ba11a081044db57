#include "tomoserve/compute/stored_to_float.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "compute/on_device/upload.h"
#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {

namespace {

// Arena slots are bytes: memcpy, because nothing promises an alignment.
template <typename Stored>
void Rescale(const std::byte* from, std::size_t step, double slope, double intercept, float* out,
             std::size_t values) {
  for (std::size_t v = 0; v < values; ++v) {
    Stored stored;
    std::memcpy(&stored, from + v * step * sizeof(Stored), sizeof(Stored));
    out[v] = static_cast<float>(static_cast<double>(stored) * slope + intercept);
  }
}

// Every `step`-th stored value from value `first` on.
void Convert(const StoredSlice& slice, std::size_t first, std::size_t step, float* out, std::size_t values) {
  const std::byte* const from = slice.bytes.data() + first * base::BytesOf(slice.type);
  const auto rescale = [&]<typename Stored>(Stored) {
    if (step == 1) return Rescale<Stored>(from, 1, slice.slope, slice.intercept, out, values);
    Rescale<Stored>(from, step, slice.slope, slice.intercept, out, values);
  };
  switch (slice.type) {
    case ipc::v1::STORED_TYPE_U8:
      return rescale(std::uint8_t{});
    case ipc::v1::STORED_TYPE_I8:
      return rescale(std::int8_t{});
    case ipc::v1::STORED_TYPE_U16:
      return rescale(std::uint16_t{});
    case ipc::v1::STORED_TYPE_I16:
      return rescale(std::int16_t{});
    case ipc::v1::STORED_TYPE_U32:
      return rescale(std::uint32_t{});
    case ipc::v1::STORED_TYPE_I32:
      return rescale(std::int32_t{});
    default:
      return;  // CheckSlices has refused it
  }
}

absl::Status CheckSlice(const StoredSlice& slice, std::size_t k, std::size_t voxels) {
  const auto error = [k](const char* reason, const char* text) {
    return base::Error(absl::StatusCode::kInvalidArgument, reason, std::to_string(k), text);
  };
  const std::size_t bytes = base::BytesOf(slice.type);
  if (bytes == 0) return error("SLICE_TYPE", "the slice has no stored type that a volume can use");
  if (slice.bytes.size() != voxels * bytes) {
    return error("SLICE_BYTES", "the slice does not have rows x columns stored values");
  }
  // Largest magnitude that the stored type and these factors can give.
  const double largest =
      std::abs(slice.slope) * std::ldexp(1.0, static_cast<int>(bytes) * 8) + std::abs(slice.intercept);
  if (!(largest <= std::numeric_limits<float>::max())) {
    return error("RESCALE_INVALID", "slope and intercept do not give finite values");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSlices(std::span<const StoredSlice> slices, const std::array<std::uint32_t, 3>& size_ijk) {
  if (slices.size() != size_ijk[2]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SLICE_COUNT", std::to_string(slices.size()),
                       "the number of slices differs from the geometry's");
  }
  const std::size_t voxels = std::size_t{size_ijk[0]} * size_ijk[1];
  for (std::size_t k = 0; k < slices.size(); ++k) {
    TS_RETURN_IF_ERROR(CheckSlice(slices[k], k, voxels));
  }
  return absl::OkStatus();
}

void RescaleSamples(const StoredSlice& slice, std::size_t columns, std::size_t step_j, std::size_t step_i,
                    std::span<float> out) {
  const std::size_t samples = (columns + step_i - 1) / step_i;
  for (std::size_t row = 0; row * samples < out.size(); ++row) {
    Convert(slice, row * step_j * columns, step_i, out.data() + row * samples, samples);
  }
}

absl::StatusOr<at::Tensor> StoredToFloat(std::span<const StoredSlice> slices,
                                         const std::array<std::uint32_t, 3>& size_ijk,
                                         const Parallel& parallel, const Placement& placement) {
  TS_RETURN_IF_ERROR(CheckSlices(slices, size_ijk));
  if (!placement.UsesLoops()) return on_device::Upload(slices, size_ijk, parallel, placement.device);
  return Fenced([&]() -> absl::StatusOr<at::Tensor> {
    at::Tensor volume = at::empty({size_ijk[2], size_ijk[1], size_ijk[0]}, at::kFloat);
    float* const out = volume.mutable_data_ptr<float>();
    const std::size_t voxels = std::size_t{size_ijk[0]} * size_ijk[1];
    TS_RETURN_IF_ERROR(ParallelFor(parallel, size_ijk[2], [&](std::int64_t k, int) {
      const auto at = static_cast<std::size_t>(k);
      Convert(slices[at], 0, 1, out + at * voxels, voxels);
    }));
    return volume;
  });
}

}  // namespace tomoserve::compute
