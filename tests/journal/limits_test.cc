// What one process may not do, or has no room for, is its own error: the region goes on, and others
// write what it could not.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "epoch/detail/platform/blame.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/mounts.h"
#include "support/refuse_calls.h"
#include "support/trap.h"
#include "support/two_ports.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Blame, IsTheDevicesOnlyWhereTheDeviceFailed) {
  using detail::Attempt;
  using detail::Blame;
  using detail::BlameFor;
  for (const Attempt attempt : {Attempt::kWrite, Attempt::kSync, Attempt::kName}) {
    for (const int error : {EINTR, EAGAIN}) EXPECT_EQ(BlameFor(error, attempt), Blame::kNobodys);
    for (const int error : {EFBIG, EMFILE, ENFILE, ENOMEM, EPERM, EACCES, ENOSYS, EOPNOTSUPP,
                            EINVAL, ECANCELED, EBADF, ENOENT, ELOOP}) {
      EXPECT_EQ(BlameFor(error, attempt), Blame::kCallers) << std::strerror(error);
    }
    for (const int error : {EIO, ENXIO, ENODEV, EUCLEAN, ETIMEDOUT, EREMOTEIO, 4000}) {
      EXPECT_EQ(BlameFor(error, attempt), Blame::kDevices) << std::strerror(error);
    }
  }
  // What a sync could not write may be gone; a write is made again as a whole.
  for (const int error : {ENOSPC, EDQUOT}) {
    EXPECT_EQ(BlameFor(error, Attempt::kWrite), Blame::kCallers);
    EXPECT_EQ(BlameFor(error, Attempt::kName), Blame::kCallers);
    EXPECT_EQ(BlameFor(error, Attempt::kSync), Blame::kDevices);
  }
  EXPECT_EQ(BlameFor(EROFS, Attempt::kWrite), Blame::kDevices);
  EXPECT_EQ(BlameFor(EROFS, Attempt::kName), Blame::kCallers);
}

class LimitsTest : public JournalTest, public TwoPorts {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(Start(name(), Options())); }
  // Nothing is poisoned, and the other one finishes what was accepted and goes on.
  void ExpectOthersGoOn(Epoch accepted) {
    EXPECT_EQ(head_phase(), detail::Phase::kOpen);
    ASSERT_OK(other->Await(accepted, Stage::kCommitted, kLong));
    ASSERT_OK(Advance(*other));
    ExpectState(*region, accepted + 1);
  }
};

TEST_F(LimitsTest, WhatOneProcessMayNotWriteAnotherWrites) {
  for (const int error : {EFBIG, EMFILE, ENOMEM, EPERM, EACCES, EINVAL, ENOSYS, ECANCELED}) {
    SCOPED_TRACE(std::strerror(error));
    const Epoch before = region->epoch();
    {
      const Trap trap("journal.write", 1, [error] { return error; });
      const absl::StatusOr<Epoch> made = Advance(*self);
      EXPECT_TRUE(trap.sprung());
      EXPECT_FALSE(made.ok() || absl::IsDataLoss(made.status())) << made.status();
      EXPECT_THAT(MessageOf(made), HasSubstr(std::strerror(error)));
    }
    ASSERT_NO_FATAL_FAILURE(ExpectOthersGoOn(before + 1));
  }
  ExpectCompleteHistory(directory(), region->epoch());
}

// What a vote waits for is not on disk, and its proposer may not write: the others may, and the
// journal has not failed.
TEST_F(LimitsTest, AVoteThatItsProposerMayNotWriteIsTakenBackInTheWordsOfThat) {
  for (const int error : {EFBIG, EPERM, ENOMEM}) {
    for (const bool fence : {false, true}) {
      SCOPED_TRACE(absl::StrCat(std::strerror(error), fence ? ", fenced" : ""));
      const Epoch before = region->epoch();
      absl::StatusOr<Draft> draft = self->NewDraft(CheckedState(before + 1));
      ASSERT_OK(draft);
      ASSERT_OK(self->Propose(*std::move(draft)));
      const CommitOptions options{.agreement = fence ? Agreement::kNone : Agreement::kAllVoters,
                                  .min_voters = 0,
                                  .fence = fence,
                                  .timeout = kLong};
      {
        const Trap trap("journal.write", 1, [error] { return error; });
        const absl::StatusOr<Epoch> made = Advance(*self, kCheckedStateBytes, options);
        EXPECT_TRUE(trap.sprung());
        EXPECT_FALSE(made.ok());
        EXPECT_THAT(MessageOf(made),
                    AllOf(HasSubstr(std::strerror(error)), HasSubstr("was taken back"),
                          HasSubstr("nothing was changed"), Not(HasSubstr("journal has failed"))));
        const ErrorDetails why = Details(made);
        EXPECT_EQ(why.outcome, Outcome::kUnchanged);
        EXPECT_NE(why.cause, Cause::kPoisoned);
        EXPECT_NE(why.cause, Cause::kNone);
      }
      ASSERT_NO_FATAL_FAILURE(ExpectOthersGoOn(before + 1));
    }
  }
  ExpectCompleteHistory(directory(), region->epoch());
}

