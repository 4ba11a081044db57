// What holds for intensity steps wherever they are carried out. Private to the room.
#pragma once

#include "absl/status/status.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute {

// A stated deviation is never less.
inline constexpr double kSmallestDeviation = 1e-8;

// kInvalidArgument INTENSITY_INVALID (value: `number`) for an empty step or an empty range.
absl::Status CheckIntensityStep(const v1::IntensityStep& step, int number);

// kInvalidArgument NOT_FINITE.
absl::Status PreparedNotFinite();

}  // namespace tomoserve::compute
