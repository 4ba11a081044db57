// tomoserve-decode-bench: times DICOM files to stored pixels, in this process and through sandboxed helpers.
//
//   tomoserve-decode-bench FOLDER --helper PROGRAM [--leases N] [--repeat N] [--mode direct|helpers]
//
// Reads every file below FOLDER (each one frame) into a spool first, so that no disk is timed, then --repeat
// times does what the front does: header pass, then every frame into its slot of an arena. `direct` does the
// same work in this process with one thread and without a sandbox. Prints one JSON object:
//   {"mode", "leases", "files", "decoded_bytes", "seconds": [...], "header_seconds": [...], "sha256"}
// sha256: over the stored values in the order of the file names; the same for each syntax of one series.
// benchmarks/decode/run drives it.
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/header.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::bench {
namespace {

namespace fs = std::filesystem;

struct Spool {
  base::UniqueFd fd;
  std::vector<ipc::v1::SpoolRange> ranges;
  ipc::Mapping mapping;

  std::span<const std::byte> file(std::size_t index) const {
    return mapping.bytes().subspan(ranges[index].offset(), ranges[index].length());
  }
};

absl::StatusOr<Spool> ReadFolder(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  Spool spool;
  std::uint64_t bytes = 0;
  for (const fs::path& path : paths) {
    ipc::v1::SpoolRange& range = spool.ranges.emplace_back();
    range.set_offset(bytes);
    range.set_length(fs::file_size(path));
    bytes += range.length();
  }
  if (bytes == 0) return base::Error(absl::StatusCode::kNotFound, "NO_FILES", folder.string(), "no files");
  TS_ASSIGN_OR_RETURN(spool.fd, ipc::CreateSealedMemfd("spool", bytes));
  TS_ASSIGN_OR_RETURN(spool.mapping, ipc::Mapping::Map(spool.fd.get(), 0, bytes, true));
  for (std::size_t i = 0; i < paths.size(); ++i) {
    std::ifstream stream(paths[i], std::ios::binary);
    const auto range = spool.mapping.bytes().subspan(spool.ranges[i].offset(), spool.ranges[i].length());
    stream.read(reinterpret_cast<char*>(range.data()), static_cast<std::streamsize>(range.size()));
    if (!stream) return base::Error(absl::StatusCode::kDataLoss, "READ_FAILED", "", "a file cannot be read");
  }
  return spool;
}

std::uint64_t FrameBytes(const ipc::v1::InstanceHeader& header) {
  return std::uint64_t{header.rows()} * header.columns() * base::BytesOf(header.stored_type());
}

struct Pass {
  std::unique_ptr<ipc::Arena> arena;
  std::vector<std::uint64_t> bytes;
  double header_seconds = 0;
  double seconds = 0;
};

absl::StatusOr<std::unique_ptr<ipc::Arena>> ArenaFor(const std::vector<std::uint64_t>& bytes) {
  return ipc::Arena::Create(*std::max_element(bytes.begin(), bytes.end()),
                            static_cast<std::uint32_t>(bytes.size()), nullptr);
}

absl::StatusOr<Pass> Direct(const dicom::Runtime& runtime, const Spool& spool) {
  Pass pass;
  const double began_ms = base::MonotonicMs();
  std::vector<ipc::v1::InstanceHeader> headers;
  for (std::size_t i = 0; i < spool.ranges.size(); ++i) {
    TS_ASSIGN_OR_RETURN(headers.emplace_back(), dicom::ReadHeader(spool.file(i), dicom::Limits{}));
    pass.bytes.push_back(FrameBytes(headers.back()));
  }
  pass.header_seconds = (base::MonotonicMs() - began_ms) / 1000;
  TS_ASSIGN_OR_RETURN(pass.arena, ArenaFor(pass.bytes));
  const std::vector<int> fds = pass.arena->fds();
  for (std::size_t i = 0; i < spool.ranges.size(); ++i) {
    // As front and helper do: pages are made, the file is seen anew, the slot is mapped.
    TS_ASSIGN_OR_RETURN(const dicom::FileLayout layout, dicom::Inspect(spool.file(i), dicom::Limits{}));
    TS_RETURN_IF_ERROR(pass.arena->MakePages(static_cast<std::uint32_t>(i), pass.bytes[i]));
    const ipc::v1::Slot slot = pass.arena->slot(static_cast<std::uint32_t>(i));
    TS_ASSIGN_OR_RETURN(const ipc::Mapping mapping,
                        ipc::Mapping::Map(fds[slot.arena()], slot.offset(), slot.bytes(), true, true, true));
    TS_RETURN_IF_ERROR(dicom::DecodeFrame(
        runtime, spool.file(i), layout,
        {0, headers[i].stored_type(), headers[i].rows(), headers[i].columns()}, mapping.bytes()));
  }
  pass.seconds = (base::MonotonicMs() - began_ms) / 1000;
  return pass;
}

absl::StatusOr<Pass> ThroughHelpers(ipc::HelperPool& pool, const Spool& spool) {
  Pass pass;
  const double began_ms = base::MonotonicMs();
  const std::vector<ipc::HeaderResult> headers = pool.ReadHeaders(spool.fd.get(), spool.ranges);
  for (const ipc::HeaderResult& header : headers) {
    TS_RETURN_IF_ERROR(header.status());
    pass.bytes.push_back(FrameBytes(*header));
  }
  pass.header_seconds = (base::MonotonicMs() - began_ms) / 1000;
  TS_ASSIGN_OR_RETURN(pass.arena, ArenaFor(pass.bytes));
  std::vector<ipc::HelperPool::Frame> frames(headers.size());
  for (std::uint32_t i = 0; i < frames.size(); ++i) {
    frames[i].range = spool.ranges[i];
    frames[i].slot = i;
    frames[i].stored_type = headers[i]->stored_type();
    frames[i].rows = headers[i]->rows();
    frames[i].columns = headers[i]->columns();
  }
  for (const absl::Status& status : pool.Decode(spool.fd.get(), frames, *pass.arena)) {
    TS_RETURN_IF_ERROR(status);
  }
  pass.seconds = (base::MonotonicMs() - began_ms) / 1000;
  return pass;
}

absl::StatusOr<std::string> Digest(const Pass& pass) {
  base::Sha256 digest;
  for (std::size_t i = 0; i < pass.bytes.size(); ++i) {
    TS_ASSIGN_OR_RETURN(const ipc::Mapping slot, pass.arena->Read(static_cast<std::uint32_t>(i)));
    digest.Update(slot.bytes().first(pass.bytes[i]));
  }
  return digest.HexDigest();
}

struct Options {
  std::string folder;
  std::string helper;
  std::string mode = "helpers";
  std::uint32_t leases = 1;
  int repeat = 3;
};

absl::StatusOr<nlohmann::json> Run(const Options& options) {
  TS_ASSIGN_OR_RETURN(const Spool spool, ReadFolder(options.folder));
  std::unique_ptr<dicom::Runtime> runtime;
  std::unique_ptr<ipc::HelperPool> pool;
  if (options.mode == "direct") {
    TS_ASSIGN_OR_RETURN(runtime, dicom::Runtime::Create());
  } else {
    ipc::HelperPoolOptions helpers;
    helpers.program = options.helper;
    helpers.leases = options.leases;
    TS_ASSIGN_OR_RETURN(pool, ipc::HelperPool::Start(helpers));
  }
  nlohmann::json result{{"mode", options.mode},
                        {"leases", options.leases},
                        {"files", spool.ranges.size()},
                        {"seconds", nlohmann::json::array()},
                        {"header_seconds", nlohmann::json::array()}};
  for (int n = 0; n < options.repeat; ++n) {
    TS_ASSIGN_OR_RETURN(const Pass pass, runtime ? Direct(*runtime, spool) : ThroughHelpers(*pool, spool));
    result["seconds"].push_back(pass.seconds);
    result["header_seconds"].push_back(pass.header_seconds);
    if (n > 0) continue;
    std::uint64_t bytes = 0;
    for (const std::uint64_t frame : pass.bytes) bytes += frame;
    result["decoded_bytes"] = bytes;
    TS_ASSIGN_OR_RETURN(result["sha256"], Digest(pass));
  }
  return result;
}

}  // namespace
}  // namespace tomoserve::bench

int main(int argc, char** argv) {
  CLI::App app{"Times DICOM files to stored pixels."};
  tomoserve::bench::Options options;
  app.add_option("folder", options.folder, "files of one frame each")->required();
  app.add_option("--helper", options.helper, "path of tomoserve-dicom (mode helpers)");
  app.add_option("--mode", options.mode)->check(CLI::IsMember({"direct", "helpers"}));
  app.add_option("--leases", options.leases, "children at a time")->check(CLI::Range(1, 256));
  app.add_option("--repeat", options.repeat)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  const auto result = tomoserve::bench::Run(options);
  if (!result.ok()) {
    std::cerr << "tomoserve-decode-bench: " << tomoserve::base::ReasonOf(result.status()) << ": "
              << result.status().message() << '\n';
    return 1;
  }
  std::cout << result->dump() << '\n';
  return 0;
}
