// Label values from outside, kept few and harmless.
#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "tomoserve/dispatch/observer.h"

namespace tomoserve::metrics {

// An enumerator without its enum's name: Without("FLAG_STATE_", "FLAG_STATE_FLAGGED") is "FLAGGED".
std::string Without(std::string_view prefix, const std::string& name);

// The label of a priority: "ROUTINE", "URGENT" or "STAT"; "ROUTINE" for what is none of them, as the
// scheduler takes it.
std::string PriorityLabel(v1::Priority priority);

// Lets the first `most` different values pass and calls the rest "OTHER": each value of a label is a series
// that the server and its monitor keep for good. Thread-safe.
class LabelValues {
 public:
  explicit LabelValues(std::size_t most) : most_(most) {}
  // The value, cut to 128 bytes, with '_' for what is not printable ASCII.
  std::string Text(std::string_view value);
  // The value where it is a reason code (upper case, digits and '_'; at most 128 bytes), else "OTHER".
  std::string Code(std::string_view value);

 private:
  std::string Admit(std::string value);

  const std::size_t most_;
  std::mutex mutex_;
  std::set<std::string> known_;
};

}  // namespace tomoserve::metrics
