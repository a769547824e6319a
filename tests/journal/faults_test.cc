// Devices that fail, disks that are full, kernels that refuse.
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>

#include "journal_test.h"
#include "support/child.h"
#include "support/mounts.h"
#include "support/refuse_calls.h"
#include "support/trap.h"
#include "support/two_ports.h"

namespace epoch::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

// While it lives, every passing of `label` (or the first `times`) fails with `error`.
class Fault {
 public:
  Fault(const char* label, int error, int times = 1 << 30) {
    label_ = label;
    error_ = error;
    left_ = times;
    seam::point_hook.store(&Fault::Passed);
  }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;
  ~Fault() { seam::point_hook.store(nullptr); }
  static int left() { return left_; }

 private:
  static int Passed(const char* label) {
    if (label_ != label || left_ <= 0) return 0;
    --left_;
    return error_;
  }
  static inline std::string_view label_;
  static inline std::atomic<int> error_{0};
  static inline std::atomic<int> left_{0};
};

class FaultTest : public JournalTest, public TwoPorts {
 protected:
  void Start() { Start(Options()); }
  void Start(const RegionOptions& options) { TwoPorts::Start(name(), options); }
  // Fills the segment until the next large state needs another one.
  void FillSegment() {
    const std::uint64_t capacity = region->mapping()->superblock().segment_bytes / kBlockBytes;
    for (;;) {
      const absl::StatusOr<journal::SegmentScan> scan = journal::Preview(directory());
      ASSERT_OK(scan);
      if (capacity - scan->end_block < journal::BlocksFor(kBigStateBytes)) return;
      ASSERT_OK(Advance(*self, kBigStateBytes));
    }
  }
};

TEST_F(FaultTest, AFailedWritePoisonsAndRecoveryGoesOn) {
  for (const int error : {EIO, ENXIO, EUCLEAN, EROFS}) {
    SCOPED_TRACE(std::strerror(error));
    ASSERT_NO_FATAL_FAILURE(Start());
    ASSERT_OK(Advance(*self));
    {
      const Fault fault("journal.write", error, 1);
      EXPECT_FAILS(Advance(*self), kDataLoss, "unknown until recovery");
      EXPECT_EQ(Fault::left(), 0);
    }
    EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
    // Others who wait for it are told the same; nothing new is taken on; reading goes on.
    EXPECT_FAILS(other->Await(2, Stage::kCommitted), kDataLoss, "unknown until recovery");
    for (Participant* who : {&*self, &*other}) {
      EXPECT_FAILS(who->Commit("more"), kUnavailable, "nothing was changed");
      const Pin pin = who->Pin();
      ASSERT_TRUE(pin.ok());
      EXPECT_EQ(pin.epoch(), 1u);
      EXPECT_EQ(ReadChecked(pin.state()), 1u);
    }
    // It is not replaced under those who still use it; afterwards it makes room.
    RegionOptions at_once = Options();
    at_once.restore_timeout = absl::ZeroDuration();
    EXPECT_FAILS(Region::Restore(name(), at_once), kFailedPrecondition,
                 "pid " + std::to_string(getpid()));
    End();
    absl::StatusOr<Region> next = Region::Restore(name(), Options());
    ASSERT_OK(next);
    EXPECT_GE(next->epoch(), 1u);
    EXPECT_LE(next->epoch(), 2u);
    ExpectState(*next, next->epoch());
    ASSERT_OK(Region::Unlink(name()));
    std::filesystem::remove_all(directory());
  }
}

TEST_F(FaultTest, ARegionThatShowedMoreThanTheJournalHoldsIsNotReplaced) {
  ASSERT_NO_FATAL_FAILURE(Start());
  for (int i = 0; i < 3; ++i) ASSERT_OK(Advance(*self));
  {
    const Fault fault("journal.write", EIO, 1);
    EXPECT_FAILS(Advance(*self), kDataLoss, "");
  }
  End();
  // The end of the log comes back as zeros, from epoch 3 on: no crash cut that.
  const std::vector<std::string> paths = SegmentsIn(directory());
  const Bytes segment = ReadBytes(paths[0]);
  const Bytes zeros(kBlockBytes);
  for (std::uint64_t block : {3u, 4u}) {
    Patch(paths[0], block * kBlockBytes, zeros.data(), zeros.size());
  }
  EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "epoch 3 was visible");
  EXPECT_TRUE(std::filesystem::exists(name_.path()));
}

