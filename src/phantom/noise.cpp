#include "phantom/noise.h"

#include <cmath>

namespace tomoserve::phantom {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ull;
constexpr unsigned kQuantiles = 1u << 16;

// Natural logarithm from exact operations only: the C library's differs in the last bit between machines.
double Log(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // [0.5, 1)
  if (mantissa < 0.70710678118654752) {
    mantissa *= 2;
    --exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1);
  const double square = s * s;
  double sum = 0;
  double power = s;
  for (int n = 1; n < 30; n += 2) {
    sum += power / n;
    power *= square;
  }
  return 2 * sum + exponent * 0.69314718055994531;
}

// Quantile of the normal distribution for 0 < p <= 0.5, relative error 1.2e-9 (P. J. Acklam's rational
// approximation, 2003).
double LowerQuantile(double p) {
  if (p < 0.02425) {
    const double q = std::sqrt(-2 * Log(p));
    return (((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838) * q -
              2.549732539343734) *
                 q +
             4.374664141464968) *
                q +
            2.938163982698783) /
           ((((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996) * q +
             3.754408661907416) *
                q +
            1);
  }
  const double q = p - 0.5;
  const double r = q * q;
  return (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
            1.383577518672690e+02) *
               r -
           3.066479806614716e+01) *
              r +
          2.506628277459239) *
         q /
         (((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
            6.680131188771972e+01) *
               r -
           1.328068155288572e+01) *
              r +
          1);
}

}  // namespace

std::uint64_t Mix(std::uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ull;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBull;
  return state ^ (state >> 31);
}

std::uint64_t Random::Next() { return Mix(state_ += kGolden); }

double Random::Between(double low, double high) {
  return low + (high - low) * (static_cast<double>(Next() >> 11) * 0x1p-53);
}

NormalNoise::NormalNoise(std::uint64_t seed) : seed_(Mix(seed + kGolden)), quantiles_(kQuantiles) {
  for (unsigned n = 0; n < kQuantiles / 2; ++n) {
    const double quantile = LowerQuantile((n + 0.5) / kQuantiles);
    quantiles_[n] = static_cast<float>(quantile);
    quantiles_[kQuantiles - 1 - n] = static_cast<float>(-quantile);
  }
}

void NormalNoise::Block(std::uint64_t block, float out[4]) const {
  const std::uint64_t bits = Mix(seed_ + block * kGolden);
  for (int n = 0; n < 4; ++n) out[n] = quantiles_[(bits >> (16 * n)) & (kQuantiles - 1)];
}

}  // namespace tomoserve::phantom
