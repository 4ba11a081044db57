#include "tomoserve/compute/intensity.h"

#include <ATen/ops/aminmax.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "compute/intensity_rules.h"
#include "compute/on_device/intensity.h"
#include "compute/order_statistics.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/crop.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute {
namespace {

// Voxels of one unit of work. Sums depend on it, so it never changes with the number of threads.
constexpr std::size_t kChunk = std::size_t{1} << 16;

// A step that looks at one voxel at a time, on a chunk that stays in the cache.
using Pointwise = std::function<void(std::span<float>)>;

std::int64_t Chunks(std::span<const float> voxels) {
  return static_cast<std::int64_t>((voxels.size() + kChunk - 1) / kChunk);
}

std::span<float> ChunkOf(std::span<float> voxels, std::int64_t chunk) {
  const std::size_t begin = static_cast<std::size_t>(chunk) * kChunk;
  return voxels.subspan(begin, std::min(kChunk, voxels.size() - begin));
}

// An exponent of all ones is infinity or NaN. Integer arithmetic, so that it vectorizes.
bool AllFiniteIn(std::span<const float> voxels) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t bad = 0;
  for (const float& voxel : voxels) {
    std::uint32_t bits;
    std::memcpy(&bits, &voxel, sizeof(bits));
    bad |= static_cast<std::uint32_t>((bits & kExponent) == kExponent);
  }
  return bad == 0;
}

absl::Status ApplyPointwise(std::vector<Pointwise>& steps, std::span<float> voxels,
                            const Parallel& parallel) {
  if (steps.empty()) return absl::OkStatus();
  const absl::Status status = ParallelFor(parallel, Chunks(voxels), [&](std::int64_t chunk, int) {
    for (const Pointwise& step : steps) step(ChunkOf(voxels, chunk));
  });
  steps.clear();
  return status;
}

Pointwise Linear(float subtract, float divide, float multiply, float add) {
  return [=](std::span<float> voxels) {
    for (float& v : voxels) v = (v - subtract) / divide * multiply + add;
  };
}

Pointwise Clamp(double min, double max) {
  return [low = static_cast<float>(min), high = static_cast<float>(max)](std::span<float> voxels) {
    for (float& v : voxels) {
      const float raised = v < low ? low : v;
      v = raised > high ? high : raised;
    }
  };
}

void AddRange(double from_min, double from_max, double to_min, double to_max, bool clip,
              std::vector<Pointwise>& steps) {
  steps.push_back(Linear(static_cast<float>(from_min), static_cast<float>(from_max - from_min),
                         static_cast<float>(to_max - to_min), static_cast<float>(to_min)));
  if (clip) steps.push_back(Clamp(to_min, to_max));
}

// Sum over chunks in a fixed order; f(chunk) is computed on any thread.
absl::StatusOr<double> SumOverChunks(std::span<float> voxels, const Parallel& parallel,
                                     const std::function<double(std::span<const float>)>& f) {
  std::vector<double> sums(static_cast<std::size_t>(Chunks(voxels)));
  TS_RETURN_IF_ERROR(ParallelFor(parallel, Chunks(voxels), [&](std::int64_t chunk, int) {
    sums[static_cast<std::size_t>(chunk)] = f(ChunkOf(voxels, chunk));
  }));
  double sum = 0;
  for (const double value : sums) sum += value;
  return sum;
}

// `region`: the voxels that count, those that are not 0 among them; empty: as z_score.nonzero says.
absl::Status AddZScore(const v1::ZScore& z_score, std::span<float> voxels,
                       std::span<const std::uint8_t> region, const Parallel& parallel,
                       std::vector<Pointwise>& steps) {
  const bool nonzero = z_score.nonzero();
  double mean = z_score.mean();
  double deviation = std::max(z_score.std(), kSmallestDeviation);
  if (!z_score.has_mean()) {
    const auto counts = [nonzero](float v) { return !nonzero || v != 0; };
    TS_ASSIGN_OR_RETURN(const double counted,
                        SumOverChunks(voxels, parallel, [&](std::span<const float> chunk) {
                          return static_cast<double>(std::count_if(chunk.begin(), chunk.end(), counts));
                        }));
    const double holes =
        region.empty() ? 0 : static_cast<double>(std::count(region.begin(), region.end(), 1)) - counted;
    const double count = counted + holes;
    if (count == 0) return absl::OkStatus();
    // Zeros add nothing to a sum of values.
    TS_ASSIGN_OR_RETURN(const double sum, SumOverChunks(voxels, parallel, [](std::span<const float> chunk) {
                          double of_chunk = 0;
                          for (const float v : chunk) of_chunk += static_cast<double>(v);
                          return of_chunk;
                        }));
    mean = sum / count;
    TS_ASSIGN_OR_RETURN(const double squares,
                        SumOverChunks(voxels, parallel, [&](std::span<const float> chunk) {
                          double of_chunk = 0;
                          for (const float v : chunk) {
                            const double difference = static_cast<double>(v) - mean;
                            of_chunk += counts(v) ? difference * difference : 0.0;
                          }
                          return of_chunk;
                        }));
    deviation = std::sqrt((squares + holes * mean * mean) / count);
    if (deviation == 0) deviation = 1;
  }
  const auto shift = static_cast<float>(mean);
  const auto divisor = static_cast<float>(deviation);
  if (!region.empty()) {
    steps.push_back([=, first = voxels.data()](std::span<float> chunk) {
      const std::uint8_t* inside = region.data() + (chunk.data() - first);
      for (float& v : chunk) v = *inside++ != 0 ? (v - shift) / divisor : 0;
    });
    return absl::OkStatus();
  }
  steps.push_back([=](std::span<float> chunk) {
    for (float& v : chunk) v = nonzero && v == 0 ? v : (v - shift) / divisor;
  });
  return absl::OkStatus();
}

