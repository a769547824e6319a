// K10: the old epochs of a region, read back from its journal.
#include "core/journal/read/past.h"

#include <unistd.h>

#include "journal_test.h"

namespace epoch::test {
namespace {

class PastTest : public JournalTest {
 protected:
  // Commits until there are so many segments; big states.
  void CommitUntilSegments(Region& region, std::size_t segments) {
    absl::StatusOr<Participant> self = Participant::Join(region, {.name = "writer"});
    ASSERT_OK(self);
    while (SegmentsIn(directory()).size() < segments) {
      ASSERT_OK(Advance(*self, kBigStateBytes, {.token = region.epoch() + 1001}));
      ASSERT_OK(Advance(*self, 100, {.token = region.epoch() + 1001}));
    }
  }
  static void ExpectIs(const absl::StatusOr<PastEpoch>& past, Epoch epoch) {
    ASSERT_OK(past);
    EXPECT_EQ(past->epoch, epoch);
    EXPECT_EQ(ReadChecked(past->state), epoch);
    EXPECT_EQ(past->digest, detail::Digest(past->state));
  }
  // What a reader gives, to its end.
  static std::vector<Epoch> Epochs(absl::StatusOr<HistoryReader> reader) {
    std::vector<Epoch> epochs;
    EXPECT_OK(reader);
    while (reader.ok()) {
      const auto next = reader->Next();
      EXPECT_OK(next);
      if (!next.ok() || !next->has_value()) break;
      EXPECT_EQ(ReadChecked((*next)->state), (*next)->epoch);
      epochs.push_back((*next)->epoch);
    }
    return epochs;
  }
  static std::vector<Epoch> Range(Epoch from, Epoch to) {
    std::vector<Epoch> epochs;
    for (Epoch e = from; e <= to; ++e) epochs.push_back(e);
    return epochs;
  }
};

TEST_F(PastTest, EveryEpochIsReadBackAcrossSegmentsAndIncarnations) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  ASSERT_NO_FATAL_FAILURE(CommitUntilSegments(*region, 3));
  const Epoch first_life = region->epoch();
  ASSERT_OK(Region::Unlink(name()));
  region = absl::UnknownError("gone");
  // Of lives without a commit nothing stays, but a gap in the numbers.
  for (int idle = 0; idle < 3; ++idle) {
    region = Region::Restore(name(), Options());
    ASSERT_OK(region);
    ASSERT_OK(Region::Unlink(name()));
    region = absl::UnknownError("gone");
  }
  region = Region::Restore(name(), Options());
  ASSERT_OK(region);
  ASSERT_NO_FATAL_FAILURE(CommitUntilSegments(*region, 6));
  const Epoch last = region->epoch();
  ASSERT_GT(last, first_life);

  // By a program that may not write, which takes no slot.
  const absl::StatusOr<Region> watched = Region::Open(name(), {.read_only = true});
  ASSERT_OK(watched);
  const auto history = watched->History();
  ASSERT_OK(history);
  EXPECT_EQ(history->Oldest().value(), 0u);
  EXPECT_EQ(Epochs(history->Read(1)), Range(1, last));
  EXPECT_EQ(Epochs(history->Read(0)), Range(0, last));
  EXPECT_EQ(Epochs(history->Read(3, 5)), Range(3, 5));
  EXPECT_EQ(Epochs(history->Read(first_life, first_life + 1)), Range(first_life, first_life + 1));
  EXPECT_EQ(Epochs(history->Read(5, 4)), Range(1, 0));
  for (Epoch epoch = 0; epoch <= last; ++epoch) {
    SCOPED_TRACE(epoch);
    const auto past = history->At(epoch);
    ASSERT_NO_FATAL_FAILURE(ExpectIs(past, epoch));
    EXPECT_EQ(past->proposer.has_value(), epoch != 0);
    EXPECT_EQ(past->token, epoch == 0 ? 0 : epoch + 1000);
    EXPECT_EQ(past->ballot, 0u);
    EXPECT_FALSE(past->forced);
  }
  EXPECT_FAILS(history->At(last + 1), kOutOfRange, "is not committed yet: the region is at");
  // The same by the directory alone.
  const EpochHistory journal(std::make_shared<journal::Past>(directory()));
  EXPECT_EQ(Epochs(journal.Read(1)), Range(1, last));
  EXPECT_FAILS(journal.At(last + 1), kOutOfRange, "there is no epoch");
  EXPECT_EQ(CountSlots(*region, detail::SlotState::kActive), 0u);
}

TEST_F(PastTest, AReaderFollowsARegionThatGoesOn) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  for (int i = 0; i < 3; ++i) ASSERT_OK(Advance(*self));
  absl::StatusOr<HistoryReader> reader = region->History()->Read(region->epoch() + 1);
  ASSERT_OK(reader);
  // Over several segments.
  for (Epoch epoch = 4; epoch < 40; ++epoch) {
    const auto none = reader->Next();
    ASSERT_OK(none);
    EXPECT_FALSE(none->has_value());
    ASSERT_OK(Advance(*self, kBigStateBytes));
    const auto next = reader->Next();
    ASSERT_OK(next);
    ASSERT_TRUE(next->has_value());
    EXPECT_EQ((*next)->epoch, epoch);
    EXPECT_EQ(ReadChecked((*next)->state), epoch);
  }
  EXPECT_GE(SegmentsIn(directory()).size(), 3u);
}

