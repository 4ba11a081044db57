// What a call of the helper pool asks of its leases, and what it believes of their replies.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::ipc {

// A record for a child in the making.
struct LeaseRecord {
  v1::HelperRequest request;
  std::vector<int> fds;  // borrowed

  // The descriptor's place in this record, added if it is not there yet.
  std::uint32_t Place(int fd);
};

// The items of one call. Different items may be worked on by different threads at a time, one item by one.
class LeaseWork {
 public:
  virtual ~LeaseWork() = default;
  virtual v1::HelperRole role() const = 0;
  virtual std::size_t size() const = 0;
  // The record that opens a lease (the spool); without fields where none is needed.
  virtual LeaseRecord Opening() const = 0;
  // Whether the item can be asked for at all; an error is its result.
  virtual absl::Status Check(std::size_t item) const = 0;
  // What it takes before the item is asked for; an error is its result.
  virtual absl::Status Prepare(std::size_t) const { return absl::OkStatus(); }
  virtual LeaseRecord Ask(std::size_t item) const = 0;
  // Takes the result of an item whose index was right and which was not refused; false if it cannot be the
  // answer to what was asked.
  virtual bool Take(std::size_t item, v1::HelperReply& reply) = 0;
  // Nothing more is asked: what is left fails as NotRead().
  virtual bool full() const { return false; }
  // The item has killed its child twice. True where it can be asked for in another way, which it is from now
  // on; once.
  virtual bool Ease(std::size_t) { return false; }
  // The item has no result.
  virtual void Fail(std::size_t item, absl::Status status) = 0;
};

// Of an item that did not fit the call (kResourceExhausted).
absl::Status NotRead();
bool IsNotRead(const absl::Status& status);

class HeaderWork final : public LeaseWork {
 public:
  // Full once a header comes that would make those taken larger than `held_bytes` together, the first one
  // excepted.
  HeaderWork(int spool_fd, const std::vector<v1::SpoolRange>& ranges, const v1::GatekeeperLimits& limits,
             std::uint64_t held_bytes = UINT64_MAX);
  v1::HelperRole role() const override { return v1::HELPER_ROLE_HEADER; }
  std::size_t size() const override { return ranges_.size(); }
  LeaseRecord Opening() const override;
  absl::Status Check(std::size_t item) const override;
  LeaseRecord Ask(std::size_t item) const override;
  bool Take(std::size_t item, v1::HelperReply& reply) override;
  bool full() const override { return full_; }
  void Fail(std::size_t item, absl::Status status) override;
  std::vector<HeaderResult> results;

 private:
  const std::uint64_t held_limit_;
  std::atomic<std::uint64_t> held_ = 0;
  std::atomic<bool> full_ = false;
  const int spool_fd_;
  const std::vector<v1::SpoolRange>& ranges_;
  const v1::GatekeeperLimits& limits_;
};

class DecodeWork final : public LeaseWork {
 public:
  DecodeWork(int spool_fd, const std::vector<HelperPool::Frame>& frames, const Arena& arena);
  v1::HelperRole role() const override { return v1::HELPER_ROLE_DECODE; }
  std::size_t size() const override { return frames_.size(); }
  LeaseRecord Opening() const override;
  absl::Status Check(std::size_t item) const override;
  absl::Status Prepare(std::size_t item) const override;
  LeaseRecord Ask(std::size_t item) const override;
  bool Take(std::size_t item, v1::HelperReply& reply) override;
  bool Ease(std::size_t item) override;
  void Fail(std::size_t item, absl::Status status) override;
  std::vector<absl::Status> results;

 private:
  const int spool_fd_;
  const std::vector<HelperPool::Frame>& frames_;
  std::vector<char> slow_;  // by item: by the slow codec; not bool, whose neighbours share bytes
  const Arena& arena_;
  const std::vector<int> arena_fds_;
};

class WriteWork final : public LeaseWork {
 public:
  WriteWork(const std::vector<HelperPool::Write>& items, const Arena& pixels, const Arena& files);
  v1::HelperRole role() const override { return v1::HELPER_ROLE_WRITE; }
  std::size_t size() const override { return items_.size(); }
  LeaseRecord Opening() const override { return {}; }
  absl::Status Check(std::size_t item) const override;
  LeaseRecord Ask(std::size_t item) const override;
  bool Take(std::size_t item, v1::HelperReply& reply) override;
  void Fail(std::size_t item, absl::Status status) override;
  std::vector<absl::StatusOr<std::uint64_t>> results;

 private:
  const std::vector<HelperPool::Write>& items_;
  const Arena& pixels_;
  const Arena& files_;
  const std::vector<int> pixel_fds_;
  const std::vector<int> file_fds_;
};

}  // namespace tomoserve::ipc
