// Which series of a study is which channel of a network, as far as the channels' names tell it.
#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "models/import/draft.h"
#include "models/import/json.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::models::importer {
namespace {

struct Name {
  std::string_view letters;
  Sequence sequence;
};

constexpr std::array kNames = {
    Name{"t1", Sequence::kT1},
    Name{"t1w", Sequence::kT1},
    Name{"t1n", Sequence::kT1},
    Name{"t1pre", Sequence::kT1},
    Name{"t1wpre", Sequence::kT1},
    Name{"t1native", Sequence::kT1},
    Name{"t1weighted", Sequence::kT1},
    Name{"t1c", Sequence::kT1Contrast},
    Name{"t1ce", Sequence::kT1Contrast},
    Name{"t1gd", Sequence::kT1Contrast},
    Name{"t1wc", Sequence::kT1Contrast},
    Name{"t1wce", Sequence::kT1Contrast},
    Name{"t1wgd", Sequence::kT1Contrast},
    Name{"t1post", Sequence::kT1Contrast},
    Name{"t1wpost", Sequence::kT1Contrast},
    Name{"t1contrast", Sequence::kT1Contrast},
    Name{"t1postcontrast", Sequence::kT1Contrast},
    Name{"t1wpostcontrast", Sequence::kT1Contrast},
    Name{"t1contrastenhanced", Sequence::kT1Contrast},
    Name{"t2", Sequence::kT2},
    Name{"t2w", Sequence::kT2},
    Name{"t2weighted", Sequence::kT2},
    Name{"flair", Sequence::kFlair},
    Name{"t2f", Sequence::kFlair},
    Name{"t2flair", Sequence::kFlair},
    Name{"adc", Sequence::kAdc},
    Name{"dwi", Sequence::kDwi},
    Name{"swi", Sequence::kSwi},
    Name{"pd", Sequence::kPd},
    Name{"pdw", Sequence::kPd},
};

struct Word {
  Sequence sequence;
  std::string_view text;   // what descriptions say
  std::string_view other;  // where it stands too; empty: nowhere else
};

constexpr std::array kWords = {
    Word{Sequence::kT1, "T1", ""},
    Word{Sequence::kT1Contrast, "T1", ""},
    Word{Sequence::kT2, "T2", "\"T2 FLAIR\" or \"T2*\""},
    Word{Sequence::kFlair, "FLAIR", "\"T1 FLAIR\""},
    Word{Sequence::kAdc, "ADC", ""},
    Word{Sequence::kDwi, "DWI", "\"DWI ADC\""},
    Word{Sequence::kSwi, "SWI", ""},
    Word{Sequence::kPd, "PD", "any with these two letters"},
};

// Lower case, without what separates words.
std::string LettersOf(std::string_view name) {
  std::string letters;
  for (const char c : name) {
    if (std::string_view(" _-./").find(c) != std::string_view::npos) continue;
    letters.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return letters;
}

// "image_0", "MRI": true of every series; "A": so short that it stands in other words.
bool TellsNothing(std::string_view name) {
  constexpr std::size_t kShortest = 4;
  std::string letters = LettersOf(name);
  if (letters.size() < kShortest) return true;
  std::erase_if(letters, [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; });
  if (letters.empty()) return true;
  for (const std::string_view word :
       {"mr", "mri", "ct", "pt", "pet", "image", "img", "channel", "modality", "input"}) {
    if (letters == word) return true;
  }
  return false;
}

// No other input takes a series of its modality.
bool HasOwnModality(const v1::Recipe& recipe, int index) {
  const auto& own = recipe.inputs(index).modalities();
  for (int other = 0; other < recipe.inputs_size(); ++other) {
    if (other == index) continue;
    for (const std::string& modality : recipe.inputs(other).modalities()) {
      if (std::find(own.begin(), own.end(), modality) != own.end()) return false;
    }
  }
  return true;
}

class Teller {
 public:
  Teller(const std::vector<std::string>& names, Draft* draft) : names_(names), draft_(draft) {
    for (const std::string& name : names) {
      letters_.push_back(LettersOf(name));
      sequences_.push_back(SequenceOf(name));
    }
    letters_.resize(Count());
    names_.resize(Count());
    sequences_.resize(Count(), Sequence::kUnknown);
  }

  void Tell(int index);

 private:
  std::size_t Count() const { return static_cast<std::size_t>(draft_->recipe.inputs_size()); }
  bool IsThere(Sequence sequence) const {
    return std::find(sequences_.begin(), sequences_.end(), sequence) != sequences_.end();
  }
  void Note(const v1::Input& input, std::string_view text) {
    draft_->notes.push_back(absl::StrCat("Input ", input.name(), ": ", base::ToAbsl(text)));
  }
  void Narrow(Sequence sequence, v1::Input* input);

  std::vector<std::string> names_;
  std::vector<std::string> letters_;
  std::vector<Sequence> sequences_;
  Draft* draft_;
};

void Teller::Narrow(Sequence sequence, v1::Input* input) {
  const Word& word = *std::find_if(kWords.begin(), kWords.end(),
                                   [sequence](const Word& known) { return known.sequence == sequence; });
  input->add_phase_texts(std::string(word.text));
  if (sequence == Sequence::kT1Contrast) input->set_contrast(v1::CONTRAST_WITH);
  if (sequence == Sequence::kT1) {
    // One with an agent, taken for a native one, would be a wrong answer; the other way round none is given.
    input->set_contrast(v1::CONTRAST_WITHOUT);
    if (!IsThere(Sequence::kT1Contrast)) {
      Note(*input,
           "taken as without contrast agent, as its name does not say: the owner has to state contrast.");
    }
  }
  if (!word.other.empty()) {
    Note(*input, absl::StrCat(base::ToAbsl(word.text), " stands in other descriptions too, such as ",
                              base::ToAbsl(word.other),
                              ": the owner has to state phase_texts that only this series has."));
  }
}

void Teller::Tell(int index) {
  v1::Input* input = draft_->recipe.mutable_inputs(index);
  input->set_when_missing(v1::WHEN_MISSING_REFUSE);
  const auto at = static_cast<std::size_t>(index);
  const Sequence sequence = sequences_[at];
  const bool known = sequence != Sequence::kUnknown;
  const bool twice = known ? std::count(sequences_.begin(), sequences_.end(), sequence) > 1
                           : std::count(letters_.begin(), letters_.end(), letters_[at]) > 1;
  if (known && !twice) {
    Narrow(sequence, input);
    return;
  }
  if (HasOwnModality(draft_->recipe, index)) return;
  if (!twice && !TellsNothing(names_[at])) {
    input->add_phase_texts(OneLine(names_[at], 64));
    return;
  }
  const std::string text = absl::StrCat("state phase_texts of ", input->name());
  input->add_phase_texts(text);
  Note(*input, absl::StrCat(twice ? "its channel's name is that of another one too"
                                  : "its channel's name tells no kind of series",
                            ": the owner has to state phase_texts; until then only a series that says \"",
                            text, "\" is taken."));
}

}  // namespace

Sequence SequenceOf(std::string_view name) {
  const std::string letters = LettersOf(name);
  std::string_view rest = letters;
  for (const std::string_view prefix : {"mri", "mr"}) {
    if (rest.substr(0, prefix.size()) != prefix) continue;
    rest.remove_prefix(prefix.size());
    break;
  }
  const auto* found =
      std::find_if(kNames.begin(), kNames.end(), [rest](const Name& known) { return known.letters == rest; });
  return found == kNames.end() ? Sequence::kUnknown : found->sequence;
}

void TellApart(const std::vector<std::string>& names, Draft* draft) {
  if (draft->recipe.inputs_size() < 2) return;
  draft->notes.push_back(
      "Which series is which input is told from their descriptions: check inputs.phase_texts and "
      "inputs.contrast. A series that does not say what they ask is not taken (inputs.when_missing).");
  Teller teller(names, draft);
  for (int i = 0; i < draft->recipe.inputs_size(); ++i) teller.Tell(i);
}

}  // namespace tomoserve::models::importer
