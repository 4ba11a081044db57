// What the options beyond the chest of round numbers do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "phantom/kernel.h"
#include "phantom/noise.h"
#include "phantom/scene.h"
#include "tomoserve/base/status.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::phantom {
namespace {

using ::testing::SizeIs;

// 320 x 320 x 280 mm, without noise.
Options Fine() {
  Options options;
  options.size_ijk = {200, 200, 140};
  options.spacing_mm = {1.6, 1.6, 2};
  options.noise_hu = 0;
  options.labels = true;
  return options;
}

std::size_t VoxelAt(const Phantom& phantom, const volume::LpsPoint& point) {
  const auto voxel = phantom.geometry.ToVoxel(point).ijk;
  const auto& size = phantom.geometry.size_ijk();
  std::array<std::size_t, 3> at{};
  for (std::size_t d = 0; d < 3; ++d) at[d] = static_cast<std::size_t>(std::lround(voxel[d]));
  return (at[2] * size[1] + at[1]) * size[0] + at[0];
}

std::uint64_t LabelCount(const Phantom& phantom, std::size_t nodule) {
  return static_cast<std::uint64_t>(
      std::count(phantom.labels.begin(), phantom.labels.end(), static_cast<std::uint8_t>(nodule + 1)));
}

double SphereMl(double diameter_mm) { return M_PI * std::pow(diameter_mm, 3) / 6000; }

TEST(ChestOptionsTest, NodulesHaveTheSizesAskedFor) {
  Options options = Fine();
  options.nodule_mm = {4, 30};
  options.nodules = 8;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok()) << phantom.status();
  ASSERT_THAT(phantom->nodules, SizeIs(8));
  double smallest = 99;
  double largest = 0;
  for (const Nodule& nodule : phantom->nodules) {
    smallest = std::min(smallest, nodule.diameter_mm);
    largest = std::max(largest, nodule.diameter_mm);
  }
  EXPECT_GE(smallest, 4);
  EXPECT_LT(smallest, 7.5);  // one of each eighth of the range
  EXPECT_LE(largest, 30);
  EXPECT_GT(largest, 20);
}

TEST(ChestOptionsTest, LabelsFillTheSpheresOfTheirNodules) {
  Options options = Fine();
  options.nodule_mm = {10, 24};
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  ASSERT_EQ(phantom->labels.size(), phantom->values.size());
  for (std::size_t n = 0; n < phantom->nodules.size(); ++n) {
    const Nodule& nodule = phantom->nodules[n];
    EXPECT_EQ(phantom->labels[VoxelAt(*phantom, nodule.centre_lps)], n + 1);
    const double ml = static_cast<double>(LabelCount(*phantom, n)) * phantom->geometry.voxel_volume_ml();
    EXPECT_NEAR(ml / SphereMl(nodule.diameter_mm), 1, 0.1) << nodule.diameter_mm;
  }
}

TEST(ChestOptionsTest, LabelsAreOnlyMadeWhereAskedFor) {
  Options options = Fine();
  options.labels = false;
  EXPECT_TRUE(MakePhantom(options)->labels.empty());
}

TEST(ChestOptionsTest, PartSolidNodulesAreGroundGlassAroundADenseCore) {
  Options options = Fine();
  options.part_solid = 1;
  options.nodules = 4;
  options.nodule_mm = {14, 20};
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  for (std::size_t n = 0; n < phantom->nodules.size(); ++n) {
    const Nodule& nodule = phantom->nodules[n];
    EXPECT_GE(nodule.core_mm, 0.29 * nodule.diameter_mm);
    EXPECT_LE(nodule.core_mm, 0.66 * nodule.diameter_mm);
    std::uint64_t glass = 0;
    std::uint64_t dense = 0;
    for (std::size_t v = 0; v < phantom->values.size(); ++v) {
      if (phantom->labels[v] != n + 1) continue;
      if (phantom->values[v] > -620 && phantom->values[v] < -500) ++glass;
      if (phantom->values[v] > -100) ++dense;
    }
    const auto all = static_cast<double>(LabelCount(*phantom, n));
    const double core = std::pow(nodule.core_mm / nodule.diameter_mm, 3);
    EXPECT_GT(static_cast<double>(dense), 0.5 * core * all);
    EXPECT_LT(static_cast<double>(dense), 1.2 * core * all);
    EXPECT_GT(static_cast<double>(glass), 0.35 * all);
  }
}

