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

// Coverage of the analysed volume by the recipe's rule (SEMANTICS: NO_FINDING needs COMPLETE). `done` holds
// label extents. Reasons carry the numbers that decided.
v1::Coverage JudgeCoverage(const v1::Recipe& recipe, const volume::Geometry& grid, const ipc::v1::RunDone& done,
                           std::vector<v1::SeriesUse> series);

// Flag of a DONE run: FLAGGED by the highest matching rule (reason PARTIAL_COVERAGE added where the coverage
// is not COMPLETE), else NO_FINDING with COMPLETE coverage, else INCONCLUSIVE with the coverage's reasons.
v1::Flag JudgeFlag(const v1::Recipe& recipe, const std::vector<v1::Finding>& findings, const v1::Coverage& coverage);

// Tracking UID seeded from study, model digest, label and the centre rounded to 0.1 mm: it does not depend on
// list order.
std::string TrackingUid(std::string_view study_uid, std::string_view model_digest, const v1::Finding& finding);

// Answer of a study in one line.
v1::StudySummary Summarise(const std::vector<v1::Run>& runs);

// Sort key of a worklist line, ascending = more urgent first. A STAT run that failed or is inconclusive sorts
// above routine flags.
struct UrgencyKey {
  int rank = 0;
  std::int64_t time_us = 0;  // older first within a rank
  auto operator<=>(const UrgencyKey&) const = default;
};
UrgencyKey Urgency(v1::Priority priority, v1::RunState state, const v1::Flag& flag, std::int64_t finished_us);

// The document that `tomoctl analyze` writes and DownloadResult serves (findings.json, BRIEF contract):
// {"study":{...},"runs":[...]} for the given runs, UTF-8, two-space indent. `study` holds only the Study UID and
// accession number.
std::string FindingsJson(const v1::Study& study, const std::vector<v1::Run>& runs);

}  // namespace tomoserve::findings
