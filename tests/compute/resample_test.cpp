#include "tomoserve/compute/resample.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <utility>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/resample.h"
#include "tomoserve/volume/resampling_grid.h"

namespace tomoserve::compute {
namespace {

using testing::Floats;

at::Tensor RandomVolume(std::array<std::int64_t, 3> size, std::uint64_t seed) {
  testing::Random random(seed);
  at::Tensor volume = at::empty({size[0], size[1], size[2]}, at::kFloat);
  for (float& v : Floats(volume)) v = static_cast<float>(random.Between(-1000, 1000));
  return volume;
}

ModelGrid MakeModel(const volume::Geometry& geometry, const char* code, std::array<double, 3> spacing_mm) {
  const volume::Reorientation reorientation = volume::ReorientationTo(geometry, code).value();
  const volume::Geometry reoriented = volume::Reoriented(geometry, reorientation).value();
  return {reorientation, volume::MonaiSpacing(reoriented, spacing_mm).value()};
}

// Trilinear at any position by its definition, in double, border clamped.
double Trilinear(const at::Tensor& volume, const volume::ContinuousVoxel& position) {
  const auto voxels = Floats(volume);
  double sum = 0;
  for (int corner = 0; corner < 8; ++corner) {
    double weight = 1;
    std::array<std::int64_t, 3> at{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const double last = static_cast<double>(volume.size(2 - static_cast<std::int64_t>(axis)) - 1);
      // Conversions through patient space leave noise around whole numbers.
      double x = position.ijk[axis];
      if (std::abs(x - std::round(x)) < 1e-9) x = std::round(x);
      x = std::clamp(x, 0.0, last);
      const bool high = (corner >> axis & 1) != 0;
      const double low = std::floor(x);
      weight *= high ? x - low : 1 - (x - low);
      at[axis] = static_cast<std::int64_t>(std::min(low + (high ? 1 : 0), last));
    }
    sum += weight *
           static_cast<double>(
               voxels[static_cast<std::size_t>((at[2] * volume.size(1) + at[1]) * volume.size(2) + at[0])]);
  }
  return sum;
}

// All 48 ways to lay the patient's axes along i, j, k.
std::vector<std::array<volume::LpsVector, 3>> AllDirections() {
  std::vector<std::array<volume::LpsVector, 3>> all;
  std::array<std::size_t, 3> axes{0, 1, 2};
  do {
    for (int signs = 0; signs < 8; ++signs) {
      std::array<volume::LpsVector, 3> directions{};
      for (std::size_t a = 0; a < 3; ++a) directions[a][axes[a]] = (signs >> a & 1) != 0 ? -1 : 1;
      all.push_back(directions);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
  return all;
}

class ResampleTest : public testing::PlacedTest {
 protected:
  absl::StatusOr<at::Tensor> Resampled(const at::Tensor& source, const GridMap& map,
                                       v1::Interpolation interpolation, int threads = 1) {
    absl::StatusOr<at::Tensor> resampled =
        Resample(Put(source), map, interpolation, {threads, {}}, placement());
    if (!resampled.ok()) return resampled;
    EXPECT_EQ(resampled->device().type(), placement().device.type());
    return resampled->cpu();
  }
};

TEST_P(ResampleTest, EqualsTrilinearThroughPatientSpaceInEveryOrientation) {
  for (const auto& directions : AllDirections()) {
    const auto geometry =
        volume::Geometry::Create({9, 7, 5}, {0.8, 1.1, 2.5}, {{10, -20, 30}}, directions).value();
    const at::Tensor source = RandomVolume({5, 7, 9}, 1);
    const ModelGrid model = MakeModel(geometry, "RAS", {1.5, 0.7, 1.9});
    const auto resampled = Resampled(source, MapToModel(geometry, model), v1::INTERPOLATION_LINEAR);
    ASSERT_TRUE(resampled.ok()) << resampled.status();
    const at::Tensor view = LogicalView(*resampled, model);
    ASSERT_EQ(view.size(0), model.geometry.size_ijk()[0]);
    ASSERT_EQ(view.size(2), model.geometry.size_ijk()[2]);
    for (std::int64_t x = 0; x < view.size(0); ++x) {
      for (std::int64_t y = 0; y < view.size(1); ++y) {
        for (std::int64_t z = 0; z < view.size(2); ++z) {
          const volume::LpsPoint point = model.geometry.ToLps(
              {{static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)}});
          EXPECT_NEAR(view[x][y][z].item<float>(), Trilinear(source, geometry.ToVoxel(point)), 1e-3);
        }
      }
    }
  }
}

TEST_P(ResampleTest, InverseReadsTheModelGridAtTheVolumesVoxels) {
  for (const auto& directions : AllDirections()) {
    const auto geometry =
        volume::Geometry::Create({6, 5, 4}, {0.8, 1.1, 2.5}, {{1, 2, 3}}, directions).value();
    const ModelGrid model = MakeModel(geometry, "LIA", {1.3, 0.7, 0.9});
    const std::array<std::int64_t, 3> size = MemorySize(model);
    // Scores that are linear in patient space: interpolation gives the same function back inside the grid.
    at::Tensor scores = at::empty({size[0], size[1], size[2]}, at::kFloat);
    at::Tensor view = LogicalView(scores, model);
    const auto f = [](const volume::LpsPoint& p) { return 3 * p.mm[0] - 2 * p.mm[1] + p.mm[2]; };
    for (std::int64_t x = 0; x < view.size(0); ++x) {
      for (std::int64_t y = 0; y < view.size(1); ++y) {
        for (std::int64_t z = 0; z < view.size(2); ++z) {
          view[x][y][z] = f(model.geometry.ToLps(
              {{static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)}}));
        }
      }
    }
    const auto back = Resampled(scores, MapToVolume(geometry, model), v1::INTERPOLATION_LINEAR);
    ASSERT_TRUE(back.ok()) << back.status();
    std::size_t at = 0;
    for (int k = 0; k < 4; ++k) {
      for (int j = 0; j < 5; ++j) {
        for (int i = 0; i < 6; ++i, ++at) {
          const volume::LpsPoint point =
              geometry.ToLps({{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}});
          volume::ContinuousVoxel on_model = model.geometry.ToVoxel(point);
          for (std::size_t a = 0; a < 3; ++a) {
            on_model.ijk[a] =
                std::clamp(on_model.ijk[a], 0.0, static_cast<double>(model.geometry.size_ijk()[a] - 1));
          }
          EXPECT_NEAR(Floats(*back)[at], f(model.geometry.ToLps(on_model)), 1e-4);
        }
      }
    }
  }
}

TEST_P(ResampleTest, IdentityCopiesNothing) {
  const auto geometry = testing::AxialGeometry({5, 4, 3}, {1, 1, 1});
  const at::Tensor source = Put(RandomVolume({3, 4, 5}, 2));
  const ModelGrid model{{}, geometry};
  const auto same = Resample(source, MapToModel(geometry, model), v1::INTERPOLATION_LINEAR, {}, placement());
  EXPECT_EQ(same->const_data_ptr(), source.const_data_ptr());
}

TEST(AxisTableTest, NearestRoundsHalfToEvenAndClamps) {
  const AxisTable table = MakeAxisTable(4, 8, 0.5, false, false);
  EXPECT_EQ(table.nearest, (std::vector<std::int32_t>{0, 0, 1, 2, 2, 2, 3, 3}));
  const AxisTable flipped = MakeAxisTable(4, 8, 0.5, true, false);
  EXPECT_EQ(flipped.nearest, (std::vector<std::int32_t>{3, 3, 2, 1, 1, 1, 0, 0}));
  const AxisTable output_flipped = MakeAxisTable(4, 8, 0.5, false, true);
  EXPECT_EQ(output_flipped.nearest, (std::vector<std::int32_t>{3, 3, 2, 2, 2, 1, 0, 0}));
}

TEST(SliceReaderTest, SingleVoxelsEqualWholeSlicesBitForBit) {
  const auto geometry = testing::AxialGeometry({12, 10, 8}, {0.8, 0.8, 2.5});
  const ModelGrid model = MakeModel(geometry, "RAS", {1.5, 1.5, 2});
  const at::Tensor source = RandomVolume(MemorySize(model), 3);
  const GridMap map = MapToVolume(geometry, model);
  for (const auto interpolation : {v1::INTERPOLATION_LINEAR, v1::INTERPOLATION_NEAREST}) {
    const SliceReader reader(Floats(source), map, interpolation);
    std::vector<float> slice(120);
    std::vector<float> scratch;
    for (int k = 0; k < 8; ++k) {
      reader.Read(k, slice, scratch);
      for (int j = 0; j < 10; ++j) {
        for (int i = 0; i < 12; ++i)
          EXPECT_EQ(reader.At(k, j, i), slice[static_cast<std::size_t>(j * 12 + i)]);
      }
    }
  }
}

// Placements mix in the same order and round every operation, so they differ only where a compiler contracts
// a loop's multiplication and addition.
TEST_P(ResampleTest, PlacementsAgreeWithinRounding) {
  const auto geometry = testing::AxialGeometry({40, 41, 33}, {0.8, 0.9, 2.5});
  const at::Tensor source = RandomVolume({33, 41, 40}, 5);
  // The second changes one axis only, the third only flips.
  for (const auto& [code, spacing] :
       std::vector<std::pair<const char*, std::array<double, 3>>>{{"RAS", {1.1, 1.3, 1.7}},
                                                                  {"LPS", {0.8, 0.9, 1}},
                                                                  {"RAI", {0.8, 0.9, 2.5}},
                                                                  {"SPL", {2, 3, 0.7}}}) {
    const ModelGrid model = MakeModel(geometry, code, spacing);
    const GridMap map = MapToModel(geometry, model);
    for (const auto interpolation : {v1::INTERPOLATION_LINEAR, v1::INTERPOLATION_NEAREST}) {
      const auto expected = Resample(source, map, interpolation, {});
      const auto found = Resampled(source, map, interpolation);
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_EQ(found->sizes(), expected->sizes());
      const float largest = found->sub(*expected).abs().max().item<float>();
      EXPECT_LE(largest, interpolation == v1::INTERPOLATION_NEAREST ? 0 : 1e-6f * 2000) << code;
    }
  }
}

TEST_P(ResampleTest, ThreadsDoNotChangeBits) {
  const auto geometry = testing::AxialGeometry({40, 41, 33}, {0.8, 0.9, 2.5});
  const ModelGrid model = MakeModel(geometry, "RAS", {1.1, 1.3, 1.7});
  const at::Tensor source = RandomVolume({33, 41, 40}, 4);
  const GridMap map = MapToModel(geometry, model);
  const auto one = Resampled(source, map, v1::INTERPOLATION_LINEAR, 1);
  const auto two = Resampled(source, map, v1::INTERPOLATION_LINEAR, 2);
  EXPECT_TRUE(one->equal(*two));
}

TEST_P(ResampleTest, LabelsAreReadNearest) {
  const auto geometry = testing::AxialGeometry({6, 5, 4}, {1, 1, 1});
  const ModelGrid model = MakeModel(geometry, "RAS", {2, 2, 2});
  const GridMap map = MapToVolume(geometry, model);
  const std::array<std::int64_t, 3> size = MemorySize(model);
  std::vector<std::uint16_t> source(static_cast<std::size_t>(size[0] * size[1] * size[2]));
  for (std::size_t v = 0; v < source.size(); ++v) source[v] = static_cast<std::uint16_t>(65000 + v);
  std::vector<std::uint16_t> out(120);
  if (placement().UsesLoops()) {
    ASSERT_TRUE(ResampleLabels<std::uint16_t>(source, map, v1::INTERPOLATION_NEAREST, out, {2, {}}).ok());
  } else {
    const on_device::TensorMap tensors(map, v1::INTERPOLATION_NEAREST, placement().device);
    out = testing::LabelsOf<std::uint16_t>(
        tensors.ReadAll(testing::LabelTensor(source, size, placement().device)));
  }
  at::Tensor floats = at::empty({size[0], size[1], size[2]}, at::kFloat);
  std::copy(source.begin(), source.end(), Floats(floats).begin());
  const auto expected = Resample(floats, map, v1::INTERPOLATION_NEAREST, {});
  EXPECT_TRUE(std::equal(out.begin(), out.end(), Floats(*expected).begin()));
}

// As MONAI inverts a label map that was made before its Invertd.
TEST_P(ResampleTest, LabelsReadLinearAreCutToWholeNumbers) {
  const auto geometry = testing::AxialGeometry({7, 6, 5}, {1, 1, 1});
  const ModelGrid model = MakeModel(geometry, "RAS", {1.5, 1.25, 2});
  const GridMap map = MapToVolume(geometry, model);
  const std::array<std::int64_t, 3> size = MemorySize(model);
  std::vector<std::uint8_t> source(static_cast<std::size_t>(size[0] * size[1] * size[2]));
  for (std::size_t v = 0; v < source.size(); ++v) source[v] = static_cast<std::uint8_t>(v * 7 % 3);
  std::vector<std::uint8_t> out(210);
  if (placement().UsesLoops()) {
    ASSERT_TRUE(ResampleLabels<std::uint8_t>(source, map, v1::INTERPOLATION_LINEAR, out, {2, {}}).ok());
  } else {
    const on_device::TensorMap tensors(map, v1::INTERPOLATION_LINEAR, placement().device);
    out = testing::LabelsOf<std::uint8_t>(
        tensors.ReadAll(testing::LabelTensor(source, size, placement().device)));
  }
  at::Tensor floats = at::empty({size[0], size[1], size[2]}, at::kFloat);
  std::copy(source.begin(), source.end(), Floats(floats).begin());
  const auto expected = Resample(floats, map, v1::INTERPOLATION_LINEAR, {});
  EXPECT_TRUE(std::equal(out.begin(), out.end(), Floats(*expected).begin(),
                         [](std::uint8_t label, float value) { return label == std::floor(value); }));
  EXPECT_EQ(std::set<std::uint8_t>(out.begin(), out.end()), (std::set<std::uint8_t>{0, 1, 2}));
}

TEST_P(ResampleTest, RefusesWhatItCannotDo) {
  const auto geometry = testing::AxialGeometry({6, 5, 4}, {1, 1, 1});
  const ModelGrid model = MakeModel(geometry, "RAS", {2, 2, 2});
  const GridMap map = MapToModel(geometry, model);
  EXPECT_EQ(
      base::ReasonOf(Resampled(RandomVolume({4, 5, 6}, 1), map, v1::INTERPOLATION_UNSPECIFIED).status()),
      "INTERPOLATION_UNSUPPORTED");
  EXPECT_EQ(base::ReasonOf(Resampled(RandomVolume({6, 5, 4}, 1), map, v1::INTERPOLATION_LINEAR).status()),
            "RESAMPLE_SHAPE");
}

TS_INSTANTIATE_PLACES(ResampleTest, testing::AllPlaces());

class TensorMapTest : public testing::PlacedTest {};

TEST_P(TensorMapTest, PartsAndSingleVoxelsEqualTheWholeBitForBit) {
  const auto geometry = testing::AxialGeometry({12, 10, 8}, {0.8, 0.8, 2.5});
  for (const std::array<double, 3>& spacing : {std::array<double, 3>{1.5, 1.5, 2}, {0.8, 1.1, 2.5}}) {
    const ModelGrid model = MakeModel(geometry, "LAS", spacing);
    const std::array<std::int64_t, 3> size = MemorySize(model);
    const at::Tensor source =
        Put(RandomVolume({2 * size[0], size[1], size[2]}, 3).view({2, size[0], size[1], size[2]}));
    const GridMap map = MapToVolume(geometry, model);
    for (const auto interpolation : {v1::INTERPOLATION_LINEAR, v1::INTERPOLATION_NEAREST}) {
      const on_device::TensorMap tensors(map, interpolation, placement().device);
      EXPECT_EQ(tensors.size(), (std::array<std::int64_t, 3>{8, 10, 12}));
      const at::Tensor whole = tensors.Read(source, 0, 8);
      EXPECT_TRUE(whole.select(0, 1).equal(tensors.ReadAll(source.select(0, 1))));
      for (const auto& [first, count] : std::vector<std::pair<int, int>>{{0, 1}, {3, 4}, {7, 1}}) {
        EXPECT_TRUE(tensors.Read(source, first, count).equal(whole.narrow(1, first, count)));
      }
      const at::Tensor all = at::arange(8 * 10 * 12, at::TensorOptions(at::kLong).device(placement().device));
      const at::Tensor at_voxels =
          tensors.At(source, {all.floor_divide(120), all.floor_divide(12).remainder(10), all.remainder(12)});
      EXPECT_TRUE(at_voxels.equal(whole.reshape({2, -1})));
    }
  }
}

TS_INSTANTIATE_PLACES(TensorMapTest, testing::TensorPlaces());

}  // namespace
}  // namespace tomoserve::compute
