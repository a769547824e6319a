// Transitions that others have to agree to, within one process: several participants, some of them
// with a thread of their own. Deaths and stops are in tests/process.
#include <poll.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

// A participant in a thread of its own that polls until it is told to end.
class PollingVoter {
 public:
  PollingVoter(const Region& region, const std::string& name, Validator validator = nullptr)
      : self_(*Participant::Join(region, {.name = name, .voter = true})) {
    if (validator) self_.SetValidator(std::move(validator));
    thread_ = std::thread([this] {
      while (!stop_.load()) {
        last_ = self_.Poll().status();
        std::this_thread::yield();
      }
    });
  }
  ~PollingVoter() { Stop(); }
  void Stop() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }
  Participant& self() { return self_; }  // after Stop
  const absl::Status& last() const { return last_; }

 private:
  Participant self_;
  std::atomic<bool> stop_{false};
  absl::Status last_;
  std::thread thread_;
};

class VoteTest : public SmallRegionTest {
 protected:
  Participant Voter(const std::string& name) {
    return *Participant::Join(region(), {.name = name, .voter = true});
  }
  static CommitOptions Voted(absl::Duration timeout = kLong) {
    return {.agreement = Agreement::kAllVoters, .min_voters = 0, .timeout = timeout};
  }
  static CommitOptions Fenced(absl::Duration timeout = kLong) {
    return {.fence = true, .timeout = timeout};
  }
};

TEST_F(VoteTest, without_voters_it_is_a_commit) {
  Participant self = Joined();
  const auto epoch = self.Commit("alone", Voted());
  ASSERT_OK(epoch);
  EXPECT_EQ(*epoch, 1u);
  EXPECT_EQ(self.Pin().text(), "alone");
  ExpectNothingLeaked(region(), 1);
}

TEST_F(VoteTest, the_proposer_accepts_its_own) {
  Participant self = Voter("proposer");
  self.SetValidator([](const Proposal&) { return Answer::Reject("asked about its own"); });
  EXPECT_OK(self.Commit("mine", Voted()));
}

TEST_F(VoteTest, commits_when_all_voters_accept) {
  Participant self = Joined();
  std::atomic<int> asked{0};
  const auto accept = [&](const Proposal& p) {
    EXPECT_EQ(p.epoch, 1u);
    EXPECT_EQ(p.text(), "new");
    EXPECT_EQ(p.proposer, "tester");
    EXPECT_EQ(p.token, 7u);
    ++asked;
    return Answer::Accept();
  };
  PollingVoter a(region(), "a", accept), b(region(), "b", accept);
  CommitOptions options = Voted();
  options.token = 7;
  const auto epoch = self.Commit("new", options);
  ASSERT_OK(epoch);
  EXPECT_EQ(*epoch, 1u);
  EXPECT_EQ(asked, 2);
}

TEST_F(VoteTest, a_rejection_reaches_the_proposer_with_name_and_reason) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("old"));
  const std::string reason(120, 'r');
  PollingVoter a(region(), "willing"),
      b(region(), "critic", [&](const Proposal&) { return Answer::Reject(reason); });
  const auto epoch = self.Commit("new", Voted());
  EXPECT_FAILS(epoch, kAborted, "critic");
  EXPECT_FAILS(epoch, kAborted, reason);
  EXPECT_EQ(self.Pin().text(), "old");
  a.Stop(), b.Stop();
  ASSERT_OK(self.Commit("next"));
  EXPECT_EQ(region().epoch(), 2u) << "the number is used by the next attempt";
  ExpectNothingLeaked(region(), 3);
}

TEST_F(VoteTest, refused_proposals_do_not_use_up_versions) {
  Participant self = Joined();
  PollingVoter critic(region(), "critic", [](const Proposal&) { return Answer::Reject("never"); });
  for (int i = 0; i < 100; ++i) EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "never");
  critic.Stop();
  ExpectNothingLeaked(region(), 2);
}

