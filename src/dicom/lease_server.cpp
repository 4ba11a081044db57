#include "tomoserve/dicom/lease_server.h"
#include "tomoserve/base/stored_type.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dicom/errors.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/dicom/header.h"
#include "tomoserve/dicom/write.h"
#include "tomoserve/ipc/arena.h"

namespace tomoserve::dicom {
namespace {

using ipc::v1::HelperReply;
using ipc::v1::HelperRequest;

absl::Status Unreadable(std::string_view text) {
  return base::Error(absl::StatusCode::kInternal, "SPOOL_UNREADABLE", "", text);
}

void SetRefusal(const absl::Status& status, HelperReply& reply) {
  ipc::v1::Refusal& refusal = *reply.mutable_refused();
  refusal.set_code(base::ReasonOf(status));
  refusal.set_value(base::ValueOf(status));
  refusal.set_text(std::string(base::ToStd(status.message())));
}

// A file of the spool in memory, and what the gatekeeper found in it.
struct LoadedFile {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::unique_ptr<std::byte[]> bytes;
  std::optional<FileLayout> layout;

  std::span<const std::byte> view() const { return {bytes.get(), length}; }
};

class Lease {
 public:
  Lease(const Runtime& runtime, const ipc::v1::LeaseRequest& request, ipc::RecordSocket& socket)
      : runtime_(runtime), role_(request.role()), limits_(LimitsFrom(request.limits())), socket_(socket) {}

  void Serve() {
    bool first = true;
    while (true) {
      HelperRequest request;
      std::vector<base::UniqueFd> fds;
      if (!socket_.ReceiveMessage(request, &fds).ok()) return;
      if (first && role_ != ipc::v1::HELPER_ROLE_WRITE) {
        if (fds.empty()) return;
        spool_ = std::move(fds.front());
        fds.erase(fds.begin());
      }
      first = false;
      if (!ServeRecord(request, fds)) return;
    }
  }

 private:
  // False ends the lease.
  bool ServeRecord(const HelperRequest& request, const std::vector<base::UniqueFd>& arenas) {
    switch (request.job_case()) {
      case HelperRequest::kHeader:
        if (role_ != ipc::v1::HELPER_ROLE_HEADER) return false;
        for (const auto& item : request.header().items()) {
          HelperReply reply;
          const absl::Status status = Fenced([&] { return ReadItem(item, reply); });
          if (!Answer(item.index(), status, reply)) return false;
        }
        return true;
      case HelperRequest::kDecode:
        if (role_ != ipc::v1::HELPER_ROLE_DECODE) return false;
        for (const auto& item : request.decode().items()) {
          HelperReply reply;
          const absl::Status status = Fenced([&] { return DecodeItem(item, arenas, reply); });
          if (!Answer(item.index(), status, reply)) return false;
        }
        return true;
      case HelperRequest::kWrite:
        if (role_ != ipc::v1::HELPER_ROLE_WRITE) return false;
        for (const auto& item : request.write().items()) {
          HelperReply reply;
          const absl::Status status = Fenced([&] { return WriteItem(item, arenas, reply); });
          if (!Answer(item.index(), status, reply)) return false;
        }
        return true;
      case HelperRequest::JOB_NOT_SET:
        return true;
    }
    return false;
  }

  bool Answer(std::uint32_t index, const absl::Status& status, HelperReply& reply) {
    if (!status.ok()) SetRefusal(status, reply);
    reply.set_index(index);
    const absl::Status sent = socket_.Send(reply);
    if (sent.ok()) return true;
    if (base::ReasonOf(sent) != "RECORD_TOO_LARGE") return false;
    HelperReply refused;
    refused.set_index(index);
    SetRefusal(Refuse("HEADER_TOO_LARGE", "", "the header does not fit one record"), refused);
    return socket_.Send(refused).ok();
  }

  absl::Status ReadItem(const ipc::v1::HeaderItem& item, HelperReply& reply) {
    TS_RETURN_IF_ERROR(Load(item.range()));
    TS_ASSIGN_OR_RETURN(*reply.mutable_header(), ReadHeader(file_.view(), *file_.layout));
    return absl::OkStatus();
  }

