// Which of several devices a run goes to. Arithmetic only.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace tomoserve::dispatch {

// A device as one run finds it.
struct Outlook {
  std::size_t worker = 0;
  double run_seconds = 0;      // that the run would take there; 0: not known
  double backlog_seconds = 0;  // of what is there or waits for it, as urgent as the run or more
  std::size_t runs = 0;        // that are there or wait for it
  bool has_room = false;       // for the run, now
};

// The worker on which the run would end first; nothing where there is none. It may be one that has no room
// now: a run rather waits for a fast device than it begins on a slow one at once. Of those that end it at
// about the same time, and of all where a time is not known, one that has room, the one with fewer runs, the
// first.
std::optional<std::size_t> WorkerThatEndsFirst(std::span<const Outlook> devices);

}  // namespace tomoserve::dispatch
