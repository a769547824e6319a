// Who owns a journal: attached processes, the dead, fork children, superseded regions, races.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>

#include "journal_test.h"
#include "support/child.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

// Joins, commits once, and stays until it is told to go.
ROLE(Resident) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  const absl::StatusOr<Epoch> made = Advance(*joined);
  ROLE_CHECK(made.ok(), made.status().ToString());
  self.wire.Say("resident");
  while (self.wire.Hear() == "commit") self.wire.Say(Advance(*joined).status().ToString());
  return 0;
}

// As Resident, with a fork child that outlives it.
ROLE(Parent) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  ROLE_CHECK(Advance(*joined).ok());  // the ring is in use by now
  const pid_t child = fork();
  if (child == 0) {
    // Says "joined" only when asked: until then it must not count as attached.
    while (self.wire.Hear() == "join") {
      absl::StatusOr<Participant> mine = Participant::Join(*region);
      if (!mine.ok()) {
        self.wire.Say(mine.status().ToString());
        continue;
      }
      self.wire.Say(Advance(*mine).status().ToString());
    }
    _exit(0);
  }
  self.wire.Say(std::to_string(child));
  for (;;) pause();
}

class OwnershipTest : public JournalTest {
 protected:
  void SetUp() override { ASSERT_OK(Region::Create(name(), Options())); }
  RegionOptions AtOnce() const {
    RegionOptions options = Options();
    options.restore_timeout = kSoon;
    return options;
  }
};

TEST_F(OwnershipTest, AStoppedProcessKeepsTheJournalUntilItIsGone) {
  Child child("Resident", {name()});
  ASSERT_EQ(child.Hear(), "resident");
  child.Stop();
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_FAILS(Region::Restore(name(), AtOnce()), kFailedPrecondition,
               "pid " + std::to_string(child.pid()));
  EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
  child.Kill();
  ExpectRestores(Options(), 1);
}

TEST_F(OwnershipTest, RestoreWaitsForAProcessThatIsAboutToGo) {
  Child child("Resident", {name()});
  ASSERT_EQ(child.Hear(), "resident");
  ASSERT_OK(Region::Unlink(name()));
  absl::StatusOr<Region> restored = absl::UnknownError("not yet");
  std::thread restoring([&] { restored = Region::Restore(name(), Options()); });
  child.Say("leave");
  EXPECT_EQ(child.Wait(), 0);
  restoring.join();
  ASSERT_OK(restored);
  ExpectState(*restored, 1);
}

TEST_F(OwnershipTest, AForkChildDoesNotKeepItsParentsHold) {
  Child parent("Parent", {name()});
  const std::string said = parent.Hear();
  const pid_t grandchild = std::stoi(said);
  ASSERT_GT(grandchild, 0);
  parent.Kill();
  EXPECT_EQ(kill(grandchild, 0), 0) << "the child must still live for this to mean anything";
  ASSERT_OK(Region::Unlink(name()));
  ExpectRestores(Options(), 1);

  // The child's region is history now, and it is told so.
  parent.Say("join");
  EXPECT_THAT(parent.Hear(), HasSubstr("superseded"));
  parent.Say("end");
  EXPECT_EQ(parent.Hear(), "<gone>");
}

TEST_F(OwnershipTest, AForkChildJoinsAndCommitsByItself) {
  Child parent("Parent", {name()});
  ASSERT_GT(std::stoi(parent.Hear()), 0);
  for (int i = 0; i < 3; ++i) {
    parent.Say("join");
    EXPECT_EQ(parent.Hear(), "OK");
  }
  parent.Kill();  // the child goes on alone, with a hold of its own
  parent.Say("join");
  EXPECT_EQ(parent.Hear(), "OK");
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_FAILS(Region::Restore(name(), AtOnce()), kFailedPrecondition, "attached");
  parent.Say("end");
  EXPECT_EQ(parent.Hear(), "<gone>");
  ExpectRestores(Options(), 5);
}

