// Failing system calls, other processes that come between two steps, and other users.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string_view>

#include "checkpoint_test.h"
#include "core/checkpoint/folder.h"
#include "support/child.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using testing::IsEmpty;

class CheckpointFault : public CheckpointTest {
 protected:
  // World of one: nothing to wait for.
  absl::Status MakeStep(std::uint64_t step) {
    if (!rank_.has_value()) rank_ = Joined(0, 1);
    return MakeOne(*rank_, 0, step).status();
  }
  std::optional<CheckpointRank> rank_;
};

TEST_F(CheckpointFault, AShardThatCanNotBeSyncedIsNeverReady) {
  ASSERT_OK(MakeStep(10));
  {
    const Trap trap("checkpoint.sync", 1, [] { return EIO; });
    EXPECT_FAILS(MakeStep(20), kInternal, "cannot be made durable");
    EXPECT_TRUE(trap.sprung());
  }
  ExpectLatest(10, 1);
  ASSERT_OK(MakeStep(20));
  ExpectLatest(20, 1);
}

TEST_F(CheckpointFault, AShardThatCanNotBeReadBackIsNeverReady) {
  ASSERT_OK(MakeStep(10));
  const Trap trap("checkpoint.read", 2, [] { return EIO; });
  EXPECT_FAILS(MakeStep(20), kInternal, "read error at offset");
  ExpectLatest(10, 1);
}

TEST_F(CheckpointFault, AReadErrorIsNoDamage) {
  ASSERT_OK(MakeStep(10));
  const Trap trap("checkpoint.read", 1, [] { return EIO; });
  EXPECT_FAILS(checkpoints().OpenLatest(), kInternal, "read error");
}

// What could not be written when it was first synced may be gone, though a second sync succeeds.
TEST_F(CheckpointFault, AFileWhoseSyncFailedIsReadyOnlyAsANewFile) {
  std::optional<CheckpointRank> rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank->Begin(10);
  ASSERT_OK(step);
  const std::string path = step->PathOf("model.bin"), aside = scratch_ / "aside";
  WriteText(path, ShardText(10, 0));
  {
    const Trap trap("checkpoint.sync", 1, [] { return EINTR; });
    EXPECT_FALSE(step->Ready("model.bin").ok());
  }
  ASSERT_OK(step->Ready("model.bin")) << "that was nobody's";
  {
    const Trap trap("checkpoint.sync", 1, [] { return EIO; });
    EXPECT_FAILS(step->Ready("model.bin"), kInternal, "cannot be made durable");
  }
  EXPECT_FAILS(step->Ready("model.bin"), kInternal, "to a new file");
  EXPECT_FAILS(step->ReadyAll(), kInternal, "to a new file");
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "no shard is ready");
  // Removed and written again; and by any number of tries none gets the old one's number.
  fs::remove(path);
  WriteText(path, ShardText(10, 0));
  ASSERT_OK(step->Ready("model.bin"));
  ASSERT_OK(step->Commit());
  ExpectLatest(10, 1);
}

TEST_F(CheckpointFault, AFolderWhoseSyncFailedEndsTheStep) {
  std::optional<CheckpointRank> rank = Joined(0, 1);
  // Of the rank's own; of one in it; and of the attempt's, for the list.
  for (const int nth : {1, 2, 3}) {
    absl::StatusOr<CheckpointStep> step = rank->Begin(10);
    ASSERT_OK(step);
    fs::create_directory(step->PathOf("d"));
    WriteText(step->PathOf("d/model.bin"), "x");
    {
      const Trap trap("checkpoint.sync_folder", nth, [] { return EIO; });
      absl::Status failed = step->ReadyAll();
      if (failed.ok()) failed = step->Commit().status();
      EXPECT_FAILS(failed, kInternal, "begin the step again");
      EXPECT_TRUE(trap.sprung());
    }
    EXPECT_FAILS(step->ReadyAll(), kFailedPrecondition, "this attempt is over");
    EXPECT_FAILS(step->Ready("d/model.bin"), kFailedPrecondition, "this attempt is over");
    EXPECT_FAILS(step->Commit(), kFailedPrecondition, "this attempt is over");
  }
  EXPECT_FAILS(checkpoints().Latest(), kNotFound, "");
  ASSERT_OK(MakeOne(*rank, 0, 10));
  ExpectLatest(10, 1);
}

