#include "tomoserve/compute/stored_to_float.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

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

// Calls `work` with a value of the slice's stored type.
template <typename Work>
void WithType(ipc::v1::StoredType type, Work work) {
  switch (type) {
    case ipc::v1::STORED_TYPE_U8:
      return work(std::uint8_t{});
    case ipc::v1::STORED_TYPE_I8:
      return work(std::int8_t{});
    case ipc::v1::STORED_TYPE_U16:
      return work(std::uint16_t{});
    case ipc::v1::STORED_TYPE_I16:
      return work(std::int16_t{});
    case ipc::v1::STORED_TYPE_U32:
      return work(std::uint32_t{});
    case ipc::v1::STORED_TYPE_I32:
      return work(std::int32_t{});
    default:
      return;  // CheckSlices has refused it
  }
}

// Every `step`-th stored value from value `first` on.
void Convert(const StoredSlice& slice, std::size_t first, std::size_t step, float* out, std::size_t values) {
  const std::byte* const from = slice.bytes.data() + first * base::BytesOf(slice.type);
  WithType(slice.type, [&]<typename Stored>(Stored) {
    if (step == 1) return Rescale<Stored>(from, 1, slice.slope, slice.intercept, out, values);
    Rescale<Stored>(from, step, slice.slope, slice.intercept, out, values);
  });
}

// A slice on the grid that it is shifted onto.
template <typename Stored>
class ShiftedSlice {
 public:
  explicit ShiftedSlice(const StoredSlice& slice)
      : slice_(slice),
        columns_(slice.shift->stored_size_ij[0]),
        rows_(slice.shift->stored_size_ij[1]),
        along_i_(slice.shift->ij[0]),
        along_j_(slice.shift->ij[1]) {}

  double At(std::int64_t i, std::int64_t j) const {
    const std::int64_t row = j - along_j_.whole;
    const double here = InRow(i, row);
    return along_j_.rest == 0 ? here : Mix(here, InRow(i, row - 1), along_j_.rest);
  }

 private:
  double InRow(std::int64_t i, std::int64_t row) const {
    if (row < 0 || row >= rows_) return slice_.shift->outside;
    const std::int64_t column = i - along_i_.whole;
    const double here = Value(column, row);
    return along_i_.rest == 0 ? here : Mix(here, Value(column - 1, row), along_i_.rest);
  }

  double Value(std::int64_t column, std::int64_t row) const {
    if (column < 0 || column >= columns_) return slice_.shift->outside;
    Stored stored;
    std::memcpy(&stored,
                slice_.bytes.data() + static_cast<std::size_t>(row * columns_ + column) * sizeof stored,
                sizeof stored);
    return static_cast<double>(stored) * slice_.slope + slice_.intercept;
  }

  const StoredSlice& slice_;
  std::int64_t columns_;
  std::int64_t rows_;
  AxisShift along_i_;
  AxisShift along_j_;
};

// Every `step_j`-th row's every `step_i`-th value of a stored slice.
void ConvertSamples(const StoredSlice& slice, std::size_t columns, std::size_t step_j, std::size_t step_i,
                    std::span<float> out) {
  const std::size_t samples = (columns + step_i - 1) / step_i;
  const std::size_t rows = out.size() / samples;
  if (!slice.shift) {
    for (std::size_t row = 0; row < rows; ++row) {
      Convert(slice, row * step_j * columns, step_i, out.data() + row * samples, samples);
    }
    return;
  }
  WithType(slice.type, [&]<typename Stored>(Stored) {
    const ShiftedSlice<Stored> shifted(slice);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t sample = 0; sample < samples; ++sample) {
        out[row * samples + sample] = static_cast<float>(
            shifted.At(static_cast<std::int64_t>(sample * step_i), static_cast<std::int64_t>(row * step_j)));
      }
    }
  });
}

// Values of row j of a stored slice, from column `first_i` on.
void ConvertRow(const StoredSlice& slice, std::size_t columns, std::size_t j, std::size_t first_i,
                std::span<float> out) {
  if (!slice.shift) return Convert(slice, j * columns + first_i, 1, out.data(), out.size());
  WithType(slice.type, [&]<typename Stored>(Stored) {
    const ShiftedSlice<Stored> shifted(slice);
    for (std::size_t n = 0; n < out.size(); ++n) {
      out[n] = static_cast<float>(
          shifted.At(static_cast<std::int64_t>(first_i + n), static_cast<std::int64_t>(j)));
    }
  });
}

void MixInto(std::span<const float> before, std::span<const float> after, double weight, float* out) {
  for (std::size_t v = 0; v < before.size(); ++v) {
    out[v] = static_cast<float>(Mix(before[v], after[v], weight));
  }
}

