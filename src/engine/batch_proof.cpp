#include "tomoserve/engine/batch_proof.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/failure.h"
#include "engine/output_bits.h"
#include "engine/test_pattern.h"
#include "engine/window_shape.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

// Which windows of a batch hold no number.
enum class Nan { kNone, kEven, kOdd };

bool HoldsNan(Nan nan, std::uint32_t position) {
  return nan != Nan::kNone && (position % 2 == 0) == (nan == Nan::kEven);
}

// The windows differ in values and in their range.
at::Tensor WindowOf(const Network& network, std::uint32_t position) {
  const std::span<const std::int64_t> shape = network.window_shape();
  return TestPattern({shape.data(), shape.size()}, 0.37 + 0.11 * position)
      .mul_(1 + position)
      .to(network.device().device());
}

// Digest of each position's output where it is computed alone.
absl::StatusOr<std::vector<std::string>> BitsAlone(const Network& network, std::uint32_t windows) {
  std::vector<std::string> bits;
  for (std::uint32_t position = 0; position < windows; ++position) {
    TS_ASSIGN_OR_RETURN(const std::vector<at::Tensor> outputs, network.Forward(WindowOf(network, position)));
    bits.push_back(BitsOf(outputs));
  }
  return bits;
}

at::Tensor BatchOf(const Network& network, std::uint32_t windows, Nan nan) {
  std::vector<std::int64_t> shape(network.window_shape().begin(), network.window_shape().end());
  shape[0] = windows;
  const at::Tensor batch = at::empty(shape, at::TensorOptions(at::kFloat).device(network.device().device()));
  for (std::uint32_t position = 0; position < windows; ++position) {
    at::Tensor row = batch.narrow(0, position, 1);
    if (HoldsNan(nan, position)) {
      row.fill_(std::numeric_limits<double>::quiet_NaN());
    } else {
      row.copy_(WindowOf(network, position));
    }
  }
  return batch;
}

struct Pass {
  std::vector<at::Tensor> outputs;
  double ms = 0;
};

absl::StatusOr<Pass> TimedPass(const Network& network, const at::Tensor& batch) {
  network.device().Synchronise();
  const double begin_ms = base::MonotonicMs();
  TS_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs, network.Forward(batch));
  network.device().Synchronise();
  return Pass{.outputs = std::move(outputs), .ms = base::MonotonicMs() - begin_ms};
}

// Milliseconds of a pass that gave every window its own bits.
absl::StatusOr<double> ProvePass(const Network& network, std::uint32_t windows, Nan nan,
                                 const std::vector<std::string>& alone) {
  TS_ASSIGN_OR_RETURN(const Pass pass, TimedPass(network, BatchOf(network, windows, nan)));
  for (std::uint32_t position = 0; position < windows; ++position) {
    if (HoldsNan(nan, position)) continue;
    std::vector<at::Tensor> rows;
    for (const at::Tensor& output : pass.outputs) rows.push_back(output.narrow(0, position, 1));
    if (BitsOf(rows) != alone[position]) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "BATCH_CHANGES_BITS", std::to_string(windows),
                         "a window's output depends on its place in a batch or on the windows beside it");
    }
  }
  return pass.ms;
}

}  // namespace

absl::StatusOr<double> ProveBatch(const Network& network, std::uint32_t windows) {
  if (network.branches_on_values()) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "BATCH_BRANCHES", "",
                       "the network's code decides by what it computes");
  }
  try {
    network.device().Use();
    const c10::InferenceMode inference;
    TS_ASSIGN_OR_RETURN(const std::vector<std::string> alone, BitsAlone(network, windows));
    TS_RETURN_IF_ERROR(ProvePass(network, windows, Nan::kNone, alone).status());  // pays for the first time
    std::array<double, 3> ms{};
    constexpr std::array<Nan, 3> kPasses = {Nan::kEven, Nan::kOdd, Nan::kNone};
    for (std::size_t pass = 0; pass < ms.size(); ++pass) {
      TS_ASSIGN_OR_RETURN(ms[pass], ProvePass(network, windows, kPasses[pass], alone));
    }
    std::sort(ms.begin(), ms.end());
    return ms[1];
  } catch (...) {
    return CurrentException(absl::StatusCode::kInternal, "NETWORK_FAILED", ShapeText(network.window_shape()),
                            "the network failed on a batch");
  }
}

absl::StatusOr<double> TimeBatch(const Network& network, std::uint32_t windows) {
  try {
    network.device().Use();
    const c10::InferenceMode inference;
    const at::Tensor batch = BatchOf(network, windows, Nan::kNone);
    TS_RETURN_IF_ERROR(TimedPass(network, batch).status());  // pays for the first time
    std::array<double, 3> ms{};
    for (double& of : ms) {
      TS_ASSIGN_OR_RETURN(const Pass pass, TimedPass(network, batch));
      of = pass.ms;
    }
    std::sort(ms.begin(), ms.end());
    return ms[1];
  } catch (...) {
    return CurrentException(absl::StatusCode::kInternal, "NETWORK_FAILED", ShapeText(network.window_shape()),
                            "the network failed on a batch");
  }
}

}  // namespace tomoserve::engine
