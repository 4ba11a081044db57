// Admission under random loads, deaths, cancellations, loads and unloads: never over a budget, nothing left
// at the end, nobody who fits waits for ever.
#include "dispatch/device_ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dispatch/preparation.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/arena.h"

namespace tomoserve::dispatch {
namespace {

TEST(DeviceLedgerTest, AnIdleDeviceTakesNoMoreThanItHas) {
  DeviceLedger ledger(100, 0);
  ledger.SetResident(30);
  EXPECT_TRUE(ledger.Admits({.bytes = 70}));
  EXPECT_FALSE(ledger.Admits({.bytes = 71}));
  const absl::Status status = ledger.CheckFitsEver({.bytes = 71});
  EXPECT_EQ(base::ReasonOf(status), "RUN_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(status), "71");
}

TEST(DeviceLedgerTest, TheHostIsCountedBesideAGpu) {
  DeviceLedger ledger(100, 10);
  EXPECT_EQ(base::ReasonOf(ledger.CheckFitsEver({.bytes = 1, .host_bytes = 11})), "RUN_TOO_LARGE");
  ASSERT_TRUE(ledger.Take("a", {.bytes = 1, .host_bytes = 6}));
  EXPECT_FALSE(ledger.Take("b", {.bytes = 1, .host_bytes = 5}));
  ledger.Give("a");
  EXPECT_TRUE(ledger.Take("b", {.bytes = 1, .host_bytes = 5}));
}

TEST(DeviceLedgerTest, WhatIsThereIsNotTakenOrGivenTwice) {
  DeviceLedger ledger(100, 0);
  ASSERT_TRUE(ledger.Take("a", {.bytes = 40}));
  EXPECT_FALSE(ledger.Take("a", {.bytes = 40}));
  ledger.Give("a");
  ledger.Give("a");
  EXPECT_EQ(ledger.taken(), 0u);
}

// A model's forward pass is known when it is warm: it may be more than there is, and runs wait then.
TEST(DeviceLedgerTest, NothingIsTakenWhileModelsTookMoreThanThereIs) {
  DeviceLedger ledger(100, 0);
  ASSERT_TRUE(ledger.Take("a", {.bytes = 60}));
  ledger.SetResident(50);
  EXPECT_FALSE(ledger.Fits({.bytes = 1}));
  EXPECT_FALSE(ledger.FitsAside(1));
  ledger.Give("a");
  EXPECT_TRUE(ledger.Fits({.bytes = 50}));
}

TEST(DeviceLedgerTest, WithoutRunsWhatIsNoRunTakesWhatIsLeft) {
  DeviceLedger ledger(100, 0);
  ASSERT_TRUE(ledger.FitsAside(1000)) << "who loads a model finds out whether it fits";
  ledger.TakeAside(1000);
  EXPECT_EQ(ledger.taken(), 100u);
  EXPECT_FALSE(ledger.Fits({.bytes = 1}));
  ledger.GiveAside();
  ASSERT_TRUE(ledger.Take("a", {.bytes = 60}));
  EXPECT_FALSE(ledger.FitsAside(41));
  EXPECT_TRUE(ledger.FitsAside(40));
}

TEST(DeviceLedgerTest, NothingGoesOnBesideARunThatIsAlone) {
  DeviceLedger ledger(100, 0);
  ASSERT_TRUE(ledger.Take("a", {.bytes = 0, .alone = true}));
  EXPECT_FALSE(ledger.Admits({.bytes = 1}));
  EXPECT_FALSE(ledger.FitsAside(1));
}

TEST(DeviceLedgerTest, TwoRunsOfManyWindowsAreEnough) {
  DeviceLedger ledger(1000, 0, 2);
  const RunDemand large{.windows = 48, .bucket = 4, .bytes = 10};
  for (const char* run_id : {"a", "b"}) {
    ASSERT_TRUE(ledger.Admits(large));
    ASSERT_TRUE(ledger.Take(run_id, large));
  }
  EXPECT_FALSE(ledger.Admits(large));
  ledger.SetWindowsLeft("a", 0);
  ledger.SetWindowsLeft("b", 16);
  EXPECT_FALSE(ledger.Admits(large)) << "each of two lanes has this batch and the next one";
  ledger.SetWindowsLeft("b", 15);
  EXPECT_TRUE(ledger.Admits(large));
}

TEST(DeviceLedgerTest, RunsOfFewWindowsFillABatch) {
  DeviceLedger ledger(1000, 0, 1);
  const RunDemand small{.windows = 1, .bucket = 8, .bytes = 10};
  std::size_t runs = 0;
  for (; ledger.Admits(small); ++runs) ASSERT_TRUE(ledger.Take(std::to_string(runs), small));
  EXPECT_EQ(runs, 16u);
  EXPECT_EQ(ledger.WindowsMissing(small), 0u);
}

TEST(DeviceLedgerTest, NoMoreThanSixteenRunsOfOneUrgencyAndUrgentOnesBesideThem) {
  DeviceLedger ledger(1000, 0, 4);
  const RunDemand small{.windows = 1, .bucket = 8, .bytes = 10};
  std::size_t runs = 0;
  for (; ledger.Admits(small); ++runs) ASSERT_TRUE(ledger.Take(std::to_string(runs), small));
  EXPECT_EQ(runs, 16u);
  RunDemand urgent = small;
  urgent.urgency = 2;
  for (; ledger.Admits(urgent); ++runs) ASSERT_TRUE(ledger.Take(std::to_string(runs), urgent));
  EXPECT_EQ(runs, 20u);
}

TEST(DeviceLedgerTest, MemoryBoundsRunsOfFewWindows) {
  DeviceLedger ledger(35, 0, 4);
  const RunDemand small{.windows = 1, .bucket = 8, .bytes = 10};
  std::size_t runs = 0;
  for (; ledger.Admits(small); ++runs) ASSERT_TRUE(ledger.Take(std::to_string(runs), small));
  EXPECT_EQ(runs, 3u);
}

struct Model {
  std::uint64_t weights = 0;
  std::uint64_t forward = 0;
};

// Devices, models and runs as Devices and Scheduler have them, without processes: every event draws what
// happens next.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {
    devices_.resize(Draw(1, 4));
    for (Device& device : devices_) {
      device.budget = Draw(1000, 10000);
      device.host_budget = Draw(0, 1) * Draw(500, 1000);
      Restart(device);
    }
    for (int i = 0; i < 3; ++i) models_.push_back({.weights = Draw(1, 200), .forward = Draw(0, 200)});
  }

