#include "engine/graph_scan.h"

#include <ATen/core/function.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

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

bool HoldsTensors(const c10::Type& type) {
  if (type.kind() == c10::TypeKind::TensorType || type.kind() == c10::TypeKind::ClassType) return true;
  const auto contained = type.containedTypes();
  return std::any_of(contained.begin(), contained.end(), [](const auto& of) { return HoldsTensors(*of); });
}

// Whether a tensor depends on what a function is given, and not on sizes and constants only.
bool ComesFromInput(const torch::jit::Value* tensor) {
  std::vector<const torch::jit::Value*> left{tensor};
  std::set<const torch::jit::Value*> seen{tensor};
  while (!left.empty()) {
    const torch::jit::Node& node = *left.back()->node();
    left.pop_back();
    const c10::Symbol kind = node.kind();
    if (kind == c10::prim::Param || !node.blocks().empty()) return true;
    if (kind == c10::prim::NumToTensor || kind == c10::prim::GetAttr) continue;
    for (const torch::jit::Value* input : node.inputs()) {
      if (HoldsTensors(*input->type()) && seen.insert(input).second) left.push_back(input);
    }
  }
  return false;
}

bool MakesNumber(const torch::jit::Node& node) {
  static constexpr std::array<std::string_view, 13> kToNumber = {
      "aten::Bool",        "aten::Int",           "aten::Float",          "aten::Complex",
      "aten::IntImplicit", "aten::FloatImplicit", "aten::ScalarImplicit", "aten::item",
      "aten::is_nonzero",  "aten::equal",         "aten::allclose",       "aten::_local_scalar_dense",
      "prim::tolist"};
  const std::string_view name = node.kind().toQualString();
  if (std::find(kToNumber.begin(), kToNumber.end(), name) == kToNumber.end()) return false;
  const auto inputs = node.inputs();
  return std::any_of(inputs.begin(), inputs.end(), [](const torch::jit::Value* input) {
    return HoldsTensors(*input->type()) && ComesFromInput(input);
  });
}

bool BlockBranches(const torch::jit::Block& block) {
  const auto nodes = block.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [](const torch::jit::Node* node) {
    const auto blocks = node->blocks();
    return MakesNumber(*node) ||
           std::any_of(blocks.begin(), blocks.end(),
                       [](const torch::jit::Block* inner) { return BlockBranches(*inner); });
  });
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

bool BranchesOnValues(const torch::jit::Module& module) {
  const auto functions = module._ivalue()->compilation_unit()->get_functions();
  return std::any_of(functions.begin(), functions.end(), [](torch::jit::Function* function) {
    return BlockBranches(*torch::jit::toGraphFunction(*function).graph()->block());
  });
}

}  // namespace tomoserve::engine
