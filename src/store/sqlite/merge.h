// What a study's row becomes when a submission is acknowledged.
#pragma once

#include <cstdint>
#include <optional>

#include "tomoserve/store/job_store.h"

namespace tomoserve::store {

// `before`: the row that is there, if any. `given`: what the submission brings. `new_instances`: how many of
// its instances the study did not have.
//
// State: a FINAL submission completes the study; any other leaves it RECEIVING or SETTLING as it says, or
// REOPENED where the study was complete before. Without new instances a complete study stays complete. Where
// the caller does not state one, it follows from the header's completion. Priority: the higher. Role: CURRENT
// as soon as one submission says so. Notices: both, each once. Identity: values that are there stay, gaps are
// filled, the submitter's patient identity wins over the DICOM's; orders and modalities add up.
StoredStudy MergeStudy(const std::optional<StoredStudy>& before, const StoredStudy& given,
                       const Submission& submission, std::uint32_t new_instances, std::int64_t now_us);

}  // namespace tomoserve::store
