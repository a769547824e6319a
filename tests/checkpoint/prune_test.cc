// Pruning and cleaning up: what goes, and what never does.
#include <fcntl.h>
#include <sys/file.h>

#include <optional>

#include "checkpoint_test.h"
#include "core/checkpoint/folder.h"

namespace epoch::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::uint64_t> StepsOf(const std::vector<Checkpoint>& checkpoints) {
  std::vector<std::uint64_t> steps;
  for (const Checkpoint& checkpoint : checkpoints) steps.push_back(checkpoint.step);
  return steps;
}

using CheckpointPrune = CheckpointTest;

TEST_F(CheckpointPrune, KeepsTheNewestAndRemembersTheRest) {
  MakeAndLeave(2, {10, 20, 30, 40});
  const absl::StatusOr<PruneResult> dry =
      checkpoints().Prune({.keep = 2, .remove_damaged = false, .dry_run = true});
  ASSERT_OK(dry);
  EXPECT_THAT(StepsOf(dry->removed), ElementsAre(20, 10));
  EXPECT_EQ(CountFolders(), 4u);
  const absl::StatusOr<PruneResult> pruned = checkpoints().Prune({.keep = 2});
  ASSERT_OK(pruned);
  EXPECT_THAT(StepsOf(pruned->kept), ElementsAre(40, 30));
  EXPECT_THAT(StepsOf(pruned->removed), ElementsAre(20, 10));
  EXPECT_EQ(CountFolders(), 2u);
  ExpectLatest(40, 2);
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  ASSERT_EQ(list->checkpoints.size(), 4u);
  EXPECT_TRUE(list->checkpoints[0].pruned);
  EXPECT_FALSE(list->checkpoints[2].pruned);
  EXPECT_FAILS(checkpoints().Find(10), kNotFound, "the checkpoint of step 10 was pruned");
  EXPECT_FAILS(checkpoints().Open(list->checkpoints[0]), kNotFound, "was pruned");
  // Again: nothing is left to do.
  const absl::StatusOr<PruneResult> again = checkpoints().Prune({.keep = 2});
  ASSERT_OK(again);
  EXPECT_THAT(again->removed, IsEmpty());
}

TEST_F(CheckpointPrune, TheOnlyGoodOneStaysWhateverIsAsked) {
  MakeAndLeave(2, {10, 20, 30});
  EXPECT_FAILS(checkpoints().Prune({.keep = 0}), kInvalidArgument, "at least one");
  for (const std::uint64_t step : {20u, 30u}) WriteText(ShardPath(step, 0), "damaged");
  const absl::StatusOr<PruneResult> pruned = checkpoints().Prune();
  ASSERT_OK(pruned);
  EXPECT_THAT(StepsOf(pruned->kept), ElementsAre(10));
  EXPECT_THAT(StepsOf(pruned->damaged), ElementsAre(30, 20));
  EXPECT_EQ(pruned->problems.size(), 2u);
  EXPECT_THAT(pruned->removed, IsEmpty());
  EXPECT_EQ(CountFolders(), 3u);
  // The damaged ones go when that is asked for; then the good one is the latest.
  const absl::StatusOr<PruneResult> harder =
      checkpoints().Prune({.keep = 1, .remove_damaged = true});
  ASSERT_OK(harder);
  EXPECT_THAT(StepsOf(harder->removed), ElementsAre(30, 20));
  ExpectLatest(10, 2);
  // And when the last one is damaged, nothing goes at all.
  WriteText(ShardPath(10, 0), "damaged");
  EXPECT_FAILS(checkpoints().Prune({.keep = 1, .remove_damaged = true}), kDataLoss,
               "no good checkpoint");
  EXPECT_EQ(CountFolders(), 1u);
}

TEST_F(CheckpointPrune, WithFewerGoodOnesThanAskedForNothingGoes) {
  MakeAndLeave(1, {10, 20});
  WriteText(ShardPath(20, 0), "damaged");
  const absl::StatusOr<PruneResult> pruned = checkpoints().Prune({.keep = 2});
  ASSERT_OK(pruned);
  EXPECT_THAT(pruned->removed, IsEmpty());
  EXPECT_EQ(CountFolders(), 2u);
}

