// Which proofs of batch sizes are kept, and for what they hold.
#include "dispatch/bucket_proofs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;

class BucketProofsTest : public ::testing::Test {
 protected:
  BucketProofsTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tomoserve-proofs-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    model_.model_digest = "model";
    model_.recipe_digest = "recipe";
    device_.set_device_kind("kind");
  }
  ~BucketProofsTest() override { std::filesystem::remove_all(folder_); }

  // The file as the next start reads it.
  BucketProofs Proofs(const std::string& build = "1.0.0") const {
    return BucketProofs((folder_ / "proofs.txt").string(), build);
  }
  static ipc::v1::BucketProof ProofOf(const std::vector<std::uint32_t>& buckets,
                                      const std::vector<std::uint32_t>& tried) {
    ipc::v1::BucketProof proof;
    proof.mutable_buckets()->Assign(buckets.begin(), buckets.end());
    proof.mutable_tried()->Assign(tried.begin(), tried.end());
    return proof;
  }

  std::filesystem::path folder_;
  models::Model model_;
  ipc::v1::Hello device_;
};

TEST_F(BucketProofsTest, AProofHoldsForTheServersBuild) {
  Proofs("1.0.0").Keep(model_, device_, ProofOf({1, 2}, {1, 2, 4}));
  const auto found = Proofs("1.0.0").Find(model_, device_);
  ASSERT_TRUE(found);
  EXPECT_THAT(found->buckets(), ElementsAre(1, 2));
  EXPECT_THAT(found->tried(), ElementsAre(1, 2, 4));
  EXPECT_FALSE(Proofs("1.0.1").Find(model_, device_));
}

TEST_F(BucketProofsTest, WhatWasNotTriedToItsEndIsNotKeptAndLeavesTheEarlierProof) {
  Proofs().Keep(model_, device_, ProofOf({1, 2}, {}));
  EXPECT_FALSE(Proofs().Find(model_, device_));
  Proofs().Keep(model_, device_, ProofOf({1, 2, 4, 8}, {1, 2, 4, 8}));
  Proofs().Keep(model_, device_, ProofOf({1, 2}, {}));
  const auto found = Proofs().Find(model_, device_);
  ASSERT_TRUE(found);
  EXPECT_THAT(found->buckets(), ElementsAre(1, 2, 4, 8));
}

}  // namespace
}  // namespace tomoserve::dispatch
