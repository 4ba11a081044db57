#include "tomoserve/volume/hounsfield.h"

#include "absl/strings/str_format.h"

namespace tomoserve::volume {
namespace {

constexpr double kMinTissueOfBody = 0.15;
constexpr double kMaxDenseOfAll = 0.25;

double Share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

HounsfieldCounts& HounsfieldCounts::operator+=(const HounsfieldCounts& other) {
  all += other.all;
  body += other.body;
  tissue += other.tissue;
  dense += other.dense;
  return *this;
}

std::optional<std::string> WhyNotHounsfield(const HounsfieldCounts& counts) {
  const double tissue = Share(counts.tissue, counts.body);
  if (tissue < kMinTissueOfBody) return absl::StrFormat("tissue %.2g", tissue);
  const double dense = Share(counts.dense, counts.all);
  if (dense > kMaxDenseOfAll) return absl::StrFormat("dense %.2g", dense);
  return std::nullopt;
}

}  // namespace tomoserve::volume