// What this process cannot look at is not damaged: neither passed over nor removed.
TEST_F(CheckpointFault, AFolderThatCannotBeOpenedIsNoDamage) {
  ASSERT_OK(MakeStep(10));
  ASSERT_OK(MakeStep(20));
  for (int nth = 1; nth <= 3; ++nth) {
    for (const int error : {EMFILE, EACCES, ENOMEM}) {
      SCOPED_TRACE(testing::Message() << nth << ", " << error);
      const auto code = error == EACCES ? absl::StatusCode::kPermissionDenied
                                        : absl::StatusCode::kResourceExhausted;
      {
        const Trap trap("checkpoint.open_folder", nth, [error] { return error; });
        EXPECT_EQ(checkpoints().OpenLatest().status().code(), code);
        EXPECT_TRUE(trap.sprung());
      }
      {
        const Trap trap("checkpoint.open_folder", nth, [error] { return error; });
        EXPECT_EQ(checkpoints().OpenNewestGood().status().code(), code);
      }
      {
        const Trap trap("checkpoint.open_folder", nth, [error] { return error; });
        const absl::Status pruned = checkpoints().Prune({.remove_damaged = true}).status();
        EXPECT_EQ(pruned.code(), code);
        EXPECT_THAT(MessageOf(pruned), testing::HasSubstr("nothing was removed"));
      }
    }
    const Trap trap("checkpoint.open_folder", nth, [] { return EIO; });
    EXPECT_FAILS(checkpoints().Prune({.remove_damaged = true}), kInternal, "nothing was removed");
  }
  EXPECT_EQ(CountFolders(), 2u);
  ExpectLatest(20, 1);
  // A read error may be passed over, and is told.
  const Trap trap("checkpoint.open_folder", 2, [] { return EIO; });
  const auto good = checkpoints().OpenNewestGood();
  ASSERT_OK(good);
  EXPECT_EQ(good->checkpoint.info().step, 10u);
  EXPECT_EQ(good->problems.size(), 1u);
}

// While it lives, and is not ended, no process of this test has room to write the journal.
class DiskIsFull {
 public:
  DiskIsFull() {
    met_ = false;
    full_ = true;
    seam::point_hook.store([](const char* label) {
      if (std::string_view(label) != "journal.write" || !full_) return 0;
      met_ = true;
      return ENOSPC;
    });
  }
  DiskIsFull(const DiskIsFull&) = delete;
  DiskIsFull& operator=(const DiskIsFull&) = delete;
  ~DiskIsFull() { seam::point_hook.store(nullptr); }
  static bool Met() { return met_; }
  static void End() { full_ = false; }

 private:
  static inline std::atomic<bool> met_{false};
  static inline std::atomic<bool> full_{false};
};

