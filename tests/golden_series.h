// Series that golden cases were made from, beyond what golden_case.h reads: explicit little-endian slices in
// an archive (.tar.gz), and slices in JPEG 2000. Single-frame files only.
#pragma once

#include <openjpeg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "golden_case.h"

namespace tomoserve::testing {

// What lies in a file of .gz.
inline std::string Gunzip(const std::string& packed) {
  std::string out;
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) throw std::runtime_error("zlib");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::vector<char> buffer(std::size_t{1} << 20);
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    result = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (result != Z_STREAM_END) throw std::runtime_error("broken gzip file");
  return out;
}

// The regular files of a tar archive.
inline std::vector<std::string> FilesOfTar(const std::string& tar) {
  constexpr std::size_t kBlock = 512;
  std::vector<std::string> files;
  for (std::size_t at = 0; at + kBlock <= tar.size() && tar[at] != '\0';) {
    const std::size_t size = std::stoul(tar.substr(at + 124, 12), nullptr, 8);
    if (tar[at + 156] == '0' || tar[at + 156] == '\0') files.push_back(tar.substr(at + kBlock, size));
    at += kBlock + (size + kBlock - 1) / kBlock * kBlock;
  }
  return files;
}

// Samples of a grey codestream as 16 bit little-endian.
inline std::string DecodeJpeg2000(const std::string& codestream) {
  const int fd = memfd_create("codestream", MFD_CLOEXEC);
  if (fd < 0 || write(fd, codestream.data(), codestream.size()) != static_cast<ssize_t>(codestream.size())) {
    throw std::runtime_error("memfd");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const std::unique_ptr<opj_stream_t, void (*)(opj_stream_t*)> stream(
      opj_stream_create_default_file_stream(path.c_str(), OPJ_TRUE),
      [](opj_stream_t* s) { opj_stream_destroy(s); });
  const std::unique_ptr<opj_codec_t, void (*)(opj_codec_t*)> codec(
      opj_create_decompress(OPJ_CODEC_J2K), [](opj_codec_t* c) { opj_destroy_codec(c); });
  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  opj_image_t* decoded = nullptr;
  const bool ok = stream != nullptr && opj_setup_decoder(codec.get(), &parameters) == OPJ_TRUE &&
                  opj_read_header(stream.get(), codec.get(), &decoded) == OPJ_TRUE &&
                  opj_decode(codec.get(), stream.get(), decoded) == OPJ_TRUE;
  const std::unique_ptr<opj_image_t, void (*)(opj_image_t*)> image(
      decoded, [](opj_image_t* i) { opj_image_destroy(i); });
  close(fd);
  if (!ok) throw std::runtime_error("broken codestream");
  std::string samples;
  for (std::size_t n = 0; n < std::size_t{image->comps[0].w} * image->comps[0].h; ++n) {
    const auto sample = static_cast<std::uint16_t>(image->comps[0].data[n]);
    samples.push_back(static_cast<char>(sample & 0xff));
    samples.push_back(static_cast<char>(sample >> 8));
  }
  return samples;
}

struct StackSlice {
  std::array<double, 3> position_lps{};
  double slope = 1;
  double intercept = 0;
  std::string stored;  // rows x columns, 16 bit unsigned
};

inline std::vector<double> Numbers(const std::string& value) {
  std::vector<double> numbers;
  for (std::size_t at = 0; at < value.size(); at = value.find('\\', at) + 1) {
    numbers.push_back(std::stod(value.substr(at)));
    if (value.find('\\', at) == std::string::npos) break;
  }
  return numbers;
}

// A file in explicit little-endian, its pixels plain or one JPEG 2000 codestream.
inline StackSlice ReadStackSlice(const std::string& file) {
  StackSlice slice;
  bool encapsulated = false;
  for (std::size_t at = 132; at + 8 <= file.size();) {
    const std::uint32_t tag = std::uint32_t{LittleEndian<std::uint16_t>(file, at)} << 16 |
                              LittleEndian<std::uint16_t>(file, at + 2);
    if (tag == 0xfffee000) {  // a fragment: the first of them is the table of offsets
      const auto size = LittleEndian<std::uint32_t>(file, at + 4);
      if (encapsulated) slice.stored += file.substr(at + 8, size);
      encapsulated = true;
      at += 8 + size;
      continue;
    }
    if (tag == 0xfffee0dd) break;
    const std::string vr = file.substr(at + 4, 2);
    const bool is_long = std::string("OB OD OF OL OW SQ UC UN UR UT").find(vr) != std::string::npos;
    const std::size_t size =
        is_long ? LittleEndian<std::uint32_t>(file, at + 8) : LittleEndian<std::uint16_t>(file, at + 6);
    at += is_long ? 12 : 8;
    if (size == 0xffffffff) {
      if (tag != 0x7fe00010) throw std::runtime_error("a sequence of unknown length");
      continue;
    }
    const std::string value = file.substr(at, size);
    at += size;
    if (tag == 0x00200032) std::copy_n(Numbers(value).begin(), 3, slice.position_lps.begin());
    if (tag == 0x00281052) slice.intercept = std::stod(value);
    if (tag == 0x00281053) slice.slope = std::stod(value);
    if (tag == 0x7fe00010) slice.stored = value;
  }
  if (encapsulated) slice.stored = DecodeJpeg2000(slice.stored);
  return slice;
}

// Slices ascending along `direction_k`.
inline std::vector<StackSlice> ReadStack(const std::vector<std::string>& files,
                                         const std::array<double, 3>& direction_k) {
  std::vector<StackSlice> slices;
  for (const std::string& file : files) slices.push_back(ReadStackSlice(file));
  const auto along = [&](const StackSlice& slice) {
    double sum = 0;
    for (std::size_t a = 0; a < 3; ++a) sum += slice.position_lps[a] * direction_k[a];
    return sum;
  };
  std::sort(slices.begin(), slices.end(),
            [&](const StackSlice& a, const StackSlice& b) { return along(a) < along(b); });
  return slices;
}

inline std::vector<std::string> FilesOfFolder(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(ReadFile(entry.path()));
  }
  return files;
}

}  // namespace tomoserve::testing
