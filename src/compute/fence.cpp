#include "tomoserve/compute/fence.h"

#include <c10/util/Exception.h>

#include <string>
#include <string_view>

#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

constexpr char kWhat[] = "an operation on the volume";

}  // namespace

absl::Status ErrorOf(const std::exception& exception) {
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr ||
      dynamic_cast<const c10::OutOfMemoryError*>(&exception) != nullptr) {
    return base::OutOfMemory("", kWhat);
  }
  std::string text = exception.what();
  if (const auto* error = dynamic_cast<const c10::Error*>(&exception)) {
    text = error->what_without_backtrace();
    if (base::SaysOutOfMemory(text)) return base::OutOfMemory("", kWhat);
  }
  constexpr std::size_t kMaxText = 300;
  text = text.substr(0, std::min(text.find('\n'), kMaxText));
  return base::Error(absl::StatusCode::kInternal, "TENSOR_FAILED", "", text);
}

}  // namespace tomoserve::compute
