#include "models/import/composite.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "models/import/errors.h"
#include "models/import/json.h"

namespace tomoserve::models::importer {
namespace {

constexpr std::size_t kMaxLabelName = 64;
constexpr std::size_t kMaxTitle = 100;

// What of a draft all parts must have.
v1::Recipe SharedOf(const v1::Recipe& recipe) {
  v1::Recipe shared = recipe;
  shared.clear_title();
  shared.clear_card();
  shared.clear_labels();
  shared.clear_findings();
  shared.clear_flags();
  shared.clear_coverage();
  shared.mutable_network()->clear_files();
  shared.mutable_network()->clear_output_channels();
  shared.mutable_preparation()->clear_intensity();
  shared.mutable_preparation()->clear_intensity_before_spacing();
  return shared;
}

bool HasSteps(const Draft& draft) { return draft.recipe.preparation().intensity_size() > 0; }

absl::Status CheckAgree(const PartDraft& first, const PartDraft& other) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  v1::Recipe a = SharedOf(first.draft.recipe);
  v1::Recipe b = SharedOf(other.draft.recipe);
  // Their order matters where both have steps.
  if (HasSteps(first.draft) && HasSteps(other.draft)) {
    a.mutable_preparation()->set_intensity_before_spacing(
        first.draft.recipe.preparation().intensity_before_spacing());
    b.mutable_preparation()->set_intensity_before_spacing(
        other.draft.recipe.preparation().intensity_before_spacing());
  }
  if (differencer.Compare(a, b)) return absl::OkStatus();
  // "modified: windows.size[0]: 96 -> 128".
  const std::string line = report.substr(0, report.find('\n'));
  const std::size_t begin = std::min(line.find(": "), line.size() - 2) + 2;
  const std::string field = line.substr(begin, line.find(": ", begin) - begin);
  return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_MISMATCH", field,
                     absl::StrCat(other.source, " differs from ", first.source, " in ", field, " (",
                                  OneLine(line, 200), "): parts share it"));
}

// Steps on labels work on the labels of all parts, where those of one would be meant.
absl::Status CheckSteps(const PartDraft& part) {
  bool labelled = false;
  for (const v1::DecodeStep& step : part.draft.recipe.decode()) {
    if (labelled && step.to_volume_grid().interpolation() == v1::INTERPOLATION_LINEAR) {
      return NotSupported("decode",
                          absl::StrCat(part.source,
                                       " interpolates between its labels, where those of other parts "
                                       "would lie: it cannot be a part"));
    }
    labelled = labelled || step.has_arg_max() || step.has_threshold();
    if (step.has_activation() || step.has_to_volume_grid() || step.has_arg_max() || step.has_threshold()) {
      continue;
    }
    return NotSupported(
        "decode",
        absl::StrCat(part.source,
                     step.has_detect_boxes() ? " detects boxes" : " changes its labels after they are made",
                     ": it cannot be a part"));
  }
  return absl::OkStatus();
}

std::vector<std::string> PartNames(const std::vector<PartDraft>& parts) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    std::string name = parts[i].draft.suggested_name;
    if (name.empty() || seen.contains(name)) {
      name = FolderName(std::filesystem::path(parts[i].source).stem().string());
    }
    if (name.empty() || seen.contains(name)) name = absl::StrCat("part_", i + 1);
    seen.insert(name);
    names.push_back(std::move(name));
  }
  return names;
}

// In the order of the part's channels.
std::vector<v1::Label> LabelsOf(const v1::Recipe& recipe) {
  std::vector<v1::Label> labels(recipe.labels().begin(), recipe.labels().end());
  const bool by_value = std::any_of(recipe.decode().begin(), recipe.decode().end(),
                                    [](const v1::DecodeStep& step) { return step.has_arg_max(); });
  if (by_value) {
    std::sort(labels.begin(), labels.end(),
              [](const v1::Label& a, const v1::Label& b) { return a.value() < b.value(); });
  }
  return labels;
}

