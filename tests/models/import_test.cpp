// MONAI bundles: what of their configuration changes results is understood or refused by its path; and what
// is written.
#include <gmock/gmock.h>

#include <algorithm>

#include "models/import_fixtures.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kInference[] = R"({
  "imports": ["$import glob"],
  "key": "image",
  "network_def": {"_target_": "UNet", "in_channels": 1, "out_channels": 3},
  "preprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "LoadImaged", "keys": "@key"},
    {"_target_": "EnsureChannelFirstd", "keys": "@key"},
    {"_target_": "Orientationd", "keys": "@key", "axcodes": "LPS"},
    {"_target_": "Spacingd", "keys": ["@key"], "pixdim": [1.0, 1.5, 2.0]},
    {"_target_": "NormalizeIntensityd", "keys": "@key"}
  ]},
  "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 32]},
  "postprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "Activationsd", "keys": "pred", "softmax": true},
    {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@key",
     "nearest_interp": false},
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": true}
  ]}
})";
constexpr char kMetadata[] = R"({
  "name": "Lobes of the lung", "version": "1.2", "monai_version": "1.4.0", "authors": ["A. Author", "B. Author"],
  "description": "Segments two lobes.", "references": ["Paper 1"], "license": "Apache-2.0",
  "network_data_format": {
    "inputs": {"image": {"modality": "CT", "num_channels": 1}},
    "outputs": {"pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "left lung", "2": "lung mass"}}}
  }
})";

class ImportMonaiTest : public ImportTest {
 protected:
  ImportedModel Model(const ImportOptions& options = {}) {
    return MustImport({MakeBundleOf(inference, metadata)}, options);
  }
  v1::Recipe Recipe() { return Model().recipe; }
  std::string Why() { return Refusal({MakeBundleOf(inference, metadata)}); }
  Json& Pre(std::size_t index) { return inference["preprocessing"]["transforms"][index]; }
  Json& Post(std::size_t index) { return inference["postprocessing"]["transforms"][index]; }
  void AddPre(const char* transform) {
    inference["preprocessing"]["transforms"].push_back(Json::parse(transform));
  }
  void AddPost(const char* transform) {
    inference["postprocessing"]["transforms"].push_back(Json::parse(transform));
  }
  // The refusal with one argument more.
  std::string WhyWith(Json* object, const char* key, const Json& value) {
    const Json before = *object;
    (*object)[key] = value;
    const std::string why = Why();
    *object = before;
    return why;
  }

  Json inference = Json::parse(kInference);
  Json metadata = Json::parse(kMetadata);
};

TEST_F(ImportMonaiTest, DefaultsAreMonais) {
  const v1::Recipe recipe = Recipe();
  EXPECT_EQ(recipe.preparation().orientation(), "LPS");
  EXPECT_EQ(recipe.preparation().spacing().interpolation(), v1::INTERPOLATION_LINEAR);
  EXPECT_EQ(recipe.windows().overlap(), 0.25);
  EXPECT_EQ(recipe.windows().blend(), v1::BLEND_UNSPECIFIED);
  EXPECT_EQ(recipe.windows().padding_value(), 0);
  EXPECT_EQ(recipe.labels(0).type().value(), "44029006");
  EXPECT_EQ(recipe.labels(1).type().value(), "85756007") << "an unknown name is a tissue";
  EXPECT_TRUE(recipe.coverage().has_not_stated()) << "a run without findings is INCONCLUSIVE";
  EXPECT_THAT(recipe.coverage().not_stated().because(), HasSubstr("INCONCLUSIVE"));
  EXPECT_EQ(recipe.flags(0).level(), v1::FLAG_LEVEL_INFO);
}

TEST_F(ImportMonaiTest, UnknownArgumentsOfEveryPartAreRefusedByName) {
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(WhyWith(&Pre(i), "surprise", 1),
              "IMPORT_UNSUPPORTED preprocessing.transforms[" + std::to_string(i) + "].surprise");
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(WhyWith(&Post(i), "surprise", nullptr),
              "IMPORT_UNSUPPORTED postprocessing.transforms[" + std::to_string(i) + "].surprise");
  }
  EXPECT_EQ(WhyWith(&inference["inferer"], "surprise", 1), "IMPORT_UNSUPPORTED inferer.surprise");
}

