// Interleavings that need a step of another participant at one exact point.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/puppet.h"
#include "support/region_test.h"
#include "support/time_limits.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using InterleavingTest = SmallRegionTest;

TEST_F(InterleavingTest, a_join_does_not_fail_because_another_reaped_the_dead_first) {
  std::vector<std::unique_ptr<Puppet>> victims;
  for (std::uint32_t i = 0; i < kParticipants; ++i) {
    victims.push_back(std::make_unique<Puppet>(name()));
    ASSERT_THAT(victims.back()->Do("join victim"), testing::StartsWith("ok"));
  }
  for (auto& victim : victims) victim->Kill();
  const Trap trap("reap.found_dead", 1, [&] {
    EXPECT_EQ(*region().Reap(), kParticipants);
    return 0;
  });
  EXPECT_OK(Participant::Join(region(), {.name = "late"}));
  EXPECT_TRUE(trap.sprung());
}

TEST_F(InterleavingTest, a_draft_does_not_fail_because_another_reclaimed_first) {
  Participant self = Joined();
  for (std::uint32_t i = 0; i + 1 < kVersions; ++i) ASSERT_OK(Increment(self));
  ASSERT_EQ(CountCells(region()).free, 0u);
  const auto& view = region().mapping()->view();
  const Trap trap("reclaim.before_free", 1, [&] {
    EXPECT_EQ(detail::Reclaim(view), kVersions - 1);
    return 0;
  });
  std::uint32_t cursor = 0;
  const auto draft = detail::DraftCell(view, self.slot(), cursor);
  EXPECT_TRUE(trap.sprung());
  ASSERT_TRUE(draft.has_value());
  detail::DropDraft(view, *draft);
}

TEST_F(InterleavingTest, a_version_accepted_but_not_marked_is_marked_before_tail_moves_on) {
  Participant self = Joined(), rival = Joined("rival");
  const Trap trap("publish.accepted", 1, [&] {
    for (std::uint32_t i = 0; i < 3 * kVersions; ++i) EXPECT_OK(Increment(rival));
    return 0;
  });
  EXPECT_EQ(*IncrementUnpinned(self, region()), 1u);
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(region().epoch(), 1 + 3 * kVersions);
  ExpectNothingLeaked(region(), 2);
}

TEST_F(InterleavingTest, a_version_whose_dead_proposer_never_marked_it_stays_while_it_is_pinned) {
  Participant self = Joined(), reader = Joined("reader");
  {
    Puppet proposer(name());
    ASSERT_THAT(proposer.Do("join proposer"), testing::StartsWith("ok"));
    ASSERT_EQ(proposer.Do("trap publish.accepted 1 9"), "ok");
    ASSERT_EQ(proposer.Do("commit 0"), "<gone>");
  }
  Pin pin;
  {
    const Trap trap("publish.before_tail", 1, [&] {
      pin = reader.Pin();  // head is there already, tail has not moved on yet
      return 0;
    });
    ASSERT_OK(self.Commit(CheckedState(2)));
    ASSERT_TRUE(trap.sprung());
  }
  ASSERT_EQ(pin.epoch(), 1u);
  ASSERT_OK(region().Reap());  // must not take it for a draft of the dead
  // Every other cell is used, and used again where possible; this one is not.
  absl::StatusOr<Epoch> last = 0;
  for (std::uint32_t i = 0; i < 3 * kVersions && last.ok(); ++i) {
    last = self.Commit(CheckedState(100));
  }
  EXPECT_EQ(ReadChecked(pin.state()), 1u);
  pin.Release();
  ExpectNothingLeaked(region(), 2);
}

