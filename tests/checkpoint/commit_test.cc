// Ranks that make checkpoints together: what becomes the latest, when, and what is refused.
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "checkpoint_test.h"
#include "core/checkpoint/folder.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class CheckpointCommit : public CheckpointTest {
 protected:
  using Begun = absl::StatusOr<CheckpointStep>;

  // All ranks begin `step`.
  static std::vector<CheckpointStep> BeginAll(std::vector<CheckpointRank>& ranks,
                                              std::uint64_t step) {
    std::vector<Begun> begun =
        InParallel<Begun>(static_cast<std::uint32_t>(ranks.size()),
                          [&](std::uint32_t rank) { return ranks[rank].Begin(step, kLong); });
    std::vector<CheckpointStep> steps;
    for (Begun& one : begun) {
      EXPECT_OK(one);
      if (!one.ok()) std::abort();
      steps.push_back(*std::move(one));
    }
    return steps;
  }
  static void MakeReady(CheckpointStep& step, std::uint32_t rank) {
    WriteText(step.PathOf("model.bin"), ShardText(step.step(), rank));
    ASSERT_OK(step.Ready("model.bin"));
  }
  static std::vector<absl::StatusOr<Epoch>> CommitAll(std::vector<CheckpointStep>& steps) {
    return InParallel<absl::StatusOr<Epoch>>(
        static_cast<std::uint32_t>(steps.size()),
        [&](std::uint32_t rank) { return steps[rank].Commit(kLong); });
  }
};

TEST_F(CheckpointCommit, EachCommitMakesAllShardsTheLatest) {
  std::vector<CheckpointRank> ranks = JoinAll(3);
  for (const std::uint64_t step : {10u, 20u, 15u}) {  // a run that went back is newer all the same
    ASSERT_NO_FATAL_FAILURE(Make(ranks, {step}));
    ExpectLatest(step, 3);
  }
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  ASSERT_EQ(list->checkpoints.size(), 3u);
  EXPECT_THAT(list->damage, IsEmpty());
  EXPECT_THAT(list->stagings, IsEmpty());
  EXPECT_EQ(list->checkpoints[0].step, 10u);
  EXPECT_EQ(list->checkpoints[2].step, 15u);
  EXPECT_EQ(list->checkpoints[1].metadata[2], "loss of rank 2");
  EXPECT_EQ(list->checkpoints[1].bytes(),
            ShardText(20, 0).size() + ShardText(20, 1).size() + ShardText(20, 2).size());
  for (const Checkpoint& checkpoint : list->checkpoints) {
    EXPECT_THAT(checkpoints().Verify(checkpoint), IsEmpty());
  }
}

TEST_F(CheckpointCommit, TheUsualCheckpointCostsOneCommit) {
  MakeAndLeave(2, {10, 20, 30});
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  EXPECT_EQ(list->checkpoints[1].attempt, list->checkpoints[0].epoch);
  EXPECT_EQ(list->checkpoints[2].attempt, list->checkpoints[1].epoch);
  // Only those that do not know each other yet meet first.
  MakeAndLeave(2, {40});
  EXPECT_GT(LatestInfo().attempt, list->checkpoints[2].epoch);
}

TEST_F(CheckpointCommit, OneRankAloneWithSeveralShards) {
  CheckpointRank rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank.Begin(1);
  ASSERT_OK(step);
  for (const char* name : {"model.bin", "optimizer.bin", "empty"}) {
    WriteText(step->PathOf(name), name == std::string("empty") ? "" : name);
    ASSERT_OK(step->Ready(name));
  }
  ASSERT_OK(step->Commit());
  const auto opened = checkpoints().OpenLatest();
  ASSERT_OK(opened);
  EXPECT_EQ(ReadText(opened->PathOf(0, "optimizer.bin")), "optimizer.bin");
  EXPECT_EQ(opened->PathOf(0, "none"), "");
  EXPECT_EQ(opened->PathOf(1, "model.bin"), "");
  EXPECT_EQ(opened->info().shards.size(), 3u);
}

TEST_F(CheckpointCommit, NothingIsACheckpointBeforeTheCommit) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  std::vector<CheckpointStep> steps = BeginAll(ranks, 10);
  for (std::uint32_t rank = 0; rank < 2; ++rank) MakeReady(steps[rank], rank);
  EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  EXPECT_THAT(list->checkpoints, IsEmpty());
  ASSERT_EQ(list->stagings.size(), 1u);
  EXPECT_EQ(list->stagings[0].step, 10u);
  EXPECT_TRUE(list->stagings[0].live);
  for (const auto& epoch : CommitAll(steps)) ASSERT_OK(epoch);
  ExpectLatest(10, 2);
}