// Forks while another thread is inside the journal: the child must find it usable.
ROLE(ForkingWhileCommitting) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  std::atomic<bool> stop{false};
  std::thread committing([&] {
    absl::StatusOr<Participant> joined = Participant::Join(*region);
    ROLE_CHECK(joined.ok(), joined.status().ToString());
    while (!stop) ROLE_CHECK(Advance(*joined).ok());
  });
  const Epoch start = region->epoch();
  while (region->epoch() == start) std::this_thread::yield();
  for (int i = 0; i < 40; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(kLong_s);  // ends it if it hangs
      absl::StatusOr<Participant> mine = Participant::Join(*region);
      _exit(mine.ok() && Advance(*mine).ok() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ROLE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, std::to_string(status));
  }
  stop = true;
  committing.join();
  return 0;
}

TEST_F(OwnershipTest, AForkInTheMiddleOfACommitLeavesAUsableChild) {
#if defined(EPOCH_THREAD_SANITIZER)
  GTEST_SKIP() << "TSan does not follow a multi-threaded fork";
#elif defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "ASan's allocator may be locked by a thread that the child does not have";
#endif
  Child child("ForkingWhileCommitting", {name()});
  EXPECT_EQ(child.Wait(), 0);
  const absl::StatusOr<Region> region = Region::Open(name());
  ASSERT_OK(region);
  EXPECT_GT(region->epoch(), 40u);
  ExpectCompleteHistory(directory(), region->epoch());
}

TEST_F(OwnershipTest, ASupersededRegionIsRefused) {
  // The old region's file survives under another name; nobody is attached to it.
  const ScratchName old;
  ASSERT_EQ(rename(name_.path().c_str(), old.path().c_str()), 0);
  absl::StatusOr<Region> current = Region::Restore(name(), Options());
  ASSERT_OK(current);
  EXPECT_FAILS(Region::Open(old.name()), kFailedPrecondition, "superseded");
  EXPECT_FAILS(Region::OpenOrCreate(old.name(), Options()), kFailedPrecondition, "superseded");
  // It can still be looked at.
  EXPECT_OK(Region::Open(old.name(), {.read_only = true}));
}

TEST_F(OwnershipTest, AProcessOnAnOlderSegmentCanNotWriteIntoTheNextIncarnation) {
  // Its hold is on segment 1, which is not the newest any more when everybody else is gone.
  Child old("Resident", {name()});
  ASSERT_EQ(old.Hear(), "resident");
  {
    absl::StatusOr<Region> region = Region::Open(name());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    while (SegmentsIn(directory()).size() < 3) ASSERT_OK(Advance(*self, kBigStateBytes));
  }
  ASSERT_OK(Region::Unlink(name()));
  const absl::StatusOr<journal::SegmentScan> before = journal::Preview(directory());
  ASSERT_OK(before);
  absl::StatusOr<Region> current = Region::Restore(name(), Options());
  ASSERT_OK(current);
  absl::StatusOr<Participant> self = Participant::Join(*current);
  ASSERT_OK(self);
  for (int i = 0; i < 6; ++i) {
    old.Say("commit");
    // Into what is left of the segment that it knows, it may still write: nobody reads that.
    if (old.Hear() != "OK") break;
    ASSERT_LT(i, 5) << "the superseded region goes on";
  }
  for (int i = 0; i < 5; ++i) ASSERT_OK(Advance(*self));
  ExpectState(*current, before->epoch + 5);
  self = absl::UnknownError("gone");
  current = absl::UnknownError("gone");
  ASSERT_OK(Region::Unlink(name()));
  ExpectRestores(Options(), before->epoch + 5);
}