TEST_F(VoteTest, nobody_sees_an_undecided_state) {
  Participant self = Joined();
  Participant voter = Voter("voter");
  std::thread proposer([&] { EXPECT_OK(self.Commit("new", Voted())); });
  while (!detail::Names(region().mapping()->view().control->tail.Load(), 1) &&
         detail::StateWord::Unpack(region().mapping()->view().control->tail.Load()).phase !=
             detail::Phase::kVoting) {
    std::this_thread::yield();
  }
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_EQ(voter.Pin().epoch(), 0u);
  EXPECT_EQ(region().Read()->state.size(), 0u);
  ASSERT_OK(voter.Poll());
  proposer.join();
  EXPECT_EQ(voter.Pin().text(), "new");
}

TEST_F(VoteTest, a_deadline_aborts_and_names_the_straggler) {
  Participant self = Joined();
  Participant silent = Voter("silent");
  EXPECT_FAILS(self.Commit("x", Voted(kSoon)), kDeadlineExceeded, "silent");
  EXPECT_OK(silent.Poll());
  EXPECT_EQ(region().epoch(), 0u);
  ExpectNothingLeaked(region(), 2);
}

TEST_F(VoteTest, a_deadline_may_expel_the_straggler_and_says_so_for_ever) {
  Participant self = Joined();
  Participant silent = Voter("silent");
  CommitOptions options = Voted(kSoon);
  options.on_straggler = Straggler::kExpel;
  ASSERT_OK(self.Commit("x", options));
  EXPECT_FAILS(silent.status(), kFailedPrecondition, "expelled");
  EXPECT_FAILS(silent.Commit("late"), kFailedPrecondition, "expelled");
  const auto& view = region().mapping()->view();
  const auto head = detail::StateWord::Unpack(view.control->head.Load());
  EXPECT_TRUE(detail::OutcomeWord::Unpack(view.cells[head.version].outcome.Load()).forced);
}

TEST_F(VoteTest, parked_voters_and_others_are_not_asked) {
  Participant self = Joined();
  Participant parked = Voter("parked"), reader = Joined("reader");
  parked.SetValidator([](const Proposal&) { return Answer::Reject("was asked"); });
  reader.SetValidator([](const Proposal&) { return Answer::Reject("was asked"); });
  ASSERT_OK(parked.Park());
  EXPECT_OK(self.Commit("x", Voted()));
}

TEST_F(VoteTest, an_answer_may_come_later) {
  Participant self = Joined();
  Participant voter = Voter("slow");
  std::atomic<std::uint64_t> ballot{0};
  voter.SetValidator([&](const Proposal& p) {
    ballot = p.ballot;
    return Answer::Later();
  });
  std::thread proposer(
      [&] { EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "thought it over"); });
  while (ballot == 0) ASSERT_OK(voter.Poll());
  EXPECT_FAILS(voter.Vote(ballot + 1, Answer::Accept()), kFailedPrecondition, "put off");
  EXPECT_FAILS(voter.Vote(ballot, Answer::Later()), kInvalidArgument, "Accept or Reject");
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_OK(voter.Vote(ballot, Answer::Reject("thought it over")));
  proposer.join();
  EXPECT_FAILS(voter.Vote(ballot, Answer::Accept()), kFailedPrecondition, "put off");
}

TEST_F(VoteTest, a_late_answer_to_a_decided_ballot_is_told_so) {
  Participant self = Joined();
  Participant voter = Voter("slow");
  std::uint64_t ballot = 0;
  voter.SetValidator([&](const Proposal& p) {
    ballot = p.ballot;
    return Answer::Later();
  });
  std::thread proposer([&] { EXPECT_FAILS(self.Commit("x", Voted()), kDeadlineExceeded, "slow"); });
  while (ballot == 0) ASSERT_OK(voter.Poll());
  // As if the deadline had come.
  const auto& view = region().mapping()->view();
  const auto tail = detail::StateWord::Unpack(view.control->tail.Load());
  view.cells[tail.version].deadline_ns.Store(1);
  proposer.join();
  EXPECT_FAILS(voter.Vote(ballot, Answer::Accept()), kAborted, "decided already");
}

