// Failing system calls, other processes that come between two steps, and other users.
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint_test.h"
#include "core/checkpoint/folder.h"
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
    EXPECT_FAILS(MakeStep(20), kInternal, "can not be made durable");
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
