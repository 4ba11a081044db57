// Refused instances of a study: what they mean for its runs. Pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tomoserve/series/selection.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::dispatch {

// Those that matter to one run, each once however often it was sent.
struct Refusals {
  // By code. With a volume: of the analysed series, or of a series that could not be read, unless submitters
  // said how many instances each analysed one has, and all are there. Without one: any that may have been
  // part of what the recipe is for.
  std::map<std::string, std::uint32_t> codes;
  // Slices of the analysed volumes that came again with other content.
  std::uint32_t conflicts = 0;

  std::uint32_t instances() const;
  // "TRUNCATED 2, EMPTY_FILE 1" in order of code.
  std::string Text() const;
  // INSTANCES_REFUSED; where there are instances.
  v1::Reason AsReason() const;
};

// Whether refusals with this code say that a part of the study may be missing. Not so where the file is no
// DICOM, another study's or our own; DUPLICATE_CONFLICT is another thing.
bool MayLackAPart(std::string_view code);

// `refused`: of all submissions of the study. An instance that came later after all is none; nor is one of a
// modality that no input of the recipe takes. `series_are_whole`: as many instances of the analysed series
// are there as were announced.
Refusals RefusalsOf(const v1::Recipe& recipe, const std::vector<v1::InstanceStatus>& refused,
                    const std::vector<store::StoredInstance>& stored, const series::Selection& selection,
                    bool series_are_whole);

// Notices of what one submission refuses: INSTANCES_REFUSED (value: how many, then the codes),
// DUPLICATE_CONFLICT (value: the first one's SOP Instance UID).
std::vector<v1::Reason> RefusalNotices(const std::vector<v1::InstanceStatus>& refused);

}  // namespace tomoserve::dispatch
