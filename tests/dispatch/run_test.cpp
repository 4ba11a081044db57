// Runs: from an acknowledged study to a committed result.
#include <sys/resource.h>

#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>

#include "dispatch/fixture.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class RunTest : public DispatchTest {};

TEST_F(RunTest, CommitsFindingsWithTheirPlaceAndProvenance) {
  AddModel("m", "ok");
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(run.flag().level(), v1::FLAG_LEVEL_ATTENTION);
  ASSERT_THAT(run.findings(), SizeIs(1));
  const v1::Finding& finding = run.findings(0);
  EXPECT_EQ(finding.voxels(), 8u) << "one bright voxel per slice";
  EXPECT_EQ(finding.label(), "spot");
  EXPECT_EQ(finding.key_sop_instance_uid(), "1.2.3.4.100");
  EXPECT_THAT(finding.tracking_uid(), ::testing::StartsWith("2.25."));
  EXPECT_NEAR(finding.centre_lps().z_mm(), 2.5 * 3.5, 1e-9);
  ASSERT_THAT(run.coverage().series(), SizeIs(1));
  EXPECT_TRUE(run.coverage().series(0).analysed());
  const v1::Provenance& provenance = run.provenance();
  EXPECT_EQ(provenance.model(), "m");
  EXPECT_EQ(provenance.device_kind(), "fake");
  EXPECT_EQ(provenance.generation(), 1u);
  EXPECT_THAT(provenance.input_digest(), SizeIs(64));
  EXPECT_EQ(provenance.determinism(), v1::DETERMINISM_STRICT);
  EXPECT_EQ(provenance.precision(), v1::PRECISION_FLOAT32);
  std::set<std::string> stages;
  for (const v1::StageTiming& timing : run.timings()) stages.insert(timing.stage());
  EXPECT_THAT(stages, ElementsAre("decode", "forward", "pack", "queue"));
  EXPECT_EQ(dispatcher_->GetStudy("1.2.3")->summary().state(), v1::SUMMARY_STATE_FINAL);
}

TEST_F(RunTest, StoresTheLabelMapInTheVolumesGrid) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), study.Files());
  WaitForRun(receipt.run_ids(0));
  const auto blob = dispatcher_->store().GetLabelMap(receipt.run_ids(0));
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_THAT(blob->label_map.grid().size_ijk(), ElementsAre(6u, 8u, 8u));
  std::string voxels(6 * 8 * 8, '\0');
  ASSERT_EQ(blob->raw_bytes, voxels.size());
  ASSERT_EQ(ZSTD_decompress(voxels.data(), voxels.size(), blob->zstd.data(), blob->zstd.size()),
            voxels.size());
  EXPECT_EQ(base::Sha256Hex(voxels), blob->raw_sha256);
  for (std::uint32_t k = 0; k < study.slices; ++k) {
    EXPECT_EQ(voxels[k * 48 + (k % 8) * 6 + k % 6], 1) << k;
  }
  EXPECT_EQ(std::count(voxels.begin(), voxels.end(), 1), 8);
}

TEST_F(RunTest, AVolumeOfManySlicesReachesTheWorker) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  study.slices = 3000;
  study.rows = study.columns = 2;
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(run.findings(0).voxels(), 3000u);
}

TEST_F(RunTest, WithoutWishesEveryActiveModelThatIsNoDemonstrationRuns) {
  AddModel("a", "ok", "CT", false, "1");
  AddModel("a", "ok again", "CT", false, "2");
  AddModel("b", "ok");
  AddModel("demo", "ok", "CT", true);
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit({}, FakeStudy().Files());
  std::set<std::string> models;
  for (const std::string& run_id : receipt.run_ids()) {
    const v1::Run run = WaitForRun(run_id);
    models.insert(run.model() + "@" + run.version());
  }
  EXPECT_THAT(models, ElementsAre("a@2", "b@1"));
  const v1::SubmissionReceipt named = MustSubmit(Wanting({"demo"}), FakeStudy().Files());
  EXPECT_EQ(WaitForRun(named.run_ids(0)).state(), v1::RUN_STATE_DONE);
}

TEST_F(RunTest, AModelThatIsNotMeantForTheStudySaysSo) {
  AddModel("m", "ok", "MR");
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_NOT_APPLICABLE);
  ASSERT_THAT(run.flag().reasons(), SizeIs(1));
  EXPECT_EQ(run.flag().reasons(0).code(), "MODALITY");
  EXPECT_THAT(run.coverage().series(), SizeIs(1));
  EXPECT_EQ(helpers_.frames_decoded, 0);
}

