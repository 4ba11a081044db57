#include "series/indication.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

using tomoserve::v1::DoubleRange;
using tomoserve::v1::Input;

std::string Upper(const std::string& text) { return absl::AsciiStrToUpper(absl::StripAsciiWhitespace(text)); }

// Whether a header's text, in capitals, contains a recipe's. A space that the recipe's begins or ends with
// counts, also where the header's text ends: " MIP" is no part of "CHIMIP", and begins "MIP COR".
bool Contains(const std::string& upper, const std::string& wanted) {
  return absl::StrContains(absl::StrCat(" ", upper, " "), absl::AsciiStrToUpper(wanted));
}

bool Asked(const DoubleRange& range) { return range.has_min() || range.has_max(); }

// Exact multiples come back from headers with rounding of their decimal text.
bool Inside(const DoubleRange& range, double value) {
  const double slack = 1e-6 * std::max(1.0, std::abs(value));
  return !(range.has_min() && value < range.min() - slack) &&
         !(range.has_max() && value > range.max() + slack);
}

std::string Text(const DoubleRange& range) {
  return absl::StrCat(range.has_min() ? absl::StrCat(range.min()) : "", "..",
                      range.has_max() ? absl::StrCat(range.max()) : "");
}

// Body Part Examined where it is the code string that it should be: free text may hold anything.
std::string ShownBodyPart(const std::string& body_part) {
  const std::string text = Upper(body_part);
  const bool code = text.size() <= 16 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
                      return absl::ascii_isupper(c) || c == '_' || c == ' ';
                    });
  return code ? text : "";
}

struct Date {
  int year = 0;
  int month = 0;
  int day = 0;
};

std::optional<Date> ParseDate(const std::string& text) {
  std::string digits = text;
  std::erase(digits, '.');  // ACR-NEMA's 1993.08.22
  if (digits.size() != 8 || !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit))
    return std::nullopt;
  const auto number = [&](std::size_t from, std::size_t count) {
    return std::stoi(digits.substr(from, count));
  };
  const Date date{number(0, 4), number(4, 2), number(6, 2)};
  if (date.year < 1800 || date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31)
    return std::nullopt;
  return date;
}