  void Step() {
    Device& device = devices_[Draw(0, devices_.size() - 1)];
    const std::uint64_t draw = Draw(0, 99);
    if (draw < 20) {
      Arrive();
    } else if (draw < 55) {
      End(device);
    } else if (draw < 62) {
      Cancel();
    } else if (draw < 65) {
      Die(device);
    } else if (draw < 72) {
      Want(device, Draw(0, models_.size() - 1));
    } else if (draw < 80) {
      EndAside(device);
    } else if (draw < 83) {
      Unload(device);
    } else if (draw < 86) {
      Check(device);
    } else if (draw < 90) {
      ChangeUrgency(device);
    } else if (draw < 95) {
      Progress(device);
    }
    Start();
    ExpectSound();
  }

  // Nothing comes any more, all models are wanted everywhere: what waits has to end.
  void Drain() {
    for (Device& device : devices_) {
      for (std::size_t model = 0; model < models_.size(); ++model) Want(device, model);
    }
    std::size_t rounds = 0;
    while (!waiting_.empty() || Busy()) {
      ASSERT_LT(++rounds, 100000u) << waiting_.size() << " runs wait for ever";
      for (Device& device : devices_) {
        EndAside(device);
        End(device);
        Start();
        ExpectSound();
      }
      FailTooLarge();
    }
    for (const Device& device : devices_) {
      EXPECT_EQ(device.ledger.runs(), 0u);
      EXPECT_EQ(device.ledger.run_bytes(), 0u);
      EXPECT_EQ(device.ledger.host_taken(), 0u);
      EXPECT_EQ(device.ledger.taken(), device.ledger.resident());
    }
  }

