// Rolling into a prepared segment: what is left if the power goes before the segment's own name is
// durable, and what happens if the preparation fails.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/journal/read/past.h"
#include "crash_points.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/refuse_calls.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> SparesIn(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".spare") paths.push_back(entry.path());
  }
  return paths;
}

// Commits until a signal strikes at the given point.
ROLE(Committer) {
  if (self.args.at(3) == "without_ring") ROLE_CHECK(RefuseIoUring());
  const Trap trap(self.args.at(1), std::stoi(self.args.at(2)), SIGKILL);
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  for (;;) {
    const absl::StatusOr<Epoch> made = AdvanceWithSpare(*region, *joined);
    ROLE_CHECK(made.ok(), made.status().ToString());
  }
}

ROLE(Restorer) {
  const Trap trap(self.args.at(2), std::stoi(self.args.at(3)), SIGKILL);
  return Region::Restore(self.args.at(0), SmallDurable(self.args.at(1))).ok() ? 0 : 1;
}

class BegunTest : public JournalTest {
 protected:
  // A process commits in a new region until it dies at that point; then the region is gone, too.
  // `visible_` is what it had committed.
  void CommitUntil(const std::string& point) {
    ASSERT_OK(Region::Create(name(), Options()));
    Child worker("Committer", {name(), point, "1", "with_ring"});
    ASSERT_EQ(worker.Wait(), -SIGKILL);
    const absl::StatusOr<Region> dead = Region::Open(name(), {.read_only = true});
    ASSERT_OK(dead);
    visible_ = dead->epoch();
    ASSERT_OK(Region::Unlink(name()));
  }
  // And then the power goes: the second segment's own name was not durable yet.
  void LoseTheName() {
    ASSERT_NO_FATAL_FAILURE(CommitUntil("aftermath.sealed"));
    ASSERT_EQ(SegmentsIn(directory()).size(), 2u);
    ASSERT_EQ(SparesIn(directory()).size(), 1u);
    spare_ = SparesIn(directory())[0];
    const std::string lost = SegmentsIn(directory())[1];
    ASSERT_TRUE(fs::equivalent(spare_, lost));
    ASSERT_TRUE(fs::remove(lost));
  }
  // The names of all files, and their bytes.
  std::vector<std::pair<std::string, Bytes>> Everything() const {
    std::vector<std::pair<std::string, Bytes>> all;
    for (const auto& entry : fs::directory_iterator(directory())) {
      all.emplace_back(entry.path(), ReadBytes(entry.path()));
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  Epoch visible_ = 0;
  std::string spare_;
};

TEST_F(BegunTest, ASegmentIsFoundByItsSparesName) {
  ASSERT_NO_FATAL_FAILURE(LoseTheName());
  const auto before = Everything();
  const absl::StatusOr<journal::SegmentScan> preview = journal::Preview(directory());
  ASSERT_OK(preview);
  EXPECT_EQ(preview->epoch, visible_);
  EXPECT_EQ(preview->header.segment, 2u);
  ExpectCompleteHistory(directory(), visible_);
  EXPECT_EQ(Everything(), before) << "looking changed it";
  for (int again = 0; again < 2; ++again) {
    absl::StatusOr<Region> region = Region::Restore(name(), Options());
    ASSERT_OK(region);
    ExpectState(*region, visible_);
    region = absl::UnknownError("gone");
    ASSERT_OK(Region::Unlink(name()));
  }
  ExpectCompleteHistory(directory(), visible_);
  EXPECT_EQ(SegmentsIn(directory()).size(), 3u);  // of two that nothing was written to, one stays
  EXPECT_THAT(SparesIn(directory()), IsEmpty());
}

TEST_F(BegunTest, AStrangersSpareIsNeitherWrittenToNorNamed) {
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_NO_FATAL_FAILURE(LoseTheName());
  const auto before = Everything();
  ASSERT_EQ(chown(spare_.c_str(), 12345, 12345), 0);
  EXPECT_FAILS(Region::Restore(name(), Options()), kPermissionDenied, spare_);
  EXPECT_EQ(Everything(), before);
  RegionOptions trusting = Options();
  trusting.trust_other_owners = true;
  ExpectRestores(trusting, visible_);
}

class KilledNaming : public BegunTest, public testing::WithParamInterface<CrashPoint> {};
INSTANTIATE_TEST_SUITE_P(At, KilledNaming, testing::ValuesIn(BegunPoints()),
                         [](const auto& suite) { return TestName(suite.param); });

TEST_P(KilledNaming, TheNextRestoreFindsTheSame) {
  ASSERT_NO_FATAL_FAILURE(LoseTheName());
  Child victim("Restorer", {name(), directory(), GetParam().label, std::to_string(GetParam().nth)});
  ASSERT_EQ(victim.Wait(), -SIGKILL);
  ExpectCompleteHistory(directory(), visible_);
  ExpectRestores(Options(), visible_);
  EXPECT_THAT(SparesIn(directory()), IsEmpty());
}

// The next name must not become durable while this one is not: then only the spare's would lead to
// it.
TEST_F(BegunTest, ASegmentHasADurableNameBeforeTheNextOneIsMade) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  const auto named = [&] { return region->mapping()->view().control->named_segment.Load(); };
  Child first("Committer", {name(), "aftermath.sealed", "1", "with_ring"});
  ASSERT_EQ(first.Wait(), -SIGKILL);
  EXPECT_EQ(named(), 4u) << "segment 2, by its spare's";
  Child second("Committer", {name(), "segment.before_link", "1", "without_ring"});
  ASSERT_EQ(second.Wait(), -SIGKILL);
  EXPECT_THAT(SegmentsIn(directory()), testing::SizeIs(2));
  EXPECT_EQ(named(), 5u);
}

TEST_F(BegunTest, ADamagedBeginningIsNotTakenForASpare) {
  ASSERT_NO_FATAL_FAILURE(LoseTheName());
  const Bytes whole = ReadBytes(spare_);
  const Bytes zeros(kBlockBytes);
  for (const std::uint64_t block : {0u, 1u}) {
    SCOPED_TRACE(block);
    Patch(spare_, block * kBlockBytes, zeros.data(), zeros.size());
    const auto before = Everything();
    const absl::StatusOr<Region> region = Region::Restore(name(), Options());
    EXPECT_FAILS(region, kDataLoss, "segment 2 was in use, and its beginning is damaged");
    EXPECT_THAT(MessageOf(region), HasSubstr(spare_));
    EXPECT_FAILS(journal::Preview(directory()), kDataLoss, "its beginning is damaged");
    const absl::StatusOr<journal::JournalScan> scan = journal::ScanJournal(directory());
    ASSERT_OK(scan);
    EXPECT_THAT(scan->damage, testing::Contains(HasSubstr("its beginning is damaged")));
    EXPECT_EQ(scan->segments.size(), 1u) << "what can be read is read";
    EXPECT_EQ(Everything(), before);
    WriteBytes(spare_, whole);
  }
  ExpectRestores(Options(), visible_);
}

TEST_F(BegunTest, ASpareThatWasNotBegunIsNone) {
  // With the beginning not written, or torn at any sector of it, when the power went.
  ASSERT_NO_FATAL_FAILURE(CommitUntil("spare.opened"));
  ASSERT_THAT(SegmentsIn(directory()), testing::SizeIs(1));
  ASSERT_THAT(SparesIn(directory()), testing::SizeIs(1));
  const std::string spare = SparesIn(directory())[0];
  const Bytes blank = ReadBytes(spare);
  ASSERT_EQ(blank, Bytes(blank.size()));
  // What the beginning would have been: another process gets further.
  const Bytes first = ReadBytes(SegmentsIn(directory())[0]);
  Bytes begun = first;
  journal::SegmentHeader header = HeaderOf(first);
  header.segment = 2;
  header.base_length_bytes = kBlockBytes;  // two blocks, which are not there
  std::memcpy(begun.data(), &header, sizeof header);
  Reseal(begun, header, 0);
  for (const std::size_t sectors : {0u, 1u, 7u, 8u}) {
    SCOPED_TRACE(sectors);
    Patch(spare, 0, begun.data(), sectors * kSectorBytes);
    const absl::StatusOr<journal::SegmentScan> preview = journal::Preview(directory());
    ASSERT_OK(preview);
    EXPECT_EQ(preview->header.segment, 1u);
    EXPECT_EQ(preview->epoch, visible_);
  }
  ExpectRestores(Options(), visible_);
  EXPECT_THAT(SparesIn(directory()), IsEmpty());
}

TEST_F(BegunTest, AnotherJournalsSpareIsNone) {
  ASSERT_NO_FATAL_FAILURE(LoseTheName());
  Bytes other = ReadBytes(spare_);
  journal::SegmentHeader header = HeaderOf(other);
  header.incarnation[0] ^= 1;
  std::memcpy(other.data(), &header, sizeof header);
  Reseal(other, header, 0);
  WriteBytes(spare_, other);
  const absl::StatusOr<journal::SegmentScan> preview = journal::Preview(directory());
  // The seal says that a segment 2 was there.
  if (preview.ok()) {
    EXPECT_EQ(preview->header.segment, 1u);
  } else {
    EXPECT_FAILS(preview, kDataLoss, "is not the newest segment");
  }
}

// The next segment cannot be prepared; then it is made when it is needed.
class SpareFault : public JournalTest, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(At, SpareFault,
                         testing::Values("spare.allocate", "spare.zeros", "spare.synced"),
                         [](const auto& suite) {
                           return std::string(suite.param).substr(std::string("spare.").size());
                         });

TEST_P(SpareFault, ASegmentIsMadeWithoutItsSpare) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  {
    const Trap trap(GetParam(), 1, [] { return EIO; });
    while (SegmentsIn(directory()).size() < 2) {
      ASSERT_OK(Advance(*self));
      EXPECT_THAT(SparesIn(directory()), IsEmpty());
      ASSERT_OK(AwaitSpare(*region, *self, [&] { return trap.sprung(); }));
    }
    EXPECT_TRUE(trap.sprung());
  }
  // The one after it has a spare again.
  bool seen = false;
  while (SegmentsIn(directory()).size() < 3) {
    ASSERT_OK(AdvanceWithSpare(*region, *self));
    seen = seen || !SparesIn(directory()).empty();
  }
  EXPECT_TRUE(seen);
  ExpectCompleteHistory(directory(), region->epoch());
}

