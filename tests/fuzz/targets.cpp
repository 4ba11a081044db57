#include "fuzz/targets.h"

#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dicom/codestream.h"
#include "dicom/inflate.h"
#include "ipc/lease_work.h"
#include "ipc/reply_checks.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/dicom/header.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/series/study_series.h"

namespace tomoserve::fuzz {
namespace {

constexpr dicom::Limits kLimits{.nesting = 64,
                                .elements = 100'000,
                                .instance_bytes = 16 << 20,
                                .pixel_bytes = 64 << 20,
                                .deflated = true};
// Larger frames are left alone: they cost time and find nothing.
constexpr std::uint64_t kMaxFrameBytes = 8 << 20;
constexpr std::size_t kGuardBytes = 64;
constexpr std::byte kGuard{0xA5};
constexpr std::size_t kMaxRecords = 16;
constexpr std::uint32_t kItems = 4;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

void RequireTyped(const absl::Status& status) {
  ipc::v1::Refusal refusal;
  refusal.set_code(base::ReasonOf(status));
  refusal.set_value(base::ValueOf(status));
  refusal.set_text(std::string(base::ToStd(status.message())));
  Require(!status.ok(), "an error is none");
  Require(refusal.code() != absl::StatusCodeToString(status.code()), "an error has no reason code");
  Require(ipc::IsPlausible(refusal), "a refusal is one that the front would not believe");
}

void RequireInside(Bytes file, const dicom::ByteRange& range) {
  Require(range.offset <= file.size() && range.length <= file.size() - range.offset,
          "a range lies outside the file");
}

ipc::v1::GatekeeperLimits Message(const dicom::Limits& limits) {
  ipc::v1::GatekeeperLimits message;
  message.set_nesting(limits.nesting);
  message.set_elements(limits.elements);
  message.set_instance_bytes(limits.instance_bytes);
  message.set_pixel_bytes(limits.pixel_bytes);
  return message;
}

std::vector<std::uint32_t> FirstAndLast(std::uint32_t frames) {
  if (frames <= 1) return {0};
  return {0, frames - 1};
}

void RequirePixels(Bytes file, const dicom::FileLayout& layout) {
  const dicom::PixelFormat& pixels = layout.pixels;
  Require(pixels.rows > 0 && pixels.columns > 0 && pixels.frames > 0 && pixels.samples > 0, "empty pixels");
  Require(pixels.bits_stored > 0 && pixels.bits_stored <= pixels.bits_allocated, "impossible bits");
  Require(pixels.high_bit < pixels.bits_allocated && pixels.high_bit + 1 >= pixels.bits_stored,
          "an impossible high bit");
  RequireInside(file, layout.native_pixels);
  RequireInside(file, layout.offset_table);
  for (const dicom::ByteRange& fragment : layout.fragments) RequireInside(file, fragment);
  if (layout.fragments.empty()) return;
  for (const std::uint32_t frame : FirstAndLast(pixels.frames)) {
    const auto fragments = dicom::FragmentsOfFrame(file, layout, frame);
    if (!fragments.ok()) {
      RequireTyped(fragments.status());
      continue;
    }
    Require(!fragments->empty(), "a frame without fragments");
    Require(fragments->data() >= layout.fragments.data() &&
                fragments->data() + fragments->size() <= layout.fragments.data() + layout.fragments.size(),
            "fragments of nowhere");
  }
}

// Whether OpenJPH would decode the frame. It asserts inside code blocks, which is for a helper process to die
// of, not for this one: such files go through corrupted_files.
bool IsHighThroughput(Bytes file, const dicom::FileLayout& layout, std::uint32_t frame) {
  if (layout.syntax->codec != dicom::Codec::kJpeg2000) return false;
  const auto fragments = dicom::FragmentsOfFrame(file, layout, frame);
  if (!fragments.ok() || fragments->empty()) return false;
  std::vector<std::byte> stream;
  for (const dicom::ByteRange& fragment : *fragments) {
    const Bytes part = file.subspan(fragment.offset, fragment.length);
    stream.insert(stream.end(), part.begin(), part.end());
  }
  const auto info = dicom::ReadJpeg2000Info(dicom::WithoutJp2(stream));
  return info.ok() && info->high_throughput;
}

// Decodes one frame into a slot between guards.
void DecodeGuarded(const dicom::Runtime& runtime, Bytes file, const dicom::FileLayout& layout,
                   const dicom::FrameRequest& request) {
  const std::uint64_t bytes =
      std::uint64_t{request.rows} * request.columns * base::BytesOf(request.stored_type);
  if (bytes > kMaxFrameBytes || IsHighThroughput(file, layout, request.frame)) return;
  std::vector<std::byte> slot(bytes + 2 * kGuardBytes, kGuard);
  const absl::Status status =
      dicom::DecodeFrame(runtime, file, layout, request, std::span(slot).subspan(kGuardBytes, bytes));
  if (!status.ok()) RequireTyped(status);
  const auto is_guard = [](std::byte b) { return b == kGuard; };
  Require(std::all_of(slot.begin(), slot.begin() + kGuardBytes, is_guard) &&
              std::all_of(slot.end() - kGuardBytes, slot.end(), is_guard),
          "a decoder wrote outside its slot");
}

const dicom::Runtime& TheRuntime() {
  static const std::unique_ptr<dicom::Runtime> runtime = [] {
    auto made = dicom::Runtime::Create();
    Require(made.ok(), "the DICOM libraries are not complete");
    return *std::move(made);
  }();
  return *runtime;
}

// The front's side of a lease: what the pool does with one record.
class Front {
 public:
  Front()
      : limits_(Message(kLimits)),
        ranges_(kItems),
        frames_(kItems),
        arena_(*ipc::Arena::Create(4096, kItems, nullptr)) {
    for (std::uint32_t item = 0; item < kItems; ++item) {
      frames_[item].slot = item;
      frames_[item].stored_type = ipc::v1::STORED_TYPE_I16;
      frames_[item].rows = 4;
      frames_[item].columns = 4;
    }
  }

