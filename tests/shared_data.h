// Where the data lies that is not part of the project: tests skip, visibly, where it is absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tomoserve::testing {

inline std::filesystem::path SharedFolder(const char* variable, const char* name) {
  if (const char* folder = std::getenv(variable)) return folder;
  return std::filesystem::path(TOMOSERVE_SOURCE_DIR).parent_path() / "shared" / name;
}

// Real DICOM with independent truth (truth.json beside the folder dicom/).
inline std::filesystem::path TestData() { return SharedFolder("TOMOSERVE_TEST_DATA", "data"); }
// Golden cases made with MONAI and nnU-Net.
inline std::filesystem::path Reference() { return SharedFolder("TOMOSERVE_REFERENCE", "reference"); }
// Two real trained networks.
inline std::filesystem::path SharedModels() { return SharedFolder("TOMOSERVE_MODELS", "models"); }

}  // namespace tomoserve::testing

#define TS_SKIP_WITHOUT(path)                                                                      \
  do {                                                                                             \
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "shared data absent: " << (path).string(); \
  } while (false)
