#include "apps/tomoctl/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "tomoserve/base/clock.h"

namespace tomoserve::tomoctl {
namespace {

constexpr int kBarWidth = 30;
constexpr double kTerminalMs = 80;
constexpr double kPlainMs = 5000;

}  // namespace

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::Show(const std::string& stage, double done, double total, const std::string& unit) {
  const double now = base::MonotonicMs();
  const bool changed = stage != stage_;
  const bool complete = done >= total;
  if (!changed && !complete && now - last_ms_ < (terminal_ ? kTerminalMs : kPlainMs)) return;
  if (changed && open_) End();
  stage_ = stage;
  last_ms_ = now;
  const double share = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0;
  if (!terminal_) {
    std::fprintf(stderr, "%s: %.0f of %.0f %s\n", stage.c_str(), done, total, unit.c_str());
    return;
  }
  const int filled = static_cast<int>(share * kBarWidth);
  std::string bar(static_cast<std::size_t>(filled), '#');
  bar.resize(kBarWidth, '.');
  std::fprintf(stderr, "\r%-10s [%s] %3.0f %%  %.0f of %.0f %s \x1b[K", stage.c_str(), bar.c_str(),
               share * 100, done, total, unit.c_str());
  open_ = true;
}

void Progress::End() {
  if (open_) std::fputc('\n', stderr);
  open_ = false;
  stage_.clear();
}

}  // namespace tomoserve::tomoctl
