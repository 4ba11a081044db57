#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>

#include "engine/cuda_errors.h"
#include "engine/device_check.h"
#include "engine/failure.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/cuda.h"

namespace tomoserve::engine {
namespace {

// cuDNN 9.8 to 9.14 computed some 3D convolutions wrongly, TF32 ones up to 9.15 (pytorch issues 166122 and
// 166643, PR 167024).
constexpr long kOldestCudnn = 91501;
// Sums of 8 * 27 products of numbers below 1, some 50 in all: in another order of additions, and with factors
// and sum rounded to 11 bits. TF32 gives more than the first.
constexpr double kFloat32Tolerance = 3e-4;
constexpr double kHalfTolerance = 0.1;
// Left for kernels that are loaded late and for the workspaces of convolutions.
constexpr std::uint64_t kLeastReserveBytes = 1ull << 30;
constexpr std::uint64_t kReserveDivisor = 20;

// Of a number like 91900.
std::string CudnnVersion(long number) {
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
         std::to_string(number % 100);
}

// The kernel driver's own version; where the system does not tell, the CUDA version that it knows.
std::string DriverVersion(const cuda::DeviceFacts& facts) {
  std::string version;
  if (std::ifstream("/sys/module/nvidia/version") >> version) return version;
  return "CUDA-" + std::to_string(facts.driver_cuda / 1000) + "." +
         std::to_string(facts.driver_cuda % 1000 / 10);
}

std::string Capability(const cuda::DeviceFacts& facts) {
  return std::to_string(facts.capability_major) + std::to_string(facts.capability_minor);
}

absl::Status CheckConvolutions(const ComputeDevice& device) {
  for (const auto& [precision, tolerance] : {std::pair{v1::PRECISION_FLOAT32, kFloat32Tolerance},
                                             std::pair{v1::PRECISION_FLOAT16, kHalfTolerance}}) {
    const double difference = ConvolutionDifference(device, precision);
    if (difference <= tolerance) continue;  // not for NaN
    return DeviceUnsupported(std::to_string(difference),
                             "a 3D convolution on the device differs from the CPU's");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CudaRuntime> InitialiseCuda(const cuda::Module& module, const cuda::DeviceFacts& facts,
                                           int index) {
  bool unsupported = false;
  if (const cuda::Result tested = module.self_test(index, &unsupported); tested.code != 0) {
    if (!unsupported) return ErrorOf(tested);
    return DeviceUnsupported("sm_" + Capability(facts),
                             "this build has code for " + std::string(module.architectures) + " only");
  }
  CudaRuntime runtime{.info = InitialiseTorch(), .device = {}};
  try {
    const at::CUDAHooksInterface& hooks = at::detail::getCUDAHooks();
    if (!hooks.hasCUDA()) return DeviceUnavailable("libtorch_cuda.so", "LibTorch finds no CUDA device");
    TS_ASSIGN_OR_RETURN(runtime.device, ComputeDevice::Cuda(index));
    const long cudnn = hooks.versionRuntimeCuDNN();
    runtime.info.cudnn_version = CudnnVersion(cudnn);
    if (cudnn < kOldestCudnn) {
      return DeviceUnsupported(runtime.info.cudnn_version, "cuDNN before " + CudnnVersion(kOldestCudnn) +
                                                               " computes 3D convolutions wrongly");
    }
    TS_RETURN_IF_ERROR(CheckConvolutions(runtime.device));
  } catch (...) {
    return CurrentDeviceException("cuda:" + std::to_string(index),
                                  "the device fails at its first operations");
  }
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  if (const cuda::Result asked = module.memory(index, &free_bytes, &total_bytes); asked.code != 0) {
    return ErrorOf(asked);
  }
  const std::uint64_t reserve = std::max(kLeastReserveBytes, total_bytes / kReserveDivisor);
  if (free_bytes <= reserve) {
    return DeviceUnavailable(std::to_string(free_bytes),
                             "nearly all of the device's memory is in use already");
  }
  runtime.info.memory_bytes = free_bytes - reserve;
  runtime.info.driver_version = DriverVersion(facts);
  runtime.info.device_kind = std::string(facts.name) + " sm_" + Capability(facts) + " driver " +
                             runtime.info.driver_version + " cuDNN " + runtime.info.cudnn_version +
                             " torch " + runtime.info.torch_version;
  return runtime;
}

}  // namespace tomoserve::engine