// As the other thread of the participant would, that has looked at a proposal for long.
TEST_F(VoteTest, a_vote_stays_whatever_the_other_thread_makes_of_this_proposal_or_the_last) {
  Participant self = Joined();
  Participant voter = Voter("voter"), last = Voter("last");
  const auto& mapping = *region().mapping();
  const auto& view = mapping.view();
  const auto up_for_vote = [&](std::uint64_t after) {
    detail::StateWord tail{};
    EXPECT_TRUE(Await([&] {
      tail = detail::StateWord::Unpack(view.control->tail.Load());
      return tail.phase == detail::Phase::kVoting &&
             view.cells[tail.version].ballot.Load() != after;
    }));
    return tail.version;
  };
  detail::Slot& slot = view.slots[voter.slot()];
  const detail::SlotClaim claim{voter.slot(),
                                detail::SlotWord::Unpack(slot.state.Load()).generation};
  detail::Voter late(mapping, claim);

  std::thread proposer([&] { EXPECT_FAILS(self.Commit("x", Voted()), kDeadlineExceeded, ""); });
  detail::VersionCell& first = view.cells[up_for_vote(0)];
  const std::uint64_t first_ballot = first.ballot.Load();
  first.deadline_ns.Store(1);  // as if it had come
  proposer.join();

  proposer = std::thread([&] { EXPECT_OK(self.Commit("y", Voted())); });
  detail::VersionCell& second = view.cells[up_for_vote(first_ballot)];
  const std::uint64_t second_ballot = second.ballot.Load();
  ASSERT_OK(voter.Poll());
  const std::uint64_t vote = slot.vote.Load(), digest = slot.vote_digest.Load();
  EXPECT_EQ(detail::VoteWord::Unpack(vote).verdict, detail::Verdict::kAccept);
  EXPECT_FALSE(late.Cast(first, first_ballot, detail::Verdict::kReject, 0, "too late"));
  EXPECT_FALSE(late.Cast(second, second_ballot, detail::Verdict::kReject, 0, "too late"));
  EXPECT_EQ(slot.vote.Load(), vote);
  EXPECT_EQ(slot.vote_digest.Load(), digest);
  ASSERT_OK(last.Poll());
  proposer.join();
}

TEST_F(VoteTest, a_plain_commit_waits_for_an_undecided_vote) {
  Participant self = Joined(), other = Joined("other");
  Participant voter = Voter("voter");
  std::thread proposer([&] { EXPECT_OK(self.Commit("voted", Voted())); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->tail.Load()).phase !=
         detail::Phase::kVoting) {
    std::this_thread::yield();
  }
  EXPECT_FAILS(other.Commit("plain", {.timeout = kSoon}), kDeadlineExceeded, "voter");
  std::thread committer([&] { EXPECT_OK(other.Commit("plain")); });
  ASSERT_OK(voter.Poll());
  proposer.join();
  committer.join();
  EXPECT_EQ(region().epoch(), 2u);
  EXPECT_EQ(voter.Pin().text(), "plain");
}

TEST_F(VoteTest, an_update_can_be_voted_on) {
  Participant self = Joined();
  PollingVoter voter(region(), "voter");
  const auto append = [](const Current& current, Draft& next) {
    std::vector<std::byte> bytes(current.state.begin(), current.state.end());
    bytes.push_back(std::byte{'x'});
    return next.Assign(bytes);
  };
  for (int i = 0; i < 20; ++i) ASSERT_OK(self.Update(append, Voted()));
  EXPECT_EQ(self.Pin().text(), std::string(20, 'x'));
}

TEST_F(VoteTest, a_validator_stays_when_its_participant_rejoins) {
  Participant self = Joined();
  Participant voter = Voter("critic");
  voter.SetValidator([](const Proposal&) { return Answer::Reject("never"); });
  ASSERT_OK(region().Expel(voter.slot()));
  ASSERT_OK(voter.Rejoin());
  std::thread proposer([&] { EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "never"); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->tail.Load()).phase !=
         detail::Phase::kVoting) {
    std::this_thread::yield();
  }
  ASSERT_OK(voter.Poll());
  proposer.join();
}

TEST_F(VoteTest, expected_is_checked_before_anybody_is_asked) {
  Participant self = Joined();
  PollingVoter voter(region(), "voter",
                     [](const Proposal&) { return Answer::Reject("was asked"); });
  CommitOptions options = Voted();
  options.expected = 5;
  EXPECT_FAILS(self.Commit("x", options), kAborted, "expected epoch 5");
}