  std::uint64_t started() const { return started_; }
  std::uint64_t too_large() const { return too_large_; }

 private:
  struct Device {
    std::uint64_t budget = 0;
    std::uint64_t host_budget = 0;
    DeviceLedger ledger;
    std::vector<std::size_t> warm;     // models
    std::deque<std::size_t> wanted;    // to be loaded
    std::optional<std::size_t> loads;  // with its bytes aside
    bool checks = false;
    std::vector<std::string> runs;
  };
  struct Run {
    std::size_t model = 0;
    RunDemand demand;
    std::uint64_t number = 0;
  };

  std::uint64_t Draw(std::uint64_t least, std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(least, most)(random_);
  }

  void Restart(Device& device) {
    device.ledger = DeviceLedger(device.budget, device.host_budget, 2);
    device.warm.clear();
    device.loads.reset();
    device.checks = false;
  }

  void Arrive() {
    const std::string run_id = std::to_string(++numbers_);
    // Some fit nowhere.
    const std::uint64_t bytes = Draw(0, 9) == 0 ? Draw(1, 11000) : Draw(1, 2000);
    all_[run_id] = {.model = Draw(0, models_.size() - 1),
                    .demand = {.urgency = static_cast<std::uint32_t>(Draw(0, 3)),
                               .windows = static_cast<std::uint32_t>(Draw(1, 20)),
                               .bucket = 4,
                               .bytes = bytes,
                               .host_bytes = Draw(0, 400),
                               .alone = Draw(0, 19) == 0},
                    .number = numbers_};
    waiting_.push_back(run_id);
  }

  void End(Device& device) {
    if (device.runs.empty()) return;
    const std::string run_id = device.runs[Draw(0, device.runs.size() - 1)];
    std::erase(device.runs, run_id);
    device.ledger.Give(run_id);
    all_.erase(run_id);
    ++ends_since_;
  }

  void Cancel() {
    if (waiting_.empty()) return;
    const std::string run_id = waiting_[Draw(0, waiting_.size() - 1)];
    std::erase(waiting_, run_id);
    all_.erase(run_id);
  }

  // Those that it had come back, and are alone from then on.
  void Die(Device& device) {
    for (const std::string& run_id : std::exchange(device.runs, {})) {
      all_[run_id].demand.alone = true;
      waiting_.push_back(run_id);
    }
    for (const std::size_t model : device.warm) device.wanted.push_back(model);
    if (device.loads) device.wanted.push_back(*device.loads);
    Restart(device);
  }

  void Want(Device& device, std::size_t model) {
    const auto is_there = [&](const auto& models) {
      return std::find(models.begin(), models.end(), model) != models.end();
    };
    if (!is_there(device.warm) && !is_there(device.wanted) && device.loads != model) {
      device.wanted.push_back(model);
    }
  }

  void LoadNext(Device& device) {
    if (device.loads || device.checks || device.wanted.empty()) return;
    const std::uint64_t bytes =
        models_[device.wanted.front()].weights + models_[device.wanted.front()].forward;
    if (!device.ledger.FitsAside(bytes)) return;
    // One that never fits beside the others is refused.
    if (device.ledger.resident() + bytes > device.budget) return device.wanted.pop_front();
    device.ledger.TakeAside(bytes);
    device.loads = device.wanted.front();
    device.wanted.pop_front();
  }

  void EndAside(Device& device) {
    device.ledger.GiveAside();
    device.checks = false;
    if (device.loads) device.warm.push_back(*device.loads);
    device.loads.reset();
    Settle(device);
  }

  void Settle(Device& device) {
    Model sum;
    for (const std::size_t model : device.warm) {
      sum.weights += models_[model].weights;
      sum.forward = std::max(sum.forward, models_[model].forward);
    }
    device.ledger.SetResident(sum.weights + sum.forward);
  }

  void Unload(Device& device) {
    if (device.warm.empty()) return;
    device.warm.pop_back();
    Settle(device);
  }

