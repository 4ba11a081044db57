// Headers are whatever a file says: no combination of values may break the room, and every instance is
// accounted for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

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

// Mostly a slice of a stack, with a few fields replaced by anything.
Instance AnyInstance(Random& random, std::uint32_t index) {
  Instance instance = Slice(index, 2.5 * static_cast<double>(random.Below(12)));
  auto& h = instance.header;
  if (random.OneIn(8)) instance.content_sha256 = base::Sha256Hex(std::to_string(random.Below(4)));
  if (random.OneIn(8)) h.set_sop_instance_uid(random.OneIn(2) ? "" : "1." + std::to_string(random.Below(4)));
  if (random.OneIn(8)) h.set_series_instance_uid(random.OneIn(2) ? "" : "1.2.3.4");
  if (random.OneIn(20)) h.set_study_instance_uid(random.OneIn(2) ? "" : "9");
  if (random.OneIn(10)) h.set_modality(random.OneIn(2) ? "MR" : "");
  if (random.OneIn(20)) h.set_sop_class_uid(random.OneIn(2) ? "" : "1.2.840.10008.5.1.4.1.1.2.1");
  if (random.OneIn(20)) h.set_kind(static_cast<ipc::v1::ObjectKind>(random.Below(4)));
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
  if (random.OneIn(12)) h.set_rescale_slope(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_rescale_intercept(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_kvp(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_lossy(true);
  if (random.OneIn(12)) h.set_lossy_ratio(random.Of(kNumbers));
  if (random.OneIn(12)) h.set_patient_age(random.OneIn(2) ? "999Y" : "\xff\xfeY");
  if (random.OneIn(20)) h.add_image_type(random.OneIn(2) ? "LOCALIZER" : "MOSAIC");
  return instance;
}

TEST(HostileHeadersTest, EveryInstanceIsAccountedForOnce) {
  tomoserve::v1::Recipe recipe;
  auto& input = *recipe.add_inputs();
  input.add_modalities("CT");
  input.add_preferred_kernels("B30f");
  input.mutable_kvp()->set_min(80);
  input.mutable_age_years()->set_max(120);
  input.mutable_slice_spacing_mm()->set_max(5);
  input.mutable_field_of_view_mm()->set_min(1);
  input.set_max_lossy_ratio(10);
  input.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);

  Random random(11);
  int accepted = 0;
  int chosen = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<Instance> instances;
    const auto count = static_cast<std::uint32_t>(1 + random.Below(14));
    for (std::uint32_t n = 0; n < count; ++n) instances.push_back(AnyInstance(random, n));
    const StudySeries study = BuildStudy(instances);
    std::map<std::string, int> contents;  // per SOP UID
    for (const Instance& instance : instances) {
      if (!instance.header.sop_instance_uid().empty()) ++contents[instance.header.sop_instance_uid()];
    }
    for (const Series& series : study.series) {
      std::size_t seen = 0;
      for (const SetAside& aside : series.set_aside) seen += aside.count;
      bool conflict = false;
      for (const Volume& volume : series.volumes) {
        seen += volume.slices.size();
        ASSERT_FALSE(volume.slices.empty());
        for (const std::string& code : Codes(volume)) conflict = conflict || code == "DUPLICATE_CONFLICT";
        if (volume.verdict == Verdict::kAccept) {
          ++accepted;
          ASSERT_TRUE(volume.geometry);
          ASSERT_EQ(volume.geometry->size_ijk()[2], volume.slices.size());
          for (const VolumeSlice& slice : volume.slices) {
            ASSERT_TRUE(std::isfinite(slice.slope) && slice.slope != 0 && std::isfinite(slice.intercept));
            ASSERT_NE(slice.stored_type, ipc::v1::STORED_TYPE_UNSPECIFIED);
          }
        } else {
          ASSERT_FALSE(volume.reasons.empty());
          for (const std::string& code : Codes(volume)) ASSERT_FALSE(code.empty());
        }
      }
      // Of two contents of one SOP UID one is dropped.
      if (conflict) {
        ASSERT_LE(seen, series.instances);
      } else {
        ASSERT_EQ(seen, series.instances);
      }
    }
    const Selection selection = Select(recipe, study);
    ASSERT_EQ(selection.uses.size(), study.series.size());
    for (const auto& use : selection.uses) ASSERT_TRUE(use.analysed() || use.reasons_size() == 1);
    ASSERT_TRUE(selection.volume != nullptr || !selection.reasons.empty());
    if (selection.volume != nullptr) {
      ++chosen;
      ASSERT_EQ(selection.volume->verdict, Verdict::kAccept);
    }
  }
  // The generator still makes stacks, too.
  EXPECT_GT(accepted, 100);
  EXPECT_GT(chosen, 50);
}

}  // namespace
}  // namespace tomoserve::series