// A list that a committed manifest may mean is neither taken away nor replaced by a Commit that is
// called again, whatever its caller has done to the shards.
TEST_F(CheckpointFault, ACommitThatIsCalledAgainLeavesTheListOfItsManifest) {
  std::vector<CheckpointRank> ranks = JoinAll(2);
  std::vector<absl::StatusOr<CheckpointStep>> steps = InParallel<absl::StatusOr<CheckpointStep>>(
      2, [&](std::uint32_t rank) { return ranks[rank].Begin(10, kLong); });
  const std::vector<std::string> names{"a.bin", ".b", "=c"};
  for (auto& step : steps) {
    ASSERT_OK(step);
    for (const std::string& name : names) {
      WriteText(step->PathOf(name), "x");
      ASSERT_OK(step->Ready(name));
    }
  }
  const auto list_of = [&](std::uint32_t rank) { return steps[rank]->directory() + ".files"; };
  const auto number_of = [&](std::uint32_t rank) {
    struct stat info {};
    EXPECT_EQ(lstat(list_of(rank).c_str(), &info), 0);
    return info.st_ino;
  };
  // Accepted, and then there is no room on the disk: both are told that it is pending.
  const DiskIsFull full;
  const WaitOptions until_full{.timeout = kLong, .interrupted = [] { return DiskIsFull::Met(); }};
  const auto first = InParallel<absl::StatusOr<Epoch>>(
      2, [&](std::uint32_t rank) { return steps[rank]->Commit(until_full); });
  for (const auto& pending : first) {
    EXPECT_FAILS(pending, kCancelled, "");
    ASSERT_EQ(Details(pending.status()).outcome, Outcome::kPending);
  }
  const ino_t number = number_of(0);
  const std::string text = ReadText(list_of(0));
  const auto is_untouched = [&] { return number_of(0) == number && ReadText(list_of(0)) == text; };
  // The same shards, in another order: the same list.
  ASSERT_OK(steps[0]->Ready("a.bin"));
  EXPECT_FALSE(steps[0]->Commit(until_full).ok());
  EXPECT_TRUE(is_untouched());
  // Others: not as long as it is open whether the manifest is there; and not when it is.
  WriteText(steps[0]->PathOf("=c"), "changed");
  ASSERT_OK(steps[0]->Ready("=c"));
  EXPECT_FAILS(steps[0]->Commit(until_full), kCancelled, "");
  EXPECT_TRUE(is_untouched());
  DiskIsFull::End();
  EXPECT_FAILS(steps[0]->Commit(kLong), kDataLoss, "is a checkpoint already");
  EXPECT_TRUE(is_untouched());
  WriteText(steps[0]->PathOf("=c"), "x");
  ASSERT_OK(steps[0]->Ready("=c"));
  for (auto& step : steps) EXPECT_OK(step->Commit(kLong));
  EXPECT_TRUE(is_untouched());
  const auto opened = checkpoints().OpenLatest();
  ASSERT_OK(opened);
  EXPECT_EQ(opened->info().shards.size(), 6u);
}

// --- the region of a finished job ---

CheckpointOptions Unnamed(std::uint32_t rank, std::uint32_t world) {
  CheckpointOptions options;
  options.rank = rank;
  options.world = world;
  return options;
}

// Joins, and dies in it.
ROLE(DiesInUnnamedRegion) {
  CheckpointOptions options = Unnamed(1, 2);
  const Trap trap("checkpoint.joined", 1, SIGKILL);
  const auto rank = CheckpointRank::Join(self.args.at(0), options);
  ROLE_CHECK(rank.ok(), rank.status().ToString());
  return 0;
}

TEST_F(CheckpointFault, ADeadRankIsNotTakenForALivingOneWhileTheRegionGoes) {
  absl::StatusOr<CheckpointRank> last = CheckpointRank::Join(directory(), Unnamed(0, 2));
  ASSERT_OK(last);
  const std::string path = last->region_path();
  ASSERT_EQ(Child("DiesInUnnamedRegion", {directory()}).Wait(), -SIGKILL);
  CheckpointOptions options = Unnamed(1, 2);
  options.restore_timeout = kSoon;
  const Trap trap("checkpoint.region_locked", 1, [&] {
    EXPECT_FAILS(CheckpointRank::Join(directory(), options), kUnavailable, "about to be removed");
    return 0;
  });
  last = absl::UnknownError("left");
  EXPECT_TRUE(trap.sprung());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  EXPECT_OK(CheckpointRank::Join(directory(), Unnamed(1, 2)));
}

// Has a manifest accepted, and dies before it is on disk.
ROLE(AcceptsInUnnamedRegion) {
  const Trap trap("journal.frozen", 2, SIGKILL);
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(self.args.at(0), Unnamed(0, 1));
  ROLE_CHECK(rank.ok(), rank.status().ToString());
  absl::StatusOr<CheckpointStep> step = rank->Begin(20);
  ROLE_CHECK(step.ok(), step.status().ToString());
  WriteText(step->PathOf("model.bin"), ShardText(20, 0));
  ROLE_CHECK(step->Ready("model.bin").ok(), "not ready");
  ROLE_CHECK(step->Commit().ok(), "not committed");
  return 0;
}