TEST_F(FaultTest, InterruptedWritesAreRepeated) {
  ASSERT_NO_FATAL_FAILURE(Start());
  Epoch epoch = 0;
  for (const int error : {EINTR, EAGAIN}) {
    const Fault fault("journal.write", error, 3);
    ASSERT_OK(Advance(*self)) << std::strerror(error);
    EXPECT_EQ(Fault::left(), 0);
    ExpectState(*region, ++epoch);
  }
  EXPECT_EQ(head_phase(), detail::Phase::kOpen);
  ExpectCompleteHistory(directory(), epoch);
}

TEST_F(FaultTest, AFullDiskRefusesNewCommitsAndFinishesAcceptedOnesLater) {
  ASSERT_NO_FATAL_FAILURE(Start());
  // In a segment, whose space is not reserved any more, as well as for the next one.
  for (const char* label : {"journal.write", "journal.allocate", "journal.prepare"}) {
    SCOPED_TRACE(label);
    ASSERT_NO_FATAL_FAILURE(FillSegment());
    const Epoch before = region->epoch();
    {
      const Fault fault(label, ENOSPC);
      // Found out by whoever comes first: its commit is accepted, and waits.
      const auto late = Advance(*self, kBigStateBytes, {.timeout = kSoon});
      EXPECT_FAILS(late, kDeadlineExceeded, "is accepted, its outcome pending");
      EXPECT_THAT(MessageOf(late), HasSubstr("No space left on device"));
      // From then on nothing is taken on, by nobody.
      EXPECT_FAILS(self->Commit("new"), kResourceExhausted, "nothing was changed");
      for (int i = 0; i < 3; ++i) {
        EXPECT_FAILS(other->Commit("new"), kResourceExhausted, "nothing was changed");
      }
      EXPECT_EQ(region->epoch(), before);
      EXPECT_EQ(head_phase(), detail::Phase::kOpen);
      const Pin pin = self->Pin();
      EXPECT_EQ(ReadChecked(pin.state()), before);
    }
    // Space is back: no restart is needed.
    ASSERT_OK(other->Await(before + 1, Stage::kCommitted, kLong));
    ExpectState(*region, before + 1);
    ASSERT_OK(Advance(*other));
    ASSERT_OK(Advance(*self));
  }
  ExpectCompleteHistory(directory(), region->epoch());
  EXPECT_FALSE(std::filesystem::is_empty(directory()));
}

// All cells are accepted, and wait for the disk, which takes nothing.
TEST_F(FaultTest, ACommitThatFindsNoCellKeepsItsDeadline) {
  RegionOptions options = Options();
  options.versions = 4;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  absl::StatusOr<Participant> voter = Participant::Join(*region, {.name = "voter", .voter = true});
  ASSERT_OK(voter);
  ASSERT_NO_FATAL_FAILURE(FillSegment());
  const Fault fault("journal.prepare", ENOSPC);
  for (;;) {
    if (detail::Reclaim(region->mapping()->view()); CountCells(*region).free == 0) break;
    absl::StatusOr<Draft> draft = self->NewDraft(kBigStateBytes);
    ASSERT_OK(draft);
    ASSERT_OK(self->Propose(*std::move(draft)));
  }
  // The deadline is past: the disk is asked, and not again and again for as long as a draft without
  // a deadline would wait.
  constexpr absl::Duration kNone = absl::ZeroDuration();
  const auto expect_given_up = [&](const char* what, int most_tries,
                                   const std::function<absl::StatusOr<Epoch>()>& operation) {
    SCOPED_TRACE(what);
    const int before = Fault::left();
    EXPECT_FAILS(operation(), kDeadlineExceeded,
                 "no free version, and the journal does not move on");
    EXPECT_GT(before - Fault::left(), 0);
    EXPECT_LE(before - Fault::left(), most_tries);
  };
  expect_given_up("commit", 3, [&] { return self->Commit("new", {.timeout = kNone}); });
  expect_given_up("update", 3,
                  [&] { return Advance(*self, kCheckedStateBytes, {.timeout = kNone}); });
  // Which has 20 ms more, with the first wait of 0.4 ms and each longer than the one before.
  expect_given_up("collective", 20,
                  [&] { return voter->CommitCollective(1, "part", {.timeout = kNone}); });
}

TEST_F(FaultTest, AStallThatSomebodyElseOvercameIsForgotten) {
  ASSERT_NO_FATAL_FAILURE(Start());
  // A late report of one whose segment was made by others meanwhile.
  region->mapping()->view().control->journal_stall_errno.Store(ENOSPC);
  ASSERT_OK(Advance(*self));
  EXPECT_EQ(region->mapping()->view().control->journal_stall_errno.Load(), 0u);
}

