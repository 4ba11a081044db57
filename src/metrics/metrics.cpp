#include "tomoserve/metrics/metrics.h"

#include <prometheus/text_serializer.h>

#include <chrono>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "metrics/recorder.h"
#include "metrics/snapshot.h"

namespace tomoserve::metrics {
namespace {

constexpr std::chrono::seconds kPatience{1};

class MetricsImpl final : public Metrics {
 public:
  explicit MetricsImpl(std::string_view build) : build_(build) {}

  dispatch::Observer& observer() override { return recorder_; }

  std::string Text(dispatch::Dispatcher& dispatcher) override {
    std::optional<dispatch::Activity> activity;
    if (auto observed = dispatcher.Observe(kPatience); observed.ok()) activity = *std::move(observed);
    for (const dispatch::DeviceInfo& device : dispatcher.Devices()) recorder_.AddDevice(device.device);
    std::vector<prometheus::MetricFamily> families = recorder_.Collect();
    const auto add = [&families](std::vector<prometheus::MetricFamily> more) {
      std::move(more.begin(), more.end(), std::back_inserter(families));
    };
    add(ActivityFamilies(activity, dispatcher.ready()));
    add({BuildFamily(build_)});
    add(ProcessFamilies());
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  const std::string build_;
  Recorder recorder_;
};

}  // namespace

std::unique_ptr<Metrics> CreateMetrics(std::string_view build) {
  return std::make_unique<MetricsImpl>(build);
}

}  // namespace tomoserve::metrics
