// Entry point of the CUDA module, device facts and the self-test.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "tomoserve/cuda/module.h"

namespace tomoserve::cuda {
namespace {

constexpr std::int32_t kWrongResult = -1;
constexpr std::uint32_t kThreads = 128;
constexpr std::uint32_t kElements = 1000;  // not a multiple of the block

Result ResultOf(cudaError_t error) {
  Result result{};
  result.code = static_cast<std::int32_t>(error);
  if (error == cudaSuccess) return result;
  std::snprintf(result.name, sizeof result.name, "%s", cudaGetErrorName(error));
  std::snprintf(result.text, sizeof result.text, "%s", cudaGetErrorString(error));
  // An error of a launch that left the context whole is not the next call's.
  static_cast<void>(cudaGetLastError());
  return result;
}

Result Count(std::int32_t* devices) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  *devices = error == cudaSuccess ? count : 0;
  return ResultOf(error);
}

Result Facts(std::int32_t device, DeviceFacts* facts) {
  *facts = {};
  cudaDeviceProp properties{};
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) error = cudaDriverGetVersion(&facts->driver_cuda);
  if (error == cudaSuccess) error = cudaRuntimeGetVersion(&facts->runtime_cuda);
  if (error != cudaSuccess) return ResultOf(error);
  std::snprintf(facts->name, sizeof facts->name, "%s", properties.name);
  facts->capability_major = properties.major;
  facts->capability_minor = properties.minor;
  char* digit = facts->uuid;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *digit++ = '-';
    digit += std::snprintf(digit, 3, "%02x", static_cast<unsigned char>(properties.uuid.bytes[i]));
  }
  return ResultOf(cudaSuccess);
}

Result Memory(std::int32_t device, std::uint64_t* free_bytes, std::uint64_t* total_bytes) {
  std::size_t free = 0;
  std::size_t total = 0;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  return ResultOf(error);
}

// 32-bit integer arithmetic: exact on every architecture.
__host__ __device__ std::uint32_t Expected(std::uint32_t i) { return (i * 2654435761u) ^ (i >> 3); }

__global__ void FillKernel(std::uint32_t* values, std::uint32_t count) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = Expected(i);
}

cudaError_t RunFillKernel(std::uint32_t* values, std::vector<std::uint32_t>& host) {
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) return error;
  FillKernel<<<(kElements + kThreads - 1) / kThreads, kThreads, 0, stream>>>(values, kElements);
  error = cudaGetLastError();
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(host.data(), values, kElements * sizeof(std::uint32_t), cudaMemcpyDeviceToHost,
                            stream);
  }
  const cudaError_t waited = cudaStreamSynchronize(stream);
  const cudaError_t destroyed = cudaStreamDestroy(stream);
  if (error != cudaSuccess) return error;
  return waited != cudaSuccess ? waited : destroyed;
}

Result SelfTest(std::int32_t device, bool* unsupported) {
  *unsupported = false;
  std::uint32_t* values = nullptr;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMalloc(&values, kElements * sizeof(std::uint32_t));
  if (error != cudaSuccess) return ResultOf(error);
  std::vector<std::uint32_t> host(kElements, 0);
  error = RunFillKernel(values, host);
  const cudaError_t freed = cudaFree(values);
  if (error == cudaSuccess) error = freed;
  *unsupported = error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
                 error == cudaErrorInvalidKernelImage || error == cudaErrorUnsupportedPtxVersion ||
                 error == cudaErrorInvalidPtx || error == cudaErrorJitCompilerNotFound ||
                 error == cudaErrorJitCompilationDisabled;
  if (error != cudaSuccess) return ResultOf(error);
  for (std::uint32_t i = 0; i < kElements; ++i) {
    if (host[i] == Expected(i)) continue;
    Result result{};
    result.code = kWrongResult;
    std::snprintf(result.name, sizeof result.name, "WRONG_RESULT");
    std::snprintf(result.text, sizeof result.text, "the self-test wrote a wrong value at %u", i);
    return result;
  }
  return ResultOf(cudaSuccess);
}

constexpr Module kModule = {
    .abi = kModuleAbi,
    .torch_version = TOMOSERVE_TORCH_VERSION,
    .architectures = TOMOSERVE_CUDA_ARCHITECTURES,
    .count = &Count,
    .facts = &Facts,
    .memory = &Memory,
    .self_test = &SelfTest,
};

}  // namespace
}  // namespace tomoserve::cuda

extern "C" __attribute__((visibility("default"))) const tomoserve::cuda::Module* tomoserve_cuda_module() {
  return &tomoserve::cuda::kModule;
}
