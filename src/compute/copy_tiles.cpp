#include "compute/copy_tiles.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace tomoserve::compute {
namespace {

constexpr std::int64_t kTile = 16;              // values of a line of memory
constexpr std::int64_t kFewValues = 64 * 1024;  // fit into the cache, whatever the order

bool IsOnHost(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.dim() == 3;
}

// The dimension along which memory runs; -1 where none does.
std::int64_t Run(const at::Tensor& tensor) {
  for (std::int64_t dimension = 0; dimension < 3; ++dimension) {
    if (tensor.stride(dimension) == 1 && tensor.size(dimension) > 1) return dimension;
  }
  return -1;
}

}  // namespace

void CopyTiles(const at::Tensor& from, const at::Tensor& to) {
  if (!IsOnHost(from) || !IsOnHost(to) || from.numel() <= kFewValues || Run(from) < 0 || Run(to) < 0 ||
      Run(from) == Run(to)) {
    to.copy_(from);
    return;
  }
  const std::int64_t in_run = Run(from);
  const std::int64_t out_run = Run(to);
  const std::int64_t other = 3 - in_run - out_run;
  const std::int64_t in_step = from.stride(out_run);
  const std::int64_t out_step = to.stride(in_run);
  std::array<std::array<float, kTile>, kTile> tile;
  for (std::int64_t plane = 0; plane < from.size(other); ++plane) {
    const float* const in = from.const_data_ptr<float>() + plane * from.stride(other);
    float* const out = to.mutable_data_ptr<float>() + plane * to.stride(other);
    for (std::int64_t row = 0; row < from.size(out_run); row += kTile) {
      const std::int64_t rows = std::min(kTile, from.size(out_run) - row);
      for (std::int64_t column = 0; column < from.size(in_run); column += kTile) {
        const std::int64_t columns = std::min(kTile, from.size(in_run) - column);
        for (std::int64_t r = 0; r < rows; ++r) {
          std::copy_n(in + (row + r) * in_step + column, columns, tile[static_cast<std::size_t>(r)].begin());
        }
        for (std::int64_t c = 0; c < columns; ++c) {
          float* const line = out + (column + c) * out_step + row;
          for (std::int64_t r = 0; r < rows; ++r) {
            line[r] = tile[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)];
          }
        }
      }
    }
  }
}

}  // namespace tomoserve::compute
