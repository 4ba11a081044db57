// Helpers in the test's own process that read fake files.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "dispatch/fake_dicom.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/ipc/refused_identity.h"

namespace tomoserve::dispatch {

// What a test wants of the helpers; outlives them.
struct FakeHelperScript {
  std::atomic<int> header_calls{0};
  std::atomic<int> headers_read{0};
  std::atomic<int> frames_decoded{0};
  std::atomic<int> decodes_cancelled{0};
  std::atomic<int> header_ms{0};  // per call
  std::atomic<int> decode_ms{0};  // per frame
  std::atomic<bool> decode_fails{false};
  std::atomic<int> header_calls_unavailable{0};  // so many calls find no helper
  std::atomic<int> decode_calls_unavailable{0};
};

class FakeHelpers final : public ipc::HelperPool {
 public:
  explicit FakeHelpers(FakeHelperScript& script) : script_(script) {}

  std::vector<ipc::HeaderResult> ReadHeaders(int spool_fd,
                                             const std::vector<ipc::v1::SpoolRange>& ranges) override {
    ++script_.header_calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(script_.header_ms));
    std::vector<ipc::HeaderResult> results;
    if (TakeOne(script_.header_calls_unavailable)) {
      for (std::size_t i = 0; i < ranges.size(); ++i) results.emplace_back(Unavailable());
      return results;
    }
    for (const ipc::v1::SpoolRange& range : ranges) {
      ++script_.headers_read;
      const auto parts = ReadFake(ReadRange(spool_fd, range));
      const std::string refusal = parts ? parts->header.station() : "";
      if (refusal.starts_with("refuse ")) {
        absl::Status status =
            base::Error(absl::StatusCode::kInvalidArgument, refusal.substr(7), "", "cannot be read");
        ipc::v1::Refusal identity;
        identity.set_series_instance_uid(parts->header.series_instance_uid());
        identity.set_sop_instance_uid(parts->header.sop_instance_uid());
        identity.set_modality(parts->header.modality());
        ipc::SetRefusedIdentity(identity, status);
        results.emplace_back(std::move(status));
      } else if (parts) {
        results.emplace_back(parts->header);
      } else {
        results.emplace_back(
            base::Error(absl::StatusCode::kInvalidArgument, "NOT_DICOM", "", "no DICOM file"));
      }
    }
    return results;
  }

  std::vector<absl::Status> Decode(int spool_fd, const std::vector<Frame>& frames, const ipc::Arena& arena,
                                   const std::function<bool()>& cancelled) override {
    std::vector<absl::Status> results;
    if (TakeOne(script_.decode_calls_unavailable)) {
      return std::vector<absl::Status>(frames.size(), Unavailable());
    }
    for (const Frame& frame : frames) {
      if (cancelled && cancelled()) {
        ++script_.decodes_cancelled;
        results.push_back(absl::CancelledError());
        continue;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(script_.decode_ms));
      results.push_back(DecodeOne(spool_fd, frame, arena));
    }
    return results;
  }

  std::vector<absl::StatusOr<std::uint64_t>> WriteInstances(const std::vector<Write>& items,
                                                            const ipc::Arena&, const ipc::Arena&) override {
    return std::vector<absl::StatusOr<std::uint64_t>>(items.size(), absl::UnimplementedError("not a writer"));
  }

  pid_t zygote_pid() const override { return ::getpid(); }
  std::uint64_t leases_started() const override { return 0; }
  std::uint64_t child_deaths() const override { return 0; }

 private:
  static bool TakeOne(std::atomic<int>& left) {
    int now = left;
    while (now > 0 && !left.compare_exchange_weak(now, now - 1)) {
    }
    return now > 0;
  }
  static absl::Status Unavailable() {
    return base::Error(absl::StatusCode::kUnavailable, "HELPER_UNAVAILABLE", "", "no helper could be had");
  }
  static std::string ReadRange(int fd, const ipc::v1::SpoolRange& range) {
    std::string bytes(range.length(), '\0');
    const ssize_t read = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(range.offset()));
    bytes.resize(read < 0 ? 0 : static_cast<std::size_t>(read));
    return bytes;
  }

  absl::Status DecodeOne(int spool_fd, const Frame& frame, const ipc::Arena& arena) {
    const auto parts = ReadFake(ReadRange(spool_fd, frame.range));
    if (!parts || script_.decode_fails) {
      return base::Error(absl::StatusCode::kInvalidArgument, "CODESTREAM_BROKEN", "", "cannot be decoded");
    }
    const ipc::v1::Slot slot = arena.slot(frame.slot);
    TS_ASSIGN_OR_RETURN(const ipc::Mapping mapping,
                        ipc::Mapping::Map(arena.fds()[slot.arena()], slot.offset(), slot.bytes(), true));
    if (parts->pixels.size() > mapping.bytes().size()) return absl::InternalError("slot too small");
    std::memcpy(mapping.bytes().data(), parts->pixels.data(), parts->pixels.size());
    ++script_.frames_decoded;
    return absl::OkStatus();
  }

  FakeHelperScript& script_;
};

}  // namespace tomoserve::dispatch