TEST_F(ImportMonaiTest, ArgumentsThatWouldChangeResultsAreRefusedByName) {
  const std::string pre = "IMPORT_UNSUPPORTED preprocessing.transforms";
  EXPECT_EQ(WhyWith(&Pre(0), "affine_lps_to_ras", false), pre + "[0].affine_lps_to_ras");
  EXPECT_EQ(WhyWith(&Pre(0), "reader", "NumpyReader"), pre + "[0].reader");
  EXPECT_EQ(WhyWith(&Pre(0), "dtype", "$np.int16"), pre + "[0].dtype");
  EXPECT_EQ(WhyWith(&Pre(1), "keys", "label"), pre + "[1].keys");
  EXPECT_EQ(WhyWith(&Pre(2), "as_closest_canonical", true), pre + "[2].as_closest_canonical");
  EXPECT_EQ(WhyWith(&Pre(3), "mode", 3), pre + "[3].mode");
  EXPECT_EQ(WhyWith(&Pre(3), "pixdim", Json::array({1, 1, -1})), pre + "[3].pixdim");
  EXPECT_EQ(WhyWith(&Pre(3), "diagonal", true), pre + "[3].diagonal");
  EXPECT_EQ(WhyWith(&Pre(3), "min_pixdim", 2), pre + "[3].min_pixdim");
  EXPECT_EQ(WhyWith(&Pre(4), "subtrahend", 5), pre + "[4].divisor");
  const std::string post = "IMPORT_UNSUPPORTED postprocessing.transforms";
  EXPECT_EQ(WhyWith(&Post(0), "other", "$lambda x: x"), post + "[0].other");
  EXPECT_EQ(WhyWith(&Post(1), "post_func", "$lambda x: x"), post + "[1].post_func");
  EXPECT_EQ(WhyWith(&Post(1), "transform", "@inferer"), post + "[1].transform");
  EXPECT_EQ(WhyWith(&Post(2), "to_onehot", 3), post + "[2].to_onehot");
  EXPECT_EQ(WhyWith(&inference["inferer"], "padding_mode", "reflect"),
            "IMPORT_UNSUPPORTED inferer.padding_mode");
  EXPECT_EQ(WhyWith(&inference["inferer"], "with_coord", true), "IMPORT_UNSUPPORTED inferer.with_coord");
  EXPECT_EQ(WhyWith(&inference["inferer"], "roi_size", Json::array({64, 64})),
            "IMPORT_UNSUPPORTED inferer.roi_size");
  EXPECT_EQ(WhyWith(&inference["inferer"], "_target_", "scripts.MyInferer"), "IMPORT_UNSUPPORTED inferer");
}

TEST_F(ImportMonaiTest, UnknownPartsAreRefusedByTheirPlace) {
  EXPECT_EQ(WhyWith(&Pre(1), "_target_", "CropForegroundd"),
            "IMPORT_UNSUPPORTED preprocessing.transforms[1]");
  EXPECT_EQ(WhyWith(&Pre(1), "_target_", "scripts.transforms.LoadImaged"),
            "IMPORT_UNSUPPORTED preprocessing.transforms[1]");
  EXPECT_EQ(WhyWith(&Pre(1), "_target_", "Invertd"), "IMPORT_UNSUPPORTED preprocessing.transforms[1]");
  EXPECT_EQ(WhyWith(&Post(0), "_target_", "Spacingd"), "IMPORT_UNSUPPORTED postprocessing.transforms[0]");
  EXPECT_EQ(WhyWith(&inference, "evaluator", Json::parse(R"({"_target_": "EnsembleEvaluator"})")),
            "IMPORT_UNSUPPORTED evaluator");
  EXPECT_EQ(
      WhyWith(&inference, "evaluator",
              Json::parse(R"({"_target_": "SupervisedEvaluator", "prepare_batch": "$scripts.prepare"})")),
      "IMPORT_UNSUPPORTED evaluator.prepare_batch");
  EXPECT_EQ(WhyWith(&inference, "inferer#overlap", 0.9), "IMPORT_UNSUPPORTED inferer#overlap");
  EXPECT_EQ(WhyWith(&metadata["network_data_format"]["inputs"]["image"], "modality", "US"),
            "IMPORT_UNSUPPORTED metadata.network_data_format.inputs.modality");
}

TEST_F(ImportMonaiTest, PartsThatAreSwitchedOffDoNotCount) {
  AddPre(R"({"_target_": "scripts.Unknown", "_disabled_": true})");
  AddPre(R"({"_target_": "Flipd", "_disabled_": "$not @off"})");
  inference["off"] = false;
  AddPost(R"({"_target_": "SaveImaged", "keys": "pred", "_disabled_": "True"})");
  EXPECT_EQ(Recipe().preparation().intensity_size(), 1);
  inference["off"] = true;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[6]");
}

