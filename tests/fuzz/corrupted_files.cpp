// Sends damaged files through the real helpers, as the front does, and counts what becomes of them.
//
//   corrupted_files --helper build/bin/tomoserve-dicom --count 10000 --seed 1 --base FOLDER...
//   corrupted_files --write FOLDER --count 500 --seed 1 --base FOLDER...
//
// Prints one JSON document. Exit code 1: a file had no typed result in time, or, without --allow-deaths, a
// helper died: of a library's assertion, say, which is refused as HELPER_CRASHED; or a helper took more
// memory than --limit-mib.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "fuzz/corrupt.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::fuzz {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using File = std::vector<std::byte>;

constexpr std::uint64_t kMaxBaseBytes = 2 << 20;
// Frames above this are not decoded: the arena would need the room.
constexpr std::uint64_t kMaxFrameBytes = 64 << 20;
constexpr std::uint64_t kMaxArenaBytes = 2ull << 30;
constexpr std::size_t kBatch = 64;

struct Options {
  std::string helper;
  std::vector<std::string> bases;
  std::string write;
  std::uint64_t count = 500;
  std::uint64_t first = 0;
  std::uint64_t seed = 1;
  std::uint32_t leases = 2;
  std::uint32_t limit_ms = 5000;
  std::uint64_t limit_mib = 2048;  // 0: none
  bool allow_deaths = false;
};

std::vector<File> ReadBases(const std::vector<std::string>& folders) {
  std::vector<fs::path> paths;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const bool is_file = entry.is_regular_file() && entry.path().extension() != ".json";
      if (is_file && entry.file_size() > 0 && entry.file_size() <= kMaxBaseBytes)
        paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<File> bases;
  for (const fs::path& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    const auto bytes = std::as_bytes(std::span(text));
    bases.emplace_back(bytes.begin(), bytes.end());
  }
  return bases;
}

// Largest memory of any helper, looked at every few milliseconds.
class PeakWatch {
 public:
  explicit PeakWatch(const ipc::HelperPool& pool)
      : thread_([this, &pool](std::stop_token stop) {
          while (!stop.stop_requested()) {
            Look(pool.zygote_pid());
            std::this_thread::sleep_for(std::chrono::milliseconds(3));
          }
        }) {}
  std::uint64_t bytes() const { return peak_kib_ * 1024; }

 private:
  void Look(pid_t zygote) {
    const std::string pid = std::to_string(zygote);
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    for (std::string child; children >> child;) {
      std::ifstream status("/proc/" + child + "/status");
      for (std::string word; status >> word;) {
        if (word != "VmHWM:") continue;
        std::uint64_t kib = 0;
        status >> kib;
        peak_kib_ = std::max<std::uint64_t>(peak_kib_, kib);
        break;
      }
    }
  }

  std::atomic<std::uint64_t> peak_kib_ = 0;
  std::jthread thread_;
};

// Files of one batch, one after the other.
class Spool {
 public:
  Spool() : fd_(::memfd_create("corrupted", MFD_CLOEXEC)) {}
  bool Add(const File& file) {
    ipc::v1::SpoolRange range;
    range.set_offset(size_);
    range.set_length(file.size());
    ranges_.push_back(range);
    for (std::size_t done = 0; done < file.size();) {
      const ssize_t n = ::write(fd_.get(), file.data() + done, file.size() - done);
      if (n <= 0) return false;
      done += static_cast<std::size_t>(n);
    }
    size_ += file.size();
    return true;
  }
  int fd() const { return fd_.get(); }
  const std::vector<ipc::v1::SpoolRange>& ranges() const { return ranges_; }

 private:
  base::UniqueFd fd_;
  std::uint64_t size_ = 0;
  std::vector<ipc::v1::SpoolRange> ranges_;
};

class Campaign {
 public:
  Campaign(const Options& options, std::vector<File> bases, ipc::HelperPool& pool)
      : options_(options), bases_(std::move(bases)), pool_(pool) {}

