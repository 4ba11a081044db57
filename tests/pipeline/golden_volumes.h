// Series that golden cases were made from, as runs take them. Geometries as the cases state them (case.json
// "geometry").
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "compute/fixtures.h"
#include "golden_series.h"

namespace tomoserve::testing {

// A series in memory.
struct Series {
  volume::Geometry geometry;
  std::vector<StackSlice> slices;

  std::vector<compute::StoredSlice> Slices() const {
    std::vector<compute::StoredSlice> stored;
    for (const StackSlice& slice : slices) {
      stored.push_back(
          {std::as_bytes(std::span(slice.stored)), ipc::v1::STORED_TYPE_U16, slice.slope, slice.intercept});
    }
    return stored;
  }
};

inline Series ReadChestSeries() {
  ChestCt ct = ReadChestCt();
  Series series{ct.geometry, {}};
  for (CtSlice& slice : ct.series) {
    series.slices.push_back({{}, slice.slope, slice.intercept, std::move(slice.stored)});
  }
  return series;
}

inline Series ReadAbdomenSeries() {
  return {AxialGeometry({512, 512, 20}, {0.9765625, 0.9765625, 2.0}, {-249.51171875, -437.51171875, -804.5}),
          ReadStack(FilesOfFolder(TestData() / "dicom" / "totalseg_ct"), {0, 0, 1})};
}

}  // namespace tomoserve::testing
