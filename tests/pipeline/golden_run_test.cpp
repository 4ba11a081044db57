// Series through whole recipes of MONAI bundles, with their networks: labels equal MONAI's.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <thread>
#include <tuple>

#include "pipeline/golden_network.h"
#include "pipeline/golden_volumes.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::pipeline {
namespace {

v1::Recipe BundleRecipe(double overlap, v1::Blend blend, v1::PaddingMode padding, std::uint32_t channels) {
  v1::Recipe recipe;
  recipe.mutable_preparation()->set_orientation("RAS");
  v1::Windows& windows = *recipe.mutable_windows();
  windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (int axis = 0; axis < 3; ++axis) windows.add_size(96);
  windows.set_overlap(overlap);
  windows.set_blend(blend);
  windows.set_padding_mode(padding);
  v1::Network& network = *recipe.mutable_network();
  network.add_files("model.ts");
  network.set_spatial_dims(3);
  network.set_axes(v1::TENSOR_AXES_XYZ);
  network.set_input_channels(1);
  network.set_output_channels(channels);
  recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  for (std::uint32_t value = 1; value < channels; ++value) recipe.add_labels()->set_value(value);
  return recipe;
}

v1::Recipe SpleenLike() {
  v1::Recipe recipe = BundleRecipe(0.5, v1::BLEND_CONSTANT, v1::PADDING_MODE_CONSTANT, 2);
  testing::SetSpacing(recipe, {1.5, 1.5, 2}, v1::INTERPOLATION_LINEAR);
  v1::ScaleRange& range = *recipe.mutable_preparation()->add_intensity()->mutable_scale_range();
  range.set_from_min(-57);
  range.set_from_max(164);
  range.set_to_max(1);
  range.set_clip(true);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  recipe.add_decode()->mutable_arg_max();
  return recipe;
}

v1::Recipe WholeBodyLike() {
  v1::Recipe recipe = BundleRecipe(0.25, v1::BLEND_GAUSSIAN, v1::PADDING_MODE_REPLICATE, 25);
  testing::SetSpacing(recipe, {3, 3, 3}, v1::INTERPOLATION_LINEAR);
  recipe.mutable_preparation()->add_intensity()->mutable_z_score()->set_nonzero(true);
  v1::ScaleMinMax& scale = *recipe.mutable_preparation()->add_intensity()->mutable_scale_min_max();
  scale.set_to_min(-1);
  scale.set_to_max(1);
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  return recipe;
}

// A network of two dimensions in windows of each slice; no orientation, no spacing.
v1::Recipe SlicesOfCt() {
  v1::Recipe recipe = BundleRecipe(0.25, v1::BLEND_CONSTANT, v1::PADDING_MODE_CONSTANT, 4);
  recipe.clear_preparation();
  recipe.mutable_preparation()->add_intensity()->mutable_scale_min_max()->set_to_max(1);
  recipe.mutable_windows()->set_size(0, 256);
  recipe.mutable_windows()->set_size(1, 256);
  recipe.mutable_windows()->set_size(2, 1);
  recipe.mutable_network()->set_spatial_dims(2);
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  recipe.add_decode()->mutable_arg_max();
  return recipe;
}

// The whole volume at once.
v1::Recipe SkullStrip() {
  v1::Recipe recipe = BundleRecipe(0, v1::BLEND_CONSTANT, v1::PADDING_MODE_CONSTANT, 2);
  recipe.mutable_preparation()->set_orientation("LIA");
  v1::ScalePercentiles& scale = *recipe.mutable_preparation()->add_intensity()->mutable_scale_percentiles();
  scale.set_lower(2);
  scale.set_upper(98);
  scale.set_to_max(1);
  scale.set_clip(true);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 0);
  recipe.mutable_decode(0)->set_activation(v1::ACTIVATION_NONE);
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  return recipe;
}

// Geometry as the case states it (case.json "geometry").
testing::Series SagittalMr() {
  const auto packed = testing::ReadFile(testing::Reference() / "e_t1_skullstrip" / "dicom.tar.gz");
  return {volume::Geometry::Create({240, 176, 176}, {1, 1, 1}, {{87.400002, -113.519989, 94.479996}},
                                   {{{0, 1, 0}, {0, 0, -1}, {-1, 0, 0}}})
              .value(),
          testing::ReadStack(testing::FilesOfTar(testing::Gunzip(packed)), {-1, 0, 0})};
}

struct Case {
  const char* name;
  v1::Recipe (*recipe)();
  testing::Series (*series)();
};

class GoldenInputTest : public testing::PlacedTest {};

