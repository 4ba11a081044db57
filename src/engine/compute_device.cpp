#include "tomoserve/engine/compute_device.h"

#include <ATen/Context.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <exception>
#include <string>

#include "engine/failure.h"
#include "engine/host_blocks.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

void AskForEqualBits() {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
  context.setBenchmarkCuDNN(false);
  context.setDeterministicCuDNN(true);
  // Only a warning where there is no deterministic kernel: the warm-up compares the bits of passes.
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  context.setAllowFP16ReductionCuBLAS(false);
  context.setAllowBF16ReductionCuBLAS(false);
  context.setAllowFP16AccumulationCuBLAS(false);
}

constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
// Less than what is left free of a device for late kernels and workspaces (cuda_setup.cpp).
constexpr std::size_t kLowBytes = std::size_t{512} << 20;

// A number of bytes that a GPU's allocator says; 0 where there is none, or it does not say.
template <typename Ask>
std::uint64_t FromAllocator(const ComputeDevice& device, const Ask& ask) {
  if (!device.is_cuda()) return 0;
  try {
    const std::int64_t bytes = ask(*c10::getDeviceAllocator(device.device().type()));
    return static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0));
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace

absl::StatusOr<ComputeDevice> ComputeDevice::Cuda(int index) {
  ComputeDevice made;
  try {
    at::globalContext().lazyInitDevice(c10::kCUDA);
    AskForEqualBits();
    made.device_ = c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    // Urgent streams are a pool of their own: what else in the process takes a stream never gets this one.
    made.stream_ = c10::impl::VirtualGuardImpl(c10::kCUDA).getNewStream(made.device_, /*priority=*/-1);
    made.Use();
    const c10::InferenceMode inference;
    made.probe_ = at::zeros({1}, at::TensorOptions(made.device_).dtype(at::kInt));
    made.Synchronise();
    return made;
  } catch (...) {
    return CurrentDeviceException("cuda:" + std::to_string(index), "the device cannot be opened");
  }
}

void ComputeDevice::Use() const {
  UseOneThread();
  if (!stream_) return;
  const c10::impl::VirtualGuardImpl guard(device_.type());
  guard.setDevice(device_);
  guard.exchangeStream(*stream_);
}

void ComputeDevice::Synchronise() const {
  if (stream_) stream_->synchronize();
}

bool ComputeDevice::Works() const {
  if (!is_cuda()) return true;
  try {
    Use();
    const c10::InferenceMode inference;
    at::Tensor probe = probe_;
    probe.fill_(1);
    Synchronise();
    return true;
  } catch (...) {
    return false;
  }
}

std::uint64_t ComputeDevice::MemoryUsedBytes() const {
  return FromAllocator(*this, [&](c10::DeviceAllocator& allocator) {
    return allocator.getDeviceStats(device_.index()).reserved_bytes[kAll].current;
  });
}

std::uint64_t ComputeDevice::RestartPeak() const {
  if (!is_cuda()) HostBlocks::RestartPeak();
  return FromAllocator(*this, [&](c10::DeviceAllocator& allocator) {
    allocator.resetPeakStats(device_.index());
    return allocator.getDeviceStats(device_.index()).allocated_bytes[kAll].current;
  });
}

std::uint64_t ComputeDevice::PeakBytes() const {
  if (!is_cuda()) return HostBlocks::PeakBytes();
  return FromAllocator(*this, [&](c10::DeviceAllocator& allocator) {
    return allocator.getDeviceStats(device_.index()).allocated_bytes[kAll].peak;
  });
}

bool ComputeDevice::IsMemoryLow() const {
  return FromAllocator(*this, [&](c10::DeviceAllocator& allocator) {
           return allocator.getMemoryInfo(device_.index()).first < kLowBytes ? 1 : 0;
         }) != 0;
}

void ComputeDevice::FreeCache() const {
  ReleaseHostMemory();
  if (is_cuda()) c10::getDeviceAllocator(device_.type())->emptyCache();
}

}  // namespace tomoserve::engine
