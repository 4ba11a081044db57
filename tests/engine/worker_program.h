// A tomoserve-worker under test, played upon by a front.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device.h"
#include "engine/script_module.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/v1/worker.pb.h"

namespace tomoserve::testing {

using ipc::v1::WorkerReply;

// A cube of `size`^3 voxels, 1 mm, int16, zero but for a block of `bright` voxels along each axis, with its
// label map.
class TestVolume {
 public:
  explicit TestVolume(std::uint32_t size = 16, std::uint32_t first = 4, std::uint32_t bright = 4)
      : size_(size) {
    const std::uint64_t slice_bytes = std::uint64_t{size} * size * 2;
    arena_ = *ipc::Arena::Create(slice_bytes, size, nullptr);
    labels_ = *ipc::CreateSealedMemfd("labels", std::uint64_t{size} * size * size);
    for (std::uint32_t k = 0; k < size; ++k) {
      const ipc::v1::Slot slot = arena_->slot(k);
      const auto mapping = *ipc::Mapping::Map(arena_->fds()[slot.arena()], slot.offset(), slice_bytes, true);
      const auto inside = [&](std::uint32_t at) { return at >= first && at < first + bright; };
      for (std::uint32_t j = 0; j < size; ++j) {
        for (std::uint32_t i = 0; i < size; ++i) {
          const std::int16_t value = inside(i) && inside(j) && inside(k) ? 1 : 0;
          std::memcpy(mapping.bytes().data() + (std::size_t{j} * size + i) * 2, &value, 2);
        }
      }
    }
  }

  ipc::v1::StartRun Request(const std::string& run_id, const std::string& model,
                            std::uint32_t urgency = 0) const {
    ipc::v1::StartRun start;
    start.set_run_id(run_id);
    start.set_model_digest(model);
    start.set_urgency(urgency);
    v1::Geometry* geometry = start.mutable_geometry();
    for (int axis = 0; axis < 3; ++axis) {
      geometry->add_size_ijk(size_);
      geometry->add_spacing_mm(1);
      geometry->add_direction_i(axis == 0 ? 1 : 0);
      geometry->add_direction_j(axis == 1 ? 1 : 0);
      geometry->add_direction_k(axis == 2 ? 1 : 0);
    }
    geometry->mutable_origin_lps();
    for (std::uint32_t k = 0; k < size_; ++k) {
      ipc::v1::Slice* slice = start.add_slices();
      *slice->mutable_slot() = arena_->slot(k);
      slice->set_stored_type(ipc::v1::STORED_TYPE_I16);
      slice->set_slope(1);
    }
    start.set_label_bytes(std::uint64_t{size_} * size_ * size_);
    start.set_label_bytes_per_voxel(1);
    return start;
  }
  // The label map, then the arena.
  std::vector<int> Fds() const {
    std::vector<int> fds = arena_->fds();
    fds.insert(fds.begin(), labels_.get());
    return fds;
  }
  std::string Labels() const {
    const auto mapping = *ipc::Mapping::Map(labels_.get(), 0, std::uint64_t{size_} * size_ * size_, false);
    return {reinterpret_cast<const char*>(mapping.bytes().data()), mapping.bytes().size()};
  }
  std::uint32_t size() const { return size_; }

 private:
  const std::uint32_t size_;
  std::unique_ptr<ipc::Arena> arena_;
  base::UniqueFd labels_;
};

class WorkerProgram {
 public:
  explicit WorkerProgram(std::vector<std::string> options = {}, std::vector<std::string> environment = {}) {
    options.insert(options.begin(), TOMOSERVE_BINARY_DIR "/tomoserve-worker");
    // As the front does.
    for (const char* name : {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}) {
      const char* value = std::getenv(name);
      if (value != nullptr) environment.insert(environment.begin(), std::string(name) + "=" + value);
    }
    auto child = ipc::Child::Spawn(options, environment);
    if (!child.ok()) throw std::runtime_error(child.status().ToString());
    child_ = *std::move(child);
  }

  ipc::Child& child() { return child_; }