TEST_F(VoteTest, a_voter_finds_altered_bytes) {
  Participant self = Joined();
  Participant voter = Voter("voter");
  auto draft = self.NewDraft(std::size_t{8});
  ASSERT_OK(draft);
  std::byte* const bytes = draft->bytes().data();
  std::memset(bytes, 1, 8);
  std::thread proposer(
      [&] { EXPECT_FAILS(self.Commit(*std::move(draft), Voted()), kAborted, "do not match"); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->tail.Load()).phase !=
         detail::Phase::kVoting) {
    std::this_thread::yield();
  }
  bytes[3] = std::byte{2};
  ASSERT_OK(voter.Poll());
  proposer.join();
}

TEST_F(VoteTest, an_update_that_is_refused_is_not_proposed_again) {
  Participant self = Joined();
  std::atomic<int> asked{0};
  PollingVoter critic(region(), "critic", [&](const Proposal&) {
    ++asked;
    return Answer::Reject("no");
  });
  EXPECT_FAILS(Increment(self, Voted()), kAborted, "critic");
  EXPECT_EQ(asked, 1);
}

TEST_F(VoteTest, who_has_left_can_not_vote_any_more) {
  Participant self = Joined();
  Participant slow = Voter("slow");
  std::uint64_t ballot = 0;
  slow.SetValidator([&](const Proposal& p) {
    ballot = p.ballot;
    return Answer::Later();
  });
  std::thread proposer([&] { EXPECT_OK(self.Commit("x", Voted())); });
  while (ballot == 0) ASSERT_OK(slow.Poll());
  ASSERT_OK(slow.Leave());
  EXPECT_FAILS(slow.Vote(ballot, Answer::Reject("too late")), kFailedPrecondition, "left");
  proposer.join();
}

TEST_F(VoteTest, a_later_reject_decides_even_if_its_voter_leaves_at_once) {
  Participant self = Joined();
  Participant slow = Voter("slow");
  std::uint64_t ballot = 0;
  slow.SetValidator([&](const Proposal& p) {
    ballot = p.ballot;
    return Answer::Later();
  });
  std::thread proposer([&] { EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "slow"); });
  while (ballot == 0) ASSERT_OK(slow.Poll());
  ASSERT_OK(slow.Vote(ballot, Answer::Reject("no")));
  ASSERT_OK(slow.Leave());
  proposer.join();
}

TEST_F(VoteTest, a_validator_that_throws_rejects_and_is_asked_again) {
  Participant self = Joined();
  PollingVoter critic(region(), "critic",
                      [](const Proposal&) -> Answer { throw std::runtime_error("out of cheese"); });
  for (int i = 0; i < 3; ++i) {
    EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "threw: out of cheese");
  }
  critic.Stop();
  ExpectNothingLeaked(region(), 2);
}

TEST_F(VoteTest, a_validator_may_replace_itself) {
  Participant self = Joined();
  Participant voter = Voter("voter");
  voter.SetValidator([&](const Proposal&) {
    voter.SetValidator([](const Proposal&) { return Answer::Accept(); });
    return Answer::Reject("first time");
  });
  for (const bool accepted : {false, true}) {
    std::atomic<bool> done{false};
    std::thread proposer([&] {
      EXPECT_EQ(self.Commit("x", Voted()).ok(), accepted);
      done = true;
    });
    while (!done) ASSERT_OK(voter.Poll());
    proposer.join();
  }
}

TEST_F(VoteTest, a_ballot_number_is_never_that_of_no_vote) {
  Participant self = Joined();
  PollingVoter critic(region(), "critic", [](const Proposal&) { return Answer::Reject("no"); });
  for (const std::uint64_t last : {~std::uint64_t{0}, detail::kBallotMask}) {
    region().mapping()->view().control->ballot.Store(last);
    EXPECT_FAILS(self.Commit("x", Voted()), kAborted, "critic");
  }
}

TEST_F(VoteTest, a_voter_that_waits_for_itself_ends_at_the_deadline) {
  Participant voter = Voter("voter"), self = Joined();
  voter.SetValidator([](const Proposal&) { return Answer::Later(); });
  CommitOptions options = Voted(kSoon);
  options.on_straggler = Straggler::kExpel;
  std::thread proposer([&] { static_cast<void>(self.Commit("x", options)); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->tail.Load()).phase !=
             detail::Phase::kVoting &&
         region().epoch() == 0 && voter.status().ok()) {
    std::this_thread::yield();
  }
  const auto epoch = voter.Commit("plain");
  EXPECT_TRUE(epoch.ok() || absl::IsFailedPrecondition(epoch.status())) << epoch.status();
  proposer.join();
}

