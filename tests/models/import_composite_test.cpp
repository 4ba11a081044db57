// Several nnU-Net models become the parts of one.
#include <gmock/gmock.h>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPlans[] = R"({
  "dataset_name": "Dataset291_organs", "plans_name": "nnUNetPlans", "image_reader_writer": "NibabelIOWithReorient",
  "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
  "foreground_intensity_properties_per_channel": {
    "0": {"mean": 100.5, "std": 40.0, "percentile_00_5": -900.0, "percentile_99_5": 800.0}},
  "configurations": {
    "3d_fullres": {
      "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [64, 64, 96],
      "spacing": [1.5, 1.5, 1.5], "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [false],
      "resampling_fn_data": "resample_data_or_seg_to_shape",
      "resampling_fn_data_kwargs": {"is_seg": false, "order": 3, "order_z": 0, "force_separate_z": null},
      "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
      "resampling_fn_probabilities_kwargs": {"is_seg": false, "order": 1, "order_z": 0, "force_separate_z": null},
      "architecture": {}
    }
  }
})";

class ImportCompositeTest : public ImportTest {
 protected:
  // A file of a model with these labels.
  std::string Make(const std::string& name, const std::vector<std::string>& labels) {
    Json dataset = {{"channel_names", {{"0", "CT"}}}, {"labels", {{"background", 0}}}};
    for (std::size_t i = 0; i < labels.size(); ++i) dataset["labels"][labels[i]] = i + 1;
    return MakeNnunet(plans, dataset, checkpoint, name);
  }
  Json& Properties() { return plans["foreground_intensity_properties_per_channel"]["0"]; }
  Json& Configuration() { return plans["configurations"]["3d_fullres"]; }

  Json plans = Json::parse(kPlans);
  Json checkpoint = {{"trainer_name", "nnUNetTrainer"},
                     {"configuration", "3d_fullres"},
                     {"inference_allowed_mirroring_axes", Json::array()},
                     {"fold", 0}};
  ImportOptions composite = [] {
    ImportOptions options;
    options.name = "total";
    options.composite = true;
    return options;
  }();
};

TEST_F(ImportCompositeTest, LabelsFollowPartAfterPartAndKeepTheirNames) {
  const std::string organs = Make("organs.ts", {"liver", "spleen"});
  plans["dataset_name"] = "Dataset292_vertebrae";
  Properties()["mean"] = 300.25;
  const std::string bones = Make("bones.ts", {"vertebrae_L5", "liver", "sacrum"});
  const ImportedModel model = MustImport({organs, bones}, composite);
  EXPECT_EQ(model.name, "total");
  const v1::Network& network = model.recipe.network();
  EXPECT_TRUE(network.files().empty());
  EXPECT_EQ(network.output_channels(), 0u);
  ASSERT_EQ(network.parts_size(), 2);
  EXPECT_EQ(network.parts(0).name(), "dataset291_organs_3d_fullres");
  EXPECT_EQ(network.parts(1).name(), "dataset292_vertebrae_3d_fullres");
  EXPECT_THAT(network.parts(0).files(), ElementsAre("part_1.ts"));
  EXPECT_THAT(Numbers(network.parts(0).labels()), ElementsAre(1, 2));
  EXPECT_THAT(Numbers(network.parts(1).labels()), ElementsAre(3, 4, 5));
  EXPECT_EQ(network.parts(1).output_channels(), 4u);
  EXPECT_TRUE(network.parts(0).intensity().empty()) << "the recipe's own";
  EXPECT_FALSE(network.parts(1).intensity().empty());
  std::vector<std::string> names;
  for (const v1::Label& label : model.recipe.labels()) names.push_back(label.name());
  EXPECT_THAT(names, ElementsAre("dataset291_organs_3d_fullres: liver", "spleen", "vertebrae_L5",
                                 "dataset292_vertebrae_3d_fullres: liver", "sacrum"));
  EXPECT_EQ(model.recipe.labels(0).type().value(), "10200004") << "still a liver";
  EXPECT_EQ(model.recipe.findings_size(), 5);
  EXPECT_THAT(model.files, ElementsAre(std::pair<std::string, std::string>("part_1.ts", organs),
                                       std::pair<std::string, std::string>("part_2.ts", bones)));
  // Without the flag they are an ensemble, whose files must agree.
  EXPECT_THAT(Refusal({organs, bones}), HasSubstr("IMPORT_MISMATCH"));
}

TEST_F(ImportCompositeTest, LongNamesOfSeveralPartsAreCut) {
  const std::string label(60, 'v');
  const std::string organs = Make("organs.ts", {label});
  plans["dataset_name"] = "Dataset292_vertebrae";
  const v1::Recipe recipe = MustImport({organs, Make("bones.ts", {label})}, composite).recipe;
  ASSERT_EQ(recipe.labels_size(), 2);
  EXPECT_EQ(recipe.labels(0).name(), "part 1: " + std::string(56, 'v'));
  EXPECT_EQ(recipe.labels(1).name(), "part 2: " + std::string(56, 'v'));
}

TEST_F(ImportCompositeTest, FoldsOfOneModelAreOnePart) {
  const std::string organs = Make("organs_0.ts", {"liver"});
  plans["dataset_name"] = "Dataset292_vertebrae";
  const std::string bones = Make("bones.ts", {"sacrum"});
  plans["dataset_name"] = "Dataset291_organs";
  checkpoint["fold"] = 4;
  const std::string fold = Make("organs_4.ts", {"liver"});
  const ImportedModel model = MustImport({organs, bones, fold}, composite);
  ASSERT_EQ(model.recipe.network().parts_size(), 2);
  EXPECT_THAT(model.recipe.network().parts(0).files(), ElementsAre("part_1_fold_0.ts", "part_1_fold_4.ts"));
  EXPECT_THAT(model.recipe.network().parts(1).files(), ElementsAre("part_2.ts"));
  EXPECT_EQ(Refusal({organs, fold}, composite), "IMPORT_INVALID --composite");
}

