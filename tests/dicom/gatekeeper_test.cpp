#include "tomoserve/dicom/gatekeeper.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "dicom/gatekeeper_files.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using testing::Bytes;
using testing::FileBuilder;
using testing::ReasonFor;
using testing::SmallCt;
using testing::ValueFor;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;

TEST(GatekeeperTest, PassesASmallImageInEveryNativeEncoding) {
  for (const auto syntax : {kImplicitLittleEndian, kExplicitLittleEndian, kExplicitBigEndian}) {
    const FileBuilder file = SmallCt(syntax);
    const auto layout = Inspect(file.bytes(), {});
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->syntax->uid, syntax);
    EXPECT_TRUE(layout->has_pixels);
    EXPECT_EQ(layout->pixels.rows, 4u);
    EXPECT_EQ(layout->pixels.bits_stored, 16u);
    EXPECT_TRUE(layout->pixels.is_signed);
    EXPECT_EQ(layout->native_pixels.length, 32u);
    EXPECT_EQ(layout->native_pixels.offset, file.bytes().size() - 32);
  }
}

TEST(GatekeeperTest, RefusesAnEmptyFile) {
  const auto layout = Inspect({}, {});
  EXPECT_EQ(base::ReasonOf(layout.status()), "EMPTY_FILE");
}

TEST(GatekeeperTest, RefusesWhatIsNoDicom) {
  for (const std::string text : {"Dear colleague, this is a letter and no image.", "x",
                                 "{\"json\": [1, 2, 3]}", "\x89PNG\r\n\x1a\n0000IHDR00000000"}) {
    EXPECT_EQ(base::ReasonOf(Inspect(Bytes(text), {}).status()), "NOT_DICOM") << text;
  }
  EXPECT_EQ(base::ReasonOf(Inspect(Bytes(std::string(4096, 'a')), {}).status()), "NOT_DICOM");
  EXPECT_EQ(base::ReasonOf(Inspect(std::vector<std::byte>(4096), {}).status()), "NOT_DICOM");
}

TEST(GatekeeperTest, RefusesExecutablePreambles) {
  for (const std::string_view magic : {std::string_view("MZ"),
                                       std::string_view("\x7F"
                                                        "ELF"),
                                       std::string_view("#!")}) {
    std::vector<std::byte> file = SmallCt().bytes();
    std::memcpy(file.data(), magic.data(), magic.size());
    EXPECT_EQ(base::ReasonOf(Inspect(file, {}).status()), "EXECUTABLE_PREAMBLE");
  }
}

TEST(GatekeeperTest, RefusesSyntaxesByName) {
  for (const std::string uid : {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.102",
                                "1.2.840.10008.1.2.4.110", "1.3.46.670589.33.1.4.1", "1.2.3.4"}) {
    const FileBuilder file = SmallCt(uid);
    EXPECT_EQ(ReasonFor(file), "UNSUPPORTED_TRANSFER_SYNTAX");
    EXPECT_EQ(ValueFor(file), uid);
  }
  const absl::Status deflated = Inspect(SmallCt("1.2.840.10008.1.2.1.99").bytes(), {}).status();
  EXPECT_NE(std::string(base::ToStd(deflated.message())).find("Deflated"), std::string::npos);
}

TEST(GatekeeperTest, NeverRepeatsASyntaxThatIsNoUid) {
  const FileBuilder file = SmallCt("Doe^John");
  EXPECT_EQ(ReasonFor(file), "UNSUPPORTED_TRANSFER_SYNTAX");
  EXPECT_EQ(ValueFor(file), "");
}

TEST(GatekeeperTest, EveryCutOfAFileIsATypedError) {
  FileBuilder file = SmallCt();
  const std::size_t size = file.bytes().size();
  for (std::size_t length = 1; length < size; ++length) {
    const auto cut = std::span(file.bytes()).first(length);
    const auto header = ReadHeader(cut, Limits{});
    // A cut between two elements before the pixel data leaves a whole file without pixels.
    if (header.ok()) {
      EXPECT_FALSE(header->has_pixels()) << length;
      continue;
    }
    const std::string reason = base::ReasonOf(header.status());
    EXPECT_TRUE(reason == "TRUNCATED" || reason == "NOT_DICOM") << length << ' ' << reason;
  }
}

TEST(GatekeeperTest, RefusesAnElementThatReachesOverTheEnd) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00100020, "LO", 100).Raw("short");
  EXPECT_EQ(ReasonFor(file), "TRUNCATED");
}

TEST(GatekeeperTest, RefusesAnElementThatReachesOverItsItem) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00081140, "SQ", 18).Item(10).Header(0x00100020, "LO", 8).Raw("ab");
  file.Text(0x00200010, "SH", "more that follows");
  EXPECT_EQ(ReasonFor(file), "MALFORMED");
}

TEST(GatekeeperTest, RefusesAnIdentityThatIsThereTwice) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00100020, "LO", "P1").Text(0x00100020, "LO", "P2");
  EXPECT_EQ(ReasonFor(file), "MALFORMED");
  EXPECT_EQ(ValueFor(file), "(0010,0020)");
}

TEST(GatekeeperTest, RefusesItemsAndElementsOutOfPlace) {
  FileBuilder item = FileBuilder::WithMeta(kExplicitLittleEndian);
  item.Text(0x00100020, "LO", "P1").Item(0);
  EXPECT_EQ(ReasonFor(item), "MALFORMED");
  FileBuilder element = FileBuilder::WithMeta(kExplicitLittleEndian);
  element.Header(0x00081140, "SQ", kUndefined).Text(0x00100020, "LO", "P1").SequenceEnd();
  EXPECT_EQ(ReasonFor(element), "MALFORMED");
  FileBuilder delimiter = FileBuilder::WithMeta(kExplicitLittleEndian);
  delimiter.Header(0x00081140, "SQ", kUndefined).Item(kUndefined).SequenceEnd().ItemEnd();
  EXPECT_EQ(ReasonFor(delimiter), "MALFORMED");
  FileBuilder fragment = FileBuilder::WithMeta(kJpegLossless);
  fragment.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OB", kUndefined).Item(kUndefined);
  EXPECT_EQ(ReasonFor(fragment), "MALFORMED");
  FileBuilder unended = FileBuilder::WithMeta(kJpegLossless);
  unended.Pixels(4, 4, 16, 16, 15, false).Header(0x7FE00010, "OB", kUndefined).Item(0).Item(2).Raw("ab");
  EXPECT_EQ(ReasonFor(unended), "TRUNCATED");
}

TEST(GatekeeperTest, DamagedFilesEndInATypedResult) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Header(0x00080051, "SQ", kUndefined)
      .Item(kUndefined)
      .Text(0x00400031, "UT", "H1")
      .ItemEnd()
      .SequenceEnd();
  file.Header(0x00081140, "SQ", 18).Item(10).Header(0x00081155, "UI", 2).Raw("1.");
  file.Text(0x00100010, "PN", "A^B")
      .Pixels(4, 4, 16, 16, 15, true, "1")
      .Encapsulated({Bytes(std::string(64, 'x'))});
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> damaged = file.bytes();
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int c = 0; c < changes; ++c)
      damaged[132 + random() % (damaged.size() - 132)] = static_cast<std::byte>(random());
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto header = ReadHeader(damaged, Limits{});
    if (header.ok()) continue;
    ++refused;
    EXPECT_NE(base::ReasonOf(header.status()), "INTERNAL");
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tomoserve::dicom
