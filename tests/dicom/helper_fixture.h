// The program tomoserve-dicom behind a helper pool, and files for it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::dicom::testing {

// Files one after the other in an unnamed file, opened read-only.
class Spool {
 public:
  Spool() {
    std::string name = (std::filesystem::temp_directory_path() / "tomoserve-spool-XXXXXX").string();
    writer_ = base::UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
    reader_ = base::UniqueFd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    ::unlink(name.c_str());
  }
  void Add(std::span<const std::byte> file) {
    ASSERT_EQ(::write(writer_.get(), file.data(), file.size()), static_cast<ssize_t>(file.size()));
    ipc::v1::SpoolRange range;
    range.set_offset(size_);
    range.set_length(file.size());
    ranges_.push_back(range);
    size_ += file.size();
  }
  int fd() const { return reader_.get(); }
  const std::vector<ipc::v1::SpoolRange>& ranges() const { return ranges_; }

 private:
  base::UniqueFd writer_;
  base::UniqueFd reader_;
  std::uint64_t size_ = 0;
  std::vector<ipc::v1::SpoolRange> ranges_;
};

class HelperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ipc::HelperPoolOptions options;
    options.program = std::string(TOMOSERVE_BINARY_DIR) + "/tomoserve-dicom";
    ASSERT_TRUE(std::filesystem::exists(options.program)) << options.program;
    options.limits.set_pixel_bytes(1u << 30);
    Configure(options);
    auto pool = ipc::HelperPool::Start(options);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = std::move(*pool);
  }

  virtual void Configure(ipc::HelperPoolOptions&) {}

  static std::string ReasonOf(const absl::Status& status) { return base::ReasonOf(status); }

  std::unique_ptr<ipc::HelperPool> pool_;
};

}  // namespace tomoserve::dicom::testing
