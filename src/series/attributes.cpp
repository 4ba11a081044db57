#include "series/attributes.h"

#include <cmath>

#include "absl/strings/str_join.h"

namespace tomoserve::series {
namespace {

template <typename Value>
Key Number(bool present, Value value) {
  const auto number = static_cast<double>(value);
  return {present && std::isfinite(number) ? std::vector<double>{number} : std::vector<double>{}, ""};
}

// Directions written with rounding are the same.
Key Direction(const google::protobuf::RepeatedField<double>& direction) {
  Key key;
  for (const double value : direction) {
    if (!std::isfinite(value)) return {};
    key.first.push_back(std::round(value * 1e4) + 0.0);
  }
  return key;
}

constexpr Attribute kAttributes[] = {
    {"temporal_position", /*time=*/2,
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_temporal_position(), f->temporal_position())
                           : Number(c.header().has_temporal_position(), c.header().temporal_position());
     }},
    {"acquisition_number", /*time=*/1,
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_acquisition_number(), f->acquisition_number())
                           : Number(c.header().has_acquisition_number(), c.header().acquisition_number());
     }},
    {"echo_time", 0,
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_echo_time_ms(), f->echo_time_ms())
                           : Number(c.header().has_echo_time_ms(), c.header().echo_time_ms());
     }},
    {"echo_number", 0,
     [](const Candidate& c) {
       return Number(c.functional == nullptr && c.header().has_echo_number(), c.header().echo_number());
     }},
    {"b_value", 0,
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_diffusion_b_value(), f->diffusion_b_value())
                           : Number(c.header().has_diffusion_b_value(), c.header().diffusion_b_value());
     }},
    {"diffusion_direction", 0,
     [](const Candidate& c) {
       return Direction(c.functional != nullptr ? c.functional->diffusion_direction()
                                                : c.header().diffusion_direction());
     }},
    {"image_type", 0, [](const Candidate& c) { return Key({}, absl::StrJoin(c.ImageType(), "\\")); }},
    {"complex_image_component", 0,
     [](const Candidate& c) {
       return Key({}, c.functional != nullptr ? c.functional->complex_image_component() : "");
     }},
    {"trigger_time", /*time=*/3,
     [](const Candidate& c) {
       const auto time = c.TriggerTimeMs();
       return Number(time.has_value(), time.value_or(0));
     }},
    {"stack_id", 0,
     [](const Candidate& c) { return Key({}, c.functional != nullptr ? c.functional->stack_id() : ""); }},
    {"convolution_kernel", 0, [](const Candidate& c) { return Key({}, c.ConvolutionKernel()); }},
};

}  // namespace

std::span<const Attribute> Attributes() { return kAttributes; }

}  // namespace tomoserve::series
