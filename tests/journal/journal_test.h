// What tests of durable regions share: a scratch journal, states that are a function of their
// epoch, and tools to edit segment files.
#ifndef EPOCH_TESTS_JOURNAL_JOURNAL_TEST_H_
#define EPOCH_TESTS_JOURNAL_JOURNAL_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "core/journal/read/reader.h"
#include "core/journal/read/restore.h"
#include "core/journal/read/survey.h"
#include "core/journal/segment/segment.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "support/checked_state.h"
#include "support/files.h"
#include "support/no_damage.h"
#include "support/region_test.h"
#include "support/scratch.h"
#include "support/time_limits.h"

namespace epoch::test {

using journal::kBlockBytes;
using journal::kSectorBytes;

// Small: a segment is rolled after a few states of kBigStateBytes.
inline constexpr std::size_t kBigStateBytes = 200'000;

inline RegionOptions SmallDurable(const std::string& journal) {
  RegionOptions options;
  options.state_bytes = 256 * 1024;
  options.participants = 16;
  options.versions = 32;  // more than a test commits while a stopped process holds a pin
  options.journal = journal;
  options.restore_timeout = kLong;  // those that still hold it are about to go
  options.segment_bytes = journal::MinSegmentBlocks(options.state_bytes) * kBlockBytes;
  return options;
}

// Commits the next state; value == epoch in all of them.
inline absl::StatusOr<Epoch> Advance(Participant& self, std::size_t size = kCheckedStateBytes,
                                     const CommitOptions& options = {}) {
  return self.Update(
      [&](const Current& current, Draft& next) {
        if (ReadChecked(current.state) != current.epoch) {
          return absl::DataLossError("the state is torn or of another epoch");
        }
        if (absl::Status s = next.Resize(size); !s.ok()) return s;
        WriteChecked(next.bytes(), current.epoch + 1);
        return absl::OkStatus();
      },
      options);
}

// Lets the process that commits in `region` have the next segment's spare ready before it is
// needed. To prepare one is advice: on a slow disk the segment is full, and the next one made
// without, before that is done. So this waits, once the segment is nearly full, if only until
// `enough`. Call it after each commit.
inline absl::Status AwaitSpare(
    const Region& region, const Participant& self,
    const std::function<bool()>& enough = [] { return false; }) {
  detail::Control& control = *region.mapping()->view().control;
  const auto end = [&] { return journal::BatchE::Unpack(journal::ReadRing(control).At(0).e); };
  const std::uint64_t full = region.mapping()->superblock().segment_bytes / kBlockBytes * 8 / 10;
  if (end().end_block < full || !region.mapping()->port()->backend().starts_with("io_uring")) {
    return absl::OkStatus();
  }
  const auto poisoned = [&] {
    return detail::StateWord::Unpack(control.head.Load()).phase == detail::Phase::kPoisoned;
  };
  const bool over = Await([&] {
    region.mapping()->port()->Rest(self.slot());                       // as whoever waits does
    return control.named_segment.Load() >= 2 * (end().segment + 1) ||  // by its spare's name
           enough() || poisoned();
  });
  return over ? absl::OkStatus() : absl::DeadlineExceededError("there is no spare");
}

// Advance, for tests of what a spare brings about.
inline absl::StatusOr<Epoch> AdvanceWithSpare(const Region& region, Participant& self) {
  absl::StatusOr<Epoch> made = Advance(self);
  if (!made.ok()) return made;
  if (absl::Status s = AwaitSpare(region, self); !s.ok()) return s;
  return made;
}

inline std::vector<std::string> SegmentsIn(const std::string& directory) {
  std::vector<std::string> paths;
  absl::StatusOr<std::vector<journal::SegmentFile>> files = journal::ListSegments(directory);
  EXPECT_OK(files);
  if (files.ok()) {
    for (const journal::SegmentFile& file : *files) paths.push_back(file.path);
  }
  return paths;
}

// All batches of a journal that must be sound from end to end.
inline std::vector<journal::BatchInfo> BatchesIn(const std::string& directory) {
  std::vector<journal::BatchInfo> batches;
  journal::ScanOptions options;
  options.on_batch = [&](const journal::BatchInfo& batch) { batches.push_back(batch); };
  absl::StatusOr<journal::JournalScan> scan = journal::ScanJournal(directory, options);
  EXPECT_OK(scan);
  if (scan.ok()) {
    EXPECT_THAT(scan->damage, testing::IsEmpty());
  }
  return batches;
}

// Nothing is damaged, and the records are exactly the epochs up to `last`, each with its state.
inline void ExpectCompleteHistory(const std::string& directory, Epoch last) {
  Epoch next = 1;
  journal::ScanOptions options;
  options.on_record = [&](const journal::Record& record) {
    EXPECT_EQ(record.header.epoch, next);
    EXPECT_TRUE(record.payload_ok);
    EXPECT_EQ(ReadChecked(record.payload), record.header.epoch);
    next = record.header.epoch + 1;
  };
  absl::StatusOr<journal::JournalScan> scan = journal::ScanJournal(directory, options);
  ASSERT_OK(scan);
  EXPECT_THAT(scan->damage, testing::IsEmpty());
  EXPECT_EQ(next, last + 1);
}

// Recomputes the CRCs of a block that was edited, so that only its meaning is wrong.
inline void Reseal(Bytes& segment, const journal::SegmentHeader& of, std::uint64_t block) {
  std::byte* at = segment.data() + block * kBlockBytes;
  const std::uint32_t crc = journal::BlockCrc(of.journal, of.segment, block, at);
  std::memcpy(at + journal::kContentBytes, &crc, sizeof crc);
}

inline journal::SegmentHeader HeaderOf(const Bytes& segment) {
  journal::SegmentHeader header;
  std::memcpy(&header, segment.data(), sizeof header);
  return header;
}

// Changes a batch header and reseals it and its block.
inline void EditBatch(Bytes& segment, std::uint64_t block,
                      const std::function<void(journal::BatchHeader&)>& edit) {
  journal::BatchHeader header;
  std::memcpy(&header, segment.data() + block * kBlockBytes, sizeof header);
  edit(header);
  header.crc = journal::BatchHeaderCrc(header);
  std::memcpy(segment.data() + block * kBlockBytes, &header, sizeof header);
  Reseal(segment, HeaderOf(segment), block);
}

class JournalTest : public testing::Test {
 protected:
  const std::string& name() const { return name_.name(); }
  std::string directory() const { return scratch_ / "journal"; }
  RegionOptions Options() const { return SmallDurable(directory()); }

  // One batch per size; then the region is gone and the journal is left.
  void WriteJournal(const std::vector<std::size_t>& sizes) { WriteJournal(sizes, Options()); }
  void WriteJournal(const std::vector<std::size_t>& sizes, const RegionOptions& options) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name(), options);
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (std::size_t size : sizes) ASSERT_OK(Advance(*self, size));
    ASSERT_OK(Region::Unlink(name()));
  }

  // Restores, checks that the state is that of `epoch`, and leaves the journal without a region.
  void ExpectRestores(const RegionOptions& options, Epoch epoch) {
    absl::StatusOr<Region> region = Region::Restore(name(), options);
    ASSERT_OK(region);
    ExpectState(*region, epoch);
    ASSERT_OK(Region::Unlink(name()));
  }
  static void ExpectState(const Region& region, Epoch epoch) {
    absl::StatusOr<Snapshot> snapshot = region.Read();
    ASSERT_OK(snapshot);
    EXPECT_EQ(snapshot->epoch, epoch);
    EXPECT_EQ(ReadChecked(snapshot->state), epoch);
  }

  ScratchName name_;
  ScratchDirectory scratch_;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_JOURNAL_JOURNAL_TEST_H_
