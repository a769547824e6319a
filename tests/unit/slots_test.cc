// Slots within one process: join, leave, expel, reap and the words that change hands.
#include "epoch/detail/protocol/slots.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "support/region_test.h"

namespace epoch::test {
namespace {

using detail::SlotState;
using detail::SlotWord;

class SlotsTest : public SmallRegionTest {
 protected:
  detail::Slot& SlotAt(std::uint32_t i) { return region().mapping()->view().slots[i]; }
  SlotWord StateOf(std::uint32_t i) { return SlotWord::Unpack(SlotAt(i).state.Load()); }
  bool AliveAt(std::uint32_t i) { return detail::OwnerAlive(region().mapping()->probe_fd(), i); }
};

TEST_F(SlotsTest, join_fills_the_slot_and_holds_its_byte) {
  auto self = Participant::Join(region(), {.name = "planner", .voter = true});
  ASSERT_OK(self);
  const std::uint32_t i = self->slot();
  EXPECT_EQ(StateOf(i).state, SlotState::kActive);
  EXPECT_EQ(StateOf(i).generation, self->generation());
  EXPECT_EQ(detail::ReadName(SlotAt(i)), "planner");
  EXPECT_EQ(SlotAt(i).pid.Load(), static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(SlotAt(i).start_time_ticks.Load(), detail::StartTimeTicks());
  EXPECT_GT(SlotAt(i).start_time_ticks.Load(), 0u);
  EXPECT_EQ(SlotAt(i).pid_namespace.Load(), detail::PidNamespace());
  EXPECT_EQ(SlotAt(i).flags.Load(), std::uint32_t{detail::kSlotVoter});
  EXPECT_TRUE(AliveAt(i));
}

TEST_F(SlotsTest, leave_frees_slot_and_byte_and_the_next_owner_gets_the_next_generation) {
  std::uint32_t slot = 0;
  for (std::uint64_t generation = 1; generation <= 5; ++generation) {
    Participant self = Joined();
    slot = self.slot();
    EXPECT_EQ(slot, 0u);
    EXPECT_EQ(self.generation(), generation);
    ASSERT_OK(self.Leave());
    EXPECT_EQ(StateOf(slot).state, SlotState::kFree);
    EXPECT_EQ(StateOf(slot).generation, generation);
    EXPECT_FALSE(AliveAt(slot));
  }
}

TEST_F(SlotsTest, destruction_leaves) {
  { Participant self = Joined(); }
  EXPECT_EQ(CountSlots(region(), SlotState::kFree), kParticipants);
}

TEST_F(SlotsTest, after_leave_every_call_reports_it_and_rejoin_works) {
  Participant self = Joined();
  ASSERT_OK(self.Leave());
  EXPECT_FAILS(self.status(), kFailedPrecondition, "left the region");
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_FAILS(self.TryPin(), kFailedPrecondition, "left");
  EXPECT_FAILS(self.NewDraft(std::size_t{1}), kFailedPrecondition, "left");
  EXPECT_FAILS(self.Commit("x"), kFailedPrecondition, "left");
  EXPECT_FAILS(self.Poll(), kFailedPrecondition, "left");
  EXPECT_FAILS(self.Park(), kFailedPrecondition, "left");
  EXPECT_OK(self.Leave());
  ASSERT_OK(self.Rejoin());
  EXPECT_OK(self.Commit("x"));
}

TEST_F(SlotsTest, leave_and_rejoin_are_refused_while_pinned) {
  Participant self = Joined();
  Pin pin = self.Pin();
  EXPECT_FAILS(self.Leave(), kFailedPrecondition, "pin");
  EXPECT_FAILS(self.Rejoin(), kFailedPrecondition, "pin");
  pin.Release();
  EXPECT_OK(self.Leave());
}

TEST_F(SlotsTest, expelled_participant_is_told_by_every_call_and_may_rejoin) {
  Participant self = Joined("victim");
  ASSERT_OK(region().Expel(self.slot()));
  EXPECT_EQ(StateOf(self.slot()).state, SlotState::kExpelled);
  EXPECT_FAILS(self.status(), kFailedPrecondition, "expelled");
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_FAILS(self.TryPin(), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.NewDraft(std::size_t{1}), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.Commit("x"), kFailedPrecondition, "expelled");
  EXPECT_FAILS(Increment(self), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.Poll(), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.Park(), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.Await(1, Stage::kCommitted), kFailedPrecondition, "expelled");
  EXPECT_FAILS(self.Await(0, Stage::kConverged), kFailedPrecondition, "expelled");
  EXPECT_EQ(region().epoch(), 0u);
  ASSERT_OK(self.Rejoin());
  EXPECT_OK(Increment(self));
  EXPECT_EQ(CountSlots(region(), SlotState::kExpelled), 0u);
}

TEST_F(SlotsTest, reap_leaves_an_expelled_but_living_owner_in_quarantine) {
  Participant self = Joined();
  auto draft = self.NewDraft(std::size_t{1});
  ASSERT_OK(draft);
  ASSERT_OK(region().Expel(self.slot()));
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_EQ(StateOf(self.slot()).state, SlotState::kExpelled);
  EXPECT_EQ(CountCells(region()).drafted, 1u);
  EXPECT_FAILS(self.Commit(*std::move(draft)), kFailedPrecondition, "expelled");
  EXPECT_EQ(CountCells(region()).drafted, 0u);
}

TEST_F(SlotsTest, expel_reports_what_can_not_be_expelled) {
  EXPECT_FAILS(region().Expel(kParticipants), kInvalidArgument, "8");
  EXPECT_FAILS(region().Expel(0xffffffffu), kInvalidArgument, "slot 4294967295");
  EXPECT_FAILS(region().Expel(3), kFailedPrecondition, "no participant");
  Participant self = Joined();
  EXPECT_OK(region().Expel(self.slot()));
  EXPECT_OK(region().Expel(self.slot())) << "twice is once";
}

TEST_F(SlotsTest, reap_of_a_region_of_the_living_changes_nothing) {
  Participant a = Joined(), b = Joined();
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_OK(a.status());
  EXPECT_OK(b.status());
}

TEST_F(SlotsTest, a_slot_whose_byte_is_free_is_reaped_whatever_state_it_is_in) {
  // As a participant killed in that state leaves it.
  for (auto state : {SlotState::kJoining, SlotState::kActive, SlotState::kExpelled}) {
    SCOPED_TRACE(static_cast<int>(state));
    auto& control = *region().mapping()->view().control;
    control.slot_limit.Store(5);
    SlotAt(4).state.Store(SlotWord{state, 9}.Pack());
    SlotAt(4).pin.Store(detail::OwnedWord{9, 0}.Pack());
    EXPECT_EQ(*region().Reap(), 1u);
    EXPECT_EQ(StateOf(4).state, SlotState::kFree);
    EXPECT_EQ(StateOf(4).generation, 9u);
    EXPECT_EQ(SlotAt(4).pin.Load(), detail::NoneOf(9));
    EXPECT_EQ(*region().Reap(), 0u);
  }
}

TEST_F(SlotsTest, a_late_reaper_does_not_touch_words_of_the_next_generation) {
  detail::Slot& slot = SlotAt(5);
  const auto expelled = [](std::uint64_t generation) {
    return SlotWord{SlotState::kExpelled, generation}.Pack();
  };
  const std::uint64_t held = detail::OwnedWord{7, 123}.Pack();
  slot.pin.Store(held);
  slot.state.Store(expelled(7));
  detail::ClearOwned(slot, expelled(6), slot.pin);
  EXPECT_EQ(slot.pin.Load(), held);
  // A generation that only the word's sixteen bits cannot tell from this one.
  slot.state.Store(expelled(7 + 0x10000));
  detail::ClearOwned(slot, expelled(7), slot.pin);
  EXPECT_EQ(slot.pin.Load(), held);
  slot.state.Store(expelled(7));
  detail::ClearOwned(slot, expelled(7), slot.pin);
  EXPECT_EQ(slot.pin.Load(), detail::NoneOf(7));
}

TEST_F(SlotsTest, names_are_kept_whole_up_to_63_bytes_and_refused_beyond) {
  const std::string longest(63, 'n');
  Participant self = Joined(longest);
  EXPECT_EQ(detail::ReadName(SlotAt(self.slot())), longest);
  EXPECT_FAILS(Participant::Join(region(), {.name = std::string(64, 'n')}), kInvalidArgument,
               "63 bytes");
}

TEST_F(SlotsTest, hostile_bytes_in_a_name_are_shown_as_question_marks) {
  Participant self = Joined("a\x1b[31m\xff\nb");
  EXPECT_EQ(detail::ReadName(SlotAt(self.slot())), "a?[31m??b");
}

TEST_F(SlotsTest, name_without_end_is_read_within_bounds) {
  for (auto& word : SlotAt(0).name) word.Store(0x4141414141414141u);
  EXPECT_EQ(detail::ReadName(SlotAt(0)), std::string(63, 'A'));
}

TEST_F(SlotsTest, two_mappings_of_one_process_see_each_others_owners_alive) {
  auto other = Region::Open(name());
  ASSERT_OK(other);
  Participant self = Joined();
  auto second = Participant::Join(*other, {.name = "second"});
  ASSERT_OK(second);
  EXPECT_NE(second->slot(), self.slot());
  EXPECT_EQ(*other->Reap(), 0u);
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_OK(self.status());
  EXPECT_OK(second->status());
}

}  // namespace
}  // namespace epoch::test
