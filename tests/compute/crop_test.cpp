#include "tomoserve/compute/crop.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compute/places.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/intensity.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;
using testing::Values;

class CropTest : public testing::PlacedTest {
 protected:
  volume::Box BoxOf(const at::Tensor& volume, double background, std::uint32_t margin) {
    return BoxOf(std::vector{volume}, background, margin);
  }
  volume::Box BoxOf(std::vector<at::Tensor> volumes, double background, std::uint32_t margin) {
    for (at::Tensor& volume : volumes) volume = Put(volume);
    const auto box = BoxOfOthers(volumes, background, margin, {2, {}}, placement());
    EXPECT_TRUE(box.ok()) << box.status();
    return *box;
  }
  at::Tensor Filled(std::vector<at::Tensor> volumes) {
    for (at::Tensor& volume : volumes) volume = Put(volume);
    const auto filled = FilledNonzero(volumes, {}, placement());
    EXPECT_TRUE(filled.ok()) << filled.status();
    return filled->cpu();
  }
};

TEST_P(CropTest, TheBoxHoldsWhatDiffers) {
  at::Tensor volume = at::full({6, 7, 8}, -1024, at::kFloat);
  volume[2][5][3] = 1;
  volume[4][1][6] = 1;
  EXPECT_EQ(BoxOf(volume, -1024, 0), (volume::Box{{3, 1, 2}, {4, 5, 3}}));
  EXPECT_EQ(BoxOf(volume, -1024, 2), (volume::Box{{1, 0, 0}, {7, 7, 6}})) << "as far as the volume goes";
  EXPECT_EQ(BoxOf(volume, 0, 0), (volume::Box{{0, 0, 0}, {8, 7, 6}}));
}

TEST_P(CropTest, WhereNothingDiffersTheVolumeStaysWhole) {
  EXPECT_EQ(BoxOf(at::zeros({3, 4, 5}, at::kFloat), 0, 0), (volume::Box{{0, 0, 0}, {5, 4, 3}}));
}

TEST_P(CropTest, TheBoxOfSeveralVolumesHoldsWhatDiffersInAny) {
  at::Tensor first = at::full({6, 7, 8}, -5, at::kFloat);
  at::Tensor second = first.clone();
  first[2][5][3] = 1;
  second[4][1][6] = 1;
  EXPECT_EQ(BoxOf({first, second}, -5, 0), (volume::Box{{3, 1, 2}, {4, 5, 3}}));
  EXPECT_EQ(BoxOf({second, first}, -5, 1), (volume::Box{{2, 0, 1}, {6, 7, 5}}));
  EXPECT_EQ(BoxOf({at::full({6, 7, 8}, -5, at::kFloat), second}, -5, 0), (volume::Box{{6, 1, 4}, {1, 1, 1}}));
}

TEST_P(CropTest, KeepsTheVoxelsOfTheBox) {
  const at::Tensor volume = at::arange(4 * 5 * 6, at::kFloat).view({4, 5, 6});
  const at::Tensor expected = volume.narrow(0, 1, 3).narrow(1, 2, 2).narrow(2, 3, 3).clone();
  const at::Tensor part = CropTo(Put(volume), {{3, 2, 1}, {3, 2, 3}}, placement());
  EXPECT_TRUE(part.is_contiguous());
  EXPECT_TRUE(part.cpu().equal(expected));
}

TEST_P(CropTest, HolesOfTheNonZeroRegionAreFilled) {
  // A shell with a hole inside, and a tube that is open at one end.
  at::Tensor volume = at::zeros({5, 5, 5}, at::kFloat);
  volume.narrow(0, 1, 3).narrow(1, 1, 3).narrow(2, 1, 3).fill_(7);
  volume[2][2][2] = 0;
  at::Tensor open = volume.clone();
  open[2][2][3] = 0;
  EXPECT_EQ(Filled({volume}).sum().item<std::int64_t>(), 27);
  EXPECT_EQ(Filled({open}).sum().item<std::int64_t>(), 25);
  // What one volume leaves open another one closes: holes are those of all together.
  at::Tensor lid = at::zeros({5, 5, 5}, at::kFloat);
  lid[2][2][3] = -1;
  EXPECT_TRUE(Filled({open, lid}).equal(Filled({volume})));
  EXPECT_TRUE(Filled({lid, open}).equal(Filled({volume})));
}

