// Headers are whatever a file says: no combination of values may break the room, and every instance is
// accounted for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "series/headers.h"
#include "tomoserve/series/selection.h"

namespace tomoserve::series {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Below(std::uint64_t limit) {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) % limit;
  }
  bool OneIn(std::uint64_t n) { return Below(n) == 0; }
  template <typename T, std::size_t N>
  T Of(const T (&values)[N]) {
    return values[Below(N)];
  }

 private:
  std::uint64_t state_;
};

constexpr double kNumbers[] = {0,
                               -0.0,
                               1,
                               -1,
                               0.5,
                               1e-320,
                               1e-9,
                               1e9,
                               1e300,
                               -1e300,
                               2.5,
                               0.005,
                               1e6,
                               0.9999,
                               1.001,
                               90000,
                               std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity()};

// Functional groups: mostly of a stack.
void AddFrames(Random& random, ipc::v1::InstanceHeader& h) {
  h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.2.1");
  const std::uint64_t frames = random.Below(6);
  h.set_frames(static_cast<std::uint32_t>(random.OneIn(8) ? random.Below(9) : frames));
  for (std::uint64_t n = 0; n < frames; ++n) {
    auto& frame = *h.add_frame();
    for (const double value : {10.0, 20.0, 2.5 * static_cast<double>(n)}) frame.add_image_position(value);
    for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) frame.add_image_orientation(value);
    for (const double value : {0.5, 0.75}) frame.add_pixel_spacing_mm(value);
    if (random.OneIn(2)) frame.set_rescale_slope(random.OneIn(8) ? random.Of(kNumbers) : 1);
    if (random.OneIn(12)) frame.set_image_position(static_cast<int>(random.Below(3)), random.Of(kNumbers));
    if (random.OneIn(12)) frame.set_image_orientation(static_cast<int>(random.Below(6)), random.Of(kNumbers));
    if (random.OneIn(12)) frame.set_pixel_spacing_mm(static_cast<int>(random.Below(2)), random.Of(kNumbers));
    if (random.OneIn(20)) frame.mutable_image_orientation()->Truncate(3);
    if (random.OneIn(6)) frame.set_trigger_time_ms(random.Of(kNumbers));
    if (random.OneIn(6))
      frame.add_dimension_index_values(static_cast<std::uint32_t>(random.Below(4) * 0x7FFFFFFFu));
    if (random.OneIn(6)) frame.add_diffusion_direction(random.Of(kNumbers));
    if (random.OneIn(20)) frame.add_frame_type("LOCALIZER");
  }
}

void AddMosaic(Random& random, ipc::v1::InstanceHeader& h) {
  auto& mosaic = *h.mutable_mosaic();
  h.set_rows(8);
  h.set_columns(12);
  mosaic.set_slices(static_cast<std::uint32_t>(random.OneIn(4) ? random.Below(3) * 0x7FFFFFFFu : 3));
  mosaic.set_tile_rows(random.OneIn(4) ? static_cast<std::uint32_t>(random.Below(20)) : 4);
  mosaic.set_tile_columns(random.OneIn(4) ? static_cast<std::uint32_t>(random.Below(20)) : 6);
  for (const double value : {1.0, 2.0, random.OneIn(4) ? random.Of(kNumbers) : 3.0})
    mosaic.add_first_position(value);
  for (const double value : {0.0, 0.0, random.OneIn(4) ? random.Of(kNumbers) : 2.0}) mosaic.add_step(value);
}

