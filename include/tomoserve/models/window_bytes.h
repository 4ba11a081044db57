// Bytes that a run's windows take while they are computed and folded. The front predicts with them, the
// worker admits with them, as with volume/run_bytes.h, which counts the run's arrays.
#pragma once

#include <array>
#include <cstdint>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// How a device computes windows of a model.
struct WindowPasses {
  std::uint64_t forward_bytes = 0;  // that passes on all lanes at once took at warm-up; 0: not known
  std::uint64_t lanes = 1;
  std::uint64_t bucket = 1;  // windows of a batch, at most
  std::uint64_t ahead = 1;   // answers of a run that may wait for their turn to be folded
};

// Values of the network's answer to one window on a prepared volume of this size; of a detector those of all
// its maps.
std::uint64_t AnswerValues(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz);

// Of a run with so many windows, beside its arrays and `forward_bytes`, which a device holds once for all its
// runs: answers that wait; of mirrored windows the sum of the answers and a mirror image, on every lane; and
// what a pass takes more than at warm-up, in proportion to its window.
std::uint64_t WindowBytes(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz,
                          std::uint64_t windows, const WindowPasses& passes);

}  // namespace tomoserve::models