// A directory whose sync failed may have lost any name, and later syncs prove nothing.
class NameFault : public JournalTest, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(At, NameFault, testing::Values("spare.named", "aftermath.named"),
                         [](const auto& suite) { return std::string(suite.param).substr(0, 5); });

TEST_P(NameFault, ANameThatCanNotBeMadeDurablePoisons) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  absl::StatusOr<Epoch> made = 0;
  Epoch last = 0;
  {
    const Trap trap(GetParam(), 1, [] { return EIO; });
    while ((made = Advance(*self)).ok()) last = *made;
    EXPECT_TRUE(trap.sprung());
  }
  EXPECT_EQ(detail::StateWord::Unpack(region->mapping()->view().control->head.Load()).phase,
            detail::Phase::kPoisoned);
  EXPECT_FAILS(self->Commit("more"), kUnavailable, "nothing was changed");
  self = absl::UnknownError("gone");
  region = absl::UnknownError("gone");
  region = Region::Restore(name(), Options());
  ASSERT_OK(region);
  EXPECT_GE(region->epoch(), last);
  ExpectState(*region, region->epoch());
}

TEST_F(BegunTest, TheNameIsMadeDurableAfterARollAndTheSpareGoesWithTheNextOne) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  const auto named = [&] { return region->mapping()->view().control->named_segment.Load(); };
  EXPECT_EQ(named(), 3u) << "segment 1, by its own name";
  const auto advance = [&] { return AdvanceWithSpare(*region, *self); };
  while (named() == 3) ASSERT_OK(advance());
  EXPECT_EQ(named(), 4u) << "segment 2, by its spare's";
  EXPECT_THAT(SegmentsIn(directory()), testing::SizeIs(1));
  while (named() == 4) ASSERT_OK(advance());
  EXPECT_EQ(named(), 5u);
  EXPECT_THAT(SegmentsIn(directory()), testing::SizeIs(2));
  EXPECT_THAT(SparesIn(directory()), testing::SizeIs(1)) << "another name of segment 2";
  while (named() < 7) ASSERT_OK(advance());
  EXPECT_THAT(SegmentsIn(directory()), testing::SizeIs(3));
  EXPECT_THAT(SparesIn(directory()), testing::SizeIs(1)) << "of segment 3 only";
  const Epoch last = region->epoch();
  self = absl::UnknownError("gone");
  region = absl::UnknownError("gone");
  EXPECT_THAT(SparesIn(directory()), IsEmpty()) << "the last one takes it away";
  ExpectCompleteHistory(directory(), last);
}

// A reader of the directory alone, of a journal in use: behind its back the block that it found
// empty is written, and the next segment begun.
TEST_F(JournalTest, AReaderThatIsOvertakenByARollTakesNothingForDamage) {
  const absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  ASSERT_OK(Advance(*self));
  const EpochHistory history(std::make_shared<journal::Past>(directory()));
  absl::StatusOr<HistoryReader> reader = history.Read(1);
  ASSERT_OK(reader);
  ASSERT_EQ(reader->Next().value()->epoch, 1u);
  {
    const Trap trap("past.end_seen", 1, [&] {
      while (SegmentsIn(directory()).size() < 3) EXPECT_OK(Advance(*self, kBigStateBytes));
      return 0;
    });
    const auto next = reader->Next();
    EXPECT_TRUE(trap.sprung());
    ASSERT_OK(next);
    ASSERT_TRUE(next->has_value());
    EXPECT_EQ((*next)->epoch, 2u);
  }
  for (Epoch epoch = 3; epoch <= region->epoch(); ++epoch) {
    const auto next = reader->Next();
    ASSERT_OK(next);
    ASSERT_TRUE(next->has_value());
    EXPECT_EQ((*next)->epoch, epoch);
  }
}

}  // namespace
}  // namespace epoch::test
