// The published MONAI bundles of the shared data: each imports, or is refused with the construct that is
// missing (docs/MODELS.md lists them).
#include <gmock/gmock.h>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ImportBundlesTest : public ImportTest {
 protected:
  static std::filesystem::path Bundles() { return tomoserve::testing::TestData() / "monai_bundles"; }

  // The archive that ckpt_export would write, without a network.
  std::string Archive(const std::string& bundle) {
    std::map<std::string, std::string> members;
    for (const auto& entry : std::filesystem::directory_iterator(Bundles() / bundle / "configs")) {
      const std::string name = entry.path().filename().string();
      if (name == "inference.json" || name == "metadata.json" || name == "dataset_0.json") {
        members["model/extra/" + name] = ReadText(entry.path());
      }
    }
    return MakeArchive(bundle + ".ts", members);
  }
};

#define TS_BUNDLE(name)                                    \
  TS_SKIP_WITHOUT(Bundles());                              \
  const ImportedModel model = MustImport({Archive(name)}); \
  const v1::Recipe& recipe = model.recipe;                 \
  ASSERT_GT(recipe.decode_size(), 0)

TEST_F(ImportBundlesTest, Spleen) {
  TS_BUNDLE("spleen_ct_segmentation");
  EXPECT_EQ(model.name, "spleen_ct_segmentation");
  EXPECT_EQ(recipe.card().source(), "MONAI bundle Spleen CT segmentation 0.5.9");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(1.5, 1.5, 2));
}

TEST_F(ImportBundlesTest, WholeBody) {
  TS_BUNDLE("wholeBody_ct_segmentation");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(1.5, 1.5, 1.5))
      << "highres is on, reached by '#'";
  EXPECT_EQ(recipe.windows().overlap(), 0.25);
  EXPECT_EQ(recipe.labels_size(), 104);
  EXPECT_EQ(recipe.labels(17).name(), "vertebrae_L5");
  EXPECT_EQ(recipe.labels(17).type().value(), "51282000");
}

TEST_F(ImportBundlesTest, Brats) {
  TS_BUNDLE("brats_mri_segmentation");
  ASSERT_EQ(recipe.inputs_size(), 4);
  EXPECT_EQ(recipe.inputs(0).name(), "t1c");
  EXPECT_EQ(recipe.inputs(1).name(), "t1");
  EXPECT_EQ(recipe.inputs(2).name(), "t2");
  EXPECT_EQ(recipe.inputs(3).name(), "flair");
  for (const v1::Input& input : recipe.inputs()) {
    EXPECT_THAT(input.modalities(), ElementsAre("MR"));
    EXPECT_EQ(input.when_missing(), v1::WHEN_MISSING_REFUSE) << "no guess which series it is";
    EXPECT_TRUE(input.intensity().empty());
  }
  EXPECT_THAT(recipe.inputs(0).phase_texts(), ElementsAre("T1"));
  EXPECT_EQ(recipe.inputs(0).contrast(), v1::CONTRAST_WITH);
  EXPECT_THAT(recipe.inputs(1).phase_texts(), ElementsAre("T1"));
  EXPECT_EQ(recipe.inputs(1).contrast(), v1::CONTRAST_WITHOUT);
  EXPECT_THAT(recipe.inputs(2).phase_texts(), ElementsAre("T2"));
  EXPECT_THAT(recipe.inputs(3).phase_texts(), ElementsAre("FLAIR"));
  EXPECT_THAT(recipe.card().limitations(),
              Contains(HasSubstr("Input t2: T2 stands in other descriptions too")));
  EXPECT_EQ(recipe.network().input_channels(), 4U);
  EXPECT_FALSE(recipe.preparation().has_spacing());
  EXPECT_TRUE(recipe.preparation().intensity(0).z_score().nonzero());
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(240, 240, 160));
  EXPECT_EQ(recipe.decode(0).activation(), v1::ACTIVATION_SIGMOID);
  const v1::Threshold& threshold = recipe.decode(2).threshold();
  EXPECT_THAT(Numbers(threshold.paint_order()), ElementsAre(1, 0, 2));
  EXPECT_LT(static_cast<float>(threshold.above()), 0.5F) << "MONAI takes scores of 0.5 as well";
  EXPECT_EQ(std::nextafter(static_cast<float>(threshold.above()), 1.0F), 0.5F);
  ASSERT_EQ(recipe.labels_size(), 3);
  EXPECT_EQ(recipe.labels(0).value(), 1U);
  EXPECT_EQ(recipe.labels(0).name(), "Tumor core");
  EXPECT_EQ(recipe.labels(1).value(), 2U);
  EXPECT_EQ(recipe.labels(2).value(), 4U);
}

TEST_F(ImportBundlesTest, LungNodules) {
  TS_BUNDLE("lung_nodule_ct_detection");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(0.703125, 0.703125, 1.25))
      << "DICOM takes the branch for raw images";
  const v1::DetectBoxes& boxes = recipe.decode(0).detect_boxes();
  ASSERT_EQ(boxes.levels_size(), 3) << "from resnet50 and its returned layers";
  EXPECT_THAT(Numbers(boxes.levels(0).stride()), ElementsAre(4, 4, 2));
  EXPECT_THAT(Numbers(boxes.levels(2).stride()), ElementsAre(16, 16, 8));
}

TEST_F(ImportBundlesTest, Prostate) {
  TS_BUNDLE("prostate_mri_anatomy");
  EXPECT_EQ(recipe.preparation().intensity_size(), 2);
  ASSERT_EQ(recipe.decode_size(), 5);
  EXPECT_EQ(recipe.decode(2).keep_largest().label(), 1U);
  EXPECT_EQ(recipe.decode(3).keep_largest().label(), 2U);
  EXPECT_EQ(recipe.decode(4).to_volume_grid().interpolation(), v1::INTERPOLATION_LINEAR)
      << "the bundle's own way";
  ASSERT_EQ(model.notes.size(), 1U) << "it makes values between labels";
  EXPECT_THAT(model.notes[0], HasSubstr("linear"));
  EXPECT_THAT(model.card, HasSubstr(model.notes[0]));
}

TEST_F(ImportBundlesTest, Ventricles) {
  TS_BUNDLE("ventricular_short_axis_3label");
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(256, 256, 1));
  EXPECT_EQ(recipe.network().spatial_dims(), 2U);
  EXPECT_TRUE(recipe.inputs(0).every_time_point());
  EXPECT_EQ(recipe.card().license(), "See license.txt");
}

TEST_F(ImportBundlesTest, OthersOfTheSameKind) {
  TS_SKIP_WITHOUT(Bundles());
  const std::map<std::string, int> labels = {{"swin_unetr_btcv_segmentation", 13},
                                             {"renalStructures_UNEST_segmentation", 3}};
  for (const auto& [name, count] : labels) {
    EXPECT_EQ(MustImport({Archive(name)}).recipe.labels_size(), count) << name;
  }
}

TEST_F(ImportBundlesTest, WithoutAnInferenceConfigurationIsRefused) {
  TS_SKIP_WITHOUT(Bundles());
  for (const char* name : {"multi_organ_segmentation", "pancreas_ct_dints_segmentation"}) {
    EXPECT_EQ(Refusal({Archive(name)}), "IMPORT_UNSUPPORTED inference.json") << name;
  }
}

TEST_F(ImportBundlesTest, NoneIsLeftOut) {
  TS_SKIP_WITHOUT(Bundles());
  int bundles = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Bundles()))
    bundles += entry.is_directory() ? 1 : 0;
  EXPECT_EQ(bundles, 10);
}

}  // namespace
}  // namespace tomoserve::models::importer
