// What this process computes on, for LibTorch: the CPU, or one GPU and the one stream that is used on it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"

namespace tomoserve::engine {

// A value; copies mean the same device and stream. Thread-safe. All work of a process on a GPU goes through
// one stream of its own (not the default one), so that it runs in the order of the launches, whichever
// threads launched it (docs/adr/0009).
class ComputeDevice {
 public:
  // The CPU.
  ComputeDevice() = default;
  // GPU `index` of those that CUDA shows this process; the CUDA half of LibTorch must be loaded. Makes the
  // context and sets LibTorch up for equal bits: TF32 off, cuDNN deterministic and without benchmark,
  // deterministic algorithms where there are some, no reductions in half precision. Errors: kUnavailable
  // DEVICE_UNAVAILABLE (value: "cuda:N").
  static absl::StatusOr<ComputeDevice> Cuda(int index);

  c10::Device device() const { return device_; }
  bool is_cuda() const { return device_.is_cuda(); }
  // Absent on the CPU.
  std::optional<c10::Stream> stream() const { return stream_; }

  // Sets the calling thread up: one intra-op thread (thread counts change bits on the CPU), and on a GPU
  // device and stream as the current ones. Cheap when repeated; every thread that touches a tensor of the
  // device calls it before. Throws c10::Error when the GPU is gone.
  void Use() const;
  // Waits for what was launched so far. Throws c10::Error for what went wrong meanwhile.
  void Synchronise() const;
  // Whether a small operation still gives its result. An error of CUDA can leave a process in which nothing
  // works any more; only a new process helps. Always true on the CPU.
  bool Works() const;
  // Gives memory that the allocator keeps for later back to the device.
  void FreeCache() const;
  // Memory of the GPU that the allocator holds now, in use and kept for later, bytes; the context and the
  // libraries' kernels are not in it. 0 on the CPU, or where the allocator does not say. May wait for whoever
  // allocates.
  std::uint64_t MemoryUsedBytes() const;
  // Begins to note the most that tensors take at a time; returns what they take now, bytes. On a GPU those of
  // the process, 0 where the allocator does not say. On a CPU those that the calling thread makes from now on
  // and that have 256 KiB or more, so that it begins with 0; in builds with a sanitizer none.
  std::uint64_t RestartPeak() const;
  // The most since then.
  std::uint64_t PeakBytes() const;
  // Whether the GPU has hardly any memory left that nobody holds, this process or another. False on the CPU,
  // or where nobody can say.
  bool IsMemoryLow() const;

 private:
  c10::Device device_{c10::kCPU};
  std::optional<c10::Stream> stream_;
  at::Tensor probe_;  // a value on the GPU, so that Works allocates nothing
};

}  // namespace tomoserve::engine
