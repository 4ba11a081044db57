#include "store/sqlite/tokens.h"

#include "absl/strings/escaping.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::store {
namespace {

constexpr char kCursorKind = 'c';
constexpr char kPageKind = 'p';
constexpr std::size_t kEpochBytes = 16;
constexpr std::size_t kFilterBytes = 8;

void AppendNumber(std::string& bytes, std::int64_t number) {
  const auto value = static_cast<std::uint64_t>(number);
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>((value >> shift) & 0xFF));
}

// Takes numbers and bytes from the front; `ok` stays false once there were too few.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::int64_t Number() {
    std::uint64_t value = 0;
    for (const char byte : Take(8)) value = value << 8 | static_cast<unsigned char>(byte);
    return static_cast<std::int64_t>(value);
  }
  std::string Hex(std::size_t size) { return absl::BytesToHexString(base::ToAbsl(Take(size))); }
  std::string_view Rest() { return Take(bytes_.size()); }
  std::string_view Take(std::size_t size) {
    if (bytes_.size() < size) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

void AppendPosition(std::string& bytes, const FeedPosition& position) {
  bytes += absl::HexStringToBytes(position.epoch);
  AppendNumber(bytes, position.position);
  AppendNumber(bytes, position.tag);
}

FeedPosition ReadPosition(Reader& reader) {
  FeedPosition position;
  position.epoch = reader.Hex(kEpochBytes);
  position.position = reader.Number();
  position.tag = reader.Number();
  return position;
}

// The bytes behind the kind's letter.
std::optional<std::string> Unwrap(std::string_view text, char kind) {
  std::string bytes;
  if (!absl::WebSafeBase64Unescape(base::ToAbsl(text), &bytes) || bytes.empty() || bytes[0] != kind ||
      absl::WebSafeBase64Escape(bytes) != text) {
    return std::nullopt;
  }
  return bytes.substr(1);
}

}  // namespace

std::string EncodeCursor(const FeedPosition& position) {
  std::string bytes(1, kCursorKind);
  AppendPosition(bytes, position);
  return absl::WebSafeBase64Escape(bytes);
}

std::optional<FeedPosition> DecodeCursor(std::string_view cursor) {
  const std::optional<std::string> bytes = Unwrap(cursor, kCursorKind);
  if (!bytes) return std::nullopt;
  Reader reader(*bytes);
  FeedPosition position = ReadPosition(reader);
  if (!reader.done() || position.position < 0) return std::nullopt;
  return position;
}

std::string EncodePageToken(const PagePosition& page) {
  std::string bytes(1, kPageKind);
  AppendPosition(bytes, page.snapshot);
  bytes += absl::HexStringToBytes(page.filter);
  AppendNumber(bytes, page.last.rank);
  AppendNumber(bytes, page.last.time_us);
  bytes += page.last_run_id;
  return absl::WebSafeBase64Escape(bytes);
}

std::optional<PagePosition> DecodePageToken(std::string_view token) {
  const std::optional<std::string> bytes = Unwrap(token, kPageKind);
  if (!bytes) return std::nullopt;
  Reader reader(*bytes);
  PagePosition page;
  page.snapshot = ReadPosition(reader);
  page.filter = reader.Hex(kFilterBytes);
  page.last.rank = static_cast<int>(reader.Number());
  page.last.time_us = reader.Number();
  page.last_run_id = std::string(reader.Rest());
  if (!reader.done() || page.snapshot.position < 0) return std::nullopt;
  return page;
}

}  // namespace tomoserve::store
