// Reads the golden cases and the uncompressed CT series that they were made from. Only what these files need:
// NumPy's .npz (zip with stored or deflated members, little-endian C order) and implicit little-endian DICOM.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace tomoserve::testing {

inline std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Value>
Value LittleEndian(const std::string& bytes, std::size_t at) {
  Value value;
  if (at + sizeof(value) > bytes.size()) throw std::runtime_error("truncated file");
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// An array of an .npz file.
struct NpyArray {
  std::string type;  // NumPy's descr, e.g. "<f4"
  std::vector<std::int64_t> shape;
  std::string bytes;

  template <typename Value>
  std::vector<Value> As() const {
    std::vector<Value> values(bytes.size() / sizeof(Value));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Value));
    return values;
  }
};

inline NpyArray ParseNpy(const std::string& file) {
  const std::size_t header_size = LittleEndian<std::uint16_t>(file, 8);
  const std::string header = file.substr(10, header_size);
  NpyArray array;
  const std::size_t type = header.find("'descr': '") + 10;
  array.type = header.substr(type, header.find('\'', type) - type);
  const std::size_t open = header.find('(');
  const char* at = header.c_str() + open + 1;
  while (*at != ')') {
    char* end = nullptr;
    const long size = std::strtol(at, &end, 10);
    if (end == at) {
      ++at;
      continue;
    }
    array.shape.push_back(size);
    at = end;
  }
  array.bytes = file.substr(10 + header_size);
  return array;
}

inline std::string Inflate(const std::string& deflated, std::size_t size) {
  std::string out(size, '\0');
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw std::runtime_error("zlib");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(deflated.data()));
  stream.avail_in = static_cast<uInt>(deflated.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (result != Z_STREAM_END) throw std::runtime_error("broken zip member");
  return out;
}

inline std::map<std::string, NpyArray> ReadNpz(const std::filesystem::path& path) {
  const std::string file = ReadFile(path);
  const std::size_t end = file.rfind("PK\x05\x06");
  if (end == std::string::npos) throw std::runtime_error("no zip file: " + path.string());
  std::size_t at = LittleEndian<std::uint32_t>(file, end + 16);
  std::map<std::string, NpyArray> arrays;
  for (std::uint16_t left = LittleEndian<std::uint16_t>(file, end + 10); left > 0; --left) {
    const auto method = LittleEndian<std::uint16_t>(file, at + 10);
    const auto packed = LittleEndian<std::uint32_t>(file, at + 20);
    const auto size = LittleEndian<std::uint32_t>(file, at + 24);
    const auto name_size = LittleEndian<std::uint16_t>(file, at + 28);
    const std::string name = file.substr(at + 46, name_size);
    const std::size_t local = LittleEndian<std::uint32_t>(file, at + 42);
    const std::size_t data = local + 30 + LittleEndian<std::uint16_t>(file, local + 26) +
                             LittleEndian<std::uint16_t>(file, local + 28);
    const std::string member = file.substr(data, packed);
    arrays[name.substr(0, name.find(".npy"))] = ParseNpy(method == 0 ? member : Inflate(member, size));
    at += 46u + name_size + LittleEndian<std::uint16_t>(file, at + 30) +
          LittleEndian<std::uint16_t>(file, at + 32);
  }
  return arrays;
}

// Slice of an uncompressed, implicit little-endian CT series.
struct CtSlice {
  double z_mm = 0;
  double slope = 1;
  double intercept = 0;
  std::string stored;  // rows x columns, 16 bit unsigned
};

inline CtSlice ReadCtSlice(const std::filesystem::path& path) {
  const std::string file = ReadFile(path);
  CtSlice slice;
  // The file meta group is explicit little-endian and begins with its own length.
  std::size_t at = 132 + 12 + LittleEndian<std::uint32_t>(file, 140);
  while (at + 8 <= file.size()) {
    const std::uint32_t tag = std::uint32_t{LittleEndian<std::uint16_t>(file, at)} << 16 |
                              LittleEndian<std::uint16_t>(file, at + 2);
    const auto size = LittleEndian<std::uint32_t>(file, at + 4);
    at += 8;
    if (size == 0xffffffff || tag == 0xfffee000) continue;  // walk into sequences and items
    const std::string value = file.substr(at, size);
    at += size;
    if (tag == 0x00200032) slice.z_mm = std::stod(value.substr(value.rfind('\\') + 1));
    if (tag == 0x00281052) slice.intercept = std::stod(value);
    if (tag == 0x00281053) slice.slope = std::stod(value);
    if (tag == 0x7fe00010) slice.stored = value;
  }
  return slice;
}

// Slices of an axial series, ascending z.
inline std::vector<CtSlice> ReadCtSeries(const std::filesystem::path& folder) {
  std::vector<CtSlice> slices;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".dcm") slices.push_back(ReadCtSlice(entry.path()));
  }
  std::sort(slices.begin(), slices.end(), [](const CtSlice& a, const CtSlice& b) { return a.z_mm < b.z_mm; });
  return slices;
}

}  // namespace tomoserve::testing