TEST_P(CropTest, TheBoxOfAMask) {
  at::Tensor mask = at::zeros({6, 7, 8}, at::kByte);
  mask[2][5][3] = 1;
  mask[4][1][6] = 1;
  EXPECT_EQ(*BoxOfMask(mask, 0, {2, {}}), (volume::Box{{3, 1, 2}, {4, 5, 3}}));
  EXPECT_EQ(*BoxOfMask(mask, 2, {2, {}}), (volume::Box{{1, 0, 0}, {7, 7, 6}}));
}

class RegionTest : public testing::PlacedTest {
 protected:
  absl::StatusOr<at::Tensor> Normalise(const at::Tensor& volume, const at::Tensor& region = {}) {
    v1::Preparation preparation;
    v1::ZScore& z_score = *preparation.add_intensity()->mutable_z_score();
    z_score.set_nonzero(true);
    z_score.set_fill_holes(true);
    at::Tensor values = Put(volume.clone());
    TS_RETURN_IF_ERROR(ApplyIntensity(preparation.intensity(), values, {2, {}}, placement(),
                                      region.defined() ? Put(region) : region));
    return values.cpu();
  }
};

TEST_P(RegionTest, HolesCountAndChangeAndTheOutsideStaysZero) {
  at::Tensor volume = at::zeros({5, 5, 5}, at::kFloat);
  volume.narrow(0, 1, 3).narrow(1, 1, 3).narrow(2, 1, 3).fill_(27);
  volume[2][2][2] = 0;
  const auto out = Normalise(volume);
  ASSERT_TRUE(out.ok()) << out.status();
  // 26 voxels of 27 and one of 0: mean 26, deviation sqrt(26).
  EXPECT_FLOAT_EQ((*out)[1][1][1].item<float>(), 1 / std::sqrt(26.0f));
  EXPECT_FLOAT_EQ((*out)[2][2][2].item<float>(), -std::sqrt(26.0f));
  EXPECT_EQ((*out)[0][2][2].item<float>(), 0);
  EXPECT_EQ((*out)[4][4][4].item<float>(), 0);
}

TEST_P(RegionTest, AGivenRegionCountsInPlaceOfTheVolumesOwn) {
  const at::Tensor volume = testing::MakeTensor({1, 1, 6}, {0, 3, 0, 0, 5, 0});
  const at::Tensor region = testing::MakeTensor({1, 1, 6}, {0, 1, 1, 0, 1, 1}).to(at::kByte);
  const auto out = Normalise(volume, region);
  ASSERT_TRUE(out.ok()) << out.status();
  const float deviation = std::sqrt((1 + 4 + 9 + 4) / 4.0f);
  EXPECT_THAT(Values(*out), ElementsAre(0, 1 / deviation, -2 / deviation, 0, 3 / deviation, -2 / deviation));
}

// Several channels have one region: what one of them has beyond it neither counts nor stays.
TEST_P(RegionTest, ValuesOutsideAGivenRegionDoNotCount) {
  const at::Tensor volume = testing::MakeTensor({1, 1, 6}, {100, 3, 0, -100, 5, 0});
  const at::Tensor region = testing::MakeTensor({1, 1, 6}, {0, 1, 1, 0, 1, 1}).to(at::kByte);
  const auto out = Normalise(volume, region);
  ASSERT_TRUE(out.ok()) << out.status();
  const float deviation = std::sqrt((1 + 4 + 9 + 4) / 4.0f);
  EXPECT_THAT(Values(*out), ElementsAre(0, 1 / deviation, -2 / deviation, 0, 3 / deviation, -2 / deviation));
}

TEST_P(RegionTest, OfAnotherShapeIsRefused) {
  const at::Tensor volume = at::zeros({2, 2, 2}, at::kFloat);
  EXPECT_EQ(base::ReasonOf(Normalise(volume, at::zeros({2, 2}, at::kByte)).status()), "INTENSITY_INVALID");
  EXPECT_EQ(base::ReasonOf(Normalise(volume.view({8})).status()), "INTENSITY_INVALID");
  EXPECT_TRUE(Normalise(volume).ok()) << "nothing to normalise";
}

TS_INSTANTIATE_PLACES(CropTest, testing::AllPlaces());
TS_INSTANTIATE_PLACES(RegionTest, testing::AllPlaces());

TEST(InsertTest, PutsThePartBackAndZerosAround) {
  const auto geometry = testing::AxialGeometry({3, 3, 2}, {1, 1, 1});
  std::vector<std::uint8_t> whole(18, 9);
  InsertInto<std::uint8_t>(geometry, {{1, 0, 1}, {2, 2, 1}}, std::vector<std::uint8_t>{1, 2, 3, 4}, whole);
  EXPECT_THAT(whole, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 3, 4, 0, 0, 0));
}

}  // namespace
}  // namespace tomoserve::compute