  void Check(Device& device) {
    if (device.loads || device.checks || !device.runs.empty()) return;
    device.ledger.TakeAside(Draw(1, 12000));
    device.checks = true;
  }

  void Progress(Device& device) {
    if (!device.runs.empty())
      device.ledger.SetWindowsLeft(device.runs.front(), static_cast<std::uint32_t>(Draw(0, 3)));
  }

  void ChangeUrgency(Device& device) {
    if (device.runs.empty()) return;
    const std::string& run_id = device.runs.front();
    all_[run_id].demand.urgency = static_cast<std::uint32_t>(Draw(0, 3));
    device.ledger.SetOrder(run_id, all_[run_id].demand.urgency, 0);
  }

  // On a CPU all is the device's.
  static RunDemand DemandOn(const Device& device, const Run& run) {
    RunDemand demand = run.demand;
    if (device.host_budget == 0) demand.host_bytes = 0;
    return demand;
  }

  bool MayRunOn(const Device& device, const Run& run) const {
    return std::find(device.warm.begin(), device.warm.end(), run.model) != device.warm.end();
  }

  bool HasRoom(const Device& device, const Run& run) const {
    if (!device.runs.empty() && !device.wanted.empty() && !device.loads) return false;  // a load waits
    if (run.demand.alone && (device.loads || device.checks)) return false;
    return device.ledger.Admits(DemandOn(device, run));
  }

  // As Scheduler::FillDevices does.
  void Start() {
    for (Device& device : devices_) LoadNext(device);
    std::sort(waiting_.begin(), waiting_.end(), [this](const std::string& a, const std::string& b) {
      const auto key = [this](const std::string& run_id) {
        const Run& run = all_.at(run_id);
        return std::make_tuple(-std::int64_t{run.demand.urgency}, run.number);
      };
      return key(a) < key(b);
    });
    std::vector<std::string> kept;  // a device is kept for each
    std::vector<Device*> devices;
    for (Device& device : devices_) devices.push_back(&device);
    for (bool any = true; any;) {
      std::stable_sort(devices.begin(), devices.end(),
                       [](const Device* a, const Device* b) { return a->runs.size() < b->runs.size(); });
      any = std::any_of(devices.begin(), devices.end(),
                        [&](Device* device) { return StartBest(*device, kept); });
    }
    ExpectTurn();
  }

  // Whoever comes first of those that wait has its turn, however many come after it.
  void ExpectTurn() {
    const std::string first = waiting_.empty() ? "" : waiting_.front();
    const bool may_run =
        !first.empty() && std::any_of(devices_.begin(), devices_.end(),
                                      [&](const Device& device) { return MayRunOn(device, all_.at(first)); });
    if (first != first_ || !may_run) ends_since_ = 0;
    first_ = first;
    ASSERT_LT(ends_since_, 300u) << "run " << first << " is passed by others";
  }

  bool StartBest(Device& device, std::vector<std::string>& kept) {
    const auto best = std::find_if(waiting_.begin(), waiting_.end(), [&](const std::string& run_id) {
      return std::find(kept.begin(), kept.end(), run_id) == kept.end() && MayRunOn(device, all_.at(run_id));
    });
    if (best == waiting_.end()) return false;
    const std::string run_id = *best;
    const Run& run = all_.at(run_id);
    if (IsTooLarge(run)) {
      Fail(run_id);
      return true;
    }
    if (!HasRoom(device, run)) {
      const bool elsewhere = std::any_of(devices_.begin(), devices_.end(), [&](const Device& other) {
        return MayRunOn(other, run) && HasRoom(other, run);
      });
      if (!elsewhere) kept.push_back(run_id);
      return false;
    }
    EXPECT_TRUE(device.ledger.Take(run_id, DemandOn(device, run))) << "it was admitted";
    device.runs.push_back(run_id);
    waiting_.erase(best);
    ++started_;
    return true;
  }

  // On every device that has its model, or may have it.
  bool IsTooLarge(const Run& run) const {
    return std::all_of(devices_.begin(), devices_.end(), [&](const Device& device) {
      return MayRunOn(device, run) ? !device.ledger.CheckFitsEver(DemandOn(device, run)).ok()
                                   : device.wanted.empty() && !device.loads;
    });
  }

