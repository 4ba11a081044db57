#include "dicom/jpeg2000.h"

#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "dicom/errors.h"

namespace tomoserve::dicom {
namespace {

struct CloseStream {
  void operator()(opj_stream_t* stream) const { opj_stream_destroy(stream); }
};
struct CloseCodec {
  void operator()(opj_codec_t* codec) const { opj_destroy_codec(codec); }
};
struct CloseImage {
  void operator()(opj_image_t* image) const { opj_image_destroy(image); }
};
using Stream = std::unique_ptr<opj_stream_t, CloseStream>;
using CodecHandle = std::unique_ptr<opj_codec_t, CloseCodec>;
using Image = std::unique_ptr<opj_image_t, CloseImage>;

constexpr auto kEndOfStream = static_cast<OPJ_SIZE_T>(-1);

struct Reader {
  std::span<const std::byte> bytes;
  std::size_t at = 0;
};

OPJ_SIZE_T Read(void* buffer, OPJ_SIZE_T count, void* user) {
  auto& reader = *static_cast<Reader*>(user);
  const std::size_t n = std::min(count, reader.bytes.size() - reader.at);
  if (n == 0) return kEndOfStream;
  std::memcpy(buffer, reader.bytes.data() + reader.at, n);
  reader.at += n;
  return n;
}

OPJ_OFF_T SkipRead(OPJ_OFF_T count, void* user) {
  auto& reader = *static_cast<Reader*>(user);
  if (count < 0) return -1;
  const std::size_t n = std::min(static_cast<std::size_t>(count), reader.bytes.size() - reader.at);
  reader.at += n;
  return static_cast<OPJ_OFF_T>(n);
}

OPJ_BOOL SeekRead(OPJ_OFF_T offset, void* user) {
  auto& reader = *static_cast<Reader*>(user);
  if (offset < 0 || static_cast<std::size_t>(offset) > reader.bytes.size()) return OPJ_FALSE;
  reader.at = static_cast<std::size_t>(offset);
  return OPJ_TRUE;
}

struct Writer {
  std::vector<std::byte> bytes;
  std::size_t at = 0;

  // The encoder goes back to fill lengths in.
  void Reach(std::size_t end) {
    if (bytes.size() < end) bytes.resize(end);
  }
};

OPJ_SIZE_T Write(void* buffer, OPJ_SIZE_T count, void* user) {
  auto& writer = *static_cast<Writer*>(user);
  writer.Reach(writer.at + count);
  std::memcpy(writer.bytes.data() + writer.at, buffer, count);
  writer.at += count;
  return count;
}

OPJ_OFF_T SkipWrite(OPJ_OFF_T count, void* user) {
  auto& writer = *static_cast<Writer*>(user);
  if (count < 0) return -1;
  writer.at += static_cast<std::size_t>(count);
  writer.Reach(writer.at);
  return count;
}

OPJ_BOOL SeekWrite(OPJ_OFF_T offset, void* user) {
  auto& writer = *static_cast<Writer*>(user);
  if (offset < 0) return OPJ_FALSE;
  writer.at = static_cast<std::size_t>(offset);
  writer.Reach(writer.at);
  return OPJ_TRUE;
}

absl::Status BrokenStream(std::string_view text) { return Refuse("CODESTREAM_BROKEN", "", text); }

absl::Status EncodeFailed() {
  return base::Error(absl::StatusCode::kInternal, "ENCODE_FAILED", "", "OpenJPEG could not encode the image");
}

}  // namespace

absl::Status DecodeJpeg2000(std::span<const std::byte> codestream, std::span<std::int32_t> samples) {
  Reader reader{codestream};
  // The buffer is allocated up front: no larger than the stream.
  const std::size_t buffer = std::clamp<std::size_t>(codestream.size(), 4096, 1 << 20);
  const Stream stream(opj_stream_create(buffer, OPJ_TRUE));
  const CodecHandle codec(opj_create_decompress(OPJ_CODEC_J2K));
  if (!stream || !codec) throw std::bad_alloc();
  opj_stream_set_read_function(stream.get(), Read);
  opj_stream_set_skip_function(stream.get(), SkipRead);
  opj_stream_set_seek_function(stream.get(), SeekRead);
  opj_stream_set_user_data(stream.get(), &reader, nullptr);
  opj_stream_set_user_data_length(stream.get(), codestream.size());

  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  if (!opj_setup_decoder(codec.get(), &parameters)) return BrokenStream("OpenJPEG refused its set-up");
  opj_image_t* raw = nullptr;
  const bool header_read = opj_read_header(stream.get(), codec.get(), &raw);
  const Image image(raw);
  if (!header_read || !image) return BrokenStream("the JPEG 2000 header is broken");
  if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get())) {
    return BrokenStream("the JPEG 2000 codestream is broken or cut off");
  }
  if (image->numcomps != 1 || image->comps[0].data == nullptr ||
      std::uint64_t{image->comps[0].w} * image->comps[0].h != samples.size()) {
    return BrokenStream("the JPEG 2000 codestream decoded to another size");
  }
  std::copy_n(image->comps[0].data, samples.size(), samples.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> EncodeJpeg2000(std::span<const std::int32_t> samples,
                                                      std::uint32_t rows, std::uint32_t columns,
                                                      std::uint32_t bits_stored, bool is_signed) {
  opj_image_cmptparm_t component{};
  component.dx = 1;
  component.dy = 1;
  component.w = columns;
  component.h = rows;
  component.prec = bits_stored;
  component.sgnd = is_signed ? 1 : 0;
  const Image image(opj_image_create(1, &component, OPJ_CLRSPC_GRAY));
  if (!image) throw std::bad_alloc();
  image->x1 = columns;
  image->y1 = rows;
  std::copy(samples.begin(), samples.end(), image->comps[0].data);

  opj_cparameters_t parameters;
  opj_set_default_encoder_parameters(&parameters);
  parameters.cod_format = 0;
  parameters.tcp_numlayers = 1;
  parameters.tcp_rates[0] = 0;  // lossless
  parameters.cp_disto_alloc = 1;
  parameters.irreversible = 0;
  // Each resolution halves the image; none may vanish.
  parameters.numresolution = 1;
  for (std::uint32_t side = std::min(rows, columns); side > 1 && parameters.numresolution < 6; side /= 2) {
    ++parameters.numresolution;
  }
  Writer writer;
  const CodecHandle codec(opj_create_compress(OPJ_CODEC_J2K));
  const Stream stream(opj_stream_create(1 << 16, OPJ_FALSE));
  if (!codec || !stream) throw std::bad_alloc();
  opj_stream_set_write_function(stream.get(), Write);
  opj_stream_set_skip_function(stream.get(), SkipWrite);
  opj_stream_set_seek_function(stream.get(), SeekWrite);
  opj_stream_set_user_data(stream.get(), &writer, nullptr);
  if (!opj_setup_encoder(codec.get(), &parameters, image.get()) ||
      !opj_start_compress(codec.get(), image.get(), stream.get()) || !opj_encode(codec.get(), stream.get()) ||
      !opj_end_compress(codec.get(), stream.get())) {
    return EncodeFailed();
  }
  return std::move(writer.bytes);
}

}  // namespace tomoserve::dicom
