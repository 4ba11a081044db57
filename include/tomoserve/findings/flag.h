// From what a worker measured to what a worklist sees. Pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/v1/study.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::findings {

// Coverage of the analysed volume by the recipe's rule: NO_FINDING needs COMPLETE. `grid` is the analysed
// volume's; `done` holds label extents in it, comes from a worker and is checked: what does not fit gives
// UNKNOWN. Reasons carry the numbers that decided: all of them when COMPLETE, else those that are not enough.
// Margins are distances between centres of slices, mm, along k. The caller sets synthetic_slices.
v1::Coverage JudgeCoverage(const v1::Recipe& recipe, const volume::Geometry& grid,
                           const ipc::v1::RunDone& done, std::vector<v1::SeriesUse> series);

// What a run's labels say against the recipe's plausibility rules, a reason for each rule that fails:
// ORIENTATION_IMPLAUSIBLE (value: as "liver 12.3 mm left of spleen, not 10.0 mm right") or VOLUME_IMPLAUSIBLE
// (value: as "liver 120.0 ml, at least 500.0"). Labels that are absent, or reach the first or last slice of
// `grid` or the border of the images, are not judged; of several time points the first that fails speaks.
// `done` comes from a worker; extents that do not fit are not judged.
std::vector<v1::Reason> JudgePlausibility(const v1::Recipe& recipe, const volume::Geometry& grid,
                                          const ipc::v1::RunDone& done);

// Side of a finding by its rule, which a worker does not know: of the label's words
// (models::LateralityOfLabel), or of the finding's centroid and that of a label, in patient space (LPS: x
// grows to the patient's left) at the finding's time point. Unspecified where the rule says none, the label
// in the middle is absent or reaches a border of the images within a slice, or its place is not a number.
v1::Laterality LateralityOf(const v1::Recipe& recipe, const ipc::v1::RunDone& done,
                            const v1::Finding& finding);

// Flag of a DONE run. INCONCLUSIVE with the reasons of `implausible` where there are any: what was found, or
// not, lies in a body that is no patient's, or is mirrored. Else FLAGGED by the highest matching rule (reason
// PARTIAL_COVERAGE added where the coverage is not COMPLETE), else NO_FINDING with COMPLETE coverage, else
// INCONCLUSIVE: PARTIAL_COVERAGE and the coverage's reasons, MEASUREMENT_INVALID where a finding has a
// measurement that is not a number, MEASUREMENT_MISSING (value: "mean_hu", "distances to LABEL" or "side")
// where a finding lacks what a rule asks for and fails none of its other bounds. Of a rule that would raise
// the level of a FLAGGED run the reason MEASUREMENT_MISSING is added too.
v1::Flag JudgeFlag(const v1::Recipe& recipe, const std::vector<v1::Finding>& findings,
                   const v1::Coverage& coverage, const std::vector<v1::Reason>& implausible = {});

// Tracking UID seeded from study, model digest, label and the centre rounded to 0.1 mm: it does not depend on
// list order. At most 44 characters (PS3.5 B.2).
std::string TrackingUid(std::string_view study_uid, std::string_view model_digest,
                        const v1::Finding& finding);

// Answer of a study in one line. PENDING while no run is final, FINAL when all are (a study without runs
// waits for nothing). CANCELLED runs are final and counted nowhere.
v1::StudySummary Summarise(const std::vector<v1::Run>& runs);

// Sort key of a worklist line, ascending = more urgent first. A STAT run that failed or is inconclusive sorts
// above routine flags. The full order stands in urgency.cpp. `finished_us`: microseconds since the Unix
// epoch.
struct UrgencyKey {
  int rank = 0;
  std::int64_t time_us = 0;  // older first within a rank
  auto operator<=>(const UrgencyKey&) const = default;
};
UrgencyKey Urgency(v1::Priority priority, v1::RunState state, const v1::Flag& flag, std::int64_t finished_us);

// The document that `tomoctl analyze` writes and DownloadResult serves (findings.json, BRIEF contract):
// {"study":{...},"runs":[...]} for the given runs, UTF-8, two-space indent, keys in camelCase with the unit
// in the name, enum values without prefix, null for what is not stated. `study` holds only the Study UID and
// accession number: nothing else of the patient.
std::string FindingsJson(const v1::Study& study, const std::vector<v1::Run>& runs);

}  // namespace tomoserve::findings
