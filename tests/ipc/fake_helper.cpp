// A helper program that answers like tomoserve-dicom, or misbehaves as the item tells it to.
#include "fake_helper.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tomoserve/base/stored_type.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/header_limits.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/ipc/zygote.h"

namespace tomoserve::ipc {
namespace {

void SendRaw(int socket, std::string bytes) {
  iovec part{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (::sendmsg(socket, &header, MSG_NOSIGNAL) < 0) std::abort();
}

// Serves one lease.
class FakeLease {
 public:
  explicit FakeLease(RecordSocket& lease) : lease_(lease) {}

  void Serve() {
    v1::HelperRequest request;
    while (!returned_ && lease_.ReceiveMessage(request, &fds_).ok()) {
      const bool opening = request.header().items().empty() && request.decode().items().empty() &&
                           request.write().items().empty();
      if (opening) {
        if (spool_.valid() || fds_.size() != 1) std::abort();
        spool_ = std::move(fds_[0]);
      }
      for (const v1::HeaderItem& item : request.header().items()) {
        if (returned_) return;
        v1::HelperReply reply;
        reply.set_index(item.index());
        v1::InstanceHeader& header = *reply.mutable_header();
        header.set_sop_instance_uid("1.2." + std::to_string(item.range().length()));
        header.set_instance_number(static_cast<std::int32_t>(item.index()));
        header.set_protocol_name(std::to_string(::getpid()));
        Answer(item.range(), reply);
      }
      for (const v1::DecodeItem& item : request.decode().items()) {
        if (returned_) return;
        if (item.range().offset() == fake::kAbortUnlessSlow && !item.slow_codec()) std::abort();
        v1::HelperReply reply;
        reply.set_index(item.index());
        *reply.mutable_decoded()->mutable_slot() = item.slot();
        const std::uint32_t rows = item.has_tile() ? item.tile().rows() : item.rows();
        const std::uint32_t columns = item.has_tile() ? item.tile().columns() : item.columns();
        reply.mutable_decoded()->set_bytes(std::uint64_t{rows} * columns * base::BytesOf(item.stored_type()));
        Fill(item.slot(), std::string(reply.decoded().bytes(), static_cast<char>('a' + item.frame() % 26)));
        Answer(item.range(), reply);
      }
      for (const v1::WriteItem& item : request.write().items()) {
        if (returned_) return;
        auto pixels = Mapping::Map(fds_.at(item.pixels().arena()).get(), item.pixels().offset(),
                                   item.pixels().bytes(), false);
        if (!pixels.ok()) std::abort();
        const std::string file =
            item.instance().sop_instance_uid() + " " + std::to_string(static_cast<int>(pixels->bytes()[0]));
        v1::HelperReply reply;
        reply.set_index(item.index());
        *reply.mutable_written()->mutable_slot() = item.file();
        reply.mutable_written()->set_bytes(file.size());
        Fill(item.file(), file);
        v1::SpoolRange behaviour;
        behaviour.set_offset(item.instance().instance_number());
        Answer(behaviour, reply);
      }
    }
  }

 private:
  // A record with so many frames; their stacks are numbered.
  void SendFrames(std::uint32_t index, int count) {
    v1::HelperReply part;
    part.set_index(index);
    part.mutable_frames();
    for (int i = 0; i < count; ++i) {
      part.mutable_frames()->add_frame()->set_stack_id(std::to_string(frames_sent_++));
    }
    if (!lease_.Send(part).ok()) std::_Exit(0);
  }

  // A record of 40 frames whose texts are as long as they may be, or a stack's that is longer.
  void SendLargeFrames(std::uint32_t index, bool too_long) {
    v1::HelperReply part;
    part.set_index(index);
    for (int i = 0; i < (too_long ? 1 : 40); ++i) {
      v1::FrameHeader& frame = *part.mutable_frames()->add_frame();
      frame.set_stack_id(std::string(too_long ? 60'000 : kMaxFrameTextBytes, 'x'));
      for (int n = 0; n < kMaxFrameTypes; ++n) frame.add_frame_type(std::string(kMaxFrameTextBytes, 'x'));
    }
    if (!lease_.Send(part).ok()) std::_Exit(0);
  }

  void Fill(const v1::Slot& slot, const std::string& bytes) {
    auto mapping = Mapping::Map(fds_.at(slot.arena()).get(), slot.offset(), slot.bytes(), true);
    if (!mapping.ok() || mapping->bytes().size() < bytes.size()) std::abort();
    std::memcpy(mapping->bytes().data(), bytes.data(), bytes.size());
  }

  void Answer(const v1::SpoolRange& range, v1::HelperReply& reply) {
    using namespace fake;  // NOLINT: the enumerators are this function's vocabulary
    const bool first = served_++ == 0;
    switch (range.offset()) {
      case kRefuse:
        reply.mutable_refused()->set_code("NOT_DICOM");
        reply.mutable_refused()->set_value("7");
        reply.mutable_refused()->set_text("no DICOM prefix");
        reply.mutable_refused()->set_series_instance_uid("1.2.3");
        break;
      case kAbort:
        std::abort();
      case kAbortUnlessFirst:
        if (!first) std::abort();
        break;
      case kSegfault:
        ::raise(SIGSEGV);
        break;
      case kThrow:
        throw std::runtime_error("thrown by the fake helper");
      case kReturn:
        returned_ = true;
        return;
      case kForbiddenCall:
        (void)::socket(AF_INET, SOCK_STREAM, 0);
        break;
      case kSpin:
        for (volatile bool on = true; on;) {
        }
        break;
      case kSleep:
        Sleep(-1);
        break;
      case kCloseAndStay:
        lease_.Close();
        Sleep(-1);
        break;
      case kSlow:
        Sleep(30);
        break;
      case kEatMemory: {
        std::vector<std::string> eaten;
        for (int i = 0; i < 64; ++i) eaten.emplace_back(16 << 20, 'x');
        break;
      }
      case kWrongIndex:
        reply.set_index(reply.index() + 1);
        break;
      case kWrongKind:
        if (reply.has_header()) {
          reply.mutable_written()->set_bytes(1);
        } else {
          reply.mutable_header();
        }
        break;
      case kOtherSlot: {
        v1::Slot& slot = reply.has_decoded() ? *reply.mutable_decoded()->mutable_slot()
                                             : *reply.mutable_written()->mutable_slot();
        slot.set_offset(slot.offset() + 4096);
        break;
      }
      case kWrongBytes:
        if (reply.has_decoded()) {
          reply.mutable_decoded()->set_bytes(reply.decoded().bytes() - 1);
        } else {
          reply.mutable_written()->set_bytes(reply.written().slot().bytes() + 1);
        }
        break;
      case kNotFinite:
        for (int i = 0; i < 3; ++i) {
          reply.mutable_header()->add_image_position(std::numeric_limits<double>::infinity());
        }
        break;
      case kBadCode:
        reply.mutable_refused()->set_code("not a code\n{\"level\":\"info\"}");
        break;
      case kGarbage:
        SendRaw(lease_.fd(), std::string(100, '\xFF'));
        return;
      case kOversize:
        SendRaw(lease_.fd(), std::string(kMaxRecordBytes + 1, 'x'));
        return;
      case kEmptyRecord:
        SendRaw(lease_.fd(), std::string());
        return;
      case kSendsDescriptor: {
        const int fd = lease_.fd();
        (void)lease_.Send(reply, std::span(&fd, 1));
        return;
      }
      case kSendsTwice:
        (void)lease_.Send(reply);
        break;
      case kReadsSpool: {
        std::array<char, 64> bytes{};
        const ssize_t size =
            ::pread(spool_.get(), bytes.data(), std::min<std::size_t>(range.length(), 64), 0);
        if (size < 0) std::abort();
        reply.mutable_header()->set_institution(std::string(bytes.data(), static_cast<std::size_t>(size)));
        break;
      }
      case kFrameParts:
      case kTooFewFrames:
      case kFramesInBoth:
        SendFrames(reply.index(), 2);
        SendFrames(reply.index(), 3);
        if (reply.has_header()) {
          reply.mutable_header()->set_frames(range.offset() == kTooFewFrames ? 6 : 5);
          if (range.offset() == kFramesInBoth) reply.mutable_header()->add_frame();
        }
        break;
      case kEmptyPart:
        SendFrames(reply.index(), 0);
        break;
      case kEndlessParts:
        while (true) SendFrames(reply.index(), 1000);
      case kFramesThenAbort:
        SendFrames(reply.index(), 2);
        std::abort();
      case kFramesThenRefuse:
        SendFrames(reply.index(), 2);
        reply.mutable_refused()->set_code("TRUNCATED");
        break;
      case kLongTexts:
      case kEndlessBytes:
        while (true) SendLargeFrames(reply.index(), range.offset() == kLongTexts);
      case kLargeHeader:
        for (int i = 0; i < 25; ++i) SendLargeFrames(reply.index(), false);
        reply.mutable_header()->set_frames(1000);
        break;
      default:
        break;
    }
    if (!lease_.Send(reply).ok()) returned_ = true;
  }

  static void Sleep(int milliseconds) { ::poll(nullptr, 0, milliseconds); }

  RecordSocket& lease_;
  std::vector<base::UniqueFd> fds_;
  base::UniqueFd spool_;
  int served_ = 0;
  int frames_sent_ = 0;
  bool returned_ = false;
};

}  // namespace
}  // namespace tomoserve::ipc

int main() {
  using namespace tomoserve;  // NOLINT: this is a program
  return ipc::RunZygote(
      ipc::RecordSocket(base::UniqueFd(ipc::kChildSocketFd)),
      [](const ipc::v1::LeaseRequest&, ipc::RecordSocket& lease) { ipc::FakeLease(lease).Serve(); });
}
