// A record of a spool file, all numbers little-endian:
//
//   offset  size
//   0       4     magic "TSPL"
//   4       2     version, 1
//   6       2     K: bytes of the key, 1 to 256
//   8       8     P: bytes of the payload
//   16      8     first bytes of SHA-256(the 16 bytes above): K and P are known before they are believed
//   24      K     key
//   24+K    P     payload
//   24+K+P  32    SHA-256(payload)
//   +32     8     first bytes of SHA-256(the 24 + K bytes of the head)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::store {

inline constexpr std::uint64_t kHeaderBytes = 24;
inline constexpr std::uint64_t kTrailerBytes = 40;
inline constexpr std::size_t kMaxKeyBytes = 256;
// Keeps sums of offsets far from overflow; the limits that matter are the configuration's.
inline constexpr std::uint64_t kMaxPayloadBytes = std::uint64_t{1} << 40;

// Header and key of a record.
std::string EncodeHead(std::string_view key, std::uint64_t payload_bytes);
// Trailer of a record with this head; `payload_sha256` in hex.
std::string EncodeTrailer(std::string_view head, std::string_view payload_sha256);

// What the records of a file are, from its beginning up to the first that is not whole.
struct Records {
  std::vector<SpoolRecord> whole;
  std::uint64_t end = 0;  // of the last whole record
  bool damaged = false;   // what follows is not just cut off: it has been written and is wrong
};

// Reads a file and checks every payload. Errors: DISK_FAILED only.
absl::StatusOr<Records> ReadRecords(int fd);

}  // namespace tomoserve::store
