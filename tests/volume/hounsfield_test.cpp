#include "tomoserve/volume/hounsfield.h"

#include <gtest/gtest.h>

#include <limits>

namespace tomoserve::volume {
namespace {

// A head or chest: air, fat and soft tissue, bone; every value moved by `shift`.
HounsfieldCounts Patient(double shift) {
  HounsfieldCounts counts;
  for (int n = 0; n < 50; ++n) counts.Add(-1000 + shift);
  for (int n = 0; n < 40; ++n) counts.Add(-100 + 4 * n + shift);
  for (int n = 0; n < 4; ++n) counts.Add(400 + 200 * n + shift);
  return counts;
}

TEST(HounsfieldTest, APatientIsPlausible) {
  EXPECT_EQ(WhyNotHounsfield(Patient(0)), std::nullopt);
  HounsfieldCounts counts = Patient(0);
  for (int n = 0; n < 1000; ++n) counts.Add(-3024);  // padding counts nowhere
  counts.Add(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(counts.all, Patient(0).all);
}

TEST(HounsfieldTest, StoredValuesTakenAsTheyAreAreNot) {
  EXPECT_EQ(WhyNotHounsfield(Patient(1024)), "dense 0.47");
}

TEST(HounsfieldTest, NoTissueIsNot) {
  EXPECT_EQ(WhyNotHounsfield({}), "tissue 0");
  HounsfieldCounts noise;
  for (int n = 0; n < 250; ++n) noise.Add(-1024 + n);
  EXPECT_EQ(WhyNotHounsfield(noise), "tissue 0");
  HounsfieldCounts map;
  for (int n = 0; n < 95; ++n) map.Add(300);
  for (int n = 0; n < 5; ++n) map.Add(0);
  EXPECT_EQ(WhyNotHounsfield(map), "tissue 0.05");
}

TEST(HounsfieldTest, CountsAddUp) {
  HounsfieldCounts twice = Patient(0);
  twice += Patient(1024);
  EXPECT_EQ(twice.all, 2 * Patient(0).all);
  EXPECT_EQ(twice.dense, Patient(0).dense + Patient(1024).dense);
  EXPECT_EQ(twice.tissue, Patient(0).tissue + Patient(1024).tissue);
  EXPECT_EQ(twice.body, Patient(0).body + Patient(1024).body);
}

}  // namespace
}  // namespace tomoserve::volume
