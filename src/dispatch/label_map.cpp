// Label maps from the worker's memfd to the store's compressed blob.
#include <zstd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <memory>
#include <vector>

#include "dispatch/worker_reply.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/arena.h"

namespace tomoserve::dispatch {
namespace {

// Even, so that no voxel lies across two pieces.
constexpr std::size_t kPiece = 4 << 20;
constexpr int kLevel = 3;

absl::Status Failed(const char* text) {
  return base::Error(absl::StatusCode::kInternal, "COMPRESSION_FAILED", "", text);
}

bool AllKnown(std::span<const std::byte> piece, std::uint32_t bytes_per_voxel,
              const std::bitset<65536>& known) {
  if (bytes_per_voxel == 1) {
    return std::all_of(piece.begin(), piece.end(),
                       [&known](std::byte voxel) { return known[std::to_integer<std::size_t>(voxel)]; });
  }
  for (std::size_t i = 0; i + 1 < piece.size(); i += 2) {
    // Little-endian, as every machine this runs on.
    std::uint16_t voxel = 0;
    std::memcpy(&voxel, piece.data() + i, sizeof voxel);
    if (!known[voxel]) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<store::ResultBlob> PackLabelMap(int fd, std::uint64_t bytes, std::uint32_t bytes_per_voxel,
                                               const std::set<std::uint32_t>& values) {
  TS_ASSIGN_OR_RETURN(const ipc::Mapping mapping, ipc::Mapping::Map(fd, 0, bytes, false));
  const auto known = std::make_unique<std::bitset<65536>>();
  for (const std::uint32_t value : values) {
    if (value < known->size()) known->set(value);
  }
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  if (!context || ZSTD_isError(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel)) ||
      ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context.get(), bytes))) {
    return Failed("no compression context");
  }
  store::ResultBlob blob;
  blob.raw_bytes = bytes;
  base::Sha256 digest;
  std::vector<std::byte> piece(std::min<std::uint64_t>(kPiece, bytes));
  std::vector<char> compressed(ZSTD_CStreamOutSize());
  std::uint64_t offset = 0;
  do {
    const std::size_t size = std::min<std::uint64_t>(kPiece, bytes - offset);
    std::copy_n(mapping.bytes().begin() + static_cast<std::ptrdiff_t>(offset), size, piece.begin());
    const std::span<const std::byte> copy(piece.data(), size);
    if (!AllKnown(copy, bytes_per_voxel, *known)) {
      return base::Error(absl::StatusCode::kInvalidArgument, "WORKER_LIED", "label_map",
                         "the label map holds values that the recipe does not have");
    }
    digest.Update(copy);
    offset += size;
    const ZSTD_EndDirective mode = offset == bytes ? ZSTD_e_end : ZSTD_e_continue;
    ZSTD_inBuffer in{copy.data(), copy.size(), 0};
    for (bool done = false; !done;) {
      ZSTD_outBuffer out{compressed.data(), compressed.size(), 0};
      const std::size_t rest = ZSTD_compressStream2(context.get(), &out, &in, mode);
      if (ZSTD_isError(rest)) return Failed(ZSTD_getErrorName(rest));
      blob.zstd.append(compressed.data(), out.pos);
      done = mode == ZSTD_e_end ? rest == 0 : in.pos == in.size;
    }
  } while (offset < bytes);
  blob.raw_sha256 = digest.HexDigest();
  return blob;
}

}  // namespace tomoserve::dispatch
