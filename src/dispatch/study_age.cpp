#include "dispatch/study_age.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"

namespace tomoserve::dispatch {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::string_view kDigits = "0123456789";
constexpr minutes kFarthestWest = -hours(12);

bool AllDigits(std::string_view text) { return text.find_first_not_of(kDigits) == std::string_view::npos; }

// The number in `digits` digits from `at` on.
int Number(std::string_view text, std::size_t at, std::size_t digits) {
  int number = 0;
  for (const char digit : text.substr(at, digits)) number = number * 10 + (digit - '0');
  return number;
}

std::optional<std::chrono::sys_days> ParseDate(std::string text) {
  std::erase(text, '.');  // ACR-NEMA's 1993.08.22
  if (text.size() != 8 || !AllDigits(text)) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(Number(text, 0, 4)),
                                         std::chrono::month(static_cast<unsigned>(Number(text, 4, 2))),
                                         std::chrono::day(static_cast<unsigned>(Number(text, 6, 2))));
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date);
}

// The last second that HH, HHMM or HHMMSS[.F] may mean; of anything else that of the day.
seconds LatestTime(std::string_view text) {
  text = text.substr(0, text.find('.'));
  if (text.size() > 6 || text.size() % 2 != 0 || !AllDigits(text)) text = {};
  const int hour = text.size() >= 2 ? Number(text, 0, 2) : 23;
  const int minute = text.size() >= 4 ? Number(text, 2, 2) : 59;
  const int second = text.size() == 6 ? Number(text, 4, 2) : 59;
  return hours(std::min(hour, 23)) + minutes(std::min(minute, 59)) + seconds(std::min(second, 59));
}

// &ZZXX, PS3.3 C.12.1.1.8.
minutes OffsetOf(std::string_view text) {
  const bool readable = text.size() == 5 && (text[0] == '+' || text[0] == '-') && AllDigits(text.substr(1));
  if (!readable) return kFarthestWest;
  const minutes offset = hours(Number(text, 1, 2)) + minutes(Number(text, 3, 2));
  return text[0] == '-' ? -offset : offset;
}

}  // namespace

std::optional<double> StudyAgeDays(const v1::StudyRef& ref, std::int64_t now_us) {
  const auto date = ParseDate(ref.study_date());
  if (!date) return std::nullopt;
  const seconds then =
      date->time_since_epoch() + LatestTime(ref.study_time()) - OffsetOf(ref.timezone_offset());
  return (static_cast<double>(now_us) / 1e6 - static_cast<double>(then.count())) / 86400;
}

std::optional<v1::Reason> StaleStudy(const v1::StudyRef& ref, double max_age_days, std::int64_t now_us) {
  const std::optional<double> age_days = StudyAgeDays(ref, now_us);
  if (!age_days.has_value() || *age_days <= max_age_days) return std::nullopt;
  return MakeReason("STALE_STUDY", absl::StrCat(std::llround(std::floor(*age_days))),
                    "the study is old, in days, and nobody has asked for this model by its name");
}

}  // namespace tomoserve::dispatch
