// Values by rank, without sorting or copying. Private to the room.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Of at least one value, none of them NaN, which must outlive this object. Two passes that only count: over
// the upper halves of all values' bits, and over the lower halves of those that share the upper one.
class OrderStatistics {
 public:
  // Errors: those of ParallelFor.
  static absl::StatusOr<OrderStatistics> Of(std::span<const float> values, const Parallel& parallel);

  // The value of 0-based `rank` (below the number of values) in ascending order. Errors: those of
  // ParallelFor.
  absl::StatusOr<float> At(std::uint64_t rank, const Parallel& parallel);

 private:
  using Counts = std::vector<std::uint64_t>;  // by 16 bits

  explicit OrderStatistics(std::span<const float> values) : values_(values) {}
  // Of the lower halves of values with this upper half, or of all upper halves.
  absl::StatusOr<Counts> Count(std::optional<std::uint32_t> upper, const Parallel& parallel) const;

  std::span<const float> values_;
  Counts uppers_;
  std::optional<std::uint32_t> counted_;  // whose lower halves these are
  Counts lowers_;
};

}  // namespace tomoserve::compute
