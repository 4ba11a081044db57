// nnU-Net v2: what of its plans changes results is understood or refused by its path.
#include <gmock/gmock.h>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPlans[] = R"({
  "dataset_name": "Dataset007_Pancreas", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
  "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
  "configurations": {
    "base": {
      "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [32, 64, 96],
      "spacing": [2.5, 0.8, 0.7], "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [false],
      "resampling_fn_data": "resample_data_or_seg_to_shape",
      "resampling_fn_data_kwargs": {"is_seg": false, "order": 3, "order_z": 0, "force_separate_z": null},
      "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
      "resampling_fn_probabilities_kwargs": {"is_seg": false, "order": 1, "order_z": 0, "force_separate_z": null},
      "architecture": {}
    },
    "3d_fullres": {"inherits_from": "base", "spacing": [2.5, 0.8, 0.75]}
  }
})";
constexpr char kDataset[] =
    R"({"channel_names": {"0": "T2"}, "labels": {"background": 0, "pancreas": 1, "tumour": 2}})";
constexpr char kCheckpoint[] = R"({"trainer_name": "nnUNetTrainer", "configuration": "3d_fullres",
  "inference_allowed_mirroring_axes": [0, 2], "fold": 0})";

class ImportNnunetTest : public ImportTest {
 protected:
  v1::Recipe Recipe() { return MustImport({MakeNnunet(plans, dataset, checkpoint)}).recipe; }
  std::string Why() { return Refusal({MakeNnunet(plans, dataset, checkpoint)}); }
  Json& Base() { return plans["configurations"]["base"]; }
  Json& Kwargs(const char* name) { return Base()[std::string(name) + "_kwargs"]; }

  Json plans = Json::parse(kPlans);
  Json dataset = Json::parse(kDataset);
  Json checkpoint = Json::parse(kCheckpoint);
};

TEST_F(ImportNnunetTest, InheritsFromAnotherConfiguration) {
  const v1::Recipe recipe = Recipe();
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(0.75, 0.8, 2.5));
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(96, 64, 32));
  EXPECT_THAT(Numbers(recipe.network().mirror_axes()), ElementsAre(0, 2));
  EXPECT_THAT(recipe.inputs(0).modalities(), ElementsAre("MR"));
  EXPECT_EQ(recipe.labels(1).type().value(), "108369006") << "a tumour is a neoplasm";

  Base()["inherits_from"] = "3d_fullres";
  EXPECT_EQ(Why(), "IMPORT_INVALID configurations.3d_fullres.inherits_from");
  Base()["inherits_from"] = "gone";
  EXPECT_EQ(Why(), "IMPORT_INVALID configurations.gone");
}

TEST_F(ImportNnunetTest, LargestComponentsOfItsPostprocessing) {
  const std::string function = "remove_all_but_largest_component_from_segmentation";
  Json postprocessing = {
      {"input_folder", {{"mean", {{"1", 0.5}}}}},
      {"postprocessing_fns", {function, function}},
      {"postprocessing_kwargs", {{{"labels_or_regions", Json::array({2})}}, {{"labels_or_regions", 1}}}}};
  const auto archive = [&] { return MakeNnunet(plans, dataset, checkpoint, "with.ts", postprocessing); };
  const v1::Recipe recipe = MustImport({archive()}).recipe;
  ASSERT_EQ(recipe.decode_size(), 5) << "after activation, to_volume_grid and arg_max";
  EXPECT_EQ(recipe.decode(3).keep_largest().label(), 2U);
  EXPECT_EQ(recipe.decode(3).keep_largest().count(), 1U);
  EXPECT_EQ(recipe.decode(4).keep_largest().label(), 1U);

  EXPECT_EQ(Refusal({archive(), MakeNnunet(plans, dataset, checkpoint)}),
            "IMPORT_MISMATCH postprocessing.json");
  EXPECT_EQ(Refusal({MakeNnunet(plans, dataset, checkpoint), archive()}),
            "IMPORT_MISMATCH postprocessing.json");

  Json& labels = postprocessing["postprocessing_kwargs"][0]["labels_or_regions"];
  labels = {1, 2};
  EXPECT_EQ(Refusal({archive()}),
            "IMPORT_UNSUPPORTED postprocessing.postprocessing_kwargs[0].labels_or_regions");
  labels = 3;
  EXPECT_EQ(Refusal({archive()}), "IMPORT_INVALID postprocessing.postprocessing_kwargs[0].labels_or_regions");
  labels = 2;
  postprocessing["postprocessing_fns"][1] = "smooth";
  EXPECT_EQ(Refusal({archive()}), "IMPORT_UNSUPPORTED postprocessing.postprocessing_fns[1]");
  postprocessing["postprocessing_fns"].erase(1);
  EXPECT_EQ(Refusal({archive()}), "IMPORT_INVALID postprocessing.postprocessing_kwargs");
  EXPECT_EQ(Refusal({MakeArchive("null.ts", {{"model/extra/plans.json", plans.dump()},
                                             {"model/extra/dataset.json", dataset.dump()},
                                             {"model/extra/checkpoint.json", checkpoint.dump()},
                                             {"model/extra/postprocessing.json", "null"}})}),
            "IMPORT_INVALID postprocessing.json");
}

