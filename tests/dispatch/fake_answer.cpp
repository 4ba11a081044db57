#include "dispatch/fake_answer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tomoserve/ipc/arena.h"

namespace tomoserve {
namespace {

// Whether the region's label map has 1 at this voxel; everywhere where there is no region.
bool IsInRegion(const ipc::v1::StartRun& start, std::span<const std::byte> region, std::size_t voxel) {
  if (!start.has_region()) return true;
  return region[voxel * start.region().bytes_per_voxel()] == std::byte{1};
}

}  // namespace

bool Look(const ipc::v1::StartRun& start, std::span<const base::UniqueFd> fds, std::uint32_t time_point,
          std::uint32_t slices, const volume::Geometry& geometry, std::span<std::byte> labels,
          std::span<const std::byte> region, ipc::v1::RunDone& done) {
  const auto& size = geometry.size_ijk();
  const std::size_t plane = std::size_t{size[0]} * size[1];
  const std::size_t first_arena = start.has_region() ? 2 : 1;
  std::uint64_t voxels = 0;
  std::array<double, 3> sum{};
  double sum_hu = 0;
  std::uint32_t first_k = size[2];
  std::uint32_t last_k = 0;
  for (std::uint32_t k = 0; k < slices; ++k) {
    const std::size_t volume = std::size_t{time_point} * start.channels() + start.channels() - 1;
    const ipc::v1::Slice& slice = start.slices(static_cast<int>(volume * size[2] + k));
    if (slice.has_between()) continue;
    auto pixels = ipc::Mapping::Map(fds[first_arena + slice.slot().arena()].get(), slice.slot().offset(),
                                    slice.slot().bytes(), false);
    if (!pixels.ok()) return false;
    for (std::uint32_t n = 0; n < plane; ++n) {
      std::int16_t stored = 0;
      std::memcpy(&stored, pixels->bytes().data() + std::size_t{n} * 2, sizeof stored);
      if (stored * slice.slope() + slice.intercept() <= 0 || !IsInRegion(start, region, k * plane + n))
        continue;
      labels[k * plane + n] = std::byte{1};
      sum_hu += stored * slice.slope() + slice.intercept();
      ++voxels;
      sum[0] += n % size[0];
      sum[1] += n / size[0];
      sum[2] += k;
      first_k = std::min(first_k, k);
      last_k = std::max(last_k, k);
    }
  }
  ipc::v1::LabelExtent& extent = *done.add_labels();
  extent.set_label(1);
  extent.set_voxels(voxels);
  extent.set_volume_ml(static_cast<double>(voxels) * geometry.voxel_volume_ml());
  extent.set_first_k(std::min(first_k, last_k));
  extent.set_last_k(last_k);
  extent.set_time_point(time_point);
  if (voxels == 0) return true;
  const std::array<double, 3> middle{sum[0] / static_cast<double>(voxels),
                                     sum[1] / static_cast<double>(voxels),
                                     sum[2] / static_cast<double>(voxels)};
  for (const double mm : geometry.ToLps({middle}).mm) extent.add_center_lps(mm);
  v1::Finding& finding = *done.add_findings();
  finding.set_label_value(1);
  finding.set_score(0.9);
  for (double& axis : sum) axis /= static_cast<double>(voxels);
  const v1::PointLps centre = volume::ToProto(geometry.ToLps({sum}));
  *finding.mutable_centre_lps() = centre;
  *finding.mutable_box_lps()->mutable_min() = centre;
  *finding.mutable_box_lps()->mutable_max() = centre;
  for (int axis = 0; axis < 3; ++axis) finding.add_extent_mm(1);
  finding.mutable_longest_diameter_3d_mm()->set_value(10);
  finding.mutable_volume_ml()->set_value(extent.volume_ml());
  finding.set_voxels(voxels);
  finding.set_key_slice_k(first_k);
  finding.set_time_point(time_point);
  if (start.hounsfield_channels_size() > 0) {
    finding.mutable_mean_hu()->set_value(sum_hu / static_cast<double>(voxels));
    finding.mutable_standard_deviation_hu()->set_value(0);
  }
  return true;
}

void CountHounsfield(std::uint64_t values, bool dense, ipc::v1::RunDone& done) {
  ipc::v1::HounsfieldCounts& counts = *done.mutable_hounsfield();
  counts.set_all(values);
  counts.set_body(values);
  counts.set_dense(dense ? values / 2 : 0);
  counts.set_tissue(values - counts.dense());
}

void Lie(const std::string& field, ipc::v1::RunDone& done, std::span<std::byte> labels) {
  if (field == "run_id") done.set_run_id("another");
  if (field == "windows_told") done.set_windows(99);
  if (field == "windows_many") done.set_windows(std::numeric_limits<std::uint32_t>::max());
  if (field == "windows_none") done.set_windows(0);
  if (field == "timing_nan") done.mutable_timings(0)->set_ms(std::numeric_limits<double>::quiet_NaN());
  if (field == "timing_negative") done.mutable_timings(0)->set_ms(-1);
  if (field == "timing_long") done.mutable_timings(0)->set_ms(1e12);
  if (field == "timing_twice") *done.add_timings() = done.timings(0);
  if (field == "no_label_map") done.set_has_label_map(false);
  if (field == "label_map") labels[0] = std::byte{77};
  if (field == "label_value") done.mutable_findings(0)->set_label_value(5);
  if (field == "score") done.mutable_findings(0)->set_score(std::numeric_limits<double>::quiet_NaN());
  if (field == "key_slice_k") done.mutable_findings(0)->set_key_slice_k(1000000);
  if (field == "centre_lps") done.mutable_findings(0)->mutable_centre_lps()->set_x_mm(1e9);
  if (field == "mean_hu") done.mutable_findings(0)->mutable_mean_hu()->set_value(1e6);
  if (field == "standard_deviation_hu") done.mutable_findings(0)->clear_standard_deviation_hu();
  if (field == "distances") done.mutable_findings(0)->add_distances()->set_to_label(1);
  if (field == "labels") done.mutable_labels(0)->set_voxels(std::numeric_limits<std::uint64_t>::max());
  if (field == "center_lps") done.mutable_labels(0)->set_center_lps(1, 1e9);
  if (field == "center_lps_none") done.mutable_labels(0)->clear_center_lps();
  if (field == "time_point") done.mutable_findings(0)->set_time_point(1);
  if (field == "label_time_point") done.mutable_labels(0)->set_time_point(1);
  if (field == "hounsfield_none") done.clear_hounsfield();
  if (field == "hounsfield_all")
    done.mutable_hounsfield()->set_all(std::numeric_limits<std::uint64_t>::max());
  if (field == "hounsfield_body") done.mutable_hounsfield()->set_body(done.hounsfield().all() + 1);
  if (field == "hounsfield_tissue") done.mutable_hounsfield()->set_tissue(done.hounsfield().body() + 1);
  if (field == "hounsfield_dense") done.mutable_hounsfield()->set_dense(1);
  if (field == "hounsfield_unasked") done.mutable_hounsfield();
  if (field == "findings") {
    for (int i = 0; i < 300; ++i) *done.add_findings() = done.findings(0);
  }
}

}  // namespace tomoserve
