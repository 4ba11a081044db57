// The bits of what a network answers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "tomoserve/base/digest.h"

namespace tomoserve::engine {

// Digest of contiguous outputs on any device.
inline std::string BitsOf(const std::vector<at::Tensor>& outputs) {
  base::Sha256 digest;
  for (const at::Tensor& output : outputs) {
    const at::Tensor host = output.cpu();
    digest.Update(
        std::span<const std::byte>(static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes()));
  }
  return digest.HexDigest();
}

}  // namespace tomoserve::engine
