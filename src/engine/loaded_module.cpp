#include "engine/loaded_module.h"

#include <caffe2/serialize/read_adapter_interface.h>
#include <sys/stat.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "engine/archive_scan.h"
#include "engine/failure.h"
#include "engine/graph_scan.h"
#include "engine/pass_mode.h"
#include "engine/test_pattern.h"
#include "engine/window_shape.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{16} << 30;

absl::Status Unreadable(std::string_view file, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_UNREADABLE", file, text);
}

// A file's bytes in memory of ours: what was hashed is what is loaded, whatever happens to the file
// meanwhile.
class FileInMemory final : public caffe2::serialize::ReadAdapterInterface {
 public:
  static absl::StatusOr<std::shared_ptr<FileInMemory>> Read(int fd, std::string_view name) {
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 ||
        status.st_size > kMaxFileBytes) {
      return Unreadable(name, "not a regular file of a plausible size");
    }
    auto file = std::shared_ptr<FileInMemory>(new FileInMemory(static_cast<std::size_t>(status.st_size)));
    for (std::size_t done = 0; done < file->size_;) {
      const ssize_t got = pread(fd, file->bytes_.get() + done, file->size_ - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return Unreadable(name, "the file ended or could not be read");
      done += static_cast<std::size_t>(got);
    }
    return file;
  }

  std::size_t size() const override { return size_; }
  std::size_t read(std::uint64_t position, void* buffer, std::size_t count, const char*) const override {
    if (position >= size_) return 0;
    count = std::min(count, size_ - static_cast<std::size_t>(position));
    std::memcpy(buffer, bytes_.get() + position, count);
    return count;
  }
  std::string HexDigest() const {
    base::Sha256 digest;
    digest.Update(std::span<const std::byte>(bytes_.get(), size_));
    return digest.HexDigest();
  }

 private:
  explicit FileInMemory(std::size_t size)
      : size_(size), bytes_(std::make_unique_for_overwrite<std::byte[]>(size)) {}
  const std::size_t size_;
  const std::unique_ptr<std::byte[]> bytes_;
};

std::vector<at::Tensor> WeightsOf(const torch::jit::Module& module) {
  std::vector<at::Tensor> weights;
  for (const at::Tensor& tensor : module.parameters(true)) weights.push_back(tensor);
  for (const at::Tensor& tensor : module.buffers(true)) weights.push_back(tensor);
  return weights;
}

std::uint64_t BytesOf(const std::vector<at::Tensor>& weights) {
  std::uint64_t bytes = 0;
  for (const at::Tensor& tensor : weights) bytes += tensor.nbytes();
  return bytes;
}

// Number formats of what is no integer, each once, in the order of their first weights.
std::vector<at::ScalarType> FormatsOf(const std::vector<at::Tensor>& weights) {
  std::vector<at::ScalarType> formats;
  for (const at::Tensor& tensor : weights) {
    const at::ScalarType format = tensor.scalar_type();
    if (!at::isFloatingType(format)) continue;
    if (std::find(formats.begin(), formats.end(), format) == formats.end()) formats.push_back(format);
  }
  return formats;
}

std::string FormatName(at::ScalarType format) {
  switch (format) {
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kDouble:
      return "float64";
    default:
      return absl::AsciiStrToLower(c10::toString(format));
  }
}

std::string FormatNames(const std::vector<at::ScalarType>& formats) {
  if (formats.empty()) return FormatName(at::kFloat);
  std::vector<std::string> names;
  for (const at::ScalarType format : formats) names.push_back(FormatName(format));
  return absl::StrJoin(names, ",");
}

bool IsNarrow(at::ScalarType format) { return format == at::kHalf || format == at::kBFloat16; }

// Constants that are no weights, too: a network holds them as attributes.
void Widen(const torch::jit::Module& module) {
  for (const c10::IValue& attribute : module.attributes(true)) {
    if (!attribute.isTensor()) continue;
    const at::Tensor& tensor = attribute.toTensor();
    if (tensor.defined() && IsNarrow(tensor.scalar_type())) tensor.set_data(tensor.to(at::kFloat));
  }
}

// A module that may not be frozen (it changes its own attributes) stays as it is.
torch::jit::Module Frozen(const torch::jit::Module& module) {
  try {
    return torch::jit::freeze(module, std::nullopt, /*optimize_numerics=*/false);
  } catch (const std::exception&) {
    return module;
  }
}

// How a network is run.
struct Way {
  bool widened = false;
  at::ScalarType input = at::kFloat;
};