absl::Status AddScaleMinMax(const v1::ScaleMinMax& scale, std::span<float> voxels, const Parallel& parallel,
                            std::vector<Pointwise>& steps) {
  std::vector<float> lows(static_cast<std::size_t>(Chunks(voxels)));
  std::vector<float> highs(lows.size());
  TS_RETURN_IF_ERROR(ParallelFor(parallel, Chunks(voxels), [&](std::int64_t chunk, int) {
    const std::span<const float> values = ChunkOf(voxels, chunk);
    float low = values[0];
    float high = values[0];
    for (const float v : values) {
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    lows[static_cast<std::size_t>(chunk)] = low;
    highs[static_cast<std::size_t>(chunk)] = high;
  }));
  const float low = *std::min_element(lows.begin(), lows.end());
  const float high = *std::max_element(highs.begin(), highs.end());
  const auto to_min = static_cast<float>(scale.to_min());
  if (low == high) {
    steps.push_back([to_min](std::span<float> chunk) {
      for (float& v : chunk) v *= to_min;
    });
  } else {
    steps.push_back(Linear(low, high - low, static_cast<float>(scale.to_max() - scale.to_min()), to_min));
  }
  return absl::OkStatus();
}

absl::Status AddScalePercentiles(const v1::ScalePercentiles& scale, std::span<const float> voxels,
                                 const Parallel& parallel, std::vector<Pointwise>& steps) {
  TS_ASSIGN_OR_RETURN(OrderStatistics ranked, OrderStatistics::Of(voxels, parallel));
  const auto percentile = [&](double q) -> absl::StatusOr<float> {
    const PercentileRank rank = RankOf(q, voxels.size());
    TS_ASSIGN_OR_RETURN(const float below, ranked.At(rank.below, parallel));
    TS_ASSIGN_OR_RETURN(const float above,
                        ranked.At(std::min<std::uint64_t>(rank.below + 1, voxels.size() - 1), parallel));
    return Interpolated(below, above, rank.weight);
  };
  TS_ASSIGN_OR_RETURN(const float low, percentile(scale.lower()));
  TS_ASSIGN_OR_RETURN(const float high, percentile(scale.upper()));
  if (low == high) {
    steps.push_back(Linear(low, 1, 1, static_cast<float>(scale.to_min())));
  } else {
    AddRange(low, high, scale.to_min(), scale.to_max(), scale.clip(), steps);
  }
  return absl::OkStatus();
}

// What the steps of one volume share.
struct Work {
  const at::Tensor& volume;
  const at::Tensor& region;           // as given; undefined: the volume's own
  std::vector<at::Tensor> kept = {};  // read by pending steps
  std::vector<Pointwise> pending = {};
};

std::span<const std::uint8_t> Bytes(const at::Tensor& region) {
  return {region.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(region.numel())};
}

// Sets voxels outside a region to 0.
Pointwise Inside(std::span<const std::uint8_t> region, std::span<float> voxels) {
  return [region, first = voxels.data()](std::span<float> chunk) {
    const std::uint8_t* inside = region.data() + (chunk.data() - first);
    for (float& v : chunk) v = *inside++ != 0 ? v : 0;
  };
}

// The region of a z-score with fill_holes. Outside of it all voxels are 0 from here on.
absl::StatusOr<std::span<const std::uint8_t>> RegionOf(std::span<float> voxels, const Parallel& parallel,
                                                       Work& work) {
  if (work.region.defined()) {
    work.pending.push_back(Inside(Bytes(work.region), voxels));
    TS_RETURN_IF_ERROR(ApplyPointwise(work.pending, voxels, parallel));
    return Bytes(work.region);
  }
  TS_RETURN_IF_ERROR(ApplyPointwise(work.pending, voxels, parallel));
  TS_ASSIGN_OR_RETURN(at::Tensor region, FilledNonzero({&work.volume, 1}, parallel));
  work.kept.push_back(region);
  return Bytes(region);
}

// Appends one step; steps that need statistics have the pending ones carried out first.
absl::Status AddStep(const v1::IntensityStep& step, std::span<float> voxels, const Parallel& parallel,
                     Work& work) {
  std::vector<Pointwise>& pending = work.pending;
  switch (step.step_case()) {
    case v1::IntensityStep::kScaleRange: {
      const v1::ScaleRange& range = step.scale_range();
      AddRange(range.from_min(), range.from_max(), range.to_min(), range.to_max(), range.clip(), pending);
      return absl::OkStatus();
    }
    case v1::IntensityStep::kClip:
      pending.push_back(Clamp(step.clip().min(), step.clip().max()));
      return absl::OkStatus();
    case v1::IntensityStep::kAffine:
      pending.push_back([scale = static_cast<float>(step.affine().scale()),
                         shift = static_cast<float>(step.affine().shift())](std::span<float> chunk) {
        for (float& v : chunk) v = v * scale + shift;
      });
      return absl::OkStatus();
    case v1::IntensityStep::kZScore: {
      std::span<const std::uint8_t> region;
      if (step.z_score().fill_holes()) {
        TS_ASSIGN_OR_RETURN(region, RegionOf(voxels, parallel, work));
      } else {
        TS_RETURN_IF_ERROR(ApplyPointwise(pending, voxels, parallel));
      }
      return AddZScore(step.z_score(), voxels, region, parallel, pending);
    }
    case v1::IntensityStep::kScaleMinMax:
      TS_RETURN_IF_ERROR(ApplyPointwise(pending, voxels, parallel));
      return AddScaleMinMax(step.scale_min_max(), voxels, parallel, pending);
    case v1::IntensityStep::kScalePercentiles:
      TS_RETURN_IF_ERROR(ApplyPointwise(pending, voxels, parallel));
      if (!AllFiniteIn(voxels)) return PreparedNotFinite();  // no order among NaN
      return AddScalePercentiles(step.scale_percentiles(), voxels, parallel, pending);
    case v1::IntensityStep::STEP_NOT_SET:
      break;  // CheckIntensityStep has refused it
  }
  return absl::OkStatus();
}

// Whether `region` can be what a z-score with fill_holes needs; undefined: the volume's own can be found.
bool IsRegionOf(const at::Tensor& region, const at::Tensor& volume) {
  if (!region.defined()) return volume.dim() == 3;
  return region.scalar_type() == at::kByte && region.is_contiguous() && region.sizes() == volume.sizes() &&
         region.device().type() == volume.device().type();
}

}  // namespace