TEST_F(ImportMonaiTest, TheEvaluatorSaysWhatCounts) {
  inference["other"] = inference["inferer"];
  inference["other"]["overlap"] = 0.75;
  inference["evaluator"] =
      Json::parse(R"({"_target_": "SupervisedEvaluator", "inferer": "@other", "amp": true})");
  EXPECT_EQ(Recipe().windows().overlap(), 0.75);
}

TEST_F(ImportMonaiTest, OrderOfIntensityAndSpacing) {
  AddPre(R"({"_target_": "ScaleIntensityd", "keys": "image", "minv": -1})");
  v1::Recipe recipe = Recipe();
  EXPECT_FALSE(recipe.preparation().intensity_before_spacing());
  EXPECT_EQ(recipe.preparation().intensity(1).scale_min_max().to_min(), -1);
  std::swap(Pre(3), Pre(4));
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[5]") << "one before and one after";
  inference["preprocessing"]["transforms"].erase(5);
  EXPECT_TRUE(Recipe().preparation().intensity_before_spacing());
}

TEST_F(ImportMonaiTest, FixedValuesOfNormalizeIntensity) {
  Pre(4)["subtrahend"] = 100;
  Pre(4)["divisor"] = 50.5;
  const v1::ZScore z_score = Recipe().preparation().intensity(0).z_score();
  EXPECT_EQ(z_score.mean(), 100);
  EXPECT_EQ(z_score.std(), 50.5);
  EXPECT_EQ(WhyWith(&Pre(4), "nonzero", true), "IMPORT_UNSUPPORTED preprocessing.transforms[4].nonzero");
}

TEST_F(ImportMonaiTest, SeveralImagesBecomeSeveralInputs) {
  const Json keys = {"arterial", "venous"};
  for (std::size_t i = 0; i < 5; ++i) Pre(i)["keys"] = keys;
  Pre(4)["channel_wise"] = true;
  inference["network_def"]["in_channels"] = 2;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing") << "nothing puts them together";
  AddPre(R"({"_target_": "ConcatItemsd", "keys": ["arterial", "venous"], "name": "image"})");
  Post(1)["orig_keys"] = "arterial";
  const v1::Recipe recipe = Recipe();
  ASSERT_EQ(recipe.inputs_size(), 2);
  EXPECT_EQ(recipe.inputs(1).name(), "venous");
  EXPECT_THAT(recipe.inputs(1).phase_texts(), ElementsAre("venous"));
  Pre(4)["channel_wise"] = false;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[4].channel_wise");
}

TEST_F(ImportMonaiTest, OneChannelWithAThreshold) {
  inference["network_def"]["out_channels"] = 1;
  Post(0) = Json::parse(R"({"_target_": "Activationsd", "keys": "pred", "sigmoid": true})");
  Post(2) = Json::parse(R"({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.7})");
  const v1::Recipe recipe = Recipe();
  EXPECT_EQ(recipe.labels(0).name(), "left lung") << "channel_def describes the values";
  const auto above = static_cast<float>(recipe.decode(2).threshold().above());
  EXPECT_EQ(std::nextafter(above, 1.0F), 0.7F);
  inference["network_def"]["out_channels"] = 2;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing") << "labels that overlap";
}

TEST_F(ImportMonaiTest, PaintingByNestedWhere) {
  Post(0) = Json::parse(R"({"_target_": "Activationsd", "keys": "pred", "sigmoid": true})");
  Post(2) = Json::parse(R"({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5})");
  AddPost(R"({"_target_": "Lambdad", "keys": "pred"})");
  Post(3)["func"] =
      "$lambda y: torch.where(y[[0]] > 0, 9, torch.where(y[2] > 0, 5, torch.where(y[[1]] > 0, 7, 0)))";
  const v1::Recipe recipe = Recipe();
  EXPECT_THAT(Numbers(recipe.decode(2).threshold().paint_order()), ElementsAre(1, 2, 0));
  EXPECT_EQ(recipe.labels(0).value(), 9U);
  EXPECT_EQ(recipe.labels(1).value(), 7U);
  EXPECT_EQ(recipe.labels(2).value(), 5U);

  for (const char* other :
       {"$lambda y: y", "$lambda y: torch.where(y[[0]] > 0, 1, 0)",
        "$lambda y: torch.where(y[[0]] > 0, 1, y)",
        "$lambda y: torch.where(y[[0]] > 1, 9, torch.where(y[2] > 0, 5, torch.where(y[[1]] > 0, 7, 0)))",
        "$lambda y: torch.where(y[[0]] > 0, 9, torch.where(y[0] > 0, 5, torch.where(y[[1]] > 0, 7, 0)))",
        "$lambda y: torch.where(x[[0]] > 0, 9, torch.where(y[2] > 0, 5, torch.where(y[[1]] > 0, 7, 0)))",
        "$scripts.paint"}) {
    Post(3)["func"] = other;
    EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing.transforms[3].func") << other;
  }
}

