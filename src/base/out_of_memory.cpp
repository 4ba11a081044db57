#include "tomoserve/base/out_of_memory.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::base {

absl::Status OutOfMemory(std::string_view value, std::string_view what) {
  return Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", value,
               std::string(what) + ": not enough memory");
}

namespace {

bool HasOneOf(std::string_view text, std::span<const std::string_view> signs) {
  return std::any_of(signs.begin(), signs.end(),
                     [text](std::string_view sign) { return text.find(sign) != std::string_view::npos; });
}

}  // namespace

bool SaysOutOfMemory(std::string_view text) {
  constexpr std::array<std::string_view, 6> kSigns{
      "can't allocate memory",     "not enough memory",          "out of memory",
      "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc"};
  return HasOneOf(text, kSigns);
}

bool MayMeanOutOfMemory(std::string_view text) {
  constexpr std::array<std::string_view, 3> kSigns{"nable to find an engine to execute this computation",
                                                   "CUBLAS_STATUS_NOT_INITIALIZED",
                                                   "CUDNN_STATUS_NOT_INITIALIZED"};
  return HasOneOf(text, kSigns);
}

}  // namespace tomoserve::base
