// SIGKILL and SIGSTOP at every labelled point of a rank's way, and of a pruner's.
#include <signal.h>

#include <memory>

#include "checkpoint_test.h"
#include "support/child.h"
#include "support/passages.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using testing::IsEmpty;

constexpr std::uint32_t kWorld = 3;
constexpr std::uint64_t kStride = 10;
constexpr int kReplaced = 7;  // exit code: another process has this rank

std::uint64_t NextStep(const Checkpoints& checkpoints) {
  const absl::StatusOr<Checkpoint> latest = checkpoints.Latest();
  if (absl::IsNotFound(latest.status())) return kStride;
  ROLE_CHECK(latest.ok(), latest.status().ToString());
  return latest->step + kStride;
}

// Makes checkpoints up to the last step, beginning where the latest one is; says each. Whatever
// others do to it, it begins again. A signal strikes at the given point.
ROLE(Rank) {
  const std::string& directory = self.args.at(0);
  CheckpointOptions options;
  options.region = self.args.at(1);
  options.rank = static_cast<std::uint32_t>(std::stoul(self.args.at(2)));
  options.world = kWorld;
  const std::uint64_t last = std::stoull(self.args.at(3));
  const Trap trap(self.args.at(4), std::stoi(self.args.at(5)), std::stoi(self.args.at(6)));
  options.take_over = self.args.at(7) == "take_over";
  options.restore_timeout = kLong;
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory, options);
  if (absl::IsAlreadyExists(rank.status())) return kReplaced;
  ROLE_CHECK(rank.ok(), rank.status().ToString());
  const Checkpoints checkpoints(directory);
  const auto may_retry = [](const absl::Status& s) {
    return absl::IsAborted(s) || absl::IsDeadlineExceeded(s) || absl::IsFailedPrecondition(s);
  };
  for (std::uint64_t step = NextStep(checkpoints); step <= last; step = NextStep(checkpoints)) {
    absl::StatusOr<CheckpointStep> begun = rank->Begin(step, kLong);
    if (absl::IsAlreadyExists(begun.status())) return kReplaced;
    if (!begun.ok()) {
      ROLE_CHECK(may_retry(begun.status()), begun.status().ToString());
      continue;
    }
    // Whose it is, and of which attempt.
    const std::string attempt = fs::path(begun->directory()).parent_path().filename();
    WriteText(begun->PathOf("model.bin"), ShardText(step, options.rank, attempt));
    const absl::Status ready = begun->Ready("model.bin");
    ROLE_CHECK(ready.ok(), ready.ToString());
    const absl::StatusOr<Epoch> made = begun->Commit(kLong);
    ROLE_CHECK(made.ok() || may_retry(made.status()), made.status().ToString());
    if (made.ok()) self.wire.Say(std::to_string(step));
  }
  self.wire.Say("done");
  return 0;
}

// In the order in which a rank passes them: joining, meeting, the first checkpoint, the next ones.
std::vector<Passage> RankPoints() {
  return {{"checkpoint.joined", 1},
          {"checkpoint.before_collective", 1},
          {"checkpoint.collected", 1},
          {"checkpoint.folder_made", 1},
          {"checkpoint.folder_named", 1},
          {"checkpoint.folder_locked", 1},
          {"checkpoint.begun", 1},
          {"checkpoint.before_sync", 1},
          {"checkpoint.sync", 1},
          {"checkpoint.read", 1},
          {"checkpoint.shard_synced", 1},
          {"checkpoint.ready", 1},
          {"checkpoint.before_collective", 2},
          {"checkpoint.collected", 2},
          {"checkpoint.folder_made", 2},
          {"checkpoint.begun", 2},
          {"checkpoint.ready", 2},
          {"checkpoint.before_collective", 3},
          {"checkpoint.collected", 3},
          {"gather.before_offer", 1},
          {"gather.offered", 1},
          {"gather.before_offer", 2},
          {"gather.offered", 2}};
}

std::string NameOfPoint(const testing::TestParamInfo<Passage>& suite) {
  return TestName(suite.param);
}

