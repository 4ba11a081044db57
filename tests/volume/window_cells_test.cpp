#include "tomoserve/volume/window_cells.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tomoserve::volume {
namespace {

using ::testing::ElementsAre;

TEST(MonaiStartsTest, AreSnappedAndCentred) {
  EXPECT_THAT(MonaiStarts(239, 96, 0.25), ElementsAre(0, 72, 143));
  EXPECT_THAT(MonaiStarts(95, 96, 0.25), ElementsAre(0));
  EXPECT_THAT(MonaiStarts(90, 96, 0.25), ElementsAre(-3));
  EXPECT_THAT(MonaiStarts(96, 96, 0), ElementsAre(0));
}

TEST(CellsOfTest, EndWhereWindowsStartOrEnd) {
  const AxisCells cells = CellsOf(MonaiStarts(239, 96, 0.25), 96, 239);
  // 143 and 168, the snapped window's start and its neighbour's end, and 72 and 96.
  EXPECT_THAT(cells.bounds, ElementsAre(0, 72, 96, 143, 168, 239));
  EXPECT_THAT(cells.first, ElementsAre(0, 0, 1, 1, 2));
  EXPECT_THAT(cells.last, ElementsAre(0, 1, 1, 2, 2));
}

TEST(CellsOfTest, AreNotMuchSmallerThanAWindow) {
  const AxisCells cells = CellsOf(MonaiStarts(1000, 80, 0.9), 80, 1000);
  for (std::size_t cell = 0; cell + 1 < cells.count(); ++cell) EXPECT_GE(cells.Size(cell), 10);
  EXPECT_EQ(cells.first.front(), 0u);
  EXPECT_EQ(cells.last.back() + 1, cells.starts);
}

TEST(CellsOfTest, PaddedWindowsReachBeyondTheAxis) {
  const AxisCells cells = CellsOf(MonaiStarts(5, 16, 0.5), 16, 5);
  EXPECT_THAT(cells.bounds, ElementsAre(0, 5));
  EXPECT_THAT(cells.first, ElementsAre(0));
  EXPECT_THAT(cells.last, ElementsAre(0));
}

// By going through all windows.
std::uint64_t MostOpenByWalking(const std::array<AxisCells, 3>& axes) {
  std::uint64_t most = 0;
  const auto order = [](std::size_t a, std::size_t b, std::size_t c) { return (a * 1000 + b) * 1000 + c; };
  for (std::size_t a = 0; a < axes[0].starts; ++a) {
    for (std::size_t b = 0; b < axes[1].starts; ++b) {
      for (std::size_t c = 0; c < axes[2].starts; ++c) {
        std::int64_t open = 0;
        for (std::size_t x = 0; x < axes[0].count(); ++x) {
          for (std::size_t y = 0; y < axes[1].count(); ++y) {
            for (std::size_t z = 0; z < axes[2].count(); ++z) {
              const bool touched =
                  order(axes[0].first[x], axes[1].first[y], axes[2].first[z]) <= order(a, b, c);
              const bool left = order(axes[0].last[x], axes[1].last[y], axes[2].last[z]) >= order(a, b, c);
              if (touched && left) open += axes[0].Size(x) * axes[1].Size(y) * axes[2].Size(z);
            }
          }
        }
        most = std::max(most, static_cast<std::uint64_t>(open));
      }
    }
  }
  return most;
}

TEST(MostOpenVoxelsTest, EqualsAWalkThroughAllWindows) {
  const auto cells = [](std::int64_t size, std::int64_t window, double overlap) {
    return CellsOf(MonaiStarts(size, window, overlap), window, size);
  };
  for (const double overlap : {0.0, 0.25, 0.5, 0.625, 0.8}) {
    const std::array<AxisCells, 3> axes{cells(50, 16, overlap), cells(37, 12, overlap),
                                        cells(41, 16, overlap)};
    EXPECT_EQ(MostOpenVoxels(axes), MostOpenByWalking(axes)) << overlap;
    const std::array<AxisCells, 3> one_window{cells(9, 16, overlap), cells(12, 12, overlap),
                                              cells(3, 16, overlap)};
    EXPECT_EQ(MostOpenVoxels(one_window), 9u * 12 * 3);
  }
  const std::array<AxisCells, 3> apart{cells(40, 10, 0), cells(30, 10, 0), cells(20, 10, 0)};
  EXPECT_EQ(MostOpenVoxels(apart), 1000u) << "a window at a time";
}

TEST(MostOpenVoxelsTest, LongAxesTakeNoTime) {
  const std::array<AxisCells, 3> axes{CellsOf(MonaiStarts(1 << 20, 2, 0.5), 2, 1 << 20),
                                      CellsOf(MonaiStarts(4, 4, 0), 4, 4),
                                      CellsOf(MonaiStarts(4, 4, 0), 4, 4)};
  EXPECT_EQ(MostOpenVoxels(axes), 2u * 4 * 4);
}

}  // namespace
}  // namespace tomoserve::volume
