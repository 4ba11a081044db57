// From a chosen volume to what a worker gets: decoded slots, an empty label map, the run's message.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "dispatch/study_input.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::dispatch {

// Bytes taken from the host ledger; given back at the end. Move-only.
class LedgerShare {
 public:
  LedgerShare() = default;
  LedgerShare(LedgerShare&& other) noexcept { *this = std::move(other); }
  LedgerShare& operator=(LedgerShare&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~LedgerShare() {
    if (ledger_ != nullptr) ledger_->Give(bytes_);
  }
  static absl::StatusOr<LedgerShare> Take(ipc::HostLedger& ledger, std::uint64_t bytes);

 private:
  ipc::HostLedger* ledger_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Everything that a StartRun needs. Releases its memory at the end.
struct PreparedRun {
  LedgerShare share;  // of the arena and the label map
  std::unique_ptr<ipc::Arena> arena;
  base::UniqueFd label_map;
  base::UniqueFd region;  // label map of the region, where the input has one
  ipc::v1::StartRun start;
  double decode_ms = 0;

  // In the order of StartRun's contract: the label map, the region's, then the arena's memfds.
  std::vector<int> fds() const;
};

// Services that preparing needs; outlive every call.
struct PreparationServices {
  store::JobStore& store;
  const store::Spool& spool;
  ipc::HelperPool& helpers;
  ipc::HostLedger& ledger;
};

// Host bytes that a run on this input holds.
std::uint64_t HostBytes(const models::Model& model, const RunInput& input);

// Decodes the chosen volumes of `input` (it has one at least), reads its region. Blocks; for a pool thread.
// `stop` is asked between leases. Errors: kResourceExhausted HOST_MEMORY (other runs hold what it needs),
// kFailedPrecondition HOST_MEMORY (it never fits; value: bytes), DECODE_FAILED (value: the helper's reason
// code), kCancelled; ARENA_TOO_LARGE. kUnavailable is the machine's fault and may pass: HOST_MEMORY (the
// kernel gives no memory or no descriptor; value: errno), DISK_FAILED (the spool cannot be opened),
// HELPER_UNAVAILABLE. Those of ReadRegion.
absl::StatusOr<std::unique_ptr<PreparedRun>> PrepareRun(const PreparationServices& services,
                                                        const std::string& run_id, const models::Model& model,
                                                        const RunInput& input, std::uint32_t urgency,
                                                        const std::atomic<bool>& stop);

}  // namespace tomoserve::dispatch
