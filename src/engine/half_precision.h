// Half precision for the calling thread.
#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace tomoserve::engine {

// While it lives, convolutions and matrix products on this kind of device take and give IEEE half precision
// and everything that LibTorch lists as sensitive (sums, layer and group norms, softmax, exponentials) in
// float32: "autocast". Weights stay float32. Scripted networks obey too. Not copyable; confined to its
// thread.
class HalfPrecision {
 public:
  explicit HalfPrecision(c10::DeviceType device);
  ~HalfPrecision();
  HalfPrecision(const HalfPrecision&) = delete;
  HalfPrecision& operator=(const HalfPrecision&) = delete;

 private:
  const c10::DeviceType device_;
  const bool was_enabled_;
  const c10::ScalarType type_before_;
  const bool cached_before_;
};

}  // namespace tomoserve::engine
