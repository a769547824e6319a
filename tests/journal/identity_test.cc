// Which file is whose: copies of a region and of a journal, journals that lie elsewhere than they
// did, or nowhere any more, and those of others.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "journal_test.h"
#include "support/child.h"
#include "support/mounts.h"
#include "support/two_ports.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::HasSubstr;

class IdentityTest : public JournalTest {
 protected:
  void SetUp() override {
    absl::StatusOr<Region> region = Region::Create(name(), Options());
    ASSERT_OK(region);
    region_ = *std::move(region);
    absl::StatusOr<Participant> self = Participant::Join(*region_);
    ASSERT_OK(self);
    self_.emplace(*std::move(self));
    ASSERT_OK(Advance(*self_));
  }
  void LeaveAll() {
    self_.reset();
    region_.reset();
  }
  Region& region() { return *region_; }
  Participant& self() { return *self_; }
  // Until it is noticed that the journal is elsewhere, which some batches may come before.
  absl::StatusOr<Epoch> AdvanceUntilRefused(std::size_t size = kCheckedStateBytes) {
    absl::StatusOr<Epoch> made = Advance(self(), size);
    for (int i = 1; made.ok() && i < detail::Whereabouts::kLookEvery; ++i) {
      made = Advance(self(), size);
    }
    return made;
  }
  detail::Phase HeadPhase() {
    return detail::StateWord::Unpack(region().mapping()->view().control->head.Load()).phase;
  }
  RegionOptions With(const std::string& journal) const {
    RegionOptions options = Options();
    options.journal = journal;
    options.restore_timeout = absl::ZeroDuration();
    return options;
  }

  std::optional<Region> region_;
  std::optional<Participant> self_;
};

TEST_F(IdentityTest, ACopyOfARegionCommitsNothingToItsJournal) {
  const ScratchName copy;
  fs::copy_file(name_.path(), copy.path());
  EXPECT_FAILS(Region::Open(copy.name()), kFailedPrecondition, "is a copy of a region");
  EXPECT_FAILS(Region::OpenOrCreate(copy.name(), With(directory())), kFailedPrecondition,
               "is a copy of a region");
  ASSERT_OK(Advance(self()));
  EXPECT_FAILS(Region::Restore(copy.name(), With(directory())), kFailedPrecondition,
               "still attached to");
  LeaveAll();
  ASSERT_OK(Region::Unlink(name()));
  // Nobody is in the original: the copy's name may be had for what the journal holds.
  ASSERT_NO_FATAL_FAILURE(ExpectCompleteHistory(directory(), 2));
  absl::StatusOr<Region> restored = Region::OpenOrCreate(copy.name(), With(directory()));
  ASSERT_OK(restored);
  ExpectState(*restored, 2);
}

TEST_F(IdentityTest, ARegionIsOpenedWithItsOwnJournalOrNotAtAll) {
  const std::string other = scratch_ / "other", link = scratch_ / "link";
  const ScratchName others_name;
  {
    absl::StatusOr<Region> others = Region::Create(others_name.name(), With(other));
    ASSERT_OK(others);
  }
  for (const std::string& wrong : {other, scratch_ / "nowhere", scratch_.path()}) {
    for (const bool read_only : {false, true}) {
      RegionOptions options = With(wrong);
      options.read_only = read_only;
      EXPECT_FAILS(Region::Open(name(), options), kFailedPrecondition, "has its journal in");
      EXPECT_FAILS(Region::OpenOrCreate(name(), options), kFailedPrecondition, wrong);
    }
  }
  EXPECT_FALSE(fs::exists(scratch_ / "nowhere"));
  fs::create_directory_symlink(directory(), link);
  for (const std::string& right : {directory(), directory() + "/", link, link + "/."}) {
    absl::StatusOr<Region> opened = Region::Open(name(), With(right));
    ASSERT_OK(opened);
    EXPECT_EQ(opened->journal(), directory());
  }
}

TEST_F(IdentityTest, AJournalThatLiesElsewhereIsNamedAtOpen) {
  LeaveAll();
  const std::string elsewhere = scratch_ / "elsewhere";
  fs::rename(directory(), elsewhere);
  EXPECT_FAILS(Region::Open(name()), kFailedPrecondition, "say where it is");
  EXPECT_FAILS(Region::OpenOrCreate(name(), Options()), kFailedPrecondition, directory());
  EXPECT_FALSE(fs::exists(directory()));
  absl::StatusOr<Region> region = Region::Open(name(), With(elsewhere));
  ASSERT_OK(region);
  EXPECT_EQ(region->journal(), elsewhere);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  for (int i = 0; i < 12; ++i) ASSERT_OK(Advance(*self, kBigStateBytes));  // rolls there, too
  EXPECT_GT(SegmentsIn(elsewhere).size(), 1u);
  ExpectCompleteHistory(elsewhere, 13);
}

