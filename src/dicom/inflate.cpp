#include "dicom/inflate.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "dicom/errors.h"
#include "dicom/tags.h"
#include "dicom/tokenizer.h"
#include "dicom/values.h"

namespace tomoserve::dicom {
namespace {

constexpr std::size_t kPreambleBytes = 128;
constexpr std::string_view kMagic = "DICM";
constexpr std::uint64_t kMaxRatio = 100;
constexpr std::size_t kFirstBytes = 256 * 1024;
// A bare deflate stream (RFC 1951) with the largest window.
constexpr int kRawWindowBits = -15;

// Remembers the transfer syntax of a meta header.
class SyntaxSink : public TokenSink {
 public:
  absl::Status Element(std::span<const Step> path, std::uint32_t element, ByteRange value, bool) override {
    if (path.empty() && element == tag::kTransferSyntaxUid) syntax_ = value;
    return absl::OkStatus();
  }
  absl::Status Fragment(std::span<const Step>, std::uint32_t, std::uint32_t, ByteRange) override {
    return absl::OkStatus();
  }
  std::string_view In(std::span<const std::byte> file) const {
    return Trim({reinterpret_cast<const char*>(file.data()) + syntax_.offset, syntax_.length});
  }

 private:
  ByteRange syntax_;
};

// Where the deflated dataset of a file begins; 0 if it has none.
std::uint64_t DeflatedStart(std::span<const std::byte> file, const Limits& limits) {
  if (file.size() < kPreambleBytes + kMagic.size()) return 0;
  const std::string_view magic(reinterpret_cast<const char*>(file.data()) + kPreambleBytes, kMagic.size());
  if (magic != kMagic) return 0;
  SyntaxSink sink;
  const auto start = Tokenizer(file, limits, sink).Run(kPreambleBytes + kMagic.size(), {}, 0x0002);
  return start.ok() && sink.In(file) == kDeflated ? *start : 0;
}

struct EndInflate {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};

}  // namespace

absl::StatusOr<std::optional<std::vector<std::byte>>> Inflate(std::span<const std::byte> file,
                                                              const Limits& limits) {
  if (!limits.deflated || file.size() > limits.instance_bytes) return std::nullopt;
  const std::uint64_t start = DeflatedStart(file, limits);
  if (start == 0) return std::nullopt;
  const std::uint64_t limit = std::min(limits.instance_bytes, file.size() * kMaxRatio);

  std::unique_ptr<z_stream, EndInflate> stream(new z_stream{});
  if (inflateInit2(stream.get(), kRawWindowBits) != Z_OK) throw std::bad_alloc();
  // At most 2 GiB (LimitsFrom), so that zlib's counters hold it.
  const std::span<const std::byte> deflated = file.subspan(start);
  stream->next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(deflated.data()));
  stream->avail_in = static_cast<uInt>(deflated.size());
  std::vector<std::byte> plain(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(start));
  std::size_t filled = plain.size();
  while (true) {
    if (filled == plain.size()) {
      if (filled >= limit) {
        return Refuse("INFLATED_TOO_LARGE", limit, "the deflated dataset is larger than the limit");
      }
      plain.resize(std::min<std::uint64_t>(limit, std::max(filled * 2, kFirstBytes)));
    }
    const std::size_t room = std::min<std::size_t>(plain.size() - filled, 1u << 30);
    stream->next_out = reinterpret_cast<Bytef*>(plain.data() + filled);
    stream->avail_out = static_cast<uInt>(room);
    const int result = inflate(stream.get(), Z_NO_FLUSH);
    filled += room - stream->avail_out;
    const std::uint64_t at = start + deflated.size() - stream->avail_in;
    if (result == Z_STREAM_END) break;
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result != Z_OK && result != Z_BUF_ERROR) {
      return Refuse("MALFORMED", at, "the deflated dataset is broken");
    }
    if (stream->avail_in == 0 && stream->avail_out > 0) {
      return Refuse("TRUNCATED", at, "the deflated dataset is cut off");
    }
  }
  plain.resize(filled);
  return std::optional(std::move(plain));
}

}  // namespace tomoserve::dicom
