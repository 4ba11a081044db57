// The CUDA half of the worker, libtomoserve_cuda.so: what it says of itself and of the devices. A C
// interface, because the worker opens the module at run time and must be able to refuse one of another build.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tomoserve::cuda {

// Changes with every change of Module, of DeviceFacts or of what a function means.
inline constexpr std::uint32_t kModuleAbi = 1;
// Type of the module's only exported symbol: the entry point.
inline constexpr char kModuleEntryName[] = "tomoserve_cuda_module";

struct DeviceFacts {
  char name[256];                 // e.g. "NVIDIA L4"
  char uuid[37];                  // 8-4-4-4-12 hexadecimal digits
  std::int32_t capability_major;  // e.g. 8
  std::int32_t capability_minor;  // e.g. 9
  std::int32_t driver_cuda;       // newest CUDA that the driver knows: 1000 * major + 10 * minor
  std::int32_t runtime_cuda;      // the CUDA run-time library's own version, in the same form
};

// What a function of the module ended with: 0, or CUDA's own number, name and text for it.
struct Result {
  std::int32_t code;
  char name[64];
  char text[192];
};

struct Module {
  std::uint32_t abi;          // kModuleAbi of the module's build; the first member in every version
  const char* torch_version;  // LibTorch that it was built for, e.g. "2.11.0"
  const char* architectures;  // of its machine code, e.g. "80-real;89-real;90"

  // CUDA devices of this process; initialises the driver, makes no context. Thread-safe.
  Result (*count)(std::int32_t* devices);
  // Makes no context. Thread-safe.
  Result (*facts)(std::int32_t device, DeviceFacts* facts);
  // Bytes of the device's memory; makes the device current on the calling thread and its context if there is
  // none. Thread-safe.
  Result (*memory)(std::int32_t device, std::uint64_t* free_bytes, std::uint64_t* total_bytes);
  // Runs a kernel of this module on the device and checks what it wrote. `unsupported`: the device is there
  // but runs no code of this module's architectures. Thread-safe.
  Result (*self_test)(std::int32_t device, bool* unsupported);
};

using ModuleEntry = const Module* (*)();

}  // namespace tomoserve::cuda
