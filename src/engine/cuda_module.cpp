#include <dlfcn.h>
#include <stdlib.h>
#include <torch/headeronly/version.h>

#include <unistd.h>
#include <array>
#include <climits>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "engine/cuda_errors.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/cuda.h"

namespace tomoserve::engine {
namespace {

constexpr char kDriverLibrary[] = "libcuda.so.1";
constexpr char kModuleFile[] = "libtomoserve_cuda.so";

std::string Version(int major, int minor, int patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

std::string FileName(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

// `loader` is its text: "libcudnn.so.9: cannot open shared object file: No such file or directory", or
// "PATH: undefined symbol: NAME". The value is the file that it is about.
absl::Status CannotOpen(std::string_view what, std::string_view file, const char* loader) {
  const std::string_view said = loader == nullptr ? std::string_view() : loader;
  const std::size_t colon = said.find(": ");
  const bool names_a_file = colon != std::string_view::npos;
  const std::string about = names_a_file ? FileName(said.substr(0, colon)) : std::string(file);
  const std::string_view why = names_a_file ? said.substr(colon + 2) : said;
  return DeviceUnavailable(about, std::string(what) + ": " + about + ": " + std::string(why));
}

}  // namespace

void SetCudaEnvironment() {
  for (const auto& [name, value] : {std::pair{"CUBLAS_WORKSPACE_CONFIG", ":4096:8"},
                                    std::pair{"PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"},
                                    std::pair{"CUDA_DEVICE_ORDER", "PCI_BUS_ID"}}) {
    ::setenv(name, value, /*overwrite=*/1);
  }
}

std::string CudaModulePath() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size <= 0 || static_cast<std::size_t>(size) == path.size()) return kModuleFile;
  const std::string program(path.data(), static_cast<std::size_t>(size));
  return program.substr(0, program.rfind('/') + 1) + kModuleFile;
}

absl::StatusOr<const cuda::Module*> OpenCudaModule(const std::string& path) {
  if (::dlopen(kDriverLibrary, RTLD_NOW | RTLD_GLOBAL) == nullptr)
    return CannotOpen("there is no NVIDIA driver", kDriverLibrary, ::dlerror());
  // Global, as if the program were linked with them: CUDA's libraries look each other up.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) return CannotOpen("the CUDA module cannot be loaded", FileName(path), ::dlerror());
  const auto entry = reinterpret_cast<cuda::ModuleEntry>(::dlsym(library, cuda::kModuleEntryName));
  if (entry == nullptr) return DeviceUnavailable(FileName(path), "the module has no entry point");
  const cuda::Module* module = entry();
  if (module == nullptr || module->abi != cuda::kModuleAbi) {
    return DeviceUnavailable(FileName(path), "the module belongs to another build of the worker");
  }
  const std::string torch = Version(TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH);
  if (module->torch_version == nullptr || torch != module->torch_version) {
    return DeviceUnavailable(FileName(path), "the module was built for another LibTorch than " + torch);
  }
  return module;
}

absl::StatusOr<cuda::DeviceFacts> FindCudaDevice(const cuda::Module& module, int index) {
  std::int32_t devices = 0;
  if (const cuda::Result counted = module.count(&devices); counted.code != 0) return ErrorOf(counted);
  if (index < 0 || index >= devices) {
    return DeviceUnavailable("cuda:" + std::to_string(index),
                             "CUDA shows " + std::to_string(devices) + " devices");
  }
  cuda::DeviceFacts facts{};
  if (const cuda::Result found = module.facts(index, &facts); found.code != 0) return ErrorOf(found);
  return facts;
}

absl::Status DeviceUnavailable(std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kUnavailable, "DEVICE_UNAVAILABLE", value, text);
}

absl::Status DeviceUnsupported(std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, "DEVICE_UNSUPPORTED", value, text);
}

absl::Status ErrorOf(const cuda::Result& result) {
  return DeviceUnavailable(std::string_view(result.name, ::strnlen(result.name, sizeof result.name)),
                           std::string_view(result.text, ::strnlen(result.text, sizeof result.text)));
}

}  // namespace tomoserve::engine
