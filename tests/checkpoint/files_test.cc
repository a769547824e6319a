// Shards that are many files, as training frameworks write them: a list of them counts as the shard
// does.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "checkpoint_test.h"
#include "core/checkpoint/format.h"

namespace epoch::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CheckpointFiles : public CheckpointTest {
 protected:
  // As torch's DCP, OCDBT and safetensors leave them.
  static std::vector<std::string> Names() {
    std::vector<std::string> names = {
        ".metadata", "__0_0.distcp",   "ocdbt.process_0/manifest.ocdbt", "ocdbt.process_0/d/0a1b2c",
        "d/e/f/g",   "lr=0.1,b@2.json"};
    for (int i = 1; i <= 9; ++i) {
      names.push_back(absl::StrCat("model-0000", i, "-of-00009.safetensors"));
    }
    return names;
  }
  static std::string TextOf(const std::string& name, std::uint64_t step) {
    return absl::StrCat(name, " of step ", step);
  }
  static void Write(const CheckpointStep& step, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      fs::create_directories(fs::path(step.PathOf(name)).parent_path());
      WriteText(step.PathOf(name), TextOf(name, step.step()));
    }
  }
  // Rank 0 of a world of one makes it of these files.
  void MakeOf(std::uint64_t step, const std::vector<std::string>& names) {
    CheckpointRank rank = Joined(0, 1);
    absl::StatusOr<CheckpointStep> begun = rank.Begin(step);
    ASSERT_OK(begun);
    Write(*begun, names);
    ASSERT_OK(begun->ReadyAll());
    begun->SetMetadata("loss 0.5");
    ASSERT_OK(begun->Commit());
  }
};

TEST_F(CheckpointFiles, AShardMayBeAFolderOfFiles) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  // One rank with many files, one with a single one.
  const auto made = InParallel<absl::Status>(2, [&](std::uint32_t rank) -> absl::Status {
    absl::StatusOr<CheckpointStep> step = ranks[rank].Begin(7, kLong);
    if (!step.ok()) return step.status();
    Write(*step, rank == 1 ? Names() : std::vector<std::string>{"model.bin"});
    if (absl::Status s = step->ReadyAll(); !s.ok()) return s;
    step->SetMetadata(absl::StrCat("rank ", rank));
    return step->Commit(kLong).status();
  });
  for (const absl::Status& status : made) ASSERT_OK(status);
  const Checkpoint latest = LatestInfo();
  ASSERT_EQ(latest.shards.size(), 1u) << "of rank 0; the other's stand in a list";
  ASSERT_EQ(latest.lists.size(), 1u);
  EXPECT_EQ(latest.lists[0].rank, 1u);
  EXPECT_EQ(latest.lists[0].files, Names().size());
  EXPECT_EQ(latest.files(), Names().size() + 1);
  EXPECT_THAT(latest.metadata, ElementsAre("rank 0", "rank 1"));
  const absl::StatusOr<OpenCheckpoint> opened = checkpoints().OpenLatest();
  ASSERT_OK(opened);
  EXPECT_EQ(opened->info().shards.size(), Names().size() + 1);
  EXPECT_EQ(opened->info().files(), latest.files());
  EXPECT_EQ(opened->info().bytes(), latest.bytes());
  for (const std::string& name : Names()) {
    EXPECT_EQ(ReadText(opened->PathOf(1, name)), TextOf(name, 7));
    EXPECT_EQ(opened->PathOf(0, name), "");
  }
  EXPECT_EQ(*checkpoints().ShardsOf(latest), opened->info().shards);
  EXPECT_THAT(checkpoints().Verify(latest), IsEmpty());
  EXPECT_THAT(checkpoints().Verify(opened->info()), IsEmpty());
}

