// Adding a block of voxels to another one whose memory runs along other axes. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>

namespace tomoserve::compute {

// to += from (* weights where defined), every product and sum rounded to float32 on its own. `from` and `to`
// are [channels][x][y][z] or [x][y][z] of one size, `weights` [x][y][z]; any strides. On the host in tiles
// that stay in the cache, wherever memory runs along one axis in each; else, and on a device, by tensor
// operations, which change `from`. The same bits either way.
void AddTiles(const at::Tensor& from, const at::Tensor& weights, const at::Tensor& to);

}  // namespace tomoserve::compute
