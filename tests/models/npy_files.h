// .npy files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tomoserve::models {

// A file of version 1.0 with this dictionary and these bytes of data.
inline std::string NpyFile(std::string dictionary, const std::string& data, char major = 1) {
  dictionary.resize((dictionary.size() + 11 + 63) / 64 * 64 - 11, ' ');
  dictionary += '\n';
  std::string file("\x93NUMPY", 6);
  file += major;
  file += '\0';
  file += static_cast<char>(dictionary.size() & 0xFF);
  file += static_cast<char>(dictionary.size() >> 8);
  return file + dictionary + data;
}

inline std::string NpyDictionary(const std::string& type, const std::string& shape,
                                 const std::string& fortran_order = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + fortran_order + ", 'shape': " + shape + ", }";
}

template <typename Value>
std::string BytesOfValues(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

// "(a, b, c)"; int16, uint16 or uint8 by the values' type.
template <typename Value>
std::string NpyOf(const std::vector<Value>& values, const std::string& shape) {
  constexpr bool kSigned = static_cast<Value>(-1) < 0;
  return NpyFile(NpyDictionary(sizeof(Value) == 1 ? "|u1"
                               : kSigned          ? "<i2"
                                                  : "<u2",
                               shape),
                 BytesOfValues(values));
}

}  // namespace tomoserve::models
