// What holds for intensity steps wherever they are carried out. Private to the room.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute {

// A stated deviation is never less.
inline constexpr double kSmallestDeviation = 1e-8;

// kInvalidArgument INTENSITY_INVALID (value: `number`) for an empty step or an empty range.
absl::Status CheckIntensityStep(const v1::IntensityStep& step, int number);

// kInvalidArgument NOT_FINITE.
absl::Status PreparedNotFinite();

// Where a percentile of `count` values (at least 1) lies: between the value of rank `below` and the next one.
struct PercentileRank {
  std::uint64_t below = 0;
  double weight = 0;  // of the next one
};
PercentileRank RankOf(double percentile, std::uint64_t count);

// NumPy's linear interpolation between float32 values, as float32.
float Interpolated(float below, float above, double weight);

}  // namespace tomoserve::compute
