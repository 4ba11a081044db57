// The worker's way to a GPU: environment, module, device, set-up. In this order, before anything else that
// touches LibTorch: it remembers its first answer to "is there CUDA" for as long as the process lives.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tomoserve/cuda/module.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {

// What CUDA's libraries read from the environment when they start: a fixed workspace for cuBLAS (its results
// depend on it), growing memory segments, devices in the order of the bus. Before the first thread.
void SetCudaEnvironment();

// Path of the module: beside the running program.
std::string CudaModulePath();

// Opens driver and module and checks that they belong to this build. The module stays open for the life of
// the process. Errors: kUnavailable DEVICE_UNAVAILABLE (value: the library that is missing or does not fit).
absl::StatusOr<const cuda::Module*> OpenCudaModule(const std::string& path);

// Facts of GPU `index`; makes no context. Errors: kUnavailable DEVICE_UNAVAILABLE (value: "cuda:N" or CUDA's
// name of the error).
absl::StatusOr<cuda::DeviceFacts> FindCudaDevice(const cuda::Module& module, int index);

struct CudaRuntime {
  RuntimeInfo info;
  ComputeDevice device;
};

// Runs the module's self-test, opens the device, checks cuDNN's version and 3D convolutions against the CPU.
// The device's lock must be held. Errors: kUnavailable DEVICE_UNAVAILABLE;
// kFailedPrecondition DEVICE_UNSUPPORTED (value: the capability, cuDNN's version, or the largest difference).
absl::StatusOr<CudaRuntime> InitialiseCuda(const cuda::Module& module, const cuda::DeviceFacts& facts,
                                           int index);

}  // namespace tomoserve::engine
