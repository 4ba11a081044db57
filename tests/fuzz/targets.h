// What libFuzzer feeds, and what ctest replays its corpus through. Each takes any bytes whatever; it ends the
// program when something holds no longer that must hold for all of them.
#pragma once

#include <cstddef>
#include <span>

namespace tomoserve::fuzz {

using Bytes = std::span<const std::byte>;

// The gatekeeper over a file: what it names lies inside the file, what it refuses is typed.
void Gatekeeper(Bytes file);

// The header pass over a file: its answer is valid UTF-8 and one that the front believes.
void Header(Bytes file);

// The front over what a helper sends: records (two bytes of length, little endian, then the record), received
// from a socket, parsed, checked, and, where they are believed, made into series.
void Reply(Bytes records);

// What a helper does with a file: gatekeeper, header pass, first and last frame into a slot; nothing is
// written outside the slot.
void Helper(Bytes file);

}  // namespace tomoserve::fuzz
