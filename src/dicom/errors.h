// Statuses of this room.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dicom {

// Something is wrong with the file.
inline absl::Status Refuse(std::string_view reason, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, reason, value, text);
}
inline absl::Status Refuse(std::string_view reason, std::uint64_t value, std::string_view text) {
  return Refuse(reason, std::to_string(value), text);
}

// "(0028,0010)".
std::string TagName(std::uint32_t tag);

// The fence: runs `work` (returning absl::Status or StatusOr) and turns exceptions of the libraries into
// statuses. Their texts are dropped: they may hold values of the file.
template <typename Work>
auto Fenced(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return base::Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", "",
                       "not enough memory for this instance");
  } catch (const std::exception&) {
    return base::Error(absl::StatusCode::kInternal, "DECODER_EXCEPTION", "", "a decoder gave up");
  } catch (...) {
    return base::Error(absl::StatusCode::kInternal, "DECODER_EXCEPTION", "", "a decoder gave up");
  }
}

}  // namespace tomoserve::dicom
