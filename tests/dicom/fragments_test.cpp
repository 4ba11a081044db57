// Frames of encapsulated pixel data by the extended offset table (PS3.5 A.4).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "dicom/file_builder.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom {
namespace {

using ::testing::ElementsAre;
using testing::FileBuilder;

// Three frames of two, one and three fragments of four bytes each; without the markers of codestreams.
FileBuilder File(const std::vector<std::uint64_t>& extended) {
  FileBuilder file = FileBuilder::WithMeta(kJpeg2000Lossless);
  file.Pixels(4, 4, 16, 16, 15, false, "3");
  if (!extended.empty()) {
    file.Header(0x7FE00001, "UN", static_cast<std::uint32_t>(extended.size() * 8));
    for (const std::uint64_t offset : extended) {
      file.U32(static_cast<std::uint32_t>(offset)).U32(static_cast<std::uint32_t>(offset >> 32));
    }
  }
  return file.Encapsulated({testing::Bytes("AAAA"), testing::Bytes("aaaa"), testing::Bytes("BBBB"),
                            testing::Bytes("CCCC"), testing::Bytes("cccc"), testing::Bytes("cccc")});
}

std::vector<std::size_t> FragmentCounts(const FileBuilder& file) {
  std::vector<std::size_t> counts;
  const auto layout = Inspect(file.bytes(), Limits{});
  EXPECT_TRUE(layout.ok()) << layout.status();
  for (std::uint32_t frame = 0; layout.ok() && frame < 3; ++frame) {
    const auto fragments = FragmentsOfFrame(file.bytes(), *layout, frame);
    counts.push_back(fragments.ok() ? fragments->size() : 0);
    EXPECT_EQ(base::ReasonOf(fragments.status()), fragments.ok() ? "OK" : "MALFORMED");
  }
  return counts;
}

TEST(FragmentsTest, TheExtendedOffsetTableTellsFramesApart) {
  EXPECT_THAT(FragmentCounts(File({0, 24, 36})), ElementsAre(2u, 1u, 3u));
}

TEST(FragmentsTest, WithoutATableAndWithoutMarkersTheyCannotBeToldApart) {
  EXPECT_THAT(FragmentCounts(File({})), ElementsAre(0u, 0u, 0u));
}

TEST(FragmentsTest, ATableThatLiesIsRefused) {
  // Outside of the file, inside a fragment, and in another order.
  EXPECT_THAT(FragmentCounts(File({0, ~0ull, 36})), ElementsAre(0u, 0u, 3u));
  EXPECT_THAT(FragmentCounts(File({0, 26, 36})), ElementsAre(0u, 0u, 3u));
  EXPECT_THAT(FragmentCounts(File({0, 36, 24})), ElementsAre(3u, 0u, 4u));
  // One entry too few is no table.
  EXPECT_THAT(FragmentCounts(File({0, 24})), ElementsAre(0u, 0u, 0u));
}

}  // namespace
}  // namespace tomoserve::dicom