class CheckpointCrash : public CheckpointTest, public testing::WithParamInterface<Passage> {
 protected:
  static constexpr std::uint64_t kLast = 5 * kStride;

  std::unique_ptr<Child> Start(std::uint32_t rank, const Passage& where, int signal,
                               bool take_over = false) const {
    return std::make_unique<Child>(
        "Rank",
        std::vector<std::string>{directory(), region(), std::to_string(rank), std::to_string(kLast),
                                 where.label, std::to_string(where.nth), std::to_string(signal),
                                 take_over ? "take_over" : "-"});
  }
  // Every checkpoint that is there is whole: of one step, one attempt, each rank's own shard.
  void ExpectNothingMixed() const {
    const absl::StatusOr<CheckpointList> list = checkpoints().List();
    if (absl::IsNotFound(list.status())) return;
    ASSERT_OK(list);
    EXPECT_THAT(list->damage, IsEmpty());
    for (const Checkpoint& checkpoint : list->checkpoints) {
      const absl::StatusOr<OpenCheckpoint> opened = checkpoints().Open(checkpoint);
      ASSERT_OK(opened);
      ASSERT_EQ(checkpoint.shards.size(), kWorld);
      const std::string attempt = fs::path(checkpoint.directory).filename();
      for (std::uint32_t rank = 0; rank < kWorld; ++rank) {
        EXPECT_TRUE(ReadText(opened->PathOf(rank, "model.bin")) ==
                    ShardText(checkpoint.step, rank, attempt))
            << checkpoint.directory << ", rank " << rank;
      }
    }
  }
  // Nothing is left of those that are gone but checkpoints.
  void ExpectAllDone() const {
    ExpectNothingMixed();
    EXPECT_EQ(LatestInfo().step, kLast);
    ASSERT_OK(checkpoints().CleanUp());
    const absl::StatusOr<CheckpointList> list = checkpoints().List();
    ASSERT_OK(list);
    EXPECT_THAT(list->stagings, IsEmpty());
    EXPECT_EQ(list->checkpoints.size(), kLast / kStride);
    for (const auto& entry : fs::directory_iterator(directory())) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
    }
    EXPECT_EQ(CountFolders(), kLast / kStride);
  }
};

const Passage kNever{"nowhere", 1};

using KilledRank = CheckpointCrash;
INSTANTIATE_TEST_SUITE_P(At, KilledRank, testing::ValuesIn(RankPoints()), NameOfPoint);

TEST_P(KilledRank, TheOthersGoOnWithItsSuccessor) {
  std::vector<std::unique_ptr<Child>> others;
  for (const std::uint32_t rank : {0u, 2u}) others.push_back(Start(rank, kNever, 0));
  const auto victim = Start(1, GetParam(), SIGKILL);
  ASSERT_EQ(victim->Wait(), -SIGKILL);
  ExpectNothingMixed();
  const auto successor = Start(1, kNever, 0);
  EXPECT_EQ(successor->Wait(), 0);
  for (const auto& other : others) EXPECT_EQ(other->Wait(), 0);
  ExpectAllDone();
}

TEST_P(KilledRank, NothingIsMixedWhenAllDie) {
  std::vector<std::unique_ptr<Child>> others;
  for (const std::uint32_t rank : {0u, 2u}) others.push_back(Start(rank, kNever, 0));
  const auto victim = Start(1, GetParam(), SIGKILL);
  ASSERT_EQ(victim->Wait(), -SIGKILL);
  for (const auto& other : others) other->Kill();
  ExpectNothingMixed();
  if (GetParam().nth == 1) {  // and the machine boots
    ASSERT_OK(Region::Unlink(region()));
  }
  std::vector<std::unique_ptr<Child>> all;
  for (std::uint32_t rank = 0; rank < kWorld; ++rank) all.push_back(Start(rank, kNever, 0));
  for (const auto& one : all) EXPECT_EQ(one->Wait(), 0);
  ExpectAllDone();
}

using StoppedRank = CheckpointCrash;
INSTANTIATE_TEST_SUITE_P(At, StoppedRank, testing::ValuesIn(RankPoints()), NameOfPoint);