TEST_F(PastTest, NothingIsShownThatIsNotCommitted) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({100, 100, 100, 100, 100}));
  Epoch committed = 3;
  const auto header = journal::ReadBeginning(
      journal::OpenToRead(SegmentsIn(directory()).front())->get(), SegmentsIn(directory()).front());
  ASSERT_OK(header);
  const EpochHistory history(std::make_shared<journal::Past>(directory(), header->journal,
                                                             [&committed] { return committed; }));
  EXPECT_FAILS(history.At(4), kOutOfRange, "epoch 4 is not committed yet: the region is at 3");
  absl::StatusOr<HistoryReader> reader = history.Read(2);
  ASSERT_OK(reader);
  EXPECT_EQ(reader->Next().value()->epoch, 2u);
  EXPECT_EQ(reader->Next().value()->epoch, 3u);
  EXPECT_FALSE(reader->Next().value().has_value());
  committed = 5;
  EXPECT_EQ(reader->Next().value()->epoch, 4u);
  EXPECT_EQ(reader->Next().value()->epoch, 5u);
  EXPECT_FALSE(reader->Next().value().has_value());
}

TEST_F(PastTest, WhatIsRetiredNamesTheOldestThatIsThere) {
  RegionOptions options = Options();
  options.retain_segments = 2;
  absl::StatusOr<Region> region = Region::Create(name(), options);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  ASSERT_OK(Advance(*self, kBigStateBytes));
  const auto history = region->History();
  ASSERT_OK(history);
  absl::StatusOr<HistoryReader> reader = history->Read(1);
  ASSERT_OK(reader);
  EXPECT_EQ(reader->Next().value()->epoch, 1u);
  // Its segment goes while it is read; what is open stays readable, what comes next is gone.
  ASSERT_TRUE(Await([&] {
    EXPECT_OK(Advance(*self, kBigStateBytes));
    region->mapping()->port()->Rest(self->slot());
    return SegmentsIn(directory()).front().find("00000001") == std::string::npos &&
           SegmentsIn(directory()).front().find("00000002") == std::string::npos;
  }));
  const Epoch oldest = history->Oldest().value();
  ASSERT_GT(oldest, 2u);
  const std::string named =
      absl::StrCat("the oldest epoch that is there is ", history->Oldest().value());
  absl::StatusOr<std::optional<PastEpoch>> next = reader->Next();
  for (Epoch epoch = 2; next.ok(); ++epoch) {
    ASSERT_TRUE(next->has_value());
    EXPECT_EQ((*next)->epoch, epoch);
    ASSERT_LT(epoch, oldest);
    next = reader->Next();
  }
  EXPECT_FAILS(next, kNotFound, named);
  EXPECT_FAILS(history->At(1), kNotFound, named);
  EXPECT_FAILS(history->At(oldest - 1), kNotFound, named);
  EXPECT_FAILS(history->Read(1), kNotFound, named);
  // The state that the oldest segment begins with is there, and nothing else of that epoch.
  const auto base = history->At(oldest);
  ASSERT_NO_FATAL_FAILURE(ExpectIs(base, oldest));
  EXPECT_FALSE(base->proposer.has_value());
  EXPECT_EQ(Epochs(history->Read(oldest)), Range(oldest, region->epoch()));
}

TEST_F(PastTest, LatestKeepsTheLastOfEachBatch) {
  RegionOptions options = Options();
  options.history = History::kLatest;
  absl::StatusOr<Region> region = Region::Create(name(), options);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  ASSERT_OK(Advance(*self));
  // Accepted together, and frozen by the one that is waited for: one batch of five.
  for (Epoch epoch = 2; epoch <= 6; ++epoch) {
    auto draft = self->NewDraft(kCheckedStateBytes);
    ASSERT_OK(draft);
    WriteChecked(draft->bytes(), epoch);
    ASSERT_OK(self->Propose(*std::move(draft)));
  }
  ASSERT_OK(self->Await(6, Stage::kCommitted));
  ASSERT_OK(Advance(*self));
  const auto history = region->History();
  ASSERT_OK(history);
  EXPECT_EQ(Epochs(history->Read(0)), (std::vector<Epoch>{0, 1, 6, 7}));
  for (const Epoch skipped : {Epoch{2}, Epoch{5}}) {
    EXPECT_FAILS(history->At(skipped), kNotFound, "history=latest");
    EXPECT_FAILS(history->At(skipped), kNotFound, "the nearest are 1 and 6");
  }
  ASSERT_NO_FATAL_FAILURE(ExpectIs(history->At(6), 6));
}

