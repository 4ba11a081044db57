// The chest CT prepared and brought back as MONAI does it.
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <tuple>

#include "compute/places.h"
#include "tomoserve/compute/enclosed_air.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/on_device/resample.h"
#include "tomoserve/compute/resample.h"
#include "tomoserve/volume/resampling_grid.h"

namespace tomoserve::compute {
namespace {

using testing::Floats;
using testing::NpyArray;

struct Case {
  const char* name;
  std::array<double, 3> spacing_mm;
  std::array<std::int64_t, 3> expected_size;
};

struct Prepared {
  volume::Geometry volume;
  ModelGrid model;
  at::Tensor values;
};

v1::Preparation PreparationOf(const std::string& name) {
  v1::Preparation preparation;
  if (name == "a_spleen_like") {
    v1::ScaleRange& range = *preparation.add_intensity()->mutable_scale_range();
    range.set_from_min(-57);
    range.set_from_max(164);
    range.set_to_max(1);
    range.set_clip(true);
  } else {
    preparation.add_intensity()->mutable_z_score()->set_nonzero(true);
    v1::ScaleMinMax& scale = *preparation.add_intensity()->mutable_scale_min_max();
    scale.set_to_min(-1);
    scale.set_to_max(1);
  }
  return preparation;
}

ModelGrid RasGrid(const volume::Geometry& volume, std::array<double, 3> spacing_mm) {
  const auto reorientation = volume::ReorientationTo(volume, "RAS").value();
  return {reorientation,
          volume::MonaiSpacing(volume::Reoriented(volume, reorientation).value(), spacing_mm).value()};
}

Prepared Prepare(const std::string& name, std::array<double, 3> spacing_mm, const Placement& placement) {
  const testing::ChestCt ct = testing::ReadChestCt();
  const Parallel parallel{2, {}};
  const ModelGrid model = RasGrid(ct.geometry, spacing_mm);
  at::Tensor volume = StoredToFloat(ct.Slices(), ct.geometry.size_ijk(), parallel, placement).value();
  at::Tensor values =
      Resample(volume, MapToModel(ct.geometry, model), v1::INTERPOLATION_LINEAR, parallel, placement).value();
  EXPECT_TRUE(ApplyIntensity(PreparationOf(name).intensity(), values, parallel, placement).ok());
  return {ct.geometry, model, values.cpu()};
}

float LargestDifference(const at::Tensor& view, const NpyArray& golden) {
  const at::Tensor dense = view.contiguous();
  const auto expected = golden.As<float>();
  EXPECT_EQ(expected.size(), static_cast<std::size_t>(dense.numel()));
  float largest = 0;
  for (std::size_t v = 0; v < expected.size(); ++v) {
    largest = std::max(largest, std::abs(Floats(dense)[v] - expected[v]));
  }
  return largest;
}

// The box of `view` that a crop with its start covers.
at::Tensor CropOf(at::Tensor view, const NpyArray& crop, const NpyArray& start) {
  const auto begin = start.As<std::int64_t>();
  const std::int64_t spatial = static_cast<std::int64_t>(begin.size());
  for (std::int64_t axis = 0; axis < spatial; ++axis) {
    const std::int64_t size = crop.shape[crop.shape.size() - begin.size() + static_cast<std::size_t>(axis)];
    view = view.narrow(view.dim() - spatial + axis, begin[static_cast<std::size_t>(axis)], size);
  }
  return view;
}

class GoldenPreparation : public ::testing::TestWithParam<std::tuple<Case, testing::Place>> {};

TEST_P(GoldenPreparation, NetworkInputEqualsMonai) {
  const auto& [golden_case, place] = GetParam();
  if (place.placement.device.is_cuda()) TS_SKIP_WITHOUT_CUDA();
  const auto file = testing::Reference() / golden_case.name / "intermediate.npz";
  TS_SKIP_WITHOUT(file);
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  const auto golden = testing::ReadNpz(file);
  const Prepared prepared = Prepare(golden_case.name, golden_case.spacing_mm, place.placement);
  const at::Tensor view = LogicalView(prepared.values, prepared.model);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    EXPECT_EQ(view.size(static_cast<std::int64_t>(axis)), golden_case.expected_size[axis]);
  }
  EXPECT_LT(LargestDifference(CropOf(view, golden.at("pre_crop"), golden.at("pre_crop_start")),
                              golden.at("pre_crop")),
            2e-5f);
  at::Tensor strided = view;
  for (std::int64_t axis = 0; axis < 3; ++axis) strided = strided.slice(axis, 0, view.size(axis), 8);
  EXPECT_LT(LargestDifference(strided, golden.at("pre_stride8")), 2e-5f);
}

INSTANTIATE_TEST_SUITE_P(
    Monai, GoldenPreparation,
    ::testing::Combine(::testing::Values(Case{"a_spleen_like", {1.5, 1.5, 2}, {288, 288, 158}},
                                         Case{"b_wholebody_like", {3, 3, 3}, {144, 144, 106}}),
                       ::testing::ValuesIn(testing::AllPlaces())),
    [](const ::testing::TestParamInfo<std::tuple<Case, testing::Place>>& golden) {
      return std::string(std::get<0>(golden.param).name) + "_" + std::get<1>(golden.param).name;
    });

class GoldenInversionTest : public testing::PlacedTest {};

TEST_P(GoldenInversionTest, NearestLabelsEqualMonai) {
  const auto folder = testing::Reference() / "b_wholebody_like";
  TS_SKIP_WITHOUT(folder);
  const NpyArray xyz = testing::ReadNpz(folder / "intermediate.npz").at("model_grid_labels_xyz");
  const auto expected = testing::ReadNpz(folder / "labels.npz").at("labels_kji").As<std::uint8_t>();
  const auto volume = testing::AxialGeometry({512, 512, 64}, {0.841796875, 0.841796875, 5.0},
                                             {-228.036842, -93.0631599, -439.0});
  const ModelGrid model = RasGrid(volume, {3, 3, 3});
  // [x][y][z] into memory order, which for an axial volume is [z][y][x].
  std::vector<std::uint8_t> labels(xyz.bytes.size());
  const auto from = xyz.As<std::uint8_t>();
  std::size_t at = 0;
  for (std::int64_t x = 0; x < 144; ++x) {
    for (std::int64_t y = 0; y < 144; ++y) {
      for (std::int64_t z = 0; z < 106; ++z, ++at)
        labels[static_cast<std::size_t>((z * 144 + y) * 144 + x)] = from[at];
    }
  }
  std::vector<std::uint8_t> out(expected.size());
  const GridMap map = MapToVolume(volume, model);
  if (placement().UsesLoops()) {
    ASSERT_TRUE(ResampleLabels<std::uint8_t>(labels, map, v1::INTERPOLATION_NEAREST, out, {2, {}}).ok());
  } else {
    const on_device::TensorMap tensors(map, v1::INTERPOLATION_NEAREST, placement().device);
    out = testing::LabelsOf<std::uint8_t>(
        tensors.ReadAll(testing::LabelTensor(labels, {106, 144, 144}, placement().device)));
  }
  EXPECT_EQ(out, expected);
}

TEST_P(GoldenInversionTest, LinearProbabilitiesEqualMonai) {
  const auto file = testing::Reference() / "a_spleen_like" / "intermediate.npz";
  TS_SKIP_WITHOUT(file);
  const auto golden = testing::ReadNpz(file);
  const auto volume = testing::AxialGeometry({512, 512, 64}, {0.841796875, 0.841796875, 5.0},
                                             {-228.036842, -93.0631599, -439.0});
  const ModelGrid model = RasGrid(volume, {1.5, 1.5, 2});
  const std::array<std::int64_t, 3> size = MemorySize(model);
  // The logits of the middle, which the inverted crop does not leave.
  at::Tensor scores = at::zeros({2, size[0], size[1], size[2]}, at::kFloat);
  const NpyArray& logits = golden.at("logits_crop");
  CropOf(LogicalView(scores, model), logits, golden.at("logits_crop_start"))
      .copy_(testing::MakeTensor(logits.shape, logits.As<float>()).softmax(0));
  const GridMap map = MapToVolume(volume, model);
  for (std::int64_t channel = 0; channel < 2; ++channel) {
    const auto back = Resample(Put(scores[channel]), map, v1::INTERPOLATION_LINEAR, {2, {}}, placement());
    ASSERT_TRUE(back.ok());
    const NpyArray& crop = golden.at("inverted_prob_crop_ckji");
    NpyArray of_channel = crop;
    const std::size_t bytes = crop.bytes.size() / 2;
    of_channel.bytes = crop.bytes.substr(static_cast<std::size_t>(channel) * bytes, bytes);
    EXPECT_LT(
        LargestDifference(CropOf(back->cpu(), crop, golden.at("inverted_prob_crop_start_kji")), of_channel),
        2e-6f);
  }
}

TS_INSTANTIATE_PLACES(GoldenInversionTest, testing::AllPlaces());

TEST(EnclosedAirTest, LungOfTheRealCtIsWithinTenPercentOfAnIndependentEstimate) {
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  const testing::ChestCt ct = testing::ReadChestCt();
  const at::Tensor hu = StoredToFloat(ct.Slices(), ct.geometry.size_ijk(), {2, {}}).value();
  const auto air = FindEnclosedAir(hu, ct.geometry, WholeAreas(ct.geometry.size_ijk()), {2, {}});
  ASSERT_TRUE(air.ok()) << air.status();
  EXPECT_NEAR(air->volume_ml, 5387.7, 538.8);  // truth.json "lung_estimate"
  EXPECT_EQ(air->first_k, 1u);
  EXPECT_EQ(air->last_k, 55u);  // the trachea goes on to the last slice, 63
  const auto stored = FindEnclosedAir(ct.Slices(), ct.geometry, {2, {}});
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->voxels, air->voxels);
  EXPECT_EQ(stored->last_k, air->last_k);
}

}  // namespace
}  // namespace tomoserve::compute