// Percentiles and what is made of them, to the bit (case.json "preprocessed_sha256_f32").
TEST_P(GoldenInputTest, AVolumeScaledByItsPercentilesEqualsMonais) {
  TS_SKIP_WITHOUT(testing::Reference());
  const testing::Series series = SagittalMr();
  const auto run = PreparedRun::Create(SkullStrip(), series.geometry, series.Slices(), {2, {}}, placement());
  ASSERT_TRUE(run.ok()) << run.status();
  const auto input = (*run)->Gather(0);
  ASSERT_TRUE(input.ok()) << input.status();
  const at::Tensor values = input->cpu();
  EXPECT_EQ(
      base::Sha256Hex(std::string_view(static_cast<const char*>(values.const_data_ptr()), values.nbytes())),
      "060249a99e46dc0ecb70e3a23c24035d5ac2b7d3bfff0b559bf1a3ee1c3b22ea");
}

TS_INSTANTIATE_PLACES(GoldenInputTest, testing::AllPlaces());

class GoldenRun : public ::testing::TestWithParam<std::tuple<Case, testing::Place>> {};

TEST_P(GoldenRun, LabelsEqualMonai) {
  const auto& [golden_case, place] = GetParam();
  if (place.placement.device.is_cuda()) TS_SKIP_WITHOUT_CUDA();
  const auto folder = testing::Reference() / golden_case.name;
  TS_SKIP_WITHOUT(folder);
  TS_SKIP_WITHOUT(testing::TestData());
  engine::InitialiseTorch();
  const v1::Recipe recipe = golden_case.recipe();
  const auto network = testing::LoadNetwork(folder / "model.ts", recipe);
  ASSERT_TRUE(network.ok()) << network.status();

  const testing::Series series = golden_case.series();
  ASSERT_EQ(series.slices.size(), series.geometry.size_ijk()[2]);
  const auto run = PreparedRun::Create(recipe, series.geometry, series.Slices(), {2, {}}, place.placement);
  ASSERT_TRUE(run.ok()) << run.status();
  // Two lanes, as in the worker: windows of one run at the same time, folded in order.
  for (std::uint32_t first = 0; first < (*run)->windows(); first += 2) {
    std::array<std::optional<absl::StatusOr<Outputs>>, 2> outputs;
    const auto lane = [&](std::uint32_t number) {
      if (first + number >= (*run)->windows()) return;
      engine::UseOneThread();
      // The network stays on the CPU: what is tested is everything around it.
      outputs[number] =
          (*run)->ForwardWindow(first + number, [&](const at::Tensor& input) -> absl::StatusOr<Outputs> {
            auto output = (*network)->Forward(input.cpu());
            if (output.ok()) output->front() = output->front().to(input.device());
            return output;
          });
    };
    {
      const std::jthread other(lane, 1);
      lane(0);
    }
    for (std::uint32_t number = 0; number < 2 && outputs[number]; ++number) {
      ASSERT_TRUE(outputs[number]->ok()) << outputs[number]->status();
      ASSERT_TRUE((*run)->Fold(first + number, **outputs[number]).ok());
    }
  }
  std::vector<std::byte> labels(static_cast<std::size_t>(series.geometry.voxels()));
  const auto result = (*run)->Finish(labels, 1);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const v1::StageTiming& timing : result->timings) {
    RecordProperty(timing.stage() + "_ms", std::to_string(timing.ms()));
  }

  const auto expected = testing::ReadNpz(folder / "labels.npz").at("labels_kji").As<std::uint8_t>();
  ASSERT_EQ(expected.size(), labels.size());
  std::size_t different = 0;
  for (std::size_t v = 0; v < labels.size(); ++v)
    different += static_cast<std::uint8_t>(labels[v]) != expected[v] ? 1 : 0;
  RecordProperty("voxels_different", static_cast<int>(different));
  // The reference's own tolerance: 2e-5 of all voxels.
  EXPECT_LE(different, static_cast<std::size_t>(2e-5 * static_cast<double>(labels.size())));
}

std::string NameOf(const ::testing::TestParamInfo<std::tuple<Case, testing::Place>>& golden) {
  return std::string(std::get<0>(golden.param).name) + "_" + std::get<1>(golden.param).name;
}

INSTANTIATE_TEST_SUITE_P(
    Monai, GoldenRun,
    ::testing::Combine(::testing::Values(Case{"a_spleen_like", SpleenLike, testing::ReadChestSeries},
                                         Case{"b_wholebody_like", WholeBodyLike, testing::ReadChestSeries},
                                         Case{"f1_slices_ct", SlicesOfCt, testing::ReadAbdomenSeries}),
                       ::testing::ValuesIn(testing::AllPlaces())),
    NameOf);

// Its network takes a minute, the same in every placement; its input is GoldenInputTest's, to the bit.
INSTANTIATE_TEST_SUITE_P(MonaiWhole, GoldenRun,
                         ::testing::Combine(::testing::Values(Case{"e_t1_skullstrip", SkullStrip,
                                                                   SagittalMr}),
                                            ::testing::Values(testing::AllPlaces()[0])),
                         NameOf);

}  // namespace
}  // namespace tomoserve::pipeline
