// What a bundle's label names mean, and what follows from labels alone: findings, flags, coverage.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/import/draft.h"
#include "models/import/errors.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::models::importer {
namespace {

constexpr std::string_view kNodule = "27925004";
constexpr std::string_view kSpleen = "78961009";

constexpr double kNoduleFromMm = 6;
constexpr double kNoduleFromScore = 0.5;
constexpr double kSpleenAboveMl = 314;
constexpr char kNotStated[] = ": the imported files state no flags, and the owner has to check this one.";

struct Known {
  std::string_view name;  // lower case; the side first
  std::string_view code;
  std::string_view meaning;
};

// SNOMED CT. A side is part of the code where there is such an entry, else only of the label's name.
constexpr std::array kAnatomy = {
    Known{"adrenal gland", "23451007", "Adrenal gland"},
    Known{"aorta", "15825003", "Aorta"},
    Known{"brain", "12738006", "Brain"},
    Known{"clavicle", "51299004", "Clavicle"},
    Known{"clavicula", "51299004", "Clavicle"},
    Known{"colon", "71854001", "Colon"},
    Known{"duodenum", "38848004", "Duodenum"},
    Known{"esophagus", "32849002", "Esophagus"},
    Known{"femur", "71341001", "Femur"},
    Known{"gallbladder", "28231008", "Gallbladder"},
    Known{"heart", "80891009", "Heart"},
    Known{"humerus", "85050009", "Humerus"},
    Known{"inferior vena cava", "64131007", "Inferior vena cava"},
    Known{"ivc", "64131007", "Inferior vena cava"},
    Known{"kidney", "64033007", "Kidney"},
    Known{"left kidney", "18639004", "Left kidney"},
    Known{"right kidney", "9846003", "Right kidney"},
    Known{"liver", "10200004", "Liver"},
    Known{"lung", "39607008", "Lung"},
    Known{"lungs", "39607008", "Lung"},
    Known{"left lung", "44029006", "Left lung"},
    Known{"right lung", "3341006", "Right lung"},
    Known{"myocardium", "74281007", "Myocardium"},
    Known{"heart myocardium", "74281007", "Myocardium"},
    Known{"pancreas", "15776009", "Pancreas"},
    Known{"portal vein", "32764006", "Portal vein"},
    Known{"prostate", "41216001", "Prostate"},
    Known{"pulmonary artery", "81040000", "Pulmonary artery"},
    Known{"rib", "113197003", "Rib"},
    Known{"sacrum", "54735007", "Sacrum"},
    Known{"scapula", "79601000", "Scapula"},
    Known{"small bowel", "30315005", "Small intestine"},
    Known{"spleen", kSpleen, "Spleen"},
    Known{"stomach", "69695003", "Stomach"},
    Known{"trachea", "44567001", "Trachea"},
    Known{"bladder", "89837001", "Urinary bladder"},
    Known{"urinary bladder", "89837001", "Urinary bladder"},
    Known{"vertebrae", "51282000", "Vertebra"},
    Known{"bone", "272673000", "Bone"},
};

// Found anywhere in the name.
constexpr std::array kAbnormal = {
    Known{"nodule", kNodule, "Nodule"},
    Known{"lesion", "52988006", "Lesion"},
    Known{"tumor", "108369006", "Neoplasm"},
    Known{"tumour", "108369006", "Neoplasm"},
};

v1::Code Coded(std::string_view value, std::string_view meaning) {
  v1::Code code;
  code.set_value(std::string(value));
  code.set_scheme("SCT");
  code.set_meaning(std::string(meaning));
  return code;
}

// "Kidney_right" -> "right kidney".
std::string SideFirst(const std::string& name) {
  std::string side;
  std::string rest;
  std::string word;
  for (const char c : name + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
      continue;
    }
    if (word == "left" || word == "right") {
      side = word;
    } else if (!word.empty()) {
      absl::StrAppend(&rest, rest.empty() ? "" : " ", word);
    }
    word.clear();
  }
  return side.empty() ? rest : absl::StrCat(side, " ", rest);
}

const Known* Find(const std::string& name) {
  const auto* found = std::find_if(kAnatomy.begin(), kAnatomy.end(),
                                   [&name](const Known& known) { return known.name == name; });
  return found == kAnatomy.end() ? nullptr : found;
}

const Known* FindAnatomy(std::string name) {
  if (const Known* known = Find(name)) return known;
  for (const std::string_view side : {"left ", "right "}) {
    if (name.substr(0, side.size()) == side) name = name.substr(side.size());
  }
  if (const Known* known = Find(name)) return known;
  // "rib 7", "vertebrae l5".
  const std::size_t last = name.rfind(' ');
  const bool numbered =
      last != std::string::npos && std::isdigit(static_cast<unsigned char>(name.back())) != 0;
  return numbered ? Find(name.substr(0, last)) : nullptr;
}

