#include "tomoserve/findings/flag.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::findings {
namespace {

// Ends included; false for a number that is none.
bool Within(const v1::DoubleRange& range, double value) {
  if (range.has_min() && !(value >= range.min())) return false;
  if (range.has_max() && !(value <= range.max())) return false;
  return true;
}

bool FulfilsSizes(const v1::FlagRule& rule, const v1::Finding& finding) {
  return rule.label() == finding.label_value() &&
         Within(rule.longest_diameter_mm(), finding.longest_diameter_3d_mm().value()) &&
         Within(rule.mean_diameter_mm(), finding.mean_diameter_mm().value()) &&
         Within(rule.volume_ml(), finding.volume_ml().value()) && Within(rule.score(), finding.score());
}

// Whether a finding fulfils a rule; not known where it lacks what the rule asks for.
struct Answer {
  bool fails = false;
  std::string missing;  // what it lacks first
};

void Demand(bool known, bool holds, std::string_view name, Answer& answer) {
  if (known && !holds) answer.fails = true;
  if (!known && answer.missing.empty()) answer.missing = std::string(name);
}

Answer Ask(const v1::FlagRule& rule, const v1::Finding& finding) {
  Answer answer;
  if (!FulfilsSizes(rule, finding)) answer.fails = true;
  if (rule.has_mean_hu()) {
    Demand(finding.has_mean_hu(), Within(rule.mean_hu(), finding.mean_hu().value()), "mean_hu", answer);
  }
  for (const v1::DistanceBound& bound : rule.distances()) {
    const auto distance =
        std::find_if(finding.distances().begin(), finding.distances().end(),
                     [&](const v1::Distance& known) { return known.to_label() == bound.to_label(); });
    const bool known = distance != finding.distances().end();
    Demand(known, known && Within(bound.mm(), distance->mm().value()),
           absl::StrCat("distances to ", bound.to_label()), answer);
  }
  if (rule.side() != v1::TOWARDS_UNSPECIFIED) {
    const v1::Laterality side = rule.side() == v1::TOWARDS_LEFT ? v1::LATERALITY_LEFT : v1::LATERALITY_RIGHT;
    Demand(finding.laterality() != v1::LATERALITY_UNSPECIFIED, finding.laterality() == side, "side", answer);
  }
  return answer;
}

// The highest level of the rules that some finding fulfils, and of those of which it is not known.
struct Levels {
  v1::FlagLevel raised = v1::FLAG_LEVEL_UNSPECIFIED;
  v1::FlagLevel unknown = v1::FLAG_LEVEL_UNSPECIFIED;
  std::string missing;  // of the rule with the highest unknown level
};

Levels LevelsOf(const v1::Recipe& recipe, const std::vector<v1::Finding>& findings) {
  Levels levels;
  for (const v1::FlagRule& rule : recipe.flags()) {
    const v1::FlagLevel level = std::max(rule.level(), v1::FLAG_LEVEL_INFO);
    for (const v1::Finding& finding : findings) {
      const Answer answer = Ask(rule, finding);
      if (answer.fails) continue;
      if (answer.missing.empty()) {
        levels.raised = std::max(levels.raised, level);
      } else if (level > levels.unknown) {
        levels.unknown = level;
        levels.missing = answer.missing;
      }
    }
  }
  return levels;
}

// A finding whose numbers cannot be compared must not end in "no finding".
bool Measurable(const v1::Finding& finding) {
  const auto& distances = finding.distances();
  return std::isfinite(finding.mean_hu().value()) &&
         std::all_of(distances.begin(), distances.end(),
                     [](const v1::Distance& one) { return std::isfinite(one.mm().value()); }) &&
         std::isfinite(finding.longest_diameter_3d_mm().value()) &&
         std::isfinite(finding.mean_diameter_mm().value()) && std::isfinite(finding.volume_ml().value()) &&
         std::isfinite(finding.score());
}

void AddPartialCoverage(const v1::Coverage& coverage, v1::Flag& flag) {
  v1::Reason& reason = *flag.add_reasons();
  reason.set_code("PARTIAL_COVERAGE");
  const bool partial = coverage.target() == v1::COVERAGE_TARGET_PARTIAL;
  reason.set_value(partial ? "PARTIAL" : "UNKNOWN");
  reason.set_text(partial ? "the images do not show everything that the question needs"
                          : "it is not known whether the images show everything that the question needs");
  flag.mutable_reasons()->MergeFrom(coverage.reasons());
}

void AddMissing(const std::string& missing, v1::Flag& flag) {
  v1::Reason& reason = *flag.add_reasons();
  reason.set_code("MEASUREMENT_MISSING");
  reason.set_value(missing);
  reason.set_text("a finding lacks a measurement that a flag rule asks for");
}

// Tenths of a millimetre; a coordinate that is no number has a name of its own.
std::string Tenths(double mm) {
  constexpr double kFarthest = 1e12;
  if (!(std::abs(mm) < kFarthest)) return "out";
  return absl::StrCat(std::llround(mm * 10));
}

}  // namespace