// Whole years, then the days since the last birthday: exact on the birthday itself.
std::optional<double> YearsBetween(const Date& birth, const Date& study) {
  constexpr std::array<int, 12> kDaysBefore{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const auto day_of_year = [&](const Date& date) {
    return kDaysBefore[static_cast<std::size_t>(date.month - 1)] + date.day;
  };
  int years = study.year - birth.year;
  int days = day_of_year(study) - day_of_year(birth);
  if (days < 0) {
    --years;
    days += 365;
  }
  if (years < 0) return std::nullopt;
  return years + days / 366.0;
}

// Checks that run in order until one fails.
class Checks {
 public:
  Checks(const Input& input, Indication& out)
      : refuse_(input.when_missing() != tomoserve::v1::WHEN_MISSING_WARN), out_(out) {}

  bool failed() const { return out_.misfit.has_value(); }

  void Fail(std::string_view code, std::string_view value, std::string_view text) {
    ++stage_;
    if (!failed()) out_.misfit = Misfit{stage_, MakeReason(code, value, text)};
  }

  void Pass() { ++stage_; }

  void Missing(std::string_view field) {
    ++stage_;
    if (failed()) return;
    if (refuse_) {
      out_.misfit =
          Misfit{stage_, MakeReason("TAG_MISSING", field, "a tag that the recipe needs is missing")};
    } else {
      out_.limitations.push_back(absl::StrCat("TAG_MISSING(", std::string(field), ")"));
    }
  }

  void Range(const DoubleRange& range, std::string_view code, std::optional<double> value,
             std::string_view field, bool show_value = true) {
    if (!Asked(range)) return Pass();
    if (!value || !std::isfinite(*value)) return Missing(field);
    if (Inside(range, *value)) return Pass();
    Fail(code, show_value ? absl::StrCat(*value) : "", absl::StrCat("outside of ", Text(range)));
  }

 private:
  bool refuse_;
  Indication& out_;
  int stage_ = 1;
};

void CheckImageTypes(const Input& input, const Header& header, Checks& checks) {
  const auto has = [&](const std::string& wanted) {
    return std::any_of(header.image_type().begin(), header.image_type().end(),
                       [&](const std::string& value) { return Upper(value) == Upper(wanted); });
  };
  if (header.image_type().empty() && !input.required_image_types().empty())
    return checks.Missing("image_type");
  for (const std::string& required : input.required_image_types()) {
    if (!has(required)) return checks.Fail("IMAGE_TYPE", required, "a required Image Type value is missing");
  }
  for (const std::string& excluded : input.excluded_image_types()) {
    if (has(excluded)) return checks.Fail("IMAGE_TYPE", excluded, "an excluded Image Type value is there");
  }
  checks.Pass();
}

// The unit where it is the code string that it should be, with the kind of a standardised uptake value that
// is not by body weight.
std::string ShownUnit(const Volume& volume) {
  std::string unit = volume.unit;
  const std::string suv = Upper(volume.representative.pet().suv_type());
  if (unit == "GML" && !suv.empty() && suv != "BW") absl::StrAppend(&unit, " ", suv);
  const bool code = unit.size() <= 16 && std::all_of(unit.begin(), unit.end(), [](unsigned char c) {
                      return absl::ascii_isupper(c) || absl::ascii_isdigit(c) || c == '_' || c == ' ';
                    });
  return code ? unit : "?";
}

void CheckUnits(const Input& input, const Volume& volume, Checks& checks) {
  for (const tomoserve::v1::Reason& reason : volume.reasons) {
    if (reason.code() == "NOT_HU") return checks.Fail(reason.code(), reason.value(), reason.text());
  }
  if (input.units().empty()) return checks.Pass();
  if (volume.unit.empty()) return checks.Missing("units");
  const std::string unit = ShownUnit(volume);
  const bool accepted = std::any_of(input.units().begin(), input.units().end(),
                                    [&](const std::string& wanted) { return Upper(wanted) == unit; });
  if (accepted) return checks.Pass();
  checks.Fail("UNITS", unit, "the values are in another unit than the recipe asks for");
}

void CheckRegion(const Input& input, const Header& header, Checks& checks) {
  if (input.region_texts().empty()) return checks.Pass();
  const std::string texts[] = {Upper(header.body_part()), Upper(header.protocol_name()),
                               Upper(header.series_description())};
  if (std::all_of(std::begin(texts), std::end(texts), [](const std::string& text) { return text.empty(); })) {
    return checks.Missing("region");
  }
  for (const std::string& wanted : input.region_texts()) {
    for (const std::string& text : texts) {
      if (Contains(text, wanted)) return checks.Pass();
    }
  }
  checks.Fail("REGION", ShownBodyPart(header.body_part()),
              "body part, protocol and series description name another region");
}

// The plane that the slices are nearest to, by their normal (row x column, LPS: x to the left, y to the
// back).
std::optional<tomoserve::v1::Plane> PlaneOf(const Header& header) {
  if (header.image_orientation_size() != 6) return std::nullopt;
  const auto at = [&](int i) { return header.image_orientation(i); };
  const std::array<double, 3> normal{std::abs(at(1) * at(5) - at(2) * at(4)),
                                     std::abs(at(2) * at(3) - at(0) * at(5)),
                                     std::abs(at(0) * at(4) - at(1) * at(3))};
  const auto largest = std::max_element(normal.begin(), normal.end());
  if (!(*largest > 0) || !std::isfinite(*largest)) return std::nullopt;
  switch (largest - normal.begin()) {
    case 0:
      return tomoserve::v1::PLANE_SAGITTAL;
    case 1:
      return tomoserve::v1::PLANE_CORONAL;
    default:
      return tomoserve::v1::PLANE_AXIAL;
  }
}

void CheckPlane(const Input& input, const Header& header, Checks& checks) {
  if (input.planes().empty()) return checks.Pass();
  const auto plane = PlaneOf(header);
  if (!plane) return checks.Missing("orientation");
  if (std::find(input.planes().begin(), input.planes().end(), *plane) != input.planes().end())
    return checks.Pass();
  checks.Fail("ORIENTATION", tomoserve::v1::Plane_Name(*plane).substr(std::size("PLANE_") - 1),
              "the slices lie in another plane");
}

// Free text, in which "NO" and the like mean what their absence means.
bool NamesAgent(const Header& header) {
  const std::string agent = Upper(header.contrast_agent());
  for (const std::string_view none : {"", "NO", "NONE", "N", "WITHOUT", "0", "N/A"}) {
    if (agent == none) return false;
  }
  return true;
}

// Whether description or protocol speak of contrast, in words of their own: the agent's attribute is often
// left out.
bool SpeaksOfContrast(const Header& header) {
  for (const std::string& text : {Upper(header.series_description()), Upper(header.protocol_name())}) {
    bool speaks = absl::StrContains(text, "+C") || absl::StrContains(text, "C+");
    bool denies = absl::StrContains(text, "W/O") || absl::StrContains(text, "C-");
    std::string spaced = text;
    std::replace_if(
        spaced.begin(), spaced.end(), [](unsigned char c) { return !absl::ascii_isalnum(c); }, ' ');
    const std::vector<std::string> words = absl::StrSplit(spaced, ' ');
    for (const std::string& word : words) {
      for (const std::string_view yes : {"GD", "GAD", "GADO", "CE", "KM", "CONTRAST", "POSTGAD", "POSTGD",
                                         "POSTCONTRAST", "T1C", "T1CE", "T1GD"}) {
        speaks = speaks || word == yes;
      }
      // Of MR a phase, of CT also an operation.
      speaks = speaks || (word == "POST" && header.modality() == "MR");
      for (const std::string_view no : {"PRE", "NON", "NO", "WITHOUT", "WO", "OHNE", "NATIVE", "NATIV",
                                        "SANS", "NONCONTRAST", "PRECONTRAST"}) {
        denies = denies || word == no;
      }
    }
    if (speaks && !denies) return true;
  }
  return false;
}

void CheckContrast(const Input& input, const Header& header, Checks& checks) {
  const bool with = NamesAgent(header);
  switch (input.contrast()) {
    case tomoserve::v1::CONTRAST_WITH:
      if (with) return checks.Pass();
      if (header.contrast_agent().empty()) return checks.Missing("contrast");
      return checks.Fail("CONTRAST", "NONE", "the images are said to be without contrast");
    case tomoserve::v1::CONTRAST_WITHOUT:
      // The agent itself is free text.
      if (with) return checks.Fail("CONTRAST", "AGENT", "the images are said to be with contrast");
      if (SpeaksOfContrast(header))
        return checks.Fail("CONTRAST", "DESCRIPTION", "description or protocol speak of contrast");
      return checks.Pass();
    default:
      return checks.Pass();
  }
}

void CheckPhase(const Input& input, const Header& header, Checks& checks) {
  if (input.phase_texts().empty()) return checks.Pass();
  std::vector<std::string> texts{Upper(header.series_description()), Upper(header.protocol_name())};
  for (const std::string& type : header.image_type()) texts.push_back(Upper(type));
  const bool silent = texts[0].empty() && texts[1].empty();
  for (const std::string& wanted : input.phase_texts()) {
    for (const std::string& text : texts) {
      if (Contains(text, wanted)) return checks.Pass();
    }
  }
  if (silent) return checks.Missing("phase");
  checks.Fail("PHASE", "", "series description, protocol and image type name none of the accepted phases");
}

void CheckExcludedTexts(const Input& input, const Header& header, Checks& checks) {
  std::vector<std::string> texts{Upper(header.series_description()), Upper(header.protocol_name())};
  for (const std::string& type : header.image_type()) texts.push_back(Upper(type));
  for (const std::string& excluded : input.excluded_texts()) {
    for (const std::string& text : texts) {
      // The value is the recipe's text: the header's may hold anything.
      if (Contains(text, excluded)) {
        return checks.Fail("EXCLUDED_TEXT", excluded,
                           "series description, protocol or image type hold a text that the recipe excludes");
      }
    }
  }
  checks.Pass();
}

void CheckLossy(const Input& input, const Header& header, Checks& checks, Indication& out) {
  if (!header.lossy()) return checks.Pass();
  const double ratio = header.lossy_ratio();
  if (input.max_lossy_ratio() <= 0) {
    return checks.Fail("LOSSY", ratio > 0 ? absl::StrCat(ratio) : "", "lossy compression is not accepted");
  }
  if (!(ratio > 0) || !std::isfinite(ratio)) return checks.Missing("lossy_ratio");
  if (ratio > input.max_lossy_ratio()) {
    return checks.Fail("LOSSY", absl::StrCat(ratio), "the compression ratio is too high");
  }
  checks.Pass();
  out.limitations.push_back(absl::StrCat("LOSSY(", ratio, ")"));
}

}  // namespace