TEST_F(CheckpointFiles, EachFileOfAListIsVerified) {
  MakeOf(10, Names());
  MakeOf(20, Names());
  const Checkpoint good = LatestInfo();
  const std::string folder = good.DirectoryOf(0);
  const auto refused = [&](const std::string& path, const std::string& why) {
    EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, path);
    EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, why);
  };
  for (const std::string& name : Names()) {
    const std::string path = folder + "/" + name, text = ReadText(path);
    WriteText(path, text.substr(1));
    refused(path, "truncated");
    WriteText(path, "X" + text.substr(1));
    refused(path, "was altered");
    fs::remove(path);
    refused(path, "is missing");
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    refused(path, "not a regular file");
    fs::remove(path);
    WriteText(path, text);
  }
  ASSERT_OK(checkpoints().OpenLatest());
  for (const std::string name : {"d/more", "d/e/f/more", ".hidden", "rank"}) {
    WriteText(folder + "/" + name, "x");
    refused(folder + "/" + name, "is not named by the manifest");
    fs::remove(folder + "/" + name);
  }
  fs::create_directory(folder + "/d/empty");
  refused(folder + "/d/empty", "is not named by the manifest");
  fs::remove(folder + "/d/empty");
  // A folder on the way that is a link: to the very same files.
  fs::rename(folder + "/d", scratch_ / "d");
  fs::create_symlink(scratch_ / "d", folder + "/d");
  refused(folder + "/d", "is not a folder");
  fs::remove(folder + "/d");
  fs::rename(scratch_ / "d", folder + "/d");
  ASSERT_OK(checkpoints().OpenLatest());
}

TEST_F(CheckpointFiles, TheListItselfIsVerified) {
  MakeOf(10, Names());
  MakeOf(20, Names());
  const std::string list = LatestInfo().DirectoryOf(0) + ".files", text = ReadText(list);
  EXPECT_THAT(text, HasSubstr(" ocdbt.process_0/d/0a1b2c\n"));
  const std::string other = checkpoints().Find(10)->DirectoryOf(0) + ".files";
  for (const std::string& wrong : {std::string(), text.substr(1), text + "\n", ReadText(other)}) {
    WriteText(list, wrong);
    EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, list);
  }
  fs::remove(list);
  EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, "is missing");
  EXPECT_FAILS(checkpoints().ShardsOf(LatestInfo()), kDataLoss, "is missing");
  fs::create_symlink(other, list);
  EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, "symbolic link");
  fs::remove(list);
  WriteText(list, text);
  ASSERT_OK(checkpoints().OpenLatest());
}

TEST_F(CheckpointFiles, WhatIsNoFileInItsFolderIsRefused) {
  CheckpointRank rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank.Begin(1);
  ASSERT_OK(step);
  Write(*step, Names());
  const std::string odd = step->PathOf("d/odd");
  ASSERT_EQ(mkfifo(odd.c_str(), 0600), 0);
  EXPECT_FAILS(step->ReadyAll(), kInvalidArgument, odd + " is not a regular file");
  EXPECT_FAILS(step->Ready("d/odd"), kInvalidArgument, "not a regular file");
  fs::remove(odd);
  fs::create_symlink("/etc/passwd", odd);
  EXPECT_FAILS(step->ReadyAll(), kInvalidArgument, odd + " is a symbolic link");
  fs::remove(odd);
  fs::create_directory_symlink("/etc", odd);
  EXPECT_FAILS(step->ReadyAll(), kInvalidArgument, odd + " is a symbolic link");
  EXPECT_FAILS(step->Ready("d/odd/passwd"), kInvalidArgument, odd + " is not a folder");
  fs::remove(odd);
  fs::create_directory(odd);
  EXPECT_FAILS(step->ReadyAll(), kFailedPrecondition, "is an empty folder");
  fs::remove(odd);
  for (const char* name : {"d/../../x", "/etc/passwd", "d//x", "d/.", ".."}) {
    EXPECT_FAILS(step->Ready(name), kInvalidArgument, "leads elsewhere");
  }
  ASSERT_OK(step->ReadyAll());
  ASSERT_OK(step->Commit());
}

TEST_F(CheckpointFiles, WhatAnotherUserMayWriteIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to make another user's file";
  CheckpointOptions options = Options(0, 1);
  options.mode = 0644;  // others may look
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
  ASSERT_OK(rank);
  absl::StatusOr<CheckpointStep> step = rank->Begin(1);
  ASSERT_OK(step);
  Write(*step, {"sub/model.bin"});
  const std::string file = step->PathOf("sub/model.bin"), folder = step->PathOf("sub");
  ASSERT_OK(step->Ready("sub/model.bin"));
  for (const std::string& path : {file, folder}) {
    ASSERT_EQ(chown(path.c_str(), 65534, static_cast<gid_t>(-1)), 0);
    EXPECT_FAILS(step->Ready("sub/model.bin"), kPermissionDenied, "belongs to another user");
    ASSERT_EQ(chown(path.c_str(), 0, static_cast<gid_t>(-1)), 0);
    ASSERT_EQ(chmod(path.c_str(), 0757), 0);
    EXPECT_FAILS(step->Ready("sub/model.bin"), kPermissionDenied, "may be written by other users");
    ASSERT_EQ(chmod(path.c_str(), 0755), 0);
  }
  ASSERT_OK(step->ReadyAll());
  ASSERT_OK(step->Commit());
}

