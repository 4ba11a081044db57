#include "models/import/arguments.h"

#include <algorithm>

#include "models/import/errors.h"

namespace tomoserve::models::importer {
namespace {

// A list of equal values stands for one of them.
const Json& OneOf(const Json& value) {
  if (!value.is_array() || value.empty()) return value;
  const bool equal =
      std::all_of(value.begin(), value.end(), [&value](const Json& item) { return item == value.front(); });
  return equal && !value.front().is_structured() ? value.front() : value;
}

}  // namespace

absl::StatusOr<Arguments> Arguments::Of(Config* config, const Located& object) {
  Arguments arguments;
  arguments.place_ = object.place;
  TS_ASSIGN_OR_RETURN(arguments.target_, config->Target(object));
  for (const auto& [key, raw] : object.value->items()) {
    if (key == "_target_" || key == "_disabled_" || key == "_desc_" || key == "_requires_") continue;
    TS_ASSIGN_OR_RETURN(Located argument, config->Resolve(raw, object.place.Child(key)));
    arguments.arguments_.emplace_back(key, std::move(argument));
  }
  return arguments;
}

Arguments Arguments::OfCall(const Config::Call& call, const Place& place,
                            std::initializer_list<std::string_view> positional) {
  Arguments arguments;
  arguments.place_ = place;
  arguments.target_ = call.target;
  const auto* next = positional.begin();
  for (const auto& [name, argument] : call.arguments) {
    if (name == "_disabled_" || name == "_desc_" || name == "_requires_") continue;
    if (!name.empty()) {
      arguments.arguments_.emplace_back(name, argument);
    } else if (next != positional.end()) {
      arguments.arguments_.emplace_back(std::string(*next++), argument);
    } else {
      arguments.arguments_.emplace_back("too many", argument);
    }
  }
  return arguments;
}

std::optional<Located> Arguments::Take(std::string_view name) {
  taken_.emplace(name);
  for (const auto& [key, argument] : arguments_) {
    if (key == name && !argument.value->is_null()) return argument;
  }
  return std::nullopt;
}

absl::StatusOr<bool> Arguments::Bool(std::string_view name, bool otherwise) {
  const std::optional<Located> argument = Take(name);
  if (!argument) return otherwise;
  const Json& value = OneOf(*argument->value);
  if (!value.is_boolean()) return Refuse(name, absl::StrCat(Short(value), " is no yes or no"));
  return value.get<bool>();
}

absl::StatusOr<std::optional<double>> Arguments::Number(std::string_view name) {
  const std::optional<Located> argument = Take(name);
  if (!argument) return std::nullopt;
  const Json& value = OneOf(*argument->value);
  if (!value.is_number()) return Refuse(name, absl::StrCat(Short(value), " is no number"));
  return value.get<double>();
}

absl::StatusOr<double> Arguments::Number(std::string_view name, double otherwise) {
  TS_ASSIGN_OR_RETURN(const std::optional<double> number, Number(name));
  return number.value_or(otherwise);
}

absl::StatusOr<std::optional<std::string>> Arguments::Text(std::string_view name) {
  const std::optional<Located> argument = Take(name);
  if (!argument) return std::nullopt;
  const Json& value = OneOf(*argument->value);
  if (!value.is_string() || value.get_ref<const std::string&>().substr(0, 1) == "$") {
    return Refuse(name, absl::StrCat(Short(value), " is not understood"));
  }
  return value.get<std::string>();
}

absl::StatusOr<std::vector<std::string>> Arguments::Texts(std::string_view name, Config* config) {
  const std::optional<Located> argument = Take(name);
  std::vector<std::string> texts;
  if (!argument) return texts;
  TS_ASSIGN_OR_RETURN(const Json whole, config->Whole(*argument));
  const Json list = whole.is_array() ? whole : Json::array({whole});
  for (const Json& item : list) {
    if (!item.is_string() || item.get_ref<const std::string&>().substr(0, 1) == "$") {
      return Refuse(name, absl::StrCat(Short(whole), " is not understood"));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

absl::StatusOr<std::vector<double>> Arguments::Numbers(std::string_view name, Config* config) {
  const std::optional<Located> argument = Take(name);
  if (!argument) return Refuse(name, "is missing");
  TS_ASSIGN_OR_RETURN(const Json whole, config->Whole(*argument));
  const Json list = whole.is_array() ? whole : Json::array({whole, whole, whole});
  std::vector<double> numbers;
  for (const Json& item : list) {
    if (!item.is_number() && !item.is_null())
      return Refuse(name, absl::StrCat(Short(whole), " is not understood"));
    numbers.push_back(item.is_null() ? -1 : item.get<double>());
  }
  return numbers;
}

absl::Status Arguments::Only(std::string_view name, const Json& value) {
  const std::optional<Located> argument = Take(name);
  if (!argument) return absl::OkStatus();
  // 1 and 1.0 are equal; true and 1 are not.
  if (OneOf(*argument->value) == value) return absl::OkStatus();
  return Refuse(name, absl::StrCat("only ", Short(value), " is supported, not ", Short(*argument->value)));
}

void Arguments::Accept(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) taken_.emplace(name);
}

absl::Status Arguments::Done() const {
  for (const auto& [key, argument] : arguments_) {
    if (!taken_.contains(key))
      return Refuse(key, absl::StrCat(target_, " has no such argument that is known"));
  }
  return absl::OkStatus();
}

absl::Status Arguments::Refuse(std::string_view name, std::string_view text) const {
  return NotSupported(PathOf(name), text);
}

}  // namespace tomoserve::models::importer