TEST_P(StoppedRank, ItsSuccessorTakesOverAndItsLastStepsDoNoHarm) {
  std::vector<std::unique_ptr<Child>> others;
  for (const std::uint32_t rank : {0u, 2u}) {
    others.push_back(Start(rank, kNever, 0));
  }
  const auto victim = Start(1, GetParam(), SIGSTOP);
  ASSERT_TRUE(victim->AwaitStop());
  const auto successor = Start(1, kNever, 0, /*take_over=*/true);
  // One checkpoint without the stopped one; then it wakes up, among the others.
  EXPECT_NE(successor->Hear(), "<gone>");
  victim->Continue();
  EXPECT_EQ(successor->Wait(), 0);
  for (const auto& other : others) EXPECT_EQ(other->Wait(), 0);
  const int ended = victim->Wait();
  EXPECT_TRUE(ended == 0 || ended == kReplaced) << ended;
  ExpectAllDone();
}

// A world of one: all that a collective commit takes, it does itself.
ROLE(Alone) {
  const Trap trap(self.args.at(2), std::stoi(self.args.at(3)), SIGKILL);
  CheckpointOptions options;
  options.region = self.args.at(1);
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(self.args.at(0), options);
  ROLE_CHECK(rank.ok(), rank.status().ToString());
  absl::StatusOr<CheckpointStep> step = rank->Begin(kStride);
  ROLE_CHECK(step.ok(), step.status().ToString());
  WriteText(step->PathOf("model.bin"), ShardText(kStride, 0));
  const absl::Status ready = step->Ready("model.bin");
  ROLE_CHECK(ready.ok(), ready.ToString());
  const absl::StatusOr<Epoch> made = step->Commit();
  ROLE_CHECK(made.ok(), made.status().ToString());
  return 0;
}

// The first passing is of the meeting, the second of the commit.
class KilledDeciding : public CheckpointCrash {};
INSTANTIATE_TEST_SUITE_P(At, KilledDeciding,
                         testing::Values(Passage{"vote.decided", 1}, Passage{"vote.decided", 2},
                                         Passage{"vote.finished", 1}, Passage{"vote.finished", 2},
                                         Passage{"journal.frozen", 1}, Passage{"journal.frozen", 2},
                                         Passage{"journal.written", 1},
                                         Passage{"journal.written", 2}),
                         NameOfPoint);

TEST_P(KilledDeciding, WhatWasAcceptedIsFinishedAndTheNextOnesGoOn) {
  Child victim("Alone", {directory(), region(), GetParam().label, std::to_string(GetParam().nth)});
  ASSERT_EQ(victim.Wait(), -SIGKILL);
  CheckpointRank next = Joined(0, 1);
  // The same step: what the dead had agreed on must neither be in its way nor be taken for it.
  ASSERT_OK(MakeOne(next, 0, kStride, "again"));
  ExpectLatest(kStride, 1, "again");
  // What was made by nobody who could say so is whole, or not there.
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  for (const Checkpoint& checkpoint : list->checkpoints) EXPECT_OK(checkpoints().Open(checkpoint));
}

class FirstRank : public CheckpointCrash {};
INSTANTIATE_TEST_SUITE_P(At, FirstRank,
                         testing::Values(Passage{"checkpoint.directory_made", 1},
                                         Passage{"checkpoint.before_identity", 1},
                                         Passage{"journal_create.before_rename", 1},
                                         Passage{"create.before_link", 1}),
                         NameOfPoint);

TEST_P(FirstRank, KilledWhileItMakesTheDirectoryTheNextOnesMakeIt) {
  ASSERT_EQ(Start(0, GetParam(), SIGKILL)->Wait(), -SIGKILL);
  std::vector<std::unique_ptr<Child>> all;
  for (std::uint32_t rank = 0; rank < kWorld; ++rank) all.push_back(Start(rank, kNever, 0));
  for (const auto& one : all) EXPECT_EQ(one->Wait(), 0);
  ExpectAllDone();
}

