#include "compute/on_device/upload.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <array>
#include <vector>

#include "compute/on_device/staging.h"
#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

constexpr std::size_t kRing = 3;  // one is filled, one copied, one converted

// Slices of one stored type that travel together.
struct Chunk {
  std::size_t first = 0;
  std::size_t count = 0;
};

std::vector<Chunk> ChunksOf(std::span<const StoredSlice> slices) {
  std::vector<Chunk> chunks;
  for (std::size_t k = 0; k < slices.size(); ++k) {
    if (slices[k].between) continue;
    const bool fits = !chunks.empty() && chunks.back().first + chunks.back().count == k &&
                      slices[k].type == slices[k - 1].type &&
                      slices[k].bytes.size() == slices[k - 1].bytes.size() &&
                      (chunks.back().count + 1) * slices[k].bytes.size() <= std::size_t{kStagingBytes};
    if (fits) {
      ++chunks.back().count;
    } else {
      chunks.push_back({k, 1});
    }
  }
  return chunks;
}

// Stored integers, given as their bytes, as doubles. ATen does no arithmetic on unsigned types of more than
// one byte: they pass through the next wider signed one.
at::Tensor ToDouble(const at::Tensor& bytes, ipc::v1::StoredType type) {
  switch (type) {
    case ipc::v1::STORED_TYPE_I8:
      return bytes.view(at::kChar).to(at::kDouble);
    case ipc::v1::STORED_TYPE_U16:
      return bytes.view(at::kShort).to(at::kInt).bitwise_and_(0xffff).to(at::kDouble);
    case ipc::v1::STORED_TYPE_I16:
      return bytes.view(at::kShort).to(at::kDouble);
    case ipc::v1::STORED_TYPE_U32:
      return bytes.view(at::kInt).to(at::kLong).bitwise_and_(std::int64_t{0xffffffff}).to(at::kDouble);
    case ipc::v1::STORED_TYPE_I32:
      return bytes.view(at::kInt).to(at::kDouble);
    default:
      return bytes.to(at::kDouble);  // U8; CheckSlices has refused all others
  }
}

// Values moved along their last dimension into one of `size`, mixed with those of the pixel before; `outside`
// where there is none.
at::Tensor Shifted(const at::Tensor& values, const AxisShift& shift, std::int64_t size, double outside) {
  const auto moved = [&](std::int64_t by) {
    std::vector<std::int64_t> shape = values.sizes().vec();
    shape.back() = size;
    const at::Tensor to = at::full(shape, outside, values.options());
    const std::int64_t count = std::min(values.size(-1), size - by);
    if (count > 0) to.narrow(-1, by, count).copy_(values.narrow(-1, 0, count));
    return to;
  };
  const at::Tensor here = moved(shift.whole);
  if (shift.rest == 0) return here;
  // The order of Mix: each product is rounded, then the sum.
  return here.mul_(1 - shift.rest).add_(moved(shift.whole + 1).mul_(shift.rest));
}

// A place of the ring: pinned memory, its copy on the device, and when either may be written again.
struct Buffer {
  Buffer(std::int64_t bytes, at::Device device)
      : host(HostBuffer(bytes, at::kByte, device)),
        raw(at::empty({bytes}, at::TensorOptions(at::kByte).device(device))),
        copied(device),
        converted(device) {}
  at::Tensor host;
  at::Tensor raw;
  Mark copied;
  Mark converted;
};

class Uploader {
 public:
  Uploader(std::span<const StoredSlice> slices, const std::array<std::uint32_t, 3>& size_ijk,
           const Parallel& parallel, at::Device device)
      : slices_(slices),
        parallel_(CopyThreads(parallel, device)),
        device_(device),
        main_(CurrentStream(device)),
        copying_(CopyStream(device)),
        volume_(at::empty({size_ijk[2], size_ijk[1], size_ijk[0]},
                          at::TensorOptions(at::kFloat).device(device))) {
    std::vector<double> slopes, intercepts;
    for (const StoredSlice& slice : slices) {
      slopes.push_back(slice.slope);
      intercepts.push_back(slice.intercept);
    }
    slopes_ = ToDevice<double>(slopes, device).unsqueeze(1);
    intercepts_ = ToDevice<double>(intercepts, device).unsqueeze(1);
  }

