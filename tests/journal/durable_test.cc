// Durable regions through their whole life: commit, restore, go on; group commit; segments.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <thread>

#include "journal_test.h"
#include "support/child.h"
#include "support/refuse_calls.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class DurableTest : public JournalTest, public testing::WithParamInterface<History> {
 protected:
  RegionOptions WithHistory() const {
    RegionOptions options = Options();
    options.history = GetParam();
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(History, DurableTest, testing::Values(History::kAll, History::kLatest),
                         [](const auto& suite) {
                           return suite.param == History::kAll ? "all" : "latest";
                         });

TEST_P(DurableTest, GoesOnAfterEveryRestoreWithTheExactState) {
  Epoch epoch = 0;
  std::string incarnation;
  for (int life = 0; life < 5; ++life) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name(), WithHistory());
    ASSERT_OK(region);
    EXPECT_NE(region->incarnation(), incarnation);
    incarnation = region->incarnation();
    EXPECT_TRUE(region->durable());
    ExpectState(*region, epoch);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (int i = 0; i < life; ++i) {
      ASSERT_OK(Advance(*self, 100 + static_cast<std::size_t>(i) * 5000, {.token = epoch + 7}));
      ++epoch;
      // What is visible is on disk already.
      const absl::StatusOr<journal::SegmentScan> scan = journal::Preview(directory());
      ASSERT_OK(scan);
      EXPECT_EQ(scan->epoch, epoch);
      EXPECT_EQ(scan->token, epoch + 6);
    }
    ASSERT_OK(Region::Unlink(name()));
  }
  EXPECT_EQ(epoch, 10u);
  if (GetParam() == History::kAll) {
    ExpectCompleteHistory(directory(), epoch);
  } else {
    BatchesIn(directory());
  }
}

TEST_P(DurableTest, RestoringTwiceGivesTheSame) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({100, 40'000, 5'000}, WithHistory()));
  const absl::StatusOr<journal::SegmentScan> first = journal::Preview(directory());
  ExpectRestores(Options(), 3);
  const absl::StatusOr<journal::SegmentScan> second = journal::Preview(directory());
  ExpectRestores(Options(), 3);
  const absl::StatusOr<journal::SegmentScan> third = journal::Preview(directory());
  for (const auto* scan : {&second, &third}) {
    ASSERT_OK(*scan);
    EXPECT_EQ((*scan)->epoch, first->epoch);
    EXPECT_EQ((*scan)->chain, first->chain);
    EXPECT_EQ((*scan)->state, first->state);
    EXPECT_EQ((*scan)->header.history, GetParam());
  }
}

// Proposes 60 states, and waits for the last. Nothing is written before that.
ROLE(WaitsForTheLast) {
  ROLE_CHECK(RefuseIoUring());
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  Ticket last;
  for (Epoch e = 61; e <= 120; ++e) {
    absl::StatusOr<Draft> draft = joined->NewDraft(CheckedState(e));
    ROLE_CHECK(draft.ok(), draft.status().ToString());
    const absl::StatusOr<Ticket> ticket = joined->Propose(*std::move(draft));
    ROLE_CHECK(ticket.ok(), ticket.status().ToString());
    last = *ticket;
  }
  const absl::StatusOr<Epoch> made = joined->Await(last);
  ROLE_CHECK(made.ok(), made.status().ToString());
  return 0;
}