TEST_F(IdentityTest, ACopyOfAJournalIsNotWrittenTo) {
  const std::string copy = scratch_ / "copy", away = scratch_ / "away";
  fs::copy(directory(), copy);
  EXPECT_FAILS(Region::Open(name(), With(copy)), kFailedPrecondition, "is a copy of this region's");
  EXPECT_FAILS(Region::OpenOrCreate(name(), With(copy)), kFailedPrecondition, "is a copy of");
  LeaveAll();
  fs::rename(directory(), away);
  fs::rename(copy, directory());
  EXPECT_FAILS(Region::Open(name()), kFailedPrecondition, "is a copy of this region's journal");
  // A backup is there to be recovered from.
  ASSERT_OK(Region::Unlink(name()));
  ExpectRestores(Options(), 1);
}

// `removed`: the directory with all in it, or the files alone.
void Remove(const std::string& directory, bool whole) {
  if (whole) {
    fs::remove_all(directory);
    return;
  }
  for (const std::string& file : SegmentsIn(directory)) fs::remove(file);
}

TEST_F(IdentityTest, NoCommitIsAcknowledgedIntoAJournalThatWasRemoved) {
  for (const bool whole : {true, false}) {
    SCOPED_TRACE(whole);
    if (!whole) {
      LeaveAll();
      ASSERT_OK(Region::Unlink(name()));
      fs::remove_all(directory());
      ASSERT_NO_FATAL_FAILURE(SetUp());
    }
    ASSERT_OK(Advance(self()));
    ASSERT_OK(Advance(self()));  // its writer has just looked
    Remove(directory(), whole);
    EXPECT_FAILS(Advance(self()), kDataLoss, whole ? "the journal was removed" : "removed");
    EXPECT_EQ(HeadPhase(), detail::Phase::kPoisoned);
    EXPECT_FALSE(Advance(self()).ok());
    ExpectState(region(), 3);  // what was acknowledged can still be read
  }
}

TEST_F(IdentityTest, WritesThatGoOnByThemselvesDoNotCountInAJournalThatWasRemoved) {
  fs::remove_all(directory());
  absl::StatusOr<Ticket> ticket = absl::UnknownError("");
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<Draft> draft = self().NewDraft(100);
    ASSERT_OK(draft);
    ticket = self().Propose(*std::move(draft));
    if (!ticket.ok()) break;
  }
  if (ticket.ok()) {
    EXPECT_FALSE(self().Await(*ticket, kLong).ok());
  }
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_EQ(HeadPhase(), detail::Phase::kPoisoned);
}

TEST_F(IdentityTest, AJournalThatWasMovedHoldsCommitsUpUntilItIsBack) {
  const std::string away = scratch_ / "away";
  for (int round = 0; round < 2; ++round) {
    fs::rename(directory(), away);
    // Another journal in its place is not it, either.
    if (round == 1) fs::copy(away, directory());
    EXPECT_FAILS(AdvanceUntilRefused(), kUnavailable, "is not where it was");
    const Epoch before = region().epoch();
    EXPECT_FAILS(Advance(self()), kUnavailable, "is not where it was");
    EXPECT_EQ(region().epoch(), before);
    EXPECT_NE(HeadPhase(), detail::Phase::kPoisoned);
    const auto awaited = self().Await(before + 1, Stage::kCommitted, absl::ZeroDuration());
    EXPECT_FAILS(awaited, kUnavailable, "is not where it was");
    EXPECT_EQ(Details(awaited).cause, Cause::kJournalAway);
    EXPECT_EQ(Details(awaited).outcome, Outcome::kPending);
    fs::remove_all(directory());
    fs::rename(away, directory());
    ASSERT_OK(self().Await(before + 2, Stage::kCommitted, kLong));
    ASSERT_OK(Advance(self()));
  }
  // What was acknowledged before it was noticed is there, too.
  ExpectCompleteHistory(directory(), region().epoch());
}