void AddCodes(v1::Label* label) {
  const std::string name = SideFirst(label->name());
  for (const Known& known : kAbnormal) {
    if (name.find(known.name) == std::string::npos) continue;
    *label->mutable_type() = Coded(known.code, known.meaning);
    *label->mutable_category() = Coded("49755003", "Morphologically Abnormal Structure");
    return;
  }
  *label->mutable_category() = Coded("123037004", "Anatomical Structure");
  const Known* known = FindAnatomy(name);
  *label->mutable_type() =
      known == nullptr ? Coded("85756007", "Tissue") : Coded(known->code, known->meaning);
}

void AddNote(const std::string& note, Draft* draft) {
  std::vector<std::string>& notes = draft->notes;
  if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
}

// Bounds that are widely used, for what no bundle states: the owner has to check them.
void AddAttention(const v1::Label& label, Draft* draft) {
  const bool nodule = label.type().value() == kNodule;
  if (!nodule && label.type().value() != kSpleen) return;
  v1::FlagRule* flag = draft->recipe.add_flags();
  flag->set_label(label.value());
  flag->set_level(v1::FLAG_LEVEL_ATTENTION);
  if (nodule) {
    flag->mutable_mean_diameter_mm()->set_min(kNoduleFromMm);
    flag->mutable_score()->set_min(kNoduleFromScore);
    AddNote(absl::StrCat("A nodule with a mean diameter of at least ", kNoduleFromMm,
                         " mm and a score of at least ", kNoduleFromScore, " raises ATTENTION", kNotStated),
            draft);
  } else {
    // Ends of a range are included, and this one is not meant to be.
    flag->mutable_volume_ml()->set_min(std::nextafter(kSpleenAboveMl, std::numeric_limits<double>::max()));
    AddNote(absl::StrCat("A spleen of more than ", kSpleenAboveMl, " ml raises ATTENTION", kNotStated),
            draft);
  }
}

}  // namespace

std::string FolderName(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool keep = byte < 0x80 && (std::isalnum(byte) != 0 || c == '_' || c == '.' || c == '-');
    name.push_back(keep ? static_cast<char>(std::tolower(byte)) : '_');
  }
  name.erase(0, std::min(name.find_first_not_of("._"), name.size()));
  name.resize(std::min<std::size_t>(name.size(), 64));
  return name;
}

void AddLabels(const std::vector<NamedLabel>& labels, bool boxes, Draft* draft) {
  v1::Recipe* const recipe = &draft->recipe;
  for (const NamedLabel& named : labels) {
    v1::Label* label = recipe->add_labels();
    label->set_value(named.value);
    label->set_name(OneLine(named.name, 64));
    AddCodes(label);
    v1::FindingRule* finding = recipe->add_findings();
    finding->set_label(named.value);
    finding->set_each_component(boxes || label->type().value() == kNodule);
    v1::FlagRule* flag = recipe->add_flags();
    flag->set_label(named.value);
    flag->set_level(v1::FLAG_LEVEL_INFO);
    AddAttention(*label, draft);
  }
  recipe->mutable_coverage()->mutable_not_stated()->set_because(
      "The imported files do not say which extent a scan must have: until the owner sets a rule, a run "
      "without findings is INCONCLUSIVE.");
}

std::vector<std::string> ModalitiesOf(std::string_view word) {
  std::string lower;
  for (const char c : word) lower.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  if (lower == "ct") return {"CT"};
  if (lower == "pt" || lower == "pet") return {"PT"};
  if (lower == "mr" || lower == "mri" || SequenceOf(word) != Sequence::kUnknown) return {"MR"};
  return {};
}

void AddModalities(const std::vector<std::string>& stated, v1::Input* input, Draft* draft) {
  std::string note;
  std::vector<std::string> modalities = draft->modalities;
  if (modalities.empty()) modalities = stated;
  if (modalities.empty()) {
    modalities = {"CT", "MR", "PT"};
    note =
        "The bundle does not say the modality: inputs.modalities lists CT, MR and PT, and the owner has to "
        "leave the right one.";
  } else if (!stated.empty() && modalities != stated) {
    note = absl::StrCat("The bundle states the modality ", stated[0], "; --modality replaced it by ",
                        absl::StrJoin(modalities, ", "), ".");
  }
  for (const std::string& modality : modalities) input->add_modalities(modality);
  if (!note.empty()) AddNote(note, draft);
}

absl::StatusOr<std::vector<std::string>> CheckModalities(const std::vector<std::string>& modalities) {
  std::vector<std::string> checked;
  for (const std::string& modality : modalities) {
    if (modality != "CT" && modality != "MR" && modality != "PT") {
      return Malformed("--modality", absl::StrCat(OneLine(modality, 40), " is none of CT, MR and PT"));
    }
    if (std::find(checked.begin(), checked.end(), modality) == checked.end()) checked.push_back(modality);
  }
  return checked;
}

}  // namespace tomoserve::models::importer