TEST(ChestOptionsTest, SmallNodulesAreNeverPartSolid) {
  Options options = Fine();
  options.part_solid = 1;
  options.nodule_mm = {4, 5.8};
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  for (const Nodule& nodule : phantom->nodules) EXPECT_EQ(nodule.core_mm, 0);
}

TEST(ChestOptionsTest, PleuralNodulesTouchTheChestWall) {
  Options options = Fine();
  options.pleural = 1;
  options.nodules = 8;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  for (std::size_t n = 0; n < phantom->nodules.size(); ++n) {
    const Nodule& nodule = phantom->nodules[n];
    EXPECT_TRUE(nodule.pleural);
    // A part of the sphere lies in the wall, at least about half of it in the lung.
    const double ml = static_cast<double>(LabelCount(*phantom, n)) * phantom->geometry.voxel_volume_ml();
    EXPECT_LT(ml, 0.99 * SphereMl(nodule.diameter_mm));
    EXPECT_GT(ml, 0.35 * SphereMl(nodule.diameter_mm));
    EXPECT_EQ(nodule.right, nodule.centre_lps.mm[0] < 0);
  }
}

TEST(ChestOptionsTest, LobesMakeNodulesLarger) {
  Options options = Fine();
  options.nodules = 5;
  options.nodule_mm = {12, 20};
  options.lobulated = 1;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  double spheres = 0;
  double labelled = 0;
  for (std::size_t n = 0; n < phantom->nodules.size(); ++n) {
    EXPECT_TRUE(phantom->nodules[n].lobulated);
    spheres += SphereMl(phantom->nodules[n].diameter_mm);
    labelled += static_cast<double>(LabelCount(*phantom, n)) * phantom->geometry.voxel_volume_ml();
  }
  EXPECT_GT(labelled, 1.03 * spheres);
  EXPECT_LT(labelled, 1.4 * spheres);
}

TEST(ChestOptionsTest, LookAlikesAreInTheLungsAndNotOnNodules) {
  Options options = Fine();
  options.look_alikes = 20;
  options.nodules = 5;
  const auto with = MakePhantom(options);
  ASSERT_TRUE(with.ok());
  EXPECT_GE(with->look_alikes.size(), 15u);
  std::set<LookAlike::Kind> kinds;
  for (const LookAlike& look_alike : with->look_alikes) {
    kinds.insert(look_alike.kind);
    for (const Nodule& nodule : with->nodules) {
      double squared = 0;
      for (std::size_t d = 0; d < 3; ++d) {
        squared += std::pow(look_alike.centre_lps.mm[d] - nodule.centre_lps.mm[d], 2);
      }
      EXPECT_GT(std::sqrt(squared), 1.5 * nodule.diameter_mm / 2);
    }
  }
  EXPECT_THAT(kinds, SizeIs(5));
  // The same chest without them: they are additions to aerated lung, and change no nodule.
  options.look_alikes = 0;
  const auto without = MakePhantom(options);
  EXPECT_EQ(with->labels, without->labels);
  std::uint64_t changed = 0;
  for (std::size_t v = 0; v < with->values.size(); ++v) {
    if (with->values[v] == without->values[v]) continue;
    ++changed;
    EXPECT_LT(without->values[v], 45);  // heart, liver and bone are as they were
    if (with->labels[v] != 0) {
      EXPECT_LT(std::abs(with->values[v] - without->values[v]), 500);
    }
  }
  EXPECT_GT(static_cast<double>(changed) * with->geometry.voxel_volume_ml(), 5);
}

TEST(ChestOptionsTest, AnatomyDiffersBetweenSeedsOnlyWhereItMayVary) {
  const auto lung_ml = [](double vary, std::uint64_t seed) {
    Options options = Fine();
    options.nodules = 0;
    options.vary = vary;
    options.seed = seed;
    return MakePhantom(options)->lung_volume_ml;
  };
  EXPECT_DOUBLE_EQ(lung_ml(0, 1), lung_ml(0, 2));
  std::vector<double> volumes;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) volumes.push_back(lung_ml(1, seed));
  const auto [low, high] = std::minmax_element(volumes.begin(), volumes.end());
  EXPECT_GT(*high / *low, 1.15);
  EXPECT_GT(*low, 1000);
}

