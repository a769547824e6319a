// Heads that are closed late, for a proposal that was aborted meanwhile, and the one step of
// another participant that does harm then.
#include <gtest/gtest.h>
#include <signal.h>

#include "epoch/epoch.h"
#include "support/puppet.h"
#include "support/region_test.h"
#include "support/time_limits.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using detail::Phase;
using detail::StateWord;

class FenceTest : public SmallRegionTest {
 protected:
  const detail::RegionView& view() { return region().mapping()->view(); }

  // The cell of a proposal that was aborted at its deadline, and is not recycled yet.
  std::uint32_t AbortedCell(Participant& proposer, Participant& reader) {
    const Pin pin = reader.Pin();
    EXPECT_FAILS(proposer.Commit("aborted", {.fence = true, .timeout = kSoon}), kDeadlineExceeded,
                 "reader");
    for (std::uint32_t i = 0; i < kVersions; ++i) {
      const auto owner = detail::OwnerWord::Unpack(view().cells[i].owner.Load());
      if (owner.state == detail::CellState::kRetired) return i;
    }
    ADD_FAILURE() << "no cell was retired";
    return 0;
  }
  // What a driver does that was stopped just before this step, with the proposal guarded.
  void CloseLate(std::uint32_t aborted) {
    std::uint64_t word = view().control->head.Load();
    const StateWord head = StateWord::Unpack(word);
    ASSERT_EQ(head.phase, Phase::kOpen);
    ASSERT_TRUE(view().control->head.CompareExchange(
        word, StateWord{Phase::kClosed, aborted, head.epoch}.Pack()));
  }
};

// One who opens such a head may be stopped before its compare-exchange. Without a guard on the
// proposal that head was closed for, its cell is used again, for a fence of the same epoch: head is
// the same word again, and is opened while that fence drains.
TEST_F(FenceTest, one_who_opens_head_late_does_not_open_it_for_another_fence) {
  Participant self = Joined("self"), reader = Joined("reader");
  const std::uint32_t aborted = AbortedCell(self, reader);
  ASSERT_NO_FATAL_FAILURE(CloseLate(aborted));
  Puppet opener(name());
  ASSERT_THAT(opener.Do("join opener"), testing::StartsWith("ok"));
  ASSERT_EQ(opener.Do(absl::StrCat("trap vote.before_reopen 1 ", SIGSTOP)), "ok");
  opener.Say("poll");
  ASSERT_TRUE(opener.AwaitStop());
  ASSERT_OK(reader.Poll());  // opens it
  ASSERT_EQ(StateWord::Unpack(view().control->head.Load()).phase, Phase::kOpen);

  // Proposals of the same epoch, until one lies in that cell; the last one anyway.
  constexpr std::uint32_t kAttempts = 3 * kVersions;
  absl::StatusOr<Pin> pin = absl::UnknownError("not tried");
  absl::StatusOr<Epoch> committed = absl::UnknownError("not tried");
  for (std::uint32_t attempt = 1; attempt <= kAttempts && !committed.ok(); ++attempt) {
    const Trap drained("vote.before_commit", 1, [&] {
      const StateWord head = StateWord::Unpack(view().control->head.Load());
      EXPECT_EQ(head.phase, Phase::kClosed);
      if (head.version == aborted || attempt == kAttempts) {
        opener.Continue();
        EXPECT_THAT(opener.Hear(), testing::StartsWith("ok"));
        pin = reader.TryPin();
        return 0;
      }
      detail::VersionCell& cell = view().cells[head.version];
      EXPECT_TRUE(detail::DecideAborted(cell, cell.ballot.Load(), detail::AbortCause::kDeadline,
                                        self.slot()));
      return 0;
    });
    committed = self.Commit("fenced", {.fence = true, .timeout = kLong});
    ASSERT_TRUE(drained.sprung());
  }
  ASSERT_OK(committed);
  if (pin.ok()) {
    EXPECT_EQ(pin->epoch(), *committed) << "pinned when a fence let a later epoch through";
  }
  pin = absl::UnknownError("let go");
  ExpectNothingLeaked(region(), 3);
}

// Head follows tail by one compare-exchange. If that fails, since head was closed late just then,
// and another version is appended all the same, only tail knows what comes after head: it is lost.
TEST_F(FenceTest, nothing_is_appended_while_head_is_behind) {
  Participant self = Joined("self"), reader = Joined("reader");
  const std::uint32_t aborted = AbortedCell(self, reader);
  {
    Puppet proposer(name());
    ASSERT_THAT(proposer.Do("join proposer"), testing::StartsWith("ok"));
    ASSERT_EQ(proposer.Do(absl::StrCat("trap publish.accepted 1 ", SIGKILL)), "ok");
    ASSERT_EQ(proposer.Do("commit 0"), "<gone>");
  }
  ASSERT_EQ(region().epoch(), 0u) << "accepted, not visible";
  const Trap following("publish.before_head", 1, [&] {
    CloseLate(aborted);
    return 0;
  });
  ASSERT_OK(self.Commit(CheckedState(2), {.timeout = kLong}));
  ASSERT_TRUE(following.sprung());
  EXPECT_EQ(region().epoch(), 2u);
  ASSERT_OK(self.Commit(CheckedState(3)));
  EXPECT_EQ(region().epoch(), 3u);
  ExpectNothingLeaked(region(), 2);
}

}  // namespace
}  // namespace epoch::test
