// Copies between orders of memory.
#pragma once

#include <ATen/core/Tensor.h>

namespace tomoserve::compute {

// to.copy_(from) for tensors [x][y][z] of one size. Large float32 ones on the CPU whose memory runs along
// different axes are copied in tiles: element by element each would fetch a line of memory of its own.
void CopyTiles(const at::Tensor& from, const at::Tensor& to);

}  // namespace tomoserve::compute
