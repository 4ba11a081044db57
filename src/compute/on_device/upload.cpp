#include "compute/on_device/upload.h"

#include <ATen/ops/empty.h>

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
    const bool fits = !chunks.empty() && slices[k].type == slices[k - 1].type &&
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
    volume_.narrow(0, first, count).view({count, -1}).copy_(values);
    buffer.converted.Set(main_);
    return absl::OkStatus();
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