// A part without steps states that it has none: an empty list stands for the recipe's.
void SetIntensity(const v1::Preparation& own, const v1::Preparation& shared, v1::Part* part) {
  v1::Recipe a;
  v1::Recipe b;
  *a.mutable_preparation()->mutable_intensity() = own.intensity();
  *b.mutable_preparation()->mutable_intensity() = shared.intensity();
  if (google::protobuf::util::MessageDifferencer::Equals(a, b)) return;
  *part->mutable_intensity() = own.intensity();
  if (own.intensity().empty()) part->add_intensity()->mutable_affine()->set_scale(1);
}

// Texts without repetitions, one after the other.
std::string Joined(const std::vector<PartDraft>& parts, std::string About::*text, const char* between) {
  std::string joined;
  std::set<std::string> seen;
  for (const PartDraft& part : parts) {
    const std::string& one = part.draft.about.*text;
    if (!one.empty() && seen.insert(one).second) absl::StrAppend(&joined, joined.empty() ? "" : between, one);
  }
  return joined;
}

void AddNew(const std::vector<std::string>& from, std::vector<std::string>* to) {
  for (const std::string& text : from) {
    if (std::find(to->begin(), to->end(), text) == to->end()) to->push_back(text);
  }
}

}  // namespace

absl::StatusOr<Draft> DraftOfComposite(std::vector<PartDraft> parts) {
  for (const PartDraft& part : parts) {
    TS_RETURN_IF_ERROR(CheckSteps(part));
    TS_RETURN_IF_ERROR(CheckAgree(parts[0], part));
  }
  Draft all = parts[0].draft;
  for (std::string About::*text : {&About::name, &About::authors, &About::copyright, &About::license,
                                   &About::source, &About::intended_use, &About::description}) {
    all.about.*text = Joined(parts, text, "; ");
  }
  if (all.about.name.size() > kMaxTitle) {
    all.about.name = absl::StrCat(parts[0].draft.about.name, " and ", parts.size() - 1, " more");
  }
  v1::Recipe& recipe = all.recipe;
  recipe.clear_labels();
  recipe.clear_findings();
  recipe.clear_flags();
  recipe.mutable_network()->clear_output_channels();
  const std::vector<std::string> names = PartNames(parts);
  std::map<std::string, int> parts_with;  // a label of this name
  for (const PartDraft& part : parts) {
    for (const v1::Label& label : part.draft.recipe.labels()) ++parts_with[label.name()];
  }
  std::vector<NamedLabel> labels;
  std::vector<std::string> full_names;
  std::uint32_t offset = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Draft& draft = parts[i].draft;
    v1::Part* part = recipe.mutable_network()->add_parts();
    part->set_name(names[i]);
    for (const std::string& file : parts[i].files) part->add_files(file);
    part->set_output_channels(draft.recipe.network().output_channels());
    SetIntensity(draft.recipe.preparation(), recipe.preparation(), part);
    if (HasSteps(draft) && draft.recipe.preparation().intensity_before_spacing()) {
      recipe.mutable_preparation()->set_intensity_before_spacing(true);
    }
    std::uint32_t highest = offset;
    for (const v1::Label& label : LabelsOf(draft.recipe)) {
      const std::uint32_t value = offset + label.value();
      highest = std::max(highest, value);
      part->add_labels(value);
      labels.push_back({value, label.name()});
      std::string name = label.name();
      if (parts_with[name] > 1) {
        name = absl::StrCat(names[i], ": ", label.name());
        if (name.size() > kMaxLabelName) {
          name = OneLine(absl::StrCat("part ", i + 1, ": ", label.name()), kMaxLabelName);
        }
      }
      full_names.push_back(std::move(name));
    }
    offset = highest;
    AddNew(draft.notes, &all.notes);
    AddNew(draft.remarks, &all.remarks);
    AddNew(draft.about.references, &all.about.references);
  }
  AddLabels(labels, /*boxes=*/false, &all);  // coded by the names without a part
  for (std::size_t i = 0; i < full_names.size(); ++i) {
    recipe.mutable_labels(static_cast<int>(i))->set_name(full_names[i]);
  }
  return all;
}

}  // namespace tomoserve::models::importer
