#include "tomoserve/phantom/phantom.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "phantom/noise.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::phantom {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Le;
using ::testing::SizeIs;

// A chest that is fast to make: 256 x 256 x 300 mm.
Options Small() {
  Options options;
  options.size_ijk = {128, 128, 100};
  options.spacing_mm = {2.8, 2.8, 3};
  return options;
}

std::int16_t At(const Phantom& phantom, const volume::LpsPoint& point) {
  const auto voxel = phantom.geometry.ToVoxel(point).ijk;
  std::array<std::size_t, 3> at{};
  for (std::size_t d = 0; d < 3; ++d) {
    EXPECT_GE(voxel[d], -0.5);
    EXPECT_LT(voxel[d], phantom.geometry.size_ijk()[d] - 0.5);
    at[d] = static_cast<std::size_t>(std::lround(voxel[d]));
  }
  const auto& size = phantom.geometry.size_ijk();
  return phantom.values[(at[2] * size[1] + at[1]) * size[0] + at[0]];
}

std::string Digest(const Phantom& phantom) {
  base::Sha256 hash;
  hash.Update(std::as_bytes(std::span(phantom.values)));
  return hash.HexDigest();
}

TEST(PhantomTest, GridIsCentredOnThePatient) {
  const auto phantom = MakePhantom(Small());
  ASSERT_TRUE(phantom.ok()) << phantom.status();
  EXPECT_THAT(phantom->geometry.size_ijk(), ElementsAre(128, 128, 100));
  EXPECT_THAT(phantom->geometry.spacing_mm(), ElementsAre(2.8, 2.8, 3));
  EXPECT_EQ(volume::AxisCode(phantom->geometry), "LPS");
  for (const double coordinate : phantom->geometry.ToLps({{63.5, 63.5, 49.5}}).mm)
    EXPECT_NEAR(coordinate, 0, 1e-9);
  EXPECT_EQ(phantom->values.size(), 128u * 128u * 100u);
}

TEST(PhantomTest, SameOptionsGiveTheSameBytesEverywhere) {
  Options options = Small();
  options.size_ijk = {64, 64, 50};
  options.spacing_mm = {5.6, 5.6, 6};
  const std::string first = Digest(*MakePhantom(options));
  EXPECT_EQ(first, Digest(*MakePhantom(options)));
  // Pinned: a change of this digest is a change of every phantom.
  EXPECT_EQ(first, "ae6b241335b2cfd8c63cce82daf645af173726232881e916b4929442549e8dd2");
  options.seed = 2;
  EXPECT_NE(first, Digest(*MakePhantom(options)));
}

TEST(PhantomTest, NodulesAreInLungTissueOnTheSideThatIsSaid) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Options options = Small();
    options.noise_hu = 0;
    options.nodules = 6;
    options.seed = seed;
    const auto phantom = MakePhantom(options);
    ASSERT_TRUE(phantom.ok());
    ASSERT_THAT(phantom->nodules, SizeIs(6));
    bool left = false;
    bool right = false;
    for (const Nodule& nodule : phantom->nodules) {
      EXPECT_EQ(nodule.right, nodule.centre_lps.mm[0] < 0);
      (nodule.right ? right : left) = true;
      EXPECT_THAT(nodule.diameter_mm, AllOf(Ge(6), Le(20)));
      EXPECT_GT(At(*phantom, nodule.centre_lps), -300);
      // Free lung all around, one and a half radii from the centre and a voxel more.
      const double reach = 0.75 * nodule.diameter_mm + 3;
      if (reach > nodule.diameter_mm) continue;
      for (std::size_t d = 0; d < 3; ++d) {
        for (const double sign : {-1.0, 1.0}) {
          volume::LpsPoint beside = nodule.centre_lps;
          beside.mm[d] += sign * reach;
          EXPECT_LT(At(*phantom, beside), -700) << "seed " << seed << " axis " << d;
        }
      }
    }
    EXPECT_TRUE(left && right);
  }
}

TEST(PhantomTest, NoduleVolumesAreThoseOfTheirSpheres) {
  Options options;
  options.size_ijk = {360, 256, 280};
  options.spacing_mm = {1, 1, 1};
  options.noise_hu = 0;
  options.nodules = 5;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  for (const Nodule& nodule : phantom->nodules) {
    // Lung is about -850 +- 25 around; the share of a voxel that is nodule follows from its value.
    const double reach = nodule.diameter_mm / 2 + 2;
    double sum = 0;
    double lung = 0;
    int lung_count = 0;
    std::vector<double> values;
    for (double z = -reach; z <= reach; z += 1) {
      for (double y = -reach; y <= reach; y += 1) {
        for (double x = -reach; x <= reach; x += 1) {
          const double distance = std::sqrt(x * x + y * y + z * z);
          if (distance > reach) continue;
          const auto& c = nodule.centre_lps.mm;
          const double value = At(*phantom, {{c[0] + x, c[1] + y, c[2] + z}});
          values.push_back(value);
          if (distance > reach - 1) {
            lung += value;
            ++lung_count;
          }
        }
      }
    }
    lung /= lung_count;
    for (const double value : values) sum += (value - lung) / (30 - lung);
    const double ideal = 4.0 / 3 * M_PI * std::pow(nodule.diameter_mm / 2, 3);
    EXPECT_NEAR(sum / ideal, 1, 0.03) << "diameter " << nodule.diameter_mm;
  }
}

