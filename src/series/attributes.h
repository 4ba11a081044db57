// What stacks at the same places may differ in. Private to the room.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "series/internal.h"

namespace tomoserve::series {

// Something that sorts; what is absent (or not finite) comes first, as a group of its own.
using Key = std::pair<std::vector<double>, std::string>;

struct Attribute {
  const char* name;
  // 0: the values are no time. Else where it stands among those that are: what changes slowest is 1.
  int time;
  Key (*key)(const Candidate&);
};

// In order of preference. Of an enhanced instance only its functional groups count.
std::span<const Attribute> Attributes();

}  // namespace tomoserve::series
