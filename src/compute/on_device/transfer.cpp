#include "tomoserve/compute/on_device/transfer.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "compute/on_device/staging.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {

absl::Status Download(const at::Tensor& tensor, std::span<std::byte> out, const Parallel& parallel) {
  struct Buffer {
    at::Tensor host;
    Mark copied;
  };
  const at::Device device = tensor.device();
  const at::Tensor bytes = tensor.view({-1}).view(at::kByte);
  const std::int64_t all = bytes.numel();
  const std::int64_t step = std::min(kStagingBytes, all);
  const Stream stream = CurrentStream(device);
  const Parallel threads = CopyThreads(parallel, device);
  std::array<Buffer, 2> ring{{{HostBuffer(step, at::kByte, device), Mark(device)},
                              {HostBuffer(step, at::kByte, device), Mark(device)}}};
  const auto start = [&](std::int64_t begin) {
    if (begin >= all) return;
    Buffer& buffer = ring[static_cast<std::size_t>(begin / step % 2)];
    const std::int64_t size = std::min(step, all - begin);
    buffer.host.narrow(0, 0, size).copy_(bytes.narrow(0, begin, size), /*non_blocking=*/true);
    buffer.copied.Set(stream);
  };
  start(0);
  for (std::int64_t begin = 0; begin < all; begin += step) {
    start(begin + step);  // on its way while the one before is emptied
    const Buffer& buffer = ring[static_cast<std::size_t>(begin / step % 2)];
    buffer.copied.Wait();
    const auto size = static_cast<std::size_t>(std::min(step, all - begin));
    TS_RETURN_IF_ERROR(CopyBytes({static_cast<const std::byte*>(buffer.host.const_data_ptr()), size},
                                 out.data() + begin, threads));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::compute::on_device
