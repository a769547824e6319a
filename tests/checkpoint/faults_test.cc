// Failing system calls, and other processes that come between two steps.
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

}  // namespace
}  // namespace epoch::test