TEST_F(VoteTest, words_that_name_no_cell_end_every_wait) {
  Participant self = Voter("self");
  auto& control = *region().mapping()->view().control;
  const std::uint64_t tail = control.tail.Load(), head = control.head.Load();
  control.tail.Store(detail::StateWord{detail::Phase::kVoting, 5000, 1}.Pack());
  EXPECT_FAILS(self.Commit("x"), kDataLoss, "damaged");
  EXPECT_FAILS(Increment(self), kDataLoss, "damaged");
  EXPECT_FAILS(self.CommitCollective(1, "x"), kDataLoss, "damaged");
  control.tail.Store(tail);
  control.head.Store(detail::StateWord{detail::Phase::kClosed, 5000, 0}.Pack());
  EXPECT_FALSE(self.Pin().ok());
  control.head.Store(head);
  control.gather.Store(0);
  EXPECT_FAILS(self.CommitCollective(1, "x"), kDataLoss, "round is damaged");
}

// --- fences --------------------------------------------------------------------------------------

TEST_F(VoteTest, a_fence_without_pins_costs_nothing_more) {
  Participant self = Joined(), reader = Joined("reader");
  { Pin pin = reader.Pin(); }
  ASSERT_OK(self.Commit("fenced", Fenced()));
  EXPECT_EQ(reader.Pin().text(), "fenced");
  ExpectNothingLeaked(region(), 2);
}

TEST_F(VoteTest, a_fence_waits_for_pins_and_lets_nobody_pin_meanwhile) {
  Participant self = Joined(), reader = Joined("reader"), late = Joined("late");
  Pin pin = reader.Pin();
  std::thread proposer([&] { EXPECT_OK(self.Commit("fenced", Fenced())); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->head.Load()).phase !=
         detail::Phase::kClosed) {
    std::this_thread::yield();
  }
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_FAILS(late.TryPin(), kUnavailable, "fence");
  EXPECT_EQ(region().Read()->epoch, 0u) << "looking is no pin";
  Pin nested = reader.Pin();
  EXPECT_EQ(nested.epoch(), 0u) << "nested: what is pinned already";
  std::thread pinner([&] { EXPECT_EQ(late.Pin().epoch(), 1u); });
  nested.Release();
  pin.Release();
  proposer.join();
  pinner.join();
  EXPECT_EQ(reader.Pin().text(), "fenced");
}

TEST_F(VoteTest, a_proposer_that_pins_is_told_at_once) {
  Participant self = Joined();
  Pin pin = self.Pin();
  EXPECT_FAILS(self.Commit("x", Fenced()), kFailedPrecondition, "release it first");
  pin.Release();
  EXPECT_OK(self.Commit("x", Fenced()));
}

TEST_F(VoteTest, whoever_holds_up_a_fence_is_told_when_it_waits_for_it) {
  Participant self = Joined(), reader = Joined("reader");
  Pin pin = reader.Pin();
  std::thread proposer([&] { EXPECT_OK(self.Commit("fenced", Fenced())); });
  while (detail::StateWord::Unpack(region().mapping()->view().control->head.Load()).phase !=
         detail::Phase::kClosed) {
    std::this_thread::yield();
  }
  EXPECT_FAILS(reader.Commit("plain"), kFailedPrecondition, "release it first");
  EXPECT_FAILS(reader.Await(1, Stage::kCommitted), kFailedPrecondition, "release it first");
  pin.Release();
  proposer.join();
}

TEST_F(VoteTest, a_fence_is_given_up_at_its_deadline) {
  Participant self = Joined(), reader = Joined("reader");
  Pin pin = reader.Pin();
  EXPECT_FAILS(self.Commit("x", Fenced(kSoon)), kDeadlineExceeded, "reader");
  EXPECT_EQ(Joined("third").Pin().epoch(), 0u) << "open again";
  pin.Release();
  ExpectNothingLeaked(region(), 2);
}

