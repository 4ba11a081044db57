#include "tomoserve/ipc/worker_exit.h"

#include <cstdlib>
#include <exception>
#include <utility>

#include "tomoserve/base/log.h"

namespace tomoserve::ipc {
namespace {

std::terminate_handler abort_as_before = nullptr;
thread_local bool asking = false;

// Never destroyed: threads may throw while the process ends.
std::function<bool()>& DeviceWorks() {
  static auto& works = *new std::function<bool()>();
  return works;
}

bool Ask() {
  try {
    return DeviceWorks()();
  } catch (...) {
    return false;
  }
}

void OnTerminate() {
  if (!std::exchange(asking, true) && Ask()) abort_as_before();
  base::Log(base::LogLevel::kError, "device_lost", {{"reason", "TERMINATE"}});
  std::_Exit(kWorkerDeviceLost);
}

}  // namespace

void ExitOnDeviceLoss(std::function<bool()> device_works) {
  DeviceWorks() = std::move(device_works);
  const std::terminate_handler before = std::set_terminate(&OnTerminate);
  if (before != &OnTerminate) abort_as_before = before;
}

}  // namespace tomoserve::ipc