TEST_F(CheckpointFault, ARegionThatHoldsWhatIsNotOnDiskStays) {
  absl::StatusOr<CheckpointRank> last = CheckpointRank::Join(directory(), Unnamed(0, 1));
  ASSERT_OK(last);
  const std::string path = last->region_path();
  ASSERT_OK(MakeOne(*last, 0, 10));
  {
    const Trap trap("checkpoint.region_quiet", 1, [&] {
      EXPECT_EQ(Child("AcceptsInUnnamedRegion", {directory()}).Wait(), -SIGKILL);
      return 0;
    });
    last = absl::UnknownError("left");
    EXPECT_TRUE(trap.sprung());
  }
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  // The next one finishes it.
  absl::StatusOr<CheckpointRank> next = CheckpointRank::Join(directory(), Unnamed(0, 1));
  ASSERT_OK(next);
  ASSERT_OK(MakeOne(*next, 0, 30));
  EXPECT_OK(checkpoints().Open(*checkpoints().Find(20)));
  ExpectLatest(30, 1);
}

TEST_F(CheckpointFault, AFileThatChangesWhileItIsMadeReadyIsNoticed) {
  std::optional<CheckpointRank> rank = Joined(0, 1);
  absl::StatusOr<CheckpointStep> step = rank->Begin(10);
  ASSERT_OK(step);
  const std::string path = step->PathOf("model.bin");
  WriteText(path, "first");
  {
    const Trap trap("checkpoint.before_sync", 1, [&] {
      WriteText(path, "second");
      return 0;
    });
    EXPECT_FAILS(step->Ready("model.bin"), kFailedPrecondition, "changed while it was made ready");
  }
  EXPECT_FAILS(step->Commit(), kFailedPrecondition, "no shard is ready");
  ASSERT_OK(step->Ready("model.bin"));
  ASSERT_OK(step->Commit());
}

TEST_F(CheckpointFault, ACleanUpWhileAFolderIsMadeIsNoObstacle) {
  for (const char* label : {"checkpoint.folder_made", "checkpoint.folder_named"}) {
    ASSERT_OK(MakeStep(10));
    const Trap trap(label, 1, [&] {
      EXPECT_OK(checkpoints().CleanUp());
      return 0;
    });
    ASSERT_OK(MakeStep(20));
    EXPECT_TRUE(trap.sprung());
    ExpectLatest(20, 1);
  }
  EXPECT_OK(checkpoints().CleanUp());
  EXPECT_THAT(checkpoints().List()->stagings, IsEmpty());
  EXPECT_EQ(CountFolders(), 4u);
}

TEST_F(CheckpointFault, AReaderThatComesBetweenLockAndMarkIsTold) {
  ASSERT_OK(MakeStep(10));
  ASSERT_OK(MakeStep(20));
  const absl::StatusOr<Checkpoint> first = checkpoints().Find(10);
  ASSERT_OK(first);
  bool asked = false;
  const Trap trap("checkpoint.remove_locked", 1, [&] {
    asked = true;
    EXPECT_FAILS(checkpoints().Open(*first), kUnavailable, "stands still");
    return 0;
  });
  ASSERT_OK(checkpoints().Prune());
  EXPECT_TRUE(asked);
}

TEST_F(CheckpointFault, AJournalThatFailsAWriteMakesNoCheckpointAndIsRestored) {
  ASSERT_OK(MakeStep(10));
  {
    const Trap trap("journal.write", 1, [] { return EIO; });
    EXPECT_FALSE(MakeStep(20).ok());
  }
  EXPECT_FALSE(MakeStep(20).ok());  // poisoned
  rank_.reset();
  ASSERT_OK(MakeStep(30));
  ExpectLatest(30, 1);
}

// --- whose the files are -------------------------------------------------------------------------

constexpr gid_t kSomeGroup = 54321;
constexpr uid_t kSomebody = 65534;

struct stat StatOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
  return info;
}