// Who noted that there was no room may be dead; whoever writes after all has seen that there is.
TEST_F(FaultTest, AStallIsOverForAllAsSoonAsAnybodyWrites) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const Trap trap("journal.before_submit", 1, [&] {
    control().journal_stall_errno.Store(ENOSPC);
    return 0;
  });
  ASSERT_OK(Advance(*self));
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(control().journal_stall_errno.Load(), 0u);
}

// Evidence of what was committed last, which nobody waits for: what is written behind it would not
// be found all the same.
TEST_F(FaultTest, NothingIsWrittenBehindEvidenceThatFailed) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_OK(Advance(*self));
  const auto newest = [&] { return journal::ReadRing(control()).NewestW(); };
  ASSERT_TRUE(Await([&] {
    region->mapping()->port()->Rest(self->slot());
    return newest().hint_only && newest().state == detail::BatchState::kWritten;
  }));
  // As its writer leaves it, killed before it could poison head.
  detail::BatchW failed = newest();
  failed.state = detail::BatchState::kFailed;
  journal::ReadRing(control()).WordsAt(control(), 0).w.Store(failed.Pack());
  EXPECT_FAILS(Advance(*other), kDataLoss, "unknown until recovery");
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
  EXPECT_EQ(region->epoch(), 1u);
}

// NoChange(): what it has read is another's, and of this call there is nothing to pend.
TEST_F(FaultTest, NoChangeThatWaitsForWhatItReadChangesNothing) {
  ASSERT_NO_FATAL_FAILURE(Start());
  absl::StatusOr<Draft> draft = other->NewDraft(CheckedState(1));
  ASSERT_OK(draft);
  ASSERT_OK(other->Propose(*std::move(draft)));
  const auto unchanged = [](const Current& current, Draft&) {
    EXPECT_EQ(current.epoch, 1u);
    return NoChange();
  };
  const auto expect_unchanged = [](const absl::StatusOr<Epoch>& made, Cause cause) {
    EXPECT_THAT(MessageOf(made),
                testing::AllOf(HasSubstr("this call changed nothing, and waited for epoch 1"),
                               testing::Not(HasSubstr("pending"))));
    EXPECT_EQ(Details(made).outcome, Outcome::kUnchanged);
    EXPECT_EQ(Details(made).accepted, Epoch{1});
    EXPECT_EQ(Details(made).cause, cause);
  };
  {
    const Fault fault("journal.write", ENOSPC);
    const auto late = self->Update(unchanged, {.timeout = kSoon});
    EXPECT_FAILS(late, kDeadlineExceeded, "No space left on device");
    expect_unchanged(late, Cause::kTimedOut);
    const auto ticket = self->ProposeUpdate(unchanged);
    ASSERT_OK(ticket);
    EXPECT_TRUE(ticket->unchanged);
    const auto awaited = self->Await(*ticket, kSoon);
    EXPECT_FAILS(awaited, kDeadlineExceeded, "");
    expect_unchanged(awaited, Cause::kTimedOut);
    // Its proposer's own wait says what it said before.
    EXPECT_EQ(Details(other->Await(Ticket{1}, kSoon)).outcome, Outcome::kPending);
  }
  {
    const Fault fault("journal.write", EIO);
    const auto lost = self->Update(unchanged);
    EXPECT_FAILS(lost, kDataLoss, "unknown until recovery");
    expect_unchanged(lost, Cause::kPoisoned);
  }
}

TEST_F(FaultTest, AWaitingCommitGoesThroughWhenSpaceReturns) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(FillSegment());
  const Epoch before = region->epoch();
  absl::StatusOr<Epoch> made = absl::UnknownError("not yet");
  std::thread waiting;
  {
    const Fault fault("journal.allocate", ENOSPC);
    waiting = std::thread([&] { made = Advance(*self, kBigStateBytes); });
    while (region->mapping()->view().control->journal_stall_errno.Load() == 0) {
      std::this_thread::yield();
    }
    EXPECT_EQ(region->epoch(), before);
  }
  waiting.join();
  ASSERT_OK(made);
  ExpectState(*region, before + 1);
}

TEST_F(FaultTest, AReadErrorIsNotTheEndOfTheLog) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 500}));
  const Bytes before = ReadBytes(SegmentsIn(directory())[0]);
  for (const int nth : {1, 2}) {
    const Trap trap("journal.read", nth, [] { return EIO; });
    EXPECT_FAILS(Region::Restore(name(), Options()), kInternal, "read error at offset 0");
    EXPECT_TRUE(trap.sprung());
  }
  {
    const Fault fault("journal.read", EIO);
    EXPECT_FAILS(journal::Preview(directory()), kInternal, "read error at offset 0");
  }
  const Fault interrupted("journal.read", EINTR, 3);
  ASSERT_EQ(SegmentsIn(directory()).size(), 1u);
  EXPECT_EQ(ReadBytes(SegmentsIn(directory())[0]), before);
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
  ExpectRestores(Options(), 2);
}

