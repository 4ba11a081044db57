// Damages files: the same seed and the same files give the same bytes, on any machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tomoserve::fuzz {

enum class Damage {
  kBitFlips,     // one to sixteen bits anywhere
  kHeaderNoise,  // bytes of the first 1 KB
  kPixelNoise,   // bytes of the last half
  kCut,          // the end is missing
  kHole,         // a piece of the middle is missing
  kInsertion,    // random bytes, or a piece of the file again
  kLength,       // an element's length is another
  kLyingSize,    // rows, columns, frames, samples, bits say something else
  kNesting,      // hostile nesting before the dataset
  kBomb,         // very many items, elements or fragments; an RLE header that points outside
  kCodestream,   // markers and first bytes of the fragments
  kOtherSyntax,  // the meta header says another transfer syntax
  kText,         // random bytes for text, another character set
  kSplice,       // the head of one file, the tail of another
  kCount
};

std::string_view NameOf(Damage damage);

struct Corrupted {
  Damage damage = Damage::kBitFlips;
  std::size_t base = 0;  // index of the file that was damaged
  std::vector<std::byte> bytes;
};

// File number `number` of the series with this seed. `bases` is not empty, and none of them is.
Corrupted Corrupt(std::span<const std::vector<std::byte>> bases, std::uint64_t seed, std::uint64_t number);

}  // namespace tomoserve::fuzz
