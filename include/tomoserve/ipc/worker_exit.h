// Exit code of tomoserve-worker that means something to the front.
#pragma once

namespace tomoserve::ipc {

// The device does not work any more: an error of CUDA can spoil the whole process, and a GPU can fall off its
// bus. No fault of what was computed; only a new process helps.
inline constexpr int kWorkerDeviceLost = 5;

}  // namespace tomoserve::ipc