ROLE(Pruner) {
  const Trap trap(self.args.at(1), std::stoi(self.args.at(2)), SIGKILL);
  const absl::StatusOr<PruneResult> pruned = Checkpoints(self.args.at(0)).Prune();
  ROLE_CHECK(pruned.ok(), pruned.status().ToString());
  return 0;
}

class KilledPruner : public CheckpointCrash {};
INSTANTIATE_TEST_SUITE_P(
    At, KilledPruner,
    testing::Values(Passage{"checkpoint.remove_locked", 1}, Passage{"checkpoint.remove_locked", 2},
                    Passage{"checkpoint.marked", 1}, Passage{"checkpoint.before_remove", 1},
                    Passage{"checkpoint.before_remove", 2}, Passage{"checkpoint.removed_some", 1},
                    Passage{"checkpoint.removed_some", 2}),
    NameOfPoint);

TEST_P(KilledPruner, WhatItBeganIsFinishedAndNothingIsTakenForDamage) {
  MakeAndLeave(2, {10, 20, 30});
  Child pruner("Pruner", {directory(), GetParam().label, std::to_string(GetParam().nth)});
  ASSERT_EQ(pruner.Wait(), -SIGKILL);
  ExpectLatest(30, 2);
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  for (const Checkpoint& checkpoint : list->checkpoints) {
    if (!checkpoint.pruned) {
      EXPECT_THAT(checkpoints().Verify(checkpoint), IsEmpty());
    }
  }
  ASSERT_OK(checkpoints().Prune());
  EXPECT_EQ(CountFolders(), 1u);
  ExpectLatest(30, 2);
}

// A job of one rank, whose shard is many files, and whose region goes with it.
ROLE(WholeJob) {
  CheckpointOptions options;
  options.restore_timeout = kLong;
  const Trap trap(self.args.at(1), 1, std::stoi(self.args.at(2)));
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(self.args.at(0), options);
  ROLE_CHECK(rank.ok(), rank.status().ToString());
  absl::StatusOr<CheckpointStep> step = rank->Begin(kStride);
  ROLE_CHECK(step.ok(), step.status().ToString());
  for (int i = 0; i < 9; ++i) WriteText(step->PathOf(absl::StrCat(".", i)), "x");
  // As an earlier call of Commit leaves it whose shards were others.
  if (self.args.at(1) == "checkpoint.list_made") WriteText(step->directory() + ".files", "old");
  const absl::Status ready = step->ReadyAll();
  ROLE_CHECK(ready.ok(), ready.ToString());
  const absl::StatusOr<Epoch> made = step->Commit();
  ROLE_CHECK(made.ok(), made.status().ToString());
  return 0;
}

class KilledJob : public CheckpointCrash {};
INSTANTIATE_TEST_SUITE_P(At, KilledJob,
                         testing::Values(Passage{"checkpoint.list_written", 1},
                                         Passage{"checkpoint.list_made", 1},
                                         Passage{"checkpoint.list_named", 1},
                                         Passage{"checkpoint.region_locked", 1},
                                         Passage{"checkpoint.region_removed", 1}),
                         NameOfPoint);

TEST_P(KilledJob, TheNextOneFindsAWholeCheckpointOrNoneAndGoesOn) {
  Child job("WholeJob", {directory(), GetParam().label, std::to_string(SIGKILL)});
  EXPECT_EQ(job.Wait(), -SIGKILL);
  const bool leaving = std::string(GetParam().label).starts_with("checkpoint.region");
  if (leaving) {
    const auto opened = checkpoints().OpenLatest();
    ASSERT_OK(opened);
    EXPECT_EQ(opened->info().shards.size(), 9u);
  } else {
    EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  }
  CheckpointOptions options;
  options.restore_timeout = kLong;
  std::string path;
  {
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
    ASSERT_OK(rank);
    path = rank->region_path();
    EXPECT_EQ(access(path.c_str(), F_OK), 0);
    ASSERT_OK(MakeOne(*rank, 0, 2 * kStride));
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  ExpectLatest(2 * kStride, 1);
  ASSERT_OK(checkpoints().CleanUp());
  EXPECT_THAT(checkpoints().List()->stagings, IsEmpty());
}

}  // namespace
}  // namespace epoch::test