TEST_F(RunTest, AVolumeWithAHoleIsInconclusive) {
  AddModel("m", "ok");
  Start();
  std::vector<std::string> files = FakeStudy().Files();
  files.erase(files.begin() + 3);
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), files).run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  ASSERT_FALSE(run.flag().reasons().empty());
  EXPECT_EQ(run.flag().reasons(0).code(), "MISSING_SLICES");
}

TEST_F(RunTest, ARecipeMayAllowAHoleAndTheCoverageCountsIt) {
  AddModel("m", "ok");
  AllowSyntheticSlices("m", 1);
  Start();
  std::vector<std::string> files = FakeStudy().Files();
  files.erase(files.begin() + 3);
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), files).run_ids(0));
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(run.coverage().synthetic_slices(), 1u);
  EXPECT_EQ(helpers_.frames_decoded, 7);
  EXPECT_THAT(run.findings(0).limitations(), ::testing::Contains("MISSING_SLICES(1)"));
}

TEST_F(RunTest, ASliceThatCannotBeDecodedFailsTheRun) {
  AddModel("m", "ok");
  Start();
  helpers_.decode_fails = true;
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "DECODE_FAILED");
  EXPECT_EQ(run.failure().value(), "CODESTREAM_BROKEN");
}

TEST_F(RunTest, HelpersThatAreGoneDelayARun) {
  AddModel("m", "ok");
  options_.patience.first_preparation = std::chrono::milliseconds(10);
  Start();
  helpers_.decode_calls_unavailable = 3;
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(helpers_.decode_calls_unavailable, 0);
}

TEST_F(RunTest, HelpersThatStayAwayFailARunAndDelayNoOther) {
  AddModel("m", "ok");
  options_.patience.first_preparation = std::chrono::milliseconds(300);
  options_.patience.max_preparations = 3;
  Start();
  helpers_.decode_calls_unavailable = 1;
  const std::string first = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([this] { return helpers_.decode_calls_unavailable == 0; }));
  FakeStudy other;
  other.study_uid = "1.2.4";
  EXPECT_EQ(WaitForRun(MustSubmit(Wanting({"m"}), other.Files()).run_ids(0)).state(), v1::RUN_STATE_DONE);
  helpers_.decode_calls_unavailable = 1000;
  const v1::Run run = WaitForRun(first);
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "HELPER_UNAVAILABLE");
  EXPECT_EQ(helpers_.decode_calls_unavailable, 1000 - 2) << "three tries";
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
}

// No descriptor can be had while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit none = before_;
    none.rlim_cur = 3;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }

 private:
  rlimit before_{};
};

TEST_F(RunTest, AKernelThatGivesNoMemoryDelaysARunAndFailsItInTheEnd) {
#ifdef TOMOSERVE_SANITIZED
  // UBSan looks at an object's type through a pipe: without a free descriptor it reports objects that are
  // fine.
  GTEST_SKIP() << "sanitizers need the descriptors that this test takes away";
#endif
  AddModel("m", "ok");
  options_.patience.first_preparation = std::chrono::milliseconds(100);
  options_.patience.max_preparations = 4;
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_completion(v1::COMPLETION_MORE_EXPECTED);
  const std::string failing = MustSubmit(header, FakeStudy().Files()).run_ids(0);
  FakeStudy other;
  other.study_uid = "1.2.4";
  const std::string delayed = MustSubmit(header, other.Files()).run_ids(0);
  {
    const NoDescriptors none;
    ASSERT_TRUE(dispatcher_->CloseStudy("1.2.3").ok());
    const v1::Run run = WaitForRun(failing);
    EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
    EXPECT_EQ(run.failure().code(), "HOST_MEMORY");
    ASSERT_TRUE(dispatcher_->CloseStudy("1.2.4").ok());
    EXPECT_TRUE(Eventually([&] { return StateOf(delayed) == v1::RUN_STATE_RUNNING; }));
  }
  EXPECT_EQ(WaitForRun(delayed).state(), v1::RUN_STATE_DONE);
}