TEST_F(CheckpointFiles, WhatIsNotReadyOrNoLongerIsRefused) {
  CheckpointRank rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank.Begin(1);
  ASSERT_OK(step);
  EXPECT_FAILS(step->ReadyAll(), kFailedPrecondition, "is empty");
  Write(*step, Names());
  ASSERT_OK(step->ReadyAll());
  WriteText(step->PathOf("d/more"), "x");
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "d/more is not ready");
  ASSERT_OK(step->ReadyAll());
  WriteText(step->PathOf("d/e/f/g"), "changed");
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "d/e/f/g was changed");
  fs::remove(step->PathOf("d/more"));
  ASSERT_OK(step->ReadyAll());
  step->SetMetadata(std::string(192, 'x'));
  EXPECT_FAILS(step->Commit(), kOutOfRange, "make the metadata a shard");
  step->SetMetadata(std::string(191, 'x'));
  ASSERT_OK(step->Commit());
  EXPECT_FAILS(step->ReadyAll(), kFailedPrecondition, "begin another step");
  EXPECT_FAILS(step->Ready(".metadata"), kFailedPrecondition, "begin another step");
  EXPECT_EQ(checkpoints().OpenLatest()->info().shards.size(), Names().size());
}

TEST_F(CheckpointFiles, ACommitThatIsTriedAgainReplacesTheList) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  const auto made = InParallel<absl::Status>(2, [&](std::uint32_t rank) -> absl::Status {
    absl::StatusOr<CheckpointStep> step = ranks[rank].Begin(7, kLong);
    if (!step.ok()) return step.status();
    Write(*step, Names());
    if (absl::Status s = step->ReadyAll(); !s.ok()) return s;
    if (rank == 0) {
      const absl::Status early = step->Commit(absl::Nanoseconds(1)).status();
      if (!absl::IsDeadlineExceeded(early) && !absl::IsAborted(early)) return early;
      if (absl::IsAborted(early)) return absl::OkStatus();
      WriteText(step->PathOf("late"), "x");
      if (absl::Status s = step->Ready("late"); !s.ok()) return s;
    }
    absl::Status done = step->Commit(kLong).status();
    return absl::IsAborted(done) || absl::IsDeadlineExceeded(done) ? absl::OkStatus() : done;
  });
  for (const absl::Status& status : made) EXPECT_OK(status);
  const auto latest = checkpoints().Latest();
  if (absl::IsNotFound(latest.status())) return;  // the other one was told of the time-out
  ASSERT_OK(checkpoints().OpenLatest());
}

TEST_F(CheckpointFiles, AListOfAnEarlierTryIsReplacedOrPassedOver) {
  CheckpointRank rank = Joined(0, 1);
  // By another list, and where the shards fit the manifest.
  for (const bool many : {true, false}) {
    absl::StatusOr<CheckpointStep> step = rank.Begin(10);
    ASSERT_OK(step);
    WriteText(step->directory() + ".files", "of an earlier try");
    WriteText(step->directory() + ".files.new", "of one that died");
    if (many) Write(*step, Names());
    if (!many) WriteText(step->PathOf("model.bin"), "x");
    ASSERT_OK(step->ReadyAll());
    ASSERT_OK(step->Commit());
    ASSERT_OK(checkpoints().OpenLatest());
    EXPECT_THAT(checkpoints().Verify(LatestInfo()), IsEmpty());
    EXPECT_EQ(fs::exists(step->directory() + ".files.new"), !many);
  }
  const std::string other = LatestInfo().directory + "/rank-0001.files";
  WriteText(other, "x");
  EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, other + " is not named by the manifest");
}

TEST_F(CheckpointFiles, AListDoesNotDependOnTheOrderInWhichFilesBecameReady) {
  CheckpointRank rank = Joined(0, 1);
  std::vector<std::string> lists;
  for (const bool reversed : {false, true}) {
    absl::StatusOr<CheckpointStep> step = rank.Begin(10);
    ASSERT_OK(step);
    std::vector<std::string> names = Names();
    for (const std::string& name : names) {
      fs::create_directories(fs::path(step->PathOf(name)).parent_path());
      WriteText(step->PathOf(name), name);
    }
    if (reversed) std::reverse(names.begin(), names.end());
    for (const std::string& name : names) ASSERT_OK(step->Ready(name));
    ASSERT_OK(step->Ready(names[3]));
    ASSERT_OK(step->Commit());
    lists.push_back(ReadText(step->directory() + ".files"));
  }
  EXPECT_EQ(lists[0], lists[1]);
}

