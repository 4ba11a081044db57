#include "pipeline/painted_labels.h"

#include <ATen/ops/where.h>

#include <cstddef>
#include <utility>

namespace tomoserve::pipeline {

void Paint(MadeLabels part, MadeLabels& painted) {
  if (painted.labels.empty()) {
    painted = std::move(part);
    return;
  }
  for (std::size_t v = 0; v < part.labels.size(); ++v) {
    if (part.labels[v] == 0) continue;
    painted.labels[v] = part.labels[v];
    if (!part.scores.empty()) painted.scores[v] = part.scores[v];
  }
}

void Paint(TensorLabels part, TensorLabels& painted) {
  if (!painted.labels.defined()) {
    painted = std::move(part);
    return;
  }
  const at::Tensor there = part.labels.ne(0);
  painted.labels.copy_(at::where(there, part.labels, painted.labels));
  if (part.scores.defined()) painted.scores.copy_(at::where(there, part.scores, painted.scores));
}

}  // namespace tomoserve::pipeline