TEST_P(DurableTest, ProposalsGoToDiskTogether) {
  RegionOptions options = WithHistory();
  options.versions = 100;
  absl::StatusOr<Region> region = Region::Create(name(), options);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  Ticket last;
  for (Epoch e = 1; e <= 60; ++e) {
    absl::StatusOr<Draft> draft = self->NewDraft(CheckedState(e));
    ASSERT_OK(draft);
    absl::StatusOr<Ticket> ticket = self->Propose(*std::move(draft));
    ASSERT_OK(ticket);
    EXPECT_EQ(ticket->epoch, e);
    last = *ticket;
  }
  ASSERT_OK(self->Await(last));
  ExpectState(*region, 60);
  // In how many batches those went depends on how far the disk was behind. If nothing goes on its
  // way meanwhile, it is one.
  Child child("WaitsForTheLast", {name()});
  ASSERT_EQ(child.Wait(), 0);
  ExpectState(*region, 120);
  const std::vector<journal::BatchInfo> batches = BatchesIn(directory());
  EXPECT_EQ(batches.front().header.first_epoch, 1u);
  EXPECT_EQ(batches.back().header.first_epoch, 61u);
  EXPECT_EQ(batches.back().header.last_epoch, 120u);
  for (const journal::BatchInfo& batch : batches) {
    const Epoch count = batch.header.last_epoch - batch.header.first_epoch + 1;
    EXPECT_EQ(batch.header.records, GetParam() == History::kAll ? count : 1u);
  }
  if (GetParam() == History::kAll) ExpectCompleteHistory(directory(), 120);
}

TEST_P(DurableTest, AnExpulsionDoesNotUndoWhatWasAccepted) {
  absl::StatusOr<Region> region = Region::Create(name(), WithHistory());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  absl::StatusOr<Draft> draft = self->NewDraft(CheckedState(1));
  ASSERT_OK(draft);
  const absl::StatusOr<Ticket> ticket = self->Propose(*std::move(draft));
  ASSERT_OK(ticket);
  ASSERT_OK(region->Expel(self->slot()));
  // An error would say that nothing was changed.
  const absl::StatusOr<Epoch> committed = self->Await(*ticket);
  ASSERT_OK(committed);
  EXPECT_EQ(*committed, 1u);
  ExpectState(*region, 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(self->status()));
}

// The maker of a new incarnation dies when its segment has its name and its region does not: the
// old region's name leads to a region that is history.
TEST_P(DurableTest, ASupersededRegionIsReplaced) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({100, 200}, WithHistory()));
  absl::StatusOr<Region> first = Region::OpenOrCreate(name(), WithHistory());
  ASSERT_OK(first);
  const std::string incarnation = first->incarnation();
  first = absl::CancelledError();  // lets go of the journal
  {
    const std::string elsewhere = name() + "-elsewhere";
    ASSERT_OK(Region::Restore(elsewhere, WithHistory()));
    ASSERT_OK(Region::Unlink(elsewhere));
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(Region::Open(name()).status()));
  absl::StatusOr<Region> second = Region::OpenOrCreate(name(), WithHistory());
  ASSERT_OK(second);
  EXPECT_NE(second->incarnation(), incarnation);
  ExpectState(*second, 2);
}

TEST_P(DurableTest, ABatchIsBoundedAndTheRestFollows) {
  absl::StatusOr<Region> region = Region::Create(name(), WithHistory());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  for (Epoch e = 1; e <= 14; ++e) {
    absl::StatusOr<Draft> draft = self->NewDraft(CheckedState(e, kBigStateBytes));
    ASSERT_OK(draft);
    ASSERT_OK(self->Propose(*std::move(draft)));
  }
  ASSERT_OK(self->Await(Ticket{14}));
  ExpectState(*region, 14);
  for (const journal::BatchInfo& batch : BatchesIn(directory())) {
    EXPECT_LE(batch.header.blocks, journal::MaxBatchBlocks(Options().state_bytes));
  }
  // This very process still holds on to the journal, and is named like any other.
  ASSERT_OK(Region::Unlink(name()));
  RegionOptions at_once = Options();
  at_once.restore_timeout = absl::ZeroDuration();
  EXPECT_FAILS(Region::Restore(name(), at_once), kFailedPrecondition,
               "pid " + std::to_string(getpid()));
  self = absl::UnknownError("gone");
  region = absl::UnknownError("gone");
  ExpectRestores(Options(), 14);
}

