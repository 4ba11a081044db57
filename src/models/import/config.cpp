#include "models/import/config.h"

#include <algorithm>
#include <utility>

#include "models/import/errors.h"

namespace tomoserve::models::importer {
namespace {

constexpr int kMaxHops = 48;
constexpr std::size_t kMaxSteps = 200000;
constexpr std::size_t kMaxTextBytes = 4096;
constexpr std::size_t kBytesOfStep = 64;

// "a#b" -> {"a", "b"}; a leading separator gives a leading empty part.
std::vector<std::string> Split(std::string_view id) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (id[i] == '#' || id.substr(i, 2) == "::") {
      i += id[i] == '#' ? 0 : 1;
      parts.emplace_back();
    } else {
      parts.back().push_back(id[i]);
    }
  }
  return parts;
}

std::size_t CountOf(const Json& value) {
  if (!value.is_structured()) return 1;
  std::size_t count = 1;
  for (const Json& child : value) count += CountOf(child);
  return count;
}

std::size_t StepsOf(std::string_view text) { return text.size() / kBytesOfStep; }

// Values that are kept hold a copy of their place.
std::size_t StepsOf(const Place& place) {
  std::size_t bytes = 0;
  for (const std::string& key : place.keys) bytes += sizeof(key) + key.size();
  return bytes / kBytesOfStep;
}

// Whether Compute understands it: literals, references, choices, sums.
bool IsComputable(const Expression& expression) {
  switch (expression.kind) {
    case Expression::Kind::kName:
    case Expression::Kind::kAttribute:
    case Expression::Kind::kIndex:
    case Expression::Kind::kCall:
    case Expression::Kind::kLambda:
    case Expression::Kind::kGreater:
      return false;
    default:
      return std::all_of(expression.parts.begin(), expression.parts.end(), IsComputable);
  }
}

bool IsReference(const Json& value) {
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.size() > 1 && (text[0] == '@' || text[0] == '%') && text.find(' ') == std::string::npos;
}

// Python's truth of a value.
bool IsTrue(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

}  // namespace

absl::Status Config::Spend(std::size_t steps, const Place& place) {
  steps_ += steps;
  if (steps_ > kMaxSteps) return Malformed(place.Text(), "references and expressions go on too long");
  return absl::OkStatus();
}

Located Config::Keep(Json value, const Place& place) {
  computed_.push_back(std::move(value));
  return {&computed_.back(), place};
}

// The raw value at `id`, seen from `from`: leading separators climb, as in MONAI ("@::a" is a sibling).
absl::StatusOr<const Json*> Config::Raw(std::string_view id, const Place& from, Place* place) {
  std::vector<std::string> parts = Split(id);
  const auto first =
      std::find_if(parts.begin(), parts.end(), [](const std::string& p) { return !p.empty(); });
  const auto climbs = static_cast<std::size_t>(first - parts.begin());
  Place at;
  if (climbs > 0) {
    if (climbs > from.keys.size()) return Malformed(from.Text(), "a reference climbs above the top");
    at.keys.assign(from.keys.begin(), from.keys.end() - static_cast<std::ptrdiff_t>(climbs));
  }
  at.keys.insert(at.keys.end(), first, parts.end());
  const Json* value = &root_;
  for (const std::string& key : at.keys) {
    TS_RETURN_IF_ERROR(Spend(value->is_object() ? value->size() / kBytesOfStep : 0, from));
    if (value->is_object() && value->contains(key)) {
      value = &(*value)[key];
    } else if (value->is_array() && !key.empty() && key.size() < 7 &&
               key.find_first_not_of("0123456789") == std::string::npos && std::stoul(key) < value->size()) {
      value = &(*value)[std::stoul(key)];
    } else {
      *place = at;
      return static_cast<const Json*>(nullptr);
    }
  }
  *place = std::move(at);
  return value;
}

absl::StatusOr<Located> Config::Follow(const Json& raw, const Place& place, int hops) {
  if (hops > kMaxHops) return Malformed(place.Text(), "references lead in a circle, or too far");
  TS_RETURN_IF_ERROR(Spend(1 + StepsOf(place), place));
  if (!raw.is_string()) return Located{&raw, place};
  const std::string& text = raw.get_ref<const std::string&>();
  if (text.size() > kMaxTextBytes) {
    return Malformed(place.Text(), absl::StrCat("is a text of more than ", kMaxTextBytes, " bytes"));
  }
  TS_RETURN_IF_ERROR(Spend(StepsOf(text), place));
  if (IsReference(raw)) {
    if (text.find(".json") != std::string::npos || text.find(".yaml") != std::string::npos) {
      return NotSupported(place.Text(), absl::StrCat(Short(raw), " is in another file"));
    }
    Place target;
    TS_ASSIGN_OR_RETURN(const Json* value, Raw(std::string_view(text).substr(1), place, &target));
    if (value == nullptr) return Malformed(place.Text(), absl::StrCat(Short(raw), " leads nowhere"));
    // A macro ('%') is a copy: what it holds is seen from here.
    return Follow(*value, text[0] == '%' ? place : target, hops + 1);
  }
  if (text.size() < 2 || text[0] != '$') return Located{&raw, place};
  const absl::StatusOr<Expression> expression = ParseExpression(std::string_view(text).substr(1));
  if (!expression.ok() || !IsComputable(*expression)) return Located{&raw, place};
  // A bare reference keeps the place of what it leads to.
  if (expression->kind == Expression::Kind::kReference) {
    return Follow(*Keep(absl::StrCat("@", expression->text), place).value, place, hops + 1);
  }
  TS_ASSIGN_OR_RETURN(Json value, Compute(*expression, place, hops + 1));
  return Keep(std::move(value), place);
}