  // Takes a reply for one of the items; headers that are believed are kept.
  void Take(ipc::v1::HelperReply& reply) {
    const std::size_t item = reply.index() % kItems;
    if (reply.has_refused()) {
      ipc::IsPlausible(reply.refused());
      return;
    }
    // A header of many frames comes in parts.
    if (reply.has_frames()) {
      if (ipc::IsPlausible(reply.frames())) parts_.MergeFrom(reply.frames());
      if (parts_.frame_size() > ipc::kMaxHeaderFrames) parts_.Clear();
      return;
    }
    const ipc::v1::FramePart parts = std::exchange(parts_, {});
    if (reply.has_header() && reply.header().frame().empty())
      *reply.mutable_header()->mutable_frame() = parts.frame();
    ipc::DecodeWork decode(-1, frames_, *arena_);
    ipc::v1::HelperReply copy = reply;
    if (decode.Take(item, copy)) Require(decode.results[item].ok(), "a believed frame is no frame");
    ipc::HeaderWork headers(-1, ranges_, limits_);
    if (!headers.Take(item, reply)) return;
    Require(headers.results[item].ok(), "a believed header is no header");
    series::Instance instance;
    instance.index = static_cast<std::uint32_t>(instances_.size());
    instance.content_sha256 = std::to_string(instances_.size());
    instance.header = *std::move(headers.results[item]);
    instances_.push_back(std::move(instance));
  }

