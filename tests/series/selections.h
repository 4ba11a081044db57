// Invented series to select from, and what became of them as text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "series/headers.h"
#include "tomoserve/series/selection.h"

namespace tomoserve::series {

using Header = ipc::v1::InstanceHeader;

// A series of its own: `number` makes its UID and its place.
inline std::vector<Instance> SeriesOf(std::uint32_t number, std::uint32_t slices, double spacing,
                                      const std::function<void(Header&)>& change = {}) {
  std::vector<Instance> stack = Stack(slices, spacing);
  for (Instance& instance : stack) {
    Rename(instance, number * 1000 + instance.index);
    instance.header.set_series_instance_uid("1.2.3.4." + std::to_string(number));
    instance.header.set_series_number(static_cast<int>(number));
    if (change) change(instance.header);
  }
  return stack;
}

inline tomoserve::v1::Recipe CtRecipe(const std::function<void(tomoserve::v1::Input&)>& change = {}) {
  tomoserve::v1::Recipe recipe;
  tomoserve::v1::Input& input = *recipe.add_inputs();
  input.set_name("ct");
  input.add_modalities("CT");
  if (change) change(input);
  return recipe;
}

inline std::vector<Instance> operator+(std::vector<Instance> a, const std::vector<Instance>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// "CODE(value) CODE(value)".
inline std::string Text(const std::vector<tomoserve::v1::Reason>& reasons) {
  std::string text;
  for (const auto& reason : reasons)
    text += (text.empty() ? "" : " ") + reason.code() + "(" + reason.value() + ")";
  return text;
}

// Of each series "analysed", or the reason why not.
inline std::vector<std::string> Uses(const Selection& selection) {
  std::vector<std::string> uses;
  for (const auto& use : selection.uses) {
    std::string text = use.analysed() ? "analysed" : "";
    if (!use.analysed())
      for (const auto& reason : use.reasons()) text += reason.code() + "(" + reason.value() + ")";
    uses.push_back(text);
  }
  return uses;
}

}  // namespace tomoserve::series
