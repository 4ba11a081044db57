#include "apps/tomoserve_worker/networks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/models/parts.h"

namespace tomoserve::worker {
namespace {

// The error of a part says whose it is.
absl::Status OfPart(const v1::Recipe& recipe, std::size_t part, const absl::Status& error) {
  if (!models::IsComposite(recipe)) return error;
  return base::Error(
      error.code(), base::ReasonOf(error), base::ValueOf(error),
      "part " + recipe.network().parts(static_cast<int>(part)).name() + ": " + std::string(error.message()));
}

void KeepCommon(std::vector<std::uint32_t>& sizes, const std::vector<std::uint32_t>& others) {
  std::erase_if(sizes, [&](std::uint32_t size) {
    return std::find(others.begin(), others.end(), size) == others.end();
  });
}

// `bucket` is one of its own.
double MsIn(const WarmNetwork& network, std::uint32_t bucket) {
  const auto known = std::find(network.buckets.begin(), network.buckets.end(), bucket);
  return network.bucket_ms[static_cast<std::size_t>(known - network.buckets.begin())];
}

}  // namespace

absl::StatusOr<Networks> LoadNetworks(std::span<const int> files, const v1::Recipe& recipe,
                                      std::span<const std::string> sha256,
                                      const engine::ComputeDevice& device) {
  const std::size_t wanted = models::NetworkFiles(recipe).size();
  if (files.size() != wanted || sha256.size() != wanted) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "file_sha256",
                       "not as many descriptors and digests as the recipe has files");
  }
  Networks networks;
  std::size_t begin = 0;
  for (std::size_t part = 0; part < models::NetworkCount(recipe); ++part) {
    const v1::Recipe of_part = models::NetworkRecipe(recipe, part);
    const auto count = static_cast<std::size_t>(of_part.network().files_size());
    auto network =
        engine::Network::Load(files.subspan(begin, count), of_part, sha256.subspan(begin, count), device);
    if (!network.ok()) return OfPart(recipe, part, network.status());
    networks.push_back(*std::move(network));
    begin += count;
  }
  return networks;
}

WarmNetwork Together(const std::vector<WarmNetwork>& networks) {
  WarmNetwork all = networks.front();
  for (const WarmNetwork& network : std::span(networks).subspan(1)) {
    KeepCommon(all.buckets, network.buckets);
    KeepCommon(all.proved, network.proved);
    all.all_tried = all.all_tried && network.all_tried;
    all.forward_bytes = std::max(all.forward_bytes, network.forward_bytes);
    if (all.not_proved.ok()) all.not_proved = network.not_proved;
  }
  all.bucket_ms.clear();
  for (const std::uint32_t bucket : all.buckets) {
    double ms = 0;
    for (const WarmNetwork& network : networks) ms += MsIn(network, bucket);
    all.bucket_ms.push_back(ms / static_cast<double>(networks.size()));
  }
  all.ms_per_window = all.bucket_ms.back();
  return all;
}

absl::StatusOr<WarmNetwork> WarmUpAll(const Networks& networks, const v1::Recipe& recipe,
                                      executor::Executor& lanes, const BucketChoice& choice) {
  std::vector<WarmNetwork> all;
  for (std::size_t part = 0; part < networks.size(); ++part) {
    auto warm = WarmUp(*networks[part], models::NetworkRecipe(recipe, part), lanes, choice);
    if (!warm.ok()) return OfPart(recipe, part, warm.status());
    all.push_back(*std::move(warm));
  }
  return Together(all);
}

}  // namespace tomoserve::worker
