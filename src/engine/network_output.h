// What a network answers: the tensors in it, and whether the recipe expects them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// The tensors of a value, in order: one tensor, or tuples, lists and dicts of such, nested. Of a dict: its
// only entry, or "classification" and then "box_regression" (MONAI's detectors). Errors: kInvalidArgument
// MODEL_OUTPUT (value: the type that is not understood).
absl::StatusOr<std::vector<at::Tensor>> TensorsOf(const c10::IValue& value);

// The answer to `input` as contiguous float32: one tensor of scores, or a detector's maps (per level the
// classification map, then per level the box map). Errors: kInvalidArgument MODEL_OUTPUT (value: the type),
// MODEL_SHAPE (value: the shape).
absl::StatusOr<std::vector<at::Tensor>> CheckedOutputs(const c10::IValue& value, const at::Tensor& input,
                                                       const v1::Recipe& recipe);

}  // namespace tomoserve::engine