TEST_F(ImportNnunetTest, TransposedAxes) {
  // Dimension 0 of the tensor is the reader's axis 1 (y), then z, then x.
  plans["transpose_forward"] = {1, 0, 2};
  plans["transpose_backward"] = {1, 0, 2};
  v1::Recipe recipe = Recipe();
  EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_YZX);
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(0.75, 2.5, 0.8));
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(96, 32, 64));
  EXPECT_THAT(Numbers(recipe.network().mirror_axes()), ElementsAre(0, 1));

  plans["transpose_forward"] = {2, 0, 1};
  plans["transpose_backward"] = {1, 2, 0};
  recipe = Recipe();
  EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_XZY);
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(2.5, 0.75, 0.8));

  plans["transpose_backward"] = {2, 0, 1};
  EXPECT_EQ(Why(), "IMPORT_INVALID transpose_backward");
  plans["transpose_forward"] = {0, 0, 1};
  EXPECT_EQ(Why(), "IMPORT_INVALID transpose_forward");
}

TEST_F(ImportNnunetTest, Readers) {
  for (const char* reader : {"NibabelIOWithReorient", "SimpleITKIOWithReorient"}) {
    plans["image_reader_writer"] = reader;
    EXPECT_EQ(Recipe().preparation().orientation(), "RAS") << reader;
  }
  plans["image_reader_writer"] = "NibabelIO";
  EXPECT_EQ(Recipe().preparation().orientation(), "");
  plans["image_reader_writer"] = "Tiff3DIO";
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED image_reader_writer");
}

TEST_F(ImportNnunetTest, Normalization) {
  v1::Recipe recipe = Recipe();
  EXPECT_TRUE(recipe.preparation().intensity(0).has_z_score());
  EXPECT_FALSE(recipe.preparation().intensity(0).z_score().nonzero());
  Base()["use_mask_for_norm"] = {true};
  recipe = Recipe();
  EXPECT_TRUE(recipe.preparation().intensity(0).z_score().nonzero());
  EXPECT_TRUE(recipe.preparation().intensity(0).z_score().fill_holes());
  Base()["normalization_schemes"] = {"RescaleTo01Normalization"};
  recipe = Recipe();
  EXPECT_EQ(recipe.preparation().intensity(0).scale_min_max().to_max(), 1);
  Base()["normalization_schemes"] = {"NoNormalization"};
  recipe = Recipe();
  EXPECT_EQ(recipe.preparation().intensity_size(), 0);
  EXPECT_FALSE(recipe.preparation().intensity_before_spacing());
  Base()["normalization_schemes"] = {"CTNormalization"};
  EXPECT_EQ(Why(), "IMPORT_INVALID foreground_intensity_properties_per_channel[0]");
  Base()["normalization_schemes"] = {"RGBTo01Normalization"};
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED configurations.3d_fullres.normalization_schemes[0]");
  Base()["normalization_schemes"] = {"ZScoreNormalization", "ZScoreNormalization"};
  EXPECT_EQ(Why(), "IMPORT_INVALID configurations.3d_fullres.normalization_schemes");
}

