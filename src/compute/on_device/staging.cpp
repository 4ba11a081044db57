#include "compute/on_device/staging.h"

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstring>

namespace tomoserve::compute::on_device {

at::Tensor HostBuffer(std::int64_t count, at::ScalarType type, at::Device device) {
  at::TensorOptions options(type);
  if (!device.is_cpu()) options = options.pinned_memory(true);
  return at::empty({count}, options);
}

Stream CurrentStream(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

Stream CopyStream(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

void RunOn(const Stream& stream, const std::function<void()>& work) {
  if (!stream) return work();
  const c10::StreamGuard guard(*stream);
  work();
}

Mark::Mark(at::Device device) {
  if (!device.is_cpu()) event_.emplace(device.type());
}

void Mark::Set(const Stream& stream) {
  if (event_) event_->record(*stream);
}

void Mark::HoldUp(const Stream& stream) const {
  if (event_) event_->block(*stream);
}

void Mark::Wait() const {
  if (event_) event_->synchronize();
}

Parallel CopyThreads(const Parallel& parallel, at::Device device) {
  Parallel threads = parallel;
  if (!device.is_cpu()) threads.threads = std::max(threads.threads, 2);
  return threads;
}

absl::Status CopyBytes(std::span<const std::byte> from, std::byte* to, const Parallel& parallel) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  const auto pieces = static_cast<std::int64_t>((from.size() + kPiece - 1) / kPiece);
  return ParallelFor(parallel, pieces, [&](std::int64_t piece, int) {
    const std::size_t begin = static_cast<std::size_t>(piece) * kPiece;
    std::memcpy(to + begin, from.data() + begin, std::min(kPiece, from.size() - begin));
  });
}

}  // namespace tomoserve::compute::on_device