TEST_F(VoteTest, a_fence_may_expel_the_reader_whose_version_stays) {
  Participant self = Joined(), reader = Joined("reader");
  ASSERT_OK(self.Commit("old"));
  Pin pin = reader.Pin();
  CommitOptions options = Fenced(kSoon);
  options.on_straggler = Straggler::kExpel;
  ASSERT_OK(self.Commit("new", options));
  for (int i = 0; i < 20; ++i) ASSERT_OK(self.Commit("newer"));
  EXPECT_EQ(pin.text(), "old");
  EXPECT_FAILS(reader.status(), kFailedPrecondition, "expelled");
}

TEST_F(VoteTest, a_head_closed_late_for_an_aborted_proposal_is_opened_by_whoever_meets_it) {
  Participant self = Joined(), reader = Joined("reader");
  Pin pin = reader.Pin();
  EXPECT_FAILS(self.Commit("x", Fenced(kSoon)), kDeadlineExceeded, "reader");
  pin.Release();
  // What a driver leaves that was stopped just before it closed head, and is killed right after it.
  const auto& view = region().mapping()->view();
  std::uint32_t aborted = 0;
  while (detail::OwnerWord::Unpack(view.cells[aborted].owner.Load()).state !=
         detail::CellState::kRetired) {
    ASSERT_LT(++aborted, view.geometry.versions);
  }
  std::uint64_t open = view.control->head.Load();
  const auto closed = detail::StateWord{detail::Phase::kClosed, aborted, 0}.Pack();
  ASSERT_TRUE(view.control->head.CompareExchange(open, closed));
  detail::Reclaim(view);
  EXPECT_EQ(detail::OwnerWord::Unpack(view.cells[aborted].owner.Load()).state,
            detail::CellState::kRetired)
      << "head names it";
  EXPECT_EQ(region().Read()->epoch, 0u);
  EXPECT_TRUE(reader.Pin().ok());
  EXPECT_EQ(view.control->head.Load(), open);
  ASSERT_TRUE(view.control->head.CompareExchange(open, closed));
  EXPECT_OK(self.Commit("past it"));
  EXPECT_EQ(reader.Pin().text(), "past it");
  ExpectNothingLeaked(region(), 2);
}

// --- collective commits --------------------------------------------------------------------------

class CollectiveTest : public VoteTest {
 protected:
  using Result = absl::StatusOr<Epoch>;
  // Each with a thread of its own.
  std::vector<Result> Together(const std::vector<std::function<Result(Participant&)>>& parts) {
    std::vector<Participant> members;
    for (std::size_t i = 0; i < parts.size(); ++i) members.push_back(Voter(absl::StrCat("m", i)));
    std::vector<Result> results(parts.size(), absl::UnknownError("not run"));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      threads.emplace_back([&, i] { results[i] = parts[i](members[i]); });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }
  static std::function<Result(Participant&)> Part(std::uint64_t tag, const std::string& text,
                                                  const CollectiveOptions& options = {
                                                      .timeout = kLong}) {
    return [=](Participant& self) { return self.CommitCollective(tag, text, options); };
  }
  // Not before another has contributed to that round.
  std::function<Result(Participant&)> AfterAnother(
      const std::function<Result(Participant&)>& part) {
    return [this, part](Participant& self) -> Result {
      const auto& view = region().mapping()->view();
      const bool offered = Await([&] {
        const std::uint64_t round =
            detail::GatherWord::Unpack(view.control->gather.Load()).round & detail::kNumberMask;
        for (std::uint32_t i = 0; i < kParticipants; ++i) {
          if (i != self.slot() &&
              detail::OwnedWord::Unpack(view.slots[i].offer.Load()).number == round) {
            return true;
          }
        }
        return false;
      });
      if (!offered) return absl::UnknownError("no other contributes");
      return part(self);
    };
  }
};

TEST_F(CollectiveTest, parts_are_put_together_in_slot_order) {
  Participant self = Joined();
  for (const Result& r : Together({Part(9, "one"), Part(9, "two"), Part(9, "")})) {
    ASSERT_OK(r);
    EXPECT_EQ(*r, 1u);
  }
  const Pin pin = self.Pin();
  const auto parts = ContributionsOf(pin.state());
  ASSERT_OK(parts);
  ASSERT_EQ(parts->size(), 3u);
  const auto text = [&](std::size_t i) {
    return std::string(reinterpret_cast<const char*>((*parts)[i].bytes.data()),
                       (*parts)[i].bytes.size());
  };
  EXPECT_EQ(text(0) + "," + text(1) + "," + text(2), "one,two,");
  EXPECT_LT((*parts)[0].slot, (*parts)[1].slot);
  EXPECT_EQ(region().Read()->token, 9u);
}