TEST_F(InterleavingTest, a_late_marker_leaves_the_recycled_cell_alone) {
  Participant self = Joined(), rival = Joined("rival");
  // A version accepted by one who died before marking it.
  {
    Puppet proposer(name());
    ASSERT_THAT(proposer.Do("join proposer"), testing::StartsWith("ok"));
    ASSERT_EQ(proposer.Do("trap publish.accepted 1 9"), "ok");
    ASSERT_EQ(proposer.Do("commit 0"), "<gone>");
  }
  const Trap trap("publish.before_mark", 1, [&] {
    for (std::uint32_t i = 0; i < 3 * kVersions; ++i) EXPECT_OK(Increment(rival));
    return 0;
  });
  detail::MarkPublished(region().mapping()->view(),
                        region().mapping()->view().control->tail.Load());
  EXPECT_TRUE(trap.sprung());
  ASSERT_OK(Increment(self));
  ExpectNothingLeaked(region(), 2);
}

TEST_F(InterleavingTest, a_late_reclaimer_leaves_the_recycled_cell_alone) {
  Participant self = Joined(), rival = Joined("rival");
  for (int i = 0; i < 3; ++i) ASSERT_OK(Increment(self));
  const auto& view = region().mapping()->view();
  std::unique_ptr<Pin> pin;
  const Trap trap("reclaim.before_free", 1, [&] {
    // The cell that is about to be freed is freed, drafted and published meanwhile, and pinned.
    for (std::uint32_t i = 0; i < 2 * kVersions; ++i) EXPECT_OK(Increment(rival));
    pin = std::make_unique<Pin>(rival.Pin());
    return 0;
  });
  detail::Reclaim(view);
  EXPECT_TRUE(trap.sprung());
  ASSERT_NE(pin, nullptr);
  for (int i = 0; i < 3; ++i) ASSERT_OK(Increment(self));
  EXPECT_EQ(ReadChecked(pin->state()), pin->epoch());
  pin->Release();
  ExpectNothingLeaked(region(), 2);
}

TEST_F(InterleavingTest, a_late_reaper_leaves_the_next_generation_alone) {
  Participant self = Joined();
  {
    Puppet victim(name());
    ASSERT_EQ(victim.Do("join victim"), "ok 1 1");
    ASSERT_EQ(victim.Do("draft"), "ok");
  }
  for (const char* label :
       {"reap.found_dead", "reap.expelled", "reap.before_free_draft", "reap.before_free_slot"}) {
    SCOPED_TRACE(label);
    std::unique_ptr<Puppet> next;
    {
      const Trap trap(label, 1, [&] {
        EXPECT_EQ(*region().Reap(), 1u);
        next = std::make_unique<Puppet>(name());
        EXPECT_THAT(next->Do("join next"), testing::StartsWith("ok 1 "));
        EXPECT_EQ(next->Do("pin"), "ok 0");
        EXPECT_EQ(next->Do("draft"), "ok");
        return 0;
      });
      ASSERT_OK(region().Reap());
      ASSERT_TRUE(trap.sprung());
    }
    EXPECT_EQ(next->Do("status"), "ok");
    EXPECT_EQ(next->Do("read"), "ok 0");
    EXPECT_EQ(CountCells(region()).drafted, 1u);
    const auto& slot = region().mapping()->view().slots[1];
    EXPECT_EQ(detail::OwnedWord::Unpack(slot.pin.Load()).number, 0u);
    next->Kill();
  }
  ExpectNothingLeaked(region(), 1);
}

TEST_F(InterleavingTest, a_pin_taken_while_head_moves_on_is_of_a_protected_version) {
  Participant self = Joined(), rival = Joined("rival");
  Pin pin;
  {
    const Trap trap("pin.announced", 1, [&] {
      for (std::uint32_t i = 0; i < kVersions - 3; ++i) {
        EXPECT_OK(rival.Commit(CheckedState(i + 1)));
      }
      return 0;
    });
    pin = self.Pin();
    ASSERT_TRUE(trap.sprung());
  }
  EXPECT_EQ(pin.epoch(), kVersions - 3);
  detail::Reclaim(region().mapping()->view());
  EXPECT_EQ(ReadChecked(pin.state()), pin.epoch());
}

