// Acknowledging, parking, stragglers and waiting. Across processes: process/.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "epoch/epoch.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

std::vector<std::string> NamesOf(const std::vector<StragglerStatus>& stragglers) {
  std::vector<std::string> names;
  for (const StragglerStatus& straggler : stragglers) names.push_back(straggler.name);
  return names;
}

using AcknowledgeTest = SmallRegionTest;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(AcknowledgeTest, joining_acknowledges_the_epoch_it_finds) {
  Participant first = Joined("first");
  ASSERT_OK(first.Commit("x"));
  Participant second = Joined("second");
  EXPECT_THAT(NamesOf(region().Stragglers(1)), ElementsAre("first"));
}

TEST_F(AcknowledgeTest, pin_and_poll_acknowledge_commit_does_not) {
  Participant a = Joined("a"), b = Joined("b");
  ASSERT_OK(a.Commit("x"));
  EXPECT_THAT(NamesOf(region().Stragglers(1)), ElementsAre("a", "b"));
  EXPECT_EQ(*a.Poll(), 1u);
  EXPECT_THAT(NamesOf(region().Stragglers(1)), ElementsAre("b"));
  EXPECT_EQ(b.Pin().epoch(), 1u);
  EXPECT_THAT(region().Stragglers(1), IsEmpty());
  EXPECT_THAT(NamesOf(region().Stragglers(2)), ElementsAre("a", "b"));
}

TEST_F(AcknowledgeTest, poll_under_a_pin_acknowledges_what_is_pinned) {
  Participant self = Joined("self"), writer = Joined("writer");
  ASSERT_OK(writer.Commit("one"));
  const Pin pin = self.Pin();
  ASSERT_OK(writer.Commit("two"));
  EXPECT_EQ(*self.Poll(), 1u);
  const auto stragglers = region().Stragglers(2);
  ASSERT_EQ(stragglers.size(), 2u);
  EXPECT_EQ(stragglers[0].name, "self");
  EXPECT_EQ(stragglers[0].acknowledged, 1u);
  EXPECT_EQ(stragglers[0].pinned, 1u);
  EXPECT_EQ(stragglers[1].pinned, std::nullopt);
}

TEST_F(AcknowledgeTest, parked_participant_is_nobodys_straggler_until_it_comes_back) {
  Participant self = Joined("self"), writer = Joined("writer");
  ASSERT_OK(self.Park());
  ASSERT_OK(writer.Commit("x"));
  EXPECT_THAT(NamesOf(region().Stragglers(1)), ElementsAre("writer"));
  EXPECT_OK(writer.Await(1, Stage::kConverged, kLong));
  ASSERT_OK(writer.Commit("y"));
  EXPECT_EQ(self.Pin().epoch(), 2u);
  ASSERT_OK(writer.Commit("z"));
  EXPECT_THAT(NamesOf(region().Stragglers(3)), ElementsAre("self", "writer"));
}

TEST_F(AcknowledgeTest, each_way_back_ends_parking) {
  Participant self = Joined("self");
  const auto parked = [&] {
    return (region().mapping()->view().slots[self.slot()].flags.Load() & detail::kSlotParked) != 0;
  };
  ASSERT_OK(self.Park());
  EXPECT_TRUE(parked());
  ASSERT_OK(self.Poll());
  EXPECT_FALSE(parked());
  ASSERT_OK(self.Park());
  { const Pin pin = self.Pin(); }
  EXPECT_FALSE(parked());
  ASSERT_OK(self.Park());
  ASSERT_OK(self.Commit("x"));
  EXPECT_FALSE(parked());
}

TEST_F(AcknowledgeTest, parking_is_refused_while_pinned) {
  Participant self = Joined();
  const Pin pin = self.Pin();
  EXPECT_FAILS(self.Park(), kFailedPrecondition, "pin");
}

TEST_F(AcknowledgeTest, parking_keeps_the_voter_flag) {
  auto self = Participant::Join(region(), {.name = "v", .voter = true});
  ASSERT_OK(self);
  ASSERT_OK(self->Park());
  const auto& flags = region().mapping()->view().slots[self->slot()].flags;
  EXPECT_EQ(flags.Load(), std::uint32_t{detail::kSlotVoter | detail::kSlotParked});
  ASSERT_OK(self->Poll());
  EXPECT_EQ(flags.Load(), std::uint32_t{detail::kSlotVoter});
}

TEST_F(AcknowledgeTest, converged_includes_the_waiter_itself) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x"));
  ASSERT_EQ(region().Stragglers(1).size(), 1u);
  EXPECT_EQ(*self.Await(1, Stage::kConverged, kLong), 1u);
  EXPECT_THAT(region().Stragglers(1), IsEmpty());
}

TEST_F(AcknowledgeTest, waiting_for_convergence_while_pinned_would_wait_for_oneself) {
  Participant self = Joined();
  const Pin pin = self.Pin();
  EXPECT_FAILS(self.Await(0, Stage::kConverged), kFailedPrecondition, "pin");
  EXPECT_OK(self.Await(0, Stage::kCommitted));
}

TEST_F(AcknowledgeTest, deadline_names_the_stragglers) {
  Participant self = Joined("waiter"), slow = Joined("slow one"), other = Joined("other");
  ASSERT_OK(self.Commit("x"));
  ASSERT_OK(other.Poll());
  auto waited = self.Await(1, Stage::kConverged, kSoon);
  EXPECT_FAILS(waited, kDeadlineExceeded, "\"slow one\" (slot 1, pid ");
  EXPECT_THAT(MessageOf(waited), testing::Not(testing::HasSubstr("other")));
  EXPECT_THAT(MessageOf(waited), testing::Not(testing::HasSubstr("waiter")));
}

