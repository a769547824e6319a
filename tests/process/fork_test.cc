// fork(): a child neither uses its parent's slot nor keeps it alive.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/puppet.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ForkTest : public SmallRegionTest {
 protected:
  // A puppet with a slot, a pin and a draft, whose fork child obeys from now on.
  void SetUp() override {
    SmallRegionTest::SetUp();
    parent_ = std::make_unique<Puppet>(name());
    ASSERT_EQ(parent_->Do("join parent"), "ok 0 1");
    ASSERT_EQ(parent_->Do("pin"), "ok 0");
    ASSERT_EQ(parent_->Do("draft"), "ok");
    ASSERT_EQ(parent_->Do("fork"), "ok");
  }
  std::string Child(const std::string& command) { return parent_->Do(command); }
  std::unique_ptr<Puppet> parent_;
};

TEST_F(ForkTest, in_the_child_the_parents_participant_is_dead) {
  EXPECT_THAT(Child("status"), HasSubstr("parent process"));
  EXPECT_THAT(Child("poll"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(Child("park"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(Child("draft"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(Child("commit 0"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_THAT(Child("commit-draft"), StartsWith("FAILED_PRECONDITION"));
  EXPECT_EQ(Child("unpin"), "ok");
  EXPECT_EQ(Child("pin"), "refused");
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(ForkTest, what_the_child_drops_stays_held_by_the_parent) {
  ASSERT_EQ(Child("drop"), "ok");
  EXPECT_EQ(CountCells(region()).drafted, 1u);
  const auto& slot = region().mapping()->view().slots[0];
  EXPECT_EQ(detail::OwnedWord::Unpack(slot.pin.Load()).number, 0u) << "pinned at epoch 0";
}

TEST_F(ForkTest, the_childs_exit_does_not_free_the_parents_slot) {
  ASSERT_EQ(Child("drop"), "ok");
  ASSERT_EQ(Child("leave"), "ok");
  parent_->Say("exit");
  ASSERT_EQ(parent_->Hear(), "child ended");
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_EQ(parent_->Do("status"), "ok");
  EXPECT_EQ(parent_->Do("read"), "ok 0");
  EXPECT_EQ(parent_->Do("commit-draft 0"), "ok 1");
}

TEST_F(ForkTest, the_parents_death_frees_its_slot_although_the_child_lives) {
  EXPECT_EQ(*region().Reap(), 0u);
  parent_->Kill();  // the parent; the child goes on to obey
  EXPECT_EQ(*region().Reap(), 1u);
  ExpectNothingLeaked(region(), 0);
  EXPECT_THAT(Child("status"), HasSubstr("parent process"));
}

TEST_F(ForkTest, the_child_joins_anew_and_lives_and_dies_on_its_own) {
  ASSERT_EQ(Child("drop"), "ok");
  ASSERT_EQ(Child("rejoin"), "ok 1 1");
  EXPECT_EQ(Child("increment"), "ok 1");
  EXPECT_EQ(Child("pin"), "ok 1");
  EXPECT_EQ(Child("reap"), "ok 0") << "the parent lives";
  parent_->Kill();
  EXPECT_EQ(Child("reap"), "ok 1");
  EXPECT_EQ(Child("status"), "ok");
  EXPECT_THAT(Child("leave"),
              StartsWith("FAILED_PRECONDITION: a pin is still held: release it before leaving"));
  EXPECT_EQ(Child("drop"), "ok");
  EXPECT_EQ(Child("leave"), "ok");
  ExpectNothingLeaked(region(), 0);
}

TEST_F(ForkTest, a_grandchild_is_a_child_too) {
  ASSERT_EQ(Child("drop"), "ok");
  ASSERT_EQ(Child("rejoin"), "ok 1 1");
  ASSERT_EQ(Child("fork"), "ok");
  EXPECT_THAT(Child("status"), HasSubstr("parent process"));
  ASSERT_EQ(Child("rejoin"), "ok 2 1");
  EXPECT_EQ(Child("increment"), "ok 1");
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kActive), 3u);
}

// args: region. Contributes, and is asked about another proposal meanwhile; its validator forks.
ROLE(ForkingValidator) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "voter", .voter = true});
  ROLE_CHECK(me.ok(), me.status().ToString());
  pid_t child = -1;
  me->SetValidator([&](const Proposal&) {
    child = fork();
    return Answer::Accept();
  });
  self.wire.Say("ready");
  const auto made = me->CommitCollective(
      1, "part", {.contributions = 2, .interrupted = [&] { return child > 0; }});
  if (child == 0) {
    const bool told = absl::IsFailedPrecondition(made.status()) &&
                      Details(made).cause == Cause::kForked && !me->Poll().ok();
    _exit(told ? 0 : 1);
  }
  ROLE_CHECK(absl::IsCancelled(made.status()), made.status().ToString());
  int status = -1;
  ROLE_CHECK(waitpid(child, &status, 0) == child);
  ROLE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, std::to_string(status));
  ROLE_CHECK(me->Poll().ok());
  self.wire.Say("whole");
  return 0;
}

// args: region. Forks while it has a listener, which refers to what a rejoin would replace.
ROLE(ForkingListener) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "listens"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  auto listener = me->Listen();
  ROLE_CHECK(listener.ok(), listener.status().ToString());
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = Details(me->Rejoin()).cause == Cause::kBusy;
    listener->Stop();
    _exit(refused && me->Rejoin().ok() && me->Commit("child's").ok() && me->Leave().ok() ? 0 : 1);
  }
  int status = -1;
  ROLE_CHECK(waitpid(child, &status, 0) == child);
  ROLE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, std::to_string(status));
  ROLE_CHECK(me->Commit("parent's").ok());
  listener->Stop();
  ROLE_CHECK(me->Leave().ok());
  return 0;
}

TEST(ForkingListenerTest, a_child_rejoins_when_its_copy_of_the_listener_was_stopped) {
  const ScratchName name;
  auto region = Region::Create(name.name());
  ASSERT_OK(region);
  Child process("ForkingListener", {name.name()});
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_EQ(region->epoch(), 2u);
  ExpectNothingLeaked(*region, 0);
}

using ForkingValidatorTest = SmallRegionTest;

TEST_F(ForkingValidatorTest,
       a_validator_that_forks_leaves_a_child_that_is_told_and_a_parent_that_goes_on) {
  Participant self = Joined();
  Child voter("ForkingValidator", {name()});
  ASSERT_EQ(voter.Hear(), "ready");
  EXPECT_OK(self.Commit("x", {.agreement = Agreement::kAllVoters}));
  EXPECT_EQ(voter.Hear(), "whole");
  EXPECT_EQ(voter.Wait(), 0);
  EXPECT_EQ(region().epoch(), 1u);
  ExpectNothingLeaked(region(), 1);
}

}  // namespace
}  // namespace epoch::test
