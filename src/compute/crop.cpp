#include "tomoserve/compute/crop.h"

#include <ATen/ops/any.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/on_device/chunks.h"
#include "tomoserve/compute/on_device/components.h"

namespace tomoserve::compute {
namespace {

// Along one axis; empty where last < first.
struct Interval {
  std::int64_t first = 0;
  std::int64_t last = -1;

  void Add(const Interval& other) {
    if (other.last < other.first) return;
    const bool empty = last < first;
    first = empty ? other.first : std::min(first, other.first);
    last = empty ? other.last : std::max(last, other.last);
  }
};

using Intervals = std::array<Interval, 3>;  // k, j, i

template <typename Value>
Intervals OthersOfSlice(const Value* slice, std::int64_t rows, std::int64_t columns, Value background) {
  const auto is_other = [background](Value value) { return value != background; };
  Intervals found;
  for (std::int64_t j = 0; j < rows; ++j) {
    const Value* const row = slice + j * columns;
    const Value* const first = std::find_if(row, row + columns, is_other);
    if (first == row + columns) continue;
    const auto last =
        std::find_if(std::make_reverse_iterator(row + columns), std::make_reverse_iterator(first), is_other);
    found[1].Add({j, j});
    found[2].Add({first - row, last.base() - row - 1});
  }
  return found;
}

template <typename Value>
absl::StatusOr<Intervals> FindWithLoops(const at::Tensor& volume, Value background,
                                        const Parallel& parallel) {
  const Value* const voxels = volume.const_data_ptr<Value>();
  const std::int64_t rows = volume.size(1);
  const std::int64_t columns = volume.size(2);
  std::vector<Intervals> of_slices(static_cast<std::size_t>(volume.size(0)));
  TS_RETURN_IF_ERROR(ParallelFor(parallel, volume.size(0), [&](std::int64_t k, int) {
    of_slices[static_cast<std::size_t>(k)] =
        OthersOfSlice(voxels + k * rows * columns, rows, columns, background);
  }));
  Intervals found;
  for (std::size_t k = 0; k < of_slices.size(); ++k) {
    const auto number = static_cast<std::int64_t>(k);
    if (of_slices[k][1].last >= 0) found[0].Add({number, number});
    found[1].Add(of_slices[k][1]);
    found[2].Add(of_slices[k][2]);
  }
  return found;
}

absl::StatusOr<Intervals> FindInAnyWithLoops(std::span<const at::Tensor> volumes, float background,
                                             const Parallel& parallel) {
  Intervals found;
  for (const at::Tensor& volume : volumes) {
    TS_ASSIGN_OR_RETURN(const Intervals of_volume, FindWithLoops(volume, background, parallel));
    for (std::size_t axis = 0; axis < 3; ++axis) found[axis].Add(of_volume[axis]);
  }
  return found;
}

Intervals FindInAnyWithTensors(std::span<const at::Tensor> volumes, float background) {
  const at::Tensor& volume = volumes.front();
  std::array<at::Tensor, 3> flags;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    flags[static_cast<std::size_t>(axis)] = at::zeros({volume.size(axis)}, volume.options().dtype(at::kBool));
  }
  on_device::ForRanges(volume.size(0), on_device::SlicesOfChunk(volume.stride(0)),
                       [&](std::int64_t first, std::int64_t count) {
                         at::Tensor other = volume.narrow(0, first, count).ne(background);
                         for (const at::Tensor& more : volumes.subspan(1)) {
                           other.logical_or_(more.narrow(0, first, count).ne(background));
                         }
                         const at::Tensor of_rows = other.any(2);
                         flags[0].narrow(0, first, count).copy_(of_rows.any(1));
                         flags[1].logical_or_(of_rows.any(0));
                         flags[2].logical_or_(other.any(1).any(0));
                       });
  Intervals found;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const at::Tensor host = flags[axis].cpu();
    const bool* const any = host.const_data_ptr<bool>();
    for (std::int64_t at = 0; at < host.numel(); ++at) {
      if (any[at]) found[axis].Add({at, at});
    }
  }
  return found;
}

