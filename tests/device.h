// Whether the tests have a CUDA device. A test that needs one skips, visibly, where there is none.
#pragma once

#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace tomoserve::testing {

// Loads the CUDA half of LibTorch where there is a driver. ATen remembers its first answer to "is there CUDA"
// for ever, so this runs before main (kCudaLibrary), ahead of every call into ATen.
inline bool LoadCudaLibrary() {
  // As the worker has it (engine/cuda_module.cpp): without it ATen knows matrix products as
  // non-deterministic.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  if (::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr) return false;
  return ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
}

inline const bool kCudaLibrary = LoadCudaLibrary();

inline bool HasCudaDevice() {
  return kCudaLibrary && at::detail::getCUDAHooks().hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
}

}  // namespace tomoserve::testing

#define TS_SKIP_WITHOUT_CUDA()                                                    \
  do {                                                                            \
    if (!::tomoserve::testing::HasCudaDevice()) GTEST_SKIP() << "no CUDA device"; \
  } while (false)