// Opens, restores or creates, whatever it takes; commits once; says in which incarnation.
ROLE(Racer) {
  const RegionOptions options = SmallDurable(self.args.at(1));
  while (self.wire.Hear() == "go") {
    absl::StatusOr<Region> region = Region::OpenOrCreate(self.args.at(0), options);
    ROLE_CHECK(region.ok(), region.status().ToString());
    absl::StatusOr<Participant> joined = Participant::Join(*region);
    ROLE_CHECK(joined.ok(), joined.status().ToString());
    const absl::StatusOr<Epoch> made = Advance(*joined);
    ROLE_CHECK(made.ok(), made.status().ToString());
    self.wire.Say(region->incarnation());
    self.wire.Hear();
    joined = absl::UnknownError("gone");
    region = absl::UnknownError("gone");
    self.wire.Say("left");
  }
  return 0;
}

class Race : public JournalTest {
 protected:
  static constexpr int kRacers = 4;
  void SetUp() override {
    for (int i = 0; i < kRacers; ++i) {
      racers_.push_back(std::make_unique<Child>("Racer", std::vector{name(), directory()}));
    }
  }
  void TearDown() override {
    for (const auto& racer : racers_) racer->Say("end");
    for (const auto& racer : racers_) EXPECT_EQ(racer->Wait(), 0);
  }
  // Everybody starts at once, and all end up in one incarnation, which is returned.
  std::string Run() {
    for (const auto& racer : racers_) racer->Say("go");
    std::set<std::string> incarnations;
    for (const auto& racer : racers_) incarnations.insert(racer->Hear());
    EXPECT_EQ(incarnations.size(), 1u);
    EXPECT_EQ(incarnations.begin()->size(), 32u);
    return *incarnations.begin();
  }
  void Part() {
    for (const auto& racer : racers_) racer->Say("part");
    for (const auto& racer : racers_) EXPECT_EQ(racer->Hear(), "left");
  }
  std::vector<std::unique_ptr<Child>> racers_;
};

TEST_F(Race, CreatorsEndUpInOneRegion) {
  for (int round = 0; round < 60; ++round) {
    ASSERT_NO_FATAL_FAILURE(Run());
    ASSERT_FALSE(HasFailure()) << round;
    Part();
    ASSERT_OK(Region::Unlink(name()));
    ExpectCompleteHistory(directory(), kRacers);
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
      EXPECT_EQ(entry.path(), directory()) << "a loser's directory was left behind";
    }
    std::filesystem::remove_all(directory());
  }
}

TEST_F(Race, RestorersEndUpInOneRegionWithNothingLost) {
  std::set<std::string> incarnations;
  Epoch epoch = 0;
  constexpr int kRounds = 60;
  for (int round = 0; round < kRounds; ++round) {
    incarnations.insert(Run());
    ASSERT_FALSE(HasFailure()) << round;
    epoch += kRacers;
    Part();
    ASSERT_OK(Region::Unlink(name()));
    ASSERT_EQ(SegmentsIn(directory()).size(), static_cast<std::size_t>(round) + 1)
        << "one restore a round";
  }
  EXPECT_EQ(incarnations.size(), static_cast<std::size_t>(kRounds));
  ExpectCompleteHistory(directory(), epoch);
}

TEST_F(Race, RestoringUnderTwoNamesLeavesOneOwner) {
  for (const auto& racer : racers_) racer->Say("end");
  for (const auto& racer : racers_) EXPECT_EQ(racer->Wait(), 0);
  racers_.clear();
  ASSERT_NO_FATAL_FAILURE(WriteJournal({100}));
  const ScratchName other;
  RegionOptions options = Options();
  options.restore_timeout = kSoon;
  for (int round = 0; round < 20; ++round) {
    absl::StatusOr<Region> a = absl::UnknownError(""), b = absl::UnknownError("");
    std::thread first([&] { a = Region::Restore(name(), options); });
    std::thread second([&] { b = Region::Restore(other.name(), options); });
    first.join();
    second.join();
    ASSERT_NE(a.ok(), b.ok()) << a.status() << b.status();
    ExpectState(a.ok() ? *a : *b, 1);
    a = b = absl::UnknownError("gone");
    std::filesystem::remove(name_.path());
    std::filesystem::remove(other.path());
  }
}

}  // namespace
}  // namespace epoch::test
