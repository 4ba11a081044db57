// The corpus in the repository, and files made from it by damage, through the same functions that libFuzzer
// drives.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "fuzz/corrupt.h"
#include "fuzz/seeds.h"
#include "fuzz/targets.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::fuzz {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::vector<std::byte>> Corpus(const char* folder) {
  std::map<std::string, std::vector<std::byte>> corpus;
  for (const auto& entry :
       fs::directory_iterator(fs::path(TOMOSERVE_SOURCE_DIR) / "tests/fuzz/corpus" / folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto bytes = std::as_bytes(std::span(text));
    corpus[entry.path().filename()] = {bytes.begin(), bytes.end()};
  }
  return corpus;
}

std::vector<std::vector<std::byte>> Bases() {
  std::vector<std::vector<std::byte>> bases;
  for (auto& [name, bytes] : Corpus("dicom")) {
    if (!bytes.empty()) bases.push_back(std::move(bytes));
  }
  return bases;
}

TEST(CorpusTest, TheGatekeeperHoldsItsPromises) {
  for (const auto& [name, bytes] : Corpus("dicom")) {
    SCOPED_TRACE(name);
    Gatekeeper(bytes);
  }
}

TEST(CorpusTest, TheHeaderPassHoldsItsPromises) {
  for (const auto& [name, bytes] : Corpus("dicom")) {
    SCOPED_TRACE(name);
    Header(bytes);
  }
}

TEST(CorpusTest, TheFrontHoldsItsPromises) {
  for (const auto& [name, bytes] : Corpus("reply")) {
    SCOPED_TRACE(name);
    Reply(bytes);
  }
}

TEST(CorpusTest, TheWholeHelperHoldsItsPromises) {
  for (const auto& [name, bytes] : Corpus("dicom")) {
    SCOPED_TRACE(name);
    Helper(bytes);
  }
}

// fuzz_corpus makes them; whoever changes the seeds writes them anew.
TEST(CorpusTest, HoldsEverySeed) {
  const auto files = Corpus("dicom");
  auto replies = Corpus("reply");
  const auto runtime = dicom::Runtime::Create();
  ASSERT_TRUE(runtime.ok()) << runtime.status();
  const auto seeds = DicomSeeds(**runtime);
  ASSERT_TRUE(seeds.ok()) << seeds.status();
  for (const Seed& seed : *seeds) EXPECT_TRUE(files.contains(seed.name)) << seed.name;
  for (const Seed& seed : ReplySeeds()) EXPECT_EQ(replies[seed.name], seed.bytes) << seed.name;
}

TEST(CorpusTest, MostSeedsPassTheGatekeeper) {
  int passed = 0;
  int all = 0;
  for (const auto& [name, bytes] : Corpus("dicom")) {
    ++all;
    if (dicom::Inspect(bytes, {}).ok()) ++passed;
  }
  EXPECT_GE(passed, 25);
  EXPECT_GE(2 * passed, all);
}

TEST(CorruptTest, TheSameSeedGivesTheSameFiles) {
  const auto bases = Bases();
  std::set<std::string> digests;
  for (std::uint64_t number = 0; number < 200; ++number) {
    const Corrupted first = Corrupt(bases, 7, number);
    const Corrupted again = Corrupt(bases, 7, number);
    EXPECT_EQ(first.bytes, again.bytes) << number;
    EXPECT_NE(Corrupt(bases, 8, number).bytes, first.bytes) << number;
    base::Sha256 hash;
    hash.Update(std::string_view(reinterpret_cast<const char*>(first.bytes.data()), first.bytes.size()));
    digests.insert(hash.HexDigest());
  }
  EXPECT_GT(digests.size(), 190u);
}

// A generator whose files all look alike would prove nothing.
TEST(CorruptTest, DamageReachesEveryLimitAndLeavesSomeFilesReadable) {
  const auto bases = Bases();
  std::map<std::string, int> reasons;
  for (std::uint64_t number = 0; number < 1500; ++number) {
    ++reasons[base::ReasonOf(dicom::Inspect(Corrupt(bases, 3, number).bytes, {}).status())];
  }
  for (const char* reason :
       {"OK", "TRUNCATED", "MALFORMED", "NESTING_TOO_DEEP", "ELEMENT_TOO_LARGE", "PIXELS_TOO_LARGE",
        "PIXELS_MISSING", "UNSUPPORTED_TRANSFER_SYNTAX", "NOT_DICOM"}) {
    EXPECT_GT(reasons[reason], 0) << reason;
  }
  EXPECT_GT(reasons["OK"], 250);
  EXPECT_GT(1500 - reasons["OK"], 300);
}

TEST(CorruptTest, DamagedFilesHurtNeitherGatekeeperNorHeaderPass) {
  const auto bases = Bases();
  for (std::uint64_t number = 0; number < 3000; ++number) {
    SCOPED_TRACE(number);
    const Corrupted corrupted = Corrupt(bases, 1, number);
    Gatekeeper(corrupted.bytes);
    Header(corrupted.bytes);
  }
}

}  // namespace
}  // namespace tomoserve::fuzz