absl::Status SliceError(const char* reason, std::size_t k, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, reason, std::to_string(k), text);
}

absl::Status CheckBetween(std::span<const StoredSlice> slices, std::size_t k) {
  const Between& between = *slices[k].between;
  const bool inside = between.before < k && between.after > k && between.after < slices.size() &&
                      between.weight > 0 && between.weight < 1;
  if (!inside || slices[between.before].between || slices[between.after].between) {
    return SliceError("SLICE_BETWEEN", k, "an interpolated slice needs a stored one on each side");
  }
  return absl::OkStatus();
}

absl::Status CheckSlice(const StoredSlice& slice, std::size_t k,
                        const std::array<std::uint32_t, 3>& size_ijk) {
  const std::size_t bytes = base::BytesOf(slice.type);
  if (bytes == 0) return SliceError("SLICE_TYPE", k, "the slice has no stored type that a volume can use");
  std::array<std::uint32_t, 2> size_ij{size_ijk[0], size_ijk[1]};
  if (slice.shift) {
    for (std::size_t axis = 0; axis < 2; ++axis) {
      if (!(slice.shift->ij[axis] >= 0 && slice.shift->ij[axis] <= size_ij[axis]) ||
          !(std::abs(slice.shift->outside) <= std::numeric_limits<float>::max())) {
        return SliceError("SLICE_SHIFT", k,
                          "the shift is negative or larger than the grid, or goes outside of floats");
      }
    }
    size_ij = slice.shift->stored_size_ij;
  }
  if (slice.bytes.size() != std::size_t{size_ij[0]} * size_ij[1] * bytes) {
    return SliceError("SLICE_BYTES", k, "the slice does not have rows x columns stored values");
  }
  // Largest magnitude that the stored type and these factors can give.
  const double largest =
      std::abs(slice.slope) * std::ldexp(1.0, static_cast<int>(bytes) * 8) + std::abs(slice.intercept);
  if (!(largest <= std::numeric_limits<float>::max())) {
    return SliceError("RESCALE_INVALID", k, "slope and intercept do not give finite values");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSlices(std::span<const StoredSlice> slices, const std::array<std::uint32_t, 3>& size_ijk) {
  if (slices.size() != size_ijk[2]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SLICE_COUNT", std::to_string(slices.size()),
                       "the number of slices differs from the geometry's");
  }
  for (std::size_t k = 0; k < slices.size(); ++k) {
    TS_RETURN_IF_ERROR(slices[k].between ? CheckBetween(slices, k) : CheckSlice(slices[k], k, size_ijk));
  }
  return absl::OkStatus();
}

void RescaleSamples(std::span<const StoredSlice> slices, std::size_t k, std::size_t columns,
                    std::size_t step_j, std::size_t step_i, std::span<float> out) {
  const StoredSlice& slice = slices[k];
  if (!slice.between) return ConvertSamples(slice, columns, step_j, step_i, out);
  std::vector<float> before(out.size());
  ConvertSamples(slices[slice.between->before], columns, step_j, step_i, before);
  ConvertSamples(slices[slice.between->after], columns, step_j, step_i, out);
  MixInto(before, out, slice.between->weight, out.data());
}

void RescaleRow(std::span<const StoredSlice> slices, std::size_t k, std::size_t columns, std::size_t j,
                std::size_t first_i, std::span<float> out) {
  const StoredSlice& slice = slices[k];
  if (!slice.between) return ConvertRow(slice, columns, j, first_i, out);
  std::vector<float> before(out.size());
  ConvertRow(slices[slice.between->before], columns, j, first_i, before);
  ConvertRow(slices[slice.between->after], columns, j, first_i, out);
  MixInto(before, out, slice.between->weight, out.data());
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
    const auto slice_of = [&](std::size_t k) { return std::span<float>(out + k * voxels, voxels); };
    const auto each = [&](auto work) {
      return ParallelFor(parallel, size_ijk[2],
                         [&](std::int64_t k, int) { work(static_cast<std::size_t>(k)); });
    };
    TS_RETURN_IF_ERROR(each([&](std::size_t k) {
      if (slices[k].between) return;
      ConvertSamples(slices[k], slices[k].shift ? size_ijk[0] : voxels, 1, 1, slice_of(k));
    }));
    const auto is_between = [](const StoredSlice& slice) { return slice.between.has_value(); };
    if (std::none_of(slices.begin(), slices.end(), is_between)) return volume;
    TS_RETURN_IF_ERROR(each([&](std::size_t k) {
      if (const auto& between = slices[k].between) {
        MixInto(slice_of(between->before), slice_of(between->after), between->weight, out + k * voxels);
      }
    }));
    return volume;
  });
}

}  // namespace tomoserve::compute
