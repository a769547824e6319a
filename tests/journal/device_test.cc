// What the journal lies on: filesystems that will not do, calls that the kernel does not have,
// errors that come late, and memory that somebody wrote over.
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/files/filesystem.h"
#include "core/journal/batch/ring.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/mounts.h"
#include "support/refuse_calls.h"
#include "support/trap.h"
#include "support/two_ports.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

// --- fast commits of ext4 ------------------------------------------------------------------------

TEST(FastCommits, AreSeenInWhatExt4SaysOfItself) {
  const std::string quiet = "fc stats:\n0 commits\n3 ineligible\n";
  EXPECT_FALSE(journal::SaysFastCommits("rw\ndelalloc\nbarrier\n", quiet));
  EXPECT_FALSE(journal::SaysFastCommits("", ""));
  EXPECT_FALSE(journal::SaysFastCommits("no_fast_commit\n", ""));
  EXPECT_TRUE(journal::SaysFastCommits("rw\nfast_commit\n", quiet));
  EXPECT_TRUE(journal::SaysFastCommits("rw\nfc_debug_force\nerrors=remount-ro\n", quiet));
  EXPECT_FALSE(journal::SaysFastCommits("rw\nfc_debug_force\nerrors=continue\n", quiet))
      << "some kernels show the latter as the former";
  EXPECT_TRUE(journal::SaysFastCommits("rw\n", "fc stats:\n12 commits\n3 ineligible\n"));
}

// In a mount namespace of its own, so that mount and loop device go with it.
ROLE(OnExt4) {
  const std::string image = self.args.at(1), mount_point = self.args.at(2);
  if (!MakeMountsPrivate() || !MakeImage(image, "ext4 -O " + self.args.at(3)) ||
      !MountImage(image, mount_point)) {
    self.wire.Say("no mounts here");
    return 0;
  }
  const RegionOptions options = SmallDurable(mount_point + "/journal");
  self.wire.Say(Region::Create(self.args.at(0), options).status().ToString());
  ROLE_CHECK(umount(mount_point.c_str()) == 0);
  return 0;
}

TEST_F(JournalTest, AnExt4WithFastCommitsIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string mount_point = scratch_ / "mounted";
  std::filesystem::create_directory(mount_point);
  for (const std::string features : {"fast_commit", "^fast_commit"}) {
    Child child("OnExt4", {name(), scratch_ / "image", mount_point, features}, CLONE_NEWNS);
    const std::string said = child.Hear();
    EXPECT_EQ(child.Wait(), 0);
    if (said == "no mounts here") GTEST_SKIP() << said;
    if (features[0] == '^') {
      EXPECT_EQ(said, "OK");
      ASSERT_OK(Region::Unlink(name()));
    } else {
      EXPECT_THAT(said, HasSubstr("FAILED_PRECONDITION"));
      EXPECT_THAT(said, HasSubstr("tune2fs -O ^fast_commit /dev/loop"));
      EXPECT_FALSE(std::filesystem::exists(name_.path()));
    }
    std::filesystem::remove(scratch_ / "image");
  }
}

// --- calls that are not there --------------------------------------------------------------------

ROLE(WithoutDsync) {
  const int sync_error = std::stoi(self.args.at(1));
  std::vector<RefusedCall> refused{{SYS_pwritev2, std::stoi(self.args.at(2))}};
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  if (sync_error != 0) refused.push_back({SYS_fdatasync, sync_error});
  ROLE_CHECK(RefuseCalls(refused));
  absl::Status made;
  for (int i = 0; i < 10 && made.ok(); ++i) made = Advance(*joined, kBigStateBytes).status();
  self.wire.Say(made.ToString());
  return 0;
}

TEST_F(JournalTest, WithoutDsyncAWriteIsFollowedByASync) {
  for (const int error : {EOPNOTSUPP, ENOSYS}) {
    SCOPED_TRACE(std::strerror(error));
    {
      const absl::StatusOr<Region> region = Region::Create(name(), Options());
      ASSERT_OK(region);
      Child child("WithoutDsync", {name(), "0", std::to_string(error)});
      EXPECT_EQ(child.Hear(), "OK");
      EXPECT_EQ(child.Wait(), 0);
      EXPECT_EQ(region->epoch(), 10u);
      ExpectCompleteHistory(directory(), 10);
      // It is that sync which counts.
      Child failing("WithoutDsync", {name(), std::to_string(EIO), std::to_string(error)});
      EXPECT_THAT(failing.Hear(), HasSubstr("unknown until recovery"));
      EXPECT_EQ(failing.Wait(), 0);
      EXPECT_EQ(region->epoch(), 10u);
    }
    ASSERT_OK(Region::Unlink(name()));
    std::filesystem::remove_all(directory());
  }
}

// --- errors that come late -----------------------------------------------------------------------

class LateError : public JournalTest, public TwoPorts {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(Start(name(), Options())); }
  std::uint64_t segment() const {
    return journal::BatchE::Unpack(journal::ReadRing(control()).At(0).e).segment;
  }
};

// The writer is on its way to the disk, and gets there when others have written the same batch.
TEST_F(LateError, OnASegmentLeftBehindIsNoHarm) {
  const std::uint64_t before = segment();
  const Trap trap("journal.write", 1, [&] {
    EXPECT_OK(other->Await(1, Stage::kCommitted));
    while (segment() == before) EXPECT_OK(Advance(*other, kBigStateBytes));
    EXPECT_OK(Advance(*other));
    return EIO;
  });
  EXPECT_OK(Advance(*self));
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(head_phase(), detail::Phase::kOpen);
  ASSERT_OK(Advance(*self));
  ExpectCompleteHistory(directory(), region->epoch());
}

TEST_F(LateError, OnTheCurrentSegmentPoisons) {
  const Trap trap("journal.write", 1, [&] {
    EXPECT_OK(other->Await(1, Stage::kCommitted));
    return EIO;
  });
  // Its own commit was made durable by another; what comes after it is not to be trusted.
  const absl::StatusOr<Epoch> made = Advance(*self);
  EXPECT_TRUE(trap.sprung());
  EXPECT_TRUE(made.ok() || absl::IsDataLoss(made.status())) << made.status();
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
  EXPECT_FAILS(other->Commit("more"), kUnavailable, "nothing was changed");
  EXPECT_EQ(region->epoch(), 1u);
}

// --- memory that somebody wrote over -------------------------------------------------------------

TEST_F(LateError, AnAcceptedStateThatIsWrittenOverIsNotMadeDurable) {
  ASSERT_OK(Advance(*self));
  absl::StatusOr<Draft> draft = self->NewDraft(kCheckedStateBytes);
  ASSERT_OK(draft);
  std::byte* const bytes = draft->bytes().data();
  WriteChecked(draft->bytes(), 2);
  const absl::StatusOr<Ticket> ticket = self->Propose(*std::move(draft));
  ASSERT_OK(ticket);
  bytes[100] ^= std::byte{1};  // no longer its own
  EXPECT_FAILS(self->Await(*ticket), kDataLoss, "were overwritten in shared memory");
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
  EXPECT_EQ(region->epoch(), 1u);
  End();
  absl::StatusOr<Region> next = Region::Restore(name(), Options());
  ASSERT_OK(next);
  ExpectState(*next, 1);
}

}  // namespace
}  // namespace epoch::test
