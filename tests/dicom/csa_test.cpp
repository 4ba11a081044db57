#include "dicom/csa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "dicom/siemens_files.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dicom {
namespace {

using testing::CsaHeader;
using ::testing::ElementsAre;
using testing::FileBuilder;
using ::testing::IsEmpty;

FileBuilder Example() {
  return CsaHeader({{"EchoLinePosition", {"36"}},
                    {"SliceNormalVector", {"0.10000000", "-0.2", "0.97"}},
                    {"Empty", {}},
                    {"NumberOfImagesInMosaic", {"5       "}, 1}});
}

TEST(CsaTest, FindsTheValuesOfAnEntry) {
  const FileBuilder csa = Example();
  const auto normal = CsaValues(csa.bytes(), "SliceNormalVector");
  ASSERT_TRUE(normal.ok()) << normal.status();
  EXPECT_THAT(*normal, ElementsAre("0.10000000", "-0.2", "0.97"));
  const auto slices = CsaValues(csa.bytes(), "NumberOfImagesInMosaic");
  ASSERT_TRUE(slices.ok()) << slices.status();
  EXPECT_THAT(*slices, ElementsAre("5"));
}

TEST(CsaTest, AnAbsentOrEmptyEntryHasNoValues) {
  const FileBuilder csa = Example();
  for (const std::string_view name : {"Empty", "SliceNormal", "SliceNormalVectorX", ""}) {
    const auto values = CsaValues(csa.bytes(), name);
    ASSERT_TRUE(values.ok()) << name << values.status();
    EXPECT_THAT(*values, IsEmpty()) << name;
  }
}

TEST(CsaTest, RefusesEveryCut) {
  const std::vector<std::byte> whole = Example().bytes();
  for (std::size_t length = 0; length + 4 < whole.size(); ++length) {
    const auto values = CsaValues(std::span(whole).first(length), "Nothing");
    EXPECT_EQ(base::ReasonOf(values.status()), "CSA_BROKEN") << length;
  }
}

TEST(CsaTest, RefusesOtherLayoutsAndCountsThatLie) {
  const auto reason = [](const std::vector<std::byte>& bytes) {
    return base::ReasonOf(CsaValues(bytes, "SliceNormalVector").status());
  };
  EXPECT_EQ(reason({}), "CSA_BROKEN");
  EXPECT_EQ(reason(std::vector<std::byte>(5000, std::byte{0xFF})), "CSA_BROKEN");
  std::vector<std::byte> older = Example().bytes();
  older[0] = std::byte{'X'};
  EXPECT_EQ(reason(older), "CSA_BROKEN");
  const std::size_t kEntries = 8, kItems = 16 + 76, kLength = 16 + 84 + 4;
  for (const std::size_t at : {kEntries, kItems, kLength}) {
    std::vector<std::byte> lying = Example().bytes();
    for (const std::size_t byte : {0u, 1u, 2u, 3u}) lying[at + byte] = std::byte{0xFF};
    EXPECT_EQ(reason(lying), "CSA_BROKEN") << at;
  }
  std::vector<std::byte> no_entries = Example().bytes();
  no_entries[kEntries] = std::byte{0};
  EXPECT_EQ(reason(no_entries), "CSA_BROKEN");
}

TEST(CsaTest, DamagedHeadersEndInATypedResult) {
  const std::vector<std::byte> whole = Example().bytes();
  std::mt19937 random(7);
  int broken = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> bytes = whole;
    for (std::uint32_t change = 0; change <= random() % 4; ++change) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    bytes.resize(bytes.size() - random() % 3 * (random() % 100));
    const auto values = CsaValues(bytes, "NumberOfImagesInMosaic");
    if (values.ok()) {
      ASSERT_LE(values->size(), 1000u);
    } else {
      ASSERT_EQ(base::ReasonOf(values.status()), "CSA_BROKEN");
      ++broken;
    }
  }
  EXPECT_GT(broken, 100);
  EXPECT_LT(broken, 20'000);
}

}  // namespace
}  // namespace tomoserve::dicom
