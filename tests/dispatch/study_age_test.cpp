// How old a study is by its own date.
#include "dispatch/study_age.h"

#include <gtest/gtest.h>

#include <chrono>

namespace tomoserve::dispatch {
namespace {

// 25 June 2026, 12:00 UTC.
constexpr std::int64_t kNowUs =
    std::chrono::duration_cast<std::chrono::microseconds>(
        (std::chrono::sys_days(std::chrono::year(2026) / 6 / 25) + std::chrono::hours(12)).time_since_epoch())
        .count();

std::optional<double> Age(const char* date, const char* time = "", const char* offset = "") {
  v1::StudyRef ref;
  ref.set_study_date(date);
  ref.set_study_time(time);
  ref.set_timezone_offset(offset);
  return StudyAgeDays(ref, kNowUs);
}

TEST(StudyAgeTest, CountsFromDateAndTimeInTheStudysOffset) {
  EXPECT_DOUBLE_EQ(*Age("20260618", "120000", "+0000"), 7);
  EXPECT_DOUBLE_EQ(*Age("20260618", "120000.123456", "+0000"), 7);
  EXPECT_DOUBLE_EQ(*Age("20260618", "120000", "+0200"), 7 + 2.0 / 24);
  EXPECT_DOUBLE_EQ(*Age("20260618", "120000", "-0330"), 7 - 3.5 / 24);
  EXPECT_DOUBLE_EQ(*Age("2026.06.18", "120000", "+0000"), 7);
}

TEST(StudyAgeTest, WhatIsOpenMakesTheStudyAsYoungAsItCanBe) {
  EXPECT_NEAR(*Age("20260618", "", "+0000"), 6.5, 1e-4);
  EXPECT_NEAR(*Age("20260618", "12", "+0000"), 7 - 1.0 / 24, 1e-4);
  EXPECT_NEAR(*Age("20260618", "1200", "+0000"), 7, 1e-3);
  EXPECT_DOUBLE_EQ(*Age("20260618", "120000", ""), 6.5);
  for (const char* wrong : {"noon", "1", "12000", "1200000"}) {
    EXPECT_DOUBLE_EQ(*Age("20260618", wrong, "+0000"), *Age("20260618", "", "+0000")) << wrong;
  }
  for (const char* wrong : {"0100", "+1", "+01:00", "CET"}) {
    EXPECT_DOUBLE_EQ(*Age("20260618", "120000", wrong), 6.5) << wrong;
  }
  // A leap second and impossible times stay within the day.
  EXPECT_DOUBLE_EQ(*Age("20260617", "235960", "+0000"), *Age("20260617", "235959", "+0000"));
  EXPECT_DOUBLE_EQ(*Age("20260617", "999999", "+0000"), *Age("20260617", "235959", "+0000"));
}

TEST(StudyAgeTest, WithoutAReadableDateThereIsNone) {
  for (const char* wrong : {"", "2026", "20261301", "20260231", "YYYYMMDD", "-2026618", "202606180"}) {
    EXPECT_FALSE(Age(wrong)) << wrong;
  }
}

TEST(StudyAgeTest, AStudyOfTheFutureIsYoung) { EXPECT_LT(*Age("20270101"), 0); }

TEST(StudyAgeTest, StaleIsOlderThanTheLimitInWholeDays) {
  v1::StudyRef ref;
  EXPECT_FALSE(StaleStudy(ref, 0, kNowUs)) << "no date";
  ref.set_study_date("20260617");
  ref.set_study_time("000000");
  ref.set_timezone_offset("+0000");
  const auto reason = StaleStudy(ref, 7, kNowUs);
  ASSERT_TRUE(reason);
  EXPECT_EQ(reason->code(), "STALE_STUDY");
  EXPECT_EQ(reason->value(), "8");
  EXPECT_FALSE(StaleStudy(ref, 8.5, kNowUs));
}

}  // namespace
}  // namespace tomoserve::dispatch
