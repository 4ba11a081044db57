// Short ways to what BuildStudy found.
#pragma once

#include <gmock/gmock.h>

#include <cstdint>
#include <vector>

#include "tomoserve/series/study_series.h"

namespace tomoserve::series {

inline Volume OnlyVolume(const std::vector<Instance>& instances) {
  const StudySeries study = BuildStudy(instances);
  EXPECT_THAT(study.series, ::testing::SizeIs(1));
  if (study.series.size() != 1) return {};
  EXPECT_THAT(study.series[0].volumes, ::testing::SizeIs(1));
  return study.series[0].volumes.empty() ? Volume{} : study.series[0].volumes[0];
}

inline std::vector<std::uint32_t> Indices(const Volume& volume) {
  std::vector<std::uint32_t> indices;
  for (const VolumeSlice& slice : volume.slices) indices.push_back(slice.index);
  return indices;
}

}  // namespace tomoserve::series