std::vector<Way> WaysOf(const std::vector<at::ScalarType>& formats, const ComputeDevice& device) {
  std::vector<Way> ways;
  if (!device.is_cuda() && std::any_of(formats.begin(), formats.end(), IsNarrow)) {
    ways.push_back({.widened = true});
  }
  ways.push_back({});
  for (const at::ScalarType format : formats) {
    if (format != at::kFloat) ways.push_back({.input = format});
  }
  return ways;
}

class Loader {
 public:
  Loader(std::shared_ptr<FileInMemory> file, std::string_view name, const v1::Recipe& recipe,
         std::span<const std::int64_t> window_shape, const ComputeDevice& device)
      : file_(std::move(file)), name_(name), recipe_(recipe), window_shape_(window_shape), device_(device) {}

  absl::StatusOr<LoadedModule> Load() const {
    TS_RETURN_IF_ERROR(ScanArchive(file_));
    const torch::jit::Module stored = Read();
    TS_RETURN_IF_ERROR(ScanGraphs(stored));
    const bool branches_on_values = BranchesOnValues(stored);
    if (!stored.find_method("forward")) return Unreadable(name_, "no method forward");
    const std::vector<at::ScalarType> formats = FormatsOf(WeightsOf(stored));
    const std::vector<Way> ways = WaysOf(formats, device_);
    std::optional<LoadedModule> chosen;
    if (ways.size() == 1) {
      chosen = Make(ways.front(), stored);
    } else {
      TS_ASSIGN_OR_RETURN(chosen, Choose(ways));
    }
    chosen->formats.stored = FormatNames(formats);
    chosen->branches_on_values = branches_on_values;
    return *std::move(chosen);
  }

 private:
  torch::jit::Module Read() const {
    torch::jit::Module module = torch::jit::load(file_, device_.device(), /*load_debug_files=*/false);
    module.eval();
    return module;
  }

  LoadedModule Make(const Way& way, const torch::jit::Module& module) const {
    if (way.widened) Widen(module);
    const std::vector<at::Tensor> weights = WeightsOf(module);
    return {.module = Frozen(module),
            .input = way.input,
            .formats = {"", FormatNames(FormatsOf(weights)), FormatName(way.input)},
            .weight_bytes = BytesOf(weights)};
  }

  absl::StatusOr<LoadedModule> Choose(const std::vector<Way>& ways) const {
    for (const Way& way : ways) {
      LoadedModule module = Make(way, Read());
      const absl::Status status = Try(module);
      if (base::ReasonOf(status) == "OUT_OF_MEMORY") return status;
      if (status.ok()) return module;
    }
    // What it fails for is none of the formats: the plainest way says it best.
    return Make(ways.front().widened ? ways.front() : ways.back(), Read());
  }

  absl::Status Try(const LoadedModule& module) const {
    const auto attempt = [&]() -> absl::StatusOr<bool> {
      try {
        const PassMode mode(recipe_, device_);
        const at::Tensor window = TestPattern(window_shape_, 0.37).to(device_.device());
        module.module.get_method("forward")({module.OwnInput(window)});
        device_.Synchronise();
        return true;
      } catch (...) {
        return CurrentException(absl::StatusCode::kInvalidArgument, "MODEL_SHAPE", ShapeText(window_shape_),
                                "the network does not run in this number format");
      }
    };
    if (!device_.is_cuda()) return attempt().status();
    return WithinMemory(
               attempt, [&] { device_.FreeCache(); }, [&] { return device_.IsMemoryLow(); })
        .status();
  }

  const std::shared_ptr<FileInMemory> file_;
  const std::string_view name_;
  const v1::Recipe& recipe_;
  const std::span<const std::int64_t> window_shape_;
  const ComputeDevice& device_;
};

}  // namespace

at::Tensor LoadedModule::OwnInput(const at::Tensor& window) const {
  return input == window.scalar_type() ? window.clone() : window.to(input);
}

absl::StatusOr<LoadedModule> LoadModule(int fd, std::string_view name, std::string_view sha256,
                                        const v1::Recipe& recipe, std::span<const std::int64_t> window_shape,
                                        const ComputeDevice& device) {
  try {
    TS_ASSIGN_OR_RETURN(std::shared_ptr<FileInMemory> file, FileInMemory::Read(fd, name));
    if (file->HexDigest() != sha256) {
      return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_DIGEST_MISMATCH", name,
                         "the file is not the one that was announced");
    }
    return Loader(std::move(file), name, recipe, window_shape, device).Load();
  } catch (...) {
    return CurrentException(absl::StatusCode::kInvalidArgument, "MODEL_UNREADABLE", name,
                            "no TorchScript archive that this version reads");
  }
}

}  // namespace tomoserve::engine
