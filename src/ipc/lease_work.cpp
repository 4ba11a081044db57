#include "ipc/lease_work.h"

#include <algorithm>
#include <string>

#include "ipc/reply_checks.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/stored_type.h"

namespace tomoserve::ipc {
namespace {

absl::Status Unanswered() { return absl::UnknownError("not answered yet"); }

absl::Status NoSuchSlot(std::uint32_t slot) {
  return base::Error(absl::StatusCode::kInvalidArgument, "SLOT_INVALID", std::to_string(slot),
                     "the arena has no such slot");
}

// Bytes of a frame; all factors are small enough.
std::uint64_t FrameBytes(std::uint32_t rows, std::uint32_t columns, v1::StoredType type) {
  return std::uint64_t{rows} * columns * base::BytesOf(type);
}

// Bytes that go into the slot.
std::uint64_t SlotBytes(const HelperPool::Frame& frame) {
  return frame.tile ? FrameBytes(frame.tile->rows(), frame.tile->columns(), frame.stored_type)
                    : FrameBytes(frame.rows, frame.columns, frame.stored_type);
}

absl::Status CheckTile(const v1::Tile& tile, const HelperPool::Frame& frame) {
  if (tile.rows() > 0 && tile.columns() > 0 && std::uint64_t{tile.first_row()} + tile.rows() <= frame.rows &&
      std::uint64_t{tile.first_column()} + tile.columns() <= frame.columns) {
    return absl::OkStatus();
  }
  return base::Error(absl::StatusCode::kInvalidArgument, "FRAME_INVALID", std::to_string(tile.first_row()),
                     "the tile lies outside its frame");
}

absl::Status CheckFrame(std::uint32_t rows, std::uint32_t columns, v1::StoredType type, std::uint64_t bytes,
                        std::uint64_t slot_bytes) {
  constexpr std::uint32_t kMaxUnsignedShort = 65535;
  if (rows == 0 || columns == 0 || rows > kMaxUnsignedShort || columns > kMaxUnsignedShort ||
      base::BytesOf(type) == 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "FRAME_INVALID", std::to_string(rows),
                       "a frame needs rows, columns and a stored type");
  }
  if (bytes > slot_bytes) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SLOT_INVALID", std::to_string(bytes),
                       "the frame is larger than its slot");
  }
  return absl::OkStatus();
}

// The slot as the child of this record sees it.
v1::Slot Grant(const Arena& arena, const std::vector<int>& fds, std::uint32_t index, LeaseRecord& record) {
  v1::Slot slot = arena.slot(index);
  slot.set_arena(record.Place(fds[slot.arena()]));
  return slot;
}

}  // namespace

std::uint32_t LeaseRecord::Place(int fd) {
  const auto place = std::find(fds.begin(), fds.end(), fd);
  const auto index = static_cast<std::uint32_t>(place - fds.begin());
  if (place == fds.end()) fds.push_back(fd);
  return index;
}

absl::Status NotRead() {
  return base::Error(absl::StatusCode::kResourceExhausted, "NOT_READ", "",
                     "the headers read so far leave no room for this one");
}

// A refusal of the helper's has another code.
bool IsNotRead(const absl::Status& status) {
  return absl::IsResourceExhausted(status) && base::ReasonOf(status) == "NOT_READ";
}

HeaderWork::HeaderWork(int spool_fd, const std::vector<v1::SpoolRange>& ranges,
                       const v1::GatekeeperLimits& limits, std::uint64_t held_bytes)
    : results(ranges.size(), Unanswered()),
      held_limit_(held_bytes),
      spool_fd_(spool_fd),
      ranges_(ranges),
      limits_(limits) {}

LeaseRecord HeaderWork::Opening() const {
  LeaseRecord record;
  record.request.mutable_header();
  record.fds = {spool_fd_};
  return record;
}

absl::Status HeaderWork::Check(std::size_t) const { return absl::OkStatus(); }

LeaseRecord HeaderWork::Ask(std::size_t item) const {
  LeaseRecord record;
  v1::HeaderItem& asked = *record.request.mutable_header()->add_items();
  asked.set_index(static_cast<std::uint32_t>(item));
  *asked.mutable_range() = ranges_[item];
  return record;
}

bool HeaderWork::Take(std::size_t item, v1::HelperReply& reply) {
  if (!reply.has_header() || !IsPlausible(reply.header(), limits_)) return false;
  if (held_limit_ != UINT64_MAX) {
    const std::uint64_t bytes = HeldBytes(reply.header());
    const std::uint64_t before = held_.fetch_add(bytes);
    if (before > 0 && before + bytes > held_limit_) {
      held_ -= bytes;
      full_ = true;
      results[item] = NotRead();
      return true;
    }
  }
  results[item] = std::move(*reply.mutable_header());
  return true;
}

