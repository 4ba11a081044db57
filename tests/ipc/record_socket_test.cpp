#include "tomoserve/ipc/record_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "processes.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;
using std::chrono::milliseconds;

class RecordSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pair = RecordSocket::Pair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    here_ = std::move(pair->first);
    there_ = std::move(pair->second);
  }
  static v1::Refusal Text(std::string text) {
    v1::Refusal message;
    message.set_text(std::move(text));
    return message;
  }
  // A record that RecordSocket would not send.
  void SendRaw(std::string bytes, std::vector<int> fds = {}) {
    iovec part{bytes.data(), bytes.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    if (!fds.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* first = CMSG_FIRSTHDR(&header);
      first->cmsg_level = SOL_SOCKET;
      first->cmsg_type = SCM_RIGHTS;
      first->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(first), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_GE(::sendmsg(here_.fd(), &header, MSG_NOSIGNAL), 0) << std::strerror(errno);
  }

  RecordSocket here_;
  RecordSocket there_;
};

TEST_F(RecordSocketTest, CarriesRecordsInOrderBothWays) {
  ASSERT_TRUE(here_.Send(Text("one")).ok());
  ASSERT_TRUE(here_.Send(Text("two")).ok());
  ASSERT_TRUE(there_.Send(Text("three")).ok());
  v1::Refusal message;
  ASSERT_TRUE(there_.ReceiveMessage(message, nullptr).ok());
  EXPECT_EQ(message.text(), "one");
  ASSERT_TRUE(there_.ReceiveMessage(message, nullptr, milliseconds(1000)).ok());
  EXPECT_EQ(message.text(), "two");
  ASSERT_TRUE(here_.ReceiveMessage(message, nullptr).ok());
  EXPECT_EQ(message.text(), "three");
}

TEST_F(RecordSocketTest, CarriesDescriptorsAndMarksThemCloseOnExec) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), 0), 0);
  const base::UniqueFd reader(pipe[0]);
  base::UniqueFd writer(pipe[1]);
  const std::array<int, 2> fds{writer.get(), reader.get()};
  ASSERT_TRUE(here_.Send(Text("pipe"), fds).ok());
  writer.reset();
  v1::Refusal message;
  std::vector<base::UniqueFd> received;
  ASSERT_TRUE(there_.ReceiveMessage(message, &received).ok());
  ASSERT_EQ(received.size(), 2u);
  for (const base::UniqueFd& fd : received) EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(there_.fd(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_EQ(::write(received[0].get(), "x", 1), 1);
  char byte = 0;
  ASSERT_EQ(::read(reader.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST_F(RecordSocketTest, CarriesThirtyTwoDescriptorsButNotMore) {
  const std::vector<int> fds(kMaxRecordFds + 1, here_.fd());
  EXPECT_EQ(ReasonOf(here_.Send(Text("x"), fds)), "RECORD_TOO_LARGE");
  ASSERT_TRUE(here_.Send(Text("x"), std::span(fds).first(kMaxRecordFds)).ok());
  const auto record = there_.Receive();
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->fds.size(), kMaxRecordFds);
}

TEST_F(RecordSocketTest, CarriesTheLargestRecordAndRefusesALargerOne) {
  const v1::Refusal largest = Text(std::string(kMaxRecordBytes - 4, 'x'));  // tag and length: 4 bytes
  ASSERT_EQ(largest.ByteSizeLong(), kMaxRecordBytes);
  ASSERT_TRUE(here_.Send(largest).ok());
  v1::Refusal message;
  ASSERT_TRUE(there_.ReceiveMessage(message, nullptr).ok());
  EXPECT_EQ(message.text(), largest.text());
  const absl::Status sent = here_.Send(Text(std::string(kMaxRecordBytes - 3, 'x')));
  EXPECT_EQ(ReasonOf(sent), "RECORD_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(sent), "65537");
}

TEST_F(RecordSocketTest, RefusesToSendNothing) {
  EXPECT_EQ(ReasonOf(here_.Send(v1::Refusal())), "RECORD_EMPTY");
}

TEST_F(RecordSocketTest, TruncatedRecordIsAnErrorAndItsDescriptorsAreClosed) {
  const std::size_t before = OpenDescriptors();
  SendRaw(std::string(kMaxRecordBytes + 1, 'x'), {here_.fd()});
  EXPECT_EQ(ReasonOf(there_.Receive().status()), "RECORD_TRUNCATED");
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RecordSocketTest, TooManyDescriptorsAreAnErrorAndAllAreClosed) {
  const std::size_t before = OpenDescriptors();
  SendRaw("x", std::vector<int>(kMaxRecordFds + 1, here_.fd()));
  EXPECT_EQ(ReasonOf(there_.Receive().status()), "RECORD_TRUNCATED");
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RecordSocketTest, UnexpectedDescriptorsAreAnErrorAndClosed) {
  const std::size_t before = OpenDescriptors();
  const int fd = here_.fd();
  ASSERT_TRUE(here_.Send(Text("x"), std::span(&fd, 1)).ok());
  v1::Refusal message;
  EXPECT_EQ(ReasonOf(there_.ReceiveMessage(message, nullptr)), "RECORD_MALFORMED");
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RecordSocketTest, RubbishIsMalformedAndItsDescriptorsAreClosed) {
  const std::size_t before = OpenDescriptors();
  SendRaw("\xFF\xFF\xFF", {here_.fd()});
  v1::Refusal message;
  std::vector<base::UniqueFd> fds;
  EXPECT_EQ(ReasonOf(there_.ReceiveMessage(message, &fds)), "RECORD_MALFORMED");
  EXPECT_TRUE(fds.empty());
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RecordSocketTest, InvalidUtf8IsMalformed) {
  SendRaw("\x0A\x02\xC3\x28");  // field 1, two bytes that are no UTF-8
  v1::Refusal message;
  EXPECT_EQ(ReasonOf(there_.ReceiveMessage(message, nullptr)), "RECORD_MALFORMED");
}

TEST_F(RecordSocketTest, EndOfPeerIsPeerGoneForBothDirections) {
  here_.Close();
  EXPECT_EQ(ReasonOf(there_.Receive().status()), "PEER_GONE");
  EXPECT_EQ(ReasonOf(there_.Receive(milliseconds(1000)).status()), "PEER_GONE");
  EXPECT_EQ(ReasonOf(there_.Send(Text("x"))), "PEER_GONE");
}

TEST_F(RecordSocketTest, WhatThePeerSentBeforeItsEndStillArrives) {
  ASSERT_TRUE(there_.Send(Text("never read")).ok());
  ASSERT_TRUE(here_.Send(Text("last words")).ok());
  here_.Close();
  v1::Refusal message;
  const absl::Status received = there_.ReceiveMessage(message, nullptr, milliseconds(1000));
  ASSERT_TRUE(received.ok()) << received;
  EXPECT_EQ(message.text(), "last words");
  EXPECT_EQ(ReasonOf(there_.Receive(milliseconds(1000)).status()), "PEER_GONE");
}

TEST_F(RecordSocketTest, ReceiveGivesUpAfterItsTimeout) {
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = there_.Receive(milliseconds(50)).status();
  EXPECT_EQ(ReasonOf(status), "TIMEOUT");
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(50));
  EXPECT_EQ(ReasonOf(there_.Receive(milliseconds(0)).status()), "TIMEOUT");
}

TEST_F(RecordSocketTest, SendGivesUpAfterItsTimeoutWhenNobodyReads) {
  ASSERT_TRUE(here_.SetSendTimeout(milliseconds(50)).ok());
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = here_.Send(Text(std::string(60'000, 'x')));
  EXPECT_EQ(ReasonOf(status), "TIMEOUT");
}

TEST_F(RecordSocketTest, ShutdownWakesABlockedReceive) {
  std::string reason;
  std::jthread reader([&] { reason = ReasonOf(there_.Receive().status()); });
  std::this_thread::sleep_for(milliseconds(20));
  here_.Shutdown();
  reader.join();
  EXPECT_EQ(reason, "PEER_GONE");
}

TEST_F(RecordSocketTest, CarriesLargeMessagesInASealedMemfd) {
  const base::UniqueFd extra(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::array<int, 1> fds{extra.get()};
  for (const std::size_t size : {std::size_t{10}, kMaxRecordBytes + 1, std::size_t{3} << 20}) {
    ASSERT_TRUE(here_.SendLarge(Text(std::string(size, 'x')), fds).ok()) << size;
    v1::Refusal message;
    std::vector<base::UniqueFd> received;
    ASSERT_TRUE(there_.ReceiveLarge(message, &received, milliseconds(1000)).ok()) << size;
    EXPECT_EQ(message.text(), std::string(size, 'x'));
    EXPECT_EQ(received.size(), 1u);
    ASSERT_TRUE(here_.SendLarge(Text(std::string(size, 'y'))).ok());
    ASSERT_TRUE(there_.ReceiveLarge(message, nullptr, milliseconds(1000)).ok()) << size;
    EXPECT_EQ(message.text(), std::string(size, 'y'));
  }
  EXPECT_EQ(ReasonOf(here_.SendLarge(Text(std::string(kMaxLargeBytes, 'x')))), "RECORD_TOO_LARGE");
}

TEST_F(RecordSocketTest, RefusesLargeMessagesThatCouldStillChange) {
  const std::string mark("\0large", 6);
  v1::Refusal message;
  SendRaw(mark);
  EXPECT_EQ(ReasonOf(there_.ReceiveLarge(message, nullptr)), "RECORD_MALFORMED");
  for (const int seals : {0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, F_SEAL_WRITE}) {
    const base::UniqueFd memfd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(memfd.get(), kMaxRecordBytes * 2), 0);
    ASSERT_EQ(::fcntl(memfd.get(), F_ADD_SEALS, seals), 0);
    SendRaw(mark, {memfd.get()});
    EXPECT_EQ(ReasonOf(there_.ReceiveLarge(message, nullptr)), "RECORD_MALFORMED") << seals;
  }
  // Whoever does not expect large messages takes none.
  ASSERT_TRUE(here_.SendLarge(Text(std::string(kMaxRecordBytes + 1, 'x'))).ok());
  EXPECT_EQ(ReasonOf(there_.ReceiveMessage(message, nullptr)), "RECORD_MALFORMED");
}

}  // namespace
}  // namespace tomoserve::ipc