TEST_F(ImportCompositeTest, APartWithoutNormalizationStatesThatItHasNone) {
  const std::string organs = Make("organs.ts", {"liver"});
  Configuration()["normalization_schemes"] = {"NoNormalization"};
  const std::string bones = Make("bones.ts", {"sacrum"});
  const v1::Recipe recipe = MustImport({organs, bones}, composite).recipe;
  ASSERT_EQ(recipe.network().parts(1).intensity_size(), 1);
  EXPECT_EQ(recipe.network().parts(1).intensity(0).affine().scale(), 1);
  EXPECT_TRUE(recipe.preparation().intensity_before_spacing());
  const v1::Recipe other = MustImport({bones, organs}, composite).recipe;
  EXPECT_TRUE(other.preparation().intensity().empty());
  EXPECT_TRUE(other.preparation().intensity_before_spacing());
  EXPECT_EQ(other.network().parts(1).name(), "organs") << "two of one name: the file's";
}

TEST_F(ImportCompositeTest, WhatPartsShareMustAgree) {
  const std::string organs = Make("organs.ts", {"liver"});
  const auto refused = [&](const std::string& field) {
    const auto model = ReadModel({organs, Make("other.ts", {"sacrum"})}, composite);
    EXPECT_EQ(base::ReasonOf(model.status()), "IMPORT_MISMATCH") << model.status();
    EXPECT_EQ(base::ValueOf(model.status()), field);
    EXPECT_THAT(std::string(model.status().message()), HasSubstr("other.ts differs from organs.ts"));
    plans = Json::parse(kPlans);
    checkpoint["inference_allowed_mirroring_axes"] = Json::array();
  };
  Configuration()["spacing"] = {3.0, 1.5, 1.5};
  refused("preparation.spacing.spacing_mm[2]");
  Configuration()["patch_size"] = {64, 64, 128};
  refused("windows.size[0]");
  plans["image_reader_writer"] = "NibabelIO";
  refused("preparation.orientation");
  checkpoint["inference_allowed_mirroring_axes"] = {0};
  refused("network.mirror_axes[0]");
  Configuration()["resampling_fn_probabilities_kwargs"]["order"] = 0;
  refused("decode[1].to_volume_grid.interpolation");
}

constexpr char kInference[] = R"({
  "network_def": {"_target_": "UNet", "in_channels": 1, "out_channels": 2},
  "preprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 1.5]},
    {"_target_": "NormalizeIntensityd", "keys": "image"}
  ]},
  "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 32]},
  "postprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "Activationsd", "keys": "pred", "softmax": true},
    {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
     "nearest_interp": false},
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": true}
  ]}
})";

class ImportCompositeOfBundlesTest : public ImportCompositeTest {
 protected:
  std::string MakeNamed(const std::string& file, const std::string& name, const std::string& label) {
    const Json metadata = {
        {"name", name},
        {"version", "1.0"},
        {"monai_version", "1.4.0"},
        {"network_data_format",
         {{"inputs", {{"image", {{"modality", "CT"}, {"num_channels", 1}}}}},
          {"outputs",
           {{"pred", {{"num_channels", 2}, {"channel_def", {{"0", "background"}, {"1", label}}}}}}}}}};
    return MakeArchive(file, {{"model/extra/inference.json", inference.dump()},
                              {"model/extra/metadata.json", metadata.dump()}});
  }
  Json inference = Json::parse(kInference);
};

TEST_F(ImportCompositeOfBundlesTest, BundlesWithOnePreparationBecomeParts) {
  const std::string liver = MakeNamed("liver.ts", "The liver", "liver");
  const std::string spleen = MakeNamed("spleen.ts", "The spleen", "spleen");
  const v1::Recipe recipe = MustImport({liver, spleen}, composite).recipe;
  ASSERT_EQ(recipe.network().parts_size(), 2);
  EXPECT_EQ(recipe.network().parts(1).name(), "the_spleen");
  EXPECT_THAT(Numbers(recipe.network().parts(1).labels()), ElementsAre(2));
  EXPECT_EQ(recipe.labels(1).name(), "spleen");

  // A bundle and an nnU-Net model differ in too much.
  EXPECT_THAT(Refusal({liver, Make("organs.ts", {"sacrum"})}, composite), HasSubstr("IMPORT_MISMATCH"));
}

// Between the labels of one part and the background lie those of the parts before it.
TEST_F(ImportCompositeOfBundlesTest, ABundleThatInterpolatesBetweenItsLabelsIsNoPart) {
  std::swap(inference["postprocessing"]["transforms"][1], inference["postprocessing"]["transforms"][2]);
  const std::string liver = MakeNamed("liver.ts", "The liver", "liver");
  EXPECT_EQ(Refusal({liver, MakeNamed("spleen.ts", "The spleen", "spleen")}, composite),
            "IMPORT_UNSUPPORTED decode");
}

TEST_F(ImportCompositeOfBundlesTest, ABundleThatChangesItsLabelsIsNoPart) {
  const std::string liver = MakeNamed("liver.ts", "The liver", "liver");
  inference["postprocessing"]["transforms"].push_back(
      {{"_target_", "KeepLargestConnectedComponentd"}, {"keys", "pred"}, {"applied_labels", {1}}});
  EXPECT_EQ(Refusal({liver, MakeNamed("spleen.ts", "The spleen", "spleen")}, composite),
            "IMPORT_UNSUPPORTED decode");
}

}  // namespace
}  // namespace tomoserve::models::importer