TEST_F(CheckpointCommit, WhoWaitsInVainCommitsNothingAndMayTryAgain) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  std::vector<CheckpointStep> steps = BeginAll(ranks, 10);
  for (std::uint32_t rank = 0; rank < 2; ++rank) MakeReady(steps[rank], rank);
  EXPECT_FAILS(steps[0].Commit(kSoon), kDeadlineExceeded, "rank 0 of 2");
  EXPECT_FAILS(steps[0].Commit(kSoon), kDeadlineExceeded, "missing at this step: rank-1");
  EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  for (const auto& epoch : CommitAll(steps)) ASSERT_OK(epoch);
  ExpectLatest(10, 2);
  // Once more changes nothing.
  EXPECT_EQ(*steps[0].Commit(), LatestInfo().epoch);
}

TEST_F(CheckpointCommit, ARankThatWaitsForOthersCanBeInterrupted) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  int asked = 0;
  const WaitOptions at_once{.interrupted = [&] {
    ++asked;
    return true;
  }};
  const auto expect_interrupted = [&](const absl::Status& status) {
    EXPECT_FAILS(status, kCancelled, "interrupted");
    EXPECT_EQ(Details(status).cause, Cause::kInterrupted);
    EXPECT_EQ(Details(status).outcome, Outcome::kUnchanged);
    EXPECT_EQ(std::exchange(asked, 0), 1);
  };
  expect_interrupted(ranks[0].Begin(10, at_once).status());
  std::vector<CheckpointStep> steps = BeginAll(ranks, 10);
  for (std::uint32_t rank : {0u, 1u}) ASSERT_NO_FATAL_FAILURE(MakeReady(steps[rank], rank));
  expect_interrupted(steps[0].Commit(at_once).status());
  EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  for (const auto& made : CommitAll(steps)) ASSERT_OK(made);
  ExpectLatest(10, 2);
}

TEST_F(CheckpointCommit, AHandleThatWasMovedFromSaysSo) {
  std::vector<CheckpointRank> ranks = JoinAll(1);
  std::vector<CheckpointStep> steps = BeginAll(ranks, 10);
  CheckpointStep step = std::move(steps[0]);
  CheckpointStep& gone = steps[0];
  EXPECT_EQ(gone.step(), 0u);
  EXPECT_EQ(gone.directory(), "");
  EXPECT_EQ(gone.PathOf("x"), "");
  gone.SetMetadata("x");
  EXPECT_FAILS(gone.Ready("x"), kFailedPrecondition, "moved from");
  EXPECT_FAILS(gone.Commit(), kFailedPrecondition, "moved from");
  CheckpointRank rank = std::move(ranks[0]);
  EXPECT_FAILS(ranks[0].Begin(11), kFailedPrecondition, "moved from");
  EXPECT_EQ(ranks[0].region_path(), "");
  ASSERT_NO_FATAL_FAILURE(MakeReady(step, 0));
  EXPECT_OK(step.Commit());
}

TEST_F(CheckpointCommit, AnAbandonedAttemptIsNeverTakenUpAgain) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  ASSERT_NO_FATAL_FAILURE(Make(ranks, {10}));
  std::string before;
  {
    std::vector<CheckpointStep> abandoned = BeginAll(ranks, 20);
    for (std::uint32_t rank = 0; rank < 2; ++rank) MakeReady(abandoned[rank], rank);
    before = abandoned[0].directory();
  }
  std::vector<CheckpointStep> again = BeginAll(ranks, 20);
  EXPECT_NE(again[0].directory(), before);
  EXPECT_FALSE(fs::exists(before)) << "rank 0 has cleaned up when they met";
  for (std::uint32_t rank = 0; rank < 2; ++rank) MakeReady(again[rank], rank);
  for (const auto& epoch : CommitAll(again)) ASSERT_OK(epoch);
  ExpectLatest(20, 2);
}

TEST_F(CheckpointCommit, OneThatBeginsAgainDoesNotMixWithOneThatDoesNot) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  ASSERT_NO_FATAL_FAILURE(Make(ranks, {10}));
  std::vector<CheckpointStep> steps = BeginAll(ranks, 20);
  for (std::uint32_t rank = 0; rank < 2; ++rank) MakeReady(steps[rank], rank);
  // Rank 1 does its shard over again, rank 0 goes on with the first attempt.
  const auto results = InParallel<absl::Status>(2, [&](std::uint32_t rank) -> absl::Status {
    if (rank == 0) return steps[0].Commit(kLong).status();
    return ranks[1].Begin(20, kLong).status();
  });
  EXPECT_FALSE(results[0].ok());
  EXPECT_FALSE(results[1].ok());
  EXPECT_EQ(LatestInfo().step, 10u);
  // Told so, both begin again.
  ASSERT_NO_FATAL_FAILURE(Make(ranks, {20}));
  ExpectLatest(20, 2);
}

