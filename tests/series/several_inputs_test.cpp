// Recipes with several inputs: one volume for each, all on one grid.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "series/assignment.h"
#include "series/selections.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tomoserve::v1::Input;
using tomoserve::v1::Recipe;

using Change = std::function<void(Header&)>;

Change Described(const std::string& text, const Change& more = {}) {
  return [=](Header& header) {
    header.set_series_description(text);
    if (more) more(header);
  };
}

// One input for each text, which a series' description must contain; "" asks for none.
Recipe RecipeOf(const std::vector<std::string>& texts, const std::function<void(Input&)>& change = {}) {
  Recipe recipe;
  for (const std::string& text : texts) {
    Input& input = *recipe.add_inputs();
    input.set_name("input " + (text.empty() ? std::to_string(recipe.inputs_size()) : text));
    input.add_modalities("CT");
    if (!text.empty()) input.add_phase_texts(text);
    if (change) change(input);
  }
  return recipe;
}

// Numbers of the chosen series from 1, in order of inputs; 0: none.
std::vector<std::ptrdiff_t> Chosen(const Selection& selection, const StudySeries& study) {
  std::vector<std::ptrdiff_t> numbers;
  for (const Series* series : selection.series) numbers.push_back(series - study.series.data() + 1);
  return numbers;
}

std::string Said(const Selection& selection) {
  EXPECT_THAT(selection.volumes, IsEmpty());
  EXPECT_EQ(selection.volume(), nullptr);
  return (selection.inconclusive ? "inconclusive: " : "not applicable: ") + Text(selection.reasons);
}

TEST(SeveralInputsTest, EachInputGetsItsSeriesInTheOrderOfInputs) {
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("AX FLAIR")) + SeriesOf(2, 5, 2.5, Described("AX T2")) +
                 SeriesOf(3, 5, 2.5, Described("AX T1 POST")) + SeriesOf(4, 5, 2.5, Described("AX T1 PRE")) +
                 SeriesOf(5, 5, 2.5, Described("AX DWI")));
  const Selection selection = Select(RecipeOf({"T1 post", "T1 pre", "T2", "FLAIR"}), study);
  EXPECT_THAT(Chosen(selection, study), ElementsAre(3, 4, 2, 1));
  EXPECT_EQ(selection.channels, 4u);
  EXPECT_EQ(selection.time_points(), 1u);
  EXPECT_EQ(selection.volume(), &study.series[2].volumes[0]);
  EXPECT_EQ(selection.volumes[3], &study.series[0].volumes[0]);
  EXPECT_THAT(selection.reasons, IsEmpty());
  EXPECT_FALSE(selection.inconclusive);
  EXPECT_THAT(Uses(selection), ElementsAre("analysed", "analysed", "analysed", "analysed", "PHASE()"));
}

TEST(SeveralInputsTest, WhereOnlyTheOrderOfSeriesWouldDecideNothingIsAnalysed) {
  const StudySeries twice =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) + SeriesOf(2, 5, 2.5, Described("T2 FLAIR")) +
                 SeriesOf(3, 5, 2.5, Described("T2 FLAIR +C")));
  const Selection selection = Select(RecipeOf({"T1", "T2"}), twice);
  EXPECT_EQ(Said(selection), "inconclusive: INPUT_AMBIGUOUS(input T2)");
  EXPECT_THAT(Uses(selection), ElementsAre("INPUT_AMBIGUOUS(input T2)", "INPUT_AMBIGUOUS(input T2)",
                                           "INPUT_AMBIGUOUS(input T2)"));
  // Two volumes for two inputs, and nothing says which is which.
  const StudySeries phases =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("A VENOUS")) + SeriesOf(2, 5, 2.5, Described("VIBE A")));
  EXPECT_EQ(Said(Select(RecipeOf({"A", "V"}), phases)), "inconclusive: INPUT_AMBIGUOUS(input A)");
  // Volumes of one series: b values, echoes.
  std::vector<Instance> stack = SeriesOf(1, 5, 2.5, Described("T1"));
  for (std::uint32_t n = 0; n < 10; ++n) {
    stack.push_back(Slice(100 + n, 2.5 * (n / 2)));
    stack.back().header.set_series_instance_uid("1.2.77");
    stack.back().header.set_series_description("DWI");
    stack.back().header.set_frame_of_reference_uid(stack.front().header.frame_of_reference_uid());
    stack.back().header.add_image_type(n % 2 == 0 ? "FAT" : "WATER");
  }
  EXPECT_EQ(Said(Select(RecipeOf({"T1", "DWI"}), BuildStudy(stack))),
            "inconclusive: INPUT_AMBIGUOUS(input DWI)");
  // One that is better by what a recipe prefers is meant.
  const StudySeries kernels =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) + SeriesOf(2, 5, 2.5, Described("T2")) +
                 SeriesOf(3, 5, 2.5, Described("T2", [](Header& h) { h.set_convolution_kernel("SHARP"); })));
  Recipe recipe = RecipeOf({"T1", "T2"});
  recipe.mutable_inputs(1)->add_preferred_kernels("SHARP");
  EXPECT_THAT(Chosen(Select(recipe, kernels), kernels), ElementsAre(1, 3));
}