  void Fail(const std::string& run_id) {
    std::erase(waiting_, run_id);
    all_.erase(run_id);
    ++too_large_;
  }

  void FailTooLarge() {
    const std::vector<std::string> waiting = waiting_;
    for (const std::string& run_id : waiting) {
      if (IsTooLarge(all_.at(run_id))) Fail(run_id);
    }
  }

  bool Busy() const {
    return std::any_of(devices_.begin(), devices_.end(),
                       [](const Device& device) { return !device.runs.empty() || device.loads; });
  }

  void ExpectSound() const {
    for (const Device& device : devices_) {
      std::uint64_t bytes = 0;
      std::uint64_t host_bytes = 0;
      bool alone = false;
      for (const std::string& run_id : device.runs) {
        const RunDemand demand = DemandOn(device, all_.at(run_id));
        bytes += demand.bytes;
        host_bytes += demand.host_bytes;
        alone = alone || demand.alone;
      }
      ASSERT_EQ(device.ledger.run_bytes(), bytes);
      ASSERT_EQ(device.ledger.host_taken(), host_bytes);
      ASSERT_EQ(device.ledger.runs(), device.runs.size());
      ASSERT_LE(device.ledger.taken(), device.budget);
      ASSERT_LE(device.ledger.host_taken(), device.host_budget);
      ASSERT_TRUE(!alone || (device.runs.size() == 1 && !device.loads));
    }
  }

  std::mt19937_64 random_;
  std::vector<Model> models_;
  std::vector<Device> devices_;
  std::map<std::string, Run> all_;  // that wait or run, by id
  std::vector<std::string> waiting_;
  std::string first_;           // of those that wait
  std::size_t ends_since_ = 0;  // that it is
  std::uint64_t numbers_ = 0;
  std::uint64_t started_ = 0;
  std::uint64_t too_large_ = 0;
};

TEST(DeviceLedgerPropertyTest, NoLoadDeathOrCancellationExceedsABudgetOrLeavesARunWaiting) {
  std::uint64_t started = 0;
  std::uint64_t too_large = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    for (int event = 0; event < 2000; ++event) {
      world.Step();
      if (::testing::Test::HasFailure()) return;
    }
    world.Drain();
    if (::testing::Test::HasFailure()) return;
    started += world.started();
    too_large += world.too_large();
  }
  EXPECT_GT(started, 3000u) << "hardly anything was tried";
  EXPECT_GT(too_large, 50u);
}

// Arenas of runs that are prepared, released, cancelled and done, in the host's ledger.
TEST(HostLedgerPropertyTest, RandomSharesNeverExceedItAndNothingIsLeft) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto draw = [&](std::uint64_t least, std::uint64_t most) {
      return std::uniform_int_distribution<std::uint64_t>(least, most)(random);
    };
    ipc::HostLedger ledger(draw(1000, 10000));
    std::vector<std::pair<std::uint64_t, LedgerShare>> shares;
    std::uint64_t held = 0;
    for (int event = 0; event < 3000; ++event) {
      if (draw(0, 1) == 0) {
        const std::uint64_t bytes = draw(0, 3000);
        auto share = LedgerShare::Take(ledger, bytes);
        ASSERT_EQ(share.ok(), bytes <= ledger.limit() - held);
        if (!share.ok()) {
          EXPECT_EQ(base::ReasonOf(share.status()), "HOST_MEMORY");
          continue;
        }
        held += bytes;
        shares.emplace_back(bytes, *std::move(share));
      } else if (!shares.empty()) {
        const auto gone = shares.begin() + static_cast<std::ptrdiff_t>(draw(0, shares.size() - 1));
        held -= gone->first;
        std::swap(*gone, shares.back());
        shares.pop_back();
      }
      ASSERT_EQ(ledger.used(), held);
      ASSERT_LE(ledger.used(), ledger.limit());
    }
    shares.clear();
    EXPECT_EQ(ledger.used(), 0u);
  }
}

}  // namespace
}  // namespace tomoserve::dispatch
