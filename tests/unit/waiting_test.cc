// What ends a wait, what a call that cannot do what was asked says, and handles that are used up.
#include <gtest/gtest.h>

#include <atomic>
#include <boost/container/vector.hpp>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "epoch/container.h"
#include "epoch/typed.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

class WaitingTest : public SmallRegionTest {
 protected:
  Participant VoterCalled(const std::string& name) {
    return *Participant::Join(region(), {.name = name, .voter = true});
  }
  detail::Control& control() { return *region().mapping()->view().control; }
  // A yes to the first question, which is asked only by a call that waits.
  Interrupted AtOnce() {
    return [this] {
      ++asked_;
      return true;
    };
  }
  // Of a call that waits for what never comes.
  template <typename Result>
  void ExpectInterrupted(const char* what, const Result& result) {
    SCOPED_TRACE(what);
    EXPECT_FAILS(result, kCancelled, "interrupted");
    EXPECT_EQ(Details(result).cause, Cause::kInterrupted);
    EXPECT_EQ(Details(result).outcome, Outcome::kUnchanged);
    EXPECT_EQ(asked_.exchange(0), 1);
  }
  // Waits until a proposal is up for decision.
  bool AwaitVote() {
    return Await([this] {
      return detail::StateWord::Unpack(control().tail.Load()).phase == detail::Phase::kVoting;
    });
  }
  bool AwaitClosed() {
    return Await([this] {
      return detail::StateWord::Unpack(control().head.Load()).phase == detail::Phase::kClosed;
    });
  }
  static constexpr auto kWrite = [](const Current&, Draft& next) { return next.Assign("x"); };

  std::atomic<int> asked_{0};
};

TEST_F(WaitingTest, whoever_waits_for_an_epoch_can_be_interrupted) {
  Participant self = Joined(), other = Joined("other");
  ExpectInterrupted("a ticket", self.Await(1, Stage::kCommitted, {.interrupted = AtOnce()}));
  ASSERT_OK(self.Commit("x"));
  const auto converged = self.Await(1, Stage::kConverged, {.interrupted = AtOnce()});
  ExpectInterrupted("convergence", converged);
  const ErrorDetails details = Details(converged);
  ASSERT_EQ(details.culprits.size(), 1u);
  EXPECT_EQ(details.culprits[0].name, "other");
  EXPECT_EQ(details.culprits[0].epoch, Epoch{0});
  EXPECT_EQ(details.actual, Epoch{1});
  // What is there already is not waited for, and nobody is asked.
  EXPECT_OK(self.Await(1, Stage::kCommitted, {.interrupted = AtOnce()}));
  EXPECT_EQ(asked_, 0);
}

TEST_F(WaitingTest, a_no_ends_nothing) {
  Participant self = Joined();
  int asked = 0;
  const auto result =
      self.Await(1, Stage::kCommitted, {.interrupted = [&] { return ++asked == 3; }});
  EXPECT_FAILS(result, kCancelled, "interrupted");
  EXPECT_EQ(asked, 3);
}

TEST_F(WaitingTest, whoever_proposes_takes_back_what_is_undecided_when_interrupted) {
  Participant self = Joined();
  Participant silent = VoterCalled("silent");
  const CommitOptions voted{.agreement = Agreement::kAllVoters, .interrupted = AtOnce()};
  ExpectInterrupted("commit", self.Commit("x", voted));
  ExpectInterrupted("update", self.Update(kWrite, voted));
  auto draft = self.NewDraft(1);
  ASSERT_OK(draft);
  ExpectInterrupted("propose", self.Propose(*std::move(draft), voted));
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_EQ(detail::StateWord::Unpack(control().tail.Load()).phase, detail::Phase::kAccepted);
  ASSERT_OK(self.Commit("next"));
  EXPECT_EQ(region().epoch(), 1u);
  ExpectNothingLeaked(region(), 2);
}

