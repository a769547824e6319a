// The checker finds each kind of violation when it is planted, and nothing in a sound history.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stress/script.h"

namespace epoch::stress {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint32_t kA = 1, kB = 2;

class HistoryCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    script.Start(kA);
    script.Start(kB);
  }
  Script script;
};

TEST_F(HistoryCheckTest, sound_history_has_no_violation) {
  script.Look(kB, 0, 0);
  script.Commit(kA, 1, 101);
  script.Pin(kB, 1, 101);
  script.Update(kA, 1, 101, 102, 1);
  script.See(kB, Kind::kSeenAgain, 1, 101);
  script.Unpin(kB);
  script.CommitExpecting(kB, 1, 0, 201, absl::StatusCode::kAborted);
  script.CommitExpecting(kB, 2, 3, 202);
  script.Look(kA, 3, 202);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

// --- G1 ------------------------------------------------------------------------------------------

TEST_F(HistoryCheckTest, epoch_that_goes_back_within_a_process) {
  script.Commit(kA, 1, 101);
  script.Commit(kA, 2, 102);
  script.Look(kB, 2, 102);
  script.Look(kB, 1, 101);
  for (auto& [serial, records] : script.logs()) {
    for (Record& record : records) record.time_ns = 0;  // the order of records is enough
  }
  EXPECT_THAT(script.Broken(), ElementsAre("G1"));
}

TEST_F(HistoryCheckTest, epoch_older_than_one_that_another_had_seen_before) {
  script.Commit(kA, 1, 101);
  script.Look(kB, 0, 0);
  EXPECT_THAT(script.Broken(), ElementsAre("G1"));
}

TEST_F(HistoryCheckTest, concurrent_operations_may_see_either_epoch) {
  script.Begin(kB, Operation::kPin);
  script.Commit(kA, 1, 101);
  script.End(kB, Operation::kPin, 0);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryCheckTest, commit_that_is_not_above_what_was_visible_when_it_began) {
  script.Commit(kA, 1, 101);
  script.Commit(kA, 2, 102);
  script.Commit(kB, 2, 201);
  EXPECT_THAT(script.Broken(), ElementsAre("G1", "G2"));
}

TEST_F(HistoryCheckTest, wait_that_ended_before_the_epoch_was_reached) {
  script.Begin(kA, Operation::kAwaitCommitted, {.epoch = 5});
  script.End(kA, Operation::kAwaitCommitted, 4);
  EXPECT_THAT(script.Broken(), ElementsAre("G1"));
}

// --- G2, G3 --------------------------------------------------------------------------------------

TEST_F(HistoryCheckTest, two_contents_under_one_epoch) {
  script.Begin(kB, Operation::kRead);
  script.Commit(kA, 1, 101);
  script.Draft(kA, 102);
  script.End(kB, Operation::kRead, 1);
  script.See(kB, Kind::kSeen, 1, 102);
  EXPECT_THAT(script.Broken(), ElementsAre("G2"));
}

TEST_F(HistoryCheckTest, accepted_content_that_differs_from_the_committed_one) {
  script.Draft(kB, 201);
  script.Commit(kA, 1, 101);
  script.Begin(kB, Operation::kUpdate);
  script.See(kB, Kind::kSeenAccepted, 1, 201);
  script.End(kB, Operation::kUpdate, 0, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(script.Broken(), ElementsAre("G2", "G4"));
}

TEST_F(HistoryCheckTest, torn_content) {
  script.Commit(kA, 1, 101);
  script.Look(kB, 1, 101);
  for (Record& record : script.logs()[kB]) {
    if (record.kind == Kind::kSeen) ++record.digest;
  }
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCheckTest, content_that_nobody_drafted) {
  script.Look(kB, 1, 999);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCheckTest, empty_state_at_a_later_epoch) {
  script.Look(kB, 1, 0);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCheckTest, state_that_changed_while_it_was_pinned) {
  script.Commit(kA, 1, 101);
  script.Pin(kB, 1, 101);
  script.Commit(kA, 2, 102);
  script.See(kB, Kind::kSeenAgain, 1, 102);
  script.Unpin(kB);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCheckTest, nested_pin_that_shows_another_state) {
  script.Commit(kA, 1, 101);
  script.Pin(kB, 1, 101);
  script.Commit(kA, 2, 102);
  script.Begin(kB, Operation::kPinNested);
  script.End(kB, Operation::kPinNested, 2);
  script.See(kB, Kind::kSeen, 2, 102);
  script.Unpin(kB);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

TEST_F(HistoryCheckTest, state_that_changed_while_an_update_was_reading_it) {
  script.Commit(kA, 1, 101);
  script.Begin(kB, Operation::kUpdate);
  script.See(kB, Kind::kSeenAccepted, 1, 101);
  script.Draft(kB, 201, 1, 101, 1);
  script.Add(kB, {.kind = Kind::kSeenAgain, .epoch = 1, .content = 101, .digest = 1});
  script.End(kB, Operation::kUpdate, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G3"));
}

// --- G4 ------------------------------------------------------------------------------------------

TEST_F(HistoryCheckTest, commit_that_is_not_the_successor_it_was_to_be) {
  script.Commit(kA, 1, 101);
  script.CommitExpecting(kB, 0, 2, 201);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, unacknowledged_commit_that_is_not_the_successor_it_was_to_be) {
  script.Commit(kA, 1, 101);
  script.Draft(kB, 201, 0);
  script.Begin(kB, Operation::kCommitExpecting);
  script.Driver(Kind::kKilled, kB);
  script.Look(kA, 2, 201);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, refused_content_that_is_seen) {
  script.Commit(kA, 1, 101);
  script.CommitExpecting(kB, 1, 0, 201, absl::StatusCode::kAborted);
  script.Look(kA, 2, 201);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, content_of_unknown_outcome_may_be_seen) {
  script.Commit(kA, 0, 101, absl::StatusCode::kDeadlineExceeded);
  script.Look(kB, 1, 101);
  EXPECT_FALSE(script.Broken().contains("G4"));
}

TEST_F(HistoryCheckTest, dropped_draft_that_is_seen) {
  script.Draft(kA, 101);
  script.Begin(kA, Operation::kDropDraft);
  script.End(kA, Operation::kDropDraft, 0);
  script.Look(kB, 1, 101);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, draft_that_an_update_gave_up_is_seen) {
  script.Begin(kA, Operation::kUpdate);
  script.See(kA, Kind::kSeenAccepted, 0, 0);
  script.Draft(kA, 101, 0, 0, 1);
  script.Begin(kB, Operation::kRead);
  script.End(kB, Operation::kRead, 1);
  script.See(kB, Kind::kSeen, 1, 101);
  script.See(kA, Kind::kSeenAccepted, 1, 101);
  script.Draft(kA, 102, 1, 101, 2);
  script.End(kA, Operation::kUpdate, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, update_that_overwrote_what_it_had_not_seen) {
  script.Commit(kA, 1, 101);
  script.Draft(kB, 201);
  script.Begin(kB, Operation::kUpdate);
  script.Draft(kB, 202, 1, 201, 1);
  script.End(kB, Operation::kUpdate, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, counter_chain_that_is_broken) {
  script.Update(kA, 0, 0, 101, 1);
  script.Update(kA, 1, 101, 102, 2);
  script.Update(kB, 2, 102, 201, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

TEST_F(HistoryCheckTest, content_under_two_epochs) {
  script.Commit(kA, 1, 101);
  script.Look(kB, 2, 101);
  EXPECT_THAT(script.Broken(), ElementsAre("G4"));
}

// --- G7 ------------------------------------------------------------------------------------------

TEST_F(HistoryCheckTest, acknowledged_commit_that_is_lost_after_a_restore) {
  script.Commit(kA, 1, 101);
  script.Commit(kA, 2, 102);
  script.See(0, Kind::kRestored, 1, 101);
  EXPECT_THAT(script.Broken(), ElementsAre("G7"));
}

TEST_F(HistoryCheckTest, next_incarnation_that_begins_behind_what_was_visible) {
  script.Commit(kA, 1, 101);
  script.Commit(kA, 2, 102);
  script.Start(3, /*incarnation=*/88);
  script.Look(3, 1, 101);
  EXPECT_THAT(script.Broken(), ElementsAre("G7"));
}

TEST_F(HistoryCheckTest, restored_state_that_is_not_the_acknowledged_one) {
  script.Commit(kA, 1, 101);
  script.Draft(kA, 102);
  script.See(0, Kind::kRestored, 1, 102);
  EXPECT_THAT(script.Broken(), ElementsAre("G2"));
}

TEST_F(HistoryCheckTest, what_was_accepted_only_may_be_lost) {
  script.Commit(kA, 1, 101);
  script.Draft(kA, 102);
  script.Begin(kA, Operation::kPropose);
  script.End(kA, Operation::kPropose, 2);
  script.See(0, Kind::kRestored, 1, 101);
  script.Start(3, /*incarnation=*/88);
  script.Commit(3, 2, 301);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryCheckTest, awaited_proposal_that_is_lost_after_a_restore) {
  script.Draft(kA, 101);
  script.Begin(kA, Operation::kPropose);
  script.End(kA, Operation::kPropose, 1);
  script.Begin(kA, Operation::kAwaitTicket, {.epoch = 1, .content = 101});
  script.End(kA, Operation::kAwaitTicket, 1);
  script.See(0, Kind::kRestored, 0, 0);
  EXPECT_THAT(script.Broken(), ElementsAre("G7"));
}

TEST_F(HistoryCheckTest, region_that_can_not_be_restored) {
  script.Add(0, {.kind = Kind::kAuditFailed,
                 .code = static_cast<std::uint16_t>(AuditFailure::kNotRestored)});
  EXPECT_THAT(script.Broken(), ElementsAre("G7"));
}

// --- G8 ------------------------------------------------------------------------------------------

TEST_F(HistoryCheckTest, operation_that_never_ended) {
  script.Begin(kA, Operation::kPin);
  EXPECT_THAT(script.Broken(), ElementsAre("G8"));
}

TEST_F(HistoryCheckTest, operation_of_a_killed_process_need_not_end) {
  script.Begin(kA, Operation::kPin);
  script.Driver(Kind::kKilled, kA);
  script.Driver(Kind::kExited, kA, 9);
  script.Begin(kB, Operation::kPin);
  script.Add(kB, {.kind = Kind::kRaised, .detail = 9});
  script.Driver(Kind::kExited, kB, 9);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryCheckTest, process_that_did_not_end_when_told_to) {
  script.Driver(Kind::kHung, kA);
  EXPECT_THAT(script.Broken(), ElementsAre("G8"));
}

TEST_F(HistoryCheckTest, process_that_crashed) {
  script.Driver(Kind::kExited, kA, 11);
  EXPECT_THAT(script.Broken(), ElementsAre("G8"));
}

TEST_F(HistoryCheckTest, end_that_nothing_explains) {
  script.Commit(kA, 0, 101, absl::StatusCode::kDataLoss);
  EXPECT_THAT(script.Broken(), ElementsAre("G8"));
}

TEST_F(HistoryCheckTest, accepted_transition_that_never_became_visible) {
  script.Add(
      0, {.kind = Kind::kAuditFailed, .code = static_cast<std::uint16_t>(AuditFailure::kPending)});
  EXPECT_THAT(script.Broken(), ElementsAre("G8"));
}

TEST_F(HistoryCheckTest, longest_operation_is_counted_without_the_time_its_process_was_stopped) {
  script.Begin(kA, Operation::kPin);
  script.Driver(Kind::kStopped, kA);
  for (int i = 0; i < 100; ++i) script.Look(kB, 0, 0);
  script.Driver(Kind::kResumed, kA);
  script.End(kA, Operation::kPin, 0);
  const Figures figures = FiguresOf(script.history());
  EXPECT_EQ(figures.operations, 101u);
  EXPECT_EQ(figures.longest_ns, 2);
}

// --- G9, G10, convergence ------------------------------------------------------------------------

TEST_F(HistoryCheckTest, expelled_participant_that_is_served) {
  script.Add(kB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kA});
  script.Begin(kA, Operation::kPoll);
  script.End(kA, Operation::kPoll, 0);
  EXPECT_THAT(script.Broken(), ElementsAre("G9"));
}

TEST_F(HistoryCheckTest, expelled_participants_commit_that_came_late) {
  script.Draft(kA, 101);
  script.Begin(kA, Operation::kCommit);
  script.Add(kB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kA});
  script.Commit(kB, 1, 201);
  script.End(kA, Operation::kCommit, 2);
  EXPECT_THAT(script.Broken(), ElementsAre("G9"));
}

TEST_F(HistoryCheckTest, expelled_participants_late_commit_is_found_without_its_word) {
  script.Draft(kA, 101);
  script.Begin(kA, Operation::kCommit);
  script.Add(kB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kA});
  script.Commit(kB, 1, 201);
  script.Driver(Kind::kKilled, kA);
  script.Look(kB, 2, 101);
  EXPECT_THAT(script.Broken(), ElementsAre("G9"));
}

TEST_F(HistoryCheckTest, commit_under_way_at_the_expulsion_may_succeed) {
  script.Draft(kA, 101);
  script.Begin(kA, Operation::kCommit);
  script.Add(kB, {.kind = Kind::kExpelled, .epoch = 0, .detail = 1, .slot = kA});
  script.End(kA, Operation::kCommit, 1);
  script.Add(kA, {.kind = Kind::kJoined, .detail = 2, .slot = kA});
  script.Commit(kA, 2, 102);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

TEST_F(HistoryCheckTest, slot_version_or_file_that_leaked) {
  for (const AuditFailure what : {AuditFailure::kSlotNotFree, AuditFailure::kCellNotFree,
                                  AuditFailure::kFilesLeft, AuditFailure::kDamaged}) {
    Script leaked;
    leaked.Add(0, {.kind = Kind::kAuditFailed, .code = static_cast<std::uint16_t>(what)});
    EXPECT_THAT(leaked.Broken(), ElementsAre("G10"));
  }
}

TEST_F(HistoryCheckTest, convergence_reported_while_an_earlier_pin_was_held) {
  script.Pin(kB, 0, 0);
  script.Commit(kA, 1, 101);
  script.Begin(kA, Operation::kAwaitConverged, {.epoch = 1});
  script.End(kA, Operation::kAwaitConverged, 1);
  script.Unpin(kB);
  EXPECT_THAT(script.Broken(), ElementsAre("convergence"));
}

TEST_F(HistoryCheckTest, convergence_waits_for_the_next_owner_of_an_expelled_slot) {
  script.Begin(kA, Operation::kExpel, {.detail = 1, .slot = kB});
  script.End(kA, Operation::kExpel, 0);
  script.Add(kB, {.kind = Kind::kJoined, .detail = 2, .slot = kB});
  script.Pin(kB, 0, 0);
  script.Commit(kA, 1, 101);
  script.Begin(kA, Operation::kAwaitConverged, {.epoch = 1});
  script.End(kA, Operation::kAwaitConverged, 1);
  script.Unpin(kB);
  EXPECT_THAT(script.Broken(), ElementsAre("convergence"));
}

TEST_F(HistoryCheckTest, convergence_does_not_wait_for_the_expelled) {
  script.Pin(kB, 0, 0);
  script.Commit(kA, 1, 101);
  script.Begin(kA, Operation::kExpel, {.detail = 1, .slot = kB});
  script.End(kA, Operation::kExpel, 0);
  script.Begin(kA, Operation::kAwaitConverged, {.epoch = 1});
  script.End(kA, Operation::kAwaitConverged, 1);
  script.Unpin(kB);
  EXPECT_THAT(script.Broken(), IsEmpty());
}

}  // namespace
}  // namespace epoch::stress