TEST_F(LimitsTest, WhatStaysInTheWayIsAnErrorAndNotAnEndlessLoop) {
  static int in_the_way = 0;
  for (const int error : {EINTR, EAGAIN}) {
    SCOPED_TRACE(std::strerror(error));
    const Epoch epoch = region->epoch();
    in_the_way = error;
    seam::point_hook.store([](const char* label) {
      return std::string_view(label) == "journal.write" ? in_the_way : 0;
    });
    const absl::StatusOr<Epoch> made = Advance(*self);
    seam::point_hook.store(nullptr);
    EXPECT_FALSE(made.ok());
    EXPECT_THAT(MessageOf(made), HasSubstr(std::strerror(error)));
    ASSERT_NO_FATAL_FAILURE(ExpectOthersGoOn(epoch + 1));
  }
}

// The name of a segment, or of a spare, is not known to be durable; whoever comes next makes it so.
TEST_F(LimitsTest, ANameThatOneProcessMayNotSyncIsForAnother) {
  for (const char* label : {"spare.named", "aftermath.named"}) {
    SCOPED_TRACE(label);
    const Trap trap(label, 1, [] { return EPERM; });
    // One whose sync was refused, or whose maker has left since, never comes: then on to the next
    // segment, which may have one.
    int looks = 0;
    while (!trap.sprung()) {
      ASSERT_OK(Advance(*self));
      ASSERT_OK(AwaitSpare(*region, *self, [&] { return trap.sprung() || ++looks % 32 == 0; }));
    }
    for (int i = 0; i < 3; ++i) ASSERT_OK(Advance(*self, kBigStateBytes));
    ASSERT_NO_FATAL_FAILURE(ExpectOthersGoOn(region->epoch()));
  }
  ExpectCompleteHistory(directory(), region->epoch());
}

// args: region, largest size of a file, "call" or "queue". As programs do that ignore SIGXFSZ.
ROLE(WithSmallFiles) {
  signal(SIGXFSZ, SIG_IGN);
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  const rlimit limit{.rlim_cur = std::stoul(self.args.at(1)), .rlim_max = RLIM_INFINITY};
  ROLE_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  if (self.args.at(2) == "call") {
    absl::StatusOr<Epoch> made;
    do {
      made = Advance(*joined, kBigStateBytes);
    } while (made.ok());
    self.wire.Say(made.status().ToString());
    return 0;
  }
  absl::StatusOr<Ticket> last;
  Epoch next = region->epoch() + 1;
  for (int i = 0; i < 3; ++i, ++next) {  // each is more than is sent at once
    absl::StatusOr<Draft> draft = joined->NewDraft(CheckedState(next, kBigStateBytes));
    ROLE_CHECK(draft.ok(), draft.status().ToString());
    last = joined->Propose(*std::move(draft));
    ROLE_CHECK(last.ok(), last.status().ToString());
  }
  self.wire.Say(joined->Await(*last, kLong).status().ToString());
  return 0;
}

TEST_F(LimitsTest, AFileSizeLimitIsTheErrorOfWhoHasIt) {
  const std::uint64_t segment = region->mapping()->superblock().segment_bytes;
  for (const std::string how : {"call", "queue"}) {
    // In the middle of a batch, at a block and not; at the end, so that the next segment is too
    // large.
    for (const std::uint64_t limit :
         {std::uint64_t{25} * kBlockBytes, std::uint64_t{25} * kBlockBytes + 1000, segment - 1}) {
      if (how == "queue" && limit == segment - 1) continue;  // it does not roll
      SCOPED_TRACE(how + " " + std::to_string(limit));
      const Epoch before = region->epoch();
      Child child("WithSmallFiles", {name(), std::to_string(limit), how});
      const std::string said = child.Hear();
      EXPECT_THAT(said, AllOf(HasSubstr(std::strerror(EFBIG)), HasSubstr("its outcome pending")));
      EXPECT_EQ(child.Wait(), 0);
      const auto tail = detail::StateWord::Unpack(region->mapping()->view().control->tail.Load());
      EXPECT_GT(tail.epoch, before);
      ASSERT_NO_FATAL_FAILURE(ExpectOthersGoOn(tail.epoch));
    }
  }
  ExpectCompleteHistory(directory(), region->epoch());
}

