#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

v1::Flag FlagOf(v1::FlagState state, v1::FlagLevel level = v1::FLAG_LEVEL_UNSPECIFIED) {
  v1::Flag flag;
  flag.set_state(state);
  flag.set_level(level);
  return flag;
}

UrgencyKey Done(v1::Priority priority, const v1::Flag& flag, std::int64_t at = 0) {
  return Urgency(priority, v1::RUN_STATE_DONE, flag, at);
}

const v1::Flag kCritical = FlagOf(v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_CRITICAL);
const v1::Flag kUrgent = FlagOf(v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
const v1::Flag kAttention = FlagOf(v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_ATTENTION);
const v1::Flag kInfo = FlagOf(v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_INFO);
const v1::Flag kInconclusive = FlagOf(v1::FLAG_STATE_INCONCLUSIVE);
const v1::Flag kNoFinding = FlagOf(v1::FLAG_STATE_NO_FINDING);

TEST(UrgencyTest, StatWithoutAnswerComesBeforeEveryRoutineFlag) {
  for (const v1::Flag& routine : {kCritical, kUrgent, kAttention, kInfo}) {
    for (const v1::Priority priority :
         {v1::PRIORITY_UNSPECIFIED, v1::PRIORITY_ROUTINE, v1::PRIORITY_URGENT}) {
      EXPECT_LT(Urgency(v1::PRIORITY_STAT, v1::RUN_STATE_FAILED, {}, 9), Done(priority, routine, 1));
      EXPECT_LT(Urgency(v1::PRIORITY_STAT, v1::RUN_STATE_QUARANTINED, {}, 9), Done(priority, routine, 1));
      EXPECT_LT(Done(v1::PRIORITY_STAT, kInconclusive, 9), Done(priority, routine, 1));
    }
  }
}

TEST(UrgencyTest, LevelsOrderWithinAPriority) {
  for (const v1::Priority priority : {v1::PRIORITY_ROUTINE, v1::PRIORITY_URGENT, v1::PRIORITY_STAT}) {
    const std::vector<UrgencyKey> keys = {Done(priority, kCritical), Done(priority, kUrgent),
                                          Done(priority, kAttention), Done(priority, kInfo),
                                          Done(priority, kNoFinding)};
    EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
    EXPECT_EQ(std::set<int>({keys[0].rank, keys[1].rank, keys[2].rank, keys[3].rank, keys[4].rank}).size(),
              5u);
  }
}

TEST(UrgencyTest, PriorityOrdersEqualAnswers) {
  for (const v1::Flag& flag : {kCritical, kUrgent, kInconclusive, kAttention, kInfo, kNoFinding}) {
    EXPECT_LT(Done(v1::PRIORITY_STAT, flag), Done(v1::PRIORITY_URGENT, flag));
    EXPECT_LT(Done(v1::PRIORITY_URGENT, flag), Done(v1::PRIORITY_ROUTINE, flag));
    EXPECT_EQ(Done(v1::PRIORITY_UNSPECIFIED, flag), Done(v1::PRIORITY_ROUTINE, flag));
  }
}

TEST(UrgencyTest, NoFlagNeverComesBeforeAMissingAnswerOrAFlag) {
  for (const v1::Flag& flag : {kCritical, kUrgent, kInconclusive, kAttention, kInfo}) {
    EXPECT_LT(Done(v1::PRIORITY_ROUTINE, flag), Done(v1::PRIORITY_STAT, kNoFinding));
  }
}

TEST(UrgencyTest, OlderComesFirstWithinARank) {
  EXPECT_LT(Done(v1::PRIORITY_ROUTINE, kUrgent, 100), Done(v1::PRIORITY_ROUTINE, kUrgent, 101));
}

}  // namespace
}  // namespace tomoserve::findings
