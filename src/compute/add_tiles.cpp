#include "compute/add_tiles.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace tomoserve::compute {
namespace {

constexpr std::int64_t kTile = 16;  // values of a line of memory

// One channel: [3] sizes and strides of it.
struct Block {
  const float* from = nullptr;
  const float* weights = nullptr;  // null: 1
  float* to = nullptr;
  std::array<std::int64_t, 3> size{};
  std::array<std::int64_t, 3> from_step{};
  std::array<std::int64_t, 3> weights_step{};
  std::array<std::int64_t, 3> to_step{};
};

bool IsOnHost(const at::Tensor& tensor) { return tensor.is_cpu() && tensor.scalar_type() == at::kFloat; }

// The last three strides.
std::array<std::int64_t, 3> Steps(const at::Tensor& tensor) {
  const std::int64_t first = tensor.dim() - 3;
  return {tensor.stride(first), tensor.stride(first + 1), tensor.stride(first + 2)};
}

// The axis along which memory runs; 3 where none does.
std::size_t Run(const std::array<std::int64_t, 3>& steps, const std::array<std::int64_t, 3>& size) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (steps[axis] == 1 && size[axis] > 1) return axis;
  }
  return 3;
}

void AddRow(const float* from, const float* weights, float* __restrict to, std::int64_t n) {
  if (weights == nullptr) {
    for (std::int64_t v = 0; v < n; ++v) to[v] += from[v];
  } else {
    for (std::int64_t v = 0; v < n; ++v) to[v] += from[v] * weights[v];
  }
}

// Both run along `run`.
void AddRows(const Block& block, std::size_t run) {
  // The longer steps outside.
  const std::size_t a = run == 0 ? 1 : 0;
  const std::size_t b = 3 - run - a;
  const std::size_t outer = block.to_step[a] >= block.to_step[b] ? a : b;
  const std::size_t inner = a + b - outer;
  for (std::int64_t plane = 0; plane < block.size[outer]; ++plane) {
    for (std::int64_t row = 0; row < block.size[inner]; ++row) {
      const auto offset = [&](const std::array<std::int64_t, 3>& steps) {
        return plane * steps[outer] + row * steps[inner];
      };
      AddRow(block.from + offset(block.from_step),
             block.weights == nullptr ? nullptr : block.weights + offset(block.weights_step),
             block.to + offset(block.to_step), block.size[run]);
    }
  }
}

// `from` runs along `in_run`, `to` along `out_run`.
void AddTransposed(const Block& block, std::size_t in_run, std::size_t out_run) {
  const std::size_t other = 3 - in_run - out_run;
  std::array<std::array<float, kTile>, kTile> tile;
  for (std::int64_t plane = 0; plane < block.size[other]; ++plane) {
    for (std::int64_t row = 0; row < block.size[out_run]; row += kTile) {
      const std::int64_t rows = std::min(kTile, block.size[out_run] - row);
      for (std::int64_t column = 0; column < block.size[in_run]; column += kTile) {
        const std::int64_t columns = std::min(kTile, block.size[in_run] - column);
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto offset = [&](const std::array<std::int64_t, 3>& steps) {
            return plane * steps[other] + (row + r) * steps[out_run] + column;
          };
          const float* const from = block.from + offset(block.from_step);
          float* const line = tile[static_cast<std::size_t>(r)].data();
          if (block.weights == nullptr) {
            std::copy_n(from, columns, line);
          } else {
            const float* const weights = block.weights + offset(block.weights_step);
            for (std::int64_t c = 0; c < columns; ++c) line[c] = from[c] * weights[c];
          }
        }
        for (std::int64_t c = 0; c < columns; ++c) {
          float* const line =
              block.to + plane * block.to_step[other] + (column + c) * block.to_step[in_run] + row;
          for (std::int64_t r = 0; r < rows; ++r) {
            line[r] += tile[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)];
          }
        }
      }
    }
  }
}

void AddByOperations(const at::Tensor& from, const at::Tensor& weights, const at::Tensor& to) {
  if (weights.defined()) from.mul_(weights);
  to.add_(from);
}

}  // namespace

void AddTiles(const at::Tensor& from, const at::Tensor& weights, const at::Tensor& to) {
  const bool weighted = weights.defined();
  if (!IsOnHost(from) || !IsOnHost(to) || (weighted && !IsOnHost(weights))) {
    return AddByOperations(from, weights, to);
  }
  const std::int64_t leading = from.dim() - 3;
  TORCH_CHECK(leading >= 0 && from.sizes() == to.sizes() &&
                  (!weighted || weights.sizes() == from.sizes().slice(static_cast<std::size_t>(leading))),
              "AddTiles: sizes differ");
  Block block;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    block.size[axis] = from.size(leading + static_cast<std::int64_t>(axis));
  }
  if (from.numel() == 0) return;
  block.from_step = Steps(from);
  block.to_step = Steps(to);
  if (weighted) block.weights_step = Steps(weights);
  const std::size_t in_run = Run(block.from_step, block.size);
  const std::size_t out_run = Run(block.to_step, block.size);
  if (in_run == 3 || out_run == 3 || (weighted && Run(block.weights_step, block.size) != in_run)) {
    return AddByOperations(from, weights, to);
  }
  const std::int64_t channels = leading == 0 ? 1 : from.size(0);
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    block.from = from.const_data_ptr<float>() + (leading == 0 ? 0 : channel * from.stride(0));
    block.to = to.mutable_data_ptr<float>() + (leading == 0 ? 0 : channel * to.stride(0));
    block.weights = weighted ? weights.const_data_ptr<float>() : nullptr;
    if (in_run == out_run) {
      AddRows(block, in_run);
    } else {
      AddTransposed(block, in_run, out_run);
    }
  }
}

}  // namespace tomoserve::compute
