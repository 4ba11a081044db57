#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {
namespace {

// What a line says, as far as its place is concerned.
enum class Answer {
  kCritical,
  kUrgent,
  kNoAnswer,  // failed, quarantined or inconclusive: a person must look without help
  kAttention,
  kInfo,
  kOpen,   // queued or running
  kClear,  // no finding, not applicable, cancelled
};

Answer AnswerOf(v1::RunState state, const v1::Flag& flag) {
  switch (state) {
    case v1::RUN_STATE_FAILED:
    case v1::RUN_STATE_QUARANTINED:
      return Answer::kNoAnswer;
    case v1::RUN_STATE_CANCELLED:
      return Answer::kClear;
    case v1::RUN_STATE_DONE:
      break;
    default:
      return Answer::kOpen;
  }
  switch (flag.state()) {
    case v1::FLAG_STATE_NO_FINDING:
    case v1::FLAG_STATE_NOT_APPLICABLE:
      return Answer::kClear;
    case v1::FLAG_STATE_FLAGGED:
      break;
    default:
      return Answer::kNoAnswer;
  }
  switch (flag.level()) {
    case v1::FLAG_LEVEL_CRITICAL:
      return Answer::kCritical;
    case v1::FLAG_LEVEL_URGENT:
      return Answer::kUrgent;
    case v1::FLAG_LEVEL_ATTENTION:
      return Answer::kAttention;
    default:
      return Answer::kInfo;
  }
}

// The worklist's order, 0 first:
//
//                    STAT  URGENT  ROUTINE
//   CRITICAL            0       5        6
//   URGENT              1       7        8
//   no answer           2       9       13
//   ATTENTION           3      10       12
//   INFO                4      11       14
//   open               15      16       17
//   clear              18      19       20
//
// Everything of a STAT study that a person must act upon comes first, the missing answer included. Then the
// flags that say "now" and "before routine studies", whoever asked. Inside the routine studies a missing
// answer stands below ATTENTION and above INFO. Lines without a flag close the list: it is a list of flags,
// and a study's place in the reader's own list must not sink because of them.
int RankOf(v1::Priority priority, Answer answer) {
  constexpr int kRanks[7][3] = {{0, 5, 6},   {1, 7, 8},    {2, 9, 13},  {3, 10, 12},
                                {4, 11, 14}, {15, 16, 17}, {18, 19, 20}};
  const int column = priority == v1::PRIORITY_STAT ? 0 : priority == v1::PRIORITY_URGENT ? 1 : 2;
  return kRanks[static_cast<int>(answer)][column];
}

}  // namespace

UrgencyKey Urgency(v1::Priority priority, v1::RunState state, const v1::Flag& flag,
                   std::int64_t finished_us) {
  return {.rank = RankOf(priority, AnswerOf(state, flag)), .time_us = finished_us};
}

}  // namespace tomoserve::findings