  absl::Status DecodeItem(const ipc::v1::DecodeItem& item, const std::vector<base::UniqueFd>& arenas,
                          HelperReply& reply) {
    TS_RETURN_IF_ERROR(Load(item.range()));
    TS_ASSIGN_OR_RETURN(const ipc::Mapping slot, MapSlot(item.slot(), arenas, true));
    const FrameRequest frame{item.frame(), item.stored_type(), item.rows(), item.columns()};
    TS_RETURN_IF_ERROR(DecodeFrame(runtime_, file_.view(), *file_.layout, frame, slot.bytes()));
    ipc::v1::DecodedFrame& decoded = *reply.mutable_decoded();
    *decoded.mutable_slot() = item.slot();
    decoded.set_bytes(std::uint64_t{item.rows()} * item.columns() * base::BytesOf(item.stored_type()));
    return absl::OkStatus();
  }

  absl::Status WriteItem(const ipc::v1::WriteItem& item, const std::vector<base::UniqueFd>& arenas,
                         HelperReply& reply) {
    TS_ASSIGN_OR_RETURN(const ipc::Mapping pixels, MapSlot(item.pixels(), arenas, false));
    TS_ASSIGN_OR_RETURN(const ipc::Mapping file, MapSlot(item.file(), arenas, true));
    const std::uint64_t pixel_bytes = std::uint64_t{item.instance().rows()} * item.instance().columns() *
                                      base::BytesOf(item.instance().stored_type());
    if (pixels.bytes().size() < pixel_bytes) {
      return Refuse("SLOT_TOO_SMALL", pixel_bytes, "the pixels' slot is smaller than the image");
    }
    TS_ASSIGN_OR_RETURN(
        const std::uint64_t bytes,
        WriteInstance(runtime_, item.instance(), pixels.bytes().first(pixel_bytes), file.bytes()));
    ipc::v1::WrittenFile& written = *reply.mutable_written();
    *written.mutable_slot() = item.file();
    written.set_bytes(bytes);
    return absl::OkStatus();
  }

  static absl::StatusOr<ipc::Mapping> MapSlot(const ipc::v1::Slot& slot,
                                              const std::vector<base::UniqueFd>& arenas, bool writable) {
    if (slot.arena() >= arenas.size()) {
      return Refuse("SLOT_INVALID", slot.arena(), "a slot names an arena that did not come with the record");
    }
    return ipc::Mapping::Map(arenas[slot.arena()].get(), slot.offset(), slot.bytes(), writable);
  }

  // Reads and inspects a file unless it is the last one: frames of one file come in a row.
  absl::Status Load(const ipc::v1::SpoolRange& range) {
    if (file_.layout && file_.offset == range.offset() && file_.length == range.length())
      return absl::OkStatus();
    file_ = {};
    if (range.length() > limits_.instance_bytes) {
      return Refuse("INSTANCE_TOO_LARGE", range.length(), "the file is larger than the limit");
    }
    struct stat info {};
    if (::fstat(spool_.get(), &info) != 0) return Unreadable("the spool cannot be read");
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (range.offset() > size || range.length() > size - range.offset()) {
      return Unreadable("the file lies outside the spool");
    }
    LoadedFile loaded;
    loaded.offset = range.offset();
    loaded.length = range.length();
    loaded.bytes = std::make_unique_for_overwrite<std::byte[]>(range.length());
    for (std::uint64_t done = 0; done < range.length();) {
      const ::ssize_t n = ::pread(spool_.get(), loaded.bytes.get() + done, range.length() - done,
                                  static_cast<::off_t>(range.offset() + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Unreadable("the spool cannot be read");
      done += static_cast<std::uint64_t>(n);
    }
    TS_ASSIGN_OR_RETURN(loaded.layout, Inspect(loaded.view(), limits_));
    file_ = std::move(loaded);
    return absl::OkStatus();
  }

  const Runtime& runtime_;
  const ipc::v1::HelperRole role_;
  const Limits limits_;
  ipc::RecordSocket& socket_;
  base::UniqueFd spool_;
  LoadedFile file_;
};

}  // namespace

void ServeLease(const Runtime& runtime, const ipc::v1::LeaseRequest& request, ipc::RecordSocket& lease) {
  Lease(runtime, request, lease).Serve();
}

}  // namespace tomoserve::dicom
