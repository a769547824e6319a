// A process is killed, or stopped and later resumed, at every labelled point of every operation on
// a volatile region. The others go on, nothing leaks, no history has a hole.
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/no_damage.h"
#include "support/passages.h"
#include "support/puppet.h"
#include "support/region_test.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

// Every label that an operation on an existing volatile region passes. A label that is never
// passed fails its test. (create.*: creation_points_test.cc.)
const Passage kOperationPassages[] = {
    {"join.locked", 1},
    {"join.locked", 2},
    {"join.joining", 1},
    {"join.joining", 2},
    {"join.filled", 1},
    {"join.filled", 2},
    {"join.active", 1},
    {"join.active", 2},
    {"pin.announced", 1},
    {"pin.announced", 6},
    {"pin.announced_again", 1},
    {"pin.announced_again", 9},
    {"pin.unparking", 1},
    {"pin.unparking", 3},
    {"update.announced", 1},
    {"update.announced", 7},
    {"draft.taken", 1},
    {"draft.taken", 2},
    {"draft.taken", 20},
    {"publish.before_tail", 1},
    {"publish.before_tail", 2},
    {"publish.before_tail", 17},
    {"publish.accepted", 1},
    {"publish.accepted", 2},
    {"publish.accepted", 18},
    {"publish.before_mark", 1},
    {"publish.before_head", 1},
    {"publish.before_head", 2},
    {"publish.before_head", 19},
    {"publish.before_ring", 1},
    {"publish.before_ring", 2},
    {"publish.before_ring", 21},
    {"reclaim.before_free", 1},
    {"reclaim.before_free", 2},
    {"reclaim.before_free", 9},
    {"reap.found_dead", 1},
    {"reap.found_dead", 2},
    {"reap.expelled", 1},
    {"reap.expelled", 2},
    {"reap.expelled", 3},
    {"reap.before_free_draft", 1},
    {"reap.before_free_draft", 2},
    {"reap.before_free_slot", 1},
    {"reap.before_free_slot", 2},
    {"leave.before_dismantle", 1},
    {"leave.before_dismantle", 2},
    {"leave.before_unlock", 1},
    {"leave.before_unlock", 2},
};

class PointsTest : public RegionTest, public testing::WithParamInterface<Passage> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CreateRegion());
    self_ = std::make_unique<Participant>(Joined("survivor"));
    for (int i = 0; i < 3; ++i) ASSERT_OK(Increment(*self_));
    waiter_ = std::make_unique<Puppet>(name());
    ASSERT_THAT(waiter_->Do("join waiter"), testing::StartsWith("ok"));
    // Work for a reaper: one who died with a pin and two drafts, and one who died between having
    // its version accepted and marking it.
    Puppet hoarder(name());
    ASSERT_THAT(hoarder.Do("join hoarder"), testing::StartsWith("ok"));
    ASSERT_EQ(hoarder.Do("pin"), "ok 3");
    ASSERT_EQ(hoarder.Do("draft"), "ok");
    ASSERT_EQ(hoarder.Do("draft"), "ok");
    Puppet proposer(name());
    ASSERT_THAT(proposer.Do("join proposer"), testing::StartsWith("ok"));
    ASSERT_EQ(proposer.Do("trap publish.accepted 1 " + std::to_string(SIGKILL)), "ok");
    ASSERT_EQ(proposer.Do("commit 3"), "<gone>");
    hoarder.Kill();
    ASSERT_EQ(region().epoch(), 3u) << "epoch 4 is accepted, and hangs";
  }
  void DismissWaiter() {
    waiter_->Say("exit");
    EXPECT_EQ(waiter_->Wait(), 0);
  }

  // Starts the victim on a round of everything; it ends up at the point.
  std::unique_ptr<Puppet> SetOff(int signal) {
    auto victim = std::make_unique<Puppet>(name());
    EXPECT_EQ(victim->Do("trap " + GetParam().label + " " + std::to_string(GetParam().nth) + " " +
                         std::to_string(signal)),
              "ok");
    victim->Say("reap");
    victim->Say("join victim");
    victim->Say("work 24");
    return victim;
  }

  // The rest of a stopped victim's life: it obeys to the end, and what it saw was never torn.
  static void Finish(Puppet& victim) {
    victim.Continue();
    EXPECT_THAT(victim.Hear(), testing::StartsWith("ok"));
    EXPECT_THAT(victim.Hear(), testing::StartsWith("ok"));
    EXPECT_EQ(victim.Hear(), "ok");
    EXPECT_EQ(victim.Do("sprung"), "yes");
    victim.Say("exit");
    EXPECT_EQ(victim.Wait(), 0);
  }

  // Every state committed so far followed directly on the one before (Increment checks it), so the
  // newest one tells of all of them.
  void ExpectContiguousHistory() {
    const Pin pin = self_->Pin();
    EXPECT_EQ(ReadChecked(pin.state()), pin.epoch());
    EXPECT_EQ(pin.epoch(), region().epoch());
  }

  void ExpectEveryCellAndSlotUsable() {
    ASSERT_NO_FATAL_FAILURE(ExpectNothingLeaked(region(), 1));
    {
      std::vector<Draft> drafts;
      for (std::uint32_t i = 0; i + 1 < kVersions; ++i) {
        auto draft = self_->NewDraft(std::size_t{1});
        ASSERT_OK(draft);
        drafts.push_back(*std::move(draft));
      }
      std::vector<Participant> all;
      for (std::uint32_t i = 0; i + 1 < kParticipants; ++i) all.push_back(Joined());
    }
    ExpectNothingLeaked(region(), 1);
  }

  std::unique_ptr<Participant> self_;
  std::unique_ptr<Puppet> waiter_;
};

