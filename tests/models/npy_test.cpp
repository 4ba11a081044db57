#include "tomoserve/models/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "models/npy_files.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models {
namespace {

using ::testing::ElementsAre;

// "CODE" or "CODE(value)" of what ReadNpy says; "" where it reads the file.
std::string ErrorOf(const std::string& file) {
  const auto array = ReadNpy(file);
  if (array.ok()) return "";
  const std::string value = base::ValueOf(array.status());
  return base::ReasonOf(array.status()) + (value.empty() ? "" : "(" + value + ")");
}

TEST(NpyTest, ReadsTypeShapeAndValues) {
  const std::vector<std::int16_t> values{1, -2, 3, -4, 5, -1024};
  const std::string file = NpyOf(values, "(1, 2, 3)");
  const auto array = ReadNpy(file);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->type, NpyType::kI16);
  EXPECT_THAT(array->shape, ElementsAre(1, 2, 3));
  std::vector<std::int16_t> read(6);
  ASSERT_EQ(array->data.size(), 12U);
  std::memcpy(read.data(), array->data.data(), 12);
  EXPECT_EQ(read, values);
  EXPECT_EQ(ReadNpy(NpyOf<std::uint8_t>({1, 2}, "(2,)"))->type, NpyType::kU8);
  EXPECT_EQ(ReadNpy(NpyOf<std::uint16_t>({1, 2}, "(2, 1)"))->type, NpyType::kU16);
}

TEST(NpyTest, ReadsWhatOtherWritersWrite) {
  const std::string data = "ab";
  EXPECT_EQ(ErrorOf(NpyFile(R"({"descr": "|u1", "fortran_order": False, "shape": (2,)})", data)), "");
  EXPECT_EQ(ErrorOf(NpyFile("{'shape':(1,2),'descr':'<u1','fortran_order':False}", data)), "");
}

TEST(NpyTest, SaysWhatItDoesNotRead) {
  const std::string data(24, '\0');
  const auto file = [&](const std::string& type, const std::string& shape, const char* order = "False") {
    return NpyFile(NpyDictionary(type, shape, order), data);
  };
  EXPECT_EQ(ErrorOf(file("<i2", "(2, 6)", "True")), "NPY_ORDER(fortran)");
  EXPECT_EQ(ErrorOf(file("|O", "(3,)")), "NPY_TYPE(|O)") << "objects are programs";
  EXPECT_EQ(ErrorOf(file("<f4", "(6,)")), "NPY_TYPE(<f4)");
  EXPECT_EQ(ErrorOf(file(">i2", "(12,)")), "NPY_TYPE(>i2)");
  EXPECT_EQ(ErrorOf(file("<i2\x01", "(12,)")), "NPY_TYPE") << "only what can be shown is";
  EXPECT_EQ(ErrorOf(NpyFile("{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (12,)}", data)),
            "NPY_TYPE([...])");
  const std::string plain = NpyDictionary("<i2", "(12,)");
  for (const char version : {char{2}, char{3}, char{0}}) {
    EXPECT_EQ(ErrorOf(NpyFile(plain, data, version)), "NPY_VERSION(" + std::to_string(version) + ".0)");
  }
}

TEST(NpyTest, RefusesShapesThatLie) {
  const std::string data(24, '\0');
  const auto error = [&](const std::string& shape) {
    return ErrorOf(NpyFile(NpyDictionary("<i2", shape), data));
  };
  EXPECT_EQ(error("(3, 4)"), "");
  EXPECT_EQ(error("(3, 5)"), "NPY_SIZE(24)");
  EXPECT_EQ(error("(3, 3)"), "NPY_SIZE(24)");
  EXPECT_EQ(error("(12, 0)"), "NPY_SHAPE((12, 0))");
  EXPECT_EQ(error("()"), "NPY_SHAPE(())");
  EXPECT_EQ(error("(12, 1, 1, 1, 1, 1, 1, 1, 1)"), "NPY_SHAPE((12, 1, 1, 1, 1, 1, 1, 1, 1))");
  // 2^64 + 12 values, modulo 2^64.
  EXPECT_EQ(error("(4294967296, 4294967296, 12)"), "NPY_SHAPE((4294967296, 4294967296, 12))");
  EXPECT_EQ(error("(99999999999999999999999,)"), "NPY_SYNTAX(shape)");
  for (const char* shape : {"(-12,)", "(12", "12", "(3 4)", "(3,, 4)", "(3.0, 4)", "[3, 4]", "(0x3, 4)"}) {
    EXPECT_THAT(error(shape), ::testing::StartsWith("NPY_SYNTAX(")) << shape;
  }
}

TEST(NpyTest, RefusesHeadersThatAreNone) {
  const std::string data(2, '\0');
  for (const char* dictionary :
       {"", "{", "{}", "import os", "{'descr': '<i2'}", "{'descr': '<i2', 'fortran_order': False}",
        "{'descr': '<i2', 'descr': '<i2', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i2', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1,)} + {}",
        "{'descr': '<i2' 'fortran_order': False, 'shape': (1,)}", "{'descr': <i2}", "{'descr': '<i2}"}) {
    EXPECT_THAT(ErrorOf(NpyFile(dictionary, data)), ::testing::StartsWith("NPY_SYNTAX(")) << dictionary;
  }
  EXPECT_EQ(ErrorOf("PK\x03\x04"), "NPY_SYNTAX(magic)") << "an .npz";
  EXPECT_EQ(ErrorOf(""), "NPY_SYNTAX(magic)");
}

TEST(NpyTest, AFileThatIsCutAnywhereIsRefused) {
  const std::string file = NpyOf<std::uint16_t>({1, 2, 3, 4, 5, 6}, "(2, 3)");
  ASSERT_EQ(ErrorOf(file), "");
  for (std::size_t length = 0; length < file.size(); ++length) {
    // On a heap of its own, so that reading beyond the end is seen.
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_FALSE(ReadNpy(std::string_view(cut.data(), cut.size())).ok()) << length;
  }
  EXPECT_EQ(ErrorOf(file + '\0'), "NPY_SIZE(13)");
}

TEST(NpyTest, NoByteMakesItSayMoreThanThereIs) {
  const std::string file = NpyOf<std::uint16_t>({1, 2, 3, 4, 5, 6}, "(2, 3)");
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = file;
      changed[at] = static_cast<char>(byte);
      const auto array = ReadNpy(changed);
      if (!array.ok()) continue;
      std::uint64_t values = 1;
      for (const std::uint64_t size : array->shape) values *= size;
      EXPECT_EQ(array->data.size(), values * BytesOf(array->type)) << at << " " << byte;
      EXPECT_LE(array->data.data() + array->data.size(), changed.data() + changed.size());
    }
  }
}

}  // namespace
}  // namespace tomoserve::models
