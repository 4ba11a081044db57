#include "engine/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <new>

#include "tomoserve/base/status.h"

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

// The interpreter wraps every exception in a std::runtime_error, so only the text is left to tell.
bool SaysOutOfMemory(std::string_view text) {
  return text.find("can't allocate memory") != std::string_view::npos ||
         text.find("not enough memory") != std::string_view::npos ||
         text.find("out of memory") != std::string_view::npos ||
         text.find("CUDNN_STATUS_ALLOC_FAILED") != std::string_view::npos ||
         text.find("CUBLAS_STATUS_ALLOC_FAILED") != std::string_view::npos ||
         text.find("std::bad_alloc") != std::string_view::npos;
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
    out_of_memory = SaysOutOfMemory(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    out_of_memory = true;
  } catch (const std::exception& error) {
    cause = LastLine(error.what());
    out_of_memory = SaysOutOfMemory(error.what());
  } catch (...) {
  }
  if (out_of_memory) {
    return base::Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", value,
                       std::string(what) + ": not enough memory");
  }
  return base::Error(code, reason, value, std::string(what) + ": " + cause);
}

}  // namespace tomoserve::engine