TEST_P(PointsTest, killed_there_the_others_go_on_and_nothing_leaks) {
  // Without a deadline, for something that the victim may or may not live to bring about. But one
  // who waits also helps: it would mark the hanging version before the victim gets there.
  const bool helps_too_early = GetParam().label == "publish.before_mark";
  if (!helps_too_early) waiter_->Say("await 6");
  const auto victim = SetOff(SIGKILL);
  ASSERT_EQ(victim->Wait(), -SIGKILL) << GetParam() << " was never passed";
  ExpectNoDamage(path());
  if (helps_too_early) waiter_->Say("await 6");
  const Epoch before = region().epoch();
  for (std::uint32_t i = 0; i < 3 * kVersions; ++i) ASSERT_OK(Increment(*self_));
  EXPECT_GE(region().epoch(), before + 3 * kVersions);
  EXPECT_THAT(waiter_->Hear(), testing::StartsWith("ok"));
  DismissWaiter();
  ExpectContiguousHistory();
  ExpectEveryCellAndSlotUsable();
}

TEST_P(PointsTest, stopped_there_the_others_go_on_and_its_last_steps_do_no_harm) {
  DismissWaiter();
  const auto victim = SetOff(SIGSTOP);
  ASSERT_TRUE(victim->AwaitStop()) << GetParam() << " was never passed";
  // A pin that the victim holds right there keeps all later versions: until they are used up.
  bool exhausted = false;
  for (std::uint32_t i = 0; i < 10 * kVersions && !exhausted; ++i) {
    const auto epoch = Increment(*self_);
    exhausted = absl::IsResourceExhausted(epoch.status());
    if (exhausted) {
      EXPECT_THAT(MessageOf(epoch), testing::HasSubstr("\"victim\""));
      EXPECT_THAT(MessageOf(epoch), testing::HasSubstr("pins"));
    } else {
      ASSERT_OK(epoch);
    }
  }
  ASSERT_OK(region().Reap());
  ExpectContiguousHistory();
  Finish(*victim);
  for (int i = 0; i < 5; ++i) ASSERT_OK(Increment(*self_));
  ExpectContiguousHistory();
  ExpectEveryCellAndSlotUsable();
}

TEST_P(PointsTest, stopped_and_expelled_there_its_last_steps_do_no_harm) {
  DismissWaiter();
  const auto victim = SetOff(SIGSTOP);
  ASSERT_TRUE(victim->AwaitStop()) << GetParam() << " was never passed";
  const auto& view = region().mapping()->view();
  for (std::uint32_t i = 1; i < kParticipants; ++i) {
    const auto state = detail::SlotWord::Unpack(view.slots[i].state.Load()).state;
    if (state == detail::SlotState::kActive) {
      EXPECT_OK(region().Expel(i));
    }
  }
  for (std::uint32_t i = 0; i < 10 * kVersions; ++i) {
    const auto epoch = Increment(*self_);
    if (absl::IsResourceExhausted(epoch.status())) break;  // quarantined, as above
    ASSERT_OK(epoch);
  }
  ASSERT_OK(region().Reap());
  ExpectContiguousHistory();
  Finish(*victim);
  for (int i = 0; i < 5; ++i) ASSERT_OK(Increment(*self_));
  ExpectContiguousHistory();
  ExpectEveryCellAndSlotUsable();
}

INSTANTIATE_TEST_SUITE_P(At, PointsTest, testing::ValuesIn(kOperationPassages),
                         [](const auto& suite) { return TestName(suite.param); });

}  // namespace
}  // namespace epoch::test