TEST(ChestOptionsTest, AllOptionsTogetherGiveTheSameBytesEverywhere) {
  Options options = Fine();
  options.size_ijk = {72, 72, 56};
  options.spacing_mm = {4.5, 4.5, 5};
  options.nodules = 5;
  options.nodule_mm = {5, 25};
  options.part_solid = options.pleural = options.lobulated = 0.5;
  options.look_alikes = 10;
  options.vary = 1;
  options.kernel = Kernel::kSharp;
  options.noise_hu = 15;
  const auto first = MakePhantom(options);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = MakePhantom(options);
  EXPECT_EQ(first->values, second->values);
  EXPECT_EQ(first->labels, second->labels);
}

TEST(KernelTest, NoiseKeepsItsDeviationAndGetsItsGrain) {
  constexpr std::size_t kSide = 400;
  const auto measure = [&](Kernel kernel) {
    std::vector<float> plane(kSide * kSide);
    const NormalNoise noise(3);
    for (std::size_t n = 0; n < plane.size(); n += 4) noise.Block(n / 4, plane.data() + n);
    PlaneFilter filter(kernel, kSide, kSide, 0.8, 0.8);
    filter.Noise(plane);
    double squares = 0;
    double neighbours = 0;
    std::size_t count = 0;
    for (std::size_t y = 10; y + 10 < kSide; ++y) {
      for (std::size_t x = 10; x + 10 < kSide; ++x, ++count) {
        const auto here = static_cast<double>(plane[y * kSide + x]);
        squares += here * here;
        neighbours += here * static_cast<double>(plane[y * kSide + x + 1]);
      }
    }
    return std::pair{std::sqrt(squares / static_cast<double>(count)), neighbours / squares};
  };
  const auto [none, none_grain] = measure(Kernel::kNone);
  const auto [smooth, smooth_grain] = measure(Kernel::kSmooth);
  const auto [standard, standard_grain] = measure(Kernel::kStandard);
  const auto [sharp, sharp_grain] = measure(Kernel::kSharp);
  for (const double deviation : {none, smooth, standard, sharp}) EXPECT_NEAR(deviation, 1, 0.02);
  EXPECT_NEAR(none_grain, 0, 0.02);
  EXPECT_GT(smooth_grain, 0.75);
  EXPECT_GT(standard_grain, 0.55);
  EXPECT_LT(standard_grain, smooth_grain - 0.05);
  EXPECT_LT(sharp_grain, -0.02);  // high frequencies: neighbours differ
}

TEST(KernelTest, EdgesAreBlurredOrOvershoot) {
  constexpr std::size_t kSide = 40;
  const auto row = [&](Kernel kernel) {
    std::vector<float> plane(kSide * kSide, 0.0f);
    for (std::size_t y = 0; y < kSide; ++y) {
      std::fill_n(plane.begin() + static_cast<std::ptrdiff_t>(y * kSide + kSide / 2), kSide / 2, 1000.0f);
    }
    PlaneFilter filter(kernel, kSide, kSide, 0.8, 0.8);
    filter.Image(plane);
    return std::vector<float>(plane.begin() + 20 * kSide, plane.begin() + 21 * kSide);
  };
  EXPECT_EQ(row(Kernel::kNone)[kSide / 2], 1000.0f);
  EXPECT_GT(row(Kernel::kSmooth)[kSide / 2 - 1], row(Kernel::kStandard)[kSide / 2 - 1]);
  EXPECT_GT(row(Kernel::kStandard)[kSide / 2 - 1], 100.0f);
  const std::vector<float> sharp = row(Kernel::kSharp);
  EXPECT_GT(*std::max_element(sharp.begin(), sharp.end()), 1100.0f);
  EXPECT_LT(*std::min_element(sharp.begin(), sharp.end()), -100.0f);
  for (const Kernel kernel : {Kernel::kSmooth, Kernel::kStandard, Kernel::kSharp}) {
    EXPECT_NEAR(static_cast<double>(row(kernel).front()), 0, 0.5);
    EXPECT_NEAR(static_cast<double>(row(kernel).back()), 1000, 0.5);
  }
}

