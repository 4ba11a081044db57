// What a TorchScript archive's code could do while it is being loaded: before a graph exists, default
// arguments and __setstate__ methods already run.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"

namespace caffe2::serialize {
class ReadAdapterInterface;
}

namespace tomoserve::engine {

// Reads the archive's code as LibTorch's own lexer does and refuses forbidden operations, native classes,
// __setstate__, and every use of the names `torch` and `ops` that is not a plain call, so that they cannot be
// reached by another way. LibTorch's serialiser writes plain calls only.
// Errors: kInvalidArgument MODEL_FORBIDDEN_OP (value: what was found). Throws what LibTorch throws for
// archives that it cannot read.
absl::Status ScanArchive(std::shared_ptr<caffe2::serialize::ReadAdapterInterface> archive);

// The same for one file of code.
absl::Status ScanCode(std::string code);

}  // namespace tomoserve::engine