TEST(SeveralInputsTest, VolumesOfOneSeriesMayServeSeveralInputs) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 10; ++n) {
    stack.push_back(Slice(n, 2.5 * (n / 2)));
    stack.back().header.add_image_type(n % 2 == 0 ? "FAT" : "WATER");
  }
  Recipe recipe = RecipeOf({"", ""});
  recipe.mutable_inputs(0)->add_required_image_types("WATER");
  recipe.mutable_inputs(1)->add_required_image_types("FAT");
  const StudySeries study = BuildStudy(stack);
  const Selection selection = Select(recipe, study);
  ASSERT_THAT(selection.volumes, SizeIs(2));
  EXPECT_EQ(selection.volumes[0]->representative.image_type(0), "WATER");
  EXPECT_EQ(selection.volumes[1]->representative.image_type(0), "FAT");
  ASSERT_THAT(selection.uses, SizeIs(1));
  EXPECT_TRUE(selection.uses[0].analysed());
  ASSERT_EQ(selection.uses[0].reasons_size(), 1);
  EXPECT_EQ(selection.uses[0].reasons(0).code(), "SPLIT_BY");
  EXPECT_EQ(selection.uses[0].reasons(0).text(), "2 of the 2 volumes in its series");
}

TEST(SeveralInputsTest, OneVolumeServesOneInput) {
  const StudySeries study = BuildStudy(SeriesOf(1, 5, 2.5));
  const Selection selection = Select(RecipeOf({"", "", "", ""}), study);
  EXPECT_EQ(Said(selection),
            "not applicable: INPUT_MISSING(input 2) INPUT_MISSING(input 3) INPUT_MISSING(input 4)");
  EXPECT_THAT(Uses(selection), ElementsAre("INPUT_MISSING(input 2)"));
  EXPECT_EQ(selection.channels, 4u);
}

TEST(SeveralInputsTest, AnInputLeavesItsBestVolumeToOneThatHasNoOther) {
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1 POST")) + SeriesOf(2, 5, 2.5, Described("T1")));
  EXPECT_THAT(Chosen(Select(RecipeOf({"T1", "POST"}), study), study), ElementsAre(2, 1));
  EXPECT_THAT(Chosen(Select(RecipeOf({"POST", "T1"}), study), study), ElementsAre(1, 2));
  EXPECT_EQ(Said(Select(RecipeOf({"T1", "T1"}), study)), "inconclusive: INPUT_AMBIGUOUS(input T1)");
}

TEST(SeveralInputsTest, TheGridIsOneThatAllInputsHave) {
  // The thinnest T1 stands alone.
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 1, Described("T1")) + SeriesOf(2, 5, 2.5, Described("T1")) +
                 SeriesOf(3, 5, 2.5, Described("T2")) + SeriesOf(4, 5, 5, Described("T2")));
  const Selection selection = Select(RecipeOf({"T1", "T2"}), study);
  EXPECT_THAT(Chosen(selection, study), ElementsAre(2, 3));
  EXPECT_THAT(Uses(selection),
              ElementsAre("INPUTS_DIFFER(GRID)", "analysed", "analysed", "OUTRANKED(SLICE_SPACING)"));
}

TEST(SeveralInputsTest, OfSeveralGridsTheFirstInputHasTheSay) {
  const auto preferring = [](const char* kernel) {
    Recipe recipe = RecipeOf({"T1", "T2"});
    recipe.mutable_inputs(1)->add_preferred_kernels(kernel);
    return recipe;
  };
  const auto kernel = [](const char* name) { return [name](Header& h) { h.set_convolution_kernel(name); }; };
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 5, Described("T1")) + SeriesOf(2, 5, 5, Described("T2", kernel("A"))) +
                 SeriesOf(3, 5, 2.5, Described("T1")) + SeriesOf(4, 5, 2.5, Described("T2", kernel("B"))) +
                 SeriesOf(5, 5, 2.5, Described("T2", kernel("C"))));
  const Selection selection = Select(preferring("B"), study);
  EXPECT_THAT(Chosen(selection, study), ElementsAre(3, 4));
  EXPECT_THAT(Uses(selection), ElementsAre("OUTRANKED(SLICE_SPACING)", "OUTRANKED(KERNEL)", "analysed",
                                           "analysed", "OUTRANKED(KERNEL)"));
  EXPECT_THAT(Chosen(Select(preferring("C"), study), study), ElementsAre(3, 5));
}

