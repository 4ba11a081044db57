#include "tomoserve/compute/stored_to_float.h"

#include <gtest/gtest.h>

#include <limits>

#include "compute/places.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

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

TS_INSTANTIATE_PLACES(StoredToFloatTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
