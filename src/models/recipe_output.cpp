// What labels are, and what a worklist sees of them: findings, flags, coverage.
#include <algorithm>
#include <cstdint>
#include <set>

#include "models/recipe_checks.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

constexpr double kMaxMm = 10000;
constexpr double kMaxMl = 1e6;
constexpr std::uint32_t kMaxFindings = 1000;

// Code Value and Coding Scheme are SH (16 characters), Code Meaning is LO (64), PS3.5 section 6.2; neither
// can hold a backslash.
absl::Status CheckText(const std::string& path, const std::string& text, std::size_t longest) {
  if (text.find_first_not_of(' ') == std::string::npos) return Invalid(path, "is required");
  if (text.size() > longest) return Invalid(path, absl::StrCat("is longer than ", longest, " bytes"));
  if (text.find('\\') != std::string::npos) return Invalid(path, "holds a backslash");
  return absl::OkStatus();
}

absl::Status CheckCode(const std::string& path, const v1::Code& code) {
  TS_RETURN_IF_ERROR(CheckText(absl::StrCat(path, ".value"), code.value(), 16));
  TS_RETURN_IF_ERROR(CheckText(absl::StrCat(path, ".scheme"), code.scheme(), 16));
  return CheckText(absl::StrCat(path, ".meaning"), code.meaning(), 64);
}

// Background that another label's holes take is none of this label's voxels.
bool Changes(const v1::DecodeStep& step, std::uint32_t label) {
  if (step.has_keep_in_region()) return true;
  if (step.has_keep_largest()) return step.keep_largest().label() == label;
  if (step.has_fill_holes()) return step.fill_holes().label() == label;
  const auto& from = step.merge_labels().from();
  return step.has_merge_labels() &&
         (step.merge_labels().into() == label || std::find(from.begin(), from.end(), label) != from.end());
}

}  // namespace

bool IsWholeOnModelGrid(const v1::Recipe& recipe, std::uint32_t label) {
  bool made = false;
  bool on_volume_grid = false;
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (on_volume_grid && Changes(step, label)) return false;
    made = made || step.has_arg_max() || step.has_threshold();
    on_volume_grid = on_volume_grid || step.has_to_volume_grid();
    if (on_volume_grid && !made) return false;
  }
  return on_volume_grid;
}

absl::Status CheckKnown(const v1::Recipe& recipe, const std::string& path, std::uint32_t label) {
  if (!HasLabel(recipe, label)) return Invalid(path, absl::StrCat("labels has no value ", label));
  return absl::OkStatus();
}