TEST_F(CheckpointCommit, RanksThatBeginDifferentStepsAreTold) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  const auto results = InParallel<absl::Status>(
      2, [&](std::uint32_t rank) { return ranks[rank].Begin(10 + rank, kLong).status(); });
  EXPECT_FALSE(results[0].ok());
  EXPECT_FALSE(results[1].ok());
  EXPECT_TRUE(absl::IsAborted(results[0]) || absl::IsAborted(results[1]));
}

TEST_F(CheckpointCommit, WhatIsNotReadyOrNoLongerIsRefused) {
  CheckpointRank rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank.Begin(1);
  ASSERT_OK(step);
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "no shard is ready");
  EXPECT_FAILS(step->Ready("model.bin"), kNotFound, "model.bin");
  MakeReady(*step, 0);
  WriteText(step->PathOf("more.bin"), "more");
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "more.bin is not ready");
  ASSERT_OK(step->Ready("more.bin"));
  WriteText(step->PathOf("model.bin"), "changed");
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "model.bin was changed, or removed");
  fs::remove(step->PathOf("model.bin"));
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "model.bin was changed, or removed");
  MakeReady(*step, 0);
  step->SetMetadata(std::string(300, 'x'));
  EXPECT_FAILS(step->Commit(), kOutOfRange, "make the metadata a shard");
  step->SetMetadata("small");
  ASSERT_OK(step->Commit());
  EXPECT_EQ(LatestInfo().shards.size(), 2u);
}

TEST_F(CheckpointCommit, BadNamesAreRefusedAndLoseNothing) {
  CheckpointRank rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank.Begin(1);
  ASSERT_OK(step);
  MakeReady(*step, 0);
  for (const std::string& name : {std::string(), std::string(".."), std::string("../x"),
                                  std::string("/etc/passwd"), std::string(200, 'a')}) {
    EXPECT_FAILS(step->Ready(name), kInvalidArgument, "use letters, digits");
  }
  ASSERT_EQ(mkfifo(step->PathOf("fifo").c_str(), 0600), 0);
  EXPECT_FAILS(step->Ready("fifo"), kInvalidArgument, "not a regular file");
  fs::remove(step->PathOf("fifo"));
  fs::create_symlink("/etc/passwd", step->PathOf("link"));
  EXPECT_FAILS(step->Ready("link"), kInvalidArgument, "symbolic link");
  fs::remove(step->PathOf("link"));
  ASSERT_OK(step->Commit());
  ExpectLatest(1, 1);
}

TEST_F(CheckpointCommit, DirectoriesThatCanNotBeAreNamed) {
  EXPECT_FAILS(Checkpoints(directory()).List(), kNotFound, "checkpoints is not there");
  EXPECT_FAILS(Checkpoints(scratch_.path()).List(), kNotFound, "no checkpoint was ever begun");
  EXPECT_FAILS(Checkpoints(scratch_.path()).Latest(), kNotFound, "no checkpoint was ever begun");
  WriteText(scratch_ / "file", "x");
  EXPECT_FAILS(Checkpoints(scratch_ / "file").Latest(), kInvalidArgument, "is not a directory");
  EXPECT_FAILS(CheckpointRank::Join(scratch_ / "file", Options(0, 1)), kInvalidArgument,
               "is not a directory");
  EXPECT_FAILS(CheckpointRank::Join(scratch_ / "none/deeper", Options(0, 1)), kNotFound, "deeper");
  EXPECT_FAILS(CheckpointRank::Join(directory(), Options(1, 1)), kInvalidArgument, "rank 1");
  EXPECT_FAILS(CheckpointRank::Join(directory(), Options(0, 0)), kInvalidArgument, "world of 0");
  EXPECT_FAILS(CheckpointRank::Join(directory(), Options(0, 257)), kInvalidArgument, "at most 256");
}