TEST(SeveralInputsTest, NoCommonGridIsInconclusive) {
  const Recipe recipe = RecipeOf({"T1", "T2"});
  const auto with = [&](std::uint32_t slices, double spacing, const Change& change = {}) {
    const StudySeries study = BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) +
                                         SeriesOf(2, slices, spacing, Described("T2", change)));
    const Selection selection = Select(recipe, study);
    return selection.volumes.empty() ? Said(selection) : "chosen";
  };
  const auto moved = [](double mm) {
    return [mm](Header& h) { h.set_image_position(0, h.image_position(0) + mm); };
  };
  EXPECT_EQ(with(5, 2.5), "chosen");
  EXPECT_EQ(with(6, 2.5), "inconclusive: INPUTS_DIFFER(GRID)");
  EXPECT_EQ(with(5, 2.4), "inconclusive: INPUTS_DIFFER(GRID)");
  // Positions that were rounded.
  EXPECT_EQ(with(5, 2.5, moved(0.0005)), "chosen");
  EXPECT_EQ(with(5, 2.5, moved(0.002)), "inconclusive: INPUTS_DIFFER(GRID)");
  EXPECT_EQ(with(5, 2.5, [](Header& h) { h.set_rows(8); }), "inconclusive: INPUTS_DIFFER(GRID)");
  EXPECT_EQ(with(5, 2.5, [](Header& h) { h.set_frame_of_reference_uid("1.2.3.10"); }),
            "inconclusive: INPUTS_DIFFER(FRAME_OF_REFERENCE)");
  EXPECT_EQ(with(6, 2.5, [](Header& h) { h.set_frame_of_reference_uid("1.2.3.10"); }),
            "inconclusive: INPUTS_DIFFER(GRID)");
}

TEST(SeveralInputsTest, ARoundingOfSpacingThatAddsUpIsAnotherGrid) {
  const auto with = [](std::uint32_t columns) {
    const auto wide = [&](double spacing) {
      return [=](Header& h) {
        h.set_columns(columns);
        h.set_pixel_spacing_mm(1, spacing);
      };
    };
    const StudySeries study = BuildStudy(SeriesOf(1, 5, 2.5, Described("T1", wide(0.75))) +
                                         SeriesOf(2, 5, 2.5, Described("T2", wide(0.7505))));
    return Select(RecipeOf({"T1", "T2"}), study).volumes.size();
  };
  EXPECT_EQ(with(32), 2u);
  EXPECT_EQ(with(512), 0u);
}

TEST(SeveralInputsTest, WithoutAFrameOfReferenceOnlyVolumesOfOneSeriesBelongTogether) {
  const auto without = [](const std::string& text) {
    return Described(text, [](Header& h) { h.clear_frame_of_reference_uid(); });
  };
  const StudySeries two = BuildStudy(SeriesOf(1, 5, 2.5, without("T1")) + SeriesOf(2, 5, 2.5, without("T2")));
  const Selection selection = Select(RecipeOf({"T1", "T2"}), two);
  EXPECT_EQ(Said(selection), "inconclusive: INPUTS_DIFFER(FRAME_OF_REFERENCE)");
  EXPECT_THAT(Uses(selection),
              ElementsAre("INPUTS_DIFFER(FRAME_OF_REFERENCE)", "INPUTS_DIFFER(FRAME_OF_REFERENCE)"));
  std::vector<Instance> echoes;
  for (std::uint32_t n = 0; n < 10; ++n) {
    echoes.push_back(Slice(n, 2.5 * (n / 2)));
    echoes.back().header.set_echo_time_ms(n % 2 == 0 ? 5 : 10);
    echoes.back().header.clear_frame_of_reference_uid();
  }
  const StudySeries one = BuildStudy(echoes);
  EXPECT_EQ(Said(Select(RecipeOf({"", ""}), one)), "inconclusive: INPUT_AMBIGUOUS(input 1)")
      << "they are on one grid, in no order that a recipe knows";
}

TEST(SeveralInputsTest, VolumesOfTwoPatientsAreNotJoined) {
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) +
                 SeriesOf(2, 5, 2.5, Described("T2", [](Header& h) { h.set_patient_id("P2"); })));
  ASSERT_TRUE(study.identity_conflict);
  EXPECT_EQ(Said(Select(RecipeOf({"T1", "T2"}), study)), "inconclusive: INPUTS_DIFFER(IDENTITY)");
}

