#include "tomoserve/engine/network.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <latch>
#include <limits>
#include <thread>

#include "engine/on_devices.h"
#include "engine/script_module.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

using testing::ConvArchive;
using testing::FileOf;
using testing::ScriptArchive;
using testing::SmallRecipe;

class NetworkTest : public testing::OnDevices {
 protected:
  absl::StatusOr<std::shared_ptr<Network>> LoadArchives(const std::vector<std::string>& archives,
                                                        v1::Recipe recipe = SmallRecipe()) const {
    recipe.mutable_network()->clear_files();
    std::vector<base::UniqueFd> files;
    std::vector<int> fds;
    std::vector<std::string> digests;
    for (const std::string& archive : archives) {
      recipe.mutable_network()->add_files("model" + std::to_string(files.size()) + ".ts");
      files.push_back(FileOf(archive));
      fds.push_back(files.back().get());
      digests.push_back(base::Sha256Hex(archive));
    }
    return Network::Load(fds, recipe, digests, device_);
  }

  // Reason of the first of load and warm-up that fails; "" if none does.
  std::string Refusal(const std::string& archive, const v1::Recipe& recipe = SmallRecipe(),
                      std::string* value = nullptr) const {
    const auto network = LoadArchives({archive}, recipe);
    const absl::Status status = network.ok() ? (*network)->WarmUp().status() : network.status();
    if (value != nullptr) *value = base::ValueOf(status);
    return status.ok() ? "" : base::ReasonOf(status);
  }

  // The only tensor of the answer.
  static absl::StatusOr<at::Tensor> ForwardOne(const Network& network, const at::Tensor& window) {
    TS_ASSIGN_OR_RETURN(const std::vector<at::Tensor> outputs, network.Forward(window));
    EXPECT_EQ(outputs.size(), 1u);
    return outputs.front();
  }

  at::Tensor OnDevice(const at::Tensor& tensor) const { return tensor.to(device_.device()); }
};

TS_INSTANTIATE_ON_DEVICES(NetworkTest);

std::string Forward(const std::string& body) { return "def forward(self, x):\n" + body; }

bool SameBits(const at::Tensor& on_device_a, const at::Tensor& on_device_b) {
  const at::Tensor a = on_device_a.cpu();
  const at::Tensor b = on_device_b.cpu();
  return a.sizes() == b.sizes() && std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

TEST_P(NetworkTest, LoadsWarmsUpAndRuns) {
  const auto network = LoadArchives({ConvArchive(2.5)});
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ((*network)->weight_bytes(), 4u);
  const auto ms = (*network)->WarmUp();
  ASSERT_TRUE(ms.ok()) << ms.status();
  EXPECT_GT(*ms, 0);
  const auto output = ForwardOne(**network, OnDevice(at::full({1, 1, 8, 8, 8}, 2.0)));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->sizes(), (at::IntArrayRef{1, 1, 8, 8, 8}));
  EXPECT_EQ(output->min().item<float>(), 5.0F);
  EXPECT_EQ(output->max().item<float>(), 5.0F);
}

TEST_P(NetworkTest, AnEnsembleAnswersTheMean) {
  const auto network = LoadArchives({ConvArchive(1), ConvArchive(2), ConvArchive(6)});
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ((*network)->weight_bytes(), 12u);
  ASSERT_TRUE((*network)->WarmUp().ok());
  EXPECT_EQ(ForwardOne(**network, OnDevice(at::ones({1, 1, 8, 8, 8})))->max().item<float>(), 3.0F);
}

TEST_P(NetworkTest, AnswersEqualBitsOnEveryThread) {
  // Sums over many values, where the order would show.
  const std::string archive = ScriptArchive(
      Forward("  y = torch.conv3d(x, self.weight, None, [1, 1, 1], [1, 1, 1])\n"
              "  return torch.softmax(torch.mul(y, torch.mean(x)), 1)\n"),
      [](torch::jit::Module& m) {
        m.register_parameter(
            "weight", at::arange(16 * 27, at::kFloat).mul_(0.37F).frac_().reshape({16, 1, 3, 3, 3}), false);
      });
  v1::Recipe recipe = SmallRecipe(24);
  recipe.mutable_network()->set_output_channels(16);
  const auto network = LoadArchives({archive}, recipe);
  ASSERT_TRUE(network.ok()) << network.status();
  const at::Tensor window = OnDevice(at::rand({1, 1, 24, 24, 24}));
  std::vector<at::Tensor> outputs(4);
  {
    std::latch start(4);
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < outputs.size(); ++t) {
      threads.emplace_back([&, t] {
        EXPECT_TRUE((*network)->WarmUp().ok());
        start.arrive_and_wait();
        auto output = ForwardOne(**network, window);
        if (output.ok()) outputs[t] = *output;
      });
    }
  }
  for (const at::Tensor& output : outputs) {
    ASSERT_TRUE(output.defined());
    EXPECT_TRUE(SameBits(output, outputs[0]));
  }
}