  Json Run() {
    const auto began = std::chrono::steady_clock::now();
    const PeakWatch peak(pool_);
    for (std::uint64_t first = options_.first; first < options_.first + options_.count; first += kBatch) {
      RunBatch(first, std::min<std::uint64_t>(first + kBatch, options_.first + options_.count));
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    Json json;
    json["files"] = options_.count;
    json["seed"] = options_.seed;
    json["bases"] = bases_.size();
    json["seconds"] = took.count();
    json["slowestBatchSeconds"] = slowest_;
    peak_mib_ = peak.bytes() >> 20;
    json["helperPeakMiB"] = peak_mib_;
    json["helperDeaths"] = pool_.child_deaths();
    json["headers"] = headers_;
    json["frames"] = frames_;
    json["crashed"] = crashed_;
    json["bad"] = bad_;
    return json;
  }
  bool passed() const {
    return bad_.empty() && (options_.allow_deaths || pool_.child_deaths() == 0) &&
           (options_.limit_mib == 0 || peak_mib_ < options_.limit_mib);
  }

 private:
  void RunBatch(std::uint64_t first, std::uint64_t end) {
    const auto began = std::chrono::steady_clock::now();
    Spool spool;
    std::vector<Corrupted> files;
    for (std::uint64_t number = first; number < end; ++number) {
      files.push_back(Corrupt(bases_, options_.seed, number));
      if (!spool.Add(files.back().bytes)) throw std::runtime_error("the spool cannot be written");
    }
    const auto headers = pool_.ReadHeaders(spool.fd(), spool.ranges());
    std::vector<ipc::HelperPool::Frame> frames;
    std::vector<std::size_t> owners;
    std::uint64_t slot_bytes = 1;
    for (std::size_t i = 0; i < headers.size(); ++i) {
      Count(headers[i].status(), first + i, files[i], headers_);
      if (!headers[i].ok() || headers[i]->stored_type() == ipc::v1::STORED_TYPE_UNSPECIFIED) continue;
      const ipc::v1::InstanceHeader& header = *headers[i];
      const std::uint64_t bytes =
          std::uint64_t{header.rows()} * header.columns() * base::BytesOf(header.stored_type());
      if (bytes > kMaxFrameBytes) continue;
      slot_bytes = std::max(slot_bytes, bytes);
      for (const std::uint32_t frame : {0u, header.frames() - 1}) {
        ipc::HelperPool::Frame& asked = frames.emplace_back();
        asked.range = spool.ranges()[i];
        asked.frame = frame;
        asked.stored_type = header.stored_type();
        asked.rows = header.rows();
        asked.columns = header.columns();
        asked.high_throughput = ipc::IsHighThroughput(header.transfer_syntax_uid());
        owners.push_back(i);
      }
    }
    Decode(spool.fd(), slot_bytes, frames, owners, first, files);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    slowest_ = std::max(slowest_, took.count());
  }

  // In parts for which an arena has room.
  void Decode(int spool, std::uint64_t slot_bytes, std::vector<ipc::HelperPool::Frame>& frames,
              const std::vector<std::size_t>& owners, std::uint64_t first,
              const std::vector<Corrupted>& files) {
    const std::size_t part = std::max<std::size_t>(1, kMaxArenaBytes / (slot_bytes + 4096));
    for (std::size_t begin = 0; begin < frames.size(); begin += part) {
      const std::size_t end = std::min(frames.size(), begin + part);
      std::vector<ipc::HelperPool::Frame> asked(frames.begin() + static_cast<std::ptrdiff_t>(begin),
                                                frames.begin() + static_cast<std::ptrdiff_t>(end));
      const auto arena = ipc::Arena::Create(slot_bytes, static_cast<std::uint32_t>(asked.size()), nullptr);
      if (!arena.ok()) throw std::runtime_error(base::ReasonOf(arena.status()));
      for (std::uint32_t slot = 0; slot < asked.size(); ++slot) asked[slot].slot = slot;
      const auto results = pool_.Decode(spool, asked, **arena);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const std::size_t owner = owners[begin + i];
        Count(results[i], first + owner, files[owner], frames_);
      }
    }
  }

