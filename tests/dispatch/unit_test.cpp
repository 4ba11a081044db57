// Parts that need no dispatcher: queues, subscriptions, predictions, blame.
#include <signal.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dispatch/instance_rules.h"
#include "dispatch/planning.h"
#include "dispatch/subscriptions.h"
#include "dispatch/task_queue.h"
#include "dispatch/worker_handle.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;

TEST(InstanceJudgeTest, FramesOfASubmissionAreLimited) {
  InstanceJudge judge(v1::SubmissionHeader(), [](const std::string&) { return KnownContents(); });
  const auto judged = [&](const std::string& uid, int frames) {
    ipc::v1::InstanceHeader header;
    header.set_study_instance_uid("1.2");
    header.set_sop_instance_uid(uid);
    for (int n = 0; n < frames; ++n) header.add_frame();
    store::SpoolRecord record;
    record.instance_key = record.sha256 = uid;
    return judge.Judge(record, header).reason().code();
  };
  EXPECT_EQ(judged("1", 65'536), "");
  EXPECT_EQ(judged("2", 65'536), "");
  EXPECT_EQ(judged("3", 65'536), "");
  EXPECT_EQ(judged("4", 65'536), "TOO_MANY_FRAMES");
  EXPECT_EQ(judged("5", 0), "");
  EXPECT_EQ(judge.accepted().size(), 4u);
}

TEST(TaskQueueTest, RunsTasksInOrderAndDelayedOnesLater) {
  TaskQueue queue(1);
  std::vector<int> order;
  std::promise<void> delayed;
  queue.PostAfter(std::chrono::seconds(1), [&] {  // far longer than two posts take on a busy machine
    order.push_back(3);
    delayed.set_value();
  });
  queue.Post([&] { order.push_back(1); });
  EXPECT_TRUE(queue.Run([&] { order.push_back(2); }));
  delayed.get_future().wait();
  EXPECT_TRUE(queue.Run([] {}));
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(TaskQueueTest, StopRunsWhatWasPostedAndRefusesTheRest) {
  TaskQueue queue(2);
  std::atomic<int> ran{0};
  for (int i = 0; i < 100; ++i) queue.Post([&] { ++ran; });
  queue.PostAfter(std::chrono::hours(1), [&] { ++ran; });
  queue.Stop();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(queue.Post([&] { ++ran; }));
  EXPECT_FALSE(queue.Run([&] { ++ran; }));
  EXPECT_EQ(ran, 100);
}

TEST(SubscriptionsTest, AHandlesEndWaitsForTheCallInProgress) {
  Subscriptions subscriptions;
  std::atomic<bool> inside{false};
  std::atomic<bool> left{false};
  auto handle = subscriptions.Add([&](const std::string&, const std::string&) {
    inside = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    left = true;
  });
  std::thread notifier([&] { subscriptions.Notify("s", "r"); });
  while (!inside) std::this_thread::yield();
  handle.reset();
  EXPECT_TRUE(left);
  notifier.join();
  inside = false;
  subscriptions.Notify("s", "r");
  EXPECT_FALSE(inside);
}

TEST(SubscriptionsTest, AHandleMayEndInItsOwnCallAndOutliveTheList) {
  std::shared_ptr<void> handle;
  int calls = 0;
  {
    Subscriptions subscriptions;
    handle = subscriptions.Add([&](const std::string&, const std::string&) {
      ++calls;
      handle.reset();
    });
    subscriptions.Notify("s", "r");
    subscriptions.Notify("s", "r");
    handle = subscriptions.Add([&](const std::string&, const std::string&) { ++calls; });
  }
  handle.reset();
  EXPECT_EQ(calls, 1);
}

v1::Windows Windows(v1::WindowLayout layout, std::uint32_t size, double overlap) {
  v1::Windows windows;
  windows.set_layout(layout);
  for (int axis = 0; axis < 3; ++axis) windows.add_size(size);
  windows.set_overlap(overlap);
  return windows;
}

TEST(PlanningTest, CountsWindowsAsTheLayoutsPutThem) {
  EXPECT_EQ(CountWindows(Windows(v1::WINDOW_LAYOUT_MONAI, 96, 0.25), {96, 96, 96}), 1u);
  EXPECT_EQ(CountWindows(Windows(v1::WINDOW_LAYOUT_MONAI, 96, 0.25), {97, 96, 10}), 2u);
  EXPECT_EQ(CountWindows(Windows(v1::WINDOW_LAYOUT_MONAI, 96, 0.25), {240, 168, 96}), 3u * 2u * 1u);
  EXPECT_EQ(CountWindows(Windows(v1::WINDOW_LAYOUT_NNUNET, 64, 0.5), {128, 64, 65}), 3u * 1u * 2u);
  v1::Windows of_slices = Windows(v1::WINDOW_LAYOUT_NNUNET, 64, 0.5);
  of_slices.set_size(2, 1);
  EXPECT_EQ(CountWindows(of_slices, {128, 64, 30}), 3u * 1u * 30u);
  EXPECT_EQ(CountWindows(Windows(v1::WINDOW_LAYOUT_MONAI, 0, 0), {240, 168, 96}), 1u) << "the whole volume";
  v1::Windows slices;
  slices.set_layout(v1::WINDOW_LAYOUT_SLICES);
  EXPECT_EQ(CountWindows(slices, {512, 512, 300}), 300u);
}

TEST(PlanningTest, PreparesTheSizeByOrientationAndSpacing) {
  const auto grid =
      volume::Geometry::Create({100, 200, 50}, {1, 2, 3}, {}, {{{1, 0, 0}, {0, 0, 1}, {0, -1, 0}}});
  ASSERT_TRUE(grid.ok());
  v1::Recipe recipe;
  recipe.mutable_preparation()->set_orientation("RAS");
  EXPECT_THAT(*PreparedSize(recipe, *grid), ElementsAre(100u, 50u, 200u));
  v1::Spacing& spacing = *recipe.mutable_preparation()->mutable_spacing();
  for (int axis = 0; axis < 3; ++axis) spacing.add_spacing_mm(1.5);
  spacing.set_rule(v1::SPACING_RULE_MONAI);
  EXPECT_THAT(*PreparedSize(recipe, *grid), ElementsAre(67u, 99u, 266u));
  spacing.set_rule(v1::SPACING_RULE_NNUNET);
  EXPECT_THAT(*PreparedSize(recipe, *grid), ElementsAre(67u, 100u, 267u));
}

TEST(PlanningTest, PredictsTimeByLanesAndMirroredPasses) {
  const auto grid =
      volume::Geometry::Create({40, 40, 20}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  ASSERT_TRUE(grid.ok());
  v1::Recipe recipe;
  *recipe.mutable_windows() = Windows(v1::WINDOW_LAYOUT_MONAI, 10, 0);  // 4 x 4 x 2 windows
  recipe.mutable_profile()->set_cpu_seconds_per_window(3);
  const auto seconds = [&](const std::optional<WindowSpeed>& speed) {
    const auto prediction = Predict(recipe, *grid);
    EXPECT_TRUE(prediction.ok());
    return prediction.ok() ? RunSeconds(recipe, *prediction, speed, {}) : -1;
  };
  EXPECT_NEAR(seconds(WindowSpeed{500, 1}), 32 * 0.5, 1e-9);
  EXPECT_NEAR(seconds(WindowSpeed{500, 4}), 8 * 0.5, 1e-9);
  EXPECT_NEAR(seconds(WindowSpeed{500, 5}), 7 * 0.5, 1e-9) << "the last round is not full";
  EXPECT_NEAR(seconds(WindowSpeed{500, 64}), 0.5, 1e-9) << "a window is never divided";
  EXPECT_NEAR(seconds(std::nullopt), 32 * 3, 1e-9);
  recipe.mutable_network()->add_mirror_axes(0);
  recipe.mutable_network()->add_mirror_axes(2);
  EXPECT_NEAR(seconds(WindowSpeed{500, 4}), 4 * 8 * 0.5, 1e-9);
}

TEST(PlanningTest, EachPartOfACompositeHasItsWindows) {
  const auto grid =
      volume::Geometry::Create({40, 40, 20}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  ASSERT_TRUE(grid.ok());
  v1::Recipe recipe;
  *recipe.mutable_windows() = Windows(v1::WINDOW_LAYOUT_MONAI, 10, 0);  // 4 x 4 x 2 windows
  for (const std::uint32_t channels : {3, 2, 3})
    recipe.mutable_network()->add_parts()->set_output_channels(channels);
  const auto same = Predict(recipe, *grid);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->windows, 3u * 32);
  EXPECT_NEAR(RunSeconds(recipe, *same, WindowSpeed{500, 4}, {}), 24 * 0.5, 1e-9);
  recipe.mutable_network()->mutable_parts(1)->add_intensity()->mutable_affine()->set_scale(2);
  const auto other = Predict(recipe, *grid);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->cpu_bytes - same->cpu_bytes, 40u * 40 * 20 * 4) << "one more prepared volume";
  EXPECT_EQ(other->gpu_bytes - same->gpu_bytes, 40u * 40 * 20 * 4);
}

TEST(PlanningTest, AWholeVolumeTakesAsMuchLongerAsItIsLarger) {
  const auto grid =
      volume::Geometry::Create({128, 128, 32}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  ASSERT_TRUE(grid.ok());
  v1::Recipe recipe;
  recipe.mutable_network()->set_spatial_dims(3);
  recipe.mutable_network()->set_output_channels(2);
  *recipe.mutable_windows() = Windows(v1::WINDOW_LAYOUT_MONAI, 0, 0);
  const auto whole = Predict(recipe, *grid);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->windows, 1u);
  EXPECT_EQ(whole->window_ratio, 2.0);  // of 64^3 voxels
  EXPECT_NEAR(RunSeconds(recipe, *whole, WindowSpeed{500, 2}, {}), 1, 1e-9);
  *recipe.mutable_windows() = Windows(v1::WINDOW_LAYOUT_MONAI, 64, 0);
  const auto windows = Predict(recipe, *grid);
  EXPECT_EQ(windows->window_ratio, 1.0);
  // The input twice and the answer live beside the arrays.
  EXPECT_EQ(whole->cpu_bytes, 128u * 128 * 32 * (3 + 4) * 4);
  EXPECT_LT(windows->cpu_bytes, whole->cpu_bytes);
}

TEST(PlanningTest, ADetectorSeesSmallVolumesWholeAndLargeOnesPadded) {
  v1::Recipe recipe;
  recipe.mutable_network()->set_spatial_dims(3);
  recipe.mutable_network()->set_output_channels(1);
  *recipe.mutable_windows() = Windows(v1::WINDOW_LAYOUT_MONAI, 64, 0);
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  for (int axis = 0; axis < 3; ++axis) boxes.add_pad_to_multiple_of(16);
  boxes.set_whole_below_voxels(100 * 100 * 100);
  const auto predict = [&](std::uint32_t size) {
    const auto grid =
        volume::Geometry::Create({size, size, size}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
    EXPECT_TRUE(grid.ok());
    const auto prediction = Predict(recipe, *grid);
    EXPECT_TRUE(prediction.ok()) << prediction.status();
    return *prediction;
  };
  EXPECT_EQ(predict(90).windows, 1u);
  const auto seconds = [&](std::uint32_t size) {
    return RunSeconds(recipe, predict(size), WindowSpeed{500, 1}, {});
  };
  EXPECT_NEAR(seconds(90), 0.5 * 96 * 96 * 96 / (64.0 * 64 * 64), 1e-9);
  EXPECT_EQ(predict(126).windows, 8u);
  EXPECT_NEAR(seconds(126), 4, 1e-9);
  EXPECT_EQ(predict(129).windows, 27u) << "padded to 144";
  EXPECT_GT(predict(90).cpu_bytes, predict(64).cpu_bytes);
}

TEST(PlanningTest, PredictsTheBytesThatTheWorkerAdmits) {
  // The worker's prediction for the same run stands in tests/pipeline/run_plan_test.cpp.
  const auto grid =
      volume::Geometry::Create({100, 100, 100}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  ASSERT_TRUE(grid.ok());
  v1::Recipe recipe;
  recipe.mutable_network()->set_output_channels(25);
  const auto prediction = Predict(recipe, *grid);
  ASSERT_TRUE(prediction.ok()) << prediction.status();
  EXPECT_EQ(prediction->cpu_bytes, 1'000'000u * 26 * 4);
  EXPECT_EQ(
      prediction->gpu_bytes,
      volume::DeviceBytes({.volume_ijk = {100, 100, 100}, .prepared_ijk = {100, 100, 100}, .channels = 25}));
}

TEST(BlameTest, AKillFromOutsideIsNoStrike) {
  const auto death = [](DeathCause cause, int signal, int exit_code = 0, bool oom = false) {
    return WorkerDeath{
        .cause = cause, .said_hello = true, .exit_code = exit_code, .signal = signal, .oom_killer = oom};
  };
  EXPECT_FALSE(IsBlamed(death(DeathCause::kItself, SIGKILL)));
  EXPECT_FALSE(IsBlamed(death(DeathCause::kItself, SIGTERM)));
  EXPECT_FALSE(IsBlamed(death(DeathCause::kItself, 0)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kItself, SIGKILL, 0, true))) << "the OOM killer";
  EXPECT_TRUE(IsBlamed(death(DeathCause::kItself, SIGSEGV)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kItself, SIGSYS)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kItself, 0, 1)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kWatchdog, SIGKILL)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kProtocol, SIGKILL)));
  EXPECT_FALSE(IsBlamed(death(DeathCause::kAsked, SIGKILL)));
  EXPECT_TRUE(IsBlamed(death(DeathCause::kDeviceLost, 0, 5))) << "an error of CUDA is mostly the run's own";
}

TEST(WorkerReplyTest, ReasonsOfWorkersAreMadeHarmless) {
  ipc::v1::Refusal refusal;
  refusal.set_code("OUT_OF_MEMORY");
  refusal.set_value(std::string(5000, 'x'));
  refusal.set_text("line\nbreak\x1b[31m");
  v1::Reason reason = CleanReason(refusal, "RUN_FAILED");
  EXPECT_EQ(reason.code(), "OUT_OF_MEMORY");
  EXPECT_LE(reason.value().size(), 200u);
  EXPECT_EQ(reason.text(), "line?break?[31m");
  refusal.set_code("not a code");
  EXPECT_EQ(CleanReason(refusal, "RUN_FAILED").code(), "RUN_FAILED");
}

// A worker's answer about a volume of four voxels: one finding of six.
ipc::v1::RunDone SixVoxelsOfFour() {
  ipc::v1::RunDone done;
  done.set_windows(1);
  done.set_has_label_map(true);
  done.mutable_labels()->Add()->set_label(1);
  v1::Finding& finding = *done.add_findings();
  finding.set_label_value(1);
  finding.mutable_centre_lps();
  finding.mutable_box_lps()->mutable_min();
  finding.mutable_box_lps()->mutable_max();
  for (int axis = 0; axis < 3; ++axis) finding.add_extent_mm(1);
  finding.set_voxels(6);
  return done;
}

TEST(WorkerReplyTest, ObjectsOfTheModelGridMayHaveMoreVoxelsThanTheVolume) {
  const volume::Geometry grid =
      volume::Geometry::Create({2, 2, 1}, {1, 1, 5}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}).value();
  v1::Recipe recipe;
  recipe.add_labels()->set_value(1);
  recipe.add_findings()->set_label(1);
  const absl::Status status = CheckRunDone(recipe, grid, {}, SixVoxelsOfFour(), 1);
  EXPECT_EQ(base::ReasonOf(status), "WORKER_LIED");
  EXPECT_EQ(base::ValueOf(status), "findings.voxels");
  recipe.mutable_findings(0)->set_on_model_grid(true);
  EXPECT_TRUE(CheckRunDone(recipe, grid, {}, SixVoxelsOfFour(), 1).ok())
      << CheckRunDone(recipe, grid, {}, SixVoxelsOfFour(), 1);
}

}  // namespace
}  // namespace tomoserve::dispatch
