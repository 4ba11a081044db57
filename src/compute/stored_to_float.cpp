#include "tomoserve/compute/stored_to_float.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {
namespace {

std::size_t BytesOf(ipc::v1::StoredType type) {
  switch (type) {
    case ipc::v1::STORED_TYPE_U8:
    case ipc::v1::STORED_TYPE_I8:
      return 1;
    case ipc::v1::STORED_TYPE_U16:
    case ipc::v1::STORED_TYPE_I16:
      return 2;
    case ipc::v1::STORED_TYPE_U32:
    case ipc::v1::STORED_TYPE_I32:
      return 4;
    default:
      return 0;
  }
}

// Arena slots are bytes: memcpy, because nothing promises an alignment.
template <typename Stored>
void Rescale(const StoredSlice& slice, float* out, std::size_t voxels) {
  const std::byte* from = slice.bytes.data();
  const double slope = slice.slope;
  const double intercept = slice.intercept;
  for (std::size_t v = 0; v < voxels; ++v) {
    Stored stored;
    std::memcpy(&stored, from + v * sizeof(Stored), sizeof(Stored));
    out[v] = static_cast<float>(static_cast<double>(stored) * slope + intercept);
  }
}

void Convert(const StoredSlice& slice, float* out, std::size_t voxels) {
  switch (slice.type) {
    case ipc::v1::STORED_TYPE_U8:
      return Rescale<std::uint8_t>(slice, out, voxels);
    case ipc::v1::STORED_TYPE_I8:
      return Rescale<std::int8_t>(slice, out, voxels);
    case ipc::v1::STORED_TYPE_U16:
      return Rescale<std::uint16_t>(slice, out, voxels);
    case ipc::v1::STORED_TYPE_I16:
      return Rescale<std::int16_t>(slice, out, voxels);
    case ipc::v1::STORED_TYPE_U32:
      return Rescale<std::uint32_t>(slice, out, voxels);
    case ipc::v1::STORED_TYPE_I32:
      return Rescale<std::int32_t>(slice, out, voxels);
    default:
      return;  // StoredToFloat has refused it
  }
}

absl::Status CheckSlice(const StoredSlice& slice, std::size_t k, std::size_t voxels) {
  const auto error = [k](const char* reason, const char* text) {
    return base::Error(absl::StatusCode::kInvalidArgument, reason, std::to_string(k), text);
  };
  const std::size_t bytes = BytesOf(slice.type);
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

absl::StatusOr<at::Tensor> StoredToFloat(std::span<const StoredSlice> slices,
                                         const std::array<std::uint32_t, 3>& size_ijk,
                                         const Parallel& parallel) {
  if (slices.size() != size_ijk[2]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SLICE_COUNT", std::to_string(slices.size()),
                       "the number of slices differs from the geometry's");
  }
  const std::size_t voxels = std::size_t{size_ijk[0]} * size_ijk[1];
  for (std::size_t k = 0; k < slices.size(); ++k) {
    TS_RETURN_IF_ERROR(CheckSlice(slices[k], k, voxels));
  }
  return Fenced([&]() -> absl::StatusOr<at::Tensor> {
    at::Tensor volume = at::empty({size_ijk[2], size_ijk[1], size_ijk[0]}, at::kFloat);
    float* const out = volume.mutable_data_ptr<float>();
    TS_RETURN_IF_ERROR(ParallelFor(parallel, size_ijk[2], [&](std::int64_t k, int) {
      const auto at = static_cast<std::size_t>(k);
      Convert(slices[at], out + at * voxels, voxels);
    }));
    return volume;
  });
}

}  // namespace tomoserve::compute
