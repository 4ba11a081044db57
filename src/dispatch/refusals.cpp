#include "dispatch/refusals.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tomoserve/base/reason.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::string_view kConflict = "DUPLICATE_CONFLICT";

bool TakesModality(const v1::Recipe& recipe, const std::string& modality) {
  return std::any_of(recipe.inputs().begin(), recipe.inputs().end(), [&](const v1::Input& input) {
    return std::any_of(input.modalities().begin(), input.modalities().end(),
                       [&](const std::string& taken) { return absl::EqualsIgnoreCase(taken, modality); });
  });
}

// What is the same however often it is sent.
std::string NameOf(const v1::InstanceStatus& status) {
  return status.sop_instance_uid().empty() ? absl::StrCat("key ", status.instance_key())
                                           : status.sop_instance_uid();
}

std::uint32_t SumOf(const std::map<std::string, std::uint32_t>& codes) {
  std::uint32_t sum = 0;
  for (const auto& [code, count] : codes) sum += count;
  return sum;
}

}  // namespace

std::uint32_t Refusals::instances() const { return SumOf(codes); }

std::string Refusals::Text() const {
  return absl::StrJoin(codes, ", ", [](std::string* out, const auto& code) {
    absl::StrAppend(out, code.first, " ", code.second);
  });
}

v1::Reason Refusals::AsReason() const {
  return base::MakeReason(
      "INSTANCES_REFUSED", absl::StrCat(instances()),
      absl::StrCat("so many instances that may be part of what is asked for were refused: ", Text()));
}

bool MayLackAPart(std::string_view code) {
  for (const std::string_view other : {"NOT_DICOM", "OWN_OBJECT", "STUDY_MISMATCH", "DUPLICATE_CONFLICT"}) {
    if (code == other) return false;
  }
  return true;
}

Refusals RefusalsOf(const v1::Recipe& recipe, const std::vector<v1::InstanceStatus>& refused,
                    const std::vector<store::StoredInstance>& stored, const series::Selection& selection,
                    bool series_are_whole) {
  Refusals refusals;
  if (refused.empty()) return refusals;
  std::set<std::string_view> there;
  for (const store::StoredInstance& instance : stored) there.insert(instance.sop_uid);
  std::set<std::string_view> analysed_series;
  for (const series::Series* series : selection.series) analysed_series.insert(series->series_instance_uid);
  std::set<std::string_view> analysed_slices;
  for (const series::Volume* volume : selection.volumes) {
    for (const series::VolumeSlice& slice : volume->slices) analysed_slices.insert(slice.sop_instance_uid);
  }

  std::set<std::string> seen;
  for (const v1::InstanceStatus& status : refused) {
    const std::string& code = status.reason().code();
    if (code == kConflict) {
      // The value is the UID that is there.
      const std::string& uid = status.reason().value();
      if (analysed_slices.contains(uid) && seen.insert("conflict " + uid).second) ++refusals.conflicts;
      continue;
    }
    if (!MayLackAPart(code) || there.contains(status.sop_instance_uid())) continue;
    if (!status.modality().empty() && !TakesModality(recipe, status.modality())) continue;
    if (selection.volume() != nullptr) {
      const std::string& series = status.series_instance_uid();
      if (series.empty() ? series_are_whole : !analysed_series.contains(series)) continue;
    }
    if (seen.insert(NameOf(status)).second) ++refusals.codes[code];
  }
  return refusals;
}

std::vector<v1::Reason> RefusalNotices(const std::vector<v1::InstanceStatus>& refused) {
  std::map<std::string, std::uint32_t> codes;
  std::uint32_t conflicts = 0;
  std::string first_conflict;
  for (const v1::InstanceStatus& status : refused) {
    if (status.reason().code() != kConflict) {
      ++codes[status.reason().code()];
    } else if (conflicts++ == 0) {
      first_conflict = status.reason().value();
    }
  }
  std::vector<v1::Reason> notices;
  if (!codes.empty()) {
    std::string value = absl::StrCat(SumOf(codes));
    for (const auto& [code, count] : codes) absl::StrAppend(&value, ",", code);
    notices.push_back(base::MakeReason("INSTANCES_REFUSED", value,
                                       "instances of a submission were refused (how many, and why)"));
  }
  if (conflicts > 0) {
    notices.push_back(base::MakeReason(
        kConflict, first_conflict,
        absl::StrCat(conflicts, " instances came again with other content; the first ones stay")));
  }
  return notices;
}

}  // namespace tomoserve::dispatch