TEST_P(NetworkTest, LeavesTheInputAloneAndLetsNanPass) {
  const auto network = LoadArchives({ScriptArchive(Forward("  return torch.mul_(x, 2)\n"))});
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const at::Tensor window = OnDevice(at::full({1, 1, 8, 8, 8}, std::numeric_limits<double>::quiet_NaN()));
  window.select(2, 0).fill_(3);
  const auto output = ForwardOne(**network, window);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(window[0][0][0][0][0].item<float>(), 3.0F);
  EXPECT_EQ((*output)[0][0][0][0][0].item<float>(), 6.0F);
  EXPECT_TRUE(std::isnan((*output)[0][0][1][0][0].item<float>()));
}

TEST_P(NetworkTest, AnswersFloat32WhateverTheNetworkComputesIn) {
  const auto network = LoadArchives({ScriptArchive(Forward("  return x.double().transpose(2, 4)\n"))});
  ASSERT_TRUE(network.ok()) << network.status();
  const auto output = ForwardOne(**network, OnDevice(at::ones({1, 1, 8, 8, 8})));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->scalar_type(), at::kFloat);
  EXPECT_TRUE(output->is_contiguous());
}

TEST_P(NetworkTest, HalfPrecisionChangesFactorsOnAGpuAndNothingOnTheCpu) {
  const std::string archive = ScriptArchive(
      Forward("  return torch.conv3d(x, self.weight, None, [1, 1, 1], [1, 1, 1])\n"),
      [](torch::jit::Module& m) {
        m.register_parameter("weight",
                             at::arange(27, at::kFloat).mul_(0.37F).frac_().reshape({1, 1, 3, 3, 3}), false);
      });
  v1::Recipe recipe = SmallRecipe();
  const auto full = LoadArchives({archive}, recipe);
  recipe.mutable_network()->set_precision(v1::PRECISION_FLOAT16);
  const auto half = LoadArchives({archive}, recipe);
  ASSERT_TRUE(full.ok()) << full.status();
  ASSERT_TRUE(half.ok()) << half.status();
  ASSERT_TRUE((*half)->WarmUp().ok());
  const at::Tensor window =
      OnDevice(at::arange(512, at::kFloat).mul_(0.61F).frac_().reshape({1, 1, 8, 8, 8}));
  const auto expected = ForwardOne(**full, window);
  const auto output = ForwardOne(**half, window);
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->scalar_type(), at::kFloat);
  EXPECT_LT(output->sub(*expected).abs().max().item<double>(), 0.05);
  EXPECT_EQ(SameBits(*output, *expected), GetParam() == c10::kCPU);
}

// Two convolutions with weights, an index and a constant of these formats. `middle`: what is between them.
std::string TwoConvolutions(at::ScalarType first, at::ScalarType second, const std::string& input = "x",
                            const std::string& middle = "y", at::ScalarType rounded = at::kFloat) {
  const at::Tensor weight =
      at::arange(27, at::kFloat).mul_(0.37F).frac_().sub_(0.4F).reshape({1, 1, 3, 3, 3}).to(rounded);
  return ScriptArchive(Forward("  y = torch.conv3d(" + input +
                               ", self.first, None, [1, 1, 1], [1, 1, 1])\n  z = torch.conv3d(" + middle +
                               ", self.second, None, [1, 1, 1], [1, 1, 1])\n"
                               "  return torch.index_select(z * self.factor, 1, self.index)\n"),
                       [&](torch::jit::Module& m) {
                         m.register_parameter("first", weight.to(first), false);
                         m.register_parameter("second", weight.mul(0.5).to(rounded).to(second), false);
                         m.register_buffer("index", at::full({1}, 0, at::kLong));
                         m.register_attribute("factor", c10::TensorType::get(), at::full({1}, 0.75, second));
                       });
}

at::Tensor UnevenWindow() { return at::arange(512, at::kFloat).mul_(0.61F).frac_().reshape({1, 1, 8, 8, 8}); }

