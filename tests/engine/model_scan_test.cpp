#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/archive_scan.h"
#include "engine/graph_scan.h"
#include "engine/script_module.h"
#include "shared_data.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/network.h"

namespace tomoserve::engine {
namespace {

namespace fs = std::filesystem;
using testing::FileOf;
using testing::ScriptArchive;
using testing::SmallRecipe;
using testing::WithCode;

absl::Status Load(const std::string& archive) {
  const base::UniqueFd file = FileOf(archive);
  return Network::Load(std::vector<int>{file.get()}, SmallRecipe(),
                       std::vector<std::string>{base::Sha256Hex(archive)})
      .status();
}

// "OPERATION" of a refusal MODEL_FORBIDDEN_OP, or the other reason, or "".
std::string ForbiddenIn(const absl::Status& status) {
  if (status.ok()) return "";
  const std::string reason = base::ReasonOf(status);
  return reason == "MODEL_FORBIDDEN_OP" ? base::ValueOf(status) : reason;
}

TEST(ModelScanTest, AllowsComputationOnly) {
  for (const char* good :
       {"aten::conv3d", "aten::relu_", "prim::Constant", "prim::If", "prim::RaiseException"}) {
    EXPECT_TRUE(OperationAllowed(good)) << good;
  }
  for (const char* bad : {"aten::save", "aten::from_file", "prim::PythonOp", "prim::rpc_async", "c10d::send",
                          "quantized::conv3d", "mylib::run", "aten", ""}) {
    EXPECT_FALSE(OperationAllowed(bad)) << bad;
  }
}

TEST(ModelScanTest, FindsForbiddenOperationsWhereverTheyStand) {
  EXPECT_EQ(ForbiddenIn(Load(ScriptArchive("def forward(self, x):\n  torch.save(x, \"f\")\n  return x\n"))),
            "aten::save");
  EXPECT_EQ(ForbiddenIn(Load(ScriptArchive("def forward(self, x):\n  return x\ndef unused(self):\n  return "
                                           "torch.from_file(\"/etc/passwd\")\n"))),
            "aten::from_file");
  EXPECT_EQ(
      ForbiddenIn(Load(ScriptArchive("def forward(self, x):\n  if bool(x.sum() > 1e9):\n"
                                     "    for i in range(2):\n      torch.save(x, \"f\")\n  return x\n"))),
      "aten::save");
  const std::string in_submodule =
      ScriptArchive("def forward(self, x):\n  return self.inner.forward(x)\n", [](torch::jit::Module& m) {
        torch::jit::Module inner("Inner");
        inner.define("def forward(self, x):\n  torch.save(x, \"f\")\n  return x\n");
        m.register_module("inner", inner);
      });
  EXPECT_EQ(ForbiddenIn(Load(in_submodule)), "aten::save");
}

TEST(ModelScanTest, TheGraphScanStandsOnItsOwn) {
  // Without the scan of the code before it.
  torch::jit::Module module("Net");
  module.define("def forward(self, x):\n  if bool(x.sum() > 0):\n    torch.save(x, \"f\")\n  return x\n");
  EXPECT_EQ(ForbiddenIn(ScanGraphs(module)), "aten::save");
  torch::jit::Module harmless("Net");
  harmless.define("def forward(self, x):\n  return torch.relu(x)\n");
  EXPECT_TRUE(ScanGraphs(harmless).ok());
}

TEST(ModelScanTest, NothingOfAHostileFileRunsWhileItIsLoaded) {
  std::string folder = (fs::temp_directory_path() / "tomoserve-scan-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string target = folder + "/stolen";
  // LibTorch evaluates default arguments while it reads the code; this one makes a file.
  const std::string base = ScriptArchive(
      "def forward(self, x):\n  return x\ndef extra(self, flag: int = 7):\n  return torch.neg(flag)\n");
  const std::string hostile =
      WithCode(base, "flag: int=7", "flag: Tensor=torch.from_file(\"" + target + "\", True, 100)");
  EXPECT_EQ(ForbiddenIn(Load(hostile)), "aten::from_file");
  EXPECT_FALSE(fs::exists(target));
  fs::remove_all(folder);
}

TEST(ModelScanTest, RefusesDetoursToForbiddenOperations) {
  const auto scan = [](const std::string& line) {
    return ForbiddenIn(ScanCode("def f(x):\n  return " + line + "\n"));
  };
  EXPECT_EQ(scan("torch.relu(x)"), "");
  EXPECT_EQ(scan("ops.aten.relu(x)"), "");
  EXPECT_EQ(scan("self.torch.ops.relu(x)"), "");
  EXPECT_EQ(scan("\"use torch.save here\""), "");
  EXPECT_EQ(scan("x  # torch.save(x)"), "");
  EXPECT_EQ(scan("torch.save(x, \"f\")"), "aten::save");
  EXPECT_EQ(scan("torch . save(x, \"f\")"), "aten::save");
  EXPECT_EQ(scan("torch.autograd.save(x, \"f\")"), "aten::save");
  EXPECT_EQ(scan("ops.aten.save(x, \"f\")"), "aten::save");
  EXPECT_EQ(scan("ops.c10d.send(x)"), "c10d::send");
  EXPECT_EQ(scan("torch.ones([1]).save(\"f\")"), "aten::save");
  EXPECT_EQ(scan("getattr(torch, \"save\")(x, \"f\")"), "torch");
  EXPECT_EQ(scan("getattr(torch.autograd, \"s\" \"ave\")(x)"), "torch.autograd");
  EXPECT_EQ(scan("getattr(x, \"save\")(\"f\")"), "\"save\"");
  EXPECT_EQ(scan("(torch).relu(x)"), "torch");
  EXPECT_EQ(scan("ops.aten"), "ops.aten");
  EXPECT_EQ(scan("__torch__.torch.classes.rnn.CellParamsBase(x)"),
            "__torch__.torch.classes.rnn.CellParamsBase");
  EXPECT_EQ(scan("__torch__.torch.nn.modules.conv.f(x)"), "");
  EXPECT_EQ(ForbiddenIn(ScanCode("class A(Module):\n  def __setstate__(self, s: int):\n    return None\n")),
            "__setstate__");
}

TEST(ModelScanTest, RefusesNativeClassesAndForeignOperations) {
  const std::string base = ScriptArchive("def forward(self, x):\n  return torch.relu(x)\n");
  EXPECT_EQ(ForbiddenIn(Load(WithCode(base, "torch.relu(x)", "ops.quantized.celu(x, 1., 0, 1.)"))),
            "quantized::celu");
  EXPECT_EQ(ForbiddenIn(Load(WithCode(base, "torch.relu(x)", "ops.mylib.run(x)"))), "mylib::run");
  EXPECT_EQ(ForbiddenIn(Load(WithCode(base, "x: Tensor", "x: __torch__.torch.classes.mylib.Thing"))),
            "__torch__.torch.classes.mylib.Thing");
  EXPECT_EQ(ForbiddenIn(Load(WithCode(base, "torch.relu(x)", "torch.relu((x)"))), "MODEL_UNREADABLE");
}

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

TEST(ModelScanTest, AcceptsRealNetworks) {
  TS_SKIP_WITHOUT(testing::SharedModels());
  TS_SKIP_WITHOUT(testing::Reference());
  int networks = 0;
  for (const fs::path& folder : {testing::SharedModels(), testing::Reference()}) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".ts") continue;
      EXPECT_TRUE(Load(ReadFile(entry.path())).ok()) << entry.path() << Load(ReadFile(entry.path()));
      ++networks;
    }
  }
  EXPECT_GE(networks, 5);
}

}  // namespace
}  // namespace tomoserve::engine
