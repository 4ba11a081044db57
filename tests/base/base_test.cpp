#include <gtest/gtest.h>

#include "tomoserve/base/digest.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::base {
namespace {

TEST(Digest, MatchesTheStandardsVector) {
  // FIPS 180-4 example "abc".
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, UpdatesAddUp) {
  Sha256 hash;
  hash.Update("a");
  hash.Update("bc");
  EXPECT_EQ(hash.HexDigest(), Sha256Hex("abc"));
}

TEST(Digest, UidsAreStableValidAndDiffer) {
  const std::string uid = UidFromSeed("study");
  EXPECT_EQ(uid, UidFromSeed("study"));
  EXPECT_NE(uid, UidFromSeed("other"));
  EXPECT_LE(uid.size(), 64u);  // PS3.5 9.1
  EXPECT_EQ(uid.substr(0, 5), "2.25.");
  EXPECT_NE(uid[5], '0');
}

TEST(Status, CarriesReasonAndValue) {
  const absl::Status status = Error(absl::StatusCode::kInvalidArgument, "STUDY_MISMATCH", "3", "text");
  EXPECT_EQ(ReasonOf(status), "STUDY_MISMATCH");
  EXPECT_EQ(ValueOf(status), "3");
  EXPECT_EQ(ReasonOf(absl::NotFoundError("x")), "NOT_FOUND");
  EXPECT_EQ(ValueOf(absl::NotFoundError("x")), "");
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return Error(absl::StatusCode::kInvalidArgument, "ODD", "", "odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  TS_ASSIGN_OR_RETURN(const int half, Half(number));
  TS_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(Status, MacrosPassErrorsOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(ReasonOf(Quarter(6).status()), "ODD");
}

TEST(Log, HashesUidsWithAKey) {
  EXPECT_EQ(HashedUid("1.2.3"), HashedUid("1.2.3"));
  EXPECT_NE(HashedUid("1.2.3"), HashedUid("1.2.4"));
  EXPECT_EQ(HashedUid("1.2.3").find("1.2.3"), std::string::npos);
}

TEST(Log, SurvivesInvalidUtf8) { Log(LogLevel::kInfo, "test", {{"text", std::string_view("\xff\xfe")}}); }

}  // namespace
}  // namespace tomoserve::base
