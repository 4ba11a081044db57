// What holds for every transform of a MONAI bundle.
#include <algorithm>
#include <array>

#include "models/import/errors.h"
#include "models/import/monai.h"

namespace tomoserve::models::importer {
namespace {

constexpr int kMaxTransforms = 200;

// Names of their plain form; which of them may stand where is for the readers to say.
constexpr std::array<std::string_view, 24> kNames = {
    "Activations",
    "AffineBoxToWorldCoordinate",
    "AsDiscrete",
    "CastToType",
    "ClipBoxToImage",
    "ConcatItems",
    "ConvertBoxMode",
    "DeleteItems",
    "EnsureChannelFirst",
    "EnsureType",
    "Invert",
    "KeepLargestConnectedComponent",
    "Lambda",
    "LoadImage",
    "NormalizeIntensity",
    "Orientation",
    "SaveImage",
    "ScaleIntensity",
    "ScaleIntensityRange",
    "ScaleIntensityRangePercentiles",
    "SelectItems",
    "Spacing",
    "ToDevice",
    "ToTensor",
};

bool IsKnown(std::string_view name) { return std::find(kNames.begin(), kNames.end(), name) != kNames.end(); }

absl::Status Collect(Config* config, const Located& item, int depth, std::vector<Transform>* transforms) {
  if (depth > 8 || transforms->size() > kMaxTransforms) {
    return Malformed(item.place.Text(), "more transforms than make sense");
  }
  TS_ASSIGN_OR_RETURN(const bool disabled, config->IsDisabled(item));
  if (disabled) return absl::OkStatus();
  TS_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Of(config, item));
  const std::string target = arguments.target();
  if (target == "Compose") {
    const std::optional<Located> list = arguments.Take("transforms");
    for (const char* name : {"map_items", "log_stats", "unpack_items", "lazy"}) {
      TS_RETURN_IF_ERROR(arguments.Only(name, name == std::string_view("map_items")));
    }
    TS_RETURN_IF_ERROR(arguments.Done());
    if (!list) return absl::OkStatus();
    if (!list->value->is_array()) {
      return NotSupported(list->place.Text(), absl::StrCat(Short(*list->value), " is not understood"));
    }
    for (std::size_t i = 0; i < list->value->size(); ++i) {
      TS_ASSIGN_OR_RETURN(const Located child, config->Child(*list, i));
      TS_RETURN_IF_ERROR(Collect(config, child, depth + 1, transforms));
    }
    return absl::OkStatus();
  }
  for (const std::string_view ending : {"", "d", "D", "Dict"}) {
    if (target.size() < ending.size() || target.substr(target.size() - ending.size()) != ending) continue;
    const std::string name = target.substr(0, target.size() - ending.size());
    if (!IsKnown(name)) continue;
    transforms->push_back({name, !ending.empty(), std::move(arguments)});
    return absl::OkStatus();
  }
  return NotSupported(item.place.Text(),
                      absl::StrCat("the transform ", OneLine(target, 80), " is not known"));
}

}  // namespace

absl::StatusOr<std::vector<Transform>> ActiveTransforms(Config* config, const Located& compose) {
  std::vector<Transform> transforms;
  TS_RETURN_IF_ERROR(Collect(config, compose, 0, &transforms));
  for (Transform& transform : transforms) transform.arguments.Accept({"allow_missing_keys"});
  return transforms;
}

absl::Status CheckKeys(Transform* transform, std::string_view argument, const std::vector<std::string>& keys,
                       Config* config) {
  if (!transform->dictionary) return absl::OkStatus();
  TS_ASSIGN_OR_RETURN(const std::vector<std::string> given, transform->arguments.Texts(argument, config));
  if (given == keys) return absl::OkStatus();
  std::string expected;
  for (const std::string& key : keys)
    absl::StrAppend(&expected, expected.empty() ? "" : ", ", OneLine(key, 40));
  return transform->arguments.Refuse(argument, absl::StrCat("only ", expected, " is in use here"));
}

absl::Status CheckFloat(Arguments* arguments, std::string_view name) {
  const std::optional<Located> type = arguments->Take(name);
  if (!type) return absl::OkStatus();
  if (type->value->is_string()) {
    std::string text = type->value->get<std::string>();
    for (const std::string_view prefix : {"$", "numpy.", "np.", "torch."}) {
      if (text.substr(0, prefix.size()) == prefix) text = text.substr(prefix.size());
    }
    if (text == "float32" || text == "float64" || text == "float") return absl::OkStatus();
  }
  return arguments->Refuse(name,
                           absl::StrCat("only float32 and float64 are supported, not ", Short(*type->value)));
}

}  // namespace tomoserve::models::importer
