// Which operations a loaded TorchScript module could carry out.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace torch::jit {
struct Module;
}

namespace tomoserve::engine {

// Whether an operation ("aten::conv3d") may be part of a network: aten and prim only, without those that
// write or read files, talk to other processes or call Python.
bool OperationAllowed(std::string_view qualified_name);

// Looks at every function that came with the module (methods of all submodules and classes, free functions,
// nested blocks and subgraphs), whether forward reaches it or not.
// Errors: kInvalidArgument MODEL_FORBIDDEN_OP (value: operation or class).
absl::Status ScanGraphs(const torch::jit::Module& module);

// Whether any of these functions makes a plain number or a bool of what it computes ("if x.max() > 100"),
// which would be one for all windows of a batch. Of a tensor's size, of constants and of parameters it may.
bool BranchesOnValues(const torch::jit::Module& module);

}  // namespace tomoserve::engine
