// Ways between the host's memory and a device's. Private to the room. On a CPU the same calls copy at once.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>

#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute::on_device {

// Uninitialised host memory that the device can reach by itself: pinned, except for a CPU. ATen keeps freed
// pinned memory for later calls, and does not give it away while a copy still reads it.
at::Tensor HostBuffer(std::int64_t count, at::ScalarType type, at::Device device);

// A copy of `values` on the device, in the order of the current stream; never waits for the device.
template <typename Value>
at::Tensor ToDevice(std::span<const Value> values, at::Device device) {
  const at::Tensor host =
      HostBuffer(static_cast<std::int64_t>(values.size()), c10::CppTypeToScalarType<Value>::value, device);
  if (!values.empty()) std::memcpy(host.mutable_data_ptr(), values.data(), values.size_bytes());
  return host.to(device, host.scalar_type(), /*non_blocking=*/true);
}

// A stream of a device; a CPU has none.
using Stream = std::optional<c10::Stream>;

// The calling thread's current one, on which everything but uploads runs. That may be the device's default
// stream: work of one thread is in order on it too, and the twins of this room's tests run there. Which
// stream a worker's threads share is the engine's to say (ComputeDevice::Use, called by each of them before);
// a refusal here would have to know it.
Stream CurrentStream(at::Device device);
// One beside it, from ATen's pool.
Stream CopyStream(at::Device device);
// Runs `work` with `stream` as the current one.
void RunOn(const Stream& stream, const std::function<void()>& work);

// A point in the work of a stream; nothing on a CPU. Before Set, nobody waits.
class Mark {
 public:
  explicit Mark(at::Device device);
  void Set(const Stream& stream);
  // `stream` goes on only after the point.
  void HoldUp(const Stream& stream) const;
  // Returns after the point.
  void Wait() const;

 private:
  std::optional<c10::Event> event_;
};

// Copies piece by piece. Errors: those of ParallelFor.
absl::Status CopyBytes(std::span<const std::byte> from, std::byte* to, const Parallel& parallel);

// At least two threads where they feed or drain a device: one alone does not fill the memory bus.
Parallel CopyThreads(const Parallel& parallel, at::Device device);

}  // namespace tomoserve::compute::on_device