TEST_F(CheckpointCommit, ALivingProcessKeepsItsRankUnlessItIsTakenOver) {
  std::optional<CheckpointRank> first = Joined(0, 1);
  ASSERT_OK(first->Begin(1));
  EXPECT_FAILS(CheckpointRank::Join(directory(), Options(0, 1)), kAlreadyExists,
               absl::StrCat("pid ", getpid()));
  CheckpointOptions options = Options(0, 1);
  options.take_over = true;
  absl::StatusOr<CheckpointRank> second = CheckpointRank::Join(directory(), options);
  ASSERT_OK(second);
  // The first one is told, and cannot come back while the second lives.
  EXPECT_FAILS(first->Begin(2, kLong), kAlreadyExists, "has rank 0");
  ASSERT_OK(MakeOne(*second, 0, 1));
  ExpectLatest(1, 1);
  second = absl::UnknownError("gone");
  ASSERT_OK(MakeOne(*first, 0, 2));
  ExpectLatest(2, 1);
}

TEST_F(CheckpointCommit, GoesOnAfterAReboot) {
  MakeAndLeave(2, {10, 20});
  const Epoch before = LatestInfo().epoch;
  ASSERT_OK(Region::Unlink(region()));
  ExpectLatest(20, 2);  // from the journal alone
  MakeAndLeave(2, {30});
  ExpectLatest(30, 2);
  EXPECT_GT(LatestInfo().attempt, before);
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  EXPECT_EQ(list->checkpoints.size(), 3u);
  EXPECT_THAT(list->damage, IsEmpty());
}

TEST_F(CheckpointCommit, AnotherWorldGoesOnFromTheSameCheckpoints) {
  MakeAndLeave(3, {10});
  MakeAndLeave(2, {20});
  ExpectLatest(20, 2);
  const absl::StatusOr<Checkpoint> first = checkpoints().Find(10);
  ASSERT_OK(first);
  EXPECT_EQ(first->world, 3u);
  ASSERT_OK(checkpoints().Open(*first));
}

TEST_F(CheckpointCommit, MoreRanksThanTheRegionHasRoomForAreToldTheWayOut) {
  MakeAndLeave(1, {10});
  EXPECT_FAILS(CheckpointRank::Join(directory(), Options(0, 256)), kFailedPrecondition,
               "remove it (epochctl rm)");
  ASSERT_OK(Region::Unlink(region()));
  ASSERT_OK(CheckpointRank::Join(directory(), Options(0, 256)));
  ExpectLatest(10, 1);
}

TEST_F(CheckpointCommit, ARegionOfOtherCheckpointsIsRefused) {
  MakeAndLeave(1, {10});
  EXPECT_FAILS(CheckpointRank::Join(scratch_ / "others", Options(0, 1)), kFailedPrecondition,
               "name another region");
}

TEST_F(CheckpointCommit, ACopiedOrMovedDirectoryHasARegionOfItsOwn) {
  CheckpointOptions options = Options(0, 1);
  options.region.clear();
  const auto make = [&](const std::string& where, std::uint64_t step) {
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(where, options);
    EXPECT_OK(rank);
    EXPECT_OK(MakeOne(*rank, 0, step));
    return rank->region_path();
  };
  std::vector<std::string> regions = {make(directory(), 10)};
  EXPECT_NE(access(regions[0].c_str(), F_OK), 0) << "it went with its last rank";
  EXPECT_THAT(regions[0], HasSubstr("/dev/shm/epoch.checkpoints-"));
  fs::copy(directory(), scratch_ / "copy", fs::copy_options::recursive);
  regions.push_back(make(scratch_ / "copy", 20));
  fs::rename(directory(), scratch_ / "moved");
  regions.push_back(make(scratch_ / "moved", 30));
  EXPECT_NE(regions[0], regions[1]);
  EXPECT_NE(regions[0], regions[2]);
  EXPECT_EQ(Checkpoints(scratch_ / "copy").Latest()->step, 20u);
  EXPECT_EQ(Checkpoints(scratch_ / "moved").Latest()->step, 30u);
  EXPECT_FAILS(Checkpoints(scratch_ / "moved").Find(20), kNotFound, "no checkpoint of step 20");
  for (const std::string& path : regions) EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(CheckpointCommit, ReadingChangesNothing) {
  MakeAndLeave(2, {10, 20});
  const auto snapshot = [&] {
    std::vector<std::pair<std::string, fs::file_time_type>> files;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      files.emplace_back(entry.path(), entry.last_write_time());
    }
    return files;
  };
  ASSERT_OK(Region::Unlink(region()));
  const auto before = snapshot();
  ASSERT_OK(checkpoints().List());
  ASSERT_OK(checkpoints().OpenLatest());
  EXPECT_EQ(snapshot(), before);
  EXPECT_NE(access(name_.path().c_str(), F_OK), 0);
}

}  // namespace
}  // namespace epoch::test