TEST_P(NetworkTest, HalfAndBfloat16WeightsAreFloat32OnTheCpuAndThemselvesOnAGpu) {
  const bool on_cpu = GetParam() == c10::kCPU;
  for (const auto& [type, name] : {std::pair{at::kHalf, "float16"}, {at::kBFloat16, "bfloat16"}}) {
    const auto network = LoadArchives({TwoConvolutions(type, type, "x", "y", type)});
    ASSERT_TRUE(network.ok()) << network.status();
    const std::string held = on_cpu ? "float32" : name;
    EXPECT_EQ((*network)->weight_formats(), (std::vector<WeightFormats>{{name, held, held}}));
    EXPECT_EQ((*network)->weight_bytes(), 54u * (on_cpu ? 4 : 2) + 8) << "and the index";
    ASSERT_TRUE((*network)->WarmUp().ok()) << (*network)->WarmUp().status();
    const auto rounded = LoadArchives({TwoConvolutions(at::kFloat, at::kFloat, "x", "y", type)});
    ASSERT_TRUE(rounded.ok()) << rounded.status();
    EXPECT_EQ((*rounded)->weight_formats().front(), (WeightFormats{"float32", "float32", "float32"}));
    const auto output = ForwardOne(**network, OnDevice(UnevenWindow()));
    const auto expected = ForwardOne(**rounded, OnDevice(UnevenWindow()));
    ASSERT_TRUE(output.ok()) << output.status();
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ(output->scalar_type(), at::kFloat);
    EXPECT_EQ(SameBits(*output, *expected), on_cpu) << name;
    EXPECT_LT(output->sub(*expected).abs().max().item<double>(), 0.3) << name;
  }
}

TEST_P(NetworkTest, NetworksThatCastThemselvesStayAsTheyAre) {
  const auto formats_of = [&](const std::string& archive) {
    const auto network = LoadArchives({archive});
    EXPECT_TRUE(network.ok()) << network.status();
    if (!network.ok()) return WeightFormats();
    EXPECT_TRUE((*network)->WarmUp().ok()) << (*network)->WarmUp().status();
    const auto output = ForwardOne(**network, OnDevice(UnevenWindow()));
    const auto plain = LoadArchives({TwoConvolutions(at::kFloat, at::kFloat)});
    const auto expected = ForwardOne(**plain, OnDevice(UnevenWindow()));
    EXPECT_TRUE(output.ok()) << output.status();
    if (output.ok()) {
      EXPECT_LT(output->sub(*expected).abs().max().item<double>(), 0.1);
    }
    return (*network)->weight_formats().front();
  };
  EXPECT_EQ(formats_of(TwoConvolutions(at::kHalf, at::kFloat, "x.half()", "y.float()")),
            (WeightFormats{"float16,float32", "float16,float32", "float32"}));
  // Only the window is left to be cast.
  EXPECT_EQ(formats_of(TwoConvolutions(at::kHalf, at::kHalf, "x", "y.half()")),
            (WeightFormats{"float16", "float16", "float16"}));
  EXPECT_EQ(formats_of(TwoConvolutions(at::kDouble, at::kDouble)),
            (WeightFormats{"float64", "float64", "float64"}));
  // What need not stay does not, on the CPU.
  const bool on_cpu = GetParam() == c10::kCPU;
  EXPECT_EQ(formats_of(TwoConvolutions(at::kHalf, at::kFloat, "x", "y.float()")),
            (on_cpu ? WeightFormats{"float16,float32", "float32", "float32"}
                    : WeightFormats{"float16,float32", "float16,float32", "float16"}));
}

TEST_P(NetworkTest, AnEnsembleMayMixFormats) {
  const auto network =
      LoadArchives({TwoConvolutions(at::kHalf, at::kHalf), TwoConvolutions(at::kFloat, at::kFloat),
                    TwoConvolutions(at::kHalf, at::kHalf, "x", "y.half()")});
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const auto alone = LoadArchives({TwoConvolutions(at::kFloat, at::kFloat)});
  const auto expected = ForwardOne(**alone, OnDevice(UnevenWindow()));
  const auto output = ForwardOne(**network, OnDevice(UnevenWindow()));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_LT(output->sub(*expected).abs().max().item<double>(), 0.1);
}