// All that Epoch made: the shards are the program's.
void ForEachMade(const std::string& directory,
                 const std::function<void(const std::string&, const struct stat&)>& look) {
  look(directory, StatOf(directory));
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.path().filename() != "model.bin") look(entry.path(), StatOf(entry.path()));
  }
}

TEST_F(CheckpointFault, PermissionsAreSetWholeWhateverTheUmask) {
  for (const mode_t mask : {0u, 022u, 077u}) {
    SCOPED_TRACE(mask);
    const mode_t before = umask(mask);
    CheckpointOptions options = Options(0, 1);
    options.mode = 0660;
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
    ASSERT_OK(rank);
    for (const std::uint64_t step : {10u, 20u}) ASSERT_OK(MakeOne(*rank, 0, step));
    ASSERT_OK(checkpoints().Prune());
    umask(before);
    std::size_t seen = 0;
    ForEachMade(directory(), [&](const std::string& path, const struct stat& info) {
      ++seen;
      EXPECT_EQ(info.st_mode & 07777u, S_ISDIR(info.st_mode) ? 0770u : 0660u) << path;
    });
    EXPECT_GE(seen, 8u);
    rank = absl::UnknownError("gone");
    fs::remove_all(directory());
    ASSERT_OK(Region::Unlink(region()));
  }
}

TEST_F(CheckpointFault, AGroupThatAParentGivesIsKept) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another group";
  ASSERT_EQ(chown(scratch_.path().c_str(), 0, kSomeGroup), 0);
  ASSERT_EQ(chmod(scratch_.path().c_str(), 02770), 0);
  CheckpointOptions options = Options(0, 1);
  options.mode = 0660;
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
  ASSERT_OK(rank);
  for (const std::uint64_t step : {10u, 20u}) ASSERT_OK(MakeOne(*rank, 0, step));
  ASSERT_OK(checkpoints().Prune());
  ForEachMade(directory(), [&](const std::string& path, const struct stat& info) {
    EXPECT_EQ(info.st_gid, kSomeGroup) << path;
    EXPECT_EQ(info.st_mode & 07777u, S_ISDIR(info.st_mode) ? 02770u : 0660u) << path;
  });
}

TEST_F(CheckpointFault, AnotherUsersUnfinishedFolderStays) {
  ASSERT_OK(MakeStep(10));
  for (const std::string name : {".new-aaaaaa", ".new-bbbbbb"}) {
    fs::create_directories(directory() + "/" + name + "/rank-00000");
    WriteText(directory() + "/" + name + "/ranks", "");
  }
  fs::create_directory_symlink(scratch_.path(), directory() + "/.new-cccccc");
  const bool second_user = geteuid() == 0;
  if (second_user) {
    ASSERT_EQ(chown((directory() + "/.new-bbbbbb").c_str(), kSomebody, kSomebody), 0);
  }
  ASSERT_OK(checkpoints().CleanUp());
  EXPECT_FALSE(fs::exists(directory() + "/.new-aaaaaa"));
  EXPECT_EQ(fs::exists(directory() + "/.new-bbbbbb"), second_user);
  EXPECT_TRUE(fs::is_symlink(directory() + "/.new-cccccc"));
  ExpectLatest(10, 1);
}

// However deep somebody makes it, to remove it takes a bounded number of descriptors.
TEST_F(CheckpointFault, AFolderOfFoldersIsRemovedToABoundedDepth) {
  ASSERT_OK(MakeStep(10));
  const std::string left = directory() + "/.new-aaaaaa";
  fs::create_directory(left);
  WriteText(left + "/ranks", "");
  std::string deep = left;
  for (int level = 0; level < 60; ++level) deep += "/d";
  fs::create_directories(deep);
  ASSERT_OK(checkpoints().CleanUp());
  EXPECT_FALSE(fs::exists(left));
  fs::create_directories(deep + deep.substr(left.size()));
  WriteText(left + "/ranks", "");
  ASSERT_OK(checkpoints().CleanUp());
  EXPECT_TRUE(fs::exists(deep));
  ExpectLatest(10, 1);
}

}  // namespace
}  // namespace epoch::test