absl::StatusOr<Json> Config::Compute(const Expression& expression, const Place& place, int hops) {
  if (hops > kMaxHops) return Malformed(place.Text(), "references lead in a circle, or too far");
  TS_RETURN_IF_ERROR(Spend(1, place));
  const std::vector<Expression>& parts = expression.parts;
  switch (expression.kind) {
    case Expression::Kind::kValue:
      if (expression.value.is_string()) {
        TS_RETURN_IF_ERROR(Spend(StepsOf(expression.value.get_ref<const std::string&>()), place));
      }
      return expression.value;
    case Expression::Kind::kReference:
      return WholeOf(absl::StrCat("@", expression.text), place, hops + 1);
    case Expression::Kind::kList: {
      Json list = Json::array();
      for (const Expression& part : parts) {
        TS_ASSIGN_OR_RETURN(Json item, Compute(part, place, hops + 1));
        list.push_back(std::move(item));
      }
      return list;
    }
    case Expression::Kind::kDict: {
      Json dict = Json::object();
      for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
        TS_ASSIGN_OR_RETURN(const Json key, Compute(parts[i], place, hops + 1));
        if (!key.is_string()) return NotSupported(place.Text(), "the key of a dictionary is no text");
        TS_ASSIGN_OR_RETURN(dict[key.get<std::string>()], Compute(parts[i + 1], place, hops + 1));
      }
      return dict;
    }
    case Expression::Kind::kNot: {
      TS_ASSIGN_OR_RETURN(const Json value, Compute(parts[0], place, hops + 1));
      return Json(!IsTrue(value));
    }
    case Expression::Kind::kNegate: {
      TS_ASSIGN_OR_RETURN(const Json value, Compute(parts[0], place, hops + 1));
      if (value.is_number_float()) return Json(-value.get<double>());
      if (!value.is_number_integer()) return NotSupported(place.Text(), "a minus before what is no number");
      return Json(-value.get<std::int64_t>());
    }
    case Expression::Kind::kIf: {
      TS_ASSIGN_OR_RETURN(const Json condition, Compute(parts[0], place, hops + 1));
      return Compute(parts[IsTrue(condition) ? 1 : 2], place, hops + 1);
    }
    case Expression::Kind::kAdd:
      return ComputeSum(expression, place, hops);
    default:
      return NotSupported(place.Text(), "the expression is not understood");
  }
}

absl::StatusOr<Json> Config::ComputeSum(const Expression& expression, const Place& place, int hops) {
  TS_ASSIGN_OR_RETURN(Json left, Compute(expression.parts[0], place, hops + 1));
  TS_ASSIGN_OR_RETURN(Json right, Compute(expression.parts[1], place, hops + 1));
  if (left.is_string() && right.is_string()) {
    std::string text = left.get<std::string>() + right.get<std::string>();
    if (text.size() > kMaxTextBytes) return Malformed(place.Text(), "a text grows too long");
    return Json(std::move(text));
  }
  if (left.is_array() && right.is_array()) {
    TS_RETURN_IF_ERROR(Spend(CountOf(left) + CountOf(right), place));
    for (Json& item : right) left.push_back(std::move(item));
    return left;
  }
  return NotSupported(place.Text(), "only texts and lists are added");
}

absl::StatusOr<Json> Config::WholeOf(const Json& raw, const Place& place, int hops) {
  TS_ASSIGN_OR_RETURN(const Located value, Follow(raw, place, hops));
  const Json& found = *value.value;
  if (found.is_object()) {
    Json copy = Json::object();
    // The keys are different already; copy[key] would look for each.
    auto& members = copy.get_ref<Json::object_t&>();
    for (const auto& [key, child] : found.items()) {
      TS_RETURN_IF_ERROR(Spend(StepsOf(key), value.place));
      TS_ASSIGN_OR_RETURN(Json whole, WholeOf(child, value.place.Child(key), hops + 1));
      members.emplace_back(key, std::move(whole));
    }
    return copy;
  }
  if (found.is_array()) {
    Json copy = Json::array();
    for (std::size_t i = 0; i < found.size(); ++i) {
      TS_ASSIGN_OR_RETURN(Json child, WholeOf(found[i], value.place.Child(i), hops + 1));
      copy.push_back(std::move(child));
    }
    return copy;
  }
  return found;
}

