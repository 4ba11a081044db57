#include "compute/on_device/intensity.h"

#include <ATen/ops/full.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "compute/intensity_rules.h"
#include "compute/on_device/statistics.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/crop.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

// A float32 divisor on the device: CUDA divides by one on the host with a multiplication, which rounds
// otherwise.
at::Tensor Divisor(float value, const at::Tensor& like) { return at::full({1}, value, like.options()); }

void Linear(at::Tensor& values, float subtract, float divide, float multiply, float add) {
  values.sub_(subtract).div_(Divisor(divide, values)).mul_(multiply).add_(add);
}

void Range(at::Tensor& values, double from_min, double from_max, double to_min, double to_max, bool clip) {
  Linear(values, static_cast<float>(from_min), static_cast<float>(from_max - from_min),
         static_cast<float>(to_max - to_min), static_cast<float>(to_min));
  if (clip) values.clamp_(static_cast<float>(to_min), static_cast<float>(to_max));
}

void ZScore(at::Tensor& values, const v1::ZScore& z_score) {
  const bool nonzero = z_score.nonzero();
  double mean = z_score.mean();
  double deviation = std::max(z_score.std(), kSmallestDeviation);
  if (!z_score.has_mean()) {
    const CountAndSum found = CountAndSumOf(values);
    const auto count = static_cast<double>(nonzero ? found.nonzero : values.numel());
    if (count == 0) return;
    mean = found.sum / count;
    deviation = std::sqrt(SumOfSquares(values, mean, nonzero) / count);
    if (deviation == 0) deviation = 1;
  }
  const auto shift = static_cast<float>(mean);
  const at::Tensor divisor = Divisor(static_cast<float>(deviation), values);
  ForChunks(values, [&](const at::Tensor& part) {
    if (nonzero) {
      part.copy_(at::where(part.eq(0), part, part.sub(shift).div_(divisor)));
    } else {
      part.sub_(shift).div_(divisor);
    }
  });
}

// Zeros outside the region stay.
void ZScoreInside(at::Tensor& values, const v1::ZScore& z_score, const at::Tensor& region) {
  double mean = z_score.mean();
  double deviation = std::max(z_score.std(), kSmallestDeviation);
  if (!z_score.has_mean()) {
    const CountAndSum found = CountAndSumOf(values);
    const auto count = static_cast<double>(CountAndSumOf(region).nonzero);
    if (count == 0) return;
    mean = found.sum / count;
    const double holes = count - static_cast<double>(found.nonzero);
    deviation = std::sqrt((SumOfSquares(values, mean, /*nonzero=*/true) + holes * mean * mean) / count);
    if (deviation == 0) deviation = 1;
  }
  const auto shift = static_cast<float>(mean);
  const at::Tensor divisor = Divisor(static_cast<float>(deviation), values);
  ForRanges(values.numel(), kChunkValues, [&](std::int64_t first, std::int64_t count) {
    const at::Tensor part = values.narrow(0, first, count);
    part.sub_(shift).div_(divisor).masked_fill_(region.narrow(0, first, count).eq(0), 0);
  });
}

void ScaleMinMax(at::Tensor& values, const v1::ScaleMinMax& scale) {
  const auto [low, high] = ExtremesOf(values);
  const auto to_min = static_cast<float>(scale.to_min());
  if (low == high) {
    values.mul_(to_min);
  } else {
    Linear(values, low, high - low, static_cast<float>(scale.to_max() - scale.to_min()), to_min);
  }
}

void ScalePercentiles(at::Tensor& values, const v1::ScalePercentiles& scale) {
  const float low = Percentile(values, scale.lower());
  const float high = Percentile(values, scale.upper());
  if (low == high) {
    Linear(values, low, 1, 1, static_cast<float>(scale.to_min()));
  } else {
    Range(values, low, high, scale.to_min(), scale.to_max(), scale.clip());
  }
}

absl::Status ApplyStep(const v1::IntensityStep& step, const at::Tensor& volume, const at::Tensor& region,
                       const Parallel& parallel) {
  at::Tensor values = volume.view({-1});
  switch (step.step_case()) {
    case v1::IntensityStep::kScaleRange: {
      const v1::ScaleRange& range = step.scale_range();
      Range(values, range.from_min(), range.from_max(), range.to_min(), range.to_max(), range.clip());
      break;
    }
    case v1::IntensityStep::kClip:
      values.clamp_(static_cast<float>(step.clip().min()), static_cast<float>(step.clip().max()));
      break;
    case v1::IntensityStep::kAffine:
      values.mul_(static_cast<float>(step.affine().scale())).add_(static_cast<float>(step.affine().shift()));
      break;
    case v1::IntensityStep::kZScore: {
      if (!step.z_score().fill_holes()) {
        ZScore(values, step.z_score());
        break;
      }
      at::Tensor inside = region;
      if (inside.defined()) {
        ForRanges(values.numel(), kChunkValues, [&](std::int64_t first, std::int64_t count) {
          values.narrow(0, first, count).masked_fill_(inside.view({-1}).narrow(0, first, count).eq(0), 0);
        });
      } else {
        TS_ASSIGN_OR_RETURN(inside,
                            FilledNonzero({&volume, 1}, parallel, {volume.device(), /*plain_loops=*/false}));
      }
      ZScoreInside(values, step.z_score(), inside.view({-1}));
      break;
    }
    case v1::IntensityStep::kScaleMinMax:
      ScaleMinMax(values, step.scale_min_max());
      break;
    case v1::IntensityStep::kScalePercentiles:
      if (!AllFiniteFlag(values).item<bool>()) return PreparedNotFinite();  // no order among NaN
      ScalePercentiles(values, step.scale_percentiles());
      break;
    case v1::IntensityStep::STEP_NOT_SET:
      break;  // CheckIntensityStep has refused it
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            at::Tensor& volume, const at::Tensor& region, const Parallel& parallel) {
  for (const v1::IntensityStep& step : steps) {
    TS_RETURN_IF_ERROR(CheckCancelled(parallel));
    TS_RETURN_IF_ERROR(ApplyStep(step, volume, region, parallel));
  }
  return AllFiniteFlag(volume).item<bool>() ? absl::OkStatus() : PreparedNotFinite();
}

}  // namespace tomoserve::compute::on_device
