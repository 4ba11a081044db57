// One study of 16 slices that comes in parts.
#pragma once

#include <atomic>
#include <string_view>

#include "dispatch/fixture.h"

namespace tomoserve::dispatch {

class CountingObserver final : public Observer {
 public:
  void OnGenerationHeld(std::string_view) override { ++held; }
  std::atomic<int> held{0};
};

class StudyInPartsTest : public DispatchTest {
 protected:
  StudyInPartsTest() { options_.observer = &observer_; }
  ~StudyInPartsTest() override { dispatcher_.reset(); }

  static std::vector<std::string> Part(const FakeStudy& study, std::uint32_t from, std::uint32_t to) {
    std::vector<std::string> files;
    for (std::uint32_t k = from; k < to; ++k) files.push_back(study.File(k));
    return files;
  }
  v1::Study Study() {
    const auto study = dispatcher_->GetStudy("1.2.3");
    EXPECT_TRUE(study.ok()) << study.status();
    return study.ok() ? *study : v1::Study();
  }

  CountingObserver observer_;
  FakeStudy study_{.slices = 16};
};

}  // namespace tomoserve::dispatch
