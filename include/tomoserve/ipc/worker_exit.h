// Exit code of tomoserve-worker that means something to the front.
#pragma once

#include <functional>

namespace tomoserve::ipc {

// The device does not work any more: an error of CUDA can spoil the whole process, and a GPU can fall off its
// bus. Only a new process helps. What was computed may have caused it (an index out of range on the device is
// such an error), or it may be innocent: the front counts under what the device was lost.
inline constexpr int kWorkerDeviceLost = 5;

// From now on an exception that nobody can catch ends the process with kWorkerDeviceLost where `device_works`
// says no, and by SIGABRT else. When a GPU dies the destructors of pinned memory throw: the front would take
// the abort for a crash of the run. `device_works` is called on the thread that threw; if an exception
// escapes from there too, that is a no. For the rest of the process.
void ExitOnDeviceLoss(std::function<bool()> device_works);

}  // namespace tomoserve::ipc
