// What a run refuses, in which order it goes on, and how it ends early.
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <string>
#include <vector>

#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::SpotRecipe;
using testing::StoredVolume;

class RunLifecycleTest : public testing::PlacedRunTest {};

TEST_P(RunLifecycleTest, RefusesBadOutputsOfTheNetwork) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  const StoredVolume stored(geometry);
  const auto run = Create(SpotRecipe(), geometry, stored.Slices());
  ASSERT_TRUE(run.ok());
  const auto reason = [&](const Forward& forward) {
    return base::ReasonOf((*run)->ForwardWindow(0, forward).status());
  };
  EXPECT_EQ(
      reason([](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input.narrow(2, 0, 8); }),
      "NETWORK_OUTPUT_SHAPE");
  EXPECT_EQ(
      reason([](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input.to(at::kDouble); }),
      "NETWORK_OUTPUT_TYPE");
  EXPECT_EQ(reason([](const at::Tensor&) -> absl::StatusOr<at::Tensor> { return at::Tensor(); }),
            "NETWORK_OUTPUT_TYPE");
  EXPECT_EQ(reason([](const at::Tensor&) -> absl::StatusOr<at::Tensor> { return absl::InternalError("x"); }),
            "INTERNAL");
  EXPECT_EQ(base::ReasonOf((*run)->Fold(0, Put(at::zeros({1, 1, 2, 2, 2})))), "NETWORK_OUTPUT_SHAPE");
}

TEST_P(RunLifecycleTest, OutputsThatAreNotFiniteAreReportedWithTheirWindow) {
  const auto geometry = AxialGeometry({60, 8, 8}, {1, 1, 1});
  const StoredVolume stored(geometry);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    for (const int window : {0, 2, 4}) {
      int calls = 0;
      const auto outcome = Run(SpotRecipe(), geometry, stored.Slices(), [&](const at::Tensor& input) {
        const at::Tensor output = input.clone();
        if (calls >= window) output[0][0][3][4][5] = bad;
        ++calls;
        return absl::StatusOr<at::Tensor>(output);
      });
      EXPECT_EQ(base::ReasonOf(outcome.status()), "NON_FINITE_OUTPUT");
      EXPECT_EQ(base::ValueOf(outcome.status()), std::to_string(window));
      // Loops stop at once, tensors at the end.
      EXPECT_EQ(calls, placement().UsesLoops() ? window + 1 : 5);
    }
  }
}

TEST_P(RunLifecycleTest, ARunWhoseOutputsAreNotFiniteNeverFinishes) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  const StoredVolume stored(geometry);
  const auto run = Create(SpotRecipe(), geometry, stored.Slices());
  ASSERT_TRUE(run.ok()) << run.status();
  const at::Tensor output = Put(at::full({1, 1, 16, 16, 16}, std::numeric_limits<float>::infinity()));
  std::vector<std::byte> labels(512);
  if (placement().UsesLoops()) {
    EXPECT_EQ(base::ReasonOf((*run)->Fold(0, output)), "NON_FINITE_OUTPUT");
    EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 1).status()), "FOLD_ORDER");
    return;
  }
  EXPECT_TRUE((*run)->Fold(0, output).ok());
  for (int times = 0; times < 2; ++times) {
    EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 1).status()), "NON_FINITE_OUTPUT");
  }
}

TEST_P(RunLifecycleTest, FoldsInOrderAndFinishesOnce) {
  const auto geometry = AxialGeometry({20, 8, 8}, {1, 1, 1});
  const StoredVolume stored(geometry);
  const auto run = Create(SpotRecipe(), geometry, stored.Slices());
  ASSERT_TRUE(run.ok());
  ASSERT_EQ((*run)->windows(), 2u);
  std::vector<std::byte> labels(20 * 8 * 8);
  const at::Tensor output = Put(at::zeros({1, 1, 16, 16, 16}));
  EXPECT_EQ(base::ReasonOf((*run)->Fold(1, output.clone())), "FOLD_ORDER");
  EXPECT_TRUE((*run)->Fold(0, output.clone()).ok());
  EXPECT_EQ(base::ReasonOf((*run)->Fold(0, output.clone())), "FOLD_ORDER");
  EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 1).status()), "FOLD_ORDER");
  EXPECT_TRUE((*run)->Fold(1, output.clone()).ok());
  EXPECT_EQ(base::ReasonOf((*run)->Fold(2, output.clone())), "FOLD_ORDER");
  EXPECT_EQ(base::ReasonOf((*run)->Gather(2).status()), "NO_SUCH_WINDOW");
  EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 2).status()), "LABEL_MAP_SIZE");
  EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 4).status()), "LABEL_MAP_SIZE");
  EXPECT_TRUE((*run)->Finish(labels, 1).ok());
  EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 1).status()), "FOLD_ORDER");
  EXPECT_EQ(base::ReasonOf((*run)->Gather(0).status()), "FOLD_ORDER");
}

TEST_P(RunLifecycleTest, StopsWhenCancelled) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  const StoredVolume stored(geometry);
  std::atomic<bool> cancelled{true};
  const compute::Parallel parallel{2, [&] { return cancelled.load(); }};
  EXPECT_EQ(base::ReasonOf(Create(SpotRecipe(), geometry, stored.Slices(), parallel).status()), "CANCELLED");
  cancelled = false;
  const auto run = Create(SpotRecipe(), geometry, stored.Slices(), parallel);
  ASSERT_TRUE(run.ok());
  ASSERT_TRUE((*run)->Fold(0, Put(at::zeros({1, 1, 16, 16, 16}))).ok());
  cancelled = true;
  std::vector<std::byte> labels(512);
  EXPECT_EQ(base::ReasonOf((*run)->Finish(labels, 1).status()), "CANCELLED");
}

TS_INSTANTIATE_PLACES(RunLifecycleTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