TEST_F(CheckpointFiles, ManyFilesArePrunedWithTheirList) {
  std::vector<std::string> names;
  for (int i = 0; i < 500; ++i) names.push_back(absl::StrCat("d", i % 7, "/file-", i));
  for (const std::uint64_t step : {10u, 20u, 30u}) MakeOf(step, names);
  EXPECT_EQ(LatestInfo().files(), 500u);
  ASSERT_OK(checkpoints().Prune());
  EXPECT_EQ(CountFolders(), 1u);
  ASSERT_OK(checkpoints().OpenLatest());
  EXPECT_FAILS(checkpoints().Find(20), kNotFound, "was pruned");
}

// --- the newest good one ---

TEST_F(CheckpointFiles, TheNewestGoodOneCanBeHad) {
  EXPECT_FAILS(checkpoints().OpenNewestGood(), kNotFound, "");
  for (const std::uint64_t step : {10u, 20u, 30u}) MakeOf(step, Names());
  {
    const auto good = checkpoints().OpenNewestGood();
    ASSERT_OK(good);
    EXPECT_EQ(good->checkpoint.info().step, 30u);
    EXPECT_THAT(good->damaged, IsEmpty());
    EXPECT_THAT(good->problems, IsEmpty());
  }
  WriteText(checkpoints().Find(30)->DirectoryOf(0) + "/.metadata", "x");
  fs::remove(checkpoints().Find(20)->DirectoryOf(0) + ".files");
  const auto good = checkpoints().OpenNewestGood();
  ASSERT_OK(good);
  EXPECT_EQ(good->checkpoint.info().step, 10u);
  EXPECT_EQ(ReadText(good->checkpoint.PathOf(0, ".metadata")), TextOf(".metadata", 10));
  ASSERT_EQ(good->damaged.size(), 2u);
  EXPECT_EQ(good->damaged[0].step, 30u);
  EXPECT_EQ(good->damaged[1].step, 20u);
  ASSERT_EQ(good->problems.size(), 2u);
  EXPECT_THAT(good->problems[0], HasSubstr(".metadata has"));
  EXPECT_THAT(good->problems[1], HasSubstr("is missing"));
  fs::remove_all(good->checkpoint.info().directory);
  EXPECT_FAILS(checkpoints().OpenNewestGood(), kDataLoss, "holds no good checkpoint");
}

// --- unequal worlds ---

TEST_F(CheckpointFiles, RanksOfUnequalWorldsAreBothTold) {
  for (int round = 0; round < 3; ++round) {
    // Nobody stays to be looked at: who is told first leaves first.
    const auto results = InParallel<absl::Status>(2, [&](std::uint32_t rank) {
      absl::StatusOr<CheckpointRank> joined =
          CheckpointRank::Join(directory(), Options(rank, rank == 0 ? 2 : 3));
      EXPECT_OK(joined);
      return joined->Begin(10, kLong).status();
    });
    EXPECT_FAILS(results[0], kFailedPrecondition, "rank-1 has world 3, this rank has 2");
    EXPECT_FAILS(results[1], kFailedPrecondition, "rank-0 has world 2, this rank has 3");
  }
  // And those of one world go on.
  MakeAndLeave(2, {10});
  ExpectLatest(10, 2);
}

TEST_F(CheckpointFiles, ARankOfAnotherWorldEndsNoSessionUnnoticed) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  ASSERT_NO_FATAL_FAILURE(Make(ranks, {10}));
  CheckpointRank other = Joined(2, 3);
  const auto results = InParallel<absl::Status>(2, [&](std::uint32_t rank) {
    if (rank == 1) return other.Begin(20, kLong).status();
    absl::StatusOr<CheckpointStep> step = ranks[0].Begin(20, kLong);
    if (!step.ok()) return step.status();
    WriteText(step->PathOf("model.bin"), "x");
    EXPECT_OK(step->Ready("model.bin"));
    return step->Commit(kLong).status();
  });
  EXPECT_FAILS(results[0], kFailedPrecondition, "rank-2 has world 3, this rank has 2");
  EXPECT_FAILS(results[1], kFailedPrecondition, "has world 2, this rank has 3");
}

TEST_F(CheckpointFiles, WhoIsMissingIsNamed) {
  CheckpointRank first = Joined(0, 3), second = Joined(1, 3);
  EXPECT_FAILS(first.Begin(10, kSoon), kDeadlineExceeded,
               "missing at this step: rank-1, rank-2 (has not joined)");
}