// The box of what was found in a volume of these sizes, with a margin.
volume::Box BoxAround(const Intervals& found, at::IntArrayRef size_kji, std::uint32_t margin) {
  volume::Box box;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t last = size_kji[axis] - 1;
    const bool nothing = found[axis].last < found[axis].first;
    const std::int64_t begin = nothing ? 0 : std::max<std::int64_t>(found[axis].first - margin, 0);
    const std::int64_t end = nothing ? last : std::min<std::int64_t>(found[axis].last + margin, last);
    box.first_ijk[2 - axis] = static_cast<std::uint32_t>(begin);
    box.size_ijk[2 - axis] = static_cast<std::uint32_t>(end - begin + 1);
  }
  return box;
}

}  // namespace

absl::StatusOr<volume::Box> BoxOfOthers(std::span<const at::Tensor> volumes, double background,
                                        std::uint32_t margin, const Parallel& parallel,
                                        const Placement& placement) {
  return Fenced([&]() -> absl::StatusOr<volume::Box> {
    const auto value = static_cast<float>(background);
    Intervals found;
    if (placement.UsesLoops()) {
      TS_ASSIGN_OR_RETURN(found, FindInAnyWithLoops(volumes, value, parallel));
    } else {
      found = FindInAnyWithTensors(volumes, value);
    }
    return BoxAround(found, volumes.front().sizes(), margin);
  });
}

absl::StatusOr<volume::Box> BoxOfMask(const at::Tensor& mask, std::uint32_t margin,
                                      const Parallel& parallel) {
  return Fenced([&]() -> absl::StatusOr<volume::Box> {
    TS_ASSIGN_OR_RETURN(const Intervals found, FindWithLoops<std::uint8_t>(mask, 0, parallel));
    return BoxAround(found, mask.sizes(), margin);
  });
}

at::Tensor CropTo(at::Tensor volume, const volume::Box& box, const Placement& placement) {
  at::Tensor part = volume;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const auto ijk = static_cast<std::size_t>(2 - axis);
    part = part.narrow(axis, box.first_ijk[ijk], box.size_ijk[ijk]);
  }
  if (!placement.UsesLoops()) return part.contiguous();
  float* to = volume.mutable_data_ptr<float>();
  const float* const from = part.const_data_ptr<float>();
  for (std::int64_t k = 0; k < part.size(0); ++k) {
    for (std::int64_t j = 0; j < part.size(1); ++j, to += part.size(2)) {
      const float* const row = from + k * part.stride(0) + j * part.stride(1);
      std::copy(row, row + part.size(2), to);  // never forward
    }
  }
  return volume.view({-1}).narrow(0, 0, part.numel()).view(part.sizes());
}

absl::StatusOr<at::Tensor> FilledNonzero(std::span<const at::Tensor> volumes, const Parallel& parallel,
                                         const Placement& placement) {
  at::Tensor nonzero = volumes.front().ne(0);
  for (const at::Tensor& more : volumes.subspan(1)) nonzero.logical_or_(more.ne(0));
  const at::Tensor mask = nonzero.view(at::kByte);
  if (!placement.UsesLoops()) {
    TS_RETURN_IF_ERROR(on_device::FillHoles(mask, 1, parallel));
    return mask;
  }
  const LabelGrid<std::uint8_t> grid{
      {mask.mutable_data_ptr<std::uint8_t>(), static_cast<std::size_t>(mask.numel())},
      {mask.size(0), mask.size(1), mask.size(2)}};
  TS_RETURN_IF_ERROR(FillHoles(grid, 1, parallel));
  return mask;
}

template <typename Label>
void InsertInto(const volume::Geometry& geometry, const volume::Box& box, std::span<const Label> part,
                std::span<Label> whole) {
  std::fill(whole.begin(), whole.end(), Label{0});
  const auto [columns, rows, slices] = box.size_ijk;
  const Label* from = part.data();
  for (std::size_t k = 0; k < slices; ++k) {
    for (std::size_t j = 0; j < rows; ++j, from += columns) {
      const std::size_t row = (k + box.first_ijk[2]) * geometry.size_ijk()[1] + j + box.first_ijk[1];
      std::copy_n(from, columns, whole.data() + row * geometry.size_ijk()[0] + box.first_ijk[0]);
    }
  }
}

template void InsertInto<std::uint8_t>(const volume::Geometry&, const volume::Box&,
                                       std::span<const std::uint8_t>, std::span<std::uint8_t>);
template void InsertInto<std::uint16_t>(const volume::Geometry&, const volume::Box&,
                                        std::span<const std::uint16_t>, std::span<std::uint16_t>);

}  // namespace tomoserve::compute