TEST_F(ImportMonaiTest, KeepLargestAfterPaintingTakesEveryPaintedValue) {
  Post(0) = Json::parse(R"({"_target_": "Activationsd", "keys": "pred", "sigmoid": true})");
  Post(2) = Json::parse(R"({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5})");
  AddPost(R"({"_target_": "Lambdad", "keys": "pred"})");
  Post(3)["func"] =
      "$lambda y: torch.where(y[[0]] > 0, 1, torch.where(y[[1]] > 0, 2, torch.where(y[[2]] > 0, 4, 0)))";
  AddPost(R"({"_target_": "KeepLargestConnectedComponentd", "keys": "pred"})");
  const auto kept = [this] {
    const v1::Recipe recipe = Recipe();
    std::vector<unsigned> labels;
    for (const v1::DecodeStep& step : recipe.decode()) {
      if (step.has_keep_largest()) labels.push_back(step.keep_largest().label());
    }
    return labels;
  };
  EXPECT_THAT(kept(), ElementsAre(1, 2, 4));
  Post(4)["applied_labels"] = {4};
  EXPECT_THAT(kept(), ElementsAre(4));
  std::swap(Post(3), Post(4));
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing.transforms[3]") << "MONAI takes channels as one-hot";

  inference["network_def"]["out_channels"] = 1;
  Post(3).erase("applied_labels");
  Post(4)["func"] = "$lambda y: torch.where(y[[0]] > 0, 4, 0)";
  EXPECT_THAT(kept(), ElementsAre(4)) << "what is 1 before the painting is 4 after it";
  EXPECT_EQ(Recipe().labels(0).name(), "left lung");
  Post(3)["applied_labels"] = {4};
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing.transforms[3].applied_labels") << "not painted yet";
}

TEST_F(ImportMonaiTest, LabelsAreMadeOnceAndBroughtBackOnce) {
  AddPost(R"({"_target_": "AsDiscreted", "keys": "pred", "argmax": true})");
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing.transforms[3]");
  inference["postprocessing"]["transforms"].erase(3);
  inference["postprocessing"]["transforms"].erase(2);
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing") << "no labels";
  Post(1) = Json::parse(R"({"_target_": "AsDiscreted", "keys": "pred", "argmax": true})");
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED postprocessing") << "labels that keep the network's spacing";
  inference["preprocessing"]["transforms"].erase(3);
  EXPECT_EQ(Recipe().decode(2).to_volume_grid().interpolation(), v1::INTERPOLATION_NEAREST);
}

TEST_F(ImportMonaiTest, AStatedModalityReplacesTheBundles) {
  ImportOptions options;
  options.modalities = {"MR"};
  ImportedModel model = Model(options);
  EXPECT_THAT(model.recipe.inputs(0).modalities(), ElementsAre("MR"));
  EXPECT_EQ(model.recipe.inputs(0).name(), "mr");
  EXPECT_THAT(model.notes, Contains(HasSubstr("modality CT; --modality replaced it by MR")));
  EXPECT_THAT(model.card, HasSubstr("--modality replaced it by MR"));
  options.modalities = {"CT"};
  EXPECT_THAT(Model(options).notes, Not(Contains(HasSubstr("modality")))) << "the same";

  Json& image = metadata["network_data_format"]["inputs"]["image"];
  options.modalities = {"PT", "CT", "PT"};
  for (const char* word : {"US", ""}) {
    image["modality"] = word;
    model = Model(options);
    EXPECT_THAT(model.recipe.inputs(0).modalities(), ElementsAre("PT", "CT")) << word;
    EXPECT_EQ(std::count(model.notes.begin(), model.notes.end(),
                         "The bundle states the modality US; --modality replaced it by PT, CT."),
              *word == 'U' ? 1 : 0);
  }
  for (const char* other : {"US", "ct", ""}) {
    options.modalities = {"CT", other};
    EXPECT_EQ(Refusal({MakeBundleOf(inference, metadata)}, options), "IMPORT_INVALID --modality") << other;
  }
}

