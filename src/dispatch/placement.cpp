#include "dispatch/placement.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace tomoserve::dispatch {
namespace {

// Predictions are no better than this.
constexpr double kAboutTheSame = 1.1;

double EndOf(const Outlook& device) { return device.backlog_seconds + device.run_seconds; }

}  // namespace

std::optional<std::size_t> WorkerThatEndsFirst(std::span<const Outlook> devices) {
  const bool known = std::all_of(devices.begin(), devices.end(),
                                 [](const Outlook& device) { return device.run_seconds > 0; });
  double earliest = std::numeric_limits<double>::infinity();
  for (const Outlook& device : devices) earliest = std::min(earliest, EndOf(device));
  const Outlook* best = nullptr;
  for (const Outlook& device : devices) {
    if (known && EndOf(device) > kAboutTheSame * earliest) continue;
    const auto key = [](const Outlook& other) { return std::tuple(!other.has_room, other.runs); };
    if (best == nullptr || key(device) < key(*best)) best = &device;
  }
  return best == nullptr ? std::nullopt : std::optional(best->worker);
}

}  // namespace tomoserve::dispatch
