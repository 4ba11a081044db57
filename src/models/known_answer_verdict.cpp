#include "tomoserve/models/known_answer_verdict.h"

#include <algorithm>
#include <array>

#include "tomoserve/base/out_of_memory.h"

namespace tomoserve::models {

bool IsWrongAnswer(std::string_view code, std::string_view text) {
  constexpr std::array<std::string_view, 6> kCodes{"KNOWN_ANSWER_DIFFERS", "NON_FINITE_OUTPUT",
                                                   "NETWORK_FAILED",       "NETWORK_OUTPUT_SHAPE",
                                                   "NETWORK_OUTPUT_TYPE",  "MODEL_NOT_LOADED"};
  if (std::find(kCodes.begin(), kCodes.end(), code) == kCodes.end()) return false;
  // Libraries say so of a network, too, when they lack memory.
  return !base::SaysOutOfMemory(text) && !base::MayMeanOutOfMemory(text);
}

}  // namespace tomoserve::models