TEST_F(CollectiveTest, one_after_another) {
  for (std::uint64_t tag = 1; tag <= 30; ++tag) {
    for (const Result& r : Together({Part(tag, "a"), Part(tag, "b"), Part(tag, "c")})) ASSERT_OK(r);
  }
  EXPECT_EQ(region().epoch(), 30u);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CollectiveTest, another_tag_ends_it_for_all) {
  const auto results = Together({Part(1, "a"), Part(2, "b")});
  for (const Result& r : results) EXPECT_FAILS(r, kAborted, "tag");
  EXPECT_EQ(region().epoch(), 0u);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CollectiveTest, who_does_not_contribute_is_named) {
  Participant idle = Voter("idle");
  for (const Result& r : Together({AfterAnother(Part(1, "a", {.timeout = kSoon})), Part(1, "b")})) {
    EXPECT_FAILS(r, kDeadlineExceeded, "idle");
  }
  ExpectNothingLeaked(region(), 1);
}

TEST_F(CollectiveTest, stragglers_may_be_expelled) {
  Participant idle = Voter("idle");
  const CollectiveOptions soon{.timeout = kSoon, .on_straggler = Straggler::kExpel};
  const CollectiveOptions patient{.timeout = kLong, .on_straggler = Straggler::kExpel};
  std::vector<Result> results;
  for (std::uint64_t tag = 1; tag < 1000; ++tag) {
    results = Together({AfterAnother(Part(tag, "a", soon)), Part(tag, "b", patient)});
    EXPECT_FAILS(idle.status(), kFailedPrecondition, "expelled");
    if (results[0].ok()) break;
    // Once it is rid of the straggler it does not wait for long: the other has to answer soon.
    EXPECT_FAILS(results[0], kDeadlineExceeded, "");
    ASSERT_OK(idle.Rejoin());
  }
  for (const Result& r : results) ASSERT_OK(r);
  EXPECT_EQ(ContributionsOf(region().Read()->state)->size(), 2u);
}

TEST_F(CollectiveTest, too_few_contributions_are_counted) {
  const CollectiveOptions soon{.timeout = kSoon, .contributions = 3};
  const CollectiveOptions patient{.timeout = kLong, .contributions = 3};
  for (const Result& r : Together({AfterAnother(Part(1, "a", soon)), Part(1, "b", patient)})) {
    EXPECT_FAILS(r, kDeadlineExceeded, "of 3");
  }
}

TEST_F(CollectiveTest, nobody_is_expelled_for_one_that_would_not_be_complete_without_it) {
  Participant idle = Voter("idle");
  const CollectiveOptions soon{
      .timeout = kSoon, .on_straggler = Straggler::kExpel, .contributions = 3};
  const CollectiveOptions patient{
      .timeout = kLong, .on_straggler = Straggler::kExpel, .contributions = 3};
  for (const Result& r : Together({AfterAnother(Part(1, "a", soon)), Part(1, "b", patient)})) {
    EXPECT_FAILS(r, kDeadlineExceeded, "idle");
  }
  EXPECT_OK(idle.status());
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(CollectiveTest, late_and_repeated_contributions_are_refused) {
  for (const Result& r : Together({Part(4, "a"), Part(4, "b")})) ASSERT_OK(r);
  Participant late = Voter("late");
  EXPECT_FAILS(late.CommitCollective(4, "late", {.timeout = kLong}), kAlreadyExists,
               "tag 4 was committed already, as epoch 1");
}

TEST_F(CollectiveTest, bad_input_is_refused_at_once) {
  Participant reader = Joined(), voter = Voter("voter");
  EXPECT_FAILS(reader.CommitCollective(1, "x"), kFailedPrecondition, "voter");
  EXPECT_FAILS(voter.CommitCollective(1, std::string(kMaxContributionBytes + 1, 'x')), kOutOfRange,
               "at most 256");
  const Pin pin = voter.Pin();
  EXPECT_FAILS(voter.CommitCollective(1, "x", {.fence = true}), kFailedPrecondition,
               "release it first");
}

TEST_F(CollectiveTest, what_does_not_fit_together_fails_for_all) {
  // 256 bytes of state: one part fits, two do not.
  const std::string large(150, 'x');
  int too_large = 0;
  for (const Result& r : Together({Part(1, large), Part(1, large)})) {
    EXPECT_FALSE(r.ok());
    too_large += absl::IsOutOfRange(r.status()) ? 1 : 0;
  }
  EXPECT_GE(too_large, 1);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CollectiveTest, other_states_are_not_taken_for_one) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("something else, long enough for a header"));
  EXPECT_FAILS(ContributionsOf(self.Pin().state()), kDataLoss, "not the state");
  detail::GatheredHeader header{detail::kGatheredMagic, 1, ~std::uint64_t{0}};
  std::vector<std::byte> bytes(sizeof header + 4);
  std::memcpy(bytes.data(), &header, sizeof header);
  EXPECT_FAILS(ContributionsOf(bytes), kDataLoss, "not the state");
}

