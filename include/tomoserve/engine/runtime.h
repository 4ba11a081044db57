// LibTorch as a whole: threads, executors, and what machine this is.
#pragma once

#include <cstdint>
#include <string>

namespace tomoserve::engine {

struct RuntimeInfo {
  // e.g. "cpu AVX512 x86_64", "NVIDIA L4 sm_89 driver 580.82.07 cuDNN 9.19.0 torch 2.11.0"; results are
  // bit-identical on machines of one kind.
  std::string device_kind;
  std::string torch_version;       // e.g. "2.11.0"
  std::string driver_version;      // of a GPU; empty on the CPU
  std::string cudnn_version;       // of a GPU; empty on the CPU
  std::uint64_t memory_bytes = 0;  // that runs may use
};

// Sets LibTorch up for this process and its CPU: one intra-op thread, no recompilation while running,
// printing of models thrown away; runs a small convolution so that kernels and libraries are loaded. Call
// before the sandbox and before any Network. Idempotent; thread-safe.
RuntimeInfo InitialiseTorch();

// Gives host memory that was kept for the next window back to the system: when no window is to come soon, or
// memory was short. Kept memory and tensors together are never more than tensors alone were at most.
// Thread-safe.
void ReleaseHostMemory();
// The same at the end of a run beside others: what is kept is bounded by what tensors took since the last
// call but one. Thread-safe.
void TrimHostMemory();

// Makes the calling thread compute alone (thread counts change bits on the CPU). Cheap when repeated.
void UseOneThread();

}  // namespace tomoserve::engine
