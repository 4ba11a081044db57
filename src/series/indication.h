// Whether a volume is what a recipe is meant for, field by field. Private to the room.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tomoserve/series/study_series.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::series {

// The first check that failed; later stages came closer.
struct Misfit {
  int stage = 0;
  tomoserve::v1::Reason reason;
};

struct Indication {
  std::optional<Misfit> misfit;
  std::vector<std::string> limitations;  // e.g. TAG_MISSING(kvp)
};

// Stage 0: Modality (0008,0060).
std::optional<Misfit> CheckModality(const tomoserve::v1::Input& input, const std::string& modality);

// All other fields. Where a volume has no geometry (it was rejected), what needs one is not checked.
Indication CheckIndication(const tomoserve::v1::Input& input, const Volume& volume);

// Age at the study in years: Patient's Age (0010,1010), or Study Date minus birth date; nothing where neither
// can be read. Exposed for tests.
std::optional<double> AgeYears(const ipc::v1::InstanceHeader& header);

}  // namespace tomoserve::series
