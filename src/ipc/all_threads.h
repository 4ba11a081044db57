// One call in every thread of this process: for what the kernel lets a thread do to itself only.
#pragma once

#include <chrono>
#include <cstddef>

namespace tomoserve::ipc {

// Makes each other thread that runs now call `call(argument)`, in a handler of SIGURG (by default ignored),
// one after the other; threads that start meanwhile are found too. `call` may only make system calls
// (signal-safety(7)) and answers 0 or an errno. System calls that a thread waits in go on afterwards or, as
// poll does, end with EINTR. Returns how many threads were left out: they block the signal, did not take it
// within `patience`, or their call failed. One caller in a process at a time; SIGURG is as before afterwards.
std::size_t RunInOtherThreads(int (*call)(int argument), int argument, std::chrono::milliseconds patience);

}  // namespace tomoserve::ipc
