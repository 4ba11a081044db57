// The worker program with a network that detects boxes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/worker_program.h"
#include "models/npy_files.h"

namespace tomoserve {
namespace {

using testing::ScriptArchive;
using testing::TestVolume;
using testing::WorkerProgram;
using testing::WorkerReply;

// One level of stride 4, one anchor of 8 voxels.
v1::Recipe DetectorRecipe() {
  v1::Recipe recipe = testing::SmallRecipe(16);
  recipe.clear_decode();
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  v1::BoxLevel& level = *boxes.add_levels();
  level.set_anchor_scale(1);
  v1::AnchorShape& anchor = *boxes.add_anchors();
  for (int axis = 0; axis < 3; ++axis) {
    level.add_stride(4);
    anchor.add_size(8);
    boxes.add_pad_to_multiple_of(4);
  }
  boxes.set_anchor_centre(v1::ANCHOR_CENTRE_CELL_START);
  boxes.set_score_above(0.5);
  boxes.set_candidates_per_level(10);
  boxes.set_suppress_iou_above(0.2);
  boxes.set_max_boxes(10);
  return recipe;
}

// Fires where a cell holds a bright voxel; `answer` is what it says of the maps c and b.
std::string Archive(const std::string& answer) {
  return ScriptArchive(
      "def forward(self, x):\n"
      "  c = torch.max_pool3d(x, [4, 4, 4]) * 20 - 10\n"
      "  b = torch.cat([c * 0, c * 0, c * 0, c * 0, c * 0, c * 0], 1)\n"
      "  return " +
      answer + "\n");
}

TEST(WorkerDetectorTest, AnswersBoxesAndNoLabelMap) {
  WorkerProgram worker({"--lanes", "2"});
  worker.AwaitHello();
  for (const char* answer : {"{\"classification\": [c], \"box_regression\": [b]}", "[c, b]"}) {
    const auto model = worker.Load("m", Archive(answer), DetectorRecipe());
    ASSERT_TRUE(model.warm()) << model.refused().code() << " " << model.refused().text();
    const TestVolume volume;
    worker.Start(volume.Request("r", "m"), volume.Fds());
    const WorkerReply reply = worker.AwaitAnswer();
    ASSERT_TRUE(reply.has_done()) << reply.failed().reason().code() << " " << reply.failed().reason().text();
    const ipc::v1::RunDone& done = reply.done();
    EXPECT_FALSE(done.has_label_map());
    EXPECT_EQ(done.labels_size(), 0) << "nothing was measured that a coverage rule could take for absent";
    EXPECT_EQ(done.windows(), 1u);
    ASSERT_EQ(done.findings_size(), 1);
    EXPECT_EQ(done.findings(0).label_value(), 1u);
    EXPECT_NEAR(done.findings(0).centre_lps().x_mm(), 4, 1e-9);
    EXPECT_THAT(done.findings(0).extent_mm(), ::testing::ElementsAre(8, 8, 8));
    EXPECT_EQ(done.findings(0).key_slice_k(), 4u);
    EXPECT_EQ(volume.Labels(), std::string(16 * 16 * 16, '\0'));
  }
}

TEST(WorkerDetectorTest, AKnownAnswerIsItsBoxes) {
  constexpr std::size_t kSize = 16;
  std::vector<std::int16_t> values(kSize * kSize * kSize);
  for (std::size_t k = 4; k < 8; ++k) {
    for (std::size_t j = 4; j < 8; ++j) {
      for (std::size_t i = 4; i < 8; ++i) values[(k * kSize + j) * kSize + i] = 1;
    }
  }
  v1::Recipe recipe = DetectorRecipe();
  v1::KnownAnswer& known = *recipe.mutable_known_answer();
  known.set_volume("v.npy");
  *known.mutable_geometry() = TestVolume().Request("r", "m").geometry();
  v1::KnownBox& box = *known.add_boxes();
  box.set_label(1);
  for (int axis = 0; axis < 3; ++axis) {
    box.add_center_lps(4);
    box.add_size_mm(8);
  }
  box.set_score(0.9999);
  known.set_box_mm(0.1);
  known.set_box_score(0.005);
  WorkerProgram worker({"--lanes", "2"});
  worker.AwaitHello();
  const auto load = [&] {
    return worker.LoadEnsemble("m", {Archive("[c, b]"), models::NpyOf(values, "(16, 16, 16)")}, recipe);
  };
  const auto state = load();
  EXPECT_TRUE(state.warm()) << state.refused().code() << " " << state.refused().value();
  known.mutable_boxes(0)->set_center_lps(0, 4.5);
  EXPECT_EQ(load().refused().value(),
            "1 of 1 boxes are missing, 1 are new; the first one's nearest is off by 0.5 mm, score 5.46e-05; "
            "0.1 mm, 0.005 may");
}

TEST(WorkerDetectorTest, RefusesMapsThatAreNotTheRecipes) {
  WorkerProgram worker;
  worker.AwaitHello();
  const auto refusal = [&](const char* answer) {
    return worker.Load("m", Archive(answer), DetectorRecipe()).refused().code();
  };
  EXPECT_EQ(refusal("c"), "MODEL_OUTPUT");
  EXPECT_EQ(refusal("[b, c]"), "MODEL_SHAPE");
  EXPECT_EQ(refusal("{\"scores\": [c], \"boxes\": [b]}"), "MODEL_OUTPUT");
}

}  // namespace
}  // namespace tomoserve
