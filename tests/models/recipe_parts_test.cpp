// Composites: what validation accepts and refuses, and what follows from the parts.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "models/invalid_recipes.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::models {
namespace {

using ::testing::ElementsAre;

v1::Recipe Composite() {
  v1::Recipe recipe = Valid(kValidRecipe);
  for (const std::uint32_t value : {4, 9}) {
    *recipe.add_labels() = recipe.labels(0);
    recipe.mutable_labels()->rbegin()->set_value(value);
    recipe.mutable_labels()->rbegin()->set_name("label " + std::to_string(value));
  }
  v1::Network& network = *recipe.mutable_network();
  network.clear_files();
  network.clear_output_channels();
  network.add_mirror_axes(0);
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(R"(
    parts { name: "organs" files: "a.ts" files: "b.ts" output_channels: 3 labels: [9, 1] }
    parts { name: "bones" files: "c.ts" output_channels: 2 labels: 4
            intensity { affine { scale: 2 } } }
  )",
                                                            &network));
  return recipe;
}

void UseThreshold(R r) {
  r.mutable_decode(0)->set_activation(v1::ACTIVATION_SIGMOID);
  r.mutable_decode(2)->mutable_threshold()->set_above(0.5);
  for (v1::Part& part : *r.mutable_network()->mutable_parts()) {
    part.set_output_channels(static_cast<std::uint32_t>(part.labels_size()));
  }
}

v1::Part& Organs(R r) { return *r.mutable_network()->mutable_parts(0); }
v1::Part& Bones(R r) { return *r.mutable_network()->mutable_parts(1); }

// Between a label and the background lie those of other parts.
TEST(CompositeRecipeTest, LabelsGoBackByNearest) {
  v1::Recipe recipe = Composite();
  for (int step = 0; step + 1 < recipe.decode_size(); ++step) {
    if (recipe.decode(step).has_to_volume_grid() && recipe.decode(step + 1).has_arg_max())
      recipe.mutable_decode()->SwapElements(step, step + 1);
  }
  for (v1::DecodeStep& step : *recipe.mutable_decode()) {
    if (step.has_to_volume_grid()) step.mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  }
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_THAT(base::ValueOf(status), ::testing::EndsWith("to_volume_grid.interpolation")) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("composite")) << status;
}

class RecipePartsTest : public ::testing::TestWithParam<Case> {};

TEST_P(RecipePartsTest, NamesTheField) {
  v1::Recipe recipe = Composite();
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  GetParam().change(recipe);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_INVALID") << status;
  EXPECT_EQ(base::ValueOf(status), GetParam().path) << status;
}

INSTANTIATE_TEST_SUITE_P(
    Parts, RecipePartsTest,
    ::testing::Values(
        Case{"FilesBesideParts", [](R r) { r.mutable_network()->add_files("x.ts"); }, "network.files"},
        Case{"ChannelsBesideParts", [](R r) { r.mutable_network()->set_output_channels(3); },
             "network.output_channels"},
        Case{"NoName", [](R r) { Organs(r).set_name(" "); }, "network.parts[0].name"},
        Case{"LongName", [](R r) { Organs(r).set_name(std::string(65, 'x')); }, "network.parts[0].name"},
        Case{"ControlCharacterInName", [](R r) { Organs(r).set_name("or\tgans"); }, "network.parts[0].name"},
        Case{"SameName", [](R r) { Bones(r).set_name("organs"); }, "network.parts[1].name"},
        Case{"NoFile", [](R r) { Bones(r).clear_files(); }, "network.parts[1].files"},
        Case{"BadFile", [](R r) { Bones(r).set_files(0, "../c.ts"); }, "network.parts[1].files[0]"},
        Case{"FileOfAnotherPart", [](R r) { Bones(r).set_files(0, "b.ts"); }, "network.parts[1].files[0]"},
        Case{"TooManyFilesTogether",
             [](R r) {
               for (int i = 0; i < 14; ++i) Organs(r).add_files("o" + std::to_string(i) + ".ts");
               for (int i = 0; i < 15; ++i) Bones(r).add_files("b" + std::to_string(i) + ".ts");
             },
             "network.parts[1].files"},
        Case{"NoChannels", [](R r) { Bones(r).clear_output_channels(); }, "network.parts[1].output_channels"},
        Case{"NoLabels", [](R r) { Bones(r).clear_labels(); }, "network.parts[1].labels"},
        Case{"UnknownLabel", [](R r) { Organs(r).set_labels(1, 5); }, "network.parts[0].labels[1]"},
        Case{"LabelOfTwoParts", [](R r) { Bones(r).set_labels(0, 9); }, "network.parts[1].labels[0]"},
        Case{"LabelTwice", [](R r) { Organs(r).set_labels(1, 9); }, "network.parts[0].labels[1]"},
        Case{"LabelOfNoPart",
             [](R r) {
               *r.add_labels() = r.labels(0);
               r.mutable_labels(3)->set_value(7);
               r.mutable_labels(3)->set_name("nobody's");
             },
             "labels[3]"},
        Case{"ChannelsOfArgMax", [](R r) { Organs(r).set_output_channels(2); },
             "network.parts[0].output_channels"},
        Case{"ChannelsOfThreshold",
             [](R r) {
               UseThreshold(r);
               EXPECT_TRUE(ValidateRecipe(r).ok()) << ValidateRecipe(r);
               Bones(r).set_output_channels(2);
             },
             "network.parts[1].output_channels"},
        Case{"PaintOrder",
             [](R r) {
               UseThreshold(r);
               r.mutable_decode(2)->mutable_threshold()->add_paint_order(0);
             },
             "decode[2].threshold.paint_order"},
        Case{"Intensity", [](R r) { Bones(r).mutable_intensity(0)->clear_affine(); },
             "network.parts[1].intensity[0]"},
        Case{"IntensityBesideThatOfAnInput",
             [](R r) { r.mutable_inputs(0)->add_intensity()->mutable_affine()->set_scale(3); },
             "network.parts[1].intensity"},
        Case{"Detector",
             [](R r) {
               r.clear_decode();
               r.add_decode()->mutable_detect_boxes();
             },
             "network.parts"}),
    CaseName);

