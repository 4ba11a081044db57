#include "tomoserve/base/digest.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"

namespace tomoserve::base {
namespace {

using Digest = std::array<unsigned char, 32>;

// The decimal digits of a 128-bit big-endian number.
std::string Decimal(std::array<unsigned char, 16> number) {
  std::string digits;
  bool zero = false;
  while (!zero) {
    unsigned remainder = 0;
    zero = true;
    for (unsigned char& byte : number) {
      const unsigned value = remainder * 256 + byte;
      byte = static_cast<unsigned char>(value / 10);
      remainder = value % 10;
      zero = zero && byte == 0;
    }
    digits.insert(digits.begin(), static_cast<char>('0' + remainder));
  }
  return digits;
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { EVP_DigestInit_ex(context, EVP_sha256(), nullptr); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
  Digest Finish() {
    Digest digest{};
    EVP_DigestFinal_ex(context, digest.data(), nullptr);
    return digest;
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

void Sha256::Update(std::string_view text) { EVP_DigestUpdate(state_->context, text.data(), text.size()); }

std::string Sha256::HexDigest() {
  const Digest digest = state_->Finish();
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

absl::StatusOr<std::string> Sha256HexOfFile(int fd) {
  Sha256 hash;
  std::vector<std::byte> buffer(1 << 20);
  off_t offset = 0;
  while (true) {
    const ssize_t count = ::pread(fd, buffer.data(), buffer.size(), offset);
    if (count < 0) {
      if (errno == EINTR) continue;
      return Error(absl::StatusCode::kInternal, "READ_FAILED", "",
                   absl::StrCat("reading a file failed: ", std::strerror(errno)));
    }
    if (count == 0) return hash.HexDigest();
    hash.Update(std::span(buffer).first(static_cast<std::size_t>(count)));
    offset += count;
  }
}

std::string UidFromSeed(std::string_view seed) {
  Sha256 hash;
  hash.Update(seed);
  const std::string digest = absl::HexStringToBytes(hash.HexDigest());
  std::array<unsigned char, 16> uuid{};
  std::memcpy(uuid.data(), digest.data(), uuid.size());
  uuid[6] = static_cast<unsigned char>((uuid[6] & 0x0F) | 0x80);  // version 8: custom
  uuid[8] = static_cast<unsigned char>((uuid[8] & 0x3F) | 0x80);  // RFC 9562 variant
  return absl::StrCat("2.25.", Decimal(uuid));
}

}  // namespace tomoserve::base