TEST_F(PastTest, AVoteIsRemembered) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region, {.voter = true});
  ASSERT_OK(self);
  ASSERT_OK(Advance(*self, kCheckedStateBytes, {.agreement = Agreement::kAllVoters}));
  const auto past = region->History()->At(1);
  ASSERT_NO_FATAL_FAILURE(ExpectIs(past, 1));
  EXPECT_NE(past->ballot, 0u);
  EXPECT_FALSE(past->forced);
  EXPECT_EQ(past->proposer->slot, self->slot());
}

TEST_F(PastTest, DamageIsReportedAndNeverHandedOut) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({100, 20'000, 100}));
  const auto batches = BatchesIn(directory());
  const std::string path = SegmentsIn(directory()).front();
  const Bytes sound = ReadBytes(path);
  const EpochHistory history(std::make_shared<journal::Past>(directory()));
  const std::size_t second = batches.at(1).offset_bytes;
  // In its third block.
  Patch(path, second + 2 * kBlockBytes + 100, "damage");
  ASSERT_NO_FATAL_FAILURE(ExpectIs(history.At(1), 1));
  EXPECT_FAILS(history.At(2), kDataLoss, "acknowledged and are damaged");
  absl::StatusOr<HistoryReader> reader = history.Read(1);
  ASSERT_OK(reader);
  EXPECT_OK(reader->Next());
  EXPECT_FAILS(reader->Next(), kDataLoss, path);
  EXPECT_FAILS(reader->Next(), kDataLoss, path);
  // What is behind it is whole, and tied to it by its header.
  ASSERT_NO_FATAL_FAILURE(ExpectIs(history.At(3), 3));
  // Without the header, nothing ties it.
  WriteBytes(path, sound);
  Patch(path, second, "damage");
  EXPECT_FAILS(history.At(3), kDataLoss, path);
  // A state that is not what it was, under checksums that are right.
  Bytes edited = sound;
  const std::size_t state = sizeof(journal::BatchHeader) + sizeof(journal::RecordHeader);
  edited[second + state + 50] ^= std::byte{1};
  Reseal(edited, HeaderOf(edited), second / kBlockBytes);
  WriteBytes(path, edited);
  EXPECT_FAILS(history.At(2), kDataLoss, "does not match its digest");
  // A region says what of its own is gone.
  WriteBytes(path, sound);
  const Bytes zeros(kBlockBytes);
  for (const auto& batch : batches) {
    if (batch.header.last_epoch >= 3) Patch(path, batch.offset_bytes, zeros.data(), zeros.size());
  }
  const EpochHistory of_region(std::make_shared<journal::Past>(directory(), HeaderOf(sound).journal,
                                                               [] { return Epoch{3}; }));
  EXPECT_FAILS(of_region.At(3), kDataLoss, "epochs 3 to 3 are committed, and cannot be read");
}

TEST_F(PastTest, NobodyIsHeldUpByAReader) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  ASSERT_NO_FATAL_FAILURE(CommitUntilSegments(*region, 2));
  absl::StatusOr<HistoryReader> reader = region->History()->Read(1);
  ASSERT_OK(reader);
  EXPECT_OK(reader->Next());
  const Epoch last = region->epoch();
  ASSERT_OK(Region::Unlink(name()));
  region = absl::UnknownError("gone");
  // A restore needs the journal for itself: the reader has no lock on it.
  RegionOptions at_once = Options();
  at_once.restore_timeout = absl::ZeroDuration();
  ASSERT_OK(Region::Restore(name(), at_once));
  EXPECT_OK(reader->Next());
  EXPECT_EQ(Region::Open(name())->History()->At(last)->epoch, last);
}

TEST_F(PastTest, AVolatileRegionHasNone) {
  absl::StatusOr<Region> region = Region::Create(name());
  ASSERT_OK(region);
  EXPECT_FAILS(region->History(), kFailedPrecondition, "is volatile: it has no journal");
}

TEST_F(PastTest, AMissingJournalIsSaidToBe) {
  ASSERT_OK(Region::Create(name(), Options()));
  const absl::StatusOr<Region> region = Region::Open(name(), {.read_only = true});
  ASSERT_OK(region);
  std::filesystem::rename(directory(), directory() + ".away");
  EXPECT_FAILS(region->History()->At(0), kNotFound, directory());
  EXPECT_FAILS(region->History()->Oldest(), kNotFound, directory());
}

}  // namespace
}  // namespace epoch::test
