#include "engine/network_output.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "engine/script_module.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

using testing::FileOf;
using testing::ScriptArchive;

at::Tensor Filled(double value) { return at::full({1}, value); }

// Of each tensor its only value.
std::vector<double> Order(const c10::IValue& value) {
  const auto tensors = TensorsOf(value);
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  std::vector<double> values;
  if (!tensors.ok()) return values;
  for (const at::Tensor& tensor : *tensors) values.push_back(tensor.item<double>());
  return values;
}

TEST(TensorsOfTest, ATensorATupleAListAndADictOfOne) {
  EXPECT_EQ(Order(Filled(1)), (std::vector<double>{1}));
  EXPECT_EQ(Order(c10::ivalue::Tuple::create({Filled(1), Filled(2)})), (std::vector<double>{1, 2}));
  EXPECT_EQ(Order(c10::List<at::Tensor>({Filled(2), Filled(1)})), (std::vector<double>{2, 1}));
  c10::Dict<std::string, at::Tensor> one;
  one.insert("pred", Filled(3));
  EXPECT_EQ(Order(one), (std::vector<double>{3}));
}

TEST(TensorsOfTest, NestedOnesAreFlattenedInOrder) {
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("out", Filled(4));
  EXPECT_EQ(Order(c10::ivalue::Tuple::create(
                {Filled(1), c10::List<at::Tensor>({Filled(2), Filled(3)}), c10::IValue(dict)})),
            (std::vector<double>{1, 2, 3, 4}));
}

TEST(TensorsOfTest, MonaisDetectorsAnswerClassesThenBoxesWhateverTheDictsOrder) {
  c10::Dict<std::string, c10::List<at::Tensor>> dict;
  dict.insert("box_regression", c10::List<at::Tensor>({Filled(3), Filled(4)}));
  dict.insert("classification", c10::List<at::Tensor>({Filled(1), Filled(2)}));
  EXPECT_EQ(Order(dict), (std::vector<double>{1, 2, 3, 4}));
}

TEST(TensorsOfTest, WhatIsNotUnderstoodIsRefusedByItsType) {
  const auto value = [](const c10::IValue& answer) {
    const auto tensors = TensorsOf(answer);
    EXPECT_EQ(base::ReasonOf(tensors.status()), "MODEL_OUTPUT");
    return base::ValueOf(tensors.status());
  };
  EXPECT_EQ(value(c10::IValue()), "None");
  EXPECT_EQ(value(c10::ivalue::Tuple::create({Filled(1), c10::IValue("text")})), "String");
  c10::Dict<std::string, at::Tensor> unknown;
  unknown.insert("classification", Filled(1));
  unknown.insert("boxes", Filled(2));
  EXPECT_EQ(value(unknown), "Dict");
  c10::IValue deep = Filled(1);
  for (int i = 0; i < 20; ++i) deep = c10::ivalue::Tuple::create({deep});
  EXPECT_EQ(value(deep), "Tuple");
}

// One level of stride 2, two anchors, one class.
v1::Recipe DetectorRecipe() {
  v1::Recipe recipe = testing::SmallRecipe();
  recipe.clear_decode();
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  v1::BoxLevel& level = *boxes.add_levels();
  for (int axis = 0; axis < 3; ++axis) level.add_stride(2);
  level.set_anchor_scale(1);
  for (int anchor = 0; anchor < 2; ++anchor) {
    v1::AnchorShape& shape = *boxes.add_anchors();
    for (int axis = 0; axis < 3; ++axis) shape.add_size(4);
  }
  return recipe;
}

// Loads, warms up and answers a window; the first failure's status otherwise.
absl::StatusOr<std::vector<at::Tensor>> Answer(const std::string& result) {
  InitialiseTorch();
  const std::string archive = ScriptArchive(
      "def forward(self, x):\n"
      "  y = torch.max_pool3d(x, [2, 2, 2])\n"
      "  c = torch.cat([y, 2 * y], 1)\n"
      "  b = torch.cat([c, c, c, c, c, c], 1)\n"
      "  return " +
      result + "\n");
  const base::UniqueFd file = FileOf(archive);
  const int fd = file.get();
  const std::string digest = base::Sha256Hex(archive);
  TS_ASSIGN_OR_RETURN(const auto network, Network::Load({&fd, 1}, DetectorRecipe(), {&digest, 1}));
  TS_RETURN_IF_ERROR(network->WarmUp().status());
  return network->Forward(at::full({1, 1, 8, 8, 8}, 3.0));
}

TEST(DetectorOutputTest, MapsComeAsDictListOrTupleAndInAnyPrecision) {
  for (const char* result :
       {"{\"classification\": [c], \"box_regression\": [b]}",
        "{\"box_regression\": b, \"classification\": c}", "[c, b]", "(c.half(), [b.to(dtype=15)])"}) {
    const auto maps = Answer(result);
    ASSERT_TRUE(maps.ok()) << result << maps.status();
    ASSERT_EQ(maps->size(), 2u) << result;
    EXPECT_EQ((*maps)[0].sizes(), (at::IntArrayRef{1, 2, 4, 4, 4})) << result;
    EXPECT_EQ((*maps)[1].sizes(), (at::IntArrayRef{1, 12, 4, 4, 4})) << result;
    for (const at::Tensor& map : *maps) {
      EXPECT_EQ(map.scalar_type(), at::kFloat) << result;
      EXPECT_TRUE(map.is_contiguous()) << result;
      EXPECT_EQ(map.max().item<float>(), 6.0F) << result;
    }
  }
}

TEST(DetectorOutputTest, OtherNumbersOfMapsChannelsAndStridesAreRefused) {
  const auto refusal = [](const char* result) {
    const absl::Status status = Answer(result).status();
    return base::ReasonOf(status) + " " + base::ValueOf(status);
  };
  EXPECT_EQ(refusal("c"), "MODEL_OUTPUT 1 tensors");
  EXPECT_EQ(refusal("[c, c, b, b]"), "MODEL_OUTPUT 4 tensors");
  EXPECT_EQ(refusal("[b, c]"), "MODEL_SHAPE 1x12x4x4x4");
  EXPECT_EQ(refusal("[y, b]"), "MODEL_SHAPE 1x1x4x4x4");
  EXPECT_EQ(refusal("[c, torch.max_pool3d(b, [2, 1, 1])]"), "MODEL_SHAPE 1x12x2x4x4");
}

TEST(SegmentationOutputTest, OneTensorMayBeWrapped) {
  InitialiseTorch();
  for (const char* result : {"[x]", "(x,)", "{\"pred\": x}", "[(x,)]", "x.half()"}) {
    const std::string archive =
        ScriptArchive(std::string("def forward(self, x):\n  return ") + result + "\n");
    const base::UniqueFd file = FileOf(archive);
    const int fd = file.get();
    const std::string digest = base::Sha256Hex(archive);
    const auto network = Network::Load({&fd, 1}, testing::SmallRecipe(), {&digest, 1});
    ASSERT_TRUE(network.ok()) << network.status();
    const auto outputs = (*network)->Forward(at::full({1, 1, 8, 8, 8}, 2.0));
    ASSERT_TRUE(outputs.ok()) << result << outputs.status();
    ASSERT_EQ(outputs->size(), 1u);
    EXPECT_EQ(outputs->front().min().item<float>(), 2.0F);
  }
}

}  // namespace
}  // namespace tomoserve::engine
