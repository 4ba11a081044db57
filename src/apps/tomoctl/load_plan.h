// What a load test sends and when: pure functions of its options and seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::tomoctl {

// One kind of what is mixed.
struct Share {
  std::string name;
  double share = 0;  // of 1
};

// "routine:0.8,urgent:0.15,stat:0.05": names with positive numbers, which are scaled to a sum of 1; a name
// alone counts 1. Errors: kInvalidArgument LOAD_MIX (value: the entry).
absl::StatusOr<std::vector<Share>> ParseMix(std::string_view text);

// "128x60" of a phantom: rows and columns, slices. Errors: kInvalidArgument LOAD_SIZE.
struct PhantomSize {
  std::uint32_t rows = 0;
  std::uint32_t slices = 0;
};
absl::StatusOr<PhantomSize> ParsePhantomSize(std::string_view text);

struct Arrival {
  double at_s = 0;           // after the start
  std::size_t priority = 0;  // place in the mix of priorities
  std::size_t study = 0;     // place in the mix of studies
};

// A Poisson process whose arrivals are marked at random. The same arguments: the same arrivals.
class Arrivals {
 public:
  Arrivals(std::uint64_t seed, double per_second, const std::vector<Share>& priorities,
           const std::vector<Share>& studies);
  // Later than the one before it.
  Arrival Next();

 private:
  double Uniform();  // [0, 1)
  static std::size_t Choose(const std::vector<double>& until, double uniform);

  std::mt19937_64 random_;
  double per_second_;
  double now_s_ = 0;
  std::vector<double> priorities_;  // sums of the shares
  std::vector<double> studies_;
};

// The smallest of `values` that at least this share of them does not exceed (nearest rank). Nothing of none.
// `share` in (0, 1]; `values` ascending.
std::optional<double> Quantile(const std::vector<double>& values, double share);

// Another UID of the same length and form, by `uid` and `seed` alone. Empty where the UID has too few digits
// for one that nobody else has.
std::string FreshUid(std::string_view uid, std::string_view seed);

// Where a DICOM file in memory has the UIDs that make it an instance of its own: of the instance, its series
// and its study. Only what is written plainly in little endian is found.
struct UidPlace {
  std::size_t offset = 0;
  std::size_t length = 0;  // without padding
};
std::vector<UidPlace> FindUids(std::string_view file);

}  // namespace tomoserve::tomoctl