std::optional<Misfit> CheckModality(const Input& input, const std::string& modality) {
  for (const std::string& accepted : input.modalities()) {
    if (Upper(accepted) == Upper(modality)) return std::nullopt;
  }
  return Misfit{0, MakeReason("MODALITY", Upper(modality), "the recipe is for another modality")};
}

std::optional<double> AgeYears(const Header& header) {
  const std::string age = Upper(header.patient_age());
  if (age.size() >= 2 && age.size() <= 4 && std::all_of(age.begin(), age.end() - 1, absl::ascii_isdigit)) {
    const double count = std::stoi(age.substr(0, age.size() - 1));
    switch (age.back()) {
      case 'Y':
        return count;
      case 'M':
        return count / 12;
      case 'W':
        return count * 7 / 365.25;
      case 'D':
        return count / 365.25;
      default:
        break;
    }
  }
  const auto birth = ParseDate(header.patient_birth_date());
  const auto study = ParseDate(header.study_date());
  if (!birth || !study) return std::nullopt;
  return YearsBetween(*birth, *study);
}

Indication CheckIndication(const Input& input, const Volume& volume) {
  Indication out;
  Checks checks(input, out);
  const Header& header = volume.representative;
  CheckImageTypes(input, header, checks);
  CheckUnits(input, volume, checks);
  CheckRegion(input, header, checks);
  // A patient's age is not repeated in a reason.
  checks.Range(input.age_years(), "AGE", AgeYears(header), "age", /*show_value=*/false);
  checks.Range(input.kvp(), "KVP", header.has_kvp() ? std::optional<double>(header.kvp()) : std::nullopt,
               "kvp");
  CheckContrast(input, header, checks);
  CheckPhase(input, header, checks);
  CheckExcludedTexts(input, header, checks);
  CheckLossy(input, header, checks, out);
  CheckPlane(input, header, checks);
  checks.Range(
      input.slice_thickness_mm(), "SLICE_THICKNESS",
      header.has_slice_thickness_mm() ? std::optional<double>(header.slice_thickness_mm()) : std::nullopt,
      "slice_thickness");
  if (volume.geometry) {
    const volume::Geometry& scanned = volume.acquired ? *volume.acquired : *volume.geometry;
    const auto& size = scanned.size_ijk();
    const auto& spacing = scanned.spacing_mm();
    checks.Range(input.slice_spacing_mm(), "SLICE_SPACING", spacing[2], "slice_spacing");
    checks.Range(input.field_of_view_mm(), "FIELD_OF_VIEW",
                 std::min(size[0] * spacing[0], size[1] * spacing[1]), "field_of_view");
  }
  // What was acquired counts, not what can be interpolated.
  const std::uint32_t synthetic = volume.synthetic_slices();
  const std::uint32_t slices = static_cast<std::uint32_t>(volume.slices.size()) - synthetic;
  if ((input.slices().has_min() && slices < input.slices().min()) ||
      (input.slices().has_max() && slices > input.slices().max())) {
    checks.Fail("SLICES", absl::StrCat(slices), "the number of slices is outside of the accepted range");
  }
  for (const tomoserve::v1::Reason& reason : volume.reasons) {
    if (reason.code() == "NO_RESCALE") out.limitations.push_back(reason.code());
    if (reason.code() == "GANTRY_TILT_UNCONFIRMED") {
      out.limitations.push_back(absl::StrCat(reason.code(), "(", reason.value(), ")"));
    }
    if (volume.verdict != Verdict::kResample) continue;
    if (reason.code() == "GANTRY_TILT" || reason.code() == "MISSING_SLICES") {
      out.limitations.push_back(absl::StrCat(reason.code(), "(", reason.value(), ")"));
    }
  }
  return out;
}

}  // namespace tomoserve::series
