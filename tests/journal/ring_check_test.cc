// K11: a word of the batch ring that is not what it was is found by a check, or harms nobody: what
// is committed over it is recovered.
#include <atomic>
#include <map>
#include <thread>

#include "core/inspect/region_check.h"
#include "core/journal/write/ends.h"
#include "journal_test.h"

namespace epoch::test {
namespace {

using detail::BatchWords;
using detail::Control;
using detail::StateWord;
using inspect::CheckRegion;
using inspect::Finding;
using testing::HasSubstr;

constexpr std::size_t kRing = sizeof(detail::Superblock) + offsetof(Control, ring);

std::vector<std::string> Findings(const std::string& path) {
  std::vector<std::string> found;
  const auto report = CheckRegion(path);
  if (!report.ok()) return {std::string(report.status().message())};
  for (const Finding& finding : report->findings) {
    found.push_back(finding.where + ": " + finding.what);
  }
  return found;
}

struct Word {
  const char* name;
  std::size_t offset;
};
constexpr Word kWords[] = {
    {"w", offsetof(BatchWords, w)}, {"e", offsetof(BatchWords, e)}, {"h", offsetof(BatchWords, h)}};

// What a word may have become: a little more or less, or one bit another.
std::vector<std::pair<std::string, std::uint64_t>> Altered(std::uint64_t word) {
  std::vector<std::pair<std::string, std::uint64_t>> altered;
  for (const int by : {-2, -1, 1, 2}) {
    altered.emplace_back(absl::StrCat(by), word + static_cast<std::uint64_t>(by));
  }
  for (int bit = 0; bit < 64; ++bit) {
    altered.emplace_back(absl::StrCat("bit ", bit), word ^ (std::uint64_t{1} << bit));
  }
  return altered;
}

// How the region comes to be at rest.
struct Past {
  const char* name;
  int commits;
  std::size_t bytes;     // of each state
  std::size_t most;      // of any
  bool retired = false;  // the segments behind the newest are gone
};
void PrintTo(const Past& past, std::ostream* os) { *os << past.name; }

class RingCheckTest : public JournalTest, public testing::WithParamInterface<Past> {
 protected:
  RegionOptions Options() const {
    RegionOptions options = SmallDurable(directory());
    options.state_bytes = GetParam().most;
    options.versions = 8;  // recycled within a few commits
    options.segment_bytes = journal::MinSegmentBlocks(options.state_bytes) * kBlockBytes;
    return options;
  }
  void Make() {
    absl::StatusOr<Region> region = Region::Create(name(), Options());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (int i = 0; i < GetParam().commits; ++i) ASSERT_OK(Advance(*self, GetParam().bytes));
    self = absl::UnknownError("gone");
    region = absl::UnknownError("gone");
    std::vector<std::string> segments = SegmentsIn(directory());
    if (!GetParam().retired) return;
    segments.pop_back();
    ASSERT_FALSE(segments.empty());
    for (const std::string& path : segments) std::filesystem::remove(path);
  }
  void RemoveAll() {
    Region::Unlink(name()).IgnoreError();
    std::filesystem::remove_all(directory());
  }
  // Whether two more commits go through, and all of it is there in the end.
  void ExpectHarmless() {
    Epoch last = 0;
    {
      const absl::StatusOr<Region> region = Region::Open(name());
      ASSERT_OK(region);
      absl::StatusOr<Participant> self = Participant::Join(*region);
      ASSERT_OK(self);
      for (int i = 0; i < 2; ++i) ASSERT_OK(Advance(*self, GetParam().bytes));
      last = region->epoch();
    }
    EXPECT_EQ(last, static_cast<Epoch>(GetParam().commits) + 2);
    EXPECT_THAT(Findings(name_.path()), testing::IsEmpty());
    ASSERT_OK(Region::Unlink(name()));
    const absl::StatusOr<Region> restored = Region::Restore(name(), Options());
    ASSERT_OK(restored);
    ExpectState(*restored, last);
  }
};

INSTANTIATE_TEST_SUITE_P(
    After, RingCheckTest,
    testing::Values(Past{"NoCommit", 0, 200, 4096}, Past{"TwoCommits", 2, 200, 4096},
                    Past{"ManyInOneSegment", 40, 200, 4096},
                    // Sixteen fill a segment, so most of the ring is of the one before.
                    Past{"Rolled", 35, 60'000, 65'536},
                    Past{"RolledAndRetired", 35, 60'000, 65'536, true}),
    [](const auto& suite) { return std::string(suite.param.name); });

TEST_P(RingCheckTest, an_altered_word_of_the_batch_ring_is_found_or_harmless) {
  ASSERT_NO_FATAL_FAILURE(Make());
  ASSERT_THAT(Findings(name_.path()), testing::IsEmpty());
  // Of those that are not found, one of each kind is tried: the word, and what became of it.
  std::map<std::pair<std::string, std::string>, int> passed_over;
  int found = 0, newest = 0;
  {
    const absl::StatusOr<Region> region = Region::Open(name(), {.read_only = true});
    ASSERT_OK(region);
    newest = journal::ReadRing(*region->mapping()->view().control).newest;
  }
  const std::string bytes = ReadText(name_.path());
  for (int back = 0; back < detail::kBatchRingSlots; ++back) {
    const int slot = (newest - back + detail::kBatchRingSlots) % detail::kBatchRingSlots;
    for (const Word& word : kWords) {
      const std::size_t at =
          kRing + static_cast<std::size_t>(slot) * sizeof(BatchWords) + word.offset;
      std::uint64_t sound;
      std::memcpy(&sound, bytes.data() + at, sizeof sound);
      int which = 0;
      for (const auto& [how, altered] : Altered(sound)) {
        // Of the older ones some bits will do.
        if (back > 2 && ++which > 4 && (which + back) % 7 != 0) continue;
        Patch(name_.path(), at, &altered, sizeof altered);
        if (Findings(name_.path()).empty()) {
          // The word of the newest batch, and its predecessor's, decide what is written next.
          EXPECT_TRUE(back >= 2 || GetParam().commits == 0)
              << word.name << " of batch -" << back << ", " << how;
          passed_over.emplace(std::pair{std::string(word.name), how}, back);
        } else {
          ++found;
        }
        Patch(name_.path(), at, &sound, sizeof sound);
      }
    }
  }
  EXPECT_GT(found, 0);
  EXPECT_THAT(Findings(name_.path()), testing::IsEmpty());
  // Where no segment is gone, nothing but the cell of a state that is long gone can be another. And
  // before the first commit a ring may be counted from anywhere.
  std::map<std::string, int> tried;
  constexpr int kMostTried = 8;  // of each word
  for (const auto& [what, back] : passed_over) {
    if (++tried[what.first] > kMostTried) continue;
    SCOPED_TRACE(absl::StrCat(what.first, " of batch -", back, ", ", what.second));
    if (!GetParam().retired && GetParam().commits != 0) {
      EXPECT_EQ(what.first, "w");
    }
    RemoveAll();
    ASSERT_NO_FATAL_FAILURE(Make());
    std::uint64_t word;
    {
      const absl::StatusOr<Region> region = Region::Open(name(), {.read_only = true});
      ASSERT_OK(region);
      newest = journal::ReadRing(*region->mapping()->view().control).newest;
    }
    const int slot = (newest - back + detail::kBatchRingSlots) % detail::kBatchRingSlots;
    std::size_t at = kRing + static_cast<std::size_t>(slot) * sizeof(BatchWords);
    for (const Word& w : kWords) at += what.first == w.name ? w.offset : 0;
    const std::string now = ReadText(name_.path());
    std::memcpy(&word, now.data() + at, sizeof word);
    for (const auto& [how, altered] : Altered(word)) {
      if (how == what.second) Patch(name_.path(), at, &altered, sizeof altered);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectHarmless());
  }
}

class DurabilityCheckTest : public JournalTest {
 protected:
  void Make(int commits) {
    absl::StatusOr<Region> region = Region::Create(name(), Options());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (int i = 0; i < commits; ++i) ASSERT_OK(Advance(*self, 20'000));
  }
  std::vector<std::string> Found() const { return Findings(name_.path()); }
};

TEST_F(DurabilityCheckTest, AnAlteredEndIsFoundBeforeAnythingIsAcknowledgedOverIt) {
  ASSERT_NO_FATAL_FAILURE(Make(5));
  const absl::StatusOr<Region> region = Region::Open(name(), {.read_only = true});
  ASSERT_OK(region);
  const auto ring = journal::ReadRing(*region->mapping()->view().control);
  const std::uint64_t less = ring.At(0).e - 2;
  Patch(
      name_.path(),
      kRing + static_cast<std::size_t>(ring.newest) * sizeof(BatchWords) + offsetof(BatchWords, e),
      &less, sizeof less);
  EXPECT_THAT(Found(), testing::Contains(HasSubstr("has no end of a batch")));
  EXPECT_THAT(Found(), testing::Contains(HasSubstr("journal: ")));
}

TEST_F(DurabilityCheckTest, AnAlteredTailOrNameIsFound) {
  ASSERT_NO_FATAL_FAILURE(Make(5));
  ASSERT_THAT(Found(), testing::IsEmpty());
  const std::string bytes = ReadText(name_.path());
  for (const std::size_t offset : {offsetof(Control, head), offsetof(Control, tail)}) {
    const std::size_t at = sizeof(detail::Superblock) + offset;
    std::uint64_t sound;
    std::memcpy(&sound, bytes.data() + at, sizeof sound);
    for (const auto& [how, altered] : Altered(sound)) {
      Patch(name_.path(), at, &altered, sizeof altered);
      EXPECT_THAT(Found(), testing::Not(testing::IsEmpty())) << offset << " " << how;
      Patch(name_.path(), at, &sound, sizeof sound);
    }
  }
  // Nobody would sync a name that is durable, it says.
  const std::uint64_t named = 2 * 2 + 1;
  Patch(name_.path(), sizeof(detail::Superblock) + offsetof(Control, named_segment), &named,
        sizeof named);
  EXPECT_THAT(Found(), testing::Contains(HasSubstr("the name of segment 2 is durable")));
}

TEST_F(DurabilityCheckTest, TheJournalIsLookedAtToo) {
  ASSERT_NO_FATAL_FAILURE(Make(5));
  const std::string away = directory() + ".away";
  std::filesystem::rename(directory(), away);
  EXPECT_THAT(Found(), testing::ElementsAre(HasSubstr(directory())));
  std::filesystem::create_directory(directory());
  EXPECT_THAT(Found(), testing::ElementsAre(HasSubstr("holds no journal segments any more")));
  // Another's.
  std::filesystem::remove(directory());
  const ScratchName other;
  ASSERT_OK(Region::Create(other.name(), Options()));
  EXPECT_THAT(Found(), testing::ElementsAre(HasSubstr("holds another journal")));
  std::filesystem::remove_all(directory());
  std::filesystem::rename(away, directory());
  EXPECT_THAT(Found(), testing::IsEmpty());
  // What was acknowledged is damaged; what was is gone.
  const std::string path = SegmentsIn(directory()).front();
  const Bytes sound = ReadBytes(path);
  const auto batches = BatchesIn(directory());
  Patch(path, batches.at(2).offset_bytes + kBlockBytes + 100, "damage");
  EXPECT_THAT(Found(), testing::Contains(HasSubstr("acknowledged and are damaged")));
  WriteBytes(path, sound);
  const Bytes zeros(sound.size() - batches.at(3).offset_bytes);
  Patch(path, batches.at(3).offset_bytes, zeros.data(), zeros.size());
  EXPECT_THAT(Found(), testing::Contains(HasSubstr("its log ends at block")));
}

TEST_F(DurabilityCheckTest, ASupersededRegionIsNoDamage) {
  ASSERT_NO_FATAL_FAILURE(Make(5));
  const ScratchName heir;
  ASSERT_OK(Region::Restore(heir.name(), Options()));
  const auto report = CheckRegion(name_.path());
  ASSERT_OK(report);
  EXPECT_FALSE(report->damaged());
  EXPECT_THAT(Found(), testing::ElementsAre(HasSubstr("was superseded")));
}

TEST_F(DurabilityCheckTest, ARegionThatCommitsMeanwhileIsSound) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  std::atomic<bool> over{false};
  std::vector<std::thread> writers;
  for (int i = 0; i < 2; ++i) {
    writers.emplace_back([&, i] {
      absl::StatusOr<Participant> self = Participant::Join(*region);
      EXPECT_OK(self);
      for (int n = 0; self.ok() && !over.load(); ++n) {
        // They roll now and then.
        EXPECT_OK(Advance(*self, n % 8 == i ? kBigStateBytes : 300));
      }
    });
  }
  // Until it has rolled a few times under the check's eyes.
  const bool rolled = Await([&] {
    const auto report = CheckRegion(name_.path());
    EXPECT_OK(report);
    EXPECT_FALSE(report.ok() && report->damaged()) << testing::PrintToString(Found());
    return SegmentsIn(directory()).size() >= 6;
  });
  over.store(true);
  for (std::thread& writer : writers) writer.join();
  EXPECT_TRUE(rolled);
  EXPECT_THAT(Found(), testing::IsEmpty());
}

// A reading of a batch from when it was frozen. By now it is written, and its versions are
// recycled: so nothing in memory tells its end, and nothing is wrong with it.
TEST_F(JournalTest, ABatchThatWasWrittenSinceItWasReadIsNotDamaged) {
  RegionOptions options = Options();
  options.versions = 4;
  const absl::StatusOr<Region> region = Region::Create(name(), options);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  for (int i = 0; i < 10; ++i) ASSERT_OK(Advance(*self));
  const detail::Mapping& mapping = *region->mapping();
  const journal::BatchBuilder builder(mapping.view(), mapping.superblock());
  journal::Ends ends(mapping.view(), mapping.superblock(), builder);
  journal::OpenSegment segment;
  segment.number = 1;
  journal::RingReading ring = journal::ReadRing(*mapping.view().control);
  int offset = -6;
  while (detail::BatchW::Unpack(ring.At(offset).w).hint_only) --offset;
  journal::BatchReading& batch =
      ring.slots[static_cast<std::size_t>(journal::RingReading::Slot(ring.newest + offset))];
  detail::BatchW w = detail::BatchW::Unpack(batch.w);
  ASSERT_EQ(w.state, detail::BatchState::kWritten);
  w.state = detail::BatchState::kFrozen;
  batch.w = w.Pack();
  const auto verdict = ends.Check(ring, offset, segment);
  ASSERT_OK(verdict);
  EXPECT_EQ(*verdict, journal::Ends::Verdict::kStale);
}

}  // namespace
}  // namespace epoch::test
