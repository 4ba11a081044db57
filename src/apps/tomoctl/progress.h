// Progress on a terminal as one line that is drawn again, elsewhere as a plain line now and then.
#pragma once

#include <string>

namespace tomoserve::tomoctl {

// Writes to stderr. Not thread-safe.
class Progress {
 public:
  Progress();
  // `done` of `total` of what `stage` counts, with a unit such as "slices".
  void Show(const std::string& stage, double done, double total, const std::string& unit);
  // Ends the line, if one is open.
  void End();

 private:
  bool terminal_ = false;
  bool open_ = false;
  std::string stage_;
  double last_ms_ = 0;
};

}  // namespace tomoserve::tomoctl
