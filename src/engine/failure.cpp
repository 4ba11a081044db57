#include "engine/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <new>

#include "engine/cuda_errors.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::engine {
namespace {

constexpr std::size_t kMaxText = 240;

// The interpreter puts the cause last, after the model's own stack trace.
std::string LastLine(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (const auto line = text.rfind('\n'); line != std::string_view::npos) text.remove_prefix(line + 1);
  std::string printable(text.substr(0, kMaxText));
  std::replace_if(
      printable.begin(), printable.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return printable;
}

}  // namespace

absl::Status CurrentException(absl::StatusCode code, std::string_view reason, std::string_view value,
                              std::string_view what) {
  std::string cause = "unknown exception";
  bool out_of_memory = false;
  try {
    throw;
  } catch (const c10::Error& error) {
    cause = LastLine(error.what_without_backtrace());
    out_of_memory = base::SaysOutOfMemory(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    out_of_memory = true;
  } catch (const std::exception& error) {
    cause = LastLine(error.what());
    out_of_memory = base::SaysOutOfMemory(error.what());
  } catch (...) {
  }
  if (out_of_memory) return base::OutOfMemory(value, what);
  return base::Error(code, reason, value, std::string(what) + ": " + cause);
}

bool MayBeShortage(const absl::Status& error) {
  return base::ReasonOf(error) == "OUT_OF_MEMORY" || base::MayMeanOutOfMemory(base::ToStd(error.message()));
}

absl::Status CurrentDeviceException(std::string_view value, std::string_view what) {
  const absl::Status status =
      CurrentException(absl::StatusCode::kUnavailable, "DEVICE_UNAVAILABLE", value, what);
  return absl::IsUnavailable(status) ? status : DeviceUnavailable(value, base::ToStd(status.message()));
}

}  // namespace tomoserve::engine
