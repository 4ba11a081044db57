#include "tomoserve/series/study_series.h"

#include <algorithm>
#include <limits>
#include <map>

#include "series/internal.h"

namespace tomoserve::series {
namespace {

// The value most instances have; the smallest of several.
std::string CommonModality(const std::vector<Known>& instances) {
  std::map<std::string, std::uint32_t> counts;
  for (const Known& known : instances) ++counts[known.instance->header.modality()];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

// Series Number for sorting: the smallest that its instances have, or none at all.
std::optional<std::int32_t> SeriesNumber(const std::vector<Known>& instances) {
  std::optional<std::int32_t> number;
  for (const Known& known : instances) {
    const ipc::v1::InstanceHeader& header = known.instance->header;
    if (header.has_series_number() && (!number || header.series_number() < *number)) {
      number = header.series_number();
    }
  }
  return number;
}

}  // namespace

std::uint32_t Volume::synthetic_slices() const {
  return static_cast<std::uint32_t>(std::count_if(
      slices.begin(), slices.end(), [](const VolumeSlice& slice) { return slice.synthetic.has_value(); }));
}

StudySeries BuildStudy(const std::vector<Instance>& instances) {
  StudySeries study;
  const std::vector<Known> unique = UniqueInstances(instances);
  DescribeStudy(unique, study);

  std::map<std::string, std::vector<Known>> by_series;
  for (const Known& known : unique) {
    by_series[SeriesUidOf(known, study.ref.study_instance_uid())].push_back(known);
  }
  struct Numbered {
    std::optional<std::int32_t> number;
    Series series;
  };
  std::vector<Numbered> numbered;
  for (const auto& [uid, members] : by_series) {
    Series series;
    series.series_instance_uid = uid;
    series.modality = CommonModality(members);
    series.instances = static_cast<std::uint32_t>(members.size());
    std::uint64_t frames = 0;
    for (const Known& known : members) frames += std::max(1u, known.instance->header.frames());
    series.frames = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(frames, std::numeric_limits<std::uint32_t>::max()));
    BuildVolumes(members, series);
    numbered.push_back({SeriesNumber(members), std::move(series)});
  }
  std::stable_sort(numbered.begin(), numbered.end(), [](const Numbered& a, const Numbered& b) {
    const std::int64_t last = std::numeric_limits<std::int64_t>::max();
    return (a.number ? *a.number : last) < (b.number ? *b.number : last);
  });
  for (Numbered& entry : numbered) study.series.push_back(std::move(entry.series));
  return study;
}

}  // namespace tomoserve::series