absl::Status CheckKept(const v1::Recipe& recipe, const std::string& path, std::uint32_t label) {
  TS_RETURN_IF_ERROR(CheckKnown(recipe, path, label));
  for (const v1::DecodeStep& step : recipe.decode()) {
    const auto& from = step.merge_labels().from();
    if (std::find(from.begin(), from.end(), label) == from.end()) continue;
    return Invalid(path, absl::StrCat(label, " is merged into ", step.merge_labels().into()));
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const v1::Recipe& recipe) {
  if (recipe.labels().empty()) return Invalid("labels", "at least one is required");
  std::set<std::uint32_t> values;
  std::set<std::string> names;
  for (int i = 0; i < recipe.labels_size(); ++i) {
    const v1::Label& label = recipe.labels(i);
    if (label.value() < 1 || label.value() > 65535)
      return Invalid(Path("labels", i, "value"), "from 1 to 65535");
    if (!values.insert(label.value()).second) return Invalid(Path("labels", i, "value"), "stands twice");
    TS_RETURN_IF_ERROR(CheckText(Path("labels", i, "name"), label.name(), 64));
    if (!names.insert(label.name()).second) return Invalid(Path("labels", i, "name"), "stands twice");
    TS_RETURN_IF_ERROR(CheckCode(Path("labels", i, "type"), label.type()));
    TS_RETURN_IF_ERROR(CheckCode(Path("labels", i, "category"), label.category()));
    if (label.rgb() > 0xFFFFFF) return Invalid(Path("labels", i, "rgb"), "0xRRGGBB");
  }
  return absl::OkStatus();
}

absl::Status CheckFindings(const v1::Recipe& recipe) {
  if (recipe.findings().empty())
    return Invalid("findings", "at least one rule is required: nothing could be found");
  std::set<std::uint32_t> labels;
  for (int i = 0; i < recipe.findings_size(); ++i) {
    const v1::FindingRule& rule = recipe.findings(i);
    const auto path = [i](std::string_view field) { return Path("findings", i, field); };
    TS_RETURN_IF_ERROR(CheckKept(recipe, path("label"), rule.label()));
    if (!labels.insert(rule.label()).second) return Invalid(path("label"), "has a rule already");
    if (rule.min_volume_ml() < 0 || rule.min_volume_ml() > kMaxMl)
      return Invalid(path("min_volume_ml"), "from 0 to 1e6");
    if (rule.min_longest_diameter_mm() < 0 || rule.min_longest_diameter_mm() > kMaxMm) {
      return Invalid(path("min_longest_diameter_mm"), "from 0 to 10000");
    }
    if (rule.max_findings() > kMaxFindings)
      return Invalid(path("max_findings"), absl::StrCat("at most ", kMaxFindings));
    if (rule.min_score() < 0) return Invalid(path("min_score"), "is negative");
    if (rule.on_model_grid() && !IsWholeOnModelGrid(recipe, rule.label())) {
      return Invalid(path("on_model_grid"),
                     "the label is made before to_volume_grid, and no step after it changes the label");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFlags(const v1::Recipe& recipe) {
  if (recipe.flags().empty()) {
    return Invalid("flags",
                   "at least one rule is required: the model could only ever say that nothing was found");
  }
  for (int i = 0; i < recipe.flags_size(); ++i) {
    const v1::FlagRule& rule = recipe.flags(i);
    const auto path = [i](std::string_view field) { return Path("flags", i, field); };
    TS_RETURN_IF_ERROR(CheckKnown(recipe, path("label"), rule.label()));
    bool found = false;
    for (const v1::FindingRule& finding : recipe.findings()) found = found || finding.label() == rule.label();
    if (!found) return Invalid(path("label"), "no rule of findings makes findings of this label");
    if (rule.level() == v1::FLAG_LEVEL_UNSPECIFIED) return Invalid(path("level"), "is required");
    TS_RETURN_IF_ERROR(CheckRange(path("longest_diameter_mm"), rule.longest_diameter_mm(), 0, kMaxMm));
    TS_RETURN_IF_ERROR(CheckRange(path("mean_diameter_mm"), rule.mean_diameter_mm(), 0, kMaxMm));
    TS_RETURN_IF_ERROR(CheckRange(path("volume_ml"), rule.volume_ml(), 0, kMaxMl));
    TS_RETURN_IF_ERROR(CheckRange(path("score"), rule.score(), 0, 1e9));
  }
  return absl::OkStatus();
}

absl::Status CheckCoverage(const v1::Recipe& recipe) {
  // Both rules that look at an extent: a bound of 0 would call an empty volume complete.
  const auto bounds = [](const std::string& path, double min_volume_ml, double margin_mm) {
    if (min_volume_ml <= 0 || min_volume_ml > kMaxMl)
      return Invalid(path + ".min_volume_ml", "above 0, at most 1e6");
    if (margin_mm <= 0 || margin_mm > kMaxMm) return Invalid(path + ".margin_mm", "above 0, at most 10000");
    return absl::OkStatus();
  };
  const v1::CoverageRule& coverage = recipe.coverage();
  switch (coverage.rule_case()) {
    case v1::CoverageRule::kNotNeeded:
      return CheckText("coverage.not_needed.because", coverage.not_needed().because(), 1000);
    case v1::CoverageRule::kNotStated:
      return CheckText("coverage.not_stated.because", coverage.not_stated().because(), 1000);
    case v1::CoverageRule::kLabelInside:
      TS_RETURN_IF_ERROR(CheckKept(recipe, "coverage.label_inside.label", coverage.label_inside().label()));
      if (DetectorOf(recipe) != nullptr)
        return Invalid("coverage.label_inside", "boxes have no label volume");
      return bounds("coverage.label_inside", coverage.label_inside().min_volume_ml(),
                    coverage.label_inside().margin_mm());
    case v1::CoverageRule::kLungInside:
      for (const std::string& modality : recipe.inputs(0).modalities()) {
        if (modality != "CT") return Invalid("coverage.lung_inside", "only CT has the intensities for it");
      }
      return bounds("coverage.lung_inside", coverage.lung_inside().min_volume_ml(),
                    coverage.lung_inside().margin_mm());
    case v1::CoverageRule::RULE_NOT_SET:
      break;
  }
  return Invalid("coverage", "a rule is required");
}

absl::Status CheckPlausibility(const v1::Recipe& recipe) {
  for (int i = 0; i < recipe.plausibility_size(); ++i) {
    const v1::PlausibilityRule& rule = recipe.plausibility(i);
    const auto path = [i](std::string_view field) { return Path("plausibility", i, field); };
    if (DetectorOf(recipe) != nullptr) return Invalid(Path("plausibility", i), "boxes have no label volume");
    TS_RETURN_IF_ERROR(CheckKept(recipe, path("label"), rule.label()));
    if (rule.has_volume_ml()) {
      if (rule.towards() != v1::TOWARDS_UNSPECIFIED || rule.of_label() != 0 || rule.by_mm() != 0) {
        return Invalid(path("volume_ml"), "a rule is about a side or about a volume: two rules say both");
      }
      if (!rule.volume_ml().has_min() && !rule.volume_ml().has_max())
        return Invalid(path("volume_ml"), "min or max is required");
      TS_RETURN_IF_ERROR(CheckRange(path("volume_ml"), rule.volume_ml(), 0, kMaxMl));
      continue;
    }
    if (rule.towards() == v1::TOWARDS_UNSPECIFIED)
      return Invalid(path("towards"), "is required, or volume_ml");
    TS_RETURN_IF_ERROR(CheckKept(recipe, path("of_label"), rule.of_label()));
    if (rule.of_label() == rule.label()) return Invalid(path("of_label"), "is the same label");
    if (rule.by_mm() < 0 || rule.by_mm() > kMaxMm) return Invalid(path("by_mm"), "from 0 to 10000");
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