TEST(PaintDiscTest, PlateKeepsItsVolumeInEveryDirection) {
  const Axis axis{-29.5, 1, 60};
  for (const Point& normal : {Point{1, 0, 0}, Point{0, 0, 1}, Point{0.6, 0, 0.8}, Point{0.48, 0.6, 0.64}}) {
    for (const double thickness : {0.5, 3.0}) {
      Scene scene;
      scene.ellipsoids.push_back({{0, 0, 0}, {100, 100, 100}, 0, 0, Paint::kLung});
      scene.discs.push_back({{0, 0, 0}, normal, 15, thickness, 1});
      double sum = 0;
      Plane plane;
      for (double z = -29.5; z < 30; z += 1) {
        PaintPlane(scene, axis, axis, z, 1, 1, plane);
        for (const float value : plane.value) sum += static_cast<double>(value);
      }
      EXPECT_NEAR(sum / (M_PI * 15 * 15 * thickness), 1, 0.06) << thickness;
    }
  }
}

TEST(PaintHazeTest, VesselsAreSeenThroughGroundGlass) {
  const Axis axis{-9.5, 1, 20};
  Scene scene;
  scene.ellipsoids.push_back({{0, 0, 0}, {50, 50, 50}, -850, 0, Paint::kLung});
  scene.tubes.push_back({{-20, 0, 0}, {20, 0, 0}, 2, 40, Paint::kInLung});
  scene.spheres.push_back({{0, 0, 0}, 8, -560, Paint::kHaze, 1});
  Plane plane;
  PaintPlane(scene, axis, axis, 0, 1, 1, plane);
  EXPECT_NEAR(static_cast<double>(plane.value[10 * 20 + 10]), 40, 1);    // in the vessel
  EXPECT_NEAR(static_cast<double>(plane.value[15 * 20 + 10]), -560, 1);  // beside it
  EXPECT_EQ(plane.label[10 * 20 + 10], 1);
}

TEST(ChestOptionsTest, TruthNamesKindAndPlaceOfEachNodule) {
  Options options = Fine();
  options.part_solid = options.pleural = 1;
  options.look_alikes = 5;
  options.nodules = 3;
  options.kernel = Kernel::kSmooth;
  const auto phantom = MakePhantom(options);
  ASSERT_TRUE(phantom.ok());
  const auto truth = nlohmann::json::parse(TruthJson(options, *phantom));
  EXPECT_EQ(truth["kernel"], "smooth");
  for (const auto& nodule : truth["nodules"]) {
    EXPECT_EQ(nodule["kind"], "part-solid");
    EXPECT_EQ(nodule["pleural"], true);
    EXPECT_GT(nodule["core_diameter_mm"], 1);
  }
  ASSERT_EQ(truth["look_alikes"].size(), phantom->look_alikes.size());
  EXPECT_EQ(truth["look_alikes"][0]["kind"], "crossing");
  const auto plain = nlohmann::json::parse(TruthJson({}, *MakePhantom(Fine())));
  EXPECT_EQ(plain["nodules"][0]["kind"], "solid");
  EXPECT_FALSE(plain["nodules"][0].contains("core_diameter_mm"));
}

TEST(ChestOptionsTest, RefusesImpossibleOptions) {
  const auto field = [](auto change) {
    Options options = Fine();
    change(options);
    const auto phantom = MakePhantom(options);
    EXPECT_EQ(base::ReasonOf(phantom.status()), "PHANTOM_OPTIONS");
    return base::ValueOf(phantom.status());
  };
  EXPECT_EQ(field([](Options& o) { o.nodule_mm = {2, 10}; }), "nodule_mm");
  EXPECT_EQ(field([](Options& o) { o.nodule_mm = {10, 61}; }), "nodule_mm");
  EXPECT_EQ(field([](Options& o) { o.nodule_mm = {12, 10}; }), "nodule_mm");
  EXPECT_EQ(field([](Options& o) { o.part_solid = 1.1; }), "part_solid");
  EXPECT_EQ(field([](Options& o) { o.pleural = -0.1; }), "pleural");
  EXPECT_EQ(field([](Options& o) { o.lobulated = std::numeric_limits<double>::quiet_NaN(); }), "lobulated");
  EXPECT_EQ(field([](Options& o) { o.vary = 2; }), "vary");
  EXPECT_EQ(field([](Options& o) { o.look_alikes = 257; }), "look_alikes");
}

}  // namespace
}  // namespace tomoserve::phantom