TEST_F(WaitingTest, whoever_waits_for_anothers_vote_can_be_interrupted) {
  Participant self = Joined(), silent = VoterCalled("silent");
  std::atomic<bool> over{false};
  std::thread proposer([&] {
    Participant other = Joined("proposer");
    EXPECT_FAILS(other.Commit("x", {.agreement = Agreement::kAllVoters,
                                    .interrupted = [&] { return over.load(); }}),
                 kCancelled, "taken back");
  });
  ASSERT_TRUE(AwaitVote());
  ExpectInterrupted("commit", self.Commit("plain", {.interrupted = AtOnce()}));
  ExpectInterrupted("update", self.Update(kWrite, {.interrupted = AtOnce()}));
  ExpectInterrupted(
      "voted", self.Commit("x", {.agreement = Agreement::kAllVoters, .interrupted = AtOnce()}));
  over = true;
  proposer.join();
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(WaitingTest, a_fence_is_taken_back_when_its_proposer_is_interrupted) {
  Participant self = Joined(), reader = Joined("reader"), late = Joined("late");
  Pin pin = reader.Pin();
  ExpectInterrupted("fence", self.Commit("x", {.fence = true, .interrupted = AtOnce()}));
  EXPECT_EQ(late.Pin().epoch(), 0u) << "open again";

  std::atomic<bool> over{false};
  std::thread proposer([&] {
    Participant other = Joined("proposer");
    EXPECT_FAILS(other.Commit("y", {.fence = true, .interrupted = [&] { return over.load(); }}),
                 kCancelled, "taken back");
  });
  ASSERT_TRUE(AwaitClosed());
  EXPECT_FAILS(late.TryPin(), kUnavailable, "a fence drains");
  EXPECT_EQ(Details(late.TryPin()).cause, Cause::kDraining);
  const auto timed_out = late.TryPin({.timeout = kSoon});
  EXPECT_FAILS(timed_out, kDeadlineExceeded, "a fence drains");
  EXPECT_EQ(Details(timed_out).cause, Cause::kTimedOut);
  ExpectInterrupted("pin", late.TryPin({.interrupted = AtOnce()}));
  over = true;
  proposer.join();
  EXPECT_OK(late.TryPin({.timeout = kLong}));
}

TEST_F(WaitingTest, a_contributor_that_is_interrupted_withdraws_for_all) {
  Participant first = VoterCalled("first"), second = VoterCalled("second");
  ExpectInterrupted("alone", first.CommitCollective(1, "part", {.interrupted = AtOnce()}));

  Participant third = VoterCalled("third");  // and brings nothing
  std::thread other([&] { EXPECT_FAILS(second.CommitCollective(2, "part"), kAborted, "first"); });
  ASSERT_TRUE(Await([&] {
    const auto& slot = region().mapping()->view().slots[second.slot()];
    return detail::OwnedWord::Unpack(slot.offer.Load()).number != detail::kNone;
  }));
  ExpectInterrupted("together", first.CommitCollective(2, "part", {.interrupted = AtOnce()}));
  other.join();
  EXPECT_EQ(region().epoch(), 0u);
  ExpectNothingLeaked(region(), 3);
}

// --- what was asked for --------------------------------------------------------------------------

TEST_F(WaitingTest, the_agreement_of_nobody_is_none_unless_that_was_asked_for) {
  Participant self = Joined();
  const auto refused = self.Commit("x", {.agreement = Agreement::kAllVoters});
  EXPECT_FAILS(refused, kFailedPrecondition, "at least 1 voter (min_voters), and none is in");
  EXPECT_EQ(Details(refused).cause, Cause::kTooFewVoters);
  EXPECT_EQ(Details(refused).outcome, Outcome::kUnchanged);
  Participant parked = VoterCalled("parked");
  ASSERT_OK(parked.Park());
  EXPECT_FAILS(self.Update(kWrite, {.agreement = Agreement::kAllVoters}), kFailedPrecondition,
               "none is in");
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_OK(self.Commit("x", {.agreement = Agreement::kAllVoters, .min_voters = 0}));
  EXPECT_OK(self.Commit("y", {.min_voters = 5})) << "nobody is asked";
  ExpectNothingLeaked(region(), 2);
}

TEST_F(WaitingTest, a_voter_that_proposes_counts_as_one) {
  Participant self = VoterCalled("self");
  EXPECT_OK(self.Commit("x", {.agreement = Agreement::kAllVoters}));
  EXPECT_FAILS(self.Commit("y", {.agreement = Agreement::kAllVoters, .min_voters = 2}),
               kFailedPrecondition, "at least 2 voters (min_voters), and only 1 accepted");
  EXPECT_EQ(region().epoch(), 1u);
}

// Two are in when it is proposed; the second leaves when it is asked, and the first has accepted.
TEST_F(WaitingTest, a_voter_that_leaves_before_the_decision_is_not_counted) {
  for (const std::uint32_t least : {2u, 1u}) {
    Participant self = Joined(), first = VoterCalled("first");
    Participant second = VoterCalled("second");
    std::atomic<bool> asked{false};
    second.SetValidator([&](const Proposal&) {
      asked = true;
      return Answer::Later();
    });
    std::thread proposer([&] {
      const auto made = self.Commit("x", {.agreement = Agreement::kAllVoters, .min_voters = least});
      if (least == 1) {
        EXPECT_OK(made);
      } else {
        EXPECT_FAILS(made, kFailedPrecondition, "only 1 accepted");
      }
    });
    ASSERT_TRUE(AwaitVote());
    ASSERT_OK(first.Poll());
    while (!asked) ASSERT_OK(second.Poll());
    ASSERT_OK(second.Leave());
    proposer.join();
    EXPECT_EQ(region().epoch(), least == 1 ? 1u : 0u);
  }
}

TEST_F(WaitingTest, whoever_is_expelled_for_it_was_asked) {
  Participant self = Joined();
  Participant silent = VoterCalled("silent");
  const CommitOptions options{
      .agreement = Agreement::kAllVoters, .on_straggler = Straggler::kExpel, .timeout = kSoon};
  EXPECT_OK(self.Commit("x", options));
  EXPECT_FAILS(silent.status(), kFailedPrecondition, "expelled");
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_FAILS(self.Commit("y", {.agreement = Agreement::kAllVoters,
                                 .on_straggler = Straggler::kExpel,
                                 .timeout = kLong}),
               kFailedPrecondition, "none is in");  // nor is there anybody to expel
}

// Fewer than were asked for would be left: so it is given up, and says because of whom.
TEST_F(WaitingTest, nobody_is_expelled_for_a_vote_that_cannot_succeed_any_more) {
  Participant self = VoterCalled("self"), silent = VoterCalled("silent");
  const auto options = [](std::uint32_t least) {
    return CommitOptions{.agreement = Agreement::kAllVoters,
                         .min_voters = least,
                         .on_straggler = Straggler::kExpel,
                         .timeout = kSoon};
  };
  const auto given_up = self.Commit("x", options(2));
  EXPECT_FAILS(given_up, kDeadlineExceeded, "silent");
  EXPECT_THAT(MessageOf(given_up), testing::HasSubstr("fewer than 2 voters (min_voters)"));
  EXPECT_EQ(Details(given_up).outcome, Outcome::kUnchanged);
  ASSERT_EQ(Details(given_up).culprits.size(), 1u);
  EXPECT_EQ(Details(given_up).culprits[0].name, "silent");
  EXPECT_OK(silent.status());
  EXPECT_EQ(region().epoch(), 0u);
  // A reader that holds up the fence had accepted, and would not be counted any more, either.
  {
    const Pin pin = silent.Pin();
    std::thread proposer([&] {
      CommitOptions fenced = options(2);
      fenced.fence = true;
      fenced.timeout = kLong;
      const auto made = self.Commit("x", fenced);
      EXPECT_FAILS(made, kDeadlineExceeded, "silent");
      EXPECT_THAT(MessageOf(made), testing::HasSubstr("fewer than 2 voters (min_voters)"));
    });
    EXPECT_TRUE(AwaitVote());
    EXPECT_OK(silent.Poll());
    EXPECT_TRUE(AwaitClosed());
    // As if that had passed.
    const auto head = detail::StateWord::Unpack(control().head.Load());
    region().mapping()->view().cells[head.version].deadline_ns.Store(1);
    proposer.join();
    EXPECT_OK(silent.status());
  }
  // With enough without it, it goes as before.
  ASSERT_OK(self.Commit("x", options(1)));
  EXPECT_FAILS(silent.status(), kFailedPrecondition, "expelled");
  EXPECT_EQ(region().epoch(), 1u);
}

TEST_F(WaitingTest, the_least_number_of_voters_stands_beside_what_a_cell_says_already) {
  using namespace detail;
  for (const std::uint32_t least : {0u, 1u, 4096u, ~0u}) {
    const std::uint64_t shape =
        PackShape(VersionKind::kFullState, kMaxVersions, true, false, true, least);
    EXPECT_EQ(LeastVotersOf(shape), std::min<std::uint32_t>(least, kIndexMask));
    EXPECT_EQ(PreviousCellOf(shape), kMaxVersions);
    EXPECT_TRUE(FenceOf(shape) && VotersOf(shape) && !ExpelOf(shape));
    EXPECT_EQ(KindOf(shape), VersionKind::kFullState);
  }
}

TEST_F(WaitingTest, an_update_that_writes_nothing_is_an_error_and_not_an_empty_state) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("old"));
  const auto untouched = self.Update([](const Current&, Draft&) { return absl::OkStatus(); });
  EXPECT_FAILS(untouched, kInvalidArgument, "NoChange()");
  EXPECT_EQ(Details(untouched).cause, Cause::kNotWritten);
  EXPECT_EQ(Details(untouched).outcome, Outcome::kUnchanged);
  EXPECT_EQ(self.Pin().text(), "old");
  EXPECT_EQ(region().epoch(), 1u);
  // Said in each of these ways.
  EXPECT_OK(self.Update([](const Current&, Draft& next) { return next.Resize(0); }));
  EXPECT_OK(self.Update([](const Current&, Draft& next) { return next.Assign({}); }));
  EXPECT_OK(self.Update([](const Current&, Draft& next) {
    static_cast<void>(next.bytes());
    return absl::OkStatus();
  }));
  EXPECT_EQ(self.Pin().text(), "");
  EXPECT_EQ(region().epoch(), 4u);
}

