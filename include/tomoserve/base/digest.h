// SHA-256 (FIPS 180-4) over bytes and files.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tomoserve::base {

// Incremental SHA-256. Move-only. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view text);
  // The digest as 64 lower-case hex digits; the object is spent afterwards.
  std::string HexDigest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);

// Digest of a file by descriptor, from offset 0 to its end (pread; the file position stays).
absl::StatusOr<std::string> Sha256HexOfFile(int fd);

// "2.25." + decimal of a UUID made from the first 128 bits of SHA-256(seed), version and variant bits set
// (PS3.5 B.2). The same seed gives the same UID.
std::string UidFromSeed(std::string_view seed);

}  // namespace tomoserve::base