TEST_F(IdentityTest, AJournalThatIsLeftWithAnotherNameHoldsCommitsUpUntilItIsBack) {
  const std::string kept = scratch_ / "kept";
  fs::create_directory(kept);
  for (const std::string& file : SegmentsIn(directory())) {
    fs::create_hard_link(file, kept + "/" + fs::path(file).filename().string());
  }
  ASSERT_OK(Advance(self()));
  fs::remove_all(directory());
  EXPECT_FAILS(AdvanceUntilRefused(), kUnavailable, "is not where it was");
  EXPECT_NE(HeadPhase(), detail::Phase::kPoisoned);
  const Epoch before = region().epoch();
  fs::rename(kept, directory());
  ASSERT_OK(self().Await(before + 1, Stage::kCommitted, kLong));
  ExpectCompleteHistory(directory(), before + 1);
}

TEST_F(IdentityTest, AtARollAJournalThatIsGoneIsNoticedToo) {
  LeaveAll();
  const std::string away = scratch_ / "away";
  absl::StatusOr<Region> region = Region::Open(name());
  ASSERT_OK(region);
  fs::rename(directory(), away);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  // The batch does not fit into what is left of the segment: this one begins with a roll.
  region_ = *region;
  self_.emplace(*std::move(self));
  for (int i = 0; i < 8; ++i) {
    const absl::Status advanced = AdvanceUntilRefused(kBigStateBytes).status();
    EXPECT_EQ(advanced.code(), absl::StatusCode::kUnavailable) << advanced;
    fs::rename(away, directory());
    EXPECT_OK(this->self().Await(this->region().epoch() + 1, Stage::kCommitted, kLong));
    fs::rename(directory(), away);
  }
  EXPECT_GT(SegmentsIn(away).size(), 1u);
  ExpectCompleteHistory(away, this->region().epoch());
  fs::remove_all(away);
  EXPECT_FAILS(Advance(this->self(), kBigStateBytes), kDataLoss, "removed");
}

// The segment that a process has open may be older, and rightly gone, when the journal is away.
TEST_F(IdentityTest, ASegmentThatWasRetiredIsNoSignOfAJournalThatIsGone) {
  LeaveAll();
  ASSERT_OK(Region::Unlink(name()));
  fs::remove_all(directory());
  RegionOptions options = Options();
  options.retain_segments = 1;
  TwoPorts two;
  ASSERT_NO_FATAL_FAILURE(two.Start(name(), options));
  ASSERT_OK(Advance(*two.self));
  const std::string third =
      journal::SegmentPath("", two.region->mapping()->superblock().journal, 3);
  ASSERT_TRUE(Await([&] {
    EXPECT_OK(Advance(*two.other, kBigStateBytes));
    two.also->mapping()->port()->Rest(two.other->slot());
    return "/" + fs::path(SegmentsIn(directory()).front()).filename().string() >= third;
  }));
  const Epoch before = two.region->epoch();
  const std::string away = scratch_ / "away";
  fs::rename(directory(), away);
  EXPECT_FAILS(Advance(*two.self), kUnavailable, "the journal is not where it was");
  EXPECT_NE(two.head_phase(), detail::Phase::kPoisoned);
  fs::rename(away, directory());
  ASSERT_OK(two.self->Await(before + 1, Stage::kCommitted, kLong));
  ExpectState(*two.region, before + 1);
}

// args: region, image, a copy of it, mount point. A copy of the whole filesystem has the same
// inodes, births and id; only its device is another. So is that of the original when it comes back,
// and nothing tells the two apart.
ROLE(OnDevicesThatComeAndGo) {
  const std::string image = self.args.at(1), copy = self.args.at(2), place = self.args.at(3);
  if (!MakeMountsPrivate() || !MakeImage(image, "ext4 -O ^fast_commit") ||
      !MountImage(image, place)) {
    self.wire.Say("no mounts here");
    return 0;
  }
  {
    const auto made = Region::Create(self.args.at(0), SmallDurable(place + "/journal"));
    ROLE_CHECK(made.ok(), made.status().ToString());
    auto me = Participant::Join(*made);
    ROLE_CHECK(me.ok() && Advance(*me).ok());
  }
  struct stat first {};
  ROLE_CHECK(stat(place.c_str(), &first) == 0 && umount(place.c_str()) == 0);
  fs::copy_file(image, copy);
  for (const std::string& which : {copy, image}) {
    // The copy takes the number that the original had, or another; then the original does.
    ROLE_CHECK(MountImage(which, place));
    struct stat now {};
    ROLE_CHECK(stat(place.c_str(), &now) == 0);
    const std::string opened = Region::Open(self.args.at(0)).status().ToString();
    if (now.st_dev == first.st_dev) {
      ROLE_CHECK(opened == "OK", opened);
      const std::string other = place + ".other";
      fs::create_directory(other);
      ROLE_CHECK(MountImage(which == copy ? image : copy, other));
      const std::string elsewhere =
          Region::Open(self.args.at(0), {.journal = other + "/journal"}).status().ToString();
      self.wire.Say(elsewhere);
      ROLE_CHECK(umount(other.c_str()) == 0);
    } else {
      self.wire.Say(opened);
    }
    ROLE_CHECK(umount(place.c_str()) == 0);
  }
  return 0;
}

