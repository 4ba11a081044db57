// LibTorch as a whole: threads, executors, and what machine this is.
#pragma once

#include <string>

namespace tomoserve::engine {

struct RuntimeInfo {
  std::string device_kind;    // e.g. "cpu AVX512 x86_64"; results are bit-identical on machines of one kind
  std::string torch_version;  // e.g. "2.11.0"
};

// Sets LibTorch up for this process: one intra-op thread, no recompilation while running, printing of models
// thrown away; runs a small convolution so that kernels and libraries are loaded. Call before the sandbox and
// before any Network. Idempotent; thread-safe.
RuntimeInfo InitialiseTorch();

// Makes the calling thread compute alone (thread counts change bits on the CPU). Cheap when repeated.
void UseOneThread();

}  // namespace tomoserve::engine
