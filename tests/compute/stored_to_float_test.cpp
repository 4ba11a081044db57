#include "tomoserve/compute/stored_to_float.h"

#include <gtest/gtest.h>

#include <limits>

#include "compute/places.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/hounsfield.h"

namespace tomoserve::compute {
namespace {

using testing::Values;

template <typename Stored>
StoredSlice SliceOf(const std::vector<Stored>& values, ipc::v1::StoredType type, double slope,
                    double intercept) {
  return {std::as_bytes(std::span(values)), type, slope, intercept};
}

class StoredToFloatTest : public testing::PlacedTest {};

// The same bits in every placement.
TEST_P(StoredToFloatTest, ReadsEveryStoredTypeWithItsOwnFactors) {
  const std::vector<std::uint8_t> u8{0, 255};
  const std::vector<std::int8_t> i8{-128, 127};
  const std::vector<std::uint16_t> u16{0, 65535};
  const std::vector<std::int16_t> i16{-32768, 32767};
  const std::vector<std::uint32_t> u32{0, 4294967295u};
  const std::vector<std::int32_t> i32{-2147483647, 16777216};
  const std::vector<StoredSlice> slices{
      SliceOf(u8, ipc::v1::STORED_TYPE_U8, 1, 0),       SliceOf(i8, ipc::v1::STORED_TYPE_I8, 2, 1),
      SliceOf(u16, ipc::v1::STORED_TYPE_U16, 1, -1024), SliceOf(i16, ipc::v1::STORED_TYPE_I16, 1, 0.5),
      SliceOf(u32, ipc::v1::STORED_TYPE_U32, 1, 0),     SliceOf(i32, ipc::v1::STORED_TYPE_I32, 0.1, 0)};
  const auto volume = StoredToFloat(slices, {2, 1, 6}, {}, placement());
  ASSERT_TRUE(volume.ok()) << volume.status();
  const std::vector<float> expected{0,
                                    255,
                                    -255,
                                    255,
                                    -1024,
                                    64511,
                                    -32767.5f,
                                    32767.5f,
                                    0,
                                    4294967295.0f,
                                    static_cast<float>(-2147483647 * 0.1),
                                    static_cast<float>(16777216 * 0.1)};
  EXPECT_EQ(Values(*volume), expected);
}

TEST_P(StoredToFloatTest, ManySlicesStayInOrder) {
  // 60 MB: more than a ring of staging buffers holds.
  constexpr std::uint32_t kSlices = 40;
  constexpr std::size_t kPixels = std::size_t{1000} * 750;
  std::vector<std::uint16_t> values(kPixels * kSlices);
  for (std::size_t v = 0; v < values.size(); ++v)
    values[v] = static_cast<std::uint16_t>(v * 31 + v / kPixels);
  std::vector<StoredSlice> slices;
  for (std::size_t k = 0; k < kSlices; ++k) {
    slices.push_back({std::as_bytes(std::span(values).subspan(k * kPixels, kPixels)),
                      ipc::v1::STORED_TYPE_U16, 1, -static_cast<double>(k)});
  }
  for (const int threads : {1, 3}) {
    const auto volume = StoredToFloat(slices, {1000, 750, kSlices}, {threads, {}}, placement());
    ASSERT_TRUE(volume.ok()) << volume.status();
    const at::Tensor host = volume->cpu();
    std::size_t wrong = 0;
    for (std::size_t v = 0; v < values.size(); ++v) {
      const auto expected = static_cast<float>(values[v]) - static_cast<float>(v / kPixels);
      wrong += testing::Floats(host)[v] != expected ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u);
  }
}

TEST_P(StoredToFloatTest, StopsWhenCancelled) {
  const std::vector<std::int16_t> values(4);
  const StoredSlice slice = SliceOf(values, ipc::v1::STORED_TYPE_I16, 1, 0);
  const Parallel cancelled{2, [] { return true; }};
  EXPECT_EQ(base::ReasonOf(StoredToFloat(std::vector{slice}, {2, 2, 1}, cancelled, placement()).status()),
            "CANCELLED");
}

TEST_P(StoredToFloatTest, RefusesSlicesThatDoNotFit) {
  const std::vector<std::int16_t> values{1, 2, 3, 4};
  const StoredSlice good = SliceOf(values, ipc::v1::STORED_TYPE_I16, 1, 0);
  EXPECT_EQ(base::ReasonOf(StoredToFloat(std::vector{good}, {2, 2, 2}, {}, placement()).status()),
            "SLICE_COUNT");
  const absl::Status bytes = StoredToFloat(std::vector{good, good}, {3, 2, 2}, {}, placement()).status();
  EXPECT_EQ(base::ReasonOf(bytes), "SLICE_BYTES");
  StoredSlice bad = good;
  bad.type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  const absl::Status type = StoredToFloat(std::vector{good, bad}, {2, 2, 2}, {}, placement()).status();
  EXPECT_EQ(base::ReasonOf(type), "SLICE_TYPE");
  EXPECT_EQ(base::ValueOf(type), "1");
  for (const double factor : {std::numeric_limits<double>::quiet_NaN(), 1e300}) {
    bad = good;
    bad.slope = factor;
    EXPECT_EQ(base::ReasonOf(StoredToFloat(std::vector{bad}, {2, 2, 1}, {}, placement()).status()),
              "RESCALE_INVALID");
    bad = good;
    bad.intercept = factor;
    EXPECT_EQ(base::ReasonOf(StoredToFloat(std::vector{bad}, {2, 2, 1}, {}, placement()).status()),
              "RESCALE_INVALID");
  }
}

// Slices of 3 columns x 2 rows on a grid of 5 x 4.
StoredSlice Shifted(const std::vector<std::int16_t>& values, double i, double j) {
  StoredSlice slice = SliceOf(values, ipc::v1::STORED_TYPE_I16, 1, 0);
  slice.shift = Shift{{i, j}, {3, 2}, -1000};
  return slice;
}

TEST_P(StoredToFloatTest, ShiftedSlicesLieInTheGridAndAirBesideThem) {
  const std::vector<std::int16_t> values{10, 20, 30, 40, 50, 60};
  const auto volume =
      StoredToFloat(std::vector{Shifted(values, 1, 0), Shifted(values, 0.25, 1), Shifted(values, 2, 1.5)},
                    {5, 4, 3}, {2, {}}, placement());
  ASSERT_TRUE(volume.ok()) << volume.status();
  const std::vector<float> expected{
      -1000,   10,    20,    30,      -1000,  // whole pixels
      -1000,   40,    50,    60,      -1000,  //
      -1000,   -1000, -1000, -1000,   -1000,  //
      -1000,   -1000, -1000, -1000,   -1000,  //
      -1000,   -1000, -1000, -1000,   -1000,  // a quarter along i, one row along j
      -242.5f, 17.5f, 27.5f, -742.5f, -1000,  // 0.75 * 10 - 250, 0.75 * 20 + 0.25 * 10, ...
      -220,    47.5f, 57.5f, -735,    -1000,  //
      -1000,   -1000, -1000, -1000,   -1000,  //
      -1000,   -1000, -1000, -1000,   -1000,  // half a row along j
      -1000,   -1000, -495,  -490,    -485,   // half air
      -1000,   -1000, 25,    35,      45,     // the mean of both rows
      -1000,   -1000, -480,  -475,    -470};
  EXPECT_EQ(Values(*volume), expected);
}

TEST_P(StoredToFloatTest, MissingSlicesAreMixedFromTheirNeighbours) {
  const std::vector<std::int16_t> low{0, 100, -7, 8, 1, 1};
  const std::vector<std::int16_t> high{300, 101, 14, -5, 2, 1};
  StoredSlice first;
  first.between = Between{0, 3, 1.0 / 3};
  StoredSlice second;
  second.between = Between{0, 3, 0.75};
  const std::vector<StoredSlice> slices{SliceOf(low, ipc::v1::STORED_TYPE_I16, 1, 0), first, second,
                                        SliceOf(high, ipc::v1::STORED_TYPE_I16, 1, 0)};
  const auto volume = StoredToFloat(slices, {3, 2, 4}, {2, {}}, placement());
  ASSERT_TRUE(volume.ok()) << volume.status();
  const std::vector<float> values = Values(*volume);
  for (std::size_t v = 0; v < 6; ++v) {
    EXPECT_EQ(values[v], low[v]);
    EXPECT_NEAR(values[6 + v], low[v] * 2 / 3.0 + high[v] / 3.0, 1e-4);
    EXPECT_EQ(values[12 + v], static_cast<float>(low[v] * 0.25 + high[v] * 0.75));
    EXPECT_EQ(values[18 + v], high[v]);
  }
}

// The loops are the specification.
TEST_P(StoredToFloatTest, CorrectedVolumesAreTheSameBitsInEveryPlacement) {
  std::uint64_t state = 5;
  const auto random = [&state](std::uint64_t below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % below;
  };
  constexpr std::size_t kSlices = 9;
  constexpr std::uint32_t kColumns = 37, kRows = 29;
  std::vector<std::uint16_t> values(kSlices * kColumns * kRows);
  for (std::uint16_t& value : values) value = static_cast<std::uint16_t>(random(4096));
  std::vector<StoredSlice> slices;
  for (std::size_t k = 0; k < kSlices; ++k) {
    StoredSlice& slice = slices.emplace_back();
    if (k == 3 || k == 4) {
      slice.between = Between{2, 5, static_cast<double>(k - 2) / 3};
      continue;
    }
    slice = {std::as_bytes(std::span(values).subspan(k * kColumns * kRows, kColumns * kRows)),
             ipc::v1::STORED_TYPE_U16, 0.37 + 0.01 * static_cast<double>(k), -1024.5};
    slice.shift = Shift{{static_cast<double>(random(4000)) / 997, static_cast<double>(random(9000)) / 1009},
                        {kColumns, kRows},
                        -1024};
  }
  const std::array<std::uint32_t, 3> size{kColumns + 5, kRows + 9, kSlices};
  const auto expected = StoredToFloat(slices, size, {});
  const auto volume = StoredToFloat(slices, size, {}, placement());
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_EQ(Values(*volume), Values(*expected));
}

TEST_P(StoredToFloatTest, RefusesCorrectionsThatDoNotFit) {
  const std::vector<std::int16_t> values{1, 2, 3, 4, 5, 6};
  const auto reason = [&](const std::vector<StoredSlice>& slices) {
    return base::ReasonOf(
        StoredToFloat(slices, {5, 4, static_cast<std::uint32_t>(slices.size())}, {}, placement()).status());
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double shift : {-0.5, 5.5, nan, 1e300}) {
    EXPECT_EQ(reason({Shifted(values, shift, 0)}), "SLICE_SHIFT");
  }
  StoredSlice bad = Shifted(values, 0, 0);
  bad.shift->outside = nan;
  EXPECT_EQ(reason({bad}), "SLICE_SHIFT");
  bad = Shifted(values, 0, 0);
  bad.shift->stored_size_ij = {3, 3};
  EXPECT_EQ(reason({bad}), "SLICE_BYTES");
  const StoredSlice good = Shifted(values, 0, 0);
  for (const Between& between : {Between{0, 2, 0}, Between{0, 2, nan}, Between{0, 1, 0.5}, Between{1, 2, 0.5},
                                 Between{0, 3, 0.5}, Between{4000000000u, 2, 0.5}}) {
    StoredSlice missing;
    missing.between = between;
    EXPECT_EQ(reason({good, missing, good}), "SLICE_BETWEEN");
  }
  StoredSlice missing;
  missing.between = Between{0, 2, 0.5};
  EXPECT_EQ(reason({good, missing, missing, good}), "SLICE_BETWEEN");
}

TEST_P(StoredToFloatTest, RealCtEqualsIndependentReader) {
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  const testing::ChestCt ct = testing::ReadChestCt();
  const auto volume = StoredToFloat(ct.Slices(), ct.geometry.size_ijk(), {2, {}}, placement());
  ASSERT_TRUE(volume.ok()) << volume.status();
  std::vector<std::int16_t> hu;
  for (const float value : Values(*volume)) hu.push_back(static_cast<std::int16_t>(value));
  // case.json "sha256_int16le_kji", by pydicom.
  EXPECT_EQ(base::Sha256Hex({reinterpret_cast<const char*>(hu.data()), hu.size() * 2}),
            "25ea476e500e8e1b7d794a9c805c1ada4c12a313be9c453da36e76d776353b92");
}

TEST(CountHounsfieldTest, CountsStoredSlicesOnly) {
  // 8 columns x 8 rows: 2 x 2 samples a slice, at every fourth pixel.
  std::vector<std::int16_t> values(64, 2000);
  values[0] = -1000;
  values[4] = 40;
  values[4 * 8] = 40;
  values[4 * 8 + 4] = -100;
  const StoredSlice stored = SliceOf(values, ipc::v1::STORED_TYPE_I16, 1, 0);
  StoredSlice shifted = stored;
  shifted.shift = Shift{{0, 2.5}, {8, 8}, -1000};
  StoredSlice missing;
  missing.between = Between{0, 2, 0.5};
  for (const int threads : {1, 3}) {
    const auto counts = CountHounsfield(std::vector{shifted, missing, shifted}, {8, 11, 3}, {threads, {}});
    ASSERT_TRUE(counts.ok()) << counts.status();
    EXPECT_EQ(counts->all, 8u);
    EXPECT_EQ(counts->body, 6u);
    EXPECT_EQ(counts->tissue, 6u);
    EXPECT_EQ(counts->dense, 0u);
  }
  EXPECT_EQ(base::ReasonOf(CountHounsfield(std::vector{stored}, {8, 8, 2}, {}).status()), "SLICE_COUNT");
}

TS_INSTANTIATE_PLACES(StoredToFloatTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