TEST_F(IdentityTest, ADeviceThatComesBackUnderAnotherNumberIsRefusedAsWhatItCannotBeToldFrom) {
  if (getuid() != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string place = scratch_ / "mounted";
  fs::create_directory(place);
  const ScratchName another;
  Child child("OnDevicesThatComeAndGo",
              {another.name(), scratch_ / "image", scratch_ / "image.copy", place}, CLONE_NEWNS);
  for (int i = 0; i < 2; ++i) {
    const std::string said = child.Hear();
    if (said == "no mounts here") GTEST_SKIP() << said;
    EXPECT_THAT(said, testing::AllOf(HasSubstr("is a copy of this region's journal, or its device "
                                               "came back under another number (made on "),
                                     HasSubstr("recover it from here")));
  }
  EXPECT_EQ(child.Wait(), 0);
}

TEST(FileIdentity, OfACopyNamesInodesUnlessOnlyTheDeviceDiffers) {
  detail::FileIdentity made{};
  made.inode = 12;
  made.born_ns = 1000;
  made.volume = (std::uint64_t{7} << 32) | 1;
  detail::FileIdentity found = made;
  found.volume += 1;
  EXPECT_FALSE(detail::SameIdentity(made, found));
  EXPECT_THAT(detail::WhyCopy(made, found),
              testing::AllOf(HasSubstr("came back under another number"), HasSubstr("7:1"),
                             HasSubstr("7:2")));
  found.inode = 13;
  EXPECT_EQ(detail::WhyCopy(made, found), " (made as inode 12, this is 13)");
}

// args: region, an empty directory. Has another root before it commits.
ROLE(Chrooted) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> me = Participant::Join(*region);
  ROLE_CHECK(me.ok(), me.status().ToString());
  const detail::Fd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ROLE_CHECK(chroot(self.args.at(1).c_str()) == 0 && chdir("/") == 0);
  ROLE_CHECK(!region->orphaned());
  self.wire.Say(Advance(*me).status().ToString());
  // Back, for what a sanitizer does at the end of a process needs /proc.
  ROLE_CHECK(fchdir(root.get()) == 0 && chroot(".") == 0);
  return 0;
}

TEST_F(IdentityTest, ToHaveAnotherRootSinceIsNoFaultOfTheJournal) {
  if (getuid() != 0) GTEST_SKIP() << "only root may";
  const ScratchDirectory empty;
  Child child("Chrooted", {name(), empty.path()});
  EXPECT_EQ(child.Hear(), "OK");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(region().epoch(), 2u);
}

TEST_F(IdentityTest, WhatIsThereInPlaceOfAJournalIsLookedAtBeforeAnythingIsWritten) {
  const ScratchName fresh;
  const std::string odd = scratch_ / "odd", inner = scratch_ / "odd/inner";
  const auto expect_refused = [&](const std::string& journal, const std::string& words) {
    SCOPED_TRACE(words);
    for (const auto make : {&Region::Create, &Region::OpenOrCreate, &Region::Restore}) {
      const absl::Status refused = make(fresh.name(), With(journal)).status();
      EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
      EXPECT_THAT(std::string(refused.message()), HasSubstr(words));
    }
    EXPECT_FALSE(fs::exists(fresh.path()));
    // But for the journal that is there and for the oddity itself.
    EXPECT_EQ(std::distance(fs::directory_iterator(scratch_.path()), {}), 2);
  };
  fs::create_symlink(scratch_ / "not-there", odd);
  expect_refused(odd, "is a link to what is not there");
  fs::remove(odd);
  fs::create_symlink(odd, odd);
  expect_refused(odd, "leads to itself");
  fs::remove(odd);
  WriteText(odd, "text");
  expect_refused(odd, "is a file, not a directory");
  expect_refused(inner, "is not one");
  fs::remove(odd);
  ASSERT_EQ(mkfifo(odd.c_str(), 0600), 0);
  expect_refused(odd, "is a FIFO, not a directory");
}

