// A network: TorchScript files that are verified, scanned, loaded, warmed up and run.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// Number formats of one file's weights: "float32", "float16", "bfloat16", "float64"; several are joined by
// commas.
struct WeightFormats {
  std::string stored;  // in the file
  std::string held;    // as they are computed with
  std::string input;   // of the windows that the network is given
  bool operator==(const WeightFormats&) const = default;
};

// One loaded network; several files are an ensemble (mean output, summed in file order in float32).
// Immutable once loaded; thread-safe.
class Network {
 public:
  // Reads each descriptor (position unchanged) into memory, compares its SHA-256 with the expected one,
  // refuses code that could reach files, the network, Python or native classes, loads it on `device`, sets
  // eval mode and freezes. One descriptor and one digest per recipe.network.files, in that order. Nothing of
  // a file runs before its digest matched and its code was scanned; the scan is a filter, not a sandbox: the
  // process must be in its sandbox before. Weights that are half precision or bfloat16 become float32 on a
  // CPU, where the network allows it, and stay what they are on a GPU; a network whose weights are not
  // float32 is tried with a window here, on the calling thread. Errors: MODEL_DIGEST_MISMATCH (value: file),
  // MODEL_UNREADABLE (value: file), MODEL_FORBIDDEN_OP (value: the operation), OUT_OF_MEMORY, RECIPE_INVALID
  // (value: field).
  static absl::StatusOr<std::shared_ptr<Network>> Load(std::span<const int> fds, const v1::Recipe& recipe,
                                                       std::span<const std::string> file_sha256,
                                                       const ComputeDevice& device = {});
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Runs windows of the recipe's shape (layout SLICES: 512 voxels in plane, or 400 mm where the recipe
  // resamples) on the calling thread and returns the median milliseconds of a pass after the first; if that
  // one takes 10 s or more, of the first. To be called once on every thread that will call Forward, so that
  // no later window pays for a first time; may run on all of them at once. Errors: MODEL_SHAPE (the network
  // does not take the recipe's channels or window, or its output has other channels or another size; value:
  // the shape), MODEL_OUTPUT (value: the type, or how many tensors), MODEL_NOT_DETERMINISTIC (two passes, or
  // two threads, gave different bits), OUT_OF_MEMORY.
  absl::StatusOr<double> WarmUp() const;

  // One window, or N at once: float32 [N, C, a, b(, c)] with C, and the order of a, b, c, as the recipe's
  // network says; the caller's thread must have warmed up. Returns one contiguous float32 [N,
  // output_channels, a, b(, c)]; for a recipe with layout SLICES the z axis of the output is 1 (the answered
  // slice). For a recipe that detects boxes: per level the classification map [N, anchors * output_channels,
  // cells], then per level the box map [N, anchors * 6, cells]. A network may wrap its answer in tuples,
  // lists and MONAI's dict. Values that are not finite pass through. The input is not changed. One intra-op
  // thread; no gradient: the results are inference tensors, to be changed in place inside c10::InferenceMode
  // only.
  //
  // Input and output lie on the network's device. On a GPU the call launches on the device's stream and
  // returns: an error of the device may come with a later call. Convolutions and matrix products of a
  // recipe of precision FLOAT16 take and give half precision there and sum in float32; on the CPU they are
  // float32, but for a network that works in its own format only (weight_formats). When the GPU's memory is
  // short the allocator's cache is given back and the window tried once more. Errors: MODEL_SHAPE,
  // MODEL_OUTPUT, NETWORK_FAILED, OUT_OF_MEMORY, kInvalidArgument INPUT_DEVICE (value: the input's).
  absl::StatusOr<std::vector<at::Tensor>> Forward(const at::Tensor& input) const;

  // Bytes of parameters and buffers of all files, as they are held.
  std::uint64_t weight_bytes() const;
  // Of each file.
  std::vector<WeightFormats> weight_formats() const;
  // Of the windows that it was warmed up with: [1, C, a, b(, c)].
  std::span<const std::int64_t> window_shape() const;
  const ComputeDevice& device() const;
  // Whether its code decides by what it computes: such decisions would be made for all windows of a batch.
  bool branches_on_values() const;

 private:
  struct State;
  explicit Network(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tomoserve::engine