TEST_F(FaultTest, WhatCannotBeMadeDurableIsNotTakenOverFrom) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 500}));
  const Bytes before = ReadBytes(SegmentsIn(directory())[0]);
  for (const auto& [error, code] : {std::pair{EIO, absl::StatusCode::kInternal},
                                    {ENOSPC, absl::StatusCode::kResourceExhausted}}) {
    const Fault fault("journal.write", error, 1);
    const absl::Status status = Region::Restore(name(), Options()).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("holds cannot be made durable"));
  }
  ASSERT_EQ(SegmentsIn(directory()).size(), 1u);
  EXPECT_EQ(ReadBytes(SegmentsIn(directory())[0]), before);
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
  ExpectRestores(Options(), 2);
  // The same bytes were written, at the same place.
  EXPECT_EQ(ReadBytes(SegmentsIn(directory())[0]), before);
}

TEST_F(FaultTest, NoRoomForTheNextIncarnationLeavesTheOldOne) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 500}));
  for (const char* label : {"journal.allocate", "journal.prepare", "create.allocate"}) {
    const Fault fault(label, ENOSPC);
    EXPECT_FAILS(Region::Restore(name(), Options()), kResourceExhausted, "No space left");
    EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
    EXPECT_FALSE(std::filesystem::exists(name_.path()));
  }
  ExpectRestores(Options(), 2);
}

TEST_F(FaultTest, NoRoomForANewJournalLeavesNothing) {
  for (const char* label : {"journal.allocate", "journal.prepare", "create.allocate"}) {
    const Fault fault(label, ENOSPC);
    EXPECT_FAILS(Region::Create(name(), Options()), kResourceExhausted, "No space left");
    EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
    EXPECT_FALSE(std::filesystem::exists(name_.path()));
  }
}

TEST_F(FaultTest, WithoutARingThePlainCallWritesAsWell) {
  for (const int error : {EPERM, ENOSYS, ENOMEM}) {
    SCOPED_TRACE(std::strerror(error));
    const Fault fault("uring.setup", error);
    ASSERT_NO_FATAL_FAILURE(Start());
    for (int i = 0; i < 12; ++i) ASSERT_OK(Advance(*self, kBigStateBytes));
    EXPECT_THAT(region->mapping()->port()->backend(), StartsWith("pwritev2"));
    End();
    ASSERT_OK(Region::Unlink(name()));
    ExpectCompleteHistory(directory(), 12);
    std::filesystem::remove_all(directory());
  }
}

TEST_F(FaultTest, AFailedPlainWritePoisonsToo) {
  ASSERT_NO_FATAL_FAILURE(Start());
  {
    const Fault fault("uring.setup", EPERM);
    ASSERT_OK(Advance(*self));
  }
  {
    const Fault interrupted("journal.write", EINTR, 5);
    ASSERT_OK(Advance(*self));
    EXPECT_EQ(Fault::left(), 0);
  }
  const Fault fault("journal.write", EIO, 1);
  EXPECT_FAILS(Advance(*self), kDataLoss, "unknown until recovery");
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
  End();
  absl::StatusOr<Region> next = Region::Restore(name(), Options());
  ASSERT_OK(next);
  ExpectState(*next, 2);  // nothing of it had reached the disk
}

ROLE(WithoutIoUring) {
  ROLE_CHECK(RefuseIoUring());
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  for (int i = 0; i < 10; ++i) ROLE_CHECK(Advance(*joined, kBigStateBytes).ok());
  self.wire.Say(region->mapping()->port()->backend());
  return 0;
}

TEST_F(FaultTest, AKernelThatRefusesIoUringIsNoObstacle) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_OK(Advance(*self));
  Child child("WithoutIoUring", {name()});
  EXPECT_THAT(child.Hear(), StartsWith("pwritev2"));
  EXPECT_EQ(child.Wait(), 0);
  ASSERT_OK(Advance(*self));
  ExpectCompleteHistory(directory(), 12);
}

