// How old a study is, by its own civil date: for what nobody asked for. Pure functions.
#pragma once

#include <cstdint>
#include <optional>

#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::dispatch {

// Days from Study Date and Time (0008,0020), (0008,0030) to `now_us` (microseconds since the Unix epoch);
// nothing where there is no readable date. What the DICOM leaves open is taken so that the study is as young
// as it can be: the end of the day or hour without a time, and without Timezone Offset From UTC (0008,0201)
// the offset -1200. Negative for a study of the future.
std::optional<double> StudyAgeDays(const v1::StudyRef& ref, std::int64_t now_us);

// STALE_STUDY (value: whole days) of a study that is older than so many days.
std::optional<v1::Reason> StaleStudy(const v1::StudyRef& ref, double max_age_days, std::int64_t now_us);

}  // namespace tomoserve::dispatch