// args: region, mount point. On a small filesystem of its own, whose last blocks somebody else
// takes after the segment has given its own back, as `fallocate -d`, snapshots and compression do.
ROLE(OnBlocksGivenBack) {
  const std::string mount_point = self.args.at(1);
  if (!MountSmallDisk(mount_point)) {
    self.wire.Say("no mounts here");
    return 0;
  }
  const RegionOptions options = SmallDurable(mount_point + "/journal");
  absl::StatusOr<Region> region = Region::Create(self.args.at(0), options);
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  ROLE_CHECK(Advance(*joined).ok());
  const detail::Fd segment(open(SegmentsIn(options.journal)[0].c_str(), O_RDWR | O_CLOEXEC));
  constexpr off_t kUsed = 8 * kBlockBytes;
  ROLE_CHECK(fallocate(segment.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kUsed,
                       static_cast<off_t>(options.segment_bytes) - kUsed) == 0);
  const std::string ballast = mount_point + "/ballast";
  const detail::Fd filler(open(ballast.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  off_t filled = 0;
  const Bytes block(kBlockBytes);
  while (write(filler.get(), block.data(), block.size()) > 0) filled += kBlockBytes;
  ROLE_CHECK(ftruncate(filler.get(), filled - 20 * off_t{kBlockBytes}) == 0);  // for a part

  absl::StatusOr<Epoch> made = Advance(*joined, kBigStateBytes, {.timeout = kSoon});
  ROLE_CHECK(absl::IsDeadlineExceeded(made.status()), made.status().ToString());
  self.wire.Say(made.status().ToString());
  made = joined->Commit("new");
  ROLE_CHECK(absl::IsResourceExhausted(made.status()), made.status().ToString());
  ROLE_CHECK(region->epoch() == 1);
  ROLE_CHECK(std::filesystem::remove(ballast) && ftruncate(filler.get(), 0) == 0);
  made = joined->Await(2, Stage::kCommitted, kLong);
  ROLE_CHECK(made.ok(), made.status().ToString());
  for (int i = 0; i < 3; ++i) ROLE_CHECK(Advance(*joined).ok());
  ROLE_CHECK(region->mapping()->view().control->journal_stall_errno.Load() == 0);
  ExpectCompleteHistory(options.journal, 5);
  self.wire.Say(testing::Test::HasFailure() ? "history" : "survived");
  return 0;
}

TEST_F(LimitsTest, ASegmentWithoutItsBlocksIsAFullDisk) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string mount_point = scratch_ / "small";
  std::filesystem::create_directory(mount_point);
  const ScratchName another;
  Child child("OnBlocksGivenBack", {another.name(), mount_point}, CLONE_NEWNS);
  const std::string said = child.Hear();
  if (said == "no mounts here") GTEST_SKIP() << said;
  EXPECT_THAT(said, AllOf(HasSubstr("No space left on device"), HasSubstr("pending")));
  EXPECT_EQ(child.Hear(), "survived");
  EXPECT_EQ(child.Wait(), 0);
}

// In a mount namespace of its own, so that mount and loop device go with it.
ROLE(OnExt2) {
  const std::string image = self.args.at(1), mount_point = self.args.at(2);
  if (!MakeMountsPrivate() || !MakeImage(image, "ext2") || !MountImage(image, mount_point)) {
    self.wire.Say("no mounts here");
    return 0;
  }
  const std::string directory = mount_point + "/journal";
  {
    absl::StatusOr<Region> region = Region::Create(self.args.at(0), SmallDurable(directory));
    self.wire.Say(region.status().ToString());
    if (!region.ok()) return 0;
    absl::StatusOr<Participant> joined = Participant::Join(*region);
    ROLE_CHECK(joined.ok(), joined.status().ToString());
    for (int i = 0; i < 12; ++i) ROLE_CHECK(Advance(*joined, kBigStateBytes).ok());
  }
  ExpectCompleteHistory(directory, 12);
  ROLE_CHECK(!testing::Test::HasFailure());
  ROLE_CHECK(umount(mount_point.c_str()) == 0);
  return 0;
}

TEST_F(LimitsTest, AFilesystemThatReservesNothingWillDo) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string mount_point = scratch_ / "mounted";
  std::filesystem::create_directory(mount_point);
  const ScratchName another;
  Child child("OnExt2", {another.name(), scratch_ / "image", mount_point}, CLONE_NEWNS);
  const std::string said = child.Hear();
  EXPECT_EQ(child.Wait(), 0);
  if (said == "no mounts here") GTEST_SKIP() << said;
  EXPECT_EQ(said, "OK");
}

}  // namespace
}  // namespace epoch::test
