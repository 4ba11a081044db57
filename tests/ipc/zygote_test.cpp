#include "tomoserve/ipc/zygote.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "fake_helper.h"
#include "processes.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/child.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{10'000};

// A zygote spoken to in its own protocol.
class ZygoteTest : public testing::Test {
 protected:
  void SetUp() override {
    auto zygote = Child::Spawn({TOMOSERVE_FAKE_HELPER});
    ASSERT_TRUE(zygote.ok()) << zygote.status();
    zygote_ = *std::move(zygote);
  }
  // The front's end of a new lease.
  RecordSocket Open(std::uint64_t lease_id) {
    auto pair = RecordSocket::Pair();
    EXPECT_TRUE(pair.ok());
    v1::ZygoteRequest request;
    request.mutable_lease()->set_lease_id(lease_id);
    request.mutable_lease()->set_role(v1::HELPER_ROLE_HEADER);
    const int fd = pair->second.fd();
    EXPECT_TRUE(zygote_.socket().Send(request, std::span(&fd, 1)).ok());
    return std::move(pair->first);
  }
  static void Ask(RecordSocket& lease, fake::Behaviour behaviour) {
    v1::HelperRequest request;
    request.mutable_header()->add_items()->mutable_range()->set_offset(behaviour);
    EXPECT_TRUE(lease.Send(request).ok());
  }
  v1::LeaseEnded NextEnd() {
    v1::LeaseEnded ended;
    const absl::Status received = zygote_.socket().ReceiveMessage(ended, nullptr, kPatience);
    EXPECT_TRUE(received.ok()) << received;
    return ended;
  }

  Child zygote_;
};

TEST_F(ZygoteTest, LeaseIsServedAndEndsWithItsSocket) {
  RecordSocket lease = Open(7);
  Ask(lease, fake::kFine);
  v1::HelperReply reply;
  ASSERT_TRUE(lease.ReceiveMessage(reply, nullptr, kPatience).ok());
  EXPECT_TRUE(reply.has_header());
  lease.Close();
  const v1::LeaseEnded ended = NextEnd();
  EXPECT_EQ(ended.lease_id(), 7u);
  EXPECT_EQ(ended.exit_code(), 0);
  EXPECT_EQ(ended.signal(), 0);
  EXPECT_TRUE(ChildrenOf(zygote_.pid()).empty());
}

TEST_F(ZygoteTest, EveryLeaseHasItsOwnProcess) {
  RecordSocket one = Open(1);
  RecordSocket two = Open(2);
  std::vector<std::string> pids;
  for (RecordSocket* lease : {&one, &two}) {
    Ask(*lease, fake::kFine);
    v1::HelperReply reply;
    ASSERT_TRUE(lease->ReceiveMessage(reply, nullptr, kPatience).ok());
    pids.push_back(reply.header().protocol_name());
  }
  EXPECT_NE(pids[0], pids[1]);
  EXPECT_NE(pids[0], std::to_string(zygote_.pid()));
}

TEST_F(ZygoteTest, DeathIsReportedWithItsSignal) {
  RecordSocket lease = Open(3);
  Ask(lease, fake::kAbort);
  const v1::LeaseEnded ended = NextEnd();
  EXPECT_EQ(ended.lease_id(), 3u);
  EXPECT_EQ(ended.signal(), SIGABRT);
  EXPECT_EQ(ReasonOf(lease.Receive(kPatience).status()), "PEER_GONE");
}

TEST_F(ZygoteTest, EndLeaseKillsAHangingChildAndNoOther) {
  RecordSocket hanging = Open(4);
  RecordSocket other = Open(5);
  Ask(hanging, fake::kSpin);
  v1::ZygoteRequest request;
  request.mutable_end()->set_lease_id(4);
  ASSERT_TRUE(zygote_.socket().Send(request).ok());
  const v1::LeaseEnded ended = NextEnd();
  EXPECT_EQ(ended.lease_id(), 4u);
  EXPECT_EQ(ended.signal(), SIGKILL);
  Ask(other, fake::kFine);
  v1::HelperReply reply;
  EXPECT_TRUE(other.ReceiveMessage(reply, nullptr, kPatience).ok());
}

TEST_F(ZygoteTest, LeaseWithoutADescriptorIsReportedAsNotStarted) {
  v1::ZygoteRequest request;
  request.mutable_lease()->set_lease_id(6);
  ASSERT_TRUE(zygote_.socket().Send(request).ok());
  const v1::LeaseEnded ended = NextEnd();
  EXPECT_EQ(ended.lease_id(), 6u);
  EXPECT_TRUE(ended.not_started());
}

TEST_F(ZygoteTest, EndOfControlEndsHangingChildrenToo) {
  RecordSocket lease = Open(8);
  Ask(lease, fake::kSpin);
  ASSERT_TRUE(Eventually([&] { return ChildrenOf(zygote_.pid()).size() == 1; }));
  zygote_.socket().Shutdown();
  const auto ended = zygote_.Wait(kPatience);
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->exit_code, 0);
  EXPECT_EQ(ended->signal, 0);
  EXPECT_EQ(ReasonOf(lease.Receive(kPatience).status()), "PEER_GONE");
}

TEST_F(ZygoteTest, KilledZygoteTakesItsChildrenAlong) {
  RecordSocket lease = Open(9);
  Ask(lease, fake::kSpin);
  ASSERT_TRUE(Eventually([&] { return ChildrenOf(zygote_.pid()).size() == 1; }));
  ::kill(zygote_.pid(), SIGKILL);  // not by Child, which would kill the group
  EXPECT_EQ(ReasonOf(lease.Receive(kPatience).status()), "PEER_GONE");
}

TEST_F(ZygoteTest, SurvivesTheTerminationOfItsGroup) {
  RecordSocket lease = Open(10);
  Ask(lease, fake::kFine);
  v1::HelperReply reply;
  ASSERT_TRUE(lease.ReceiveMessage(reply, nullptr, kPatience).ok());
  ::kill(zygote_.pid(), SIGTERM);
  ::kill(zygote_.pid(), SIGINT);
  Ask(lease, fake::kFine);
  EXPECT_TRUE(lease.ReceiveMessage(reply, nullptr, kPatience).ok());
}

TEST_F(ZygoteTest, RubbishOnControlEndsItWithAnError) {
  v1::Refusal other;
  other.set_code("\x01\x02");
  ASSERT_TRUE(zygote_.socket().Send(other).ok());
  const auto ended = zygote_.Wait(kPatience);
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->exit_code, 1);
}

}  // namespace
}  // namespace tomoserve::ipc
