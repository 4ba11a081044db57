// A dispatcher over a temporary folder, with fake helpers and scripted workers.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "dispatch/dispatcher_impl.h"
#include "dispatch/fake_dicom.h"
#include "dispatch/fake_helpers.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {

// What a run on the fake study needs for answers that wait, of windows of 4x4x4: two lanes with batches of
// four let eight wait, and a batch of which one is at its turn holds three more.
inline constexpr std::uint64_t kWaitingBytes = (8 + 3) * 4 * 4 * 4 * sizeof(float);
// What such a run needs on a CPU.
inline const std::uint64_t kRunBytes =
    kWaitingBytes + volume::LoopBytes({.volume_ijk = {8, 6, 8}, .prepared_ijk = {8, 6, 8}, .channels = 1});

// Waits up to 20 s; whether it came true.
bool Eventually(const std::function<bool()>& condition);

class DispatchTest : public ::testing::Test {
 protected:
  DispatchTest();
  ~DispatchTest() override;

  // Adds a version to the repository; before Start. See fake_worker.cpp for scripts.
  void AddModel(const std::string& name, const std::string& script, const std::string& modality = "CT",
                bool demonstration = false, const std::string& version = "1");
  // Puts `with` in the place of the first `what` in a model's recipe.
  void EditRecipe(const std::string& name, const std::string& what, const std::string& with);
  // Lets a model's recipe take so many interpolated slices.
  void AllowSyntheticSlices(const std::string& name, int slices);
  // Starts a dispatcher with what the test has put into options_, and waits for `ready` unless told
  // otherwise.
  void Start(bool wait_until_ready = true);
  void Stop() { dispatcher_.reset(); }

  // A header that wants these models and nothing else.
  static v1::SubmissionHeader Wanting(const std::vector<std::string>& models);
  // Sends files under the keys "0", "1", ... and finishes.
  absl::StatusOr<v1::SubmissionReceipt> Submit(const v1::SubmissionHeader& header,
                                               const std::vector<std::string>& files);
  // The receipt of an upload that must succeed.
  v1::SubmissionReceipt MustSubmit(const v1::SubmissionHeader& header, const std::vector<std::string>& files);
  static absl::Status SendInstance(Upload& upload, const std::string& key, const std::string& bytes);

  // Submits a study for that model and waits until the run is final.
  v1::Run RunOf(const std::string& model, const FakeStudy& study = FakeStudy());
  v1::Run RunNow(const std::string& run_id);
  // Waits until the run is final.
  v1::Run WaitForRun(const std::string& run_id);
  v1::RunState StateOf(const std::string& run_id) { return RunNow(run_id).state(); }
  // Children of this process that still run.
  static std::vector<pid_t> Workers();
  pid_t WaitForWorker();

  std::filesystem::path folder_;
  DispatcherOptions options_;
  FakeHelperScript helpers_;
  std::unique_ptr<DispatcherImpl> dispatcher_;
};

}  // namespace tomoserve::dispatch