TEST_F(WaitingTest, no_change_can_be_said) {
  Participant self = Joined();
  ASSERT_OK(UpdateValue<int>(self, [](int& count) { count = 5; }));
  const auto same = self.Update([](const Current& current, Draft&) {
    EXPECT_EQ(current.epoch, 1u);
    return NoChange();
  });
  ASSERT_OK(same);
  EXPECT_EQ(*same, 1u);
  const auto ticket = self.ProposeUpdate([](const Current&, Draft& next) -> absl::Status {
    EXPECT_OK(next.Resize(3));  // and then thought better of it
    return NoChange();
  });
  ASSERT_OK(ticket);
  EXPECT_EQ(ticket->epoch, 1u);
  const auto typed = UpdateValue<int>(self, [](int& count) -> absl::Status {
    EXPECT_EQ(count, 5);
    return NoChange();
  });
  ASSERT_OK(typed);
  EXPECT_EQ(*typed, 1u);
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_FAILS(
      self.Update([](const Current&, Draft&) { return absl::FailedPreconditionError("mine"); }),
      kFailedPrecondition, "mine");
  ExpectNothingLeaked(region(), 1);
}

TEST_F(WaitingTest, no_change_to_a_container_leaves_it) {
  RegionOptions options = Small();
  options.state_bytes = 4096;
  const ScratchName large;
  const auto made = Region::Create(large.name(), options);
  ASSERT_OK(made);
  auto self = Participant::Join(*made);
  ASSERT_OK(self);
  using Numbers = boost::container::vector<int, ContainerAllocator<int>>;
  ASSERT_OK(UpdateContainer<Numbers>(*self, [](Numbers& numbers) { numbers.push_back(7); }));
  const auto same = UpdateContainer<Numbers>(*self, [](Numbers& numbers) -> absl::Status {
    numbers.push_back(8);
    return NoChange();
  });
  ASSERT_OK(same);
  EXPECT_EQ(*same, 1u);
  const Pin pin = self->Pin();
  EXPECT_EQ((*Container<Numbers>(pin))->size(), 1u);
}