TEST(PhantomTest, HeartIsLeftAndLiverIsRightInEveryOrientation) {
  for (const char* code : {"LPS", "RAS", "LPI", "RPS", "PSL", "AIR", "SLP", "IRA"}) {
    Options options = Small();
    options.orientation = code;
    options.noise_hu = 0;
    options.nodules = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const bool vertical = options.orientation[axis] == 'S' || options.orientation[axis] == 'I';
      options.size_ijk[axis] = vertical ? 100 : 128;
      options.spacing_mm[axis] = vertical ? 3 : 2.8;
    }
    const auto phantom = MakePhantom(options);
    ASSERT_TRUE(phantom.ok()) << code;
    EXPECT_EQ(volume::AxisCode(phantom->geometry), code);
    EXPECT_EQ(At(*phantom, {{45, -30, -25}}), 45) << code;       // heart, left of the midline
    EXPECT_LT(At(*phantom, {{-45, -30, -25}}), -700) << code;    // lung on the right there
    EXPECT_EQ(At(*phantom, {{-60, 0, -100}}), 60) << code;       // liver, right and below
    EXPECT_LT(At(*phantom, {{70, 30, -85}}), -700) << code;      // lung on the left there
    EXPECT_LT(At(*phantom, {{0, -130, 0}}), -990) << code;       // air in front
    EXPECT_NEAR(At(*phantom, {{0, 124, 0}}), -120, 60) << code;  // table behind
    EXPECT_GT(At(*phantom, {{0, 64, 0}}), 80) << code;           // spine
  }
}

TEST(PhantomTest, LungsEndBeforeBothEndSlices) {
  for (const std::uint32_t slices : {100u, 60u, 30u}) {
    Options options = Small();
    options.size_ijk[2] = slices;
    options.noise_hu = 0;
    options.nodules = slices >= 60 ? 4 : 0;
    const auto phantom = MakePhantom(options);
    ASSERT_TRUE(phantom.ok()) << phantom.status();
    const double end = slices * options.spacing_mm[2] / 2;
    bool inside_is_air = false;
    for (double z = -end + 1; z < end; z += 3) {
      bool air = false;
      for (double x = -120; x <= 120; x += 3) {
        for (double y = -75; y <= 75; y += 3) {
          const bool trachea = std::hypot(x, y - 22) < 15;
          air = air || (!trachea && At(*phantom, {{x, y, z}}) < -500);
        }
      }
      if (std::abs(z) > end - 10) {
        EXPECT_FALSE(air) << slices << " slices, z " << z;
      }
      inside_is_air = inside_is_air || air;
    }
    EXPECT_TRUE(inside_is_air);
    EXPECT_GT(phantom->lung_volume_ml, slices == 100 ? 2500 : 100);
  }
}

TEST(PhantomTest, TracheaRunsFromTheTopSliceToTheCarina) {
  Options options = Small();
  options.noise_hu = 0;
  options.nodules = 0;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  for (const double z : {148.0, 120.0, 80.0, 45.0}) {
    EXPECT_LT(At(*phantom, {{0, 22, z}}), -950) << z;
    for (const double x : {-14.0, 14.0}) EXPECT_GT(At(*phantom, {{x, 22, z}}), 0) << z;
    int air = 0;
    for (double x = -16; x <= 16; x += 0.5) {
      for (double y = 6; y <= 38; y += 0.5) air += std::abs(x) < 14 && At(*phantom, {{x, y, z}}) < -400;
    }
    EXPECT_NEAR(air * 0.25, M_PI * 8.5 * 8.5, 50) << z;  // mm2
  }
  EXPECT_GT(At(*phantom, {{0, 22, 15}}), 0);  // below the carina
  for (const double side : {-1.0, 1.0}) EXPECT_LT(At(*phantom, {{side * 18, 12, 6}}), -900);  // main bronchi
}

TEST(PhantomTest, LungVolumeIsThatOfItsAir) {
  Options options = Small();
  options.noise_hu = 0;
  options.nodules = 0;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  std::uint64_t air = 0;
  const auto& size = phantom->geometry.size_ijk();
  for (std::size_t k = 0; k < size[2]; ++k) {
    for (std::size_t j = 0; j < size[1]; ++j) {
      for (std::size_t i = 0; i < size[0]; ++i) {
        const auto p = phantom->geometry.ToLps({{double(i), double(j), double(k)}}).mm;
        const bool in_body = std::pow(p[0] / 150, 2) + std::pow(p[1] / 100, 2) < 1;
        const bool airway = std::abs(p[0]) < 12;  // in no lung
        if (in_body && !airway && phantom->values[(k * size[1] + j) * size[0] + i] < -400) ++air;
      }
    }
  }
  const double air_ml = static_cast<double>(air) * phantom->geometry.voxel_volume_ml();
  EXPECT_NEAR(air_ml / phantom->lung_volume_ml, 0.97, 0.03);  // vessels are not air
}