TEST_F(InterleavingTest, a_pin_refused_by_an_expulsion_on_the_way_holds_nothing) {
  Participant self = Joined(), rival = Joined("rival");
  const Trap trap("pin.announced", 1, [&] {
    EXPECT_OK(region().Expel(self.slot()));
    return 0;
  });
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_TRUE(trap.sprung());
  for (std::uint32_t i = 0; i < 3 * kVersions; ++i) ASSERT_OK(Increment(rival));
}

TEST_F(InterleavingTest, a_zombies_commit_fails_once_another_epoch_is_committed) {
  Participant zombie = Joined("zombie"), rival = Joined("rival");
  {
    const Trap trap("publish.before_tail", 1, [&] {
      EXPECT_OK(region().Expel(zombie.slot()));
      EXPECT_OK(rival.Commit(CheckedState(1)));
      return 0;
    });
    EXPECT_FAILS(zombie.Commit(CheckedState(77)), kFailedPrecondition, "expelled");
    EXPECT_TRUE(trap.sprung());
  }
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_EQ(ReadChecked(rival.Pin().state()), 1u);
}

TEST_F(InterleavingTest, one_who_comes_back_from_parking_sees_what_converged_without_it) {
  Participant self = Joined("self"), rival = Joined("rival");
  ASSERT_OK(self.Park());
  const Trap trap("pin.unparking", 1, [&] {
    EXPECT_OK(rival.Commit(CheckedState(1)));
    EXPECT_OK(rival.Await(1, Stage::kConverged, kLong));
    return 0;
  });
  EXPECT_EQ(self.Pin().epoch(), 1u) << "all operate under epoch 1, was said";
  EXPECT_TRUE(trap.sprung());
}

TEST_F(InterleavingTest, a_proposer_that_came_after_an_expulsion_marks_its_commit_as_forced) {
  const auto voter = [&](const char* name) {
    return *Participant::Join(region(), {.name = name, .voter = true});
  };
  Participant self = voter("self"), idle = voter("idle"), late = voter("late");
  ASSERT_OK(late.Leave());
  const detail::RegionView& view = region().mapping()->view();
  std::thread other;
  // `self` has expelled `idle`, and is about to propose. `late` comes, and is faster.
  const Trap trap("vote.own_guarded", 1, [&] {
    EXPECT_FAILS(idle.status(), kFailedPrecondition, "expelled");
    EXPECT_OK(late.Rejoin());
    other = std::thread([&] { EXPECT_OK(late.CommitCollective(1, "late", {.timeout = kLong})); });
    const auto tail = [&] { return detail::StateWord::Unpack(view.control->tail.Load()); };
    while (tail().phase != detail::Phase::kVoting) std::this_thread::yield();
    EXPECT_EQ(detail::ProposerWord::Unpack(view.cells[tail().version].proposer.Load()).slot,
              late.slot());
    return 0;
  });
  const auto committed =
      self.CommitCollective(1, "self", {.timeout = kSoon, .on_straggler = Straggler::kExpel});
  ASSERT_TRUE(trap.sprung());
  other.join();
  ASSERT_OK(committed);
  EXPECT_EQ(ContributionsOf(region().Read()->state)->size(), 2u);
  const auto head = detail::StateWord::Unpack(view.control->head.Load());
  EXPECT_TRUE(detail::OutcomeWord::Unpack(view.cells[head.version].outcome.Load()).forced);
}

TEST_F(InterleavingTest, fork_during_another_threads_join_leaves_the_child_able_to_join) {
  std::promise<void> joining, forked;
  std::thread other;
  {
    const Trap trap("join.locked", 1, [&] {
      joining.set_value();
      forked.get_future().wait();
      return 0;
    });
    other = std::thread([&] { EXPECT_OK(Participant::Join(region(), {.name = "other"})); });
    joining.get_future().wait();
    const pid_t child = fork();
    if (child == 0) {
      alarm(kLong_s);  // ends the child if it hangs
      _exit(Participant::Join(region(), {.name = "child"}).ok() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "it hung";
    EXPECT_EQ(WEXITSTATUS(status), 0);
    forked.set_value();
    other.join();
  }
  ExpectNothingLeaked(region(), 0);
}

}  // namespace
}  // namespace epoch::test