TEST_F(WaitingTest, text_can_be_assigned_and_read) {
  Participant self = Joined();
  ASSERT_OK(self.Update([](const Current& current, Draft& next) {
    EXPECT_EQ(current.text(), "");
    return next.Assign("text");
  }));
  ASSERT_OK(self.Update([](const Current& current, Draft& next) {
    return next.Assign(std::string(current.text()) + ", more");
  }));
  EXPECT_EQ(self.Pin().text(), "text, more");
}

// --- one's own trouble in words ------------------------------------------------------------------

TEST_F(WaitingTest, an_update_inside_of_an_update_is_told_what_may_be_the_matter) {
  Participant self = Joined();
  const auto outer =
      self.Update([&](const Current&, Draft&) { return self.Update(kWrite).status(); });
  EXPECT_FAILS(outer, kFailedPrecondition, "each thread joins on its own");
  EXPECT_EQ(Details(outer).cause, Cause::kBusy);
}

TEST_F(WaitingTest, a_pin_of_a_damaged_region_says_so_and_not_that_a_fence_drains) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x"));
  const std::uint64_t head = control().head.Load();
  detail::Slot& slot = region().mapping()->view().slots[self.slot()];
  const auto expect_damage = [&](const char* what) {
    SCOPED_TRACE(what);
    for (int i = 0; i < 3; ++i) {
      EXPECT_FALSE(self.Pin().ok());
      const auto pin = self.TryPin();
      EXPECT_FAILS(pin, kDataLoss, "damaged");
      EXPECT_EQ(Details(pin).cause, Cause::kDamaged);
      EXPECT_FAILS(self.TryPin({.timeout = kLong}), kDataLoss, "damaged");
    }
  };
  control().head.Store(detail::StateWord{detail::Phase::kOpen, 8000, 99}.Pack());
  expect_damage("no such version");
  control().head.Store(detail::StateWord{detail::Phase::kClosed, 8000, 1}.Pack());
  expect_damage("closed for no such version");
  control().head.Store(detail::StateWord{detail::Phase::kClosed, 5, 1}.Pack());
  expect_damage("closed for what is no proposal");
  const auto cell = detail::StateWord::Unpack(head).version;
  auto& length = region().mapping()->view().cells[cell].length_bytes;
  control().head.Store(head);
  slot.pin.Store(detail::NoneOf(self.generation()));
  {
    Participant fresh = Joined("fresh");  // that has not pinned this version yet
    const std::uint64_t was = length.Load();
    length.Store(std::uint64_t{1} << 50);
    EXPECT_FAILS(fresh.TryPin(), kDataLoss, "damaged");
    length.Store(was);
    EXPECT_OK(fresh.TryPin());
  }
  slot.pin.Store(12345);
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_FAILS(self.TryPin(), kDataLoss, "the pin word");
  slot.pin.Store(detail::NoneOf(self.generation()));
  EXPECT_OK(self.TryPin());
}

