#include "tomoserve/compute/open_sums.h"

#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "compute/fixtures.h"
#include "tomoserve/compute/grid_map.h"

namespace tomoserve::compute {
namespace {

struct Case {
  Xyz size;
  Xyz window;
  double overlap;
  bool weighted;
};

ModelGrid Grid(const Xyz& xyz, const volume::Reorientation& reorientation) {
  return {reorientation,
          testing::AxialGeometry({static_cast<std::uint32_t>(xyz[0]), static_cast<std::uint32_t>(xyz[1]),
                                  static_cast<std::uint32_t>(xyz[2])},
                                 {1, 1, 1})};
}

TEST(OpenSumsTest, EqualSumsOfTheWholeVolumeToTheBit) {
  const volume::Reorientation reorientation{.source_axis = {2, 0, 1}, .flip = {true, false, false}};
  for (const Case& c :
       {Case{{37, 20, 25}, {16, 12, 16}, 0.25, true}, Case{{37, 20, 25}, {8, 8, 8}, 0.625, true},
        Case{{7, 30, 16}, {16, 16, 16}, 0.5, true}, Case{{16, 16, 40}, {16, 16, 16}, 0, false}}) {
    const ModelGrid grid = Grid(c.size, reorientation);
    const WindowPlan plan = MonaiWindows(c.size, c.window, c.overlap).value();
    const at::Tensor importance = c.weighted ? GaussianImportance(c.window, 0.125) : at::Tensor();
    const std::array<std::int64_t, 3> size = MemorySize(grid);
    const at::Tensor sums = at::zeros({3, size[0], size[1], size[2]});
    const at::Tensor weights = at::zeros(size);
    at::Tensor sums_view = LogicalView(sums, grid);
    at::Tensor weights_view = LogicalView(weights, grid);
    AddWeights(plan, importance, weights_view);
    OpenSums open(c.size, plan, 3, importance, true);
    std::int64_t final_voxels = 0;
    std::vector<FinalCell> cells;
    for (std::uint32_t window = 0; window < plan.starts.size(); ++window) {
      // As of a network whose axes are Z, X, Y.
      const at::Tensor output = at::rand({3, c.window[2], c.window[0], c.window[1]}).permute({0, 2, 3, 1});
      AddWindow(output.clone(), importance, plan.starts[window], sums_view);
      open.Add(window, output, [&](FinalCell cell) { cells.push_back(std::move(cell)); });
    }
    for (const FinalCell& cell : cells) {
      at::Tensor expected = sums_view;
      at::Tensor expected_weights = weights_view;
      for (std::int64_t axis = 0; axis < 3; ++axis) {
        const std::int64_t begin = cell.begin[static_cast<std::size_t>(axis)];
        expected = expected.narrow(axis + 1, begin, cell.sums.size(axis + 1));
        expected_weights = expected_weights.narrow(axis, begin, cell.sums.size(axis + 1));
      }
      EXPECT_TRUE(cell.sums.is_non_overlapping_and_dense());
      EXPECT_EQ(cell.sums.strides().slice(1), cell.weights.strides());
      EXPECT_TRUE(cell.sums.equal(expected));
      EXPECT_TRUE(cell.weights.equal(expected_weights));
      final_voxels += cell.weights.numel();
    }
    EXPECT_EQ(final_voxels, weights.numel()) << "each voxel once";
    EXPECT_EQ(open.open_voxels(), 0u);
  }
}

TEST(OpenSumsTest, HoldOnlyWhatLaterWindowsAddTo) {
  const WindowPlan plan = MonaiWindows({60, 60, 60}, {16, 16, 16}, 0.25).value();
  OpenSums open({60, 60, 60}, plan, 2, {}, false);
  for (std::uint32_t window = 0; window < plan.starts.size(); ++window) {
    open.Add(window, at::zeros({2, 16, 16, 16}),
             [](const FinalCell& cell) { EXPECT_FALSE(cell.weights.defined()); });
  }
  std::array<volume::AxisCells, 3> axes;
  for (volume::AxisCells& axis : axes) axis = volume::CellsOf(volume::MonaiStarts(60, 16, 0.25), 16, 60);
  EXPECT_LE(open.most_open_voxels(), volume::MostOpenVoxels(axes));
  // The planes that the next windows along x overlap, and one row of windows.
  EXPECT_LT(volume::MostOpenVoxels(axes), 60u * 60 * 60 / 5);
}

}  // namespace
}  // namespace tomoserve::compute
