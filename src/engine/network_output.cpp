#include "engine/network_output.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "engine/window_shape.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::engine {
namespace {

constexpr int kMostNesting = 8;
constexpr std::size_t kMostTensors = 256;

absl::Status BadOutput(std::string_view type, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_OUTPUT", type, text);
}

absl::Status Collect(const c10::IValue& value, int nesting, std::vector<at::Tensor>& tensors);

absl::Status CollectDict(const c10::Dict<c10::IValue, c10::IValue>& dict, int nesting,
                         std::vector<at::Tensor>& tensors) {
  if (dict.size() == 1) return Collect(dict.begin()->value(), nesting, tensors);
  const auto scores = dict.find("classification");
  const auto boxes = dict.find("box_regression");
  if (dict.size() != 2 || scores == dict.end() || boxes == dict.end()) {
    return BadOutput("Dict", "of several entries only classification and box_regression are known");
  }
  TS_RETURN_IF_ERROR(Collect(scores->value(), nesting, tensors));
  return Collect(boxes->value(), nesting, tensors);
}

absl::Status Collect(const c10::IValue& value, int nesting, std::vector<at::Tensor>& tensors) {
  if (nesting > kMostNesting) return BadOutput(value.tagKind(), "the network's answer is nested too deeply");
  if (value.isTensor()) {
    if (tensors.size() == kMostTensors)
      return BadOutput("Tensor", "the network answers with too many tensors");
    tensors.push_back(value.toTensor());
    return absl::OkStatus();
  }
  if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) {
      TS_RETURN_IF_ERROR(Collect(element, nesting + 1, tensors));
    }
    return absl::OkStatus();
  }
  if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) {
      TS_RETURN_IF_ERROR(Collect(element, nesting + 1, tensors));
    }
    return absl::OkStatus();
  }
  if (value.isGenericDict()) return CollectDict(value.toGenericDict(), nesting + 1, tensors);
  return BadOutput(value.tagKind(), "the network must answer with tensors, in tuples, lists or dicts");
}

// A detector's map is a window's in whole cells; a segmentation's tensor is the window's size.
absl::Status CheckShapes(const v1::Recipe& recipe, const at::Tensor& input,
                         const std::vector<at::Tensor>& outputs) {
  const v1::DetectBoxes* const detector = models::DetectorOf(recipe);
  const bool detects = detector != nullptr;
  const std::size_t wanted = detects ? 2 * static_cast<std::size_t>(detector->levels_size()) : 1;
  if (outputs.size() != wanted) {
    return BadOutput(std::to_string(outputs.size()) + " tensors",
                     detects ? "a detector answers with two maps for each of the recipe's levels"
                             : "the network must answer with one tensor");
  }
  for (std::size_t n = 0; n < outputs.size(); ++n) {
    const bool fits = detects ? MapFits(recipe, n, input.sizes(), outputs[n].sizes())
                              : OutputFits(recipe, input.sizes(), outputs[n].sizes());
    if (fits) continue;
    const bool other_channels =
        outputs[n].dim() > 1 && outputs[n].size(1) != recipe.network().output_channels();
    return base::Error(
        absl::StatusCode::kInvalidArgument, "MODEL_SHAPE", ShapeText(outputs[n].sizes()),
        detects ? "decode[0].detect_boxes: a map does not have the recipe's anchors, classes and strides"
        : other_channels ? "network.output_channels: the network's output has another number of channels"
                         : "windows.size: the network's output does not have the size of the window");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<at::Tensor>> TensorsOf(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  TS_RETURN_IF_ERROR(Collect(value, 0, tensors));
  return tensors;
}

absl::StatusOr<std::vector<at::Tensor>> CheckedOutputs(const c10::IValue& value, const at::Tensor& input,
                                                       const v1::Recipe& recipe) {
  TS_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs, TensorsOf(value));
  for (const at::Tensor& output : outputs) {
    if (!output.defined() || output.layout() != at::kStrided || output.device() != input.device() ||
        output.is_quantized() || output.is_complex()) {
      return BadOutput("Tensor", "the network must answer with dense tensors of numbers");
    }
  }
  TS_RETURN_IF_ERROR(CheckShapes(recipe, input, outputs));
  for (at::Tensor& output : outputs) output = output.to(at::kFloat).contiguous();
  return outputs;
}

}  // namespace tomoserve::engine
