// Labels of a composite's parts, one painted over the other.
#pragma once

#include <ATen/core/Tensor.h>

#include "pipeline/decode_on_device.h"
#include "pipeline/made_labels.h"

namespace tomoserve::pipeline {

// Of all parts that are done: on the host with plain loops, else on the device; the other one is empty.
struct PaintedLabels {
  bool on_volume_grid = false;  // else the model grid
  MadeLabels loops;
  TensorLabels tensors;
};

// Where the part has a label, it and its score take the place of what the parts before made; the grids are
// the same.
void Paint(MadeLabels part, MadeLabels& painted);
void Paint(TensorLabels part, TensorLabels& painted);

}  // namespace tomoserve::pipeline