v1::Flag JudgeFlag(const v1::Recipe& recipe, const std::vector<v1::Finding>& findings,
                   const v1::Coverage& coverage, const std::vector<v1::Reason>& implausible) {
  v1::Flag flag;
  if (!implausible.empty()) {
    flag.set_state(v1::FLAG_STATE_INCONCLUSIVE);
    flag.mutable_reasons()->Add(implausible.begin(), implausible.end());
    if (coverage.target() != v1::COVERAGE_TARGET_COMPLETE) AddPartialCoverage(coverage, flag);
    return flag;
  }
  const Levels levels = LevelsOf(recipe, findings);
  const bool complete = coverage.target() == v1::COVERAGE_TARGET_COMPLETE;
  if (levels.raised != v1::FLAG_LEVEL_UNSPECIFIED) {
    flag.set_state(v1::FLAG_STATE_FLAGGED);
    flag.set_level(levels.raised);
    if (levels.unknown > levels.raised) AddMissing(levels.missing, flag);
    if (!complete) AddPartialCoverage(coverage, flag);
    return flag;
  }
  const bool measurable = std::all_of(findings.begin(), findings.end(), Measurable);
  const bool known = levels.unknown == v1::FLAG_LEVEL_UNSPECIFIED;
  if (complete && measurable && known) {
    flag.set_state(v1::FLAG_STATE_NO_FINDING);
    return flag;
  }
  flag.set_state(v1::FLAG_STATE_INCONCLUSIVE);
  if (!complete) AddPartialCoverage(coverage, flag);
  if (!measurable) {
    v1::Reason& reason = *flag.add_reasons();
    reason.set_code("MEASUREMENT_INVALID");
    reason.set_text("a finding has a measurement that is not a number");
  }
  if (!known) AddMissing(levels.missing, flag);
  return flag;
}

std::string TrackingUid(std::string_view study_uid, std::string_view model_digest,
                        const v1::Finding& finding) {
  const v1::PointLps& centre = finding.centre_lps();
  return base::UidFromSeed(absl::StrCat(
      "tracking|", base::ToAbsl(study_uid), "|", base::ToAbsl(model_digest), "|", finding.label_value(), "|",
      finding.label(), "|", Tenths(centre.x_mm()), "|", Tenths(centre.y_mm()), "|", Tenths(centre.z_mm()),
      finding.time_point() == 0 ? std::string() : absl::StrCat("|t", finding.time_point())));
}

v1::StudySummary Summarise(const std::vector<v1::Run>& runs) {
  v1::StudySummary summary;
  v1::FlagLevel highest = v1::FLAG_LEVEL_UNSPECIFIED;
  for (const v1::Run& run : runs) {
    switch (run.state()) {
      case v1::RUN_STATE_DONE:
        switch (run.flag().state()) {
          case v1::FLAG_STATE_FLAGGED:
            summary.set_flagged(summary.flagged() + 1);
            highest = std::max(highest, run.flag().level());
            break;
          case v1::FLAG_STATE_NO_FINDING:
            summary.set_no_finding(summary.no_finding() + 1);
            break;
          case v1::FLAG_STATE_NOT_APPLICABLE:
            summary.set_not_applicable(summary.not_applicable() + 1);
            break;
          default:  // a flag that says nothing is never counted as "no finding"
            summary.set_inconclusive(summary.inconclusive() + 1);
            break;
        }
        break;
      case v1::RUN_STATE_FAILED:
      case v1::RUN_STATE_QUARANTINED:
        summary.set_failed(summary.failed() + 1);
        break;
      case v1::RUN_STATE_CANCELLED:
        break;
      default:
        summary.set_open(summary.open() + 1);
        break;
    }
  }
  summary.set_highest_level(highest);
  if (summary.open() == 0) {
    summary.set_state(v1::SUMMARY_STATE_FINAL);
  } else {
    summary.set_state(summary.open() == runs.size() ? v1::SUMMARY_STATE_PENDING : v1::SUMMARY_STATE_PARTIAL);
  }
  return summary;
}

}  // namespace tomoserve::findings
