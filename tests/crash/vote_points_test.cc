// A process is killed, or stopped and later resumed, at every labelled point of voting, fencing and
// gathering. The others decide without it, head is never left closed, and nothing leaks.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "epoch/epoch.h"
#include "support/no_damage.h"
#include "support/passages.h"
#include "support/puppet.h"
#include "support/region_test.h"
#include "support/time_limits.h"
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

// --- two threads of one participant, and those who come late
// --------------------------------------

// Calls `passed` at every labelled point, in whichever thread that is.
class EachPoint {
 public:
  explicit EachPoint(std::function<void(std::string_view)> passed) : passed_(std::move(passed)) {
    // Threads that run already see it whole.
    now_.store(&passed_, std::memory_order_release);
    seam::point_hook.store([](const char* label) {
      if (const auto* call = now_.load(std::memory_order_acquire); call != nullptr) {
        (*call)(label);
      }
      return 0;
    });
  }
  EachPoint(const EachPoint&) = delete;
  EachPoint& operator=(const EachPoint&) = delete;
  ~EachPoint() {
    seam::point_hook.store(nullptr);
    now_.store(nullptr);
  }

 private:
  using Function = std::function<void(std::string_view)>;
  static inline std::atomic<const Function*> now_{nullptr};
  const Function passed_;
};

class LateVoteTest : public SmallRegionTest {
 protected:
  // A voter that puts off every proposal, until it is asked about one.
  std::uint64_t PutOff(Participant& voter) {
    std::uint64_t ballot = 0;
    voter.SetValidator([&ballot](const Proposal& p) {
      ballot = p.ballot;
      return Answer::Later();
    });
    while (ballot == 0) EXPECT_OK(voter.Poll());
    voter.SetValidator(nullptr);
    return ballot;
  }
};

// It joins when the votes have been counted, and its refusal is on its way when it is decided.
TEST_F(LateVoteTest, a_refusal_that_comes_too_late_is_told_so) {
  Participant self = Joined();
  std::atomic<bool> counted{false}, casting{false}, decided{false};
  const auto here = std::this_thread::get_id();
  const EachPoint points([&](std::string_view label) {
    if (std::this_thread::get_id() == here) {
      if (label == "vote.before_commit" && !counted.exchange(true)) {
        EXPECT_TRUE(Await([&] { return casting.load(); }));
      }
      if (label == "vote.decided") decided = true;
    } else if (label == "vote.before_cast") {
      casting = true;
      EXPECT_TRUE(Await([&] { return decided.load(); }));
    }
  });
  absl::Status told;
  std::thread newcomer([&] {
    EXPECT_TRUE(Await([&] { return counted.load(); }));
    Participant late = *Participant::Join(region(), {.name = "late", .voter = true});
    const std::uint64_t ballot = PutOff(late);
    told = late.Vote(ballot, Answer::Reject("too late"));
  });
  EXPECT_OK(self.Commit("x", {.agreement = Agreement::kAllVoters, .min_voters = 0}));
  newcomer.join();
  EXPECT_FAILS(told, kAborted, "decided");
  EXPECT_EQ(region().epoch(), 1u);
  ExpectNothingLeaked(region(), 1);
}

// Otherwise it would clear the next owner's guard, and write its vote.
TEST_F(LateVoteTest, a_participant_leaves_after_an_answer_that_another_thread_gives) {
  Participant self = Joined();
  Participant voter = *Participant::Join(region(), {.name = "voter", .voter = true});
  std::thread proposer([&] {
    EXPECT_FAILS(self.Commit("x", {.agreement = Agreement::kAllVoters}), kAborted, "second thread");
  });
  const std::uint64_t ballot = PutOff(voter);
  std::atomic<bool> answering{false}, leaving{false}, left{false};
  const auto here = std::this_thread::get_id();
  const EachPoint points([&](std::string_view label) {
    if (label == "vote.before_cast") {
      answering = true;
      // Time enough to leave, for whoever does not wait.
      EXPECT_TRUE(Await([&] { return leaving.load(); }));
      for (int i = 0; i < 1000; ++i) sched_yield();
      EXPECT_FALSE(left);
    } else if (label == "leave.before_dismantle" && std::this_thread::get_id() == here) {
      left = true;
    }
  });
  std::thread second([&] { EXPECT_OK(voter.Vote(ballot, Answer::Reject("second thread"))); });
  ASSERT_TRUE(Await([&] { return answering.load(); }));
  leaving = true;
  EXPECT_OK(voter.Leave());
  EXPECT_TRUE(left);
  second.join();
  proposer.join();
  EXPECT_FAILS(voter.Vote(ballot, Answer::Accept()), kFailedPrecondition, "left");
}

// Tail is written over while a fence keeps proposals undecided: those who wait for them are told.
TEST_F(LateVoteTest, whoever_waits_for_a_proposal_that_tail_does_not_name_any_more_is_told) {
  Participant reader = Joined("reader");
  Participant first = *Participant::Join(region(), {.name = "first", .voter = true});
  Participant second = *Participant::Join(region(), {.name = "second", .voter = true});
  auto& control = *region().mapping()->view().control;
  const std::uint64_t tail = control.tail.Load(), head = control.head.Load();
  Pin pin = reader.Pin();
  const auto contribute = [](Participant& self) {
    const auto made = self.CommitCollective(1, "part", {.fence = true});
    EXPECT_FAILS(made, kDataLoss, "");
    EXPECT_EQ(Details(made).cause, Cause::kDamaged);
    EXPECT_EQ(Details(made).outcome, Outcome::kUnknown);
  };
  std::thread one([&] { contribute(first); }), two([&] { contribute(second); });
  // Both have accepted: the fence is all that is missing.
  ASSERT_TRUE(Await([&] {
    return detail::StateWord::Unpack(control.head.Load()).phase == detail::Phase::kClosed;
  }));
  control.head.Store(head);
  control.tail.Store(tail);
  // (Whoever looked at tail before may close head once more.)
  ASSERT_TRUE(Await([&] { return control.tail.Load() == tail; }));
  one.join();
  two.join();
}

// The mark comes before the expulsion, or a death in between would hide one. So it says that
// somebody was to be expelled, also where that one has left by itself at that moment.
TEST(Forced, who_leaves_when_it_is_about_to_be_expelled_leaves_the_mark) {
  const ScratchName name;
  const auto region = Region::Create(name.name());
  ASSERT_OK(region);
  auto self = Participant::Join(*region), silent = Participant::Join(*region, {.voter = true});
  ASSERT_OK(self);
  ASSERT_OK(silent);
  const Trap trap("vote.before_expel", 1, [&] {
    EXPECT_OK(silent->Leave());
    return 0;
  });
  ASSERT_OK(self->Commit(
      "x",
      {.agreement = Agreement::kAllVoters, .on_straggler = Straggler::kExpel, .timeout = kSoon}));
  EXPECT_TRUE(trap.sprung());
  const auto& view = region->mapping()->view();
  const auto head = detail::StateWord::Unpack(view.control->head.Load());
  EXPECT_TRUE(detail::OutcomeWord::Unpack(view.cells[head.version].outcome.Load()).forced);
}

}  // namespace
}  // namespace epoch::test
