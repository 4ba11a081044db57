// Random numbers that are the same on every machine. Private to the room.
#pragma once

#include <cstdint>
#include <vector>

namespace tomoserve::phantom {

// SplitMix64's output function (Steele, Lea, Flood 2014): a good hash of 64 bits.
std::uint64_t Mix(std::uint64_t state);

// SplitMix64 stream.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next();
  // Uniform in [low, high).
  double Between(double low, double high);

 private:
  std::uint64_t state_;
};

// Unit normal noise, a function of seed and voxel number only. Values are the 65536 quantiles of the normal
// distribution, so the tails end at 4.3 standard deviations.
class NormalNoise {
 public:
  explicit NormalNoise(std::uint64_t seed);
  // Noise of voxels 4*block to 4*block + 3.
  void Block(std::uint64_t block, float out[4]) const;

 private:
  std::uint64_t seed_;
  std::vector<float> quantiles_;
};

}  // namespace tomoserve::phantom