absl::Status ApplyIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            at::Tensor& volume, const Parallel& parallel, const Placement& placement,
                            const at::Tensor& region) {
  if (volume.device().type() != placement.device.type() || volume.scalar_type() != at::kFloat ||
      !volume.is_contiguous() || volume.numel() == 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "INTENSITY_INVALID", "volume",
                       "the volume is not a contiguous float32 array");
  }
  for (int number = 0; number < steps.size(); ++number) {
    TS_RETURN_IF_ERROR(CheckIntensityStep(steps.at(number), number));
    if (steps.at(number).z_score().fill_holes() && !IsRegionOf(region, volume)) {
      return base::Error(absl::StatusCode::kInvalidArgument, "INTENSITY_INVALID", std::to_string(number),
                         "the step needs a volume of three dimensions, or its region");
    }
  }
  return Fenced([&]() -> absl::Status {
    if (!placement.UsesLoops()) return on_device::ApplyIntensity(steps, volume, region, parallel);
    const std::span<float> voxels(volume.mutable_data_ptr<float>(), static_cast<std::size_t>(volume.numel()));
    Work work{volume, region};
    for (const v1::IntensityStep& step : steps) TS_RETURN_IF_ERROR(AddStep(step, voxels, parallel, work));
    std::atomic<bool> finite{true};
    work.pending.push_back([&finite](std::span<float> chunk) {
      if (!AllFiniteIn(chunk)) finite = false;
    });
    TS_RETURN_IF_ERROR(ApplyPointwise(work.pending, voxels, parallel));
    return finite ? absl::OkStatus() : PreparedNotFinite();
  });
}

bool AllFinite(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) return AllFiniteFlag(tensor).item<bool>();
  const at::Tensor dense = tensor.contiguous();
  return AllFiniteIn({dense.const_data_ptr<float>(), static_cast<std::size_t>(dense.numel())});
}

at::Tensor AllFiniteFlag(const at::Tensor& tensor) {
  // One pass without arrays in between: NaN spoils both extremes, infinity is one. ATen counts what one call
  // looks at in 32 bits.
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const auto flag_of = [](const at::Tensor& part) {
    const auto [low, high] = at::aminmax(part);
    return at::isfinite(low).logical_and_(at::isfinite(high));
  };
  if (tensor.numel() <= kMost) return flag_of(tensor);
  const at::Tensor flat = tensor.reshape({-1});
  at::Tensor flag = flag_of(flat.narrow(0, 0, kMost));
  on_device::ForRanges(flat.numel() - kMost, kMost, [&](std::int64_t first, std::int64_t count) {
    flag.logical_and_(flag_of(flat.narrow(0, kMost + first, count)));
  });
  return flag;
}

}  // namespace tomoserve::compute
