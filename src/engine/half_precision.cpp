#include "engine/half_precision.h"

#include <ATen/autocast_mode.h>

namespace tomoserve::engine {

HalfPrecision::HalfPrecision(c10::DeviceType device)
    : device_(device),
      was_enabled_(at::autocast::is_autocast_enabled(device)),
      type_before_(at::autocast::get_autocast_dtype(device)),
      cached_before_(at::autocast::is_autocast_cache_enabled()) {
  at::autocast::set_autocast_dtype(device, at::kHalf);
  // The cache only ever holds weights that are being trained.
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_enabled(device, true);
}

HalfPrecision::~HalfPrecision() {
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_cache_enabled(cached_before_);
  at::autocast::set_autocast_dtype(device_, type_before_);
}

}  // namespace tomoserve::engine