absl::StatusOr<Located> Config::Resolve(const Json& raw, const Place& place) { return Follow(raw, place, 0); }

absl::StatusOr<std::optional<Located>> Config::Find(std::string_view id) {
  Place place;
  TS_ASSIGN_OR_RETURN(const Json* value, Raw(id, Place(), &place));
  if (value == nullptr) return std::nullopt;
  TS_ASSIGN_OR_RETURN(Located found, Follow(*value, place, 0));
  return found;
}

absl::StatusOr<Located> Config::At(std::string_view id) {
  TS_ASSIGN_OR_RETURN(std::optional<Located> found, Find(id));
  if (!found) {
    Place place;
    place.keys = Split(id);
    return Malformed(place.Text(), "is missing");
  }
  return *std::move(found);
}

absl::StatusOr<Located> Config::Child(const Located& parent, std::string_view key) {
  const std::string name(key);
  if (!parent.value->is_object() || !parent.value->contains(name)) {
    return Malformed(parent.place.Child(key).Text(), "is missing");
  }
  return Follow((*parent.value)[name], parent.place.Child(key), 0);
}

absl::StatusOr<Located> Config::Child(const Located& parent, std::size_t index) {
  if (!parent.value->is_array() || index >= parent.value->size()) {
    return Malformed(parent.place.Child(index).Text(), "is missing");
  }
  return Follow((*parent.value)[index], parent.place.Child(index), 0);
}

absl::StatusOr<Json> Config::Whole(const Located& value) { return WholeOf(*value.value, value.place, 0); }

absl::StatusOr<bool> Config::IsDisabled(const Located& object) {
  if (!object.value->is_object() || !object.value->contains("_disabled_")) return false;
  TS_ASSIGN_OR_RETURN(const Located flag, Child(object, "_disabled_"));
  if (flag.value->is_boolean()) return flag.value->get<bool>();
  if (flag.value->is_string()) {
    const std::string& text = flag.value->get_ref<const std::string&>();
    if (text == "True" || text == "true") return true;
    if (text == "False" || text == "false") return false;
  }
  return NotSupported(object.place.Child("_disabled_").Text(),
                      absl::StrCat(Short(*flag.value), " is no yes or no"));
}

absl::StatusOr<std::string> Config::Target(const Located& object) {
  if (!object.value->is_object()) {
    return NotSupported(object.place.Text(), absl::StrCat(Short(*object.value), " is not understood"));
  }
  TS_ASSIGN_OR_RETURN(const Located target, Child(object, "_target_"));
  if (!target.value->is_string()) return Malformed(target.place.Text(), "is no text");
  const std::string& text = target.value->get_ref<const std::string&>();
  return text.substr(0, 6) == "monai." ? text.substr(text.rfind('.') + 1) : text;
}

absl::StatusOr<std::optional<Config::Call>> Config::AsCall(const Located& value) {
  Call call;
  if (value.value->is_object() && value.value->contains("_target_")) {
    TS_ASSIGN_OR_RETURN(call.target, Target(value));
    for (const auto& [key, raw] : value.value->items()) {
      if (key == "_target_") continue;
      TS_ASSIGN_OR_RETURN(Located argument, Follow(raw, value.place.Child(key), 0));
      call.arguments.emplace_back(key, std::move(argument));
    }
    return call;
  }
  if (!value.value->is_string()) return std::nullopt;
  const std::string& text = value.value->get_ref<const std::string&>();
  if (text.empty() || text[0] != '$') return std::nullopt;
  const absl::StatusOr<Expression> expression = ParseExpression(std::string_view(text).substr(1));
  if (!expression.ok() || expression->kind != Expression::Kind::kCall) return std::nullopt;
  call.target = DottedName(expression->parts[0]);
  if (call.target.substr(0, 6) == "monai.") call.target = call.target.substr(call.target.rfind('.') + 1);
  for (std::size_t i = 0; i < expression->names.size(); ++i) {
    const Expression& part = expression->parts[i + 1];
    Located argument = Keep(Json(), value.place);
    if (part.kind == Expression::Kind::kReference) {
      TS_ASSIGN_OR_RETURN(argument,
                          Follow(*Keep(absl::StrCat("@", part.text), value.place).value, value.place, 0));
    } else if (IsComputable(part)) {
      TS_ASSIGN_OR_RETURN(Json computed, Compute(part, value.place, 0));
      argument = Keep(std::move(computed), value.place);
    } else {
      argument = Keep("$...", value.place);
    }
    call.arguments.emplace_back(expression->names[i], std::move(argument));
  }
  return call;
}

}  // namespace tomoserve::models::importer
