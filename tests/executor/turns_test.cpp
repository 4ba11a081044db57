#include "executor/turns.h"

#include <gtest/gtest.h>

namespace tomoserve::executor {
namespace {

class TurnsTest : public ::testing::Test {
 protected:
  void Use(const Batcher& model, double ms) {
    turns_.Take(&model);
    turns_.Charge(&model, ms);
  }
  Turns turns_;
  Batcher a_, b_;
};

TEST_F(TurnsTest, WhoUsedLessIsNext) {
  EXPECT_EQ(turns_.StartOf(&a_), turns_.StartOf(&b_));
  Use(a_, 30);
  EXPECT_LT(turns_.StartOf(&b_), turns_.StartOf(&a_));
  Use(b_, 50);
  EXPECT_LT(turns_.StartOf(&a_), turns_.StartOf(&b_));
}

TEST_F(TurnsTest, TimeWithoutWindowsEarnsNoCredit) {
  Use(b_, 10);
  for (int i = 0; i < 100; ++i) Use(a_, 10);
  // b comes back: where a was at its last turn, not 90 turns behind.
  EXPECT_EQ(turns_.StartOf(&b_), 990);
  EXPECT_EQ(turns_.StartOf(&a_), 1000);
}

TEST_F(TurnsTest, WhatABatchCostIsPutRight) {
  Use(a_, 10);
  turns_.Charge(&a_, 5);
  EXPECT_EQ(turns_.StartOf(&a_), 15);
  turns_.Charge(&a_, -5);
  EXPECT_EQ(turns_.StartOf(&a_), 10);
  turns_.Charge(&a_, -50);
  EXPECT_EQ(turns_.StartOf(&a_), 0) << "never behind the last turn";
}

TEST_F(TurnsTest, ABatchCostsWhatItsModelStatesOrWhatTheLastOnesTook) {
  const Batcher stated({1, 4}, 7);
  EXPECT_EQ(turns_.CostOf(stated, 4), 28);
  EXPECT_EQ(turns_.CostOf(a_, 4), 0);
  turns_.Measured(&a_, 16);
  EXPECT_EQ(turns_.CostOf(a_, 4), 64);
  turns_.Measured(&a_, 24);
  EXPECT_EQ(turns_.CostOf(a_, 1), 17);
}

TEST_F(TurnsTest, ForgetsOnlyWhoOwesNothingAndIsGone) {
  turns_.Measured(&a_, 16);
  turns_.Measured(&b_, 16);
  Use(b_, 10);
  const auto prune = [&](const Batcher* waiting) {
    turns_.Prune([waiting](const Batcher* model) { return model == waiting; });
  };
  prune(&a_);
  EXPECT_EQ(turns_.CostOf(a_, 1), 16) << "it has a run";
  prune(nullptr);
  EXPECT_EQ(turns_.CostOf(a_, 1), 0);
  EXPECT_EQ(turns_.StartOf(&b_), 10) << "it owes";
}

}  // namespace
}  // namespace tomoserve::executor
