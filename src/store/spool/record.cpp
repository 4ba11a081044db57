#include "store/spool/record.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "store/files.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::store {
namespace {

constexpr std::string_view kMagic = "TSPL";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kCheckedBytes = 16;

void AppendNumber(std::string& bytes, std::uint64_t number, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>((number >> (8 * i)) & 0xFF));
}

std::uint64_t NumberAt(std::string_view bytes, std::size_t offset, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = size; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return number;
}

std::string Check(std::string_view bytes) {
  return absl::HexStringToBytes(base::Sha256Hex(bytes)).substr(0, kHeaderBytes - kCheckedBytes);
}

absl::StatusOr<std::string> PayloadDigest(int fd, std::uint64_t offset, std::uint64_t length) {
  constexpr std::uint64_t kPiece = 1 << 20;
  base::Sha256 hash;
  while (length > 0) {
    const std::uint64_t size = std::min(kPiece, length);
    TS_ASSIGN_OR_RETURN(const std::string piece, ReadAt(fd, offset, size));
    if (piece.size() != size) return std::string();  // the file shrank under us
    hash.Update(piece);
    offset += size;
    length -= size;
  }
  return hash.HexDigest();
}

}  // namespace

std::string EncodeHead(std::string_view key, std::uint64_t payload_bytes) {
  std::string head(kMagic);
  AppendNumber(head, kVersion, 2);
  AppendNumber(head, key.size(), 2);
  AppendNumber(head, payload_bytes, 8);
  head += Check(head);
  head += key;
  return head;
}

std::string EncodeTrailer(std::string_view head, std::string_view payload_sha256) {
  return absl::HexStringToBytes(base::ToAbsl(payload_sha256)) + Check(head);
}

absl::StatusOr<Records> ReadRecords(int fd) {
  TS_ASSIGN_OR_RETURN(const std::uint64_t size, SizeOf(fd));
  Records records;
  while (records.end < size) {
    TS_ASSIGN_OR_RETURN(const std::string bytes, ReadAt(fd, records.end, kHeaderBytes + kMaxKeyBytes));
    const std::string_view head(bytes);
    if (head.size() < kHeaderBytes) return records;
    const std::uint64_t key_bytes = NumberAt(head, 6, 2);
    const std::uint64_t payload_bytes = NumberAt(head, 8, 8);
    records.damaged = true;  // until the record is proved whole or merely cut off
    if (Check(head.substr(0, kCheckedBytes)) != head.substr(kCheckedBytes, kHeaderBytes - kCheckedBytes) ||
        head.substr(0, 4) != kMagic || NumberAt(head, 4, 2) != kVersion || key_bytes == 0 ||
        key_bytes > kMaxKeyBytes || payload_bytes > kMaxPayloadBytes) {
      return records;
    }
    const std::uint64_t payload = records.end + kHeaderBytes + key_bytes;
    if (payload + payload_bytes + kTrailerBytes > size) {
      records.damaged = false;
      return records;
    }
    TS_ASSIGN_OR_RETURN(const std::string trailer, ReadAt(fd, payload + payload_bytes, kTrailerBytes));
    TS_ASSIGN_OR_RETURN(std::string digest, PayloadDigest(fd, payload, payload_bytes));
    if (EncodeTrailer(head.substr(0, kHeaderBytes + key_bytes), digest) != trailer) return records;
    const std::string_view key = head.substr(kHeaderBytes, key_bytes);
    records.whole.push_back({.instance_key = std::string(key),
                             .offset = payload,
                             .length = payload_bytes,
                             .sha256 = std::move(digest)});
    records.end = payload + payload_bytes + kTrailerBytes;
    records.damaged = false;
  }
  return records;
}

}  // namespace tomoserve::store