TEST_F(ImportNnunetTest, SeveralChannels) {
  dataset["channel_names"] = {{"0", "T1"}, {"1", "FLAIR"}};
  Base()["normalization_schemes"] = {"ZScoreNormalization", "ZScoreNormalization"};
  Base()["use_mask_for_norm"] = {true, true};
  const v1::Recipe recipe = Recipe();
  ASSERT_EQ(recipe.inputs_size(), 2);
  EXPECT_EQ(recipe.inputs(1).name(), "flair");
  EXPECT_THAT(recipe.inputs(1).phase_texts(), ElementsAre("FLAIR"));
  EXPECT_EQ(recipe.preparation().intensity_size(), 1);
  EXPECT_TRUE(recipe.inputs(0).intensity().empty());
  EXPECT_TRUE(recipe.inputs(1).intensity().empty());
  dataset["channel_names"] = {{"1", "T1"}, {"0", "FLAIR"}};
  EXPECT_EQ(Why(), "IMPORT_INVALID dataset.channel_names");
}

TEST_F(ImportNnunetTest, ChannelsThatAreNormalisedDifferently) {
  dataset["channel_names"] = {{"0", "CT"}, {"1", "PET"}, {"2", "T1"}, {"3", "noNorm"}};
  Base()["normalization_schemes"] = {"CTNormalization", "ZScoreNormalization", "ZScoreNormalization",
                                     "NoNormalization"};
  Base()["use_mask_for_norm"] = {false, false, true, false};
  plans["foreground_intensity_properties_per_channel"] =
      Json::parse(R"({"0": {"percentile_00_5": -100, "percentile_99_5": 300, "mean": 50, "std": 80}})");
  const v1::Recipe recipe = Recipe();
  ASSERT_EQ(recipe.inputs_size(), 4);
  EXPECT_TRUE(recipe.preparation().intensity().empty()) << "else the last channel would be given them";
  EXPECT_TRUE(recipe.preparation().intensity_before_spacing());
  ASSERT_EQ(recipe.inputs(0).intensity_size(), 2);
  EXPECT_EQ(recipe.inputs(0).intensity(0).clip().max(), 300);
  EXPECT_EQ(recipe.inputs(0).intensity(1).z_score().std(), 80);
  ASSERT_EQ(recipe.inputs(1).intensity_size(), 1);
  EXPECT_FALSE(recipe.inputs(1).intensity(0).z_score().nonzero());
  ASSERT_EQ(recipe.inputs(2).intensity_size(), 1);
  EXPECT_TRUE(recipe.inputs(2).intensity(0).z_score().fill_holes());
  EXPECT_TRUE(recipe.inputs(3).intensity().empty());

  Base()["normalization_schemes"][3] = "RGBTo01Normalization";
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED configurations.3d_fullres.normalization_schemes[3]");
  Base()["normalization_schemes"][3] = "CTNormalization";
  EXPECT_EQ(Why(), "IMPORT_INVALID foreground_intensity_properties_per_channel[3]");
}

TEST_F(ImportNnunetTest, AStatedModalityReplacesTheDatasets) {
  ImportOptions options;
  options.modalities = {"CT"};
  const ImportedModel model = MustImport({MakeNnunet(plans, dataset, checkpoint)}, options);
  EXPECT_THAT(model.recipe.inputs(0).modalities(), ElementsAre("CT"));
  EXPECT_THAT(model.notes, Contains(HasSubstr("modality MR; --modality replaced it by CT")));
  options.modalities = {"CR"};
  EXPECT_EQ(Refusal({MakeNnunet(plans, dataset, checkpoint)}, options), "IMPORT_INVALID --modality");
}

TEST_F(ImportNnunetTest, Resampling) {
  Kwargs("resampling_fn_data")["force_separate_z"] = false;
  EXPECT_EQ(
      Why(),
      "IMPORT_UNSUPPORTED configurations.3d_fullres.resampling_fn_probabilities_kwargs.force_separate_z");
  Kwargs("resampling_fn_probabilities")["force_separate_z"] = false;
  EXPECT_EQ(Recipe().preparation().spacing().low_resolution_axis(), v1::LOW_RESOLUTION_AXIS_TOGETHER);
  Kwargs("resampling_fn_data")["order"] = 1;
  EXPECT_EQ(Recipe().preparation().spacing().interpolation(), v1::INTERPOLATION_LINEAR);

  const std::string place = "IMPORT_UNSUPPORTED configurations.3d_fullres.resampling_fn_data";
  const std::vector<std::pair<const char*, Json>> refused = {{"force_separate_z", true},
                                                             {"order", 2},
                                                             {"order_z", 1},
                                                             {"is_seg", true},
                                                             {"separate_z_anisotropy_threshold", 4},
                                                             {"memefficient", true}};
  for (const auto& [key, value] : refused) {
    const Json before = Base();
    Kwargs("resampling_fn_data")[key] = value;
    EXPECT_EQ(Why(), place + "_kwargs." + key);
    Base() = before;
  }
  Base()["resampling_fn_data"] = "resample_torch_fornnunet";
  EXPECT_EQ(Why(), place);
}