  // What becomes of the headers.
  void Finish() const {
    if (instances_.empty()) return;
    const series::StudySeries study = series::BuildStudy(instances_);
    for (const series::Series& series : study.series) {
      for (const series::Volume& volume : series.volumes) {
        for (const series::VolumeSlice& slice : volume.slices) {
          Require(slice.index < instances_.size(), "a slice of no instance");
          const ipc::v1::InstanceHeader& header = instances_[slice.index].header;
          Require(slice.frame < std::max(header.frames(), 1u), "a slice of no frame");
        }
        if (volume.verdict != series::Verdict::kReject) {
          Require(volume.geometry.has_value(), "an accepted volume without a grid");
          Require(volume.geometry->size_ijk()[2] == volume.slices.size(), "a grid of another depth");
        }
      }
    }
  }

 private:
  const ipc::v1::GatekeeperLimits limits_;
  const std::vector<ipc::v1::SpoolRange> ranges_;
  std::vector<ipc::HelperPool::Frame> frames_;
  const std::unique_ptr<ipc::Arena> arena_;
  ipc::v1::FramePart parts_;
  std::vector<series::Instance> instances_;
};

}  // namespace

void Gatekeeper(Bytes file) {
  const auto layout = dicom::Inspect(file, kLimits);
  if (!layout.ok()) return RequireTyped(layout.status());
  Require(layout->syntax != nullptr, "a file without a syntax passed");
  for (const dicom::HeaderElement& element : layout->elements) RequireInside(file, element.value);
  if (layout->has_pixels) RequirePixels(file, *layout);
}

void Header(Bytes file) {
  const auto header = dicom::ReadHeader(file, kLimits);
  if (!header.ok()) return RequireTyped(header.status());
  ipc::v1::InstanceHeader parsed;
  Require(parsed.ParseFromString(header->SerializeAsString()), "a header is no valid UTF-8");
  Require(ipc::IsPlausible(parsed, Message(kLimits)),
          "an honest header is one that the front would not believe");
}

void Reply(Bytes records) {
  // It says of each invalid text that it is one.
  [[maybe_unused]] static const bool silenced = (google::protobuf::SetLogHandler(nullptr), true);
  Front front;
  for (std::size_t count = 0; count < kMaxRecords && records.size() >= 2; ++count) {
    const std::size_t length = std::min(
        static_cast<std::size_t>(records[0]) | static_cast<std::size_t>(records[1]) << 8, records.size() - 2);
    const Bytes record = records.subspan(2, length);
    records = records.subspan(2 + length);
    int ends[2];
    Require(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "no socket can be made");
    ipc::RecordSocket socket{base::UniqueFd(ends[0])};
    {
      const base::UniqueFd helper(ends[1]);
      if (!record.empty()) {
        Require(::send(helper.get(), record.data(), record.size(), MSG_NOSIGNAL) ==
                    static_cast<ssize_t>(record.size()),
                "a record cannot be sent");
      }
    }
    ipc::v1::HelperReply reply;
    const absl::Status received = socket.ReceiveMessage(reply, nullptr, std::chrono::milliseconds(1000));
    if (received.ok()) {
      front.Take(reply);
    } else {
      RequireTyped(received);
    }
  }
  front.Finish();
}

void Helper(Bytes file) {
  auto inflated = dicom::Inflate(file, kLimits);
  if (!inflated.ok()) return RequireTyped(inflated.status());
  std::vector<std::byte> plain;
  if (*inflated) {
    plain = **std::move(inflated);
    Require(plain.size() <= kLimits.instance_bytes, "a dataset was inflated beyond the limit");
    file = plain;
  }
  const auto layout = dicom::Inspect(file, kLimits);
  if (!layout.ok()) return RequireTyped(layout.status());
  const auto header = dicom::ReadHeader(file, *layout);
  if (!header.ok()) return RequireTyped(header.status());
  if (header->stored_type() == ipc::v1::STORED_TYPE_UNSPECIFIED) return;
  for (const std::uint32_t frame : FirstAndLast(header->frames())) {
    dicom::FrameRequest request;
    request.frame = frame;
    request.stored_type = header->stored_type();
    request.rows = header->rows();
    request.columns = header->columns();
    DecodeGuarded(TheRuntime(), file, *layout, request);
  }
}

}  // namespace tomoserve::fuzz