TEST_F(RunTest, TwoPatientsInOneStudyAreNotAnalysed) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  FakeStudy other = study;
  other.patient_id = "P2";
  std::vector<std::string> files = study.Files();
  files[7] = other.File(7);
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"m"}), files);
  const v1::Run run = WaitForRun(receipt.run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "IDENTITY_CONFLICT");
  std::vector<std::string> notices;
  const auto stored = dispatcher_->GetStudy("1.2.3");
  for (const v1::Reason& notice : stored->notices()) notices.push_back(notice.code());
  EXPECT_THAT(notices, ::testing::Contains("IDENTITY_CONFLICT"));
}

TEST_F(RunTest, AWorkersRefusalOfTheModelFailsItsRuns) {
  AddModel("bad", "refuse");
  AddModel("good", "ok");
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"bad", "good"}), FakeStudy().Files());
  std::map<std::string, v1::Run> runs;
  for (const std::string& run_id : receipt.run_ids()) {
    const v1::Run run = WaitForRun(run_id);
    runs[run.model()] = run;
  }
  EXPECT_EQ(runs["bad"].failure().code(), "MODEL_REFUSED");
  EXPECT_EQ(runs["bad"].failure().value(), "DIGEST_MISMATCH");
  EXPECT_EQ(runs["good"].state(), v1::RUN_STATE_DONE);
  for (const ModelStatus& model : dispatcher_->Models()) {
    ASSERT_THAT(model.devices, SizeIs(1));
    EXPECT_EQ(model.activation.by(), "configuration");
    if (model.model->name == "bad") {
      EXPECT_EQ(model.devices[0].readiness(), v1::MODEL_READINESS_REFUSED);
      EXPECT_EQ(model.devices[0].reason().code(), "DIGEST_MISMATCH");
    } else {
      EXPECT_EQ(model.devices[0].readiness(), v1::MODEL_READINESS_WARM);
    }
  }
}

TEST_F(RunTest, AFailureOfTheWorkerIsTheRunsFailure) {
  AddModel("m", "fail");
  Start();
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "NETWORK_FAILED");
}

TEST_F(RunTest, ARunThatNeverFitsHostMemoryFailsWithTheNumber) {
  AddModel("m", "ok");
  options_.config.mutable_limits()->set_arena_bytes(10000);
  Start();
  const v1::Run run = WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "HOST_MEMORY");
  EXPECT_EQ(run.failure().value(), std::to_string(8 * 4096 + 8 * 6 * 8));
}

