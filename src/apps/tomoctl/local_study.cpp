#include "apps/tomoctl/local_study.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/ipc/child.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCopyBytes = 1 << 20;
// Slices that are decoded at a time take about this much memory.
constexpr std::uint64_t kDecodeBytes = 128ull << 20;
constexpr std::uint64_t kDecodeSlices = 256;

absl::Status SpoolFailed() {
  return base::Error(absl::StatusCode::kInternal, "SPOOL_FAILED", std::to_string(errno),
                     absl::StrCat("the temporary file cannot be written: ", std::strerror(errno)));
}

absl::StatusOr<base::UniqueFd> UnlinkedFile() {
  const char* const variable = std::getenv("TMPDIR");
  const std::string folder = variable != nullptr && *variable != '\0' ? variable : "/tmp";
  base::UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // Not every file system has O_TMPFILE.
  std::string name = folder + "/tomoctl-XXXXXX";
  fd.reset(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd.valid()) return SpoolFailed();
  ::unlink(name.c_str());
  return fd;
}

absl::Status WriteAll(int fd, const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t written = ::write(fd, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SpoolFailed();
    bytes += written;
    count -= static_cast<std::size_t>(written);
  }
  return absl::OkStatus();
}

// Digest and length of a file whose bytes were appended to the spool.
struct Copied {
  std::string sha256;
  std::uint64_t bytes = 0;
};

// kNotFound where the file itself cannot be read.
absl::StatusOr<Copied> Append(const fs::path& path, int spool, std::vector<char>& buffer) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Copied copied;
  base::Sha256 hash;
  while (true) {
    const ssize_t count = file.valid() ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
    if (count < 0 && file.valid() && errno == EINTR) continue;
    if (count < 0) {
      return base::Error(absl::StatusCode::kNotFound, "UNREADABLE", std::to_string(errno),
                         std::strerror(errno));
    }
    if (count == 0) break;
    const auto bytes = static_cast<std::size_t>(count);
    hash.Update(std::string_view(buffer.data(), bytes));
    TS_RETURN_IF_ERROR(WriteAll(spool, buffer.data(), bytes));
    copied.bytes += bytes;
  }
  copied.sha256 = hash.HexDigest();
  return copied;
}

double StoredValue(const std::byte* at, ipc::v1::StoredType type) {
  const auto load = [at]<typename T>(T value) {
    std::memcpy(&value, at, sizeof value);
    return static_cast<double>(value);
  };
  switch (type) {
    case ipc::v1::STORED_TYPE_U8:
      return load(std::uint8_t{});
    case ipc::v1::STORED_TYPE_I8:
      return load(std::int8_t{});
    case ipc::v1::STORED_TYPE_U16:
      return load(std::uint16_t{});
    case ipc::v1::STORED_TYPE_I16:
      return load(std::int16_t{});
    case ipc::v1::STORED_TYPE_U32:
      return load(std::uint32_t{});
    case ipc::v1::STORED_TYPE_I32:
      return load(std::int32_t{});
    default:
      return 0;
  }
}

// Adds slices, in order of k, to the statistics of a volume.
class Measurer {
 public:
  void Add(const series::VolumeSlice& slice, std::span<const std::byte> stored) {
    const std::size_t size = base::BytesOf(slice.stored_type);
    const std::size_t count = stored.size() / size;
    words_.resize(2 * count);
    for (std::size_t n = 0; n < count; ++n) {
      const double value =
          StoredValue(stored.data() + n * size, slice.stored_type) * slice.slope + slice.intercept;
      min_ = std::min(min_, value);
      max_ = std::max(max_, value);
      sum_ += value;
      hounsfield_.Add(value);
      // nearbyint rounds half to even in the default rounding mode.
      const auto word = static_cast<std::uint16_t>(
          static_cast<std::int16_t>(std::clamp(std::nearbyint(value), -32768.0, 32767.0)));
      words_[2 * n] = static_cast<char>(word & 0xFF);
      words_[2 * n + 1] = static_cast<char>(word >> 8);
    }
    count_ += count;
    hash_.Update(std::string_view(words_.data(), words_.size()));
  }

  VoxelStatistics Result() {
    return {hash_.HexDigest(), min_, max_, sum_ / static_cast<double>(count_), hounsfield_};
  }

