#include "engine/graph_scan.h"

#include <ATen/core/function.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

constexpr std::string_view kNativeClasses = "__torch__.torch.classes.";

absl::Status Forbidden(std::string_view name) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_FORBIDDEN_OP", name,
                     "the network's code uses an operation that is not allowed");
}

absl::Status ScanType(const c10::Type& type) {
  if (const auto* named = type.castRaw<c10::NamedType>(); named != nullptr && named->name()) {
    const std::string name = named->name()->qualifiedName();
    if (name.starts_with(kNativeClasses)) return Forbidden(name);
  }
  for (const auto& contained : type.containedTypes()) {
    TS_RETURN_IF_ERROR(ScanType(*contained));
  }
  return absl::OkStatus();
}

absl::Status ScanBlock(const torch::jit::Block& block);

absl::Status ScanNode(const torch::jit::Node& node) {
  if (const std::string name = node.kind().toQualString(); !OperationAllowed(name)) return Forbidden(name);
  for (const torch::jit::Value* output : node.outputs()) {
    TS_RETURN_IF_ERROR(ScanType(*output->type()));
  }
  for (const torch::jit::Block* block : node.blocks()) {
    TS_RETURN_IF_ERROR(ScanBlock(*block));
  }
  for (const c10::Symbol attribute : node.attributeNames()) {
    if (node.kindOf(attribute) == torch::jit::AttributeKind::g) {
      TS_RETURN_IF_ERROR(ScanBlock(*node.g(attribute)->block()));
    } else if (node.kindOf(attribute) == torch::jit::AttributeKind::gs) {
      for (const auto& graph : node.gs(attribute)) {
        TS_RETURN_IF_ERROR(ScanBlock(*graph->block()));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ScanBlock(const torch::jit::Block& block) {
  for (const torch::jit::Value* input : block.inputs()) {
    TS_RETURN_IF_ERROR(ScanType(*input->type()));
  }
  for (const torch::jit::Node* node : block.nodes()) {
    TS_RETURN_IF_ERROR(ScanNode(*node));
  }
  return absl::OkStatus();
}

}  // namespace

bool OperationAllowed(std::string_view qualified_name) {
  static constexpr std::array<std::string_view, 8> kForbidden = {
      "aten::save",      "aten::from_file", "prim::PythonOp",   "prim::IgnoredPythonOp",
      "prim::rpc_async", "prim::rpc_sync",  "prim::rpc_remote", "aten::set_num_threads"};
  if (!qualified_name.starts_with("aten::") && !qualified_name.starts_with("prim::")) return false;
  return std::find(kForbidden.begin(), kForbidden.end(), qualified_name) == kForbidden.end();
}

absl::Status ScanGraphs(const torch::jit::Module& module) {
  for (torch::jit::Function* function : module._ivalue()->compilation_unit()->get_functions()) {
    if (!function->isGraphFunction()) return Forbidden(function->qualname().qualifiedName());
    TS_RETURN_IF_ERROR(ScanBlock(*torch::jit::toGraphFunction(*function).graph()->block()));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::engine