// --- listeners -----------------------------------------------------------------------------------

TEST_F(VoteTest, a_listener_answers_and_acknowledges_while_its_participant_is_busy) {
  Participant self = Joined();
  Participant busy = Voter("busy");
  auto listener = busy.Listen();
  ASSERT_OK(listener);
  EXPECT_FAILS(busy.Listen(), kFailedPrecondition, "already");
  EXPECT_FAILS(busy.Rejoin(), kFailedPrecondition, "listener");
  for (int i = 0; i < 50; ++i) {
    const auto epoch = self.Commit("x", Voted());
    ASSERT_OK(epoch);
    ASSERT_OK(self.Await(*epoch, Stage::kConverged, kLong));
  }
}

TEST_F(VoteTest, a_listener_tells_an_eventfd) {
  Participant self = Joined();
  Participant waiter = Joined("waiter");
  auto listener = waiter.Listen();
  ASSERT_OK(listener);
  ASSERT_OK(self.Commit("x"));
  pollfd ready{.fd = listener->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&ready, 1, kLong_ms), 1);
  EXPECT_EQ(region().epoch(), 1u);
  listener->Drain();
  EXPECT_EQ(poll(&ready, 1, 0), 0);
  ASSERT_OK(region().Expel(waiter.slot()));
  ASSERT_EQ(poll(&ready, 1, kLong_ms), 1) << "an expulsion is news, too";
}

TEST_F(VoteTest, a_listener_acknowledges_nothing_behind_the_back_of_a_pin) {
  Participant self = Joined();
  Participant reader = Joined("reader");
  auto listener = reader.Listen();
  ASSERT_OK(listener);
  const Pin pin = reader.Pin();
  ASSERT_OK(self.Commit("x"));
  pollfd ready{.fd = listener->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&ready, 1, kLong_ms), 1);
  EXPECT_FAILS(self.Await(1, Stage::kConverged, kSoon), kDeadlineExceeded, "reader");
}

TEST_F(VoteTest, many_proposers_and_voters_agree_on_one_order) {
  constexpr int kEach = 200, kMembers = 4;
  std::vector<std::thread> threads;
  for (int m = 0; m < kMembers; ++m) {
    threads.emplace_back([&, m] {
      Participant self = Voter(absl::StrCat("m", m));
      int done = 0;
      while (done < kEach) {
        CommitOptions options = Voted();
        options.fence = done % 3 == 0;
        const auto next = [](const Current& current, Draft& draft) {
          std::uint64_t count = 0;
          if (!current.state.empty()) std::memcpy(&count, current.state.data(), sizeof count);
          ++count;
          return draft.Assign(std::as_bytes(std::span(&count, 1)));
        };
        const auto epoch = self.Update(next, options);
        if (epoch.ok())
          ++done;
        else
          ADD_FAILURE() << epoch.status().ToString();
      }
      // Others still need this vote.
      while (region().epoch() < kEach * kMembers) EXPECT_OK(self.Poll());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::uint64_t count = 0;
  std::memcpy(&count, region().Read()->state.data(), sizeof count);
  EXPECT_EQ(count, std::uint64_t{kEach * kMembers});
  EXPECT_EQ(region().epoch(), std::uint64_t{kEach * kMembers});
  ExpectNothingLeaked(region(), 0);
}

}  // namespace
}  // namespace epoch::test