TEST_F(ImportNnunetTest, WhatIsNotKnownIsRefused) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"previous_stage", "3d_lowres"}, {"preprocessor_name", "OtherPreprocessor"}, {"postprocessing", true}};
  for (const auto& [key, value] : cases) {
    const Json before = Base();
    Base()[key] = value;
    EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED configurations.3d_fullres." + key);
    Base() = before;
  }
  Json before = plans;
  plans["label_manager"] = "MyLabelManager";
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED label_manager");
  plans = before;
  plans["surprise"] = 1;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED surprise");
  plans = before;
  checkpoint["surprise"] = 1;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED checkpoint.surprise");
}

TEST_F(ImportNnunetTest, TwoDimensions) {
  Base()["patch_size"] = {64, 64};
  plans["configurations"]["3d_fullres"]["spacing"] = {0.8, 0.8};
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED configurations.3d_fullres.spacing");
}

TEST_F(ImportNnunetTest, Labels) {
  dataset["labels"] = {{"tumour", 2}, {"background", 0}, {"pancreas", 1}, {"ignore", 3}};
  v1::Recipe recipe = Recipe();
  EXPECT_EQ(recipe.network().output_channels(), 3U) << "nothing is ever predicted to be ignored";
  EXPECT_EQ(recipe.labels(0).name(), "pancreas");
  dataset["labels"] = {{"background", 0}, {"pancreas", 1}, {"tumour", 3}};
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED dataset.labels");
  dataset["labels"] = {{"pancreas", 1}};
  EXPECT_EQ(Why(), "IMPORT_INVALID dataset.labels");
}

TEST_F(ImportNnunetTest, Regions) {
  dataset["labels"] = Json::parse(R"({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3})");
  EXPECT_EQ(Why(), "IMPORT_INVALID dataset.regions_class_order");
  dataset["regions_class_order"] = {3, 1, 2};
  const v1::Recipe recipe = Recipe();
  EXPECT_EQ(recipe.network().output_channels(), 3U);
  EXPECT_EQ(recipe.labels(0).value(), 3U) << "the first head paints what stands first";
  EXPECT_EQ(recipe.labels(0).name(), "whole");
  dataset["regions_class_order"] = {3, 1};
  EXPECT_EQ(Why(), "IMPORT_INVALID dataset.regions_class_order");
}

TEST_F(ImportNnunetTest, FoldsMustAgree) {
  const std::string first = MakeNnunet(plans, dataset, checkpoint, "a.ts");
  checkpoint["fold"] = 3;
  const std::string second = MakeNnunet(plans, dataset, checkpoint, "b.ts");
  const ImportedModel model = MustImport({first, second});
  EXPECT_THAT(model.recipe.network().files(), ElementsAre("fold_0.ts", "fold_3.ts"));

  checkpoint["inference_allowed_mirroring_axes"] = {0};
  EXPECT_EQ(Refusal({first, MakeNnunet(plans, dataset, checkpoint, "c.ts")}),
            "IMPORT_MISMATCH checkpoint.json: inference_allowed_mirroring_axes[1]");
  plans["configurations"]["3d_fullres"]["spacing"][1] = 0.9;
  EXPECT_EQ(Refusal({first, MakeNnunet(plans, dataset, Json::parse(kCheckpoint), "d.ts")}),
            "IMPORT_MISMATCH plans.json: configurations.3d_fullres.spacing[1]");
  // The same fold twice: numbered.
  EXPECT_THAT(MustImport({first, first}).recipe.network().files(), ElementsAre("model_0.ts", "model_1.ts"));
}

}  // namespace
}  // namespace tomoserve::models::importer
