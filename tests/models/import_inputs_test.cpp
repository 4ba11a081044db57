// Networks of several inputs: which series is which channel, and what each channel's numbers are computed
// from.
#include <gmock/gmock.h>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kInference[] = R"({
  "network_def": {"_target_": "UNet", "in_channels": 3, "out_channels": 2},
  "preprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "LoadImaged", "keys": ["t1gd", "t1", "flair"]},
    {"_target_": "ConcatItemsd", "keys": ["t1gd", "t1", "flair"], "name": "image"},
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": true, "channel_wise": true}
  ]},
  "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 32]},
  "postprocessing": {"_target_": "Compose", "transforms": [
    {"_target_": "Activationsd", "keys": "pred", "softmax": true},
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": true}
  ]}
})";
constexpr char kMetadata[] = R"({
  "name": "Tumour", "network_data_format": {
    "inputs": {"image": {"modality": "MR", "num_channels": 3,
      "channel_def": {"0": "T1c", "1": "T1", "2": "FLAIR"}}},
    "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "tumour"}}}
  }
})";

class ImportInputsTest : public ImportTest {
 protected:
  ImportedModel Model() { return MustImport({MakeBundleOf(inference, metadata)}); }
  std::string Why() { return Refusal({MakeBundleOf(inference, metadata)}); }
  Json& Pre(std::size_t index) { return inference["preprocessing"]["transforms"][index]; }
  Json& Channels() { return metadata["network_data_format"]["inputs"]["image"]["channel_def"]; }
  // One file of three channels.
  void LoadOne() {
    Pre(0)["keys"] = "image";
    inference["preprocessing"]["transforms"].erase(1);
  }

  Json inference = Json::parse(kInference);
  Json metadata = Json::parse(kMetadata);
};

TEST(SequenceTest, OnlyWholeNamesCount) {
  for (const char* name : {"T1c", "t1ce", "T1-Gd", "T1 post", "t1w_post", "MRI_T1c", "T1 contrast"}) {
    EXPECT_EQ(SequenceOf(name), Sequence::kT1Contrast) << name;
  }
  for (const char* name : {"T1", "t1n", "T1w", "MR T1", "T1 pre"}) {
    EXPECT_EQ(SequenceOf(name), Sequence::kT1) << name;
  }
  for (const char* name : {"FLAIR", "t2f", "T2-FLAIR"}) {
    EXPECT_EQ(SequenceOf(name), Sequence::kFlair) << name;
  }
  EXPECT_EQ(SequenceOf("T2w"), Sequence::kT2);
  for (const char* name : {"", "MR", "T1 FLAIR", "T1 mapping", "T11", "image", "arterial", "\xC3\xA4"}) {
    EXPECT_EQ(SequenceOf(name), Sequence::kUnknown) << name;
  }
}

TEST_F(ImportInputsTest, SeveralImagesAreInputsInTheirOrder) {
  const ImportedModel model = Model();
  const v1::Recipe& recipe = model.recipe;
  ASSERT_EQ(recipe.inputs_size(), 3);
  EXPECT_EQ(recipe.inputs(0).name(), "t1gd");
  EXPECT_EQ(recipe.inputs(0).contrast(), v1::CONTRAST_WITH);
  EXPECT_EQ(recipe.inputs(1).name(), "t1");
  EXPECT_EQ(recipe.inputs(1).contrast(), v1::CONTRAST_WITHOUT);
  EXPECT_THAT(recipe.inputs(2).phase_texts(), ElementsAre("FLAIR"));
  EXPECT_FALSE(recipe.inputs(0).every_time_point());
  EXPECT_THAT(model.notes, Contains(HasSubstr("Which series is which input")));
}

TEST_F(ImportInputsTest, ImagesAndMetadataInAnotherOrderAreRefused) {
  Channels() = {{"0", "T1"}, {"1", "T1c"}, {"2", "FLAIR"}};
  EXPECT_EQ(Why(), "IMPORT_INVALID metadata.inputs.channel_def");
  Channels() = {{"0", "first"}, {"1", "T1"}, {"2", "FLAIR"}};
  EXPECT_EQ(Model().recipe.inputs(0).contrast(), v1::CONTRAST_WITH) << "the image's name tells enough";
  Pre(1)["keys"] = {"t1", "t1gd", "flair"};
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[1].keys") << "put together in another order";
}

TEST_F(ImportInputsTest, ChannelsOfOneImageAreNamedByTheMetadata) {
  LoadOne();
  const v1::Recipe recipe = Model().recipe;
  ASSERT_EQ(recipe.inputs_size(), 3);
  EXPECT_EQ(recipe.inputs(0).name(), "t1c");
  EXPECT_EQ(recipe.inputs(0).contrast(), v1::CONTRAST_WITH);
  EXPECT_TRUE(recipe.preparation().intensity(0).z_score().nonzero());
}

