// /proc, see proc(5).
#include "metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "metrics/family.h"
#include "metrics/snapshot.h"

namespace tomoserve::metrics {
namespace {

struct ProcessStat {
  double user_ticks = 0;
  double system_ticks = 0;
  double start_ticks = 0;  // after the boot
  double threads = 0;
  double virtual_bytes = 0;
};

// The fields of /proc/self/stat after the name, which may hold anything; the first one is the third.
ProcessStat ReadStat() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  ProcessStat stat;
  for (int number = 3; fields >> field && number <= 23; ++number) {
    const auto value = [&field] { return std::strtod(field.c_str(), nullptr); };
    if (number == 14) stat.user_ticks = value();
    if (number == 15) stat.system_ticks = value();
    if (number == 20) stat.threads = value();
    if (number == 22) stat.start_ticks = value();
    if (number == 23) stat.virtual_bytes = value();
  }
  return stat;
}

// Seconds since the Unix epoch.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string name;
  double value = 0;
  while (file >> name) {
    if (name == "btime" && file >> value) return value;
  }
  return 0;
}

double CountDescriptors() {
  double count = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry("/proc/self/fd", error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++count;
  // The listing's own one.
  return count > 0 ? count - 1 : 0;
}

}  // namespace

std::uint64_t ResidentBytes(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size_pages = 0;
  std::uint64_t resident_pages = 0;
  if (!(file >> size_pages >> resident_pages)) return 0;
  return resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::vector<prometheus::MetricFamily> ProcessFamilies() {
  const ProcessStat stat = ReadStat();
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  std::vector<prometheus::MetricFamily> families;
  const auto add = [&families](prometheus::MetricFamily family, auto value) {
    AddSample(family, value);
    families.push_back(std::move(family));
  };
  add(CounterFamily("process_cpu_seconds_total", "User and system CPU time of the front."),
      (stat.user_ticks + stat.system_ticks) / ticks);
  add(GaugeFamily("process_start_time_seconds", "When the front started, in seconds since the Unix epoch."),
      BootTime() + stat.start_ticks / ticks);
  add(GaugeFamily("process_resident_memory_bytes", "Resident memory of the front."),
      ResidentBytes(::getpid()));
  add(GaugeFamily("process_virtual_memory_bytes", "Address space of the front."), stat.virtual_bytes);
  add(GaugeFamily("process_threads", "Threads of the front."), stat.threads);
  add(GaugeFamily("process_open_fds", "Open file descriptors of the front."), CountDescriptors());
  add(GaugeFamily("process_max_fds", "File descriptors that the front may open."), descriptors.rlim_cur);
  return families;
}

}  // namespace tomoserve::metrics
