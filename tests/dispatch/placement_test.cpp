// Which device a run goes to, and which one it waits for.
#include "dispatch/placement.h"

#include <gmock/gmock.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"

namespace tomoserve::dispatch {
namespace {

std::optional<std::size_t> Chosen(const std::vector<Outlook>& devices) {
  return WorkerThatEndsFirst(devices);
}

TEST(WorkerThatEndsFirstTest, WaitsForAFastDeviceOnlyWhileThatEndsEarlier) {
  const Outlook slow{.worker = 0, .run_seconds = 60, .has_room = true};
  EXPECT_EQ(Chosen({slow, {.worker = 1, .run_seconds = 2, .backlog_seconds = 40, .runs = 9}}), 1u);
  EXPECT_EQ(Chosen({slow, {.worker = 1, .run_seconds = 2, .backlog_seconds = 80, .runs = 9}}), 0u);
}

TEST(WorkerThatEndsFirstTest, OfEqualsTheOneWithRoomAndFewerRuns) {
  const Outlook full{.worker = 0, .run_seconds = 10};
  const Outlook one{.worker = 1, .run_seconds = 10.4, .runs = 1, .has_room = true};
  const Outlook none{.worker = 2, .run_seconds = 10.5, .has_room = true};
  EXPECT_EQ(Chosen({full, one, none}), 2u);
  EXPECT_EQ(Chosen({full, one}), 1u);
  EXPECT_EQ(Chosen({none, {.worker = 3, .run_seconds = 10, .has_room = true}}), 2u) << "the first";
}

TEST(WorkerThatEndsFirstTest, WithoutATimeTheOneThatHasRoom) {
  const Outlook unknown{.worker = 0, .runs = 1, .has_room = true};
  EXPECT_EQ(Chosen({unknown, {.worker = 1, .run_seconds = 1, .has_room = false}}), 0u);
  EXPECT_EQ(Chosen({unknown, {.worker = 1, .run_seconds = 1, .has_room = true}}), 1u);
  EXPECT_EQ(Chosen({}), std::nullopt);
}

// Two devices, one of which takes eight times as long for a window.
class PlacementTest : public DispatchTest {
 protected:
  void SetUp() override {
    DispatchTest::SetUp();
    AddModel("m", "slow 60000");
    options_.config.clear_devices();
    for (const char* device : {"cuda:9", "cuda:0"}) options_.config.add_devices(device);
    Start();
  }
  void Submit(int studies) {
    for (int n = 1; n <= studies; ++n) {
      MustSubmit(Wanting({"m"}), FakeStudy{.study_uid = absl::StrCat("1.2.", n)}.Files());
    }
  }
  // Runs on the slow device, on the fast one, and waiting for one of them.
  std::vector<std::uint64_t> Places() {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    EXPECT_TRUE(activity.ok()) << activity.status();
    if (!activity.ok()) return {};
    return {activity->devices.at(0).runs, activity->devices.at(1).runs,
            activity->priorities.at(v1::PRIORITY_ROUTINE).waiting};
  }
};

TEST_F(PlacementTest, ARunWaitsForTheDeviceOnWhichItEndsFirst) {
  Submit(3);
  EXPECT_TRUE(Eventually([&] { return Places() == std::vector<std::uint64_t>{0, 2, 1}; }));
}

TEST_F(PlacementTest, OneFromFurtherBackTakesTheSlowDevice) {
  Submit(8);
  EXPECT_TRUE(Eventually([&] { return Places() == std::vector<std::uint64_t>{1, 2, 5}; }));
}

}  // namespace
}  // namespace tomoserve::dispatch