TEST_P(NetworkTest, WhatFailsInEveryFormatIsRefusedForWhatItIs) {
  const std::string two_channels =
      ScriptArchive(Forward("  return torch.conv3d(x, self.weight)\n"), [](torch::jit::Module& m) {
        m.register_parameter("weight", at::full({1, 2, 1, 1, 1}, 1.0, at::kHalf), false);
      });
  const auto network = LoadArchives({two_channels});
  ASSERT_TRUE(network.ok()) << network.status();
  const absl::Status status = (*network)->WarmUp().status();
  EXPECT_EQ(base::ReasonOf(status), "MODEL_SHAPE");
  EXPECT_NE(status.message().find("to have 2 channels"), std::string::npos) << status;
}

TEST_P(NetworkTest, RefusesInputOfAnotherDevice) {
  const auto network = LoadArchives({ConvArchive(1)});
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const auto output = ForwardOne(**network, at::empty({1, 1, 8, 8, 8}, at::TensorOptions(c10::kMeta)));
  EXPECT_EQ(base::ReasonOf(output.status()), "INPUT_DEVICE");
  EXPECT_EQ(base::ValueOf(output.status()), "meta");
}

TEST_P(NetworkTest, RefusesAFileThatIsNotTheAnnouncedOne) {
  const base::UniqueFd file = FileOf(ConvArchive(1));
  const auto network = Network::Load(std::vector<int>{file.get()}, SmallRecipe(),
                                     std::vector<std::string>{base::Sha256Hex("another")});
  EXPECT_EQ(base::ReasonOf(network.status()), "MODEL_DIGEST_MISMATCH");
  EXPECT_EQ(base::ValueOf(network.status()), "model.ts");
}

TEST_P(NetworkTest, RefusesFilesThatAreNoArchive) {
  const std::string good = ConvArchive(1);
  std::string bent = good;
  bent[good.size() / 3] = static_cast<char>(bent[good.size() / 3] ^ 0x5a);
  std::string no_directory = good;
  no_directory.replace(good.size() - 30, 30, 30, '\0');
  for (const std::string& bytes :
       {std::string(), std::string("not a model"), std::string(100'000, 'x'), good.substr(0, good.size() / 2),
        no_directory, std::string("PK\x03\x04") + std::string(64, '\0')}) {
    EXPECT_EQ(Refusal(bytes), "MODEL_UNREADABLE") << bytes.size();
  }
  // A flipped byte may hit padding; it must never crash or be refused for another reason.
  EXPECT_THAT(Refusal(bent), ::testing::AnyOf("", "MODEL_UNREADABLE"));
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const base::UniqueFd in(pipe_ends[0]), out(pipe_ends[1]);
  EXPECT_EQ(
      base::ReasonOf(
          Network::Load(std::vector<int>{in.get()}, SmallRecipe(), std::vector<std::string>{""}).status()),
      "MODEL_UNREADABLE");
  EXPECT_EQ(Refusal(ScriptArchive("def other(self, x):\n  return x\n")), "MODEL_UNREADABLE");
}

TEST_P(NetworkTest, EveryTruncationIsATypedRefusal) {
  const std::string good = ConvArchive(1);
  for (std::size_t size = 1; size < good.size(); size += 97) {
    EXPECT_EQ(Refusal(good.substr(0, size)), "MODEL_UNREADABLE") << size;
  }
}

TEST_P(NetworkTest, RefusesDescriptorsThatDoNotFitTheRecipe) {
  EXPECT_EQ(base::ReasonOf(Network::Load({}, SmallRecipe(), {}).status()), "RECIPE_INVALID");
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_network()->set_spatial_dims(4);
  EXPECT_EQ(Refusal(ConvArchive(1), recipe), "RECIPE_INVALID");
}

TEST_P(NetworkTest, RefusesChannelsAndSizesOtherThanTheRecipes) {
  std::string value;
  EXPECT_EQ(Refusal(ConvArchive(1, 2), SmallRecipe(), &value), "MODEL_SHAPE");
  EXPECT_EQ(value, "1x1x8x8x8");
  EXPECT_EQ(Refusal(ConvArchive(1, 1, 3), SmallRecipe(), &value), "MODEL_SHAPE");
  EXPECT_EQ(value, "1x3x8x8x8");
  EXPECT_EQ(
      Refusal(ScriptArchive(Forward("  return torch.max_pool3d(x, [2, 2, 2])\n")), SmallRecipe(), &value),
      "MODEL_SHAPE");
  EXPECT_EQ(value, "1x1x4x4x4");
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return torch.sum(x)\n"))), "MODEL_SHAPE");
}

TEST_P(NetworkTest, RefusesOutputsThatAreNoTensor) {
  std::string value;
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return {\"a\": x, \"b\": x}\n")), SmallRecipe(), &value),
            "MODEL_OUTPUT");
  EXPECT_EQ(value, "Dict");
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return (x, x)\n")), SmallRecipe(), &value), "MODEL_OUTPUT");
  EXPECT_EQ(value, "2 tensors");
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return (x, 1)\n")), SmallRecipe(), &value), "MODEL_OUTPUT");
  EXPECT_EQ(value, "Int");
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return None\n"))), "MODEL_OUTPUT");
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return x.to_sparse()\n"))), "MODEL_OUTPUT");
}