TEST_F(ImportMonaiTest, WholeAxes) {
  inference["inferer"]["roi_size"] = {64, -1, 0};
  EXPECT_THAT(Numbers(Recipe().windows().size()), ElementsAre(64, 0, 0));
  inference["inferer"]["roi_size"] = 48;
  EXPECT_THAT(Numbers(Recipe().windows().size()), ElementsAre(48, 48, 48));
}

TEST_F(ImportMonaiTest, TheRecipeIsValidatedWithTheFieldNamed) {
  Pre(3)["pixdim"] = {1.0, 1.5, 1e9};
  EXPECT_EQ(Why(), "RECIPE_INVALID preparation.spacing.spacing_mm");
  Pre(2)["axcodes"] = "RAX";
  EXPECT_EQ(Why(), "RECIPE_INVALID preparation.orientation");
}

TEST_F(ImportMonaiTest, WritesAnEntryThatTheRepositoryTakes) {
  ImportOptions options;
  options.name = "lobes";
  const std::string archive = MakeBundleOf(inference, metadata);
  const auto model = ReadModel({archive}, options);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::filesystem::path models = folder() / "models";
  const auto entry = WriteModel(*model, models.string());
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(*entry, (models / "lobes/1").string());

  const auto repository = Repository::Scan({models.string()});
  ASSERT_TRUE(repository.ok());
  const auto found = repository->Find("lobes", "1");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->recipe.SerializeAsString(), model->recipe.SerializeAsString());
  EXPECT_EQ(ReadText(models / "lobes/1/model.ts"), ReadText(archive));
  const std::string card = ReadText(models / "lobes/1/card.md");
  for (const char* text :
       {"# lobes", "RESEARCH", "Segments two lobes.", "A. Author, B. Author", "Apache-2.0", "Paper 1"}) {
    EXPECT_THAT(card, HasSubstr(text));
  }
  const std::string recipe = ReadText(models / "lobes/1/recipe.textproto");
  EXPECT_THAT(recipe, HasSubstr(" size: [64, 64, 32] "));
  EXPECT_THAT(recipe, HasSubstr("# "));

  // Never in place, and nothing is left over.
  EXPECT_EQ(base::ReasonOf(WriteModel(*model, models.string()).status()), "MODEL_EXISTS");
  int entries = 0;
  for (const auto& file : std::filesystem::directory_iterator(models / "lobes"))
    entries += file.exists() ? 1 : 0;
  EXPECT_EQ(entries, 1);
}

TEST_F(ImportMonaiTest, AFailedWriteLeavesNothing) {
  auto model = ReadModel({MakeBundleOf(inference, metadata)}, {});
  ASSERT_TRUE(model.ok()) << model.status();
  model->files[0].second = (folder() / "gone.ts").string();
  EXPECT_EQ(base::ReasonOf(WriteModel(*model, (folder() / "models").string()).status()), "WRITE_FAILED");
  EXPECT_FALSE(std::filesystem::exists(folder() / "models" / model->name));
}

TEST_F(ImportMonaiTest, NamesThatWouldLeaveTheFolderAreRefused) {
  for (const char* name : {"..", "../x", "a/b", ".hidden", "x y"}) {
    ImportOptions options;
    options.name = name;
    EXPECT_EQ(Refusal({MakeBundleOf(inference, metadata)}, options), std::string("NAME_INVALID ") + name);
  }
  for (const auto& [name, folder_name] :
       {std::pair("../../etc", "etc"), {"Über Bundle", "ber_bundle"}, {"", "bundle"}}) {
    metadata["name"] = name;
    EXPECT_THAT(Model().name, ::testing::EndsWith(folder_name)) << name;
    EXPECT_EQ(Model().name.find('/'), std::string::npos);
  }
}

TEST_F(ImportMonaiTest, HostileTextsStayTexts) {
  metadata["name"] = "x\" } card { author: \"y\n# z";
  metadata["authors"] = std::string(100000, 'a');
  metadata["description"] = "line\nline\tand \x01";
  const ImportedModel model = Model();
  EXPECT_EQ(model.recipe.card().author().size(), 1000U);
  EXPECT_THAT(model.recipe.title(), HasSubstr("card { author"));
}

}  // namespace
}  // namespace tomoserve::models::importer
