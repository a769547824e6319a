// The checker finds what breaks a vote, a fence or a collective commit, and nothing in sound ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stress/script.h"

namespace epoch::stress {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint32_t kProposer = 1, kVoterA = 2, kVoterB = 3;

// A content that `rejecter` must reject, and the others must not; 0: nobody must.
constexpr std::uint64_t ContentFor(std::uint32_t rejecter) {
  for (std::uint64_t id = 101;; ++id) {
    bool as_wanted = true;
    for (const std::uint32_t serial : {kVoterA, kVoterB}) {
      as_wanted = as_wanted && MustReject(serial, id) == (serial == rejecter);
    }
    if (as_wanted) return id;
  }
}
constexpr std::uint64_t kGood = ContentFor(0), kBadForA = ContentFor(kVoterA);

class HistoryVotesTest : public testing::Test {
 protected:
  void SetUp() override {
    script.Start(kProposer);
    script.Start(kVoterA, Script::kIncarnation, kIsVoter);
    script.Start(kVoterB, Script::kIncarnation, kIsVoter);
  }
  // Shows that all of them had their slots until now.
  void AllGoOn(std::uint64_t epoch) {
    for (const std::uint32_t serial : {kProposer, kVoterA, kVoterB}) script.Poll(serial, epoch);
  }
  Script script;
};

TEST_F(HistoryVotesTest, sound_votes_have_no_violation) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Vote(kVoterB, 1, kGood, Voted::kLater);
  script.Vote(kVoterB, 1, kGood);
  script.Decided(kProposer, 1);
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 2, kBadForA, Voted::kReject);
  script.Refused(kProposer, absl::StatusCode::kAborted, kToldUnchanged | kToldRejected, kVoterA);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

// --- G5 ------------------------------------------------------------------------------------------