TEST_P(DurableTest, RollsOverSegmentsAndKeepsWhatItShould) {
  for (int life = 0; life < 2; ++life) {
    ASSERT_NO_FATAL_FAILURE(
        WriteJournal(std::vector<std::size_t>(20, kBigStateBytes), WithHistory()));
    const std::vector<std::string> segments = SegmentsIn(directory());
    const absl::StatusOr<journal::SegmentScan> newest = journal::Preview(directory());
    ASSERT_OK(newest);
    EXPECT_GE(newest->header.segment, 4u);
    if (GetParam() == History::kAll) {
      EXPECT_EQ(segments.size(), newest->header.segment);
      ExpectCompleteHistory(directory(), 20u * static_cast<Epoch>(life + 1));
    } else {
      EXPECT_EQ(segments.size(), 2u);  // the newest, and the one before
      BatchesIn(directory());
    }
  }
  ExpectRestores(Options(), 40);
}

TEST_P(DurableTest, KeepsAsManySegmentsAsItIsTold) {
  RegionOptions options = WithHistory();
  options.retain_segments = 3;
  ASSERT_NO_FATAL_FAILURE(WriteJournal(std::vector<std::size_t>(30, kBigStateBytes), options));
  EXPECT_EQ(SegmentsIn(directory()).size(), 4u);
  BatchesIn(directory());
  ExpectRestores(Options(), 30);
  EXPECT_EQ(SegmentsIn(directory()).size(), 4u);
}

ROLE(Committer) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  self.wire.Say("ready");
  self.wire.Hear();
  for (int i = 0; i < std::stoi(self.args.at(1)); ++i) {
    const absl::StatusOr<Epoch> made = Advance(*joined);
    ROLE_CHECK(made.ok(), made.status().ToString());
  }
  return 0;
}

TEST_P(DurableTest, EightProcessesCommitInOneOrder) {
  constexpr int kProcesses = 8, kEach = 40;
  absl::StatusOr<Region> region = Region::Create(name(), WithHistory());
  ASSERT_OK(region);
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(std::make_unique<Child>(
        "Committer", std::vector<std::string>{name(), std::to_string(kEach)}));
  }
  for (const auto& child : children) ASSERT_EQ(child->Hear(), "ready");
  for (const auto& child : children) child->Say("go");
  for (const auto& child : children) EXPECT_EQ(child->Wait(), 0);
  ExpectState(*region, kProcesses * kEach);
  Epoch next = 1;
  for (const journal::BatchInfo& batch : BatchesIn(directory())) {
    EXPECT_EQ(batch.header.first_epoch, next);
    EXPECT_LT(batch.header.durable_hint, next);
    next = batch.header.last_epoch + 1;
  }
  EXPECT_EQ(next, kProcesses * kEach + 1);
  if (GetParam() == History::kAll) ExpectCompleteHistory(directory(), kProcesses * kEach);
  ExpectNothingLeaked(*region, 0);
}

TEST_F(JournalTest, HoldsStatesOf64MiB) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  RegionOptions options = Options();
  options.state_bytes = kBytes;
  options.versions = 4;
  options.history = History::kLatest;
  options.segment_bytes = 0;
  ASSERT_NO_FATAL_FAILURE(WriteJournal({kBytes}, options));
  ExpectRestores(options, 1);
}

TEST_F(JournalTest, RefusesAGeometryThatTheStateDoesNotFit) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({5000}));
  RegionOptions small = Options();
  small.state_bytes = 4999;
  EXPECT_FAILS(Region::Restore(name(), small), kOutOfRange, "nothing was changed");
  EXPECT_FAILS(Region::OpenOrCreate(name(), small), kOutOfRange, "nothing was changed");
  RegionOptions impossible = Options();
  impossible.versions = 1;
  EXPECT_FAILS(Region::Restore(name(), impossible), kInvalidArgument, "versions 1");
  RegionOptions cramped = Options();
  cramped.segment_bytes = 100 * kBlockBytes;
  EXPECT_FAILS(Region::Restore(name(), cramped), kInvalidArgument, "too small");
  EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
  small.state_bytes = 5000;
  ExpectRestores(small, 1);
}

