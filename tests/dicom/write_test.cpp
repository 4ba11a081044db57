#include "tomoserve/dicom/write.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "dicom/instances.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

class WriteTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto made = Runtime::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    runtime_ = std::move(*made);
  }
  static void TearDownTestSuite() { runtime_.reset(); }

  static absl::StatusOr<std::uint64_t> WriteTo(std::vector<std::byte>& file,
                                               const ipc::v1::SyntheticInstance& instance) {
    return WriteInstance(*runtime_, instance, testing::Picture(instance), file);
  }

  static std::unique_ptr<Runtime> runtime_;
};
std::unique_ptr<Runtime> WriteTest::runtime_;

// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tomoserve-dicom-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// PS3.10 7.5: nothing that an operating system could run.
TEST_F(WriteTest, ThePreambleIsZero) {
  for (const std::string_view syntax : testing::kWritable) {
    std::vector<std::byte> file(65536, std::byte{0xCC});
    const auto length = WriteTo(file, testing::Instance(syntax, "CT", 20, 30, ipc::v1::STORED_TYPE_I16, 16));
    ASSERT_TRUE(length.ok()) << length.status();
    EXPECT_TRUE(std::all_of(file.begin(), file.begin() + 128, [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_EQ(std::memcmp(file.data() + 128, "DICM", 4), 0);
  }
}

TEST_F(WriteTest, TheHeaderComesBackAsWritten) {
  for (const std::string_view modality : {"CT", "MR"}) {
    const auto instance =
        testing::Instance(kExplicitLittleEndian, modality, 20, 30, ipc::v1::STORED_TYPE_I16, 16);
    std::vector<std::byte> file(65536);
    const auto length = WriteTo(file, instance);
    ASSERT_TRUE(length.ok()) << length.status();
    const auto h = ReadHeader(std::span(file).first(*length), Limits{});
    ASSERT_TRUE(h.ok()) << h.status();
    EXPECT_EQ(h->kind(), ipc::v1::OBJECT_KIND_IMAGE);
    EXPECT_EQ(h->modality(), modality);
    EXPECT_EQ(h->sop_class_uid(),
              modality == "CT" ? "1.2.840.10008.5.1.4.1.1.2" : "1.2.840.10008.5.1.4.1.1.4");
    EXPECT_EQ(h->sop_instance_uid(), instance.sop_instance_uid());
    EXPECT_EQ(h->study_instance_uid(), instance.study_instance_uid());
    EXPECT_EQ(h->series_instance_uid(), instance.series_instance_uid());
    EXPECT_EQ(h->frame_of_reference_uid(), instance.frame_of_reference_uid());
    EXPECT_EQ(h->patient_id(), instance.patient_id());
    EXPECT_EQ(h->patient_name(), instance.patient_name());
    EXPECT_EQ(h->accession_number(), instance.accession_number());
    EXPECT_EQ(h->study_date(), "20250102");
    EXPECT_EQ(h->study_time(), "030405");
    EXPECT_EQ(h->instance_number(), 9);
    EXPECT_EQ(h->acquisition_number(), 1);
    EXPECT_EQ(h->rows(), 20u);
    EXPECT_EQ(h->columns(), 30u);
    EXPECT_EQ(h->series_description(), "Thorax 1.25 mm");
    EXPECT_EQ(h->body_part(), "CHEST");
    EXPECT_EQ(h->slice_thickness_mm(), 1.25);
    ASSERT_EQ(h->image_position_size(), 3);
    EXPECT_DOUBLE_EQ(h->image_position(0), -190.123456789);
    EXPECT_DOUBLE_EQ(h->image_position(2), -1e-7);
    ASSERT_EQ(h->pixel_spacing_mm_size(), 2);
    EXPECT_EQ(h->pixel_spacing_mm(0), 0.7421875);
    EXPECT_EQ(h->repairs_size(), 0);
    EXPECT_FALSE(h->written_by_tomoserve());
    if (modality == "CT") {
      EXPECT_EQ(h->rescale_slope(), 0.5);
      EXPECT_EQ(h->rescale_intercept(), -1024);
      EXPECT_EQ(h->rescale_type(), "HU");
    } else {
      EXPECT_FALSE(h->has_rescale_slope());
    }
  }
}

TEST_F(WriteTest, TheSameInstanceGivesTheSameBytes) {
  for (const auto syntax : testing::kWritable) {
    const auto instance = testing::Instance(syntax, "CT", 20, 30, ipc::v1::STORED_TYPE_U16, 12);
    std::vector<std::byte> first(65536), second(65536);
    const auto a = WriteTo(first, instance);
    const auto b = WriteTo(second, instance);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(*a, *b);
    const auto differ = std::mismatch(first.begin(), first.end(), second.begin()).first - first.begin();
    EXPECT_EQ(differ, static_cast<std::ptrdiff_t>(first.size())) << syntax << ", of " << *a << " bytes";
    EXPECT_TRUE(
        std::all_of(first.begin(), first.begin() + 128, [](std::byte x) { return x == std::byte{0}; }));
  }
}

TEST_F(WriteTest, PassesDciodvfy) {
  if (std::system("command -v dciodvfy >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "dciodvfy (dicom3tools) is absent";
  TempFolder folder;
  for (const auto syntax : testing::kWritable) {
    for (const std::string_view modality : {"CT", "MR"}) {
      const auto instance = testing::Instance(syntax, modality, 32, 40, ipc::v1::STORED_TYPE_U16, 12);
      std::vector<std::byte> file(65536);
      const auto length = WriteTo(file, instance);
      ASSERT_TRUE(length.ok()) << length.status();
      const auto path = folder.path() / "image.dcm";
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(*length));
      const auto report = folder.path() / "report.txt";
      const int result =
          std::system(("dciodvfy '" + path.string() + "' >'" + report.string() + "' 2>&1").c_str());
      std::stringstream text;
      text << std::ifstream(report).rdbuf();
      EXPECT_EQ(text.str().find("Error"), std::string::npos) << syntax << ' ' << modality << '\n'
                                                             << text.str();
      EXPECT_EQ(WEXITSTATUS(result), 0) << syntax << ' ' << modality << '\n' << text.str();
    }
  }
}

TEST_F(WriteTest, RefusesASlotThatIsTooSmall) {
  for (const auto syntax : testing::kWritable) {
    const auto instance = testing::Instance(syntax, "CT", 64, 64, ipc::v1::STORED_TYPE_I16, 16);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{999}}) {
      std::vector<std::byte> file(size);
      EXPECT_EQ(base::ReasonOf(WriteTo(file, instance).status()), "SLOT_TOO_SMALL") << syntax << ' ' << size;
    }
  }
}

TEST_F(WriteTest, RefusesInvalidInstances) {
  const auto valid = testing::Instance(kExplicitLittleEndian, "CT", 4, 4, ipc::v1::STORED_TYPE_I16, 16);
  const auto refused = [&](auto change) {
    auto instance = valid;
    change(instance);
    std::vector<std::byte> file(65536);
    return base::ReasonOf(WriteInstance(*runtime_, instance, testing::Picture(valid), file).status());
  };
  using Instance = ipc::v1::SyntheticInstance;
  EXPECT_EQ(refused([](Instance&) {}), "OK");
  EXPECT_EQ(refused([](Instance& i) { i.set_modality("PT"); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_sop_instance_uid("abc"); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_patient_id("a\\b"); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_bits_stored(17); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_stored_type(ipc::v1::STORED_TYPE_U8); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_rows(5); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.clear_image_position(); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_rescale_slope(0); }), "INSTANCE_INVALID");
  EXPECT_EQ(refused([](Instance& i) { i.set_transfer_syntax("1.2.840.10008.1.2.4.50"); }),
            "UNSUPPORTED_TRANSFER_SYNTAX");
}

}  // namespace
}  // namespace tomoserve::dicom