TEST_F(AcknowledgeTest, deadline_for_an_epoch_nobody_proposed_says_where_the_region_is) {
  Participant self = Joined();
  EXPECT_FAILS(self.Await(5, Stage::kCommitted, kSoon), kDeadlineExceeded,
               "at epoch 0, not yet at 5");
  EXPECT_FAILS(self.Await(5, Stage::kConverged, kSoon), kDeadlineExceeded, "not yet at 5");
  EXPECT_FAILS(self.Await(5, Stage::kCommitted, absl::ZeroDuration()), kDeadlineExceeded, "");
  EXPECT_FAILS(self.Await(5, Stage::kCommitted, -absl::InfiniteDuration()), kDeadlineExceeded, "");
}

TEST_F(AcknowledgeTest, await_of_the_past_returns_the_present) {
  Participant self = Joined();
  for (int i = 0; i < 3; ++i) ASSERT_OK(self.Commit("x"));
  EXPECT_EQ(*self.Await(1, Stage::kCommitted, absl::ZeroDuration()), 3u);
}

TEST_F(AcknowledgeTest, waiters_are_woken_by_commit_and_by_acknowledgment) {
  Participant waiter = Joined("waiter");
  std::thread other([&] {
    auto self = Participant::Join(region(), {.name = "other"});
    ASSERT_OK(self);
    for (Epoch epoch = 1; epoch <= 50; ++epoch) {
      ASSERT_OK(self->Commit("x"));
      ASSERT_OK(self->Await(epoch, Stage::kConverged, kLong));
    }
  });
  for (Epoch epoch = 1; epoch <= 50; ++epoch) {
    EXPECT_OK(waiter.Await(epoch, Stage::kCommitted, kLong));
    EXPECT_OK(waiter.Poll());
  }
  // The other may have left meanwhile, or waits for nobody but this one.
  EXPECT_OK(waiter.Await(50, Stage::kConverged, kLong));
  other.join();
}

TEST_F(AcknowledgeTest, leaving_ends_the_wait_for_the_leaver) {
  Participant self = Joined("self");
  {
    Participant leaver = Joined("leaver");
    ASSERT_OK(self.Commit("x"));
    EXPECT_FAILS(self.Await(1, Stage::kConverged, kSoon), kDeadlineExceeded, "leaver");
  }
  EXPECT_OK(self.Await(1, Stage::kConverged, kLong));
}

TEST_F(AcknowledgeTest, expelled_participants_delay_nobody) {
  Participant self = Joined("self"), victim = Joined("victim");
  ASSERT_OK(self.Commit("x"));
  ASSERT_OK(region().Expel(victim.slot()));
  EXPECT_OK(self.Await(1, Stage::kConverged, kLong));
}

TEST_F(AcknowledgeTest, serve_of_a_volatile_region_is_refused) {
  Participant self = Joined();
  EXPECT_FAILS(self.Serve(kLong), kFailedPrecondition, "volatile");
}

TEST_F(AcknowledgeTest, by_hand_only_what_is_acknowledged_counts) {
  Participant writer = Joined("writer");
  ASSERT_OK(writer.Commit("one"));
  auto self = Participant::Join(region(), {.name = "self", .acknowledges_by_hand = true});
  ASSERT_OK(self);
  ASSERT_OK(writer.Poll());
  auto listener = self->Listen();
  ASSERT_OK(listener);
  EXPECT_EQ(self->Pin().epoch(), 1u);
  ASSERT_OK(self->Poll());
  EXPECT_THAT(NamesOf(region().Stragglers(1)), ElementsAre("self"));
  EXPECT_EQ(region().Stragglers(1)[0].acknowledged, std::nullopt) << "joining does not either";
  EXPECT_FAILS(self->Await(1, Stage::kConverged), kFailedPrecondition, "wait for oneself");
  EXPECT_FAILS(self->Acknowledge(2), kOutOfRange, "the region is at 1");
  ASSERT_OK(self->Acknowledge(1));
  EXPECT_THAT(region().Stragglers(1), IsEmpty());
  EXPECT_OK(self->Await(1, Stage::kConverged));
  ASSERT_OK(self->Acknowledge(0)) << "never back";
  EXPECT_THAT(region().Stragglers(1), IsEmpty());
}

TEST_F(AcknowledgeTest, a_listener_that_was_stopped_has_no_descriptor) {
  Participant self = Joined("self");
  auto listener = self.Listen();
  ASSERT_OK(listener);
  EXPECT_GE(listener->fd(), 3);
  listener->Stop();
  EXPECT_EQ(listener->fd(), -1);
  listener->Drain();
  listener->Stop();
  auto again = self.Listen();
  ASSERT_OK(again);
  Listener moved = *std::move(again);
  EXPECT_EQ(again->fd(), -1);
  EXPECT_GE(moved.fd(), 3);
}

TEST_F(AcknowledgeTest, stragglers_are_shown_with_their_condition) {
  Participant self = Joined("self");
  ASSERT_OK(self.Commit("x"));
  ASSERT_EQ(region().Stragglers(1).size(), 1u);
  EXPECT_EQ(region().Stragglers(1)[0].condition, Condition::kRunning);
  const auto& view = region().mapping()->view();
  const std::uint64_t here = detail::PidNamespace();
  EXPECT_FALSE(detail::OwnerStopped(view.slots[0], here));
  ASSERT_OK(self.Park());
  EXPECT_EQ(detail::LivingCondition(view.slots[0], here), Condition::kParked);
}

}  // namespace
}  // namespace epoch::test
