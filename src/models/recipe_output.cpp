// What labels are, and what a worklist sees of them: findings, flags, coverage.
#include <algorithm>
#include <cstdint>
#include <set>

#include "models/recipe_checks.h"
#include "tomoserve/models/laterality.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

constexpr double kMaxMm = 10000;
constexpr double kMaxMl = 1e6;
constexpr double kMaxHu = 1e6;
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

// Only labels of a label map have a place and voxels.
absl::Status CheckHasVoxels(const v1::Recipe& recipe, const std::string& path) {
  return DetectorOf(recipe) == nullptr ? absl::OkStatus() : Invalid(path, "boxes have no label volume");
}

absl::Status CheckLaterality(const v1::Recipe& recipe, const std::string& path, const v1::FindingRule& rule) {
  const v1::LateralityRule& laterality = rule.laterality();
  switch (laterality.rule_case()) {
    case v1::LateralityRule::kOfLabel:
      for (const v1::Label& label : recipe.labels()) {
        if (label.value() != rule.label() || LateralityOfLabel(label) != v1::LATERALITY_UNSPECIFIED) continue;
        return Invalid(path + ".of_label",
                       "neither the label's name nor its type's meaning says one of left and right");
      }
      return absl::OkStatus();
    case v1::LateralityRule::kOfMidplane: {
      const v1::SideOfMidplane& midplane = laterality.of_midplane();
      TS_RETURN_IF_ERROR(CheckHasVoxels(recipe, path + ".of_midplane"));
      TS_RETURN_IF_ERROR(CheckKept(recipe, path + ".of_midplane.label", midplane.label()));
      if (midplane.label() == rule.label())
        return Invalid(path + ".of_midplane.label", "is the finding's own label");
      if (midplane.margin_mm() < 0 || midplane.margin_mm() > kMaxMm)
        return Invalid(path + ".of_midplane.margin_mm", "from 0 to 10000");
      return absl::OkStatus();
    }
    case v1::LateralityRule::RULE_NOT_SET:
      break;
  }
  return Invalid(path, "of_label or of_midplane is required");
}

absl::Status CheckDistances(const v1::Recipe& recipe, int index, const v1::FindingRule& rule) {
  std::set<std::uint32_t> seen;
  for (int n = 0; n < rule.distance_to_size(); ++n) {
    const std::string path = absl::StrCat(Path("findings", index, "distance_to"), "[", n, "]");
    const std::uint32_t label = rule.distance_to(n);
    TS_RETURN_IF_ERROR(CheckHasVoxels(recipe, path));
    TS_RETURN_IF_ERROR(CheckKept(recipe, path, label));
    if (label == rule.label()) return Invalid(path, "is the finding's own label");
    if (!seen.insert(label).second) return Invalid(path, "stands twice");
    if (rule.on_model_grid() && !IsWholeOnModelGrid(recipe, label)) {
      return Invalid(path,
                     "with on_model_grid the label is made before to_volume_grid, and no step after it "
                     "changes the label");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBounds(const std::string& path, const v1::DoubleRange& range, double lowest,
                         double highest) {
  if (!range.has_min() && !range.has_max()) return Invalid(path, "min or max is required");
  return CheckRange(path, range, lowest, highest);
}

// What a finding of `rule` may lack.
absl::Status CheckFlagMeasures(const v1::Recipe& recipe, int index, const v1::FlagRule& flag,
                               const v1::FindingRule& rule) {
  const auto path = [index](std::string_view field) { return Path("flags", index, field); };
  if (flag.has_mean_hu()) {
    TS_RETURN_IF_ERROR(CheckHasVoxels(recipe, path("mean_hu")));
    const bool ct = std::any_of(recipe.inputs().begin(), recipe.inputs().end(), [](const v1::Input& input) {
      return std::all_of(input.modalities().begin(), input.modalities().end(),
                         [](const std::string& modality) { return modality == "CT"; });
    });
    if (!ct)
      return Invalid(path("mean_hu"), "an input of CT alone is required: only CT has Hounsfield units");
    TS_RETURN_IF_ERROR(CheckBounds(path("mean_hu"), flag.mean_hu(), -kMaxHu, kMaxHu));
  }
  const auto& measured = rule.distance_to();
  for (int n = 0; n < flag.distances_size(); ++n) {
    const v1::DistanceBound& bound = flag.distances(n);
    const std::string at = absl::StrCat(path("distances"), "[", n, "]");
    if (std::find(measured.begin(), measured.end(), bound.to_label()) == measured.end()) {
      return Invalid(at + ".to_label", "distance_to of the label's rule of findings does not name it");
    }
    TS_RETURN_IF_ERROR(CheckBounds(at + ".mm", bound.mm(), 0, kMaxMm));
  }
  if (flag.side() == v1::TOWARDS_UNSPECIFIED) return absl::OkStatus();
  if (flag.side() != v1::TOWARDS_LEFT && flag.side() != v1::TOWARDS_RIGHT)
    return Invalid(path("side"), "TOWARDS_RIGHT or TOWARDS_LEFT");
  if (!rule.has_laterality()) return Invalid(path("side"), "the label's rule of findings has no laterality");
  return absl::OkStatus();
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
    if (rule.has_laterality()) TS_RETURN_IF_ERROR(CheckLaterality(recipe, path("laterality"), rule));
    if (rule.has_anatomic_site()) TS_RETURN_IF_ERROR(CheckCode(path("anatomic_site"), rule.anatomic_site()));
    TS_RETURN_IF_ERROR(CheckDistances(recipe, i, rule));
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
    const auto finding =
        std::find_if(recipe.findings().begin(), recipe.findings().end(),
                     [&](const v1::FindingRule& known) { return known.label() == rule.label(); });
    if (finding == recipe.findings().end())
      return Invalid(path("label"), "no rule of findings makes findings of this label");
    if (rule.level() == v1::FLAG_LEVEL_UNSPECIFIED) return Invalid(path("level"), "is required");
    TS_RETURN_IF_ERROR(CheckRange(path("longest_diameter_mm"), rule.longest_diameter_mm(), 0, kMaxMm));
    TS_RETURN_IF_ERROR(CheckRange(path("mean_diameter_mm"), rule.mean_diameter_mm(), 0, kMaxMm));
    TS_RETURN_IF_ERROR(CheckRange(path("volume_ml"), rule.volume_ml(), 0, kMaxMl));
    TS_RETURN_IF_ERROR(CheckRange(path("score"), rule.score(), 0, 1e9));
    TS_RETURN_IF_ERROR(CheckFlagMeasures(recipe, i, rule, *finding));
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