void HeaderWork::Fail(std::size_t item, absl::Status status) { results[item] = std::move(status); }

DecodeWork::DecodeWork(int spool_fd, const std::vector<HelperPool::Frame>& frames, const Arena& arena)
    : results(frames.size(), Unanswered()),
      spool_fd_(spool_fd),
      frames_(frames),
      slow_(frames.size(), 0),
      arena_(arena),
      arena_fds_(arena.fds()) {}

LeaseRecord DecodeWork::Opening() const {
  LeaseRecord record;
  record.request.mutable_decode();
  record.fds = {spool_fd_};
  return record;
}

absl::Status DecodeWork::Check(std::size_t item) const {
  const HelperPool::Frame& frame = frames_[item];
  if (frame.slot >= arena_.slots()) return NoSuchSlot(frame.slot);
  if (frame.tile) TS_RETURN_IF_ERROR(CheckTile(*frame.tile, frame));
  return CheckFrame(frame.rows, frame.columns, frame.stored_type, SlotBytes(frame),
                    arena_.slot(frame.slot).bytes());
}

absl::Status DecodeWork::Prepare(std::size_t item) const {
  return arena_.MakePages(frames_[item].slot, SlotBytes(frames_[item]));
}

LeaseRecord DecodeWork::Ask(std::size_t item) const {
  const HelperPool::Frame& frame = frames_[item];
  LeaseRecord record;
  v1::DecodeItem& asked = *record.request.mutable_decode()->add_items();
  asked.set_index(static_cast<std::uint32_t>(item));
  *asked.mutable_range() = frame.range;
  asked.set_frame(frame.frame);
  *asked.mutable_slot() = Grant(arena_, arena_fds_, frame.slot, record);
  asked.set_stored_type(frame.stored_type);
  asked.set_rows(frame.rows);
  asked.set_columns(frame.columns);
  if (frame.tile) *asked.mutable_tile() = *frame.tile;
  asked.set_slow_codec(slow_[item] != 0);
  return record;
}

bool DecodeWork::Ease(std::size_t item) {
  if (!frames_[item].high_throughput || slow_[item] != 0) return false;
  slow_[item] = 1;
  return true;
}

bool DecodeWork::Take(std::size_t item, v1::HelperReply& reply) {
  const HelperPool::Frame& frame = frames_[item];
  if (!reply.has_decoded() || !IsSame(reply.decoded().slot(), Ask(item).request.decode().items(0).slot()) ||
      reply.decoded().bytes() != SlotBytes(frame)) {
    return false;
  }
  results[item] = absl::OkStatus();
  return true;
}

void DecodeWork::Fail(std::size_t item, absl::Status status) { results[item] = std::move(status); }

WriteWork::WriteWork(const std::vector<HelperPool::Write>& items, const Arena& pixels, const Arena& files)
    : results(items.size(), Unanswered()),
      items_(items),
      pixels_(pixels),
      files_(files),
      pixel_fds_(pixels.fds()),
      file_fds_(files.fds()) {}

absl::Status WriteWork::Check(std::size_t item) const {
  const HelperPool::Write& write = items_[item];
  if (write.pixel_slot >= pixels_.slots()) return NoSuchSlot(write.pixel_slot);
  if (write.file_slot >= files_.slots()) return NoSuchSlot(write.file_slot);
  const v1::SyntheticInstance& instance = write.instance;
  return CheckFrame(instance.rows(), instance.columns(), instance.stored_type(),
                    FrameBytes(instance.rows(), instance.columns(), instance.stored_type()),
                    pixels_.slot(write.pixel_slot).bytes());
}

LeaseRecord WriteWork::Ask(std::size_t item) const {
  const HelperPool::Write& write = items_[item];
  LeaseRecord record;
  v1::WriteItem& asked = *record.request.mutable_write()->add_items();
  asked.set_index(static_cast<std::uint32_t>(item));
  *asked.mutable_instance() = write.instance;
  *asked.mutable_pixels() = Grant(pixels_, pixel_fds_, write.pixel_slot, record);
  *asked.mutable_file() = Grant(files_, file_fds_, write.file_slot, record);
  return record;
}

bool WriteWork::Take(std::size_t item, v1::HelperReply& reply) {
  const v1::WrittenFile& written = reply.written();
  if (!reply.has_written() || !IsSame(written.slot(), Ask(item).request.write().items(0).file()) ||
      written.bytes() == 0 || written.bytes() > written.slot().bytes()) {
    return false;
  }
  results[item] = written.bytes();
  return true;
}

void WriteWork::Fail(std::size_t item, absl::Status status) { results[item] = std::move(status); }

}  // namespace tomoserve::ipc
