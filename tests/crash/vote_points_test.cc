// A process is killed, or stopped and later resumed, at every labelled point of voting, fencing and
// gathering. The others decide without it, head is never left closed, and nothing leaks.
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "epoch/epoch.h"
#include "support/no_damage.h"
#include "support/passages.h"
#include "support/puppet.h"
#include "support/region_test.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

struct VotePassage : Passage {
  std::string work;     // the victim's, and its companion's
  bool alone = false;   // what the companion might do first: it begins later
  bool serves = false;  // the victim only votes
};
std::ostream& operator<<(std::ostream& out, const VotePassage& p) {
  return out << static_cast<const Passage&>(p) << " in " << p.work;
}

const VotePassage kVotePassages[] = {
    {{"vote.own_guarded", 1}, "agree"},
    {{"vote.own_guarded", 3}, "agree"},
    {{"publish.accepted", 1}, "agree"},
    {{"publish.accepted", 3}, "agree"},
    {{"vote.guarded", 1}, "agree"},
    {{"vote.guarded", 6}, "agree"},
    {{"vote.before_cast", 1}, "agree", false, true},
    {{"vote.before_cast", 3}, "agree", false, true},
    {{"vote.cast", 1}, "agree", false, true},
    {{"vote.cast", 4}, "agree", false, true},
    {{"vote.validated", 2}, "agree", false, true},
    {{"vote.before_commit", 1}, "agree"},
    {{"vote.before_commit", 3}, "agree"},
    {{"vote.decided", 1}, "agree"},
    {{"vote.decided", 4}, "agree"},
    {{"vote.forced", 1}, "agree", true},
    {{"vote.before_expel", 1}, "agree", true},
    {{"vote.before_close", 1}, "agree"},
    {{"vote.before_close", 2}, "agree"},
    {{"vote.closed", 1}, "agree"},
    {{"vote.closed", 2}, "agree"},
    {{"vote.marked", 1}, "agree"},
    {{"vote.marked", 4}, "agree"},
    {{"vote.visible", 1}, "agree"},
    {{"vote.visible", 3}, "agree"},
    {{"vote.before_tail", 1}, "agree"},
    {{"vote.before_tail", 4}, "agree"},
    {{"vote.finished", 1}, "agree"},
    {{"vote.finished", 4}, "agree"},
    {{"gather.before_offer", 1}, "gather"},
    {{"gather.before_offer", 2}, "gather"},
    {{"gather.offered", 1}, "gather"},
    {{"gather.offered", 2}, "gather"},
    {{"publish.before_tail", 1}, "gather", true},
    {{"publish.accepted", 1}, "gather", true},
    {{"vote.own_guarded", 1}, "gather", true},
    {{"vote.guarded", 1}, "gather", true},
    {{"vote.decided", 1}, "gather", true},
    {{"vote.marked", 1}, "gather", true},
    {{"vote.before_tail", 1}, "gather", true},
    {{"vote.finished", 1}, "gather", true},
};

class VotePointsTest : public RegionTest, public testing::WithParamInterface<VotePassage> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CreateRegion());
    self_ = std::make_unique<Participant>(Joined("survivor"));
    victim_ = std::make_unique<Puppet>(name());
    ASSERT_EQ(
        victim_->Do(absl::StrCat("trap ", GetParam().label, " ", GetParam().nth, " ", Signal())),
        "ok");
    // In the lowest slot of the voters: it assembles what is gathered.
    ASSERT_THAT(victim_->Do("join-voter victim"), testing::StartsWith("ok"));
    companion_ = std::make_unique<Puppet>(name());
    ASSERT_THAT(companion_->Do("join-voter companion"), testing::StartsWith("ok"));
    // Somebody to be expelled, and a death in the midst of a vote.
    idle_ = std::make_unique<Puppet>(name());
    ASSERT_THAT(idle_->Do("join-voter idle"), testing::StartsWith("ok"));
  }
  virtual int Signal() const = 0;

  void SetOff() {
    victim_->Say(GetParam().serves ? "serve 20" : absl::StrCat(GetParam().work, " 40"));
    victim_->Say("exit");  // so that a point that is never passed is no hang
    if (!GetParam().alone) companion_->Say(absl::StrCat(GetParam().work, " 60"));
  }
  // Whoever lives goes on, and reads.
  void ExpectTheOthersGoOn() {
    if (GetParam().alone) companion_->Say(absl::StrCat(GetParam().work, " 60"));
    EXPECT_EQ(companion_->Hear(), "ok");
    companion_->Say("exit");
    EXPECT_EQ(companion_->Wait(), 0);
    idle_->Say("exit");
    EXPECT_EQ(idle_->Wait(), 0);
    const bool gathered = GetParam().work == "gather";
    for (std::uint32_t i = 0; i < 2 * kVersions; ++i) {
      // What the victim has up for decision may come first, so the value is not known before.
      const auto epoch = gathered ? self_->Commit("x") : Increment(*self_);
      if (absl::IsResourceExhausted(epoch.status())) break;  // by a victim that pins
      ASSERT_OK(epoch);
    }
    EXPECT_TRUE(self_->Pin().ok());
  }

  std::unique_ptr<Participant> self_;
  std::unique_ptr<Puppet> victim_, companion_, idle_;
};

class KilledVotingTest : public VotePointsTest {
  int Signal() const override { return SIGKILL; }
};
TEST_P(KilledVotingTest, the_others_decide_and_nothing_leaks) {
  SetOff();
  ASSERT_EQ(victim_->Wait(), -SIGKILL) << GetParam() << " was never passed";
  ExpectNoDamage(path());
  ExpectTheOthersGoOn();
  ExpectNoDamage(path());
  ExpectNothingLeaked(region(), 1);
}

class StoppedVotingTest : public VotePointsTest {
  int Signal() const override { return SIGSTOP; }
};
TEST_P(StoppedVotingTest, the_others_decide_and_its_last_steps_do_no_harm) {
  SetOff();
  ASSERT_TRUE(victim_->AwaitStop()) << GetParam() << " was never passed";
  ExpectNoDamage(path());
  ExpectTheOthersGoOn();
  victim_->Continue();
  EXPECT_EQ(victim_->Hear(), "ok");
  EXPECT_EQ(victim_->Wait(), 0);
  ASSERT_OK(self_->Commit(CheckedState(region().epoch() + 1)));
  ExpectNothingLeaked(region(), 1);
}

std::string NameOfVotePassage(const testing::TestParamInfo<VotePassage>& suite) {
  return suite.param.work + "_" + TestName(suite.param);
}
INSTANTIATE_TEST_SUITE_P(At, KilledVotingTest, testing::ValuesIn(kVotePassages), NameOfVotePassage);
INSTANTIATE_TEST_SUITE_P(At, StoppedVotingTest, testing::ValuesIn(kVotePassages),
                         NameOfVotePassage);

}  // namespace
}  // namespace epoch::test
