#include "dispatch/study_input.h"

#include <array>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/submission.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Where in an instance an image lies: frame, whether it is a tile, the tile's first row and column.
using Place = std::array<std::uint32_t, 4>;

Place PlaceOf(const series::VolumeSlice& slice) {
  if (!slice.tile) return {slice.frame};
  return {slice.frame, 1, slice.tile->first_row(), slice.tile->first_column()};
}

// Of a volume, or of all images of the study where there is none.
std::string DigestOfVolume(const StudyInput& study, const series::Volume* volume) {
  std::set<std::tuple<std::string_view, std::string_view, Place>> sorted;
  const auto add = [&](const store::StoredInstance& instance, const Place& place) {
    sorted.emplace(instance.sop_uid, instance.sha256, place);
  };
  if (volume != nullptr) {
    for (const series::VolumeSlice& slice : volume->slices) add(study.instances[slice.index], PlaceOf(slice));
  } else {
    for (const store::StoredInstance& instance : study.instances) add(instance, {});
  }
  base::Sha256 digest;
  for (const auto& [sop_uid, sha256, place] : sorted) {
    digest.Update(sop_uid);
    digest.Update(" ");
    digest.Update(sha256);
    if (place[0] != 0) digest.Update(absl::StrCat(" frame ", place[0]));
    if (place[1] != 0) digest.Update(absl::StrCat(" tile ", place[2], " ", place[3]));
    digest.Update("\n");
  }
  return digest.HexDigest();
}

std::string DigestOfImages(const StudyInput& study, const series::Selection& selection) {
  if (selection.volumes.size() <= 1) return DigestOfVolume(study, selection.volume());
  base::Sha256 digest;
  digest.Update(absl::StrCat("channels ", selection.channels, "\n"));
  for (const series::Volume* volume : selection.volumes) {
    digest.Update(DigestOfVolume(study, volume));
    digest.Update("\n");
  }
  return digest.HexDigest();
}

// With the counts that change what is answered.
std::string DigestOf(const RunInput& input, const StudyInput& study) {
  std::string images = DigestOfImages(study, input.selection);
  std::string counts;
  if (input.missing != 0 || input.incomplete_series != 0) {
    counts = absl::StrCat(" missing ", input.missing, " incomplete_series ", input.incomplete_series);
  }
  if (!input.refusals.codes.empty()) absl::StrAppend(&counts, " refused ", input.refusals.Text());
  if (input.refusals.conflicts != 0) absl::StrAppend(&counts, " conflicts ", input.refusals.conflicts);
  if (counts.empty()) return images;
  base::Sha256 digest;
  digest.Update(absl::StrCat(images, counts));
  return digest.HexDigest();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const StudyInput>> LoadStudyInput(store::JobStore& store,
                                                                 const std::string& study_uid) {
  auto study = std::make_shared<StudyInput>();
  study->study_uid = study_uid;
  TS_ASSIGN_OR_RETURN(study->instances, store.Instances(study_uid));
  study->series = series::BuildStudy(SeriesInstances(study->instances, {}));
  TS_ASSIGN_OR_RETURN(study->expected, store.Expected(study_uid));
  TS_ASSIGN_OR_RETURN(study->refused, store.Refused(study_uid));
  return study;
}

RunInput ChooseInput(const v1::Recipe& recipe, std::shared_ptr<const StudyInput> study) {
  RunInput input;
  input.selection = series::Select(recipe, study->series);
  input.expectation = input.selection.volume() != nullptr;
  std::map<std::string_view, const series::Series*> there;
  for (const series::Series& series : study->series.series) {
    there.emplace(series.series_instance_uid, &series);
    if (input.selection.Uses(series) && !study->expected.contains(series.series_instance_uid)) {
      input.expectation = false;
    }
  }
  for (const auto& [uid, instances] : study->expected) {
    const auto series = there.find(uid);
    const std::uint32_t have = series == there.end() ? 0 : series->second->instances;
    if (have >= instances) continue;
    if (series != there.end() && input.selection.Uses(*series->second)) {
      input.missing += instances - have;
    } else {
      ++input.incomplete_series;
    }
  }
  input.refusals = RefusalsOf(recipe, study->refused, study->instances, input.selection,
                              input.expectation && input.missing == 0);
  input.digest = DigestOf(input, *study);
  input.study = std::move(study);
  return input;
}

RunInput WithoutVolume(RunInput input, const v1::Reason& reason) {
  base::Sha256 digest;
  digest.Update(reason.code());
  digest.Update(" ");
  digest.Update(DigestOfImages(*input.study, input.selection));
  input.digest = digest.HexDigest();
  series::Selection& selection = input.selection;
  selection.volumes.clear();
  selection.series.clear();
  selection.inconclusive = false;
  input.region.reset();
  selection.reasons = {reason};
  selection.limitations.clear();
  for (v1::SeriesUse& use : selection.uses) {
    use.set_analysed(false);
    use.clear_reasons();
    *use.add_reasons() = reason;
  }
  input.expectation = false;
  input.missing = 0;
  input.incomplete_series = 0;
  input.refusals = {};
  return input;
}

RunInput Inconclusive(RunInput input, const v1::Reason& reason) {
  series::Selection& selection = input.selection;
  selection.volumes.clear();
  selection.series.clear();
  selection.inconclusive = true;
  input.region.reset();
  selection.reasons = {reason};
  for (v1::SeriesUse& use : selection.uses) {
    if (!use.analysed()) continue;
    use.set_analysed(false);
    use.clear_reasons();
    *use.add_reasons() = reason;
  }
  return input;
}

}  // namespace tomoserve::dispatch