// --- handles -------------------------------------------------------------------------------------

TEST_F(WaitingTest, a_handle_that_was_moved_from_says_so) {
  Participant gone = Joined("gone");
  ASSERT_OK(gone.Commit("x"));
  Participant self = std::move(gone);
  EXPECT_FALSE(gone.Pin().ok());  // NOLINT(bugprone-use-after-move)
  const std::pair<const char*, std::function<absl::Status()>> calls[] = {
      {"TryPin", [&] { return gone.TryPin().status(); }},
      {"TryPin, waiting", [&] { return gone.TryPin({.timeout = kLong}).status(); }},
      {"status", [&] { return gone.status(); }},
      {"NewDraft", [&] { return gone.NewDraft(1).status(); }},
      {"NewDraft of bytes", [&] { return gone.NewDraft(std::span<const std::byte>()).status(); }},
      {"Commit", [&] { return gone.Commit("x").status(); }},
      {"Commit of a draft", [&] { return gone.Commit(*self.NewDraft(1)).status(); }},
      {"Propose", [&] { return gone.Propose(*self.NewDraft(1)).status(); }},
      {"Await a ticket", [&] { return gone.Await(Ticket{1}).status(); }},
      {"Await", [&] { return gone.Await(1, Stage::kConverged).status(); }},
      {"Update", [&] { return gone.Update(kWrite).status(); }},
      {"ProposeUpdate", [&] { return gone.ProposeUpdate(kWrite).status(); }},
      {"UpdateValue", [&] { return UpdateValue<int>(gone, [](int&) {}).status(); }},
      {"CommitValue", [&] { return CommitValue(gone, 1).status(); }},
      {"CommitCollective", [&] { return gone.CommitCollective(1, "x").status(); }},
      {"Vote", [&] { return gone.Vote(1, Answer::Accept()); }},
      {"Listen", [&] { return gone.Listen().status(); }},
      {"Poll", [&] { return gone.Poll().status(); }},
      {"Acknowledge", [&] { return gone.Acknowledge(1); }},
      {"Park", [&] { return gone.Park(); }},
      {"Serve", [&] { return gone.Serve(kSoon); }},
      {"Leave", [&] { return gone.Leave(); }},
      {"Rejoin", [&] { return gone.Rejoin(); }},
  };
  for (const auto& [what, call] : calls) {
    SCOPED_TRACE(what);
    EXPECT_FAILS(call(), kFailedPrecondition, "moved from");
  }
  gone.SetValidator(nullptr);
  EXPECT_EQ(gone.slot(), 0u);
  EXPECT_EQ(gone.generation(), 0u);
  EXPECT_EQ(gone.name(), "");
  gone = std::move(self);
  EXPECT_EQ(gone.Pin().text(), "x");
  EXPECT_OK(gone.Commit("back"));
}