// --- the region of a finished job ---

class CheckpointRegion : public CheckpointTest {
 protected:
  CheckpointOptions Unnamed(std::uint32_t rank, std::uint32_t world) const {
    CheckpointOptions options = Options(rank, world);
    options.region.clear();
    return options;
  }
  static bool IsThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
};

TEST_F(CheckpointRegion, TheLastRankThatLeavesRemovesIt) {
  std::string path;
  for (const std::uint64_t step : {10u, 20u}) {
    std::vector<CheckpointRank> ranks;
    for (std::uint32_t rank = 0; rank < 3; ++rank) {
      absl::StatusOr<CheckpointRank> joined = CheckpointRank::Join(directory(), Unnamed(rank, 3));
      ASSERT_OK(joined);
      ranks.push_back(*std::move(joined));
    }
    path = ranks[0].region_path();
    ASSERT_NO_FATAL_FAILURE(Make(ranks, {step}));
    ranks.pop_back();
    EXPECT_TRUE(IsThere(path));
    // The last two at once: one of them is the last.
    InParallel<int>(2, [&](std::uint32_t rank) {
      const CheckpointRank leaves = std::move(ranks[rank]);
      return true;
    });
    ranks.clear();
    EXPECT_FALSE(IsThere(path));
  }
  ExpectLatest(20, 3);
}

TEST_F(CheckpointRegion, JobsThatEndWithoutACheckpointLoseNone) {
  const auto join = [&] {
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), Unnamed(0, 1));
    EXPECT_OK(rank);
    return *std::move(rank);
  };
  {
    CheckpointRank rank = join();
    ASSERT_OK(MakeOne(rank, 0, 10));
  }
  // Each makes its region anew from the journal, and writes nothing to it.
  for (int job = 0; job < 5; ++job) join();
  ExpectLatest(10, 1);
  EXPECT_THAT(checkpoints().List()->damage, testing::IsEmpty());
  {
    CheckpointRank rank = join();
    ASSERT_OK(MakeOne(rank, 0, 20));
  }
  for (int job = 0; job < 5; ++job) join();
  ExpectLatest(20, 1);
  EXPECT_EQ(checkpoints().List()->checkpoints.size(), 2u);
  std::size_t segments = 0;
  for (const auto& entry : fs::directory_iterator(directory() + "/manifests")) {
    segments += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_LE(segments, 6u) << "of jobs that wrote nothing none stays but the last";
}

TEST_F(CheckpointRegion, WhoeverIsInKeepsIt) {
  std::optional<CheckpointRank> rank = *CheckpointRank::Join(directory(), Unnamed(0, 1));
  const std::string path = rank->region_path();
  ASSERT_OK(MakeOne(*rank, 0, 10));
  const absl::StatusOr<Region> region = Region::Open(path);
  ASSERT_OK(region);
  absl::StatusOr<Participant> guest = Participant::Join(*region, {.name = "guest"});
  ASSERT_OK(guest);
  rank.reset();
  EXPECT_TRUE(IsThere(path));
  ASSERT_OK(Region::Unlink(path));
}

TEST_F(CheckpointRegion, ANamedOneStays) {
  MakeAndLeave(1, {10});
  EXPECT_TRUE(IsThere(name_.path()));
}

TEST_F(CheckpointRegion, JobsThatComeAndGoNeverMeetInARemovedOne) {
  // Whoever is done leaves at once and comes again, as another job would.
  std::atomic<int> made{0};
  InParallel<int>(2, [&](std::uint32_t rank) {
    for (std::uint64_t round = 0; round < 8; ++round) {
      absl::StatusOr<CheckpointRank> joined = CheckpointRank::Join(directory(), Unnamed(rank, 2));
      EXPECT_OK(joined);
      if (!joined.ok()) return false;
      absl::StatusOr<Epoch> done = MakeOne(*joined, rank, 10 + round);
      // The other one of the round before may only leave now, and counts as one that gave up.
      while (absl::IsAborted(done.status())) done = MakeOne(*joined, rank, 10 + round);
      EXPECT_OK(done);
      ++made;
    }
    return true;
  });
  EXPECT_EQ(made, 16);
  ExpectLatest(17, 2);
  CheckpointRank last = *CheckpointRank::Join(directory(), Unnamed(0, 1));
  EXPECT_TRUE(IsThere(last.region_path()));
}

}  // namespace
}  // namespace epoch::test