 private:
  base::Sha256 hash_;
  std::vector<char> words_;
  double min_ = std::numeric_limits<double>::infinity();
  double max_ = -std::numeric_limits<double>::infinity();
  double sum_ = 0;
  std::uint64_t count_ = 0;
  volume::HounsfieldCounts hounsfield_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ipc::HelperPool>> StartHelpers() {
  ipc::HelperPoolOptions options;
  options.program = ipc::SiblingProgram("tomoserve-dicom");
  return ipc::HelperPool::Start(std::move(options));
}

absl::StatusOr<LocalStudies> LocalStudies::Read(const std::vector<fs::path>& files,
                                                ipc::HelperPool& helpers) {
  LocalStudies local;
  TS_ASSIGN_OR_RETURN(local.spool_, UnlinkedFile());
  std::vector<char> buffer(kCopyBytes);
  std::vector<std::uint32_t> numbers;
  std::vector<ipc::v1::SpoolRange> ranges;
  std::vector<std::string> digests;
  std::uint64_t offset = 0;
  for (std::uint32_t number = 0; number < files.size(); ++number) {
    auto copied = Append(files[number], local.spool_.get(), buffer);
    if (absl::IsNotFound(copied.status())) {
      local.refused_.push_back(
          {files[number], base::ReasonOf(copied.status()), std::string(copied.status().message())});
      continue;
    }
    if (!copied.ok()) return copied.status();
    ipc::v1::SpoolRange range;
    range.set_offset(offset);
    range.set_length(copied->bytes);
    offset += copied->bytes;
    local.files_[number].range = range;
    numbers.push_back(number);
    ranges.push_back(range);
    digests.push_back(std::move(copied->sha256));
  }

  const std::vector<ipc::HeaderResult> headers = helpers.ReadHeaders(local.spool_.get(), ranges);
  std::map<std::string, std::vector<series::Instance>> by_study;
  for (std::size_t n = 0; n < headers.size(); ++n) {
    // The machine's fault, not the file's.
    if (absl::IsUnavailable(headers[n].status())) return headers[n].status();
    if (!headers[n].ok()) {
      local.refused_.push_back({files[numbers[n]], base::ReasonOf(headers[n].status()),
                                std::string(headers[n].status().message())});
      continue;
    }
    File& file = local.files_[numbers[n]];
    file.rows = headers[n]->rows();
    file.columns = headers[n]->columns();
    file.high_throughput = ipc::IsHighThroughput(headers[n]->transfer_syntax_uid());
    series::Instance instance{numbers[n], digests[n], *headers[n]};
    by_study[series::StudyUidOf(instance)].push_back(std::move(instance));
  }
  for (const auto& [uid, instances] : by_study) local.studies_.push_back(series::BuildStudy(instances));
  return local;
}

absl::StatusOr<VoxelStatistics> LocalStudies::Measure(const series::Volume& volume,
                                                      ipc::HelperPool& helpers) const {
  if (!volume.geometry) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "NO_GEOMETRY", "", "the volume has no grid");
  }
  // What was acquired, as it was stored: neither shifted nor interpolated.
  std::vector<const series::VolumeSlice*> slices;
  std::uint64_t slot_bytes = 0;
  for (const series::VolumeSlice& slice : volume.slices) {
    if (slice.synthetic) continue;
    slices.push_back(&slice);
    slot_bytes = std::max<std::uint64_t>(slot_bytes, base::BytesOf(slice.stored_type));
  }
  const std::uint64_t pixels = std::uint64_t{volume.stored_size_ij[0]} * volume.stored_size_ij[1];
  slot_bytes *= pixels;
  const std::uint64_t batch = std::clamp<std::uint64_t>(kDecodeBytes / slot_bytes, 1, kDecodeSlices);

  Measurer measurer;
  for (std::size_t first = 0; first < slices.size(); first += batch) {
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(batch, slices.size() - first));
    TS_ASSIGN_OR_RETURN(const std::unique_ptr<ipc::Arena> arena,
                        ipc::Arena::Create(slot_bytes, count, nullptr));
    std::vector<ipc::HelperPool::Frame> frames;
    for (std::uint32_t n = 0; n < count; ++n) {
      const series::VolumeSlice& slice = *slices[first + n];
      const File& file = files_.at(slice.index);
      frames.push_back({file.range, slice.frame, n, slice.stored_type, file.rows, file.columns, slice.tile,
                        file.high_throughput});
    }
    const std::vector<absl::Status> decoded = helpers.Decode(spool_.get(), frames, *arena);
    for (std::uint32_t n = 0; n < count; ++n) {
      TS_RETURN_IF_ERROR(decoded[n]);
      const series::VolumeSlice& slice = *slices[first + n];
      TS_ASSIGN_OR_RETURN(const ipc::Mapping mapping, arena->Read(n));
      measurer.Add(slice, mapping.bytes().first(pixels * base::BytesOf(slice.stored_type)));
    }
  }
  return measurer.Result();
}

}  // namespace tomoserve::tomoctl