TEST_F(CheckpointPrune, WhatAReaderHasOpenedStaysUntilItLetsGo) {
  MakeAndLeave(1, {10, 20});
  std::optional<OpenCheckpoint> reader = *checkpoints().Open(*checkpoints().Find(10));
  absl::StatusOr<PruneResult> pruned = checkpoints().Prune();
  ASSERT_OK(pruned);
  EXPECT_THAT(StepsOf(pruned->in_use), ElementsAre(10));
  EXPECT_THAT(pruned->removed, IsEmpty());
  EXPECT_TRUE(ReadText(reader->PathOf(0, "model.bin")) == ShardText(10, 0));
  reader.reset();
  pruned = checkpoints().Prune();
  ASSERT_OK(pruned);
  EXPECT_THAT(StepsOf(pruned->removed), ElementsAre(10));
}

TEST_F(CheckpointPrune, TwoAtOnceAreOneTooMany) {
  MakeAndLeave(1, {10, 20});
  const checkpoint::Folders folders(directory());
  const absl::StatusOr<detail::Fd> alone = folders.LockPruning();
  ASSERT_OK(alone);
  EXPECT_FAILS(checkpoints().Prune(), kFailedPrecondition, "another process prunes");
  EXPECT_FAILS(checkpoints().CleanUp(), kFailedPrecondition, "another process prunes");
  EXPECT_EQ(CountFolders(), 2u);
}

TEST_F(CheckpointPrune, StagingsOfTheLivingStayAndThoseOfTheGoneGo) {
  std::optional<CheckpointRank> rank = Joined(0, 1);
  ASSERT_OK(MakeOne(*rank, 0, 10));
  absl::StatusOr<CheckpointStep> step = rank->Begin(20);
  ASSERT_OK(step);
  WriteText(step->PathOf("model.bin"), "half");
  const absl::StatusOr<std::vector<std::string>> none = checkpoints().CleanUp();
  ASSERT_OK(none);
  EXPECT_THAT(*none, IsEmpty());
  const std::string folder = fs::path(step->directory()).parent_path();
  step = absl::UnknownError("gone");
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  ASSERT_EQ(list->stagings.size(), 1u);
  EXPECT_FALSE(list->stagings[0].live);
  const absl::StatusOr<std::vector<std::string>> cleaned = checkpoints().CleanUp();
  ASSERT_OK(cleaned);
  EXPECT_THAT(*cleaned, ElementsAre(folder));
  EXPECT_FALSE(fs::exists(folder));
  ExpectLatest(10, 1);
}

TEST_F(CheckpointPrune, AFolderThatWasCleanedUpIsNotUsedAgain) {
  const checkpoint::FolderName name{20, 3};
  fs::create_directory(directory());
  const checkpoint::Folders folders(fs::canonical(directory()).string());
  { ASSERT_OK(folders.Use(name, 0600)); }
  ASSERT_OK(folders.Remove(name, [] { return true; }));
  EXPECT_FAILS(folders.Use(name, 0600), kAborted, "begin the step again");
  // What that left is found by the next clean-up.
  EXPECT_TRUE(folders.IsPruned(name));
}

TEST_F(CheckpointPrune, WhatBecameACheckpointAtTheLastMomentStays) {
  fs::create_directory(directory());
  const checkpoint::FolderName name{20, 3};
  const checkpoint::Folders folders(fs::canonical(directory()).string());
  { ASSERT_OK(folders.Use(name, 0600)); }
  int asked = 0;
  EXPECT_FAILS(folders.Remove(name, [&] { return ++asked < 2; }), kFailedPrecondition,
               "became a checkpoint meanwhile");
  EXPECT_FALSE(folders.IsPruned(name));
  EXPECT_EQ(CountFolders(), 1u);
}

}  // namespace
}  // namespace epoch::test