TEST_F(ImportInputsTest, StatisticsOfAllChannelsTogetherAreRefused) {
  Pre(2).erase("channel_wise");
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[2].channel_wise");
  Pre(2)["channel_wise"] = false;
  EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[2].channel_wise");
  for (const char* other : {R"({"_target_": "ScaleIntensityd", "keys": "image"})",
                            R"({"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1,
                                "upper": 99, "b_min": 0, "b_max": 1})"}) {
    Pre(2) = Json::parse(other);
    EXPECT_EQ(Why(), "IMPORT_UNSUPPORTED preprocessing.transforms[2].channel_wise") << other;
  }
}

TEST_F(ImportInputsTest, WhatTellsNothingTakesNoSeriesUntilItIsStated) {
  LoadOne();
  Channels() = {{"0", "T1"}, {"1", "arterial"}, {"2", "MRI"}};
  ImportedModel model = Model();
  EXPECT_EQ(model.recipe.inputs(0).contrast(), v1::CONTRAST_WITHOUT) << "a wrong answer is worse than none";
  EXPECT_THAT(model.notes, Contains(HasSubstr("Input t1: taken as without contrast agent")));
  EXPECT_THAT(model.recipe.inputs(1).phase_texts(), ElementsAre("arterial"));
  EXPECT_THAT(model.recipe.inputs(2).phase_texts(), ElementsAre("state phase_texts of mri"));
  EXPECT_THAT(model.recipe.card().limitations(),
              Contains(HasSubstr("Input mri: its channel's name tells no")));

  // Of these letters one stands in "AXIAL", the other in "DERIVED".
  Channels() = {{"0", "A"}, {"1", "V"}, {"2", "T1 pre"}};
  model = Model();
  EXPECT_THAT(model.recipe.inputs(0).phase_texts(), ElementsAre("state phase_texts of a"));
  EXPECT_THAT(model.recipe.inputs(1).phase_texts(), ElementsAre("state phase_texts of v"));
  EXPECT_EQ(model.recipe.inputs(2).contrast(), v1::CONTRAST_WITHOUT);

  Channels() = {{"0", "T2"}, {"1", "T2w"}, {"2", "phase"}};
  model = Model();
  EXPECT_THAT(model.recipe.inputs(0).phase_texts(), ElementsAre("state phase_texts of t2"))
      << "two series of one kind";
  EXPECT_THAT(model.recipe.inputs(1).phase_texts(), ElementsAre("state phase_texts of t2w"));

  metadata["network_data_format"]["inputs"]["image"].erase("channel_def");
  model = Model();
  for (int i = 0; i < 3; ++i) {
    const std::string name = "image_" + std::to_string(i);
    EXPECT_EQ(model.recipe.inputs(i).name(), name);
    EXPECT_THAT(model.recipe.inputs(i).phase_texts(), ElementsAre("state phase_texts of " + name));
  }
}

TEST_F(ImportInputsTest, AnInputOfItsOwnModalityNeedsNoText) {
  Draft draft;
  for (const char* modality : {"CT", "PT"}) {
    v1::Input* input = draft.recipe.add_inputs();
    input->set_name(modality);
    input->add_modalities(modality);
  }
  TellApart({"CT", "PET"}, &draft);
  EXPECT_THAT(draft.recipe.inputs(0).phase_texts(), IsEmpty());
  EXPECT_THAT(draft.recipe.inputs(1).phase_texts(), IsEmpty());
  EXPECT_THAT(draft.notes, Not(Contains(HasSubstr("Input "))));
}

TEST_F(ImportInputsTest, OneInputIsLeftAlone) {
  Draft draft;
  draft.recipe.add_inputs()->set_when_missing(v1::WHEN_MISSING_WARN);
  TellApart({"T1c"}, &draft);
  EXPECT_EQ(draft.recipe.inputs(0).when_missing(), v1::WHEN_MISSING_WARN);
  EXPECT_THAT(draft.recipe.inputs(0).phase_texts(), IsEmpty());
  EXPECT_THAT(draft.notes, IsEmpty());
}

TEST_F(ImportInputsTest, SlicesOfSeveralInputsAreOneTimePoint) {
  LoadOne();
  inference["inferer"] =
      Json::parse(R"({"_target_": "SliceInferer", "roi_size": [64, 64], "spatial_dim": 2})");
  const ImportedModel model = Model();
  EXPECT_FALSE(model.recipe.inputs(0).every_time_point());
  EXPECT_THAT(model.notes, Contains(HasSubstr("one is analysed")));
}

}  // namespace
}  // namespace tomoserve::models::importer