TEST(SeveralInputsTest, AMissingInputIsNamedBeforeWhatCameClosest) {
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) + SeriesOf(2, 5, 2.5, Described("DWI")) +
                 SeriesOf(3, 5, 2.5, Described("T2", [](Header& h) { h.set_lossy(true); })));
  const Selection selection = Select(RecipeOf({"T1", "T2", "FLAIR"}), study);
  EXPECT_EQ(Said(selection),
            "not applicable: INPUT_MISSING(input T2) INPUT_MISSING(input FLAIR) LOSSY() PHASE()");
  EXPECT_THAT(Uses(selection), ElementsAre("INPUT_MISSING(input T2)", "PHASE()", "LOSSY()"));
}

TEST(SeveralInputsTest, AnInputThatOnlyLacksItsGeometryIsInconclusive) {
  std::vector<Instance> broken = SeriesOf(2, 6, 2.5, Described("T2"));
  broken.erase(broken.begin() + 2);
  const StudySeries study = BuildStudy(SeriesOf(1, 6, 2.5, Described("T1")) + broken);
  const Selection selection = Select(RecipeOf({"T1", "T2"}), study);
  EXPECT_EQ(Said(selection), "inconclusive: MISSING_SLICES(1)");
  EXPECT_THAT(Uses(selection), ElementsAre("INPUT_MISSING(input T2)", "MISSING_SLICES(1)"));
  // Whatever becomes of it, another input is not there at all.
  EXPECT_EQ(Said(Select(RecipeOf({"T1", "T2", "FLAIR"}), study)),
            "not applicable: INPUT_MISSING(input FLAIR) PHASE()");
  // The first input could have had the broken one and left its own to the second.
  const StudySeries both = BuildStudy(SeriesOf(1, 6, 2.5, Described("T1 T2")) + broken);
  EXPECT_EQ(Said(Select(RecipeOf({"T2", "T1"}), both)), "inconclusive: MISSING_SLICES(1)");
  // One missing slice is interpolated where both inputs allow it, and is a limitation of the run.
  const Selection repaired =
      Select(RecipeOf({"T1", "T2"}, [](Input& i) { i.set_max_synthetic_slices(1); }), study);
  EXPECT_THAT(Chosen(repaired, study), ElementsAre(1, 2));
  EXPECT_THAT(repaired.limitations, ElementsAre("MISSING_SLICES(1)"));
  EXPECT_EQ(repaired.uses[1].reasons(0).code(), "MISSING_SLICES");
}

TEST(SeveralInputsTest, LimitationsOfAllVolumesAreNamedOnce) {
  const StudySeries study =
      BuildStudy(SeriesOf(1, 5, 2.5, Described("T1")) + SeriesOf(2, 5, 2.5, Described("T2", [](Header& h) {
                                                                   h.set_lossy(true);
                                                                   h.set_lossy_ratio(8);
                                                                 })));
  const Recipe recipe = RecipeOf({"T1", "T2"}, [](Input& i) {
    i.mutable_kvp()->set_min(100);
    i.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
    i.set_max_lossy_ratio(10);
  });
  EXPECT_THAT(Select(recipe, study).limitations, ElementsAre("TAG_MISSING(kvp)", "LOSSY(8)"));
}

// The best by trying everything.
std::vector<const Volume*> Exhaustive(const Choices& choices, std::vector<const Volume*> taken = {}) {
  if (taken.size() == choices.size()) return taken;
  for (const Volume* volume : choices[taken.size()]) {
    if (std::find(taken.begin(), taken.end(), volume) != taken.end()) continue;
    auto more = taken;
    more.push_back(volume);
    auto found = Exhaustive(choices, more);
    if (!found.empty()) return found;
  }
  return {};
}

TEST(SeveralInputsTest, AssignmentsAreTheBestOfAll) {
  std::mt19937 random(1);
  const std::vector<Volume> volumes(7);
  int served = 0;
  for (int round = 0; round < 2000; ++round) {
    Choices choices(1 + random() % 5);
    for (auto& own : choices) {
      for (const Volume& volume : volumes) {
        if (random() % 3 == 0) own.push_back(&volume);
      }
      std::shuffle(own.begin(), own.end(), random);
    }
    const auto best = AssignBest(choices);
    ASSERT_EQ(best, Exhaustive(choices)) << round;
    served += best.empty() ? 0 : 1;
  }
  EXPECT_GT(served, 500);
  EXPECT_LT(served, 1900);
}

TEST(SeveralInputsTest, ManyInputsWithoutAnAnswerTakeNoTime) {
  // One volume too few: a search through all ways would never end.
  const std::vector<Volume> volumes(31);
  Choices choices(32);
  for (auto& own : choices) {
    for (const Volume& volume : volumes) own.push_back(&volume);
  }
  EXPECT_THAT(AssignBest(choices), IsEmpty());
  const auto assigned = Assign(choices);
  EXPECT_EQ(std::count(assigned.begin(), assigned.end(), nullptr), 1);
  EXPECT_EQ(assigned.back(), nullptr);
}

}  // namespace
}  // namespace tomoserve::series
