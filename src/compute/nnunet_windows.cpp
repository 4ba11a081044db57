#include "tomoserve/compute/nnunet_windows.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "WINDOW_INVALID", field, text);
}

// Starts along one axis, counted in the unpadded volume. Empty where there would be too many.
std::vector<std::int64_t> Starts(std::int64_t volume, std::int64_t window, double overlap) {
  const std::int64_t padded = std::max(volume, window);
  const std::int64_t pad_before = (padded - volume) / 2;
  // Windows of one slice, of a network of two dimensions, do not overlap along z.
  const double step = window == 1 ? 1 : static_cast<double>(window) * (1 - overlap);
  const double count = std::ceil(static_cast<double>(padded - window) / step) + 1;
  if (!(count <= static_cast<double>(kMaxWindows))) return {};
  const double distance = count > 1 ? static_cast<double>(padded - window) / (count - 1) : 0;
  std::vector<std::int64_t> starts;
  for (double number = 0; number < count; ++number) {
    // nearbyint rounds half to even in the default rounding mode.
    starts.push_back(static_cast<std::int64_t>(std::nearbyint(distance * number)) - pad_before);
  }
  return starts;
}

// SciPy's Gaussian filter of a one in the middle.
std::vector<double> Profile(std::int64_t size, double sigma_scale) {
  const double sigma = static_cast<double>(size) * sigma_scale;
  const auto radius = static_cast<std::int64_t>(4 * sigma + 0.5);
  const auto weight = [&](std::int64_t x) {
    const auto distance = static_cast<double>(x);
    return std::exp(-0.5 / (sigma * sigma) * distance * distance);
  };
  double sum = 0;
  for (std::int64_t x = -radius; x <= radius; ++x) sum += weight(x);
  std::vector<double> profile(static_cast<std::size_t>(size));
  for (std::int64_t x = 0; x < size; ++x) {
    const std::int64_t distance = x - size / 2;
    profile[static_cast<std::size_t>(x)] = std::abs(distance) <= radius ? weight(distance) / sum : 0;
  }
  return profile;
}

}  // namespace

absl::StatusOr<WindowPlan> NnunetWindows(const Xyz& volume_size, const Xyz& window_size, double overlap,
                                         const std::array<std::size_t, 3>& slowest_first) {
  if (!(overlap > 0 && overlap < 1)) return Invalid("overlap", "the overlap is not in (0, 1)");
  std::array<std::vector<std::int64_t>, 3> starts;
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (window_size[axis] < 1 || volume_size[axis] < 1) return Invalid("size", "a size is zero");
    starts[axis] = Starts(volume_size[axis], window_size[axis], overlap);
    count *= starts[axis].empty() ? kMaxWindows + 1 : static_cast<std::int64_t>(starts[axis].size());
    if (count > kMaxWindows) {
      return base::Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_WINDOWS", std::to_string(count),
                         "the volume would be cut into too many windows");
    }
  }
  WindowPlan plan{window_size, {}, window_size, {}};
  plan.starts.reserve(static_cast<std::size_t>(count));
  const auto [slow, middle, fast] = slowest_first;
  Xyz start{};
  for (const std::int64_t s : starts[slow]) {
    start[slow] = s;
    for (const std::int64_t m : starts[middle]) {
      start[middle] = m;
      for (const std::int64_t f : starts[fast]) {
        start[fast] = f;
        plan.starts.push_back(start);
      }
    }
  }
  return plan;
}

at::Tensor NnunetImportance(const Xyz& size, double sigma_scale) {
  constexpr double kLargest = 10;
  std::array<std::vector<double>, 3> profiles;
  double largest = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    profiles[axis] = Profile(size[axis], sigma_scale);
    largest *= *std::max_element(profiles[axis].begin(), profiles[axis].end());
  }
  const at::Tensor map = at::empty({size[0], size[1], size[2]}, at::kFloat);
  float* weight = map.mutable_data_ptr<float>();
  for (const double x : profiles[0]) {
    for (const double y : profiles[1]) {
      for (const double z : profiles[2]) *weight++ = static_cast<float>(z * y * x / (largest / kLargest));
    }
  }
  RoundToHalf(map);
  float* const begin = map.mutable_data_ptr<float>();
  float smallest = std::numeric_limits<float>::infinity();
  for (const float* w = begin; w != weight; ++w) smallest = *w != 0 ? std::min(smallest, *w) : smallest;
  std::replace(begin, weight, 0.0f, smallest);
  return map;
}

void RoundToHalf(const at::Tensor& values) { values.copy_(values.to(at::kHalf)); }

void AddWindowInHalf(const at::Tensor& window, const at::Tensor& importance, const Xyz& start,
                     at::Tensor& sums) {
  AddWindow(window, importance, start, sums);
  RoundToHalf(Covered(sums, start, {window.size(1), window.size(2), window.size(3)}));
}

void AddWeightsInHalf(const WindowPlan& plan, const at::Tensor& importance, at::Tensor& weights) {
  WindowPlan one{plan.size, {{}}, plan.output_size, plan.output_offset};
  for (const Xyz& start : plan.starts) {
    one.starts[0] = start;
    AddWeights(one, importance, weights);
    RoundToHalf(Covered(weights, start, plan.output_size));
  }
}

}  // namespace tomoserve::compute
