// Real files, decoded.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dicom/inflate.h"
#include "shared_data.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom::testing {

namespace fs = std::filesystem;

inline std::vector<std::byte> FileBytes(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

inline std::vector<fs::path> FilesUnder(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class RealDataTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Runtime::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    runtime_ = std::move(*made);
  }
  static void TearDownTestSuite() { runtime_.reset(); }

  static fs::path Folder(const char* name) { return tomoserve::testing::TestData() / "dicom" / name; }

  struct Image {
    ipc::v1::InstanceHeader header;
    std::vector<std::int64_t> stored;
  };

  static absl::StatusOr<Image> DecodeFile(const fs::path& path, std::uint32_t frame = 0,
                                          const Limits& limits = {}) {
    std::vector<std::byte> bytes = FileBytes(path);
    TS_ASSIGN_OR_RETURN(auto inflated, Inflate(bytes, limits));
    if (inflated) bytes = *std::move(inflated);
    TS_ASSIGN_OR_RETURN(const FileLayout layout, Inspect(bytes, limits));
    Image image;
    TS_ASSIGN_OR_RETURN(image.header, ReadHeader(bytes, layout));
    const FrameRequest request{frame, image.header.stored_type(), image.header.rows(),
                               image.header.columns()};
    const std::size_t count = std::size_t{request.rows} * request.columns;
    const std::uint32_t size = base::BytesOf(request.stored_type);
    std::vector<std::byte> slot(count * size);
    TS_RETURN_IF_ERROR(DecodeFrame(*runtime_, bytes, layout, request, slot));
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, slot.data() + i * size, size);
      const bool negative = image.header.pixel_signed() && (word >> (8 * size - 1) & 1) != 0;
      image.stored.push_back(negative ? std::int64_t{word} - (std::int64_t{1} << 8 * size)
                                      : std::int64_t{word});
    }
    return image;
  }

  static std::vector<std::int16_t> Rescaled(const Image& image) {
    const double slope = image.header.has_rescale_slope() ? image.header.rescale_slope() : 1;
    return Rescaled(image, slope, image.header.rescale_intercept());
  }
  static std::vector<std::int16_t> Rescaled(const Image& image, double slope, double intercept) {
    std::vector<std::int16_t> values;
    for (const std::int64_t stored : image.stored) {
      values.push_back(
          static_cast<std::int16_t>(std::nearbyint(static_cast<double>(stored) * slope + intercept)));
    }
    return values;
  }

  static inline std::unique_ptr<Runtime> runtime_;
};

}  // namespace tomoserve::dicom::testing
