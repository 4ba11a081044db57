#include "dicom/htj2k.h"

#include <openjph/ojph_arch.h>
#include <openjph/ojph_codestream.h>
#include <openjph/ojph_file.h>
#include <openjph/ojph_mem.h>
#include <openjph/ojph_message.h>
#include <openjph/ojph_params.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "dicom/errors.h"

namespace tomoserve::dicom {
namespace {

// A codestream in memory. Reading stops at its end; no position lies outside of it.
class Source final : public ojph::infile_base {
 public:
  explicit Source(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t read(void* out, std::size_t count) override {
    const std::size_t n = std::min(count, bytes_.size() - at_);
    is_short_ = is_short_ || n < count;
    std::memcpy(out, bytes_.data() + at_, n);
    at_ += n;
    return n;
  }
  int seek(ojph::si64 offset, enum seek origin) override {
    const auto size = static_cast<ojph::si64>(bytes_.size());
    const ojph::si64 base = origin == OJPH_SEEK_SET   ? 0
                            : origin == OJPH_SEEK_CUR ? static_cast<ojph::si64>(at_)
                                                      : size;
    if (offset < -base || offset > size - base) return -1;
    at_ = static_cast<std::size_t>(base + offset);
    return 0;
  }
  ojph::si64 tell() override { return static_cast<ojph::si64>(at_); }
  bool eof() override { return at_ == bytes_.size(); }
  // More was asked for than there is: the library goes on without it.
  bool is_short() const { return is_short_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  bool is_short_ = false;
};

}  // namespace

absl::Status DecodeHtj2k(std::span<const std::byte> codestream, const CodestreamInfo& info,
                         std::span<std::int32_t> samples) {
  Source source(codestream);
  ojph::codestream decoder;
  decoder.read_headers(&source);
  const ojph::param_siz size = decoder.access_siz();
  if (size.get_num_components() != 1 || size.get_recon_width(0) != info.width ||
      size.get_recon_height(0) != info.height || samples.size() != std::size_t{info.width} * info.height) {
    return Refuse("CODESTREAM_BROKEN", "", "the HTJ2K codestream has another size than its header");
  }
  decoder.create();
  // Lossy wavelets overshoot.
  const std::int32_t low = info.is_signed ? -(1 << (info.precision - 1)) : 0;
  const std::int32_t high = low + (1 << info.precision) - 1;
  std::int32_t* out = samples.data();
  for (std::uint32_t row = 0; row < info.height; ++row, out += info.width) {
    ojph::ui32 component = 0;
    const ojph::line_buf* line = decoder.pull(component);
    if (line == nullptr || line->size < info.width) {
      return Refuse("CODESTREAM_BROKEN", row, "the HTJ2K codestream is cut off");
    }
    std::transform(line->i32, line->i32 + info.width, out,
                   [&](std::int32_t value) { return std::clamp(value, low, high); });
  }
  decoder.close();
  if (source.is_short()) return Refuse("CODESTREAM_BROKEN", "", "the HTJ2K codestream is cut off");
  return absl::OkStatus();
}

std::vector<std::byte> EncodeHtj2k(std::span<const std::int32_t> samples, std::uint32_t rows,
                                   std::uint32_t columns, std::uint32_t bits_stored, bool is_signed) {
  ojph::codestream encoder;
  ojph::param_siz size = encoder.access_siz();
  size.set_image_extent(ojph::point(columns, rows));
  size.set_num_components(1);
  size.set_component(0, ojph::point(1, 1), bits_stored, is_signed);
  ojph::param_cod style = encoder.access_cod();
  style.set_reversible(true);
  style.set_color_transform(false);
  // Each decomposition halves the image; none may vanish.
  std::uint32_t decompositions = 0;
  for (std::uint32_t side = std::min(rows, columns); side > 1 && decompositions < 5; side /= 2)
    ++decompositions;
  style.set_num_decomposition(decompositions);
  encoder.set_planar(true);
  ojph::mem_outfile file;
  file.open();
  encoder.write_headers(&file);
  ojph::ui32 component = 0;
  ojph::line_buf* line = encoder.exchange(nullptr, component);
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::copy_n(samples.data() + std::size_t{row} * columns, columns, line->i32);
    line = encoder.exchange(line, component);
  }
  encoder.flush();
  const auto* begin = reinterpret_cast<const std::byte*>(file.get_data());
  std::vector<std::byte> bytes(begin, begin + file.tell());
  encoder.close();
  return bytes;
}

void SilenceHtj2k() {
  // OpenJPH 0.9 prints each message, even into a null stream, and configure_error() has no effect: it gets a
  // stream that swallows everything without a system call, for the rest of the process.
  const auto swallow = [](void*, const char*, std::size_t count) { return static_cast<ssize_t>(count); };
  static std::FILE* const nowhere =
      ::fopencookie(nullptr, "w", {.read = nullptr, .write = swallow, .seek = nullptr, .close = nullptr});
  ojph::set_info_stream(nowhere);
  ojph::set_warning_stream(nowhere);
  ojph::set_error_stream(nowhere);
}

}  // namespace tomoserve::dicom
