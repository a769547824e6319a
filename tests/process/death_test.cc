// Death: what a killed process held is free again, and only what a killed process held.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/puppet.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

using DeathTest = SmallRegionTest;

TEST_F(DeathTest, pins_and_drafts_of_a_killed_process_are_freed) {
  Participant self = Joined();
  ASSERT_OK(Increment(self));
  Puppet victim(name());
  ASSERT_EQ(victim.Do("join victim"), "ok 1 1");
  ASSERT_EQ(victim.Do("pin"), "ok 1");
  for (int i = 0; i < 3; ++i) ASSERT_EQ(victim.Do("draft"), "ok");
  ASSERT_OK(Increment(self));
  EXPECT_EQ(CountCells(region()).drafted, 3u);
  victim.Kill();
  EXPECT_EQ(*region().Reap(), 1u);
  EXPECT_EQ(CountCells(region()).drafted, 0u);
  ExpectNothingLeaked(region(), 1);
  // The slot goes to the next, one generation on.
  Puppet next(name());
  EXPECT_EQ(next.Do("join next"), "ok 1 2");
  EXPECT_EQ(next.Do("increment"), "ok 3");
}

TEST_F(DeathTest, a_commit_that_needs_the_cells_of_the_dead_reaps_by_itself) {
  Participant self = Joined();
  for (int round = 0; round < 5; ++round) {
    Puppet victim(name());
    ASSERT_THAT(victim.Do("join victim"), testing::StartsWith("ok 1 "));
    ASSERT_THAT(victim.Do("pin"), testing::StartsWith("ok"));
    for (std::uint32_t i = 0; i + 2 < kVersions; ++i) ASSERT_EQ(victim.Do("draft"), "ok");
    victim.Kill();
    for (std::uint32_t i = 0; i < 2 * kVersions; ++i) ASSERT_OK(Increment(self));
  }
  ExpectNothingLeaked(region(), 1);
}

TEST_F(DeathTest, a_join_that_needs_the_slots_of_the_dead_reaps_by_itself) {
  std::vector<std::unique_ptr<Puppet>> victims;
  for (std::uint32_t i = 0; i < kParticipants; ++i) {
    victims.push_back(std::make_unique<Puppet>(name()));
    ASSERT_THAT(victims.back()->Do("join victim"), testing::StartsWith("ok"));
  }
  EXPECT_FAILS(Participant::Join(region()), kResourceExhausted, "victim");
  for (auto& victim : victims) victim->Kill();
  Participant self = Joined();
  EXPECT_EQ(self.generation(), 2u);
  ExpectNothingLeaked(region(), 1);
}

TEST_F(DeathTest, orderly_exit_leaves_nothing_to_reap) {
  Puppet puppet(name());
  ASSERT_THAT(puppet.Do("join"), testing::StartsWith("ok"));
  puppet.Say("exit");
  EXPECT_EQ(puppet.Wait(), 0);
  EXPECT_EQ(*region().Reap(), 0u);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(DeathTest, a_stopped_process_is_alive) {
  Puppet stopped(name());
  ASSERT_EQ(stopped.Do("join stopped"), "ok 0 1");
  ASSERT_EQ(stopped.Do("pin"), "ok 0");
  stopped.Stop();
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kActive), 1u);
  stopped.Continue();
  EXPECT_EQ(stopped.Do("status"), "ok");
  EXPECT_EQ(stopped.Do("read"), "ok 0");
}

TEST_F(DeathTest, a_process_killed_while_stopped_is_dead) {
  Puppet stopped(name());
  ASSERT_EQ(stopped.Do("join stopped"), "ok 0 1");
  stopped.Stop();
  stopped.Kill();
  EXPECT_EQ(*region().Reap(), 1u);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(DeathTest, pid_and_start_time_in_the_slot_decide_nothing) {
  const auto& slots = region().mapping()->view().slots;
  Puppet living(name()), dead(name());
  ASSERT_EQ(living.Do("join living"), "ok 0 1");
  ASSERT_EQ(dead.Do("join dead"), "ok 1 1");
  dead.Kill();
  // As if the pid of the dead had been given to a process that lives, and the other way round.
  slots[1].pid.Store(static_cast<std::uint32_t>(getpid()));
  slots[1].start_time_ticks.Store(detail::StartTimeTicks());
  slots[0].pid.Store(static_cast<std::uint32_t>(dead.pid()));
  slots[0].start_time_ticks.Store(1);
  slots[0].pid_namespace.Store(1);
  EXPECT_EQ(*region().Reap(), 1u);
  EXPECT_EQ(living.Do("status"), "ok");
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kActive), 1u);
}

TEST_F(DeathTest, participants_with_the_same_pid_in_two_namespaces_are_told_apart) {
  if (!Child::CanIsolate(CLONE_NEWPID)) GTEST_SKIP() << "may not make pid namespaces";
  Participant self = Joined();
  Puppet a(name(), CLONE_NEWPID), b(name(), CLONE_NEWPID);
  ASSERT_EQ(a.Do("join a"), "ok 1 1");
  ASSERT_EQ(b.Do("join b"), "ok 2 1");
  const auto& slots = region().mapping()->view().slots;
  ASSERT_EQ(slots[1].pid.Load(), 1u);
  ASSERT_EQ(slots[2].pid.Load(), 1u);
  EXPECT_NE(slots[1].pid_namespace.Load(), slots[2].pid_namespace.Load());
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_EQ(a.Do("reap"), "ok 0") << "nor do they take each other, or the outside, for dead";
  a.Kill();
  EXPECT_EQ(b.Do("reap"), "ok 1");
  EXPECT_EQ(b.Do("status"), "ok");
  EXPECT_EQ(b.Do("increment"), "ok 1");
  EXPECT_OK(self.status());
  ExpectNothingLeaked(region(), 2);
}

TEST_F(DeathTest, survivors_keep_counting_while_others_are_killed_at_random) {
  Participant self = Joined();
  for (int round = 0; round < 20; ++round) {
    Puppet a(name()), b(name());
    for (Puppet* puppet : {&a, &b}) {
      ASSERT_THAT(puppet->Do("join victim"), testing::StartsWith("ok"));
      puppet->Say("work 1000000");
    }
    const Epoch before = region().epoch();
    while (region().epoch() < before + 50) ASSERT_OK(IncrementPatiently(self));
    a.Kill();
    b.Kill();
    ASSERT_NO_FATAL_FAILURE(ExpectNothingLeaked(region(), 1));
  }
  EXPECT_EQ(ReadChecked(self.Pin().state()), region().epoch());
}

}  // namespace
}  // namespace epoch::test