TEST_F(HistoryVotesTest, commit_despite_a_reject) {
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.Vote(kVoterB, 1, kBadForA);
  script.Decided(kProposer, 1);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, commit_without_the_accept_of_a_voter) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Decided(kProposer, 1);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, commit_without_the_accept_of_a_voter_is_found_without_its_proposers_word) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Driver(Kind::kKilled, kProposer);
  script.Look(kVoterA, 1, kGood);
  script.Poll(kVoterA, 1);
  script.Poll(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, commit_before_a_voter_that_put_it_off_has_answered) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Vote(kVoterB, 1, kGood, Voted::kLater);
  script.Decided(kProposer, 1);
  script.Vote(kVoterB, 1, kGood);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, vote_of_an_earlier_generation_that_is_counted_for_the_next) {
  script.Join(4, kVoterB, 2);
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Vote(kVoterB, 1, kGood, Voted::kAccept, 1);
  script.Decided(kProposer, 1);
  script.Poll(kProposer, 1);
  script.Poll(kVoterA, 1);
  script.logs()[4].insert(script.logs()[4].begin(),
                          {.kind = Kind::kOpened, .detail = Script::kIncarnation});
  script.Poll(4, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, only_those_are_asked_that_are_in_all_the_while) {
  script.Begin(kVoterA, Operation::kPark);
  script.End(kVoterA, Operation::kPark, 0);
  script.Propose(kProposer, kGood);
  script.Start(4, Script::kIncarnation, kIsVoter);  // too late
  script.Decided(kProposer, 1);  // kVoterB may have been expelled for its silence
  script.Poll(kVoterA, 1);
  script.Poll(4, 1);
  script.Begin(kVoterB, Operation::kPoll);
  script.End(kVoterB, Operation::kPoll, 0, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryVotesTest, digest_that_is_not_the_proposers_is_accepted) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Vote(kVoterB, 1, kGood);
  ++script.logs()[kVoterB].back().digest;
  script.Decided(kProposer, 1);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, rejected_content_that_is_seen) {
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.Refused(kProposer, absl::StatusCode::kAborted, kToldUnchanged | kToldRejected, kVoterA);
  script.Look(kVoterB, 1, kBadForA);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, content_given_up_at_the_deadline_that_is_seen) {
  script.Propose(kProposer, kGood);
  script.Refused(kProposer, absl::StatusCode::kDeadlineExceeded);
  script.Look(kVoterA, 1, kGood);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, reject_that_is_told_of_one_that_did_not) {
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.Refused(kProposer, absl::StatusCode::kAborted, kToldUnchanged | kToldRejected, kVoterB);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryVotesTest, two_contents_under_one_ballot) {
  script.Propose(kProposer, kGood);
  script.Vote(kVoterA, 1, kGood);
  script.Propose(kVoterB, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.logs()[kVoterA].back().detail = 1000 + kGood;
  EXPECT_THAT(script.Broken(), testing::Contains("G5"));
}

// --- G9 ------------------------------------------------------------------------------------------

TEST_F(HistoryVotesTest, vote_of_the_expelled_that_is_counted) {
  script.Add(kVoterB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kVoterA});
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.Refused(kProposer, absl::StatusCode::kAborted, kToldUnchanged | kToldRejected, kVoterA);
  EXPECT_THAT(script.Broken(), ElementsAre("G9"));
}

TEST_F(HistoryVotesTest, vote_of_the_expelled_that_does_not_count) {
  script.Add(kVoterB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kVoterA});
  script.Propose(kProposer, kBadForA);
  script.Vote(kVoterA, 1, kBadForA, Voted::kReject);
  script.Vote(kVoterB, 1, kBadForA);
  script.Decided(kProposer, 1);
  script.Poll(kVoterB, 1);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

// --- G6 ------------------------------------------------------------------------------------------

TEST_F(HistoryVotesTest, fenced_epoch_that_is_visible_while_an_earlier_pin_is_held) {
  script.Pin(kVoterB, 0, 0);
  script.Propose(kProposer, kGood, kFenced);
  script.Decided(kProposer, 1);
  script.Unpin(kVoterB);
  script.Poll(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G6"));
}

TEST_F(HistoryVotesTest, fence_that_only_a_later_epoch_shows_to_be_broken) {
  script.Pin(kVoterB, 0, 0);
  script.Propose(kProposer, kGood, kFenced);
  script.Commit(kVoterA, 2, 201);
  script.Poll(kVoterB, 0);
  script.Unpin(kVoterB);
  script.Poll(kVoterB, 2);
  script.Decided(kProposer, 1);
  EXPECT_THAT(script.Broken(), testing::Contains("G6"));
}

TEST_F(HistoryVotesTest, fence_does_not_wait_for_the_expelled) {
  script.Pin(kVoterB, 0, 0);
  script.Propose(kProposer, kGood, kFenced | kExpels);
  script.Decided(kProposer, 1);
  script.Unpin(kVoterB);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryVotesTest, without_a_fence_earlier_pins_may_be_held) {
  script.Pin(kVoterB, 0, 0);
  script.Commit(kProposer, 1, kGood);
  script.Unpin(kVoterB);
  script.Poll(kVoterB, 1);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

// --- collective commits --------------------------------------------------------------------------

class HistoryCollectiveTest : public HistoryVotesTest {
 protected:
  static constexpr std::uint64_t kTag = 9, kOfA = 301, kOfB = 302;
  void BothContribute(std::uint64_t tag_of_b = kTag) {
    script.Contribute(kVoterA, kOfA, kTag);
    script.Contribute(kVoterB, kOfB, tag_of_b);
  }
};

TEST_F(HistoryCollectiveTest, sound_collective_commits_have_no_violation) {
  BothContribute();
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 1);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  script.Contribute(kVoterA, 303, kTag + 1);
  script.Gathered(kVoterA, 0, absl::StatusCode::kDeadlineExceeded);
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryCollectiveTest, contribution_that_is_missing) {
  BothContribute();
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 1);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}});
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, voter_that_was_not_waited_for) {
  script.Contribute(kVoterA, kOfA, kTag);
  script.Gathered(kVoterA, 1);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}});
  AllGoOn(1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, two_outcomes_of_one) {
  BothContribute();
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 0, absl::StatusCode::kDeadlineExceeded);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, two_epochs_of_one) {
  BothContribute();
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, parts_of_two_tags) {
  BothContribute(kTag + 1);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, parts_that_are_not_in_slot_order) {
  BothContribute();
  script.LookAtParts(kProposer, 1, kTag, {{kVoterB, kOfB}, {kVoterA, kOfA}});
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, part_that_is_not_what_was_given) {
  BothContribute();
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  for (Record& record : script.logs()[kProposer]) {
    if (record.kind == Kind::kPart && record.slot == kVoterB) ++record.digest;
  }
  script.Gathered(kVoterA, 1);
  script.Gathered(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCollectiveTest, part_of_a_failed_round_in_a_later_state) {
  script.Contribute(kVoterA, kOfA, kTag);
  script.Gathered(kVoterA, 0, absl::StatusCode::kAborted);
  script.Contribute(kVoterB, kOfB, kTag);
  script.LookAtParts(kProposer, 1, kTag, {{kVoterA, kOfA}, {kVoterB, kOfB}});
  script.Gathered(kVoterB, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G5"));
}

TEST_F(HistoryCollectiveTest, state_that_is_none_under_the_epoch_that_was_told) {
  script.Contribute(kVoterA, kOfA, kTag);
  script.Commit(kProposer, 1, kGood);
  script.Gathered(kVoterA, 1);
  EXPECT_THAT(script.Broken(), ElementsAre("G2"));
}

}  // namespace
}  // namespace epoch::stress