TEST_F(WaitingTest, a_draft_or_listener_or_region_that_was_moved_from_is_safe_to_touch) {
  Participant self = Joined();
  auto made = self.NewDraft(4);
  ASSERT_OK(made);
  Draft moved = *std::move(made);
  Draft& gone = *made;
  EXPECT_TRUE(gone.bytes().empty());
  EXPECT_EQ(gone.size(), 0u);
  EXPECT_EQ(gone.capacity(), 0u);
  EXPECT_FAILS(gone.Resize(0), kFailedPrecondition, "moved from");
  EXPECT_FAILS(gone.Assign("x"), kFailedPrecondition, "moved from");
  EXPECT_FAILS(self.Commit(std::move(gone)), kFailedPrecondition, "moved from");
  ASSERT_OK(moved.Assign("kept"));
  ASSERT_OK(self.Commit(std::move(moved)));
  EXPECT_FAILS(self.Commit(std::move(moved)), kFailedPrecondition, "moved from");

  auto started = self.Listen();
  ASSERT_OK(started);
  Listener listener = *std::move(started);
  EXPECT_EQ(started->fd(), -1);
  started->Drain();
  started->Stop();
  EXPECT_GE(listener.fd(), 3);
  listener.Stop();
  EXPECT_EQ(listener.fd(), -1);
  listener.Drain();
  listener.Stop();

  Region here = region();
  const Region there = std::move(here);
  EXPECT_EQ(here.epoch(), there.epoch());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(here.path(), there.path());
  EXPECT_OK(here.Read());
}

}  // namespace
}  // namespace epoch::test
