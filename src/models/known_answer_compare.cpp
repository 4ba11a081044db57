// Whether boxes are the known ones.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/known_answer_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

// Distances are differences of doubles.
constexpr double kRounding = 1e-9;
// Of a rule that states no max_findings.
constexpr int kMostFindings = 100;

absl::Status Differs(const std::string& figures, std::string_view text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, "KNOWN_ANSWER_DIFFERS", figures, text);
}

// How far a finding is from a known box; nothing where they cannot be the same.
struct Apart {
  double mm = 0;  // of centres, or of sizes along an axis, the larger one
  double score = 0;
};

std::optional<Apart> Between(const v1::KnownBox& box, const v1::Finding& finding) {
  if (finding.label_value() != box.label() || finding.extent_mm_size() != 3) return std::nullopt;
  const v1::PointLps& centre = finding.centre_lps();
  Apart apart{std::hypot(centre.x_mm() - box.center_lps(0), centre.y_mm() - box.center_lps(1),
                         centre.z_mm() - box.center_lps(2)),
              std::abs(finding.score() - box.score())};
  for (int axis = 0; axis < 3; ++axis) {
    apart.mm = std::max(apart.mm, std::abs(finding.extent_mm(axis) - box.size_mm(axis)));
  }
  return std::isfinite(apart.mm) && std::isfinite(apart.score) ? std::optional(apart) : std::nullopt;
}

bool IsClose(const Apart& apart, const v1::KnownAnswer& known) {
  return apart.mm <= known.box_mm() + kRounding && apart.score <= known.box_score() + kRounding;
}

// Known boxes, or found ones.
struct Side {
  std::vector<std::vector<std::size_t>> near;       // of each, those of the other side that it may be
  std::vector<std::optional<std::size_t>> partner;  // of each, the one that it is
  std::vector<bool> needed;                         // whether it must be one

  explicit Side(std::size_t count) : near(count), partner(count), needed(count) {}
};

// Finds a partner for `one` along an augmenting path (H. W. Kuhn, The Hungarian method for the assignment
// problem, 1955): who has to give a partner away gets another one, or needs none. `seen`: of the other side.
bool FindPartner(Side& here, Side& there, std::size_t one, std::vector<bool>& seen) {
  for (const std::size_t other : here.near[one]) {
    if (seen[other]) continue;
    seen[other] = true;
    const std::optional<std::size_t> rival = there.partner[other];
    if (rival && here.needed[*rival] && !FindPartner(here, there, *rival, seen)) continue;
    if (rival && here.partner[*rival] == other) here.partner[*rival].reset();
    here.partner[one] = other;
    there.partner[other] = one;
    return true;
  }
  return false;
}

// How many that need a partner have none in the end.
int Match(Side& here, Side& there) {
  int alone = 0;
  for (std::size_t one = 0; one < here.near.size(); ++one) {
    if (!here.needed[one] || here.partner[one]) continue;
    std::vector<bool> seen(there.near.size());
    alone += FindPartner(here, there, one, seen) ? 0 : 1;
  }
  return alone;
}

// Scores up to this one may have been left out of a list of boxes: those at the lowest score that the recipe
// keeps and, where the list has as many as the recipe lets through, those at its own lowest one.
double Bound(const v1::Recipe& recipe, std::uint32_t label, const std::vector<double>& scores) {
  double lowest = std::numeric_limits<double>::infinity();
  for (const double score : scores) lowest = std::min(lowest, score);
  const bool full = scores.size() >= static_cast<std::size_t>(MostFindings(recipe, label));
  const double kept = LowestScore(recipe, label);
  return (full ? std::max(kept, lowest) : kept) + recipe.known_answer().box_score() + kRounding;
}

// Of a list of boxes, by label.
using Scores = std::map<std::uint32_t, std::vector<double>>;

// How far the first known box that is missing is from the nearest found one that is no other's.
std::optional<Apart> NearestOfFirstMissing(const v1::KnownAnswer& known,
                                           std::span<const v1::Finding* const> found, const Side& there,
                                           const Side& here) {
  for (std::size_t b = 0; b < there.near.size(); ++b) {
    if (!there.needed[b] || there.partner[b]) continue;
    std::optional<Apart> nearest;
    for (std::size_t n = 0; n < found.size(); ++n) {
      if (here.partner[n]) continue;
      const auto apart = Between(known.boxes(static_cast<int>(b)), *found[n]);
      if (apart && (!nearest || apart->mm < nearest->mm)) nearest = apart;
    }
    return nearest;
  }
  return std::nullopt;
}

}  // namespace

double LowestScore(const v1::Recipe& recipe, std::uint32_t label) {
  const v1::DetectBoxes* detector = DetectorOf(recipe);
  double lowest = detector == nullptr ? 0 : detector->score_above();
  for (const v1::FindingRule& rule : recipe.findings()) {
    if (rule.label() == label) lowest = std::max(lowest, rule.min_score());
  }
  return lowest;
}

int MostFindings(const v1::Recipe& recipe, std::uint32_t label) {
  for (const v1::FindingRule& rule : recipe.findings()) {
    if (rule.label() == label && rule.max_findings() != 0) return static_cast<int>(rule.max_findings());
  }
  return kMostFindings;
}

absl::Status CompareBoxes(const v1::Recipe& recipe, std::span<const v1::Finding* const> found) {
  const v1::KnownAnswer& known = recipe.known_answer();
  const auto boxes = static_cast<std::size_t>(known.boxes_size());
  Side there(boxes);
  Side here(found.size());
  Scores known_scores;
  Scores found_scores;
  std::set<std::uint32_t> shared;  // labels of which a known box was found
  for (std::size_t n = 0; n < found.size(); ++n) {
    found_scores[found[n]->label_value()].push_back(found[n]->score());
  }
  for (std::size_t b = 0; b < boxes; ++b) {
    const v1::KnownBox& box = known.boxes(static_cast<int>(b));
    known_scores[box.label()].push_back(box.score());
    for (std::size_t n = 0; n < found.size(); ++n) {
      const auto apart = Between(box, *found[n]);
      if (!apart || !IsClose(*apart, known)) continue;
      there.near[b].push_back(n);
      here.near[n].push_back(b);
      shared.insert(box.label());
    }
  }
  // Lists that share nothing are not cut versions of one list.
  const auto bound = [&](const Scores& scores, std::uint32_t label) {
    const auto of_label = scores.find(label);
    const bool is_list = shared.contains(label) && of_label != scores.end();
    return Bound(recipe, label, is_list ? of_label->second : std::vector<double>());
  };
  for (std::size_t b = 0; b < boxes; ++b) {
    const v1::KnownBox& box = known.boxes(static_cast<int>(b));
    there.needed[b] = !(box.score() <= bound(found_scores, box.label()));
  }
  for (std::size_t n = 0; n < found.size(); ++n) {
    here.needed[n] = !(found[n]->score() <= bound(known_scores, found[n]->label_value()));
  }
  const int missing = Match(there, here);
  const int added = Match(here, there);
  if (missing == 0 && added == 0) return absl::OkStatus();
  std::string figures =
      absl::StrCat(missing, " of ", known.boxes_size(), " boxes are missing, ", added, " are new");
  if (const auto nearest = NearestOfFirstMissing(known, found, there, here)) {
    figures += absl::StrFormat("; the first one's nearest is off by %.3g mm, score %.3g; %.3g mm, %.3g may",
                               nearest->mm, nearest->score, known.box_mm(), known.box_score());
  }
  return Differs(figures, "the boxes are not those that the version's known answer says");
}

}  // namespace tomoserve::models
