#include "dispatch/helper_limits.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::uint64_t kDefaultInstanceBytes = 512ull << 20;
constexpr std::uint64_t kCopies = 3;

}  // namespace

void SetHelperLimits(const config::v1::Limits& limits, ipc::HelperPoolOptions& helpers) {
  helpers.limits.set_instance_bytes(limits.instance_bytes());
  helpers.limits.set_nesting(limits.nesting());
  helpers.limits.set_elements(limits.elements());
  helpers.limits.set_pixel_bytes(limits.pixel_bytes());
  helpers.limits.set_deflated(limits.deflated());
  if (limits.instance_bytes() > kDefaultInstanceBytes) {
    helpers.memory_bytes += kCopies * (limits.instance_bytes() - kDefaultInstanceBytes);
  }
}

}  // namespace tomoserve::dispatch
