#include "tomoserve/base/out_of_memory.h"

#include <algorithm>
#include <array>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::base {

absl::Status OutOfMemory(std::string_view value, std::string_view what) {
  return Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", value,
               std::string(what) + ": not enough memory");
}

bool SaysOutOfMemory(std::string_view text) {
  constexpr std::array<std::string_view, 6> kSigns{
      "can't allocate memory",     "not enough memory",          "out of memory",
      "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc"};
  return std::any_of(kSigns.begin(), kSigns.end(),
                     [text](std::string_view sign) { return text.find(sign) != std::string_view::npos; });
}

}  // namespace tomoserve::base