TEST(PhantomTest, NoiseIsNormalWithTheStatedDeviation) {
  const NormalNoise noise(5);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  constexpr int kBlocks = 100000;
  for (std::uint64_t block = 0; block < kBlocks; ++block) {
    float values[4];
    noise.Block(block, values);
    for (const float value : values) {
      sum += static_cast<double>(value);
      squares += std::pow(value, 2);
      fourth += std::pow(value, 4);
    }
  }
  const double count = 4.0 * kBlocks;
  EXPECT_NEAR(sum / count, 0, 0.01);
  EXPECT_NEAR(squares / count, 1, 0.01);
  EXPECT_NEAR(fourth / count, 3, 0.05);

  Options options = Small();
  options.noise_hu = 20;
  options.nodules = 0;
  const auto noisy = MakePhantom(options);
  options.noise_hu = 0;
  const auto clean = MakePhantom(options);
  double difference = 0;
  std::uint64_t voxels = 0;
  for (std::size_t n = 0; n < clean->values.size(); ++n) {
    if (clean->values[n] < -900) continue;  // air is clamped
    difference += std::pow(noisy->values[n] - clean->values[n], 2);
    ++voxels;
  }
  EXPECT_NEAR(std::sqrt(difference / static_cast<double>(voxels)), 20, 0.2);
}

TEST(PhantomTest, MrIsAHeadWithItsFiducialOnTheRight) {
  Options options = Small();
  options.modality = Modality::kMr;
  options.noise_hu = 0;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  EXPECT_THAT(phantom->nodules, SizeIs(0));
  EXPECT_EQ(phantom->lung_volume_ml, 0);
  EXPECT_EQ(At(*phantom, {{-80, -10, 0}}), 1400);
  EXPECT_EQ(At(*phantom, {{86, -10, 0}}), 0);
  EXPECT_EQ(At(*phantom, {{-31, 40, 8}}), 700);
  EXPECT_THAT(phantom->values, Each(AllOf(Ge(0), Le(4095))));
}

TEST(PhantomTest, TruthHoldsWhatWasMade) {
  const Options options = Small();
  const auto phantom = MakePhantom(options);
  const auto truth = nlohmann::json::parse(TruthJson(options, *phantom));
  EXPECT_EQ(truth["modality"], "CT");
  EXPECT_EQ(truth["size_ijk"], (std::vector<int>{128, 128, 100}));
  EXPECT_EQ(truth["direction_k"], (std::vector<double>{0, 0, 1}));
  ASSERT_EQ(truth["nodules"].size(), 4u);
  const Nodule& nodule = phantom->nodules[0];
  EXPECT_EQ(truth["nodules"][0]["diameter_mm"], nodule.diameter_mm);
  EXPECT_NEAR(truth["nodules"][0]["volume_ml"].get<double>(), M_PI * std::pow(nodule.diameter_mm, 3) / 6000,
              1e-9);
  EXPECT_EQ(truth["nodules"][0]["side"], nodule.right ? "right" : "left");
  EXPECT_NEAR(truth["lung_volume_ml"].get<double>(), phantom->lung_volume_ml, 1e-6);
}

TEST(PhantomTest, RefusesImpossibleOptions) {
  const auto field = [](auto change) {
    Options options = Small();
    change(options);
    const auto phantom = MakePhantom(options);
    EXPECT_EQ(base::ReasonOf(phantom.status()), "PHANTOM_OPTIONS");
    return base::ValueOf(phantom.status());
  };
  EXPECT_EQ(field([](Options& o) { o.size_ijk[1] = 0; }), "size_ijk");
  EXPECT_EQ(field([](Options& o) { o.size_ijk = {1u << 11, 1u << 11, 1u << 10}; }), "size_ijk");
  EXPECT_EQ(field([](Options& o) { o.spacing_mm[2] = 0; }), "spacing_mm");
  EXPECT_EQ(field([](Options& o) { o.spacing_mm[2] = std::numeric_limits<double>::quiet_NaN(); }),
            "spacing_mm");
  EXPECT_EQ(field([](Options& o) { o.orientation = "LPX"; }), "orientation");
  EXPECT_EQ(field([](Options& o) { o.orientation = "LRS"; }), "orientation");
  EXPECT_EQ(field([](Options& o) { o.orientation = "LP"; }), "orientation");
  EXPECT_EQ(field([](Options& o) { o.noise_hu = -1; }), "noise_hu");
  EXPECT_EQ(field([](Options& o) { o.nodules = 65; }), "nodules");
  // No room: 24 mm along z hold no lungs with their margins.
  EXPECT_EQ(field([](Options& o) { o.size_ijk[2] = 8; }), "nodules");
  Options thin = Small();
  thin.size_ijk[2] = 8;
  thin.nodules = 0;
  EXPECT_TRUE(MakePhantom(thin).ok());
}

}  // namespace
}  // namespace tomoserve::phantom