TEST_F(IdentityTest, AJournalInMemoryIsSaidToBe) {
  EXPECT_FALSE(region().journal_in_memory()) << "unless the tests' scratch directory is";
  const ScratchName volatile_name;
  const std::string journal = "/dev/shm/" + name() + ".journal";
  {
    absl::StatusOr<Region> region = Region::Create(volatile_name.name(), With(journal));
    ASSERT_OK(region);
    EXPECT_TRUE(region->journal_in_memory());
  }
  fs::remove_all(journal);
}

TEST_F(IdentityTest, StartsThatCommitNothingLeaveNoSegments) {
  for (int i = 0; i < 10; ++i) ASSERT_OK(Advance(self(), kBigStateBytes));
  LeaveAll();
  const auto segments = SegmentsIn(directory());
  for (int start = 0; start < 10; ++start) {
    ASSERT_OK(Region::Unlink(name()));
    absl::StatusOr<Region> region = Region::OpenOrCreate(name(), Options());
    ASSERT_OK(region);
    ExpectState(*region, 11);
  }
  EXPECT_EQ(SegmentsIn(directory()).size(), segments.size() + 1);
  // One that was left by a death before it could be removed does no harm, and goes the next time.
  const std::string newest = SegmentsIn(directory()).back(), kept = scratch_ / "kept";
  fs::create_hard_link(newest, kept);
  ASSERT_OK(Region::Unlink(name()));
  ASSERT_OK(Region::OpenOrCreate(name(), Options()));
  fs::rename(kept, newest);
  EXPECT_EQ(SegmentsIn(directory()).size(), segments.size() + 2);
  ExpectCompleteHistory(directory(), 11);
  ASSERT_OK(Region::Unlink(name()));
  {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name(), Options());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    ASSERT_OK(Advance(*self));
  }
  EXPECT_EQ(SegmentsIn(directory()).size(), segments.size() + 1);
  ExpectCompleteHistory(directory(), 12);
  // One that holds something stays.
  ASSERT_OK(Region::Unlink(name()));
  ASSERT_OK(Region::OpenOrCreate(name(), Options()));
  EXPECT_EQ(SegmentsIn(directory()).size(), segments.size() + 2);
  ExpectCompleteHistory(directory(), 12);
}

TEST_F(IdentityTest, ANewJournalThatNothingWasWrittenToIsOneFileForEver) {
  LeaveAll();
  ASSERT_OK(Region::Unlink(name()));
  fs::remove_all(directory());
  for (int start = 0; start < 5; ++start) {
    ASSERT_OK(Region::OpenOrCreate(name(), Options()));
    ASSERT_OK(Region::Unlink(name()));
    EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
  }
  ExpectCompleteHistory(directory(), 0);
}

TEST_F(IdentityTest, AJournalOfAnotherUserIsRefusedUnlessAnOptionTrustsAllOwners) {
  if (getuid() != 0) GTEST_SKIP() << "only root can give files away";
  LeaveAll();
  constexpr uid_t kSomebody = 40001;
  const std::string segment = SegmentsIn(directory()).back();
  for (const std::string& given : {directory(), segment}) {
    ASSERT_EQ(chown(given.c_str(), kSomebody, 0), 0);
    EXPECT_FAILS(Region::Open(name()), kPermissionDenied, given + " belongs to user 40001");
    const ScratchName other;
    EXPECT_FAILS(Region::Restore(other.name(), With(directory())), kPermissionDenied, given);
    RegionOptions trusting;
    trusting.trust_other_owners = true;
    EXPECT_OK(Region::Open(name(), trusting));
    ASSERT_EQ(chown(given.c_str(), 0, 0), 0);
  }
  EXPECT_OK(Region::Open(name()));
  const std::string theirs = scratch_ / "theirs";
  fs::create_directory(theirs);
  ASSERT_EQ(chown(theirs.c_str(), kSomebody, 0), 0);
  const ScratchName fresh;
  EXPECT_FAILS(Region::Create(fresh.name(), With(theirs)), kPermissionDenied, theirs);
  EXPECT_TRUE(fs::is_empty(theirs));
}

}  // namespace
}  // namespace epoch::test
