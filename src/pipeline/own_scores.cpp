#include "pipeline/own_scores.h"

#include <algorithm>
#include <cstddef>

#include "pipeline/decode_rules.h"

namespace tomoserve::pipeline {
namespace {

// What a label as it is made is called after all merges.
std::uint32_t Merged(const v1::Recipe& recipe, std::uint32_t label) {
  for (const v1::DecodeStep& step : recipe.decode()) {
    const auto& from = step.merge_labels().from();
    if (std::find(from.begin(), from.end(), label) != from.end()) label = step.merge_labels().into();
  }
  return label;
}

bool MakesByArgMax(const v1::Recipe& recipe) {
  return std::any_of(recipe.decode().begin(), recipe.decode().end(),
                     [](const v1::DecodeStep& step) { return step.has_arg_max(); });
}

bool HasRule(const v1::Recipe& recipe, std::uint32_t label) {
  return std::any_of(recipe.findings().begin(), recipe.findings().end(),
                     [label](const v1::FindingRule& rule) { return rule.label() == label; });
}

}  // namespace

std::vector<std::vector<std::int64_t>> ChannelsOfMadeLabels(const v1::Recipe& recipe) {
  std::vector<std::uint32_t> made;
  if (MakesByArgMax(recipe)) {
    for (std::uint32_t channel = 1; channel < recipe.network().output_channels(); ++channel) {
      made.push_back(ArgMaxLabel(recipe, channel));
    }
  } else {
    for (const v1::Label& label : recipe.labels()) made.push_back(label.value());
  }
  std::vector<std::vector<std::int64_t>> channels(std::size_t{1} << 16);
  for (const std::uint32_t label : made) {
    if (label >= channels.size()) continue;  // refused by Finish
    const std::uint32_t merged = Merged(recipe, label);
    if (HasRule(recipe, merged)) channels[label] = ScoreChannelsOf(recipe, merged);
  }
  return channels;
}

void SetOwnScores(const std::vector<std::vector<std::int64_t>>& channels_of, std::span<const float> scores,
                  std::int64_t channel_stride, std::span<const std::uint16_t> labels, float* own) {
  const auto at = [&](std::int64_t channel, std::size_t voxel) {
    return scores[static_cast<std::size_t>(channel * channel_stride) + voxel];
  };
  for (std::size_t v = 0; v < labels.size(); ++v) {
    const std::vector<std::int64_t>& channels = channels_of[labels[v]];
    if (channels.empty()) continue;
    own[v] = at(channels[0], v);
    for (const std::int64_t channel : channels) own[v] = std::max(own[v], at(channel, v));
  }
}

}  // namespace tomoserve::pipeline
