#include "compute/intensity_rules.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

bool IsValid(const v1::IntensityStep& step) {
  switch (step.step_case()) {
    case v1::IntensityStep::kScaleRange:
      return std::abs(step.scale_range().from_max() - step.scale_range().from_min()) > 0;
    case v1::IntensityStep::kClip:
      return step.clip().min() <= step.clip().max();
    case v1::IntensityStep::kZScore:
      return step.z_score().has_mean() == step.z_score().has_std();
    case v1::IntensityStep::kScalePercentiles: {
      const v1::ScalePercentiles& scale = step.scale_percentiles();
      return scale.lower() >= 0 && scale.lower() < scale.upper() && scale.upper() <= 100;
    }
    case v1::IntensityStep::kAffine:
    case v1::IntensityStep::kScaleMinMax:
      return true;
    case v1::IntensityStep::STEP_NOT_SET:
      break;
  }
  return false;
}

}  // namespace

absl::Status CheckIntensityStep(const v1::IntensityStep& step, int number) {
  if (IsValid(step)) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInvalidArgument, "INTENSITY_INVALID", std::to_string(number),
                     "the intensity step is empty or its range is");
}

absl::Status PreparedNotFinite() {
  return base::Error(absl::StatusCode::kInvalidArgument, "NOT_FINITE", "preparation",
                     "the prepared volume has values that are not finite numbers");
}

PercentileRank RankOf(double percentile, std::uint64_t count) {
  const double rank = static_cast<double>(count - 1) * (percentile / 100);
  const auto below = std::min(static_cast<std::uint64_t>(rank), count - 1);
  return {below, rank - static_cast<double>(below)};
}

float Interpolated(float below, float above, double weight) {
  const auto difference = static_cast<double>(above - below);
  return static_cast<float>(weight < 0.5 ? static_cast<double>(below) + difference * weight
                                         : static_cast<double>(above) - difference * (1 - weight));
}

}  // namespace tomoserve::compute