TEST_P(NetworkTest, RefusesNetworksThatRollDice) {
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return torch.rand_like(x)\n"))), "MODEL_NOT_DETERMINISTIC");
  // Dropout as such is fine: eval mode switches it off.
  EXPECT_EQ(Refusal(ScriptArchive(
                Forward("  return torch.dropout(x, 0.5, self.training)\n"),
                [](torch::jit::Module& m) { m.register_attribute("training", c10::BoolType::get(), true); })),
            "");
}

TEST_P(NetworkTest, AnAbsurdAllocationIsOutOfMemory) {
  EXPECT_EQ(Refusal(ScriptArchive(
                Forward("  return x + torch.zeros([4398046511104, 64], device=x.device).sum()\n"))),
            "OUT_OF_MEMORY");
  const auto network =
      LoadArchives({ScriptArchive(Forward("  if bool(x.max() > 5):\n    x = x + torch.zeros([4398046511104, "
                                          "64], device=x.device).sum()\n  return x\n"))});
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  EXPECT_EQ(base::ReasonOf(ForwardOne(**network, OnDevice(at::full({1, 1, 8, 8, 8}, 9.0))).status()),
            "OUT_OF_MEMORY");
  EXPECT_TRUE(ForwardOne(**network, OnDevice(at::full({1, 1, 8, 8, 8}, 1.0))).ok()) << "the network goes on";
  EXPECT_TRUE(device_.Works());
}

TEST_P(NetworkTest, AFailingWindowIsTypedAndBounded) {
  std::string text = "\\n";
  for (int i = 0; i < 5000; ++i) text += "\xc3\xa4 z";
  const auto network =
      LoadArchives({ScriptArchive(Forward("  assert bool(x.max() < 5), \"" + text + "\"\n  return x\n"))});
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const absl::Status status = ForwardOne(**network, OnDevice(at::full({1, 1, 8, 8, 8}, 9.0))).status();
  EXPECT_EQ(base::ReasonOf(status), "NETWORK_FAILED");
  EXPECT_LT(status.message().size(), 400u);
  for (const char c : status.message()) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST_P(NetworkTest, SlicesAnswerForOneSliceAndHaveAnySize) {
  v1::Recipe recipe = SmallRecipe();
  recipe.mutable_windows()->clear_size();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  recipe.mutable_windows()->mutable_context()->set_before(1);
  recipe.mutable_windows()->mutable_context()->set_after(1);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX);
  const auto network = LoadArchives({ScriptArchive(Forward("  return x.mean([2], True)\n"))}, recipe);
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const auto output = ForwardOne(**network, OnDevice(at::ones({1, 1, 3, 40, 30})));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->sizes(), (at::IntArrayRef{1, 1, 1, 40, 30}));
  EXPECT_EQ(Refusal(ScriptArchive(Forward("  return x.mean([3], True)\n")), recipe), "MODEL_SHAPE");
}

TEST_P(NetworkTest, WholeVolumesHaveAnySize) {
  const auto network = LoadArchives({ConvArchive(2)}, SmallRecipe(0));
  ASSERT_TRUE(network.ok()) << network.status();
  ASSERT_TRUE((*network)->WarmUp().ok());
  const auto output = (*network)->Forward(OnDevice(at::ones({1, 1, 37, 5, 41})));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->front().sizes(), (at::IntArrayRef{1, 1, 37, 5, 41}));
}

TEST(RuntimeTest, SaysWhatTheMachineIs) {
  const RuntimeInfo info = InitialiseTorch();
  EXPECT_THAT(info.device_kind, ::testing::StartsWith("cpu "));
  EXPECT_THAT(info.torch_version, ::testing::StartsWith("2."));
}

}  // namespace
}  // namespace tomoserve::engine
