#include "tomoserve/compute/fence.h"

#include <c10/util/Exception.h>

#include <string>
#include <string_view>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

absl::Status OutOfMemory() {
  return base::Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", "",
                     "not enough memory on the device");
}

}  // namespace

absl::Status ErrorOf(const std::exception& exception) {
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr ||
      dynamic_cast<const c10::OutOfMemoryError*>(&exception) != nullptr) {
    return OutOfMemory();
  }
  std::string text = exception.what();
  if (const auto* error = dynamic_cast<const c10::Error*>(&exception)) {
    text = error->what_without_backtrace();
    // The CPU allocator throws a plain Error, and so does the one for pinned memory.
    for (const char* sign : {"DefaultCPUAllocator", "CUDA error: out of memory"}) {
      if (text.find(sign) != std::string::npos) return OutOfMemory();
    }
  }
  constexpr std::size_t kMaxText = 300;
  text = text.substr(0, std::min(text.find('\n'), kMaxText));
  return base::Error(absl::StatusCode::kInternal, "TENSOR_FAILED", "", text);
}

}  // namespace tomoserve::compute
