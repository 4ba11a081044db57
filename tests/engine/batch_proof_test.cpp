#include "tomoserve/engine/batch_proof.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include "engine/on_devices.h"
#include "engine/script_module.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

using testing::FileOf;
using testing::ScriptArchive;
using testing::SmallRecipe;

class BatchProofTest : public testing::OnDevices {
 protected:
  // Reason why a batch of so many windows is not proved; "" where it is.
  std::string Proof(const std::string& body, std::uint32_t windows = 3) const {
    const std::string archive = ScriptArchive("def forward(self, x):\n" + body);
    const base::UniqueFd file = FileOf(archive);
    const auto network = Network::Load(std::vector<int>{file.get()}, SmallRecipe(),
                                       std::vector<std::string>{base::Sha256Hex(archive)}, device_);
    EXPECT_TRUE(network.ok()) << network.status();
    if (!network.ok()) return "";
    const auto warm = (*network)->WarmUp();
    EXPECT_TRUE(warm.ok()) << warm.status();
    const auto ms = ProveBatch(**network, windows);
    EXPECT_TRUE(!ms.ok() || *ms > 0);
    if (base::ReasonOf(ms.status()) == "BATCH_CHANGES_BITS") {
      EXPECT_EQ(base::ValueOf(ms.status()), std::to_string(windows));
    }
    return ms.ok() ? "" : base::ReasonOf(ms.status());
  }
};

TS_INSTANTIATE_ON_DEVICES(BatchProofTest);

TEST_P(BatchProofTest, WindowsThatAreComputedEachForItselfAreProved) {
  EXPECT_EQ(Proof("  return torch.mul(x, torch.mean(x, [1, 2, 3, 4], True))\n"), "");
  EXPECT_EQ(Proof("  return torch.cumsum(x, 4)\n", 2), "");
}

TEST_P(BatchProofTest, WhatLooksAtOtherWindowsIsNot) {
  EXPECT_EQ(Proof("  return torch.sub(x, torch.mean(x, [0], True))\n"), "BATCH_CHANGES_BITS");
  EXPECT_EQ(Proof("  return torch.mul(x, torch.max(x))\n"), "BATCH_CHANGES_BITS");
  EXPECT_EQ(Proof("  return torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-05, False)\n"),
            "BATCH_CHANGES_BITS");
}

TEST_P(BatchProofTest, NeitherIsWhatAWindowWithoutNumbersWouldHarm) {
  // Nothing changes as long as all values are finite.
  EXPECT_EQ(Proof("  return torch.add(x, torch.mul(torch.sum(x), 0))\n"), "BATCH_CHANGES_BITS");
}

TEST_P(BatchProofTest, WhatDependsOnThePlaceIsNot) {
  EXPECT_EQ(Proof("  n = torch.arange(x.size(0), device=x.device).reshape([-1, 1, 1, 1, 1])\n"
                  "  return torch.add(x, n)\n"),
            "BATCH_CHANGES_BITS");
}

TEST_P(BatchProofTest, ANetworkThatDecidesByItsValuesIsNot) {
  EXPECT_EQ(Proof("  if bool(x.max() > 100):\n    x = x * 2\n  return x\n"), "BATCH_BRANCHES");
  EXPECT_EQ(Proof("  return x * 2 if float(torch.mean(x)) > 1e6 else x\n"), "BATCH_BRANCHES");
  EXPECT_EQ(
      Proof(
          "  n = int(torch.clamp_max(x.max() / 100, 1))\n  for i in range(n):\n    x = x * 2\n  return x\n"),
      "BATCH_BRANCHES");
  // By sizes it may.
  EXPECT_EQ(Proof("  if bool(torch.tensor(x.size(2)) > 100) or x.dim() > 5:\n    x = x * 2\n  return x\n"),
            "");
}

TEST_P(BatchProofTest, ANetworkForOneWindowIsNot) {
  EXPECT_EQ(Proof("  return x.reshape([1, 1, 8, 8, 8])\n"), "NETWORK_FAILED");
  // The second window is lost.
  EXPECT_EQ(Proof("  return torch.narrow(x, 0, 0, 1)\n"), "MODEL_SHAPE");
}

}  // namespace
}  // namespace tomoserve::engine
