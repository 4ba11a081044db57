// The front's side of tomoserve-dicom: a zygote that forks a sandboxed child per lease, and the retry that
// finds the poison after a child's death.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

struct HelperPoolOptions {
  std::string program;                            // path of tomoserve-dicom
  std::uint32_t leases = 2;                       // children at a time
  std::uint32_t lease_items = 512;                // items per lease
  std::chrono::milliseconds lease_time{2000};     // items are handed out for this long, then a new lease
  std::chrono::milliseconds item_timeout{30000};  // an item that takes longer is HELPER_TIMEOUT
  std::uint64_t memory_bytes = 2ull << 30;
  std::uint32_t cpu_seconds = 120;
  v1::GatekeeperLimits limits;
};

// Result of one item: a checked reply or a refusal as a Status (reason code of the helper's Refusal;
// HELPER_CRASHED (value: signal, or "exit CODE"), HELPER_TIMEOUT when it took longer than item_timeout or
// than cpu_seconds, HELPER_LIED when its reply did not match the request, HELPER_UNAVAILABLE when there was
// no helper to be had: that one is worth another try later).
using HeaderResult = absl::StatusOr<v1::InstanceHeader>;

// Thread-safe. Calls block until all items are answered; several calls share the leases. A lease serves one
// call only (one study): no child sees two. After a child's death (crash, kill, filter) the unanswered
// items of its lease are tried again one lease each; an item whose own lease dies again is refused
// (HELPER_CRASHED; an HTJ2K frame after a third death), unless the child was SIGKILLed or SIGTERMed from
// outside: then it is tried up to 3 times. A dead zygote is started again, and its leases' items wait again;
// nobody is blamed for it. Destroy it when no call runs. HTJ2K Lossless, RPCL, HTJ2K.
inline bool IsHighThroughput(std::string_view transfer_syntax_uid) {
  return transfer_syntax_uid == "1.2.840.10008.1.2.4.201" ||
         transfer_syntax_uid == "1.2.840.10008.1.2.4.202" || transfer_syntax_uid == "1.2.840.10008.1.2.4.203";
}

class HelperPool {
 public:
  static absl::StatusOr<std::unique_ptr<HelperPool>> Start(HelperPoolOptions options);
  virtual ~HelperPool() = default;

  // Headers of files in `spool_fd` (read-only). One result per range, same order.
  virtual std::vector<HeaderResult> ReadHeaders(int spool_fd, const std::vector<v1::SpoolRange>& ranges) = 0;

  // As ReadHeaders, of the first ranges only: at least one, and as many as take no more than `held_bytes` of
  // memory together (HeldBytes). While it runs, each lease may hold one header more. A pool without such a
  // bound reads them all.
  virtual std::vector<HeaderResult> ReadHeadersWithin(int spool_fd, const std::vector<v1::SpoolRange>& ranges,
                                                      std::uint64_t held_bytes) {
    (void)held_bytes;
    return ReadHeaders(spool_fd, ranges);
  }

  struct Frame {
    v1::SpoolRange range;
    std::uint32_t frame = 0;
    std::uint32_t slot = 0;  // slot number in the arena
    v1::StoredType stored_type = v1::STORED_TYPE_UNSPECIFIED;
    std::uint32_t rows = 0;  // of the whole frame
    std::uint32_t columns = 0;
    std::optional<v1::Tile> tile = {};  // the part of it that goes into the slot
    // Of an HTJ2K syntax: where it kills its child twice, it is asked for once more by a slower decoder.
    bool high_throughput = false;
  };
  // Decodes frames into slots of `arena`. One status per frame, same order. `cancelled` is asked between
  // leases, by one thread at a time; the rest is then kCancelled.
  virtual std::vector<absl::Status> Decode(int spool_fd, const std::vector<Frame>& frames, const Arena& arena,
                                           const std::function<bool()>& cancelled = {}) = 0;

  struct Write {
    v1::SyntheticInstance instance;
    std::uint32_t pixel_slot = 0;
    std::uint32_t file_slot = 0;
  };
  // Writes DICOM files: pixels from `pixels`, files into slots of `files`. Bytes written per item.
  virtual std::vector<absl::StatusOr<std::uint64_t>> WriteInstances(const std::vector<Write>& items,
                                                                    const Arena& pixels,
                                                                    const Arena& files) = 0;

  // For tests and metrics.
  virtual pid_t zygote_pid() const = 0;
  virtual std::uint64_t leases_started() const = 0;
  virtual std::uint64_t child_deaths() const = 0;
};

}  // namespace tomoserve::ipc