  void Send(const ipc::v1::WorkerRequest& request, const std::vector<int>& fds = {}) {
    ASSERT_TRUE(child_.socket().Send(request, fds).ok());
  }

  // The next reply for which `wanted` is true; others are thrown away. An empty reply when the worker ended
  // or nothing came for a minute.
  WorkerReply Await(const std::function<bool(const WorkerReply&)>& wanted) {
    while (true) {
      WorkerReply reply;
      std::vector<base::UniqueFd> fds;
      if (!child_.socket().ReceiveMessage(reply, &fds, std::chrono::seconds(60)).ok()) return {};
      if (wanted(reply)) return reply;
    }
  }
  ipc::v1::Hello AwaitHello() {
    return Await([](const WorkerReply& reply) { return reply.has_hello(); }).hello();
  }
  // The answer to a run: done or failed.
  WorkerReply AwaitAnswer() {
    return Await([](const WorkerReply& reply) { return reply.has_done() || reply.has_failed(); });
  }
  // Code of the next failed run, "" for one that is done.
  std::string AwaitFailure() { return AwaitAnswer().failed().reason().code(); }

  ipc::v1::ModelState Load(const std::string& digest, const std::string& archive,
                           const v1::Recipe& recipe = SmallRecipe(), const ipc::v1::BucketProof& proof = {}) {
    return LoadEnsemble(digest, {archive}, recipe, proof);
  }
  // `archives`: of the recipe's files, in their order.
  ipc::v1::ModelState LoadEnsemble(const std::string& digest, const std::vector<std::string>& archives,
                                   const v1::Recipe& recipe, const ipc::v1::BucketProof& proof = {}) {
    ipc::v1::WorkerRequest request;
    request.mutable_load()->set_model_digest(digest);
    *request.mutable_load()->mutable_proof() = proof;
    *request.mutable_load()->mutable_recipe() = recipe;
    std::vector<base::UniqueFd> files;
    std::vector<int> fds;
    for (const std::string& archive : archives) {
      request.mutable_load()->add_file_sha256(base::Sha256Hex(archive));
      files.push_back(FileOf(archive));
      fds.push_back(files.back().get());
    }
    Send(request, fds);
    return Await([](const WorkerReply& reply) { return reply.has_model(); }).model();
  }

  void Start(const ipc::v1::StartRun& start, const std::vector<int>& fds) {
    ipc::v1::WorkerRequest request;
    *request.mutable_start() = start;
    Send(request, fds);
  }
  void Cancel(const std::string& run_id) {
    ipc::v1::WorkerRequest request;
    request.mutable_cancel()->set_run_id(run_id);
    Send(request);
  }

 private:
  ipc::Child child_;
};

// Base of suites that run on the CPU and on a GPU; the parameter is the device.
class WorkerOnDevices : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (OnCpu()) return;
    TS_SKIP_WITHOUT_CUDA();
    if (!std::filesystem::exists(TOMOSERVE_BINARY_DIR "/libtomoserve_cuda.so"))
      GTEST_SKIP() << "built without CUDA";
  }
  static bool OnCpu() { return std::string(GetParam()) == "cpu"; }

  WorkerProgram& Started(std::vector<std::string> options = {"--lanes", "2"}) {
    options.insert(options.begin(), {"--device", GetParam()});
    worker_ = std::make_unique<WorkerProgram>(std::move(options));
    hello_ = worker_->AwaitHello();
    EXPECT_EQ(hello_.device_kind().rfind("cpu ", 0) == 0, OnCpu()) << hello_.device_kind();
    return *worker_;
  }
  std::unique_ptr<WorkerProgram> worker_;
  ipc::v1::Hello hello_;
};

}  // namespace tomoserve::testing

#define TS_INSTANTIATE_WORKER_ON_DEVICES(suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, ::testing::Values("cpu", "cuda:0"),                         \
                           [](const ::testing::TestParamInfo<const char*>& device) {                   \
                             return std::string(device.param).substr(0, 4) == "cuda" ? "cuda" : "cpu"; \
                           })
