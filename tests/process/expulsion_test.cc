// Expelling the living: what they hold is quarantined, what they do counts for nothing.
#include <gtest/gtest.h>

#include <string>

#include "epoch/epoch.h"
#include "support/puppet.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

using ExpulsionTest = SmallRegionTest;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(ExpulsionTest, a_stopped_holder_keeps_its_version_until_it_is_gone) {
  Participant self = Joined();
  ASSERT_OK(Increment(self));
  Puppet zombie(name());
  ASSERT_EQ(zombie.Do("join zombie"), "ok 1 1");
  ASSERT_EQ(zombie.Do("pin"), "ok 1");
  ASSERT_EQ(zombie.Do("draft"), "ok");
  zombie.Stop();
  ASSERT_OK(region().Expel(1));
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kExpelled), 1u);
  for (int i = 0; i < 4; ++i) ASSERT_OK(Increment(self));
  EXPECT_EQ(*region().Reap(), 0u);
  detail::Reclaim(region().mapping()->view());
  EXPECT_EQ(CountCells(region()).drafted, 1u);
  // The slot is not given to others meanwhile.
  Participant other = Joined("other");
  EXPECT_EQ(other.slot(), 2u);
  zombie.Continue();
  EXPECT_EQ(zombie.Do("read"), "ok 1") << "unchanged under the pin, expelled or not";
  EXPECT_THAT(zombie.Do("status"), HasSubstr("expelled"));
  EXPECT_THAT(zombie.Do("poll"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(zombie.Do("commit 5"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(zombie.Do("rejoin"), HasSubstr("pin"));
  EXPECT_EQ(region().epoch(), 5u);
  ASSERT_EQ(zombie.Do("drop"), "ok");
  EXPECT_THAT(zombie.Do("rejoin"), StartsWith("ok 1 2"));
  EXPECT_EQ(zombie.Do("increment"), "ok 6");
  ExpectNothingLeaked(region(), 3);
}

TEST_F(ExpulsionTest, death_ends_the_quarantine) {
  Participant self = Joined();
  Puppet zombie(name());
  ASSERT_EQ(zombie.Do("join zombie"), "ok 1 1");
  ASSERT_EQ(zombie.Do("pin"), "ok 0");
  ASSERT_EQ(zombie.Do("draft"), "ok");
  zombie.Stop();
  ASSERT_OK(region().Expel(1));
  ASSERT_OK(Increment(self));
  zombie.Kill();
  ExpectNothingLeaked(region(), 1);
}

TEST_F(ExpulsionTest, a_draft_of_an_expelled_process_can_not_be_committed_any_more) {
  Participant self = Joined();
  Puppet zombie(name());
  ASSERT_EQ(zombie.Do("join zombie"), "ok 1 1");
  ASSERT_EQ(zombie.Do("draft"), "ok");
  ASSERT_OK(region().Expel(1));
  ASSERT_OK(Increment(self));
  EXPECT_THAT(zombie.Do("commit-draft"), HasSubstr("expelled"));
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_EQ(CountCells(region()).drafted, 0u) << "its owner dropped it";
}

TEST_F(ExpulsionTest, expelling_the_dead_frees_the_slot_at_once) {
  Puppet victim(name());
  ASSERT_EQ(victim.Do("join victim"), "ok 0 1");
  victim.Kill();
  ASSERT_OK(region().Expel(0));
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kFree), kParticipants);
}

TEST_F(ExpulsionTest, a_waiter_that_is_expelled_is_told) {
  Puppet waiter(name());
  ASSERT_EQ(waiter.Do("join waiter"), "ok 0 1");
  Participant self = Joined();
  ASSERT_OK(Increment(self));
  // It waits for this one to acknowledge, which does not happen.
  waiter.Say("converge 1");
  while (*self.Poll() == 1 && region().Stragglers(1).size() > 0) {
  }
  EXPECT_EQ(waiter.Hear(), "ok 1");
  ASSERT_OK(Increment(self));
  waiter.Say("converge 2");
  ASSERT_OK(region().Expel(0));
  EXPECT_THAT(waiter.Hear(), HasSubstr("expelled"));
}

TEST_F(ExpulsionTest, the_region_goes_on_for_as_long_as_the_expelled_process_stays_stopped) {
  Participant self = Joined();
  ASSERT_OK(Increment(self));
  Puppet zombie(name());
  ASSERT_EQ(zombie.Do("join zombie"), "ok 1 1");
  ASSERT_EQ(zombie.Do("pin"), "ok 1");
  zombie.Stop();
  ASSERT_OK(region().Expel(1));
  // Its own version is quarantined; those committed after its expulsion it cannot have pinned.
  for (std::uint32_t i = 0; i < 20 * kVersions; ++i) ASSERT_OK(Increment(self));
  zombie.Continue();
  EXPECT_EQ(zombie.Do("read"), "ok 1");
  ASSERT_EQ(zombie.Do("drop"), "ok");
  EXPECT_THAT(zombie.Do("rejoin"), StartsWith("ok"));
  ExpectNothingLeaked(region(), 2);
}

}  // namespace
}  // namespace epoch::test