// Mostly a slice of a stack, with a few fields replaced by anything.
Instance AnyInstance(Random& random, std::uint32_t index) {
  Instance instance = Slice(index, 2.5 * static_cast<double>(random.Below(12)));
  auto& h = instance.header;
  if (random.OneIn(8)) instance.content_sha256 = base::Sha256Hex(std::to_string(random.Below(4)));
  if (random.OneIn(8)) h.set_sop_instance_uid(random.OneIn(2) ? "" : "1." + std::to_string(random.Below(4)));
  if (random.OneIn(8)) h.set_series_instance_uid(random.OneIn(2) ? "" : "1.2.3.4");
  if (random.OneIn(20)) h.set_study_instance_uid(random.OneIn(2) ? "" : "9");
  if (random.OneIn(40)) h.set_modality(random.OneIn(2) ? "MR" : "");
  if (random.OneIn(30)) h.set_sop_class_uid(random.OneIn(2) ? "" : "1.2.840.10008.5.1.4.1.1.2.1");
  if (random.OneIn(60)) h.set_kind(static_cast<ipc::v1::ObjectKind>(random.Below(4)));
  if (random.OneIn(20)) h.set_stored_type(static_cast<ipc::v1::StoredType>(random.Below(7)));
  if (random.OneIn(20)) h.set_frames(static_cast<std::uint32_t>(random.Below(3) * 0x7FFFFFFFu));
  if (random.OneIn(20)) h.set_rows(static_cast<std::uint32_t>(random.Below(3) * 0x7FFFFFFFu));
  if (random.OneIn(20)) h.set_has_pixels(false);
  if (random.OneIn(12)) h.set_image_position(static_cast<int>(random.Below(3)), random.Of(kNumbers));
  if (random.OneIn(12)) h.set_image_orientation(static_cast<int>(random.Below(6)), random.Of(kNumbers));
  if (random.OneIn(12)) h.set_pixel_spacing_mm(static_cast<int>(random.Below(2)), random.Of(kNumbers));
  if (random.OneIn(30)) h.clear_image_position();
  if (random.OneIn(30)) h.mutable_image_orientation()->Truncate(5);
  if (random.OneIn(30)) h.add_pixel_spacing_mm(1);
  if (random.OneIn(4)) h.set_acquisition_number(static_cast<int>(random.Below(3)));
  if (random.OneIn(4)) h.set_echo_time_ms(random.Of(kNumbers));
  if (random.OneIn(4)) h.set_trigger_time_ms(random.Of(kNumbers));
  if (random.OneIn(30)) h.set_rescale_slope(random.Of(kNumbers));
  if (random.OneIn(30)) h.set_rescale_intercept(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_kvp(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_lossy(true);
  if (random.OneIn(12)) h.set_lossy_ratio(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_patient_age(random.OneIn(2) ? "999Y" : "\xff\xfeY");
  if (random.OneIn(20)) h.add_image_type(random.OneIn(2) ? "LOCALIZER" : "MOSAIC");
  if (random.OneIn(6)) h.set_instance_number(static_cast<int>(random.Below(20)));
  if (random.OneIn(12)) AddFrames(random, h);
  if (random.OneIn(20)) AddMosaic(random, h);
  return instance;
}

// Two time points, mostly whole ones, the second one with contrast.
void AddTimeSeries(Random& random, std::vector<Instance>& instances) {
  for (std::uint32_t n = 0; n < 8; ++n) {
    Instance& instance = instances.emplace_back(Slice(100 + n, 2.5 * (n / 2)));
    instance.header.set_series_instance_uid("1.2.3.5");
    instance.header.set_temporal_position(static_cast<int>(n % 2));
    if (n % 2 == 1) instance.header.set_contrast_agent("OMNIPAQUE");
    if (random.OneIn(40)) instance.header.set_image_position(0, random.Of(kNumbers));
    if (random.OneIn(40)) instance.header.set_lossy(true);
  }
}

TEST(HostileHeadersTest, EveryInstanceIsAccountedForOnce) {
  tomoserve::v1::Recipe one;
  auto& input = *one.add_inputs();
  input.add_modalities("CT");
  input.add_preferred_kernels("B30f");
  input.mutable_kvp()->set_min(80);
  input.mutable_age_years()->set_max(120);
  input.mutable_slice_spacing_mm()->set_max(5);
  input.mutable_field_of_view_mm()->set_min(1);
  input.set_max_lossy_ratio(10);
  input.set_max_synthetic_slices(1);
  input.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
  tomoserve::v1::Recipe times = one;
  times.mutable_inputs(0)->set_every_time_point(true);
  tomoserve::v1::Recipe several = one;
  *several.add_inputs() = one.inputs(0);
  several.mutable_inputs(0)->set_contrast(tomoserve::v1::CONTRAST_WITHOUT);
  several.mutable_inputs(1)->set_contrast(tomoserve::v1::CONTRAST_WITH);
  several.mutable_inputs(1)->set_when_missing(tomoserve::v1::WHEN_MISSING_REFUSE);
  several.mutable_inputs(1)->clear_kvp();
  several.mutable_inputs(1)->clear_age_years();

  Random random(11);
  int accepted = 0;
  int resampled = 0;
  int chosen = 0;
  int in_time = 0;
  int joined = 0;
  for (int round = 0; round < 12000; ++round) {
    std::vector<Instance> instances;
    const auto count = static_cast<std::uint32_t>(1 + random.Below(14));
    for (std::uint32_t n = 0; n < count; ++n) instances.push_back(AnyInstance(random, n));
    if (random.OneIn(16)) AddTimeSeries(random, instances);
    const StudySeries study = BuildStudy(instances);
    std::map<std::uint32_t, std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>>> slices_of;
    for (const Series& series : study.series) {
      std::size_t set_aside = 0;
      for (const SetAside& aside : series.set_aside) set_aside += aside.count;
      std::set<std::uint32_t> seen;
      bool conflict = false;
      for (const Volume& volume : series.volumes) {
        ASSERT_FALSE(volume.slices.empty());
        for (const std::string& code : Codes(volume)) conflict = conflict || code == "DUPLICATE_CONFLICT";
        for (const VolumeSlice& slice : volume.slices) {
          seen.insert(slice.index);
          if (slice.synthetic) continue;
          const std::uint32_t row = slice.tile ? slice.tile->first_row() : 0;
          const std::uint32_t column = slice.tile ? slice.tile->first_column() : 0;
          ASSERT_TRUE(slices_of[slice.index].insert({slice.frame, row, column}).second) << "twice";
        }
        if (volume.verdict == Verdict::kReject) {
          ASSERT_FALSE(volume.reasons.empty());
          for (const std::string& code : Codes(volume)) ASSERT_FALSE(code.empty());
          ASSERT_EQ(volume.synthetic_slices(), 0u);
          continue;
        }
        ++(volume.verdict == Verdict::kAccept ? accepted : resampled);
        ASSERT_TRUE(volume.geometry);
        ASSERT_EQ(volume.geometry->size_ijk()[2], volume.slices.size());
        for (const VolumeSlice& slice : volume.slices) {
          ASSERT_TRUE(std::isfinite(slice.slope) && slice.slope != 0 && std::isfinite(slice.intercept));
          ASSERT_NE(slice.stored_type, ipc::v1::STORED_TYPE_UNSPECIFIED);
          ASSERT_TRUE(slice.shift_ij[0] >= 0 && slice.shift_ij[1] >= 0);
          if (slice.synthetic) {
            ASSERT_FALSE(volume.slices.at(slice.synthetic->before).synthetic);
            ASSERT_FALSE(volume.slices.at(slice.synthetic->after).synthetic);
          }
        }
      }
      // Of two contents of one SOP UID one is dropped.
      if (!conflict) {
        ASSERT_GE(seen.size() + set_aside, series.instances);
      }
    }
    for (const auto& [recipe, runs] : {std::pair(&one, &chosen), {&times, &in_time}, {&several, &joined}}) {
      const Selection selection = Select(*recipe, study);
      ASSERT_EQ(selection.uses.size(), study.series.size());
      for (const auto& use : selection.uses) ASSERT_TRUE(use.analysed() || use.reasons_size() == 1);
      ASSERT_TRUE(selection.volume() != nullptr || !selection.reasons.empty());
      ASSERT_EQ(selection.series.size(), selection.volumes.size());
      ASSERT_EQ(selection.volumes.size(), selection.time_points() * selection.channels);
      if (selection.volumes.size() >= static_cast<std::size_t>(recipe == &one ? 1 : 2)) ++*runs;
      for (const Volume* volume : selection.volumes) {
        ASSERT_NE(volume->verdict, Verdict::kReject);
        ASSERT_LE(volume->synthetic_slices(), 1u);
        ASSERT_EQ(volume->geometry->size_ijk(), selection.volume()->geometry->size_ijk());
        ASSERT_EQ(volume->stored_size_ij, selection.volume()->stored_size_ij);
      }
    }
  }
  // The generator still makes stacks, too.
  EXPECT_GT(accepted, 100);
  EXPECT_GT(resampled, 20);
  EXPECT_GT(chosen, 50);
  EXPECT_GT(in_time, 10);
  EXPECT_GT(joined, 10);
}

}  // namespace
}  // namespace tomoserve::series