TEST(PartsTest, AnInputMayHaveIntensityWhereNoPartHas) {
  v1::Recipe recipe = Composite();
  recipe.mutable_inputs(0)->add_intensity()->mutable_affine()->set_scale(3);
  Bones(recipe).clear_intensity();
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

TEST(PartsTest, FilledHolesHaveNoScores) {
  v1::Recipe recipe = Composite();
  recipe.add_decode()->mutable_fill_holes()->set_label(1);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_UNSUPPORTED") << status;
  EXPECT_EQ(base::ValueOf(status), "decode[" + std::to_string(recipe.decode_size() - 1) + "].fill_holes");
}

TEST(PartsTest, NetworksAndFiles) {
  const v1::Recipe recipe = Composite();
  EXPECT_EQ(NetworkCount(recipe), 2u);
  EXPECT_THAT(NetworkFiles(recipe), ElementsAre("a.ts", "b.ts", "c.ts"));
  EXPECT_EQ(MostOutputChannels(recipe), 3u);
  EXPECT_THAT(PreparedBy(recipe), ElementsAre(0, 1));
  const v1::Recipe organs = NetworkRecipe(recipe, 0);
  EXPECT_THAT(organs.network().files(), ElementsAre("a.ts", "b.ts"));
  EXPECT_EQ(organs.network().output_channels(), 3u);
  EXPECT_EQ(organs.network().parts_size(), 1) << "with the values of its channels";
  ASSERT_EQ(organs.labels_size(), 2);
  EXPECT_EQ(organs.labels(0).value(), 9u);
  EXPECT_TRUE(organs.preparation().intensity(0).has_scale_range());
  EXPECT_TRUE(NetworkRecipe(recipe, 1).preparation().intensity(0).has_affine());
  const v1::Recipe one = Valid(kValidRecipe);
  EXPECT_EQ(NetworkCount(one), 1u);
  EXPECT_THAT(NetworkFiles(one), ElementsAre("model.ts"));
  EXPECT_EQ(NetworkRecipe(one, 0).SerializeAsString(), one.SerializeAsString());
}

TEST(PartsTest, PartsWithEqualIntensityShareAPreparedVolume) {
  v1::Recipe recipe = Composite();
  v1::Network& network = *recipe.mutable_network();
  for (int i = 0; i < 2; ++i) *network.add_parts() = network.parts(i);
  *network.mutable_parts(2)->mutable_intensity() = recipe.preparation().intensity();
  EXPECT_THAT(PreparedBy(recipe), ElementsAre(0, 1, 0, 1));
  EXPECT_EQ(PreparationCount(recipe), 2u);
}

TEST(PartsTest, TheRepositoryDigestsTheFilesOfAllParts) {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("parts-" + std::to_string(::getpid()));
  fs::create_directories(root / "total/1");
  std::string text;
  google::protobuf::TextFormat::PrintToString(Composite(), &text);
  std::ofstream(root / "total/1/recipe.textproto") << text;
  for (const char* file : {"a.ts", "b.ts", "c.ts"}) std::ofstream(root / "total/1" / file) << file;
  const auto scanned = Repository::Scan({root.string()});
  ASSERT_TRUE(scanned.ok()) << scanned.status();
  const Model& model = scanned->models()[0];
  ASSERT_TRUE(model.good()) << model.refused.code() << model.refused.text();
  EXPECT_THAT(model.file_sha256,
              ElementsAre(base::Sha256Hex("a.ts"), base::Sha256Hex("b.ts"), base::Sha256Hex("c.ts")));
  const auto files = Repository::OpenFiles(model);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->size(), 3u);
  fs::remove(root / "total/1/c.ts");
  EXPECT_EQ(Repository::Scan({root.string()})->models()[0].refused.value(), "c.ts");
  fs::remove_all(root);
}

}  // namespace
}  // namespace tomoserve::models