TEST_F(JournalTest, CreatesOnlyWhereNoJournalIs) {
  RegionOptions cramped = Options();
  cramped.segment_bytes = 100 * kBlockBytes;
  EXPECT_FAILS(Region::Create(name(), cramped), kInvalidArgument, "too small");
  EXPECT_FALSE(std::filesystem::exists(directory()));

  std::filesystem::create_directory(directory());
  EXPECT_FAILS(Region::OpenOrCreate(name(), Options()), kDataLoss, "no journal segments");
  ASSERT_OK(Region::Create(name(), Options()));  // explicitly, into an existing directory
  EXPECT_FAILS(Region::Create(name(), Options()), kAlreadyExists, name());
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_FAILS(Region::Create(name(), Options()), kAlreadyExists, directory());
  EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
  ExpectRestores(Options(), 0);
  RegionOptions elsewhere = Options();
  elsewhere.journal = scratch_ / "missing/journal";
  EXPECT_FAILS(Region::Create(name(), elsewhere), kNotFound, "missing");
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
}

TEST_F(JournalTest, RestoreNeedsAJournalAndNoRegion) {
  EXPECT_FAILS(Region::Restore(name(), Options()), kNotFound, directory());
  EXPECT_FALSE(std::filesystem::exists(directory()));
  ASSERT_OK(Region::OpenOrCreate(name(), Options()));
  EXPECT_FAILS(Region::Restore(name(), Options()), kAlreadyExists, name());
  EXPECT_EQ(SegmentsIn(directory()).size(), 1u);
}

TEST_F(JournalTest, ARelativePathIsKeptAbsolute) {
  const std::filesystem::path before = std::filesystem::current_path();
  RegionOptions options = Options();
  options.journal = "journal";
  std::filesystem::current_path(scratch_.path());
  absl::StatusOr<Region> region = Region::Create(name(), options);
  std::filesystem::current_path(before);
  ASSERT_OK(region);
  EXPECT_EQ(std::string(region->mapping()->superblock().journal_path.data()), directory());
  absl::StatusOr<Region> second = Region::Open(name());
  ASSERT_OK(second);
  absl::StatusOr<Participant> self = Participant::Join(*second);
  ASSERT_OK(self);
  EXPECT_OK(Advance(*self));
}

// A program without the compiled journal (client.cc): its last line.
std::string RunClient(const std::string& region) {
  std::FILE* const out = popen((std::string(EPOCH_JOURNAL_CLIENT " ") + region).c_str(), "re");
  EXPECT_NE(out, nullptr);
  char line[512] = {};
  EXPECT_NE(std::fgets(line, sizeof line, out), nullptr);
  EXPECT_EQ(pclose(out), 0);
  return line;
}

TEST_F(JournalTest, AProgramWithoutTheJournalNeedsOneThatServes) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  EXPECT_THAT(RunClient(name()), HasSubstr("UNAVAILABLE: nobody writes the journal"));
  EXPECT_EQ(region->epoch(), 0u);

  absl::StatusOr<Participant> server = Participant::Join(*region);
  ASSERT_OK(server);
  std::atomic<bool> stop{false};
  std::thread serving([&] { EXPECT_OK(server->Serve(kLong, [&] { return stop.load(); })); });
  const std::uint32_t serves = detail::kSlotFlushes;
  while ((region->mapping()->view().slots[server->slot()].flags.Load() & serves) == 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(RunClient(name()), "committed 1\n");
  EXPECT_EQ(RunClient(name()), "committed 2\n");
  stop = true;
  serving.join();
  EXPECT_THAT(RunClient(name()), HasSubstr("UNAVAILABLE: nobody writes the journal"));
  ExpectCompleteHistory(directory(), 2);
}

TEST_F(JournalTest, InspectionLeavesTheJournalAlone) {
  ASSERT_OK(Region::Create(name(), Options()));
  const absl::StatusOr<Region> looking = Region::Open(name(), {.read_only = true});
  ASSERT_OK(looking);
  EXPECT_EQ(looking->mapping()->port(), nullptr);
  ASSERT_OK(Region::Unlink(name()));
  RegionOptions options = Options();
  options.restore_timeout = absl::ZeroDuration();
  ExpectRestores(options, 0);
}

}  // namespace
}  // namespace epoch::test
