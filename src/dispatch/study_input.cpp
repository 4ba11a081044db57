#include "dispatch/study_input.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "dispatch/submission.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

std::string DigestOf(const StudyInput& study, const std::set<std::uint32_t>& indices) {
  std::set<std::pair<std::string_view, std::string_view>> sorted;
  for (const std::uint32_t index : indices) {
    sorted.emplace(study.instances[index].sop_uid, study.instances[index].sha256);
  }
  base::Sha256 digest;
  for (const auto& [sop_uid, sha256] : sorted) {
    digest.Update(sop_uid);
    digest.Update(" ");
    digest.Update(sha256);
    digest.Update("\n");
  }
  return digest.HexDigest();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const StudyInput>> LoadStudyInput(store::JobStore& store,
                                                                 const std::string& study_uid) {
  auto study = std::make_shared<StudyInput>();
  study->study_uid = study_uid;
  TS_ASSIGN_OR_RETURN(study->instances, store.Instances(study_uid));
  study->series = series::BuildStudy(SeriesInstances(study->instances, {}));
  std::set<std::string> submissions;
  for (const store::StoredInstance& instance : study->instances) submissions.insert(instance.submission_id);
  for (const std::string& submission_id : submissions) {
    TS_ASSIGN_OR_RETURN(const store::Submission submission, store.GetSubmission(submission_id));
    for (const v1::ExpectedSeries& expected : submission.header.expected_series()) {
      std::uint32_t& instances = study->expected[expected.series_instance_uid()];
      instances = std::max(instances, expected.instances());
    }
  }
  return study;
}

RunInput ChooseInput(const v1::Recipe& recipe, std::shared_ptr<const StudyInput> study) {
  RunInput input;
  input.selection = series::Select(recipe, study->series);
  std::set<std::uint32_t> indices;
  if (input.selection.volume != nullptr) {
    for (const series::VolumeSlice& slice : input.selection.volume->slices) indices.insert(slice.index);
  } else {
    for (std::uint32_t i = 0; i < study->instances.size(); ++i) indices.insert(i);
  }
  input.digest = DigestOf(*study, indices);
  std::map<std::string_view, std::uint32_t> there;
  for (const series::Series& series : study->series.series) {
    there.emplace(series.series_instance_uid, series.instances);
  }
  for (const auto& [uid, instances] : study->expected) {
    const bool chosen =
        input.selection.series != nullptr && input.selection.series->series_instance_uid == uid;
    const auto series = there.find(uid);
    if (!chosen && (series == there.end() || series->second < instances)) ++input.incomplete_series;
  }
  if (const series::Series* series = input.selection.series; series != nullptr) {
    if (const auto expected = study->expected.find(series->series_instance_uid);
        expected != study->expected.end()) {
      input.expectation = true;
      input.missing = expected->second > series->instances ? expected->second - series->instances : 0;
    }
  }
  input.study = std::move(study);
  return input;
}

RunInput WithoutVolume(RunInput input, const v1::Reason& reason) {
  base::Sha256 digest;
  digest.Update(reason.code());
  digest.Update(" ");
  digest.Update(input.digest);
  input.digest = digest.HexDigest();
  series::Selection& selection = input.selection;
  selection.volume = nullptr;
  selection.series = nullptr;
  selection.inconclusive = false;
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
  return input;
}

}  // namespace tomoserve::dispatch
