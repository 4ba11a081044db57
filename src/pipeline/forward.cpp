#include "tomoserve/pipeline/forward.h"

#include <ATen/ops/flip.h>

#include <algorithm>
#include <bit>
#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::pipeline {

absl::StatusOr<Outputs> ForwardMirrored(const at::Tensor& input, const std::vector<std::int64_t>& dimensions,
                                        const Forward& forward) {
  if (dimensions.empty()) return forward(input);
  // Subsets as bits, by size and then in lexicographic order, which ascending bits are for three axes.
  std::vector<unsigned> subsets;
  for (unsigned subset = 0; subset < (1u << dimensions.size()); ++subset) subsets.push_back(subset);
  std::stable_sort(subsets.begin(), subsets.end(),
                   [](unsigned a, unsigned b) { return std::popcount(a) < std::popcount(b); });
  return compute::Fenced([&]() -> absl::StatusOr<Outputs> {
    at::Tensor sum;
    for (const unsigned subset : subsets) {
      std::vector<std::int64_t> mirrored;
      for (std::size_t d = 0; d < dimensions.size(); ++d) {
        if ((subset >> d & 1u) != 0) mirrored.push_back(dimensions[d]);
      }
      TS_ASSIGN_OR_RETURN(const Outputs outputs, forward(mirrored.empty() ? input : input.flip(mirrored)));
      if (outputs.tensors.size() != 1) {
        return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_SHAPE",
                           std::to_string(outputs.tensors.size()) + " tensors",
                           "only one tensor can be mirrored back");
      }
      const at::Tensor& output = outputs.tensors.front();
      if (sum.defined() && output.sizes() != sum.sizes()) {
        return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_SHAPE", "",
                           "the network's output shape changes with its input's values");
      }
      if (sum.defined()) {
        sum.add_(mirrored.empty() ? output : output.flip(mirrored));
      } else {
        sum = output.clone();
      }
    }
    return sum.div_(static_cast<double>(subsets.size()));
  });
}

}  // namespace tomoserve::pipeline