TEST_F(FaultTest, AJournalInMemoryWorksWithOrWithoutDirectIo) {
  RegionOptions options = Options();
  options.journal = name_.path() + ".journal";  // beside the region, in /dev/shm
  for (int life = 0; life < 2; ++life) {
    absl::StatusOr<Region> opened = Region::OpenOrCreate(name(), options);
    EXPECT_OK(opened);
    if (!opened.ok()) break;
    absl::StatusOr<Participant> joined = Participant::Join(*opened);
    EXPECT_OK(joined);
    for (int i = 0; i < 10; ++i) EXPECT_OK(Advance(*joined, kBigStateBytes));
    EXPECT_THAT(opened->mapping()->port()->backend(),
                AnyOf("io_uring", "io_uring+buffered", "pwritev2", "pwritev2+buffered"));
    EXPECT_EQ(opened->epoch(), static_cast<Epoch>(life + 1) * 10);
    EXPECT_OK(Region::Unlink(name()));
  }
  ExpectCompleteHistory(options.journal, 20);
  std::filesystem::remove_all(options.journal);
}

// In a mount namespace of its own: a small filesystem that really runs full.
ROLE(OnASmallDisk) {
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
  const std::string ballast = mount_point + "/ballast";
  WriteBytes(ballast, Bytes(std::size_t{1} << 20));
  const auto& stall = region->mapping()->view().control->journal_stall_errno;
  absl::StatusOr<Epoch> made;
  Epoch next = 1;
  do {
    absl::StatusOr<Draft> draft = joined->NewDraft(CheckedState(next, kBigStateBytes));
    ROLE_CHECK(draft.ok(), draft.status().ToString());
    const absl::StatusOr<Ticket> ticket = joined->Propose(*std::move(draft));
    ROLE_CHECK(ticket.ok(), ticket.status().ToString());
    ROLE_CHECK(ticket->epoch == next++);
    // It is on disk, or the disk is full: not, that it takes long.
    ROLE_CHECK(Await([&] {
      made = joined->Await(*ticket, kSoon);
      return made.ok() || stall.Load() != 0;
    }));
  } while (made.ok());
  ROLE_CHECK(absl::IsDeadlineExceeded(made.status()), made.status().ToString());
  const Epoch before = region->epoch();
  made = joined->Commit("new");
  ROLE_CHECK(absl::IsResourceExhausted(made.status()), made.status().ToString());
  ROLE_CHECK(std::filesystem::remove(ballast));
  made = joined->Await(before + 1, Stage::kCommitted, kLong);
  ROLE_CHECK(made.ok(), made.status().ToString());
  ROLE_CHECK(Advance(*joined).ok());
  ROLE_CHECK(region->epoch() == before + 2);
  self.wire.Say("survived");
  return 0;
}

TEST_F(FaultTest, ADiskThatReallyRunsFullIsSurvived) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string mount_point = scratch_ / "small";
  std::filesystem::create_directory(mount_point);
  Child child("OnASmallDisk", {name(), mount_point}, CLONE_NEWNS);
  const std::string said = child.Hear();
  EXPECT_EQ(child.Wait(), 0);
  if (said == "no mounts here") GTEST_SKIP() << said;
  EXPECT_EQ(said, "survived");
}

// As another user, who may use the region but not make files in its journal.
ROLE(AsNobody) {
  ROLE_CHECK(setgid(65534) == 0 && setuid(65534) == 0);
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  self.wire.Say(region.status().ToString());
  if (!region.ok()) return 0;
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  absl::StatusOr<Epoch> made;
  do {
    made = Advance(*joined, kBigStateBytes);
  } while (made.ok());
  self.wire.Say(made.status().ToString());
  return 0;
}

TEST_F(FaultTest, AUserWithoutPermissionIsToldWhatIsMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs a second user";
  RegionOptions options = Options();
  options.mode = 0666;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  ASSERT_EQ(chmod(directory().c_str(), 0700), 0);
  {
    Child child("AsNobody", {name()});
    EXPECT_THAT(child.Hear(),
                testing::AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr(directory())));
    EXPECT_EQ(child.Wait(), 0);
  }
  ASSERT_EQ(chmod(directory().c_str(), 0755), 0);
  {
    Child child("AsNobody", {name()});
    EXPECT_EQ(child.Hear(), "OK");
    EXPECT_THAT(
        child.Hear(),
        testing::AllOf(StartsWith("UNAVAILABLE"), HasSubstr("is accepted, its outcome pending"),
                       HasSubstr("Permission denied"), HasSubstr(directory())));
    EXPECT_EQ(child.Wait(), 0);
  }
  // Its last one was accepted; whoever may, finishes it.
  const Epoch epoch = region->epoch();
  ASSERT_OK(Advance(*self));
  EXPECT_EQ(region->epoch(), epoch + 2);
  ExpectCompleteHistory(directory(), epoch + 2);
}

}  // namespace
}  // namespace epoch::test
