// The dispatcher with the real, sandboxed helpers: a phantom as DICOM goes in, its nodules' voxels come out.
#include <signal.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::dispatch {
namespace {

class RealHelperTest : public DispatchTest {
 protected:
  void SetUp() override {
    phantom::Options options;
    options.size_ijk = {64, 64, 24};
    options.spacing_mm = {5.6, 5.6, 10};
    options.nodules = 0;
    auto phantom = phantom::MakePhantom(options);
    ASSERT_TRUE(phantom.ok()) << phantom.status();
    phantom_ = std::make_unique<phantom::Phantom>(*std::move(phantom));
    bright_ = static_cast<std::uint64_t>(std::count_if(phantom_->values.begin(), phantom_->values.end(),
                                                       [](std::int16_t value) { return value > 0; }));
    ASSERT_GT(bright_, 1000u);
    WriteFiles();
  }

  ipc::HelperPoolOptions PoolOptions() {
    ipc::HelperPoolOptions options;
    options.program = TOMOSERVE_HELPER;
    return options;
  }

  void WriteFiles() {
    auto pool = ipc::HelperPool::Start(PoolOptions());
    ASSERT_TRUE(pool.ok()) << pool.status();
    const volume::Geometry& grid = phantom_->geometry;
    const auto& size = grid.size_ijk();
    const std::size_t pixels = std::size_t{size[0]} * size[1];
    auto stored = ipc::Arena::Create(pixels * 2, size[2], nullptr);
    auto files = ipc::Arena::Create(pixels * 2 + 65536, size[2], nullptr);
    ASSERT_TRUE(stored.ok() && files.ok());
    std::vector<ipc::HelperPool::Write> items(size[2]);
    for (std::uint32_t k = 0; k < size[2]; ++k) {
      const ipc::v1::Slot slot = (*stored)->slot(k);
      auto mapping = ipc::Mapping::Map((*stored)->fds()[slot.arena()], slot.offset(), slot.bytes(), true);
      ASSERT_TRUE(mapping.ok());
      std::memcpy(mapping->bytes().data(), phantom_->values.data() + k * pixels, pixels * 2);
      items[k].pixel_slot = items[k].file_slot = k;
      ipc::v1::SyntheticInstance& instance = items[k].instance;
      instance.set_modality("CT");
      instance.set_transfer_syntax("1.2.840.10008.1.2.1");
      instance.set_sop_instance_uid(absl::StrCat("2.25.3000", k));
      instance.set_study_instance_uid("2.25.1000");
      instance.set_series_instance_uid("2.25.2000");
      instance.set_frame_of_reference_uid("2.25.2001");
      instance.set_patient_id("PHANTOM-1");
      instance.set_patient_name("Phantom^Thorax");
      instance.set_date("20250102");
      instance.set_time("030405");
      instance.set_instance_number(k + 1);
      instance.set_rows(size[1]);
      instance.set_columns(size[0]);
      instance.set_stored_type(ipc::v1::STORED_TYPE_I16);
      instance.set_bits_stored(16);
      instance.set_rescale_slope(1);
      instance.add_pixel_spacing_mm(grid.spacing_mm()[1]);
      instance.add_pixel_spacing_mm(grid.spacing_mm()[0]);
      instance.set_slice_thickness_mm(grid.spacing_mm()[2]);
      for (const double mm : grid.ToLps({{0, 0, static_cast<double>(k)}}).mm) instance.add_image_position(mm);
      for (std::size_t axis = 0; axis < 2; ++axis) {
        for (const double value : grid.directions()[axis]) instance.add_image_orientation(value);
      }
    }
    const auto written = (*pool)->WriteInstances(items, **stored, **files);
    for (std::uint32_t k = 0; k < size[2]; ++k) {
      ASSERT_TRUE(written[k].ok()) << written[k].status();
      const auto mapping = (*files)->Read(k);
      ASSERT_TRUE(mapping.ok());
      files_.emplace_back(reinterpret_cast<const char*>(mapping->bytes().data()), *written[k]);
    }
  }

  void StartReal() {
    options_.helper_program = TOMOSERVE_HELPER;
    ASSERT_TRUE(base::CompleteServerConfig(options_.config).ok());
    auto pool = ipc::HelperPool::Start(PoolOptions());
    ASSERT_TRUE(pool.ok()) << pool.status();
    helper_pool_ = pool->get();
    auto dispatcher = DispatcherImpl::Start(options_, *std::move(pool));
    ASSERT_TRUE(dispatcher.ok()) << dispatcher.status();
    dispatcher_ = *std::move(dispatcher);
    ASSERT_TRUE(Eventually([this] { return dispatcher_->ready(); }));
  }

  std::unique_ptr<phantom::Phantom> phantom_;
  std::uint64_t bright_ = 0;
  std::vector<std::string> files_;
  ipc::HelperPool* helper_pool_ = nullptr;
};

TEST_F(RealHelperTest, APhantomsVoxelsArriveAtTheWorker) {
  AddModel("m", "ok");
  StartReal();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), files_);
  EXPECT_EQ(receipt.study_instance_uid(), "2.25.1000");
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.ShortDebugString();
  ASSERT_EQ(run.findings_size(), 1) << run.ShortDebugString();
  EXPECT_EQ(run.findings(0).voxels(), bright_);
  EXPECT_TRUE(run.findings(0).key_sop_instance_uid().starts_with("2.25.3000"));
}

TEST_F(RealHelperTest, BrokenFilesAreRefusedOneByOne) {
  AddModel("m", "ok");
  StartReal();
  std::vector<std::string> files = files_;
  files.push_back("this is a text file, not an image");
  files.push_back(files_[0].substr(0, 400));
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), files);
  EXPECT_EQ(receipt.instances_accepted(), files_.size());
  EXPECT_EQ(receipt.instances_refused(), 2u);
  EXPECT_EQ(WaitForRun(receipt.run_ids(0)).findings(0).voxels(), bright_);
}

TEST_F(RealHelperTest, AKilledZygoteInMidStudyEndsInTheRightAnswer) {
  AddModel("m", "ok");
  StartReal();
  for (int round = 0; round < 3; ++round) {
    auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    ASSERT_TRUE(upload.ok()) << upload.status();
    for (std::size_t i = 0; i < files_.size(); ++i) {
      ASSERT_TRUE(SendInstance(**upload, absl::StrCat(i), files_[i]).ok());
      if (i != files_.size() / 2) continue;
      ASSERT_EQ(::kill(helper_pool_->zygote_pid(), SIGKILL), 0);
    }
    const auto receipt = (*upload)->Finish();
    ASSERT_TRUE(receipt.ok()) << receipt.status();
    EXPECT_EQ(receipt->instances_accepted(), files_.size());
    EXPECT_EQ(WaitForRun(receipt->run_ids(0)).findings(0).voxels(), bright_);
  }
}

}  // namespace
}  // namespace tomoserve::dispatch