  absl::StatusOr<at::Tensor> Run() {
    const std::vector<Chunk> chunks = ChunksOf(slices_);
    std::size_t largest = 0;
    for (const Chunk& chunk : chunks)
      largest = std::max(largest, chunk.count * slices_[chunk.first].bytes.size());
    std::vector<Buffer> ring;
    for (std::size_t n = 0; n < std::min(kRing, chunks.size()); ++n) {
      ring.emplace_back(static_cast<std::int64_t>(largest), device_);
      // Its memory may still be in use by what the current stream did before.
      ring.back().converted.Set(main_);
    }
    for (std::size_t n = 0; n < chunks.size(); ++n) TS_RETURN_IF_ERROR(Send(chunks[n], ring[n % kRing]));
    for (std::size_t k = 0; k < slices_.size(); ++k) {
      if (slices_[k].between) Interpolate(static_cast<std::int64_t>(k), *slices_[k].between);
    }
    return volume_;
  }

 private:
  absl::Status Send(const Chunk& chunk, Buffer& buffer) {
    const std::size_t slice_bytes = slices_[chunk.first].bytes.size();
    const auto bytes = static_cast<std::int64_t>(chunk.count * slice_bytes);
    buffer.copied.Wait();
    auto* const to = static_cast<std::byte*>(buffer.host.mutable_data_ptr());
    TS_RETURN_IF_ERROR(
        ParallelFor(parallel_, static_cast<std::int64_t>(chunk.count), [&](std::int64_t index, int) {
          const auto at = static_cast<std::size_t>(index);
          std::memcpy(to + at * slice_bytes, slices_[chunk.first + at].bytes.data(), slice_bytes);
        }));
    const at::Tensor raw = buffer.raw.narrow(0, 0, bytes);
    buffer.converted.HoldUp(copying_);
    RunOn(copying_, [&] { raw.copy_(buffer.host.narrow(0, 0, bytes), /*non_blocking=*/true); });
    buffer.copied.Set(copying_);
    // From here on nothing that the current stream does, reuse of freed memory included, overtakes the copy.
    buffer.copied.HoldUp(main_);
    const auto first = static_cast<std::int64_t>(chunk.first);
    const auto count = static_cast<std::int64_t>(chunk.count);
    const at::Tensor values = ToDouble(raw, slices_[chunk.first].type).view({count, -1});
    values.mul_(slopes_.narrow(0, first, count)).add_(intercepts_.narrow(0, first, count));
    PutDown(values, first);
    buffer.converted.Set(main_);
    return absl::OkStatus();
  }

  // Rescaled slices, [n][values], from slice `first` of the volume on.
  void PutDown(const at::Tensor& values, std::int64_t first) {
    const at::Tensor to = volume_.narrow(0, first, values.size(0));
    const auto of_chunk =
        slices_.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(values.size(0)));
    if (std::none_of(of_chunk.begin(), of_chunk.end(),
                     [](const StoredSlice& slice) { return slice.shift.has_value(); })) {
      to.view({values.size(0), -1}).copy_(values);
      return;
    }
    for (std::int64_t n = 0; n < values.size(0); ++n) {
      const std::optional<Shift>& shift = of_chunk[static_cast<std::size_t>(n)].shift;
      if (!shift) {
        to.select(0, n).view({-1}).copy_(values.select(0, n));
        continue;
      }
      const at::Tensor slice = values.select(0, n).view({shift->stored_size_ij[1], shift->stored_size_ij[0]});
      const at::Tensor along_i = Shifted(slice, AxisShift(shift->ij[0]), volume_.size(2), shift->outside);
      to.select(0, n).copy_(
          Shifted(along_i.t(), AxisShift(shift->ij[1]), volume_.size(1), shift->outside).t());
    }
  }

  void Interpolate(std::int64_t k, const Between& between) {
    const at::Tensor before = volume_.select(0, between.before).to(at::kDouble);
    const at::Tensor after = volume_.select(0, between.after).to(at::kDouble);
    volume_.select(0, k).copy_(before.mul(1 - between.weight).add_(after.mul(between.weight)));
  }

  std::span<const StoredSlice> slices_;
  Parallel parallel_;
  at::Device device_;
  Stream main_;
  Stream copying_;
  at::Tensor volume_;
  at::Tensor slopes_;
  at::Tensor intercepts_;
};

}  // namespace

absl::StatusOr<at::Tensor> Upload(std::span<const StoredSlice> slices,
                                  const std::array<std::uint32_t, 3>& size_ijk, const Parallel& parallel,
                                  at::Device device) {
  return Fenced([&] { return Uploader(slices, size_ijk, parallel, device).Run(); });
}

}  // namespace tomoserve::compute::on_device