  void Count(const absl::Status& status, std::uint64_t number, const Corrupted& file,
             std::map<std::string, std::uint64_t>& results) {
    const std::string reason = base::ReasonOf(status);
    ++results[reason];
    const bool untyped = !status.ok() && reason == absl::StatusCodeToString(status.code());
    const bool helper =
        reason.starts_with("HELPER_") || reason == "SPOOL_UNREADABLE" || reason == "SLOT_INVALID";
    if (!untyped && !helper) return;
    Json& list = reason == "HELPER_CRASHED" ? crashed_ : bad_;
    list.push_back({{"number", number},
                    {"damage", NameOf(file.damage)},
                    {"base", file.base},
                    {"bytes", file.bytes.size()},
                    {"code", reason},
                    {"value", base::ValueOf(status)}});
  }

  const Options& options_;
  const std::vector<File> bases_;
  ipc::HelperPool& pool_;
  std::map<std::string, std::uint64_t> headers_;
  std::map<std::string, std::uint64_t> frames_;
  Json crashed_ = Json::array();
  Json bad_ = Json::array();  // untyped, too late, a lie
  double slowest_ = 0;
  std::uint64_t peak_mib_ = 0;
};

int WriteFiles(const Options& options, const std::vector<File>& bases) {
  fs::create_directories(options.write);
  for (std::uint64_t number = options.first; number < options.first + options.count; ++number) {
    const Corrupted file = Corrupt(bases, options.seed, number);
    std::ofstream out(fs::path(options.write) / (std::to_string(number) + ".dcm"),
                      std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(file.bytes.data()),
              static_cast<std::streamsize>(file.bytes.size()));
    if (!out.flush()) return 1;
  }
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Sends damaged files through the real helpers");
  Options options;
  app.add_option("--helper", options.helper, "The program tomoserve-dicom");
  app.add_option("--base", options.bases, "Folders of whole files")->required();
  app.add_option("--write", options.write, "Write the damaged files into this folder instead");
  app.add_option("--count", options.count, "Files")->capture_default_str();
  app.add_option("--first", options.first, "Number of the first one")->capture_default_str();
  app.add_option("--seed", options.seed, "Seed")->capture_default_str();
  app.add_option("--leases", options.leases, "Helpers at a time")->capture_default_str();
  app.add_option("--limit-ms", options.limit_ms, "Longest time for a file")->capture_default_str();
  app.add_option("--limit-mib", options.limit_mib, "A helper's memory stays below it; 0: no limit")
      ->capture_default_str();
  app.add_flag("--allow-deaths", options.allow_deaths, "HELPER_CRASHED is a result like others");
  CLI11_PARSE(app, argc, argv);
  std::vector<File> bases = ReadBases(options.bases);
  if (bases.empty() || (options.helper.empty() && options.write.empty())) {
    std::cerr << "corrupted_files: --helper or --write, and files under --base, are needed\n";
    return 2;
  }
  if (!options.write.empty()) return WriteFiles(options, bases);
  ipc::HelperPoolOptions pool_options;
  pool_options.program = options.helper;
  pool_options.leases = options.leases;
  pool_options.item_timeout = std::chrono::milliseconds(options.limit_ms);
  pool_options.limits.set_deflated(true);
  const auto pool = ipc::HelperPool::Start(pool_options);
  if (!pool.ok()) {
    std::cerr << "corrupted_files: " << base::ReasonOf(pool.status()) << '\n';
    return 2;
  }
  Campaign campaign(options, std::move(bases), **pool);
  std::cout << campaign.Run().dump(2) << '\n';
  return campaign.passed() ? 0 : 1;
}

}  // namespace
}  // namespace tomoserve::fuzz

int main(int argc, char** argv) {
  try {
    return tomoserve::fuzz::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "corrupted_files: " << error.what() << '\n';
    return 2;
  }
}
