#include "tomoserve/models/npy.h"

#include <charconv>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kPreamble = 10;  // magic, version, length of the header
constexpr std::size_t kMostAxes = 8;
constexpr std::uint64_t kMostValues = std::uint64_t{1} << 40;
constexpr std::size_t kLongestType = 16;

absl::Status NpyError(std::string_view code, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, code, value, text);
}

absl::Status SyntaxError(std::string_view where) {
  return NpyError("NPY_SYNTAX", where, "no .npy file of version 1.0, or one that ends early");
}

// The header is a dictionary as Python writes it: {'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : rest_(text) {}

  // Whether this comes next, after spaces; it is taken.
  bool Take(char wanted) {
    Skip();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool TakeWord(std::string_view word) {
    Skip();
    if (rest_.substr(0, word.size()) != word) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  // 'text' or "text", without escapes.
  std::optional<std::string_view> TakeText() {
    Skip();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::optional<std::uint64_t> TakeNumber() {
    Skip();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
    if (error != std::errc()) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return number;
  }
  bool AtEnd() {
    Skip();
    return rest_.empty();
  }

 private:
  void Skip() {
    const std::size_t at = rest_.find_first_not_of(" \n");
    rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
  }
  std::string_view rest_;
};

struct Header {
  std::optional<std::string> type;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::uint64_t>> shape;
};

std::optional<std::vector<std::uint64_t>> TakeShape(HeaderReader& reader) {
  if (!reader.Take('(')) return std::nullopt;
  std::vector<std::uint64_t> shape;
  while (!reader.Take(')')) {
    if (!shape.empty() && !reader.Take(',')) return std::nullopt;
    if (!shape.empty() && reader.Take(')')) break;  // (3,)
    const auto size = reader.TakeNumber();
    if (!size || shape.size() >= 64) return std::nullopt;
    shape.push_back(*size);
  }
  return shape;
}

// One of the three keys with its value, each once.
bool TakeEntry(HeaderReader& reader, std::string_view key, Header& header) {
  if (key == "descr" && !header.type) {
    const auto type = reader.TakeText();
    if (type) header.type = std::string(*type);
    return type.has_value();
  }
  if (key == "fortran_order" && !header.fortran_order) {
    const bool is_true = reader.TakeWord("True");
    if (!is_true && !reader.TakeWord("False")) return false;
    header.fortran_order = is_true;
    return true;
  }
  if (key == "shape" && !header.shape) {
    header.shape = TakeShape(reader);
    return header.shape.has_value();
  }
  return false;
}

absl::StatusOr<Header> ReadHeader(std::string_view text) {
  HeaderReader reader(text);
  Header header;
  if (!reader.Take('{')) return SyntaxError("header");
  for (bool closed = reader.Take('}'); !closed;) {
    const auto key = reader.TakeText();
    if (!key || !reader.Take(':')) return SyntaxError("header");
    // A structured type is a list, not a text.
    if (*key == "descr" && reader.Take('[')) {
      return NpyError("NPY_TYPE", "[...]", "a structured type is no type of voxels");
    }
    if (!TakeEntry(reader, *key, header)) {
      return SyntaxError(*key == "descr" || *key == "fortran_order" || *key == "shape" ? *key : "header");
    }
    const bool more = reader.Take(',');
    closed = reader.Take('}');
    if (!more && !closed) return SyntaxError("header");
  }
  if (!reader.AtEnd()) return SyntaxError("header");
  if (!header.type) return SyntaxError("descr");
  if (!header.fortran_order) return SyntaxError("fortran_order");
  if (!header.shape) return SyntaxError("shape");
  return header;
}

absl::StatusOr<NpyType> TypeOf(const std::string& type) {
  if (type == "|u1" || type == "<u1") return NpyType::kU8;
  if (type == "<i2") return NpyType::kI16;
  if (type == "<u2") return NpyType::kU16;
  const bool shown =
      type.size() <= kLongestType && type.find_first_not_of(
                                         "<>|=abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789") == std::string::npos;
  return NpyError("NPY_TYPE", shown ? type : "", "not uint8, int16 or uint16, little-endian");
}

}  // namespace

std::uint32_t BytesOf(NpyType type) { return type == NpyType::kU8 ? 1 : 2; }

absl::StatusOr<NpyArray> ReadNpy(std::string_view file) {
  if (file.substr(0, kMagic.size()) != kMagic) return SyntaxError("magic");
  if (file.size() < kPreamble) return SyntaxError("length");
  const auto byte = [&](std::size_t n) { return static_cast<unsigned char>(file[n]); };
  if (byte(6) != 1 || byte(7) != 0) {
    return NpyError("NPY_VERSION", absl::StrCat(byte(6), ".", byte(7)), "only version 1.0 is read");
  }
  const std::size_t length = byte(8) + std::size_t{256} * byte(9);
  if (file.size() - kPreamble < length) return SyntaxError("length");
  TS_ASSIGN_OR_RETURN(const Header header, ReadHeader(file.substr(kPreamble, length)));
  NpyArray array;
  TS_ASSIGN_OR_RETURN(array.type, TypeOf(*header.type));
  if (*header.fortran_order) {
    return NpyError("NPY_ORDER", "fortran", "the values stand in Fortran's order, not in C's");
  }
  const std::string shown = absl::StrCat("(", absl::StrJoin(*header.shape, ", "), ")");
  std::uint64_t values = 1;
  for (const std::uint64_t size : *header.shape) {
    if (size == 0 || size > kMostValues / values) {
      return NpyError("NPY_SHAPE", shown, "an axis without values, or more values than any volume has");
    }
    values *= size;
  }
  if (header.shape->empty() || header.shape->size() > kMostAxes) {
    return NpyError("NPY_SHAPE", shown, absl::StrCat("from 1 to ", kMostAxes, " axes are read"));
  }
  array.shape = *header.shape;
  array.data = file.substr(kPreamble + length);
  if (array.data.size() != values * BytesOf(array.type)) {
    return NpyError("NPY_SIZE", absl::StrCat(array.data.size()),
                    absl::StrCat("type and shape ask for ", values * BytesOf(array.type), " bytes of data"));
  }
  return array;
}

}  // namespace tomoserve::models