TEST_F(RunTest, RunsWaitForHostMemory) {
  AddModel("m", "slow 100");
  options_.config.mutable_limits()->set_arena_bytes(40000);  // one study at a time
  Start();
  std::vector<std::string> run_ids;
  for (int i = 0; i < 4; ++i) {
    FakeStudy study;
    study.study_uid = "1.2." + std::to_string(i);
    run_ids.push_back(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
  }
  for (const std::string& run_id : run_ids) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
}

TEST_F(RunTest, UrgentRunsComeFirst) {
  AddModel("first", "slow 3000");
  AddModel("m", "slow 50");
  Start();
  std::map<std::string, std::string> names;
  std::vector<std::string> run_ids;
  const auto submit = [&](const std::string& name, const std::string& model, v1::Priority priority) {
    FakeStudy study;
    study.study_uid = "1.2." + std::to_string(names.size());
    v1::SubmissionHeader header = Wanting({model});
    header.set_priority(priority);
    run_ids.push_back(MustSubmit(header, study.Files()).run_ids(0));
    names[run_ids.back()] = name;
  };
  submit("first", "first", v1::PRIORITY_ROUTINE);
  ASSERT_TRUE(Eventually([&] { return dispatcher_->GetStudy("1.2.0")->runs(0).progress() > 0; }));
  // All come while the device is busy; the routine ones are decoded by the time that the urgent ones come.
  for (int i = 0; i < 4; ++i) submit("routine", "m", v1::PRIORITY_ROUTINE);
  ASSERT_TRUE(Eventually([&] { return helpers_.frames_decoded >= 3 * 8; }));
  submit("urgent", "m", v1::PRIORITY_URGENT);
  submit("stat", "m", v1::PRIORITY_STAT);
  std::vector<std::pair<std::int64_t, std::string>> order;
  for (const std::string& run_id : run_ids) {
    const v1::Run run = WaitForRun(run_id);
    order.emplace_back(run.finished_at().seconds() * 1000000 + run.finished_at().nanos() / 1000,
                       names[run_id]);
  }
  std::sort(order.begin(), order.end());
  const auto place = [&](const std::string& name) {
    return std::find_if(order.begin(), order.end(), [&](const auto& entry) { return entry.second == name; }) -
           order.begin();
  };
  EXPECT_EQ(place("first"), 0);
  EXPECT_EQ(place("stat"), 1);
  EXPECT_EQ(place("urgent"), 2);
}

TEST_F(RunTest, ProgressIsReportedToSubscribers) {
  AddModel("m", "slow 300");
  Start();
  std::mutex mutex;
  std::set<std::string> heard;
  int calls = 0;
  auto subscription = dispatcher_->Subscribe([&](const std::string& study_uid, const std::string& run_id) {
    const std::lock_guard lock(mutex);
    heard.insert(study_uid + " " + run_id);
    ++calls;
  });
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  EXPECT_TRUE(Eventually([&] {
    const auto study = dispatcher_->GetStudy("1.2.3");
    return study->runs_size() == 1 && study->runs(0).progress() > 0.2;
  }));
  WaitForRun(run_id);
  {
    const std::lock_guard lock(mutex);
    EXPECT_THAT(heard, ElementsAre("1.2.3 " + run_id));
    EXPECT_GT(calls, 3);
  }
  subscription.reset();
  const int before = calls;
  FakeStudy other;
  other.study_uid = "1.2.4";
  WaitForRun(MustSubmit(Wanting({"m"}), other.Files()).run_ids(0));
  EXPECT_EQ(calls, before);
}

TEST_F(RunTest, PlansWithoutRunning) {
  AddModel("ct", "ok");
  AddModel("mr", "ok", "MR");
  AddModel("other", "ok");
  Start();
  WaitForRun(MustSubmit(Wanting({"other"}), FakeStudy().Files()).run_ids(0));
  v1::PlanStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  for (const char* name : {"ct", "mr"}) request.add_models()->set_name(name);
  const auto plan = dispatcher_->PlanStudy(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_THAT(plan->runs(), SizeIs(2));
  EXPECT_TRUE(plan->runs(0).applicable());
  EXPECT_EQ(plan->runs(0).windows(), 2u * 3u * 3u) << "6 x 8 x 8 by windows of 4 at interval 3";
  EXPECT_NEAR(plan->runs(0).predicted_seconds(), 18 / 2 * 0.002, 1e-9) << "two lanes";
  EXPECT_EQ(plan->runs(0).predicted_bytes(), 8u * 6 * 8 * 2 * 4 + kWaitingBytes + 1000u + 500u)
      << "beside weights and forward pass";
  EXPECT_FALSE(plan->runs(1).applicable());
  EXPECT_EQ(plan->runs(1).reasons(0).code(), "MODALITY");
  request.set_study_instance_uid("9.9");
  EXPECT_EQ(base::ReasonOf(dispatcher_->PlanStudy(request).status()), "UNKNOWN_STUDY");
}

TEST_F(RunTest, APlanLearnsFromARunThatHadItsDevice) {
  AddModel("m", "ok");
  Start();
  ASSERT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  v1::PlanStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  const auto plan = dispatcher_->PlanStudy(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_NEAR(plan->runs(0).predicted_seconds(), 0.001, 1e-9) << "as the worker said of its windows";
}

TEST_F(RunTest, SeveralWorkersShareTheRuns) {
  AddModel("m", "slow 100");
  options_.config.add_devices("cpu");
  Start();
  EXPECT_THAT(dispatcher_->Devices(), SizeIs(2));
  std::vector<std::string> run_ids;
  for (int i = 0; i < 6; ++i) {
    FakeStudy study;
    study.study_uid = "1.2." + std::to_string(i);
    run_ids.push_back(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
  }
  bool both = false;
  for (const std::string& run_id : run_ids) {
    EXPECT_TRUE(Eventually([&] {
      int running = 0;
      for (const std::string& id : run_ids) {
        const auto run = dispatcher_->store().GetRun(id);
        running += dispatcher_->GetStudy(run->study_uid)->runs(0).progress() > 0 ? 1 : 0;
      }
      both = both || running >= 2;
      const v1::RunState state = StateOf(run_id);
      return state == v1::RUN_STATE_DONE;
    }));
  }
  EXPECT_TRUE(both) << "never two runs in flight";
}

}  // namespace
}  // namespace tomoserve::dispatch
