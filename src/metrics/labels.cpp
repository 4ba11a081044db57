#include "metrics/labels.h"

#include <algorithm>
#include <utility>

namespace tomoserve::metrics {
namespace {

constexpr std::size_t kLongest = 128;  // a GPU, its capability, driver, cuDNN and LibTorch
constexpr char kOther[] = "OTHER";

bool IsCodeCharacter(char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

}  // namespace

std::string Without(std::string_view prefix, const std::string& name) {
  return name.substr(name.rfind(prefix, 0) == 0 ? prefix.size() : 0);
}

std::string PriorityLabel(v1::Priority priority) {
  const bool known = v1::Priority_IsValid(priority) && priority != v1::PRIORITY_UNSPECIFIED;
  return Without("PRIORITY_", v1::Priority_Name(known ? priority : v1::PRIORITY_ROUTINE));
}

std::string LabelValues::Text(std::string_view value) {
  std::string text(value.substr(0, kLongest));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '_');
  return Admit(std::move(text));
}

std::string LabelValues::Code(std::string_view value) {
  const bool is_code = !value.empty() && value.size() <= kLongest && value.front() >= 'A' &&
                       value.front() <= 'Z' && std::all_of(value.begin(), value.end(), IsCodeCharacter);
  return is_code ? Admit(std::string(value)) : kOther;
}

std::string LabelValues::Admit(std::string value) {
  const std::lock_guard lock(mutex_);
  if (known_.contains(value)) return value;
  if (known_.size() >= most_) return kOther;
  known_.insert(value);
  return value;
}

}  // namespace tomoserve::metrics
