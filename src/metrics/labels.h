// Label values from outside, kept few and harmless.
#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

namespace tomoserve::metrics {

// Lets the first `most` different values pass and calls the rest "OTHER": each value of a label is a series
// that the server and its monitor keep for good. Thread-safe.
class LabelValues {
 public:
  explicit LabelValues(std::size_t most) : most_(most) {}
  // The value, cut to 64 bytes, with '_' for what is not printable ASCII.
  std::string Text(std::string_view value);
  // The value where it is a reason code (upper case, digits and '_'; at most 64 bytes), else "OTHER".
  std::string Code(std::string_view value);

 private:
  std::string Admit(std::string value);

  const std::size_t most_;
  std::mutex mutex_;
  std::set<std::string> known_;
};

}  // namespace tomoserve::metrics
