#include <gtest/gtest.h>

#include "tomoserve/base/config.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/out_of_memory.h"
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

TEST(Config, FillsDefaultsAndKeepsWhatIsSet) {
  auto config = ParseServerConfig("data: \"d\" models: \"m\" limits { open_uploads: 3 }");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(CompleteServerConfig(*config).ok());
  EXPECT_EQ(config->listen(), "127.0.0.1:8400");
  EXPECT_EQ(config->devices(0), "cpu");
  EXPECT_EQ(config->max_study_age_days(), 7u);
  EXPECT_EQ(config->max_generations_per_hour(), 3u);
  EXPECT_EQ(config->limits().open_uploads(), 3u);
  EXPECT_EQ(config->limits().instance_bytes(), 512ull << 20);
  EXPECT_EQ(config->limits().study_instances(), 20000u);
  EXPECT_EQ(config->limits().study_bytes(), 20ull << 30);
  EXPECT_EQ(config->limits().nesting(), 64u);
  EXPECT_EQ(config->limits().elements(), 1'000'000u);
  EXPECT_EQ(config->limits().pixel_bytes(), 4ull << 30);
  EXPECT_GT(config->limits().arena_bytes(), 0u);
}

TEST(Config, ErrorsNameTheLineOrTheField) {
  const auto unknown = ParseServerConfig("data: \"d\"\nlisten_on: 3");
  EXPECT_EQ(ReasonOf(unknown.status()), "CONFIG_SYNTAX");
  EXPECT_EQ(ValueOf(unknown.status()).substr(0, 2), "2:");
  const auto field_of = [](const char* text) {
    auto config = ParseServerConfig(text);
    const absl::Status status = config.ok() ? CompleteServerConfig(*config) : config.status();
    return ReasonOf(status) == "CONFIG_INVALID" ? ValueOf(status) : std::string(status.message());
  };
  EXPECT_EQ(field_of("models: \"m\""), "data");
  EXPECT_EQ(field_of("data: \"d\""), "models");
  EXPECT_EQ(field_of("data: \"d\" models: \"m\" devices: \"tpu\""), "devices");
  EXPECT_EQ(field_of("data: \"d\" models: \"m\" limits { instance_bytes: 3000000000 }"),
            "limits.instance_bytes");
  EXPECT_EQ(field_of("data: \"d\" models: \"m\" lock_folder: \"locks\""), "lock_folder");
  EXPECT_EQ(field_of("data: \"d\" models: \"m\" lock_folder: \"/run/locks\""), "");
  for (const char* buckets : {"[2, 4]", "[1, 4, 2]", "[1, 1]", "[1, 65]"}) {
    EXPECT_EQ(field_of(("data: \"d\" models: \"m\" batch_buckets: " + std::string(buckets)).c_str()),
              "batch_buckets");
  }
  EXPECT_EQ(field_of("data: \"d\" models: \"m\" batch_buckets: [1, 2, 64]"), "");
}

TEST(Config, ANameOfAGpuHoldsItsNumber) {
  EXPECT_EQ(CudaIndex("cuda:0"), 0);
  EXPECT_EQ(CudaIndex("cuda:07"), 7);
  EXPECT_EQ(CudaIndex("cuda:42"), 42);
  for (const char* name : {"cpu", "cuda", "cuda:", "cuda:all", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:1 ",
                           "cuda:100", "xcuda:1", ""}) {
    EXPECT_EQ(CudaIndex(name), std::nullopt) << name;
  }
}

TEST(OutOfMemory, IsOneErrorWhicheverLibraryRanOutOfIt) {
  const absl::Status status = OutOfMemory("1x1x8x8x8", "a window");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "OUT_OF_MEMORY");
  EXPECT_EQ(ValueOf(status), "1x1x8x8x8");
  EXPECT_EQ(status.message(), "a window: not enough memory");
  // As LibTorch 2.11 and the standard library say it.
  for (const char* text : {"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                           "allocate memory: you tried to "
                           "allocate 70368744177664 bytes. Error code 12 (Cannot allocate memory)",
                           "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
                           "CUDA out of memory. Tried to allocate 2.00 GiB.", "CUDA error: out of memory",
                           "std::bad_alloc", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"}) {
    EXPECT_TRUE(SaysOutOfMemory(text)) << text;
  }
  EXPECT_FALSE(SaysOutOfMemory("CUDA error: device-side assert triggered"));
}

TEST(OutOfMemory, TextsThatMayMeanSomethingElseAreToldApart) {
  for (const char* text : {"GET was unable to find an engine to execute this computation",
                           "Unable to find an engine to execute this computation",
                           "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
                           "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"}) {
    EXPECT_TRUE(MayMeanOutOfMemory(text)) << text;
    EXPECT_FALSE(SaysOutOfMemory(text)) << text;
  }
  EXPECT_FALSE(MayMeanOutOfMemory("CUDA error: device-side assert triggered"));
}

TEST(Log, HashesUidsWithAKey) {
  EXPECT_EQ(HashedUid("1.2.3"), HashedUid("1.2.3"));
  EXPECT_NE(HashedUid("1.2.3"), HashedUid("1.2.4"));
  EXPECT_EQ(HashedUid("1.2.3").find("1.2.3"), std::string::npos);
}

TEST(Log, SurvivesInvalidUtf8) { Log(LogLevel::kInfo, "test", {{"text", std::string_view("\xff\xfe")}}); }

}  // namespace
}  // namespace tomoserve::base
