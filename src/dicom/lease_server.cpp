#include "tomoserve/dicom/lease_server.h"
#include "tomoserve/base/stored_type.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dicom/errors.h"
#include "dicom/inflate.h"
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
  ipc::Mapping mapping;
  std::vector<std::byte> inflated;
  std::span<const std::byte> view;  // of either
  std::optional<FileLayout> layout;
};

// A decoded frame that tiles are cut from.
struct WholeFrame {
  std::uint64_t offset = 0;  // of its file
  FrameRequest request;
  std::vector<std::byte> values;
};

// Frames of a header that go into one record.
constexpr std::size_t kPartBytes = ipc::kMaxRecordBytes / 2;

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
          if (!status.ok()) Identify(reply);
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
    if (!SendFrames(reply)) return false;
    const absl::Status sent = socket_.Send(reply);
    if (sent.ok()) return true;
    if (base::ReasonOf(sent) != "RECORD_TOO_LARGE") return false;
    HelperReply refused;
    refused.set_index(index);
    if (role_ == ipc::v1::HELPER_ROLE_HEADER) Identify(refused);
    SetRefusal(Refuse("HEADER_TOO_LARGE", ipc::kMaxRecordBytes, "the header does not fit one record"),
               refused);
    return socket_.Send(refused).ok();
  }

  // Sends the frames of a header that is too large for one record ahead of it, and takes them out.
  bool SendFrames(HelperReply& reply) {
    if (!reply.has_header() || reply.ByteSizeLong() <= ipc::kMaxRecordBytes) return true;
    HelperReply part;
    part.set_index(reply.index());
    std::size_t bytes = 0;
    for (ipc::v1::FrameHeader& frame : *reply.mutable_header()->mutable_frame()) {
      bytes += frame.ByteSizeLong();
      *part.mutable_frames()->add_frame() = std::move(frame);
      if (bytes < kPartBytes) continue;
      if (!socket_.Send(part).ok()) return false;
      part.clear_frames();
      bytes = 0;
    }
    reply.mutable_header()->clear_frame();
    return !part.has_frames() || socket_.Send(part).ok();
  }

  absl::Status ReadItem(const ipc::v1::HeaderItem& item, HelperReply& reply) {
    TS_RETURN_IF_ERROR(Load(item.range()));
    TS_ASSIGN_OR_RETURN(*reply.mutable_header(), ReadHeader(file_.view, *file_.layout));
    return absl::OkStatus();
  }

  // Which instance of which series it is that is refused.
  void Identify(HelperReply& reply) const {
    const absl::Status read = Fenced([&] {
      IdentifyRefused(file_.view, limits_, *reply.mutable_refused());
      return absl::OkStatus();
    });
    if (!read.ok()) reply.clear_refused();
  }

  absl::Status DecodeItem(const ipc::v1::DecodeItem& item, const std::vector<base::UniqueFd>& arenas,
                          HelperReply& reply) {
    TS_RETURN_IF_ERROR(Load(item.range()));
    TS_ASSIGN_OR_RETURN(const ipc::Mapping slot, MapSlot(item.slot(), arenas, true));
    const FrameRequest frame{item.frame(), item.stored_type(), item.rows(), item.columns(),
                             item.slow_codec()};
    std::uint64_t values = std::uint64_t{item.rows()} * item.columns();
    if (item.has_tile()) {
      TS_RETURN_IF_ERROR(DecodeTile(frame, item.tile(), slot.bytes()));
      values = std::uint64_t{item.tile().rows()} * item.tile().columns();
    } else {
      TS_RETURN_IF_ERROR(DecodeFrame(runtime_, file_.view, *file_.layout, frame, slot.bytes()));
    }
    ipc::v1::DecodedFrame& decoded = *reply.mutable_decoded();
    *decoded.mutable_slot() = item.slot();
    decoded.set_bytes(values * base::BytesOf(item.stored_type()));
    return absl::OkStatus();
  }

  // The tiles of a frame come in a row: it is decoded once.
  absl::Status DecodeTile(const FrameRequest& request, const ipc::v1::Tile& tile, std::span<std::byte> slot) {
    if (whole_.values.empty() || whole_.offset != file_.offset || whole_.request != request) {
      whole_ = {};
      const PixelFormat& pixels = file_.layout->pixels;
      const std::uint64_t bytes =
          std::uint64_t{pixels.rows} * pixels.columns * base::BytesOf(request.stored_type);
      std::vector<std::byte> values(bytes);
      TS_RETURN_IF_ERROR(DecodeFrame(runtime_, file_.view, *file_.layout, request, values));
      whole_ = {file_.offset, request, std::move(values)};
    }
    return CutTile(whole_.values, request, tile, slot);
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
    return ipc::Mapping::Map(arenas[slot.arena()].get(), slot.offset(), slot.bytes(), writable, true,
                             writable);
  }

  // Maps and inspects a file unless it is the last one: frames of one file come in a row. Of one that is
  // refused the bytes stay.
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
    file_.offset = range.offset();
    file_.length = range.length();
    if (range.length() > 0) {
      // Mapped, not read: of a large multi-frame file each child then holds only what it looks at.
      const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
      const std::uint64_t before = range.offset() % page;
      auto mapping =
          ipc::Mapping::Map(spool_.get(), range.offset() - before, range.length() + before, false, false);
      if (!mapping.ok()) return Unreadable("the spool cannot be mapped");
      file_.mapping = *std::move(mapping);
      file_.view = file_.mapping.bytes().subspan(before);
    }
    TS_ASSIGN_OR_RETURN(auto inflated, Inflate(file_.view, limits_));
    if (inflated) {
      file_.inflated = *std::move(inflated);
      file_.view = file_.inflated;
    }
    TS_ASSIGN_OR_RETURN(file_.layout, Inspect(file_.view, limits_));
    return absl::OkStatus();
  }

  const Runtime& runtime_;
  const ipc::v1::HelperRole role_;
  const Limits limits_;
  ipc::RecordSocket& socket_;
  base::UniqueFd spool_;
  LoadedFile file_;
  WholeFrame whole_;
};

}  // namespace

void ServeLease(const Runtime& runtime, const ipc::v1::LeaseRequest& request, ipc::RecordSocket& lease) {
  Lease(runtime, request, lease).Serve();
}

}  // namespace tomoserve::dicom
