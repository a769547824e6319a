// The end of the log: what counts as torn and is cut, what counts as lost and is reported.
#include <sys/stat.h>

#include <cstring>
#include <random>

#include "journal_test.h"

namespace epoch::test {
namespace {

using journal::BatchInfo;
using journal::Preview;
using journal::SegmentScan;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

constexpr std::size_t kLargeBytes = 18'000;  // five blocks, none of whose sectors is all zero

class ReaderTest : public JournalTest {
 protected:
  // Batches of the given sizes in one segment, read into memory.
  void Write(const std::vector<std::size_t>& sizes) {
    ASSERT_NO_FATAL_FAILURE(WriteJournal(sizes));
    batches_ = BatchesIn(directory());
    ASSERT_EQ(batches_.size(), sizes.size() + 1);
    path_ = SegmentsIn(directory()).back();
    // As if the last writer had been killed: without the evidence that it leaves at its end.
    with_hint_ = ReadBytes(path_);
    ASSERT_NE(last().header.flags & journal::kBatchHintOnly, 0u);
    const Bytes zeros(kBlockBytes);
    Patch(path_, last().offset_bytes, zeros.data(), zeros.size());
    batches_.pop_back();
    original_ = ReadBytes(path_);
  }
  const BatchInfo& last() const { return batches_.back(); }
  std::uint64_t BytesOf(const BatchInfo& batch) const { return batch.header.blocks * kBlockBytes; }

  absl::StatusOr<SegmentScan> RecoveredFrom(const Bytes& segment, bool ignore_damage = false) {
    WriteBytes(path_, segment);
    return Preview(directory(), ignore_damage);
  }
  void ExpectPrefix(const Bytes& segment, Epoch epoch) {
    absl::StatusOr<SegmentScan> scan = RecoveredFrom(segment);
    ASSERT_OK(scan);
    EXPECT_EQ(scan->epoch, epoch);
    EXPECT_EQ(ReadChecked(scan->state), epoch);
  }

  std::vector<BatchInfo> batches_;
  std::string path_;
  Bytes original_;
  Bytes with_hint_;
};

TEST_F(ReaderTest, WhoeverIsTheLastToLetGoLeavesEvidenceOfTheLastCommit) {
  ASSERT_NO_FATAL_FAILURE(Write({100, 300, 300}));
  absl::StatusOr<SegmentScan> scan = RecoveredFrom(with_hint_);
  ASSERT_OK(scan);
  EXPECT_EQ(scan->epoch, 3u);
  EXPECT_FALSE(scan->torn);
  // The last commit comes back as zeros: without that evidence a torn write, with it a loss.
  for (const bool hinted : {false, true}) {
    Bytes lost = hinted ? with_hint_ : original_;
    std::memset(lost.data() + last().offset_bytes, 0, BytesOf(last()));
    if (hinted) {
      EXPECT_FAILS(RecoveredFrom(lost), kDataLoss, "epochs 3 to 3 were acknowledged");
    } else {
      ExpectPrefix(lost, 2);
    }
  }
}

TEST_F(ReaderTest, TellsWhichBatchesNothingBehindThemProves) {
  ASSERT_NO_FATAL_FAILURE(Write({100, kLargeBytes, 300, kLargeBytes}));
  const auto expect_from = [this](const Bytes& segment, std::uint64_t from, std::uint64_t to) {
    WriteBytes(path_, segment);
    journal::ScanOptions options;
    options.keep_unproven = true;
    const absl::StatusOr<SegmentScan> scan = journal::ScanSegmentFile(path_, options);
    ASSERT_OK(scan);
    ASSERT_EQ(scan->end_block * kBlockBytes, to);
    ASSERT_EQ(scan->unproven.size(), to - from);
    EXPECT_EQ(std::memcmp(scan->unproven.data(), segment.data() + from, to - from), 0);
  };
  // Each commit was waited for, so each batch hints at the one before it.
  expect_from(original_, last().offset_bytes, last().offset_bytes + BytesOf(last()));
  // A hint-only batch proves all before it, and nothing proves that one.
  const std::uint64_t hint = last().offset_bytes + BytesOf(last());
  expect_from(with_hint_, hint, hint + kBlockBytes);
  // As if all had been under way at a time.
  Bytes hintless = original_;
  for (const BatchInfo& batch : batches_) {
    journal::BatchHeader header = batch.header;
    header.durable_hint = 1;
    header.crc = journal::BatchHeaderCrc(header);
    std::memcpy(hintless.data() + batch.offset_bytes, &header, sizeof header);
    Reseal(hintless, HeaderOf(original_), batch.offset_bytes / kBlockBytes);
  }
  expect_from(hintless, batches_[1].offset_bytes, last().offset_bytes + BytesOf(last()));
}

TEST_F(ReaderTest, ASegmentThatWasRolledFromKnowsItsSuccessor) {
  // Enough for three segments.
  ASSERT_NO_FATAL_FAILURE(WriteJournal(std::vector<std::size_t>(200, kLargeBytes)));
  const std::vector<std::string> paths = SegmentsIn(directory());
  ASSERT_GE(paths.size(), 3u);
  ASSERT_OK(Preview(directory()));
  std::filesystem::remove(paths.back());
  EXPECT_FAILS(Preview(directory()), kDataLoss, "is not the newest segment");
  EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "is not the newest segment");
}

TEST_F(ReaderTest, CutsATailTornAtEverySector) {
  ASSERT_NO_FATAL_FAILURE(Write({100, kLargeBytes, kLargeBytes}));
  const std::uint64_t sectors = BytesOf(last()) / kSectorBytes;
  ASSERT_EQ(sectors, 5 * 8u);
  for (std::uint64_t kept = 0; kept <= sectors; ++kept) {
    SCOPED_TRACE(kept);
    Bytes torn = original_;
    const std::uint64_t from = last().offset_bytes + kept * kSectorBytes;
    std::fill(torn.begin() + static_cast<long>(from),
              torn.begin() + static_cast<long>(last().offset_bytes + BytesOf(last())),
              std::byte{0});
    ExpectPrefix(torn, kept == sectors ? 3 : 2);
    // Recovery itself agrees, and gives the same a second time.
    if (kept % 13 == 0) {
      ExpectRestores(Options(), kept == sectors ? 3 : 2);
      ExpectRestores(Options(), kept == sectors ? 3 : 2);
      for (const std::string& path : SegmentsIn(directory())) {
        if (path != path_) std::filesystem::remove(path);
      }
    }
  }
}

TEST_F(ReaderTest, CutsATailThatLostAnySetOfSectors) {
  ASSERT_NO_FATAL_FAILURE(Write({100, kLargeBytes, kLargeBytes}));
  const std::uint64_t sectors = BytesOf(last()) / kSectorBytes;
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    Bytes torn = original_;
    // Between one lost sector and nearly all of them.
    const std::uint64_t odds = 1 + random() % 8;
    bool lost = false;
    for (std::uint64_t s = 0; s < sectors || !lost; ++s) {
      if (s < sectors && random() % 8 >= odds) continue;
      lost = true;
      std::memset(torn.data() + last().offset_bytes + s % sectors * kSectorBytes, 0, kSectorBytes);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectPrefix(torn, 2)) << round;
  }
}

TEST_F(ReaderTest, ReportsDamageThatALaterBatchProves) {
  ASSERT_NO_FATAL_FAILURE(Write({300, kLargeBytes, 300, kLargeBytes, 300}));
  std::mt19937_64 random(5);
  for (std::size_t i = 0; i + 1 < batches_.size(); ++i) {
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t at = batches_[i].offset_bytes + random() % BytesOf(batches_[i]);
      SCOPED_TRACE(testing::Message() << "batch " << i << " offset " << at);
      Bytes damaged = original_;
      damaged[at] ^= static_cast<std::byte>(1u << (random() % 8));
      const absl::StatusOr<SegmentScan> scan = RecoveredFrom(damaged);
      ASSERT_EQ(CodeOf(scan), absl::StatusCode::kDataLoss);
      EXPECT_THAT(MessageOf(scan), HasSubstr(path_));
      EXPECT_THAT(MessageOf(scan), HasSubstr("offset " + std::to_string(batches_[i].offset_bytes)));
      EXPECT_THAT(MessageOf(scan), HasSubstr("epochs " + std::to_string(i + 1) + " to "));
    }
  }
}

TEST_F(ReaderTest, ReportsAWholeLostBatchThatALaterHeaderProves) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300, kLargeBytes}));
  // Batch 2 came back as zeros; of batch 3 only the first sector is left.
  Bytes damaged = original_;
  std::memset(damaged.data() + batches_[1].offset_bytes, 0, BytesOf(batches_[1]));
  std::memset(damaged.data() + last().offset_bytes + kSectorBytes, 0,
              BytesOf(last()) - kSectorBytes);
  EXPECT_FAILS(RecoveredFrom(damaged), kDataLoss, "epochs 2 to 2 were acknowledged");
}

TEST_F(ReaderTest, DoesNotTakeForeignOrMisplacedHeadersForProof) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300, 300}));
  // The last batch is torn. Behind it stands what a header must not be to prove anything.
  Bytes torn = original_;
  std::memset(torn.data() + last().offset_bytes + kSectorBytes, 0, BytesOf(last()) - kSectorBytes);
  const std::uint64_t behind = last().header.block + 3;
  const auto put = [&](const std::function<void(journal::BatchHeader&)>& edit) {
    Bytes bytes = torn;
    journal::BatchHeader header = last().header;
    header.block = behind;
    header.durable_hint = 1000;
    edit(header);
    header.crc = journal::BatchHeaderCrc(header);
    std::memcpy(bytes.data() + behind * kBlockBytes, &header, sizeof header);
    return RecoveredFrom(bytes);
  };
  EXPECT_FAILS(put([](auto&) {}), kDataLoss, "prove");
  EXPECT_OK(put([](auto& h) { h.journal[3] ^= 1; }));
  EXPECT_OK(put([](auto& h) { h.incarnation[3] ^= 1; }));
  EXPECT_OK(put([](auto& h) { ++h.segment; }));
  EXPECT_OK(put([](auto& h) { ++h.block; }));
  EXPECT_OK(put([](auto& h) { h.durable_hint = 2; }));
}

TEST_F(ReaderTest, ReportsAValidBatchThatDoesNotContinueTheChain) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300, 300}));
  const auto edited = [&](const std::function<void(journal::BatchHeader&)>& edit) {
    Bytes bytes = original_;
    EditBatch(bytes, last().header.block, edit);
    return RecoveredFrom(bytes);
  };
  EXPECT_OK(edited([](auto&) {}));
  EXPECT_FAILS(edited([](auto& h) { h.previous_chain ^= 1; }), kDataLoss, "chain");
  EXPECT_FAILS(edited([](auto& h) { h.chain ^= 1; }), kDataLoss, "chain");
  EXPECT_FAILS(edited([](auto& h) { ++h.first_epoch, ++h.last_epoch; }), kDataLoss, "epochs");
  EXPECT_FAILS(edited([](auto& h) { h.records = 2; }), kDataLoss, "epochs");
  EXPECT_FAILS(edited([](auto& h) { h.blocks = 0; }), kDataLoss, "length");
  EXPECT_FAILS(edited([](auto& h) { h.blocks = ~std::uint64_t{0}; }), kDataLoss, "length");
  EXPECT_FAILS(edited([](auto& h) { h.records = ~std::uint64_t{0}, h.last_epoch = 1; }), kDataLoss,
               "epochs");
}

// There the versions in between are not kept, so only the batches' own words tie the chain.
TEST_F(ReaderTest, ReportsABrokenChainOfLatestStates) {
  RegionOptions options = Options();
  options.history = History::kLatest;
  ASSERT_NO_FATAL_FAILURE(WriteJournal({300, 300}, options));
  batches_ = BatchesIn(directory());
  path_ = SegmentsIn(directory()).back();
  Bytes bytes = ReadBytes(path_);
  EditBatch(bytes, last().header.block, [](auto& h) { h.previous_chain ^= 1; });
  EXPECT_FAILS(RecoveredFrom(bytes), kDataLoss, "the chain does not continue");
}

TEST_F(ReaderTest, ReportsRecordsThatContradictTheirBatch) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300}));
  const auto edited = [&](const std::function<void(journal::RecordHeader&)>& edit) {
    Bytes bytes = original_;
    constexpr std::size_t kAt = sizeof(journal::BatchHeader);
    std::byte* const at = bytes.data() + last().offset_bytes + kAt;
    const std::uint64_t mask =
        journal::BlockMask(last().header.journal, last().header.segment, last().header.block);
    journal::RecordHeader record;
    journal::Mask(at, sizeof record, kAt, mask);
    std::memcpy(&record, at, sizeof record);
    edit(record);
    std::memcpy(at, &record, sizeof record);
    journal::Mask(at, sizeof record, kAt, mask);
    Reseal(bytes, HeaderOf(bytes), last().header.block);
    return RecoveredFrom(bytes);
  };
  EXPECT_OK(edited([](auto&) {}));
  EXPECT_FAILS(edited([](auto& r) { ++r.epoch; }), kDataLoss, "epoch");
  EXPECT_FAILS(edited([](auto& r) { r.digest ^= 1; }), kDataLoss, "");
  EXPECT_FAILS(edited([](auto& r) { r.token ^= 1; }), kDataLoss, "chain");
  for (const std::uint64_t length : {std::uint64_t{4092}, ~std::uint64_t{0}, ~std::uint64_t{6}}) {
    EXPECT_FAILS(edited([&](auto& r) { r.length_bytes = length; }), kDataLoss, "record");
  }
}

TEST_F(ReaderTest, ReportsABlockDamagedWithoutAnUnwrittenSectorUnlessToldToGoOn) {
  ASSERT_NO_FATAL_FAILURE(Write({300, kLargeBytes, kLargeBytes}));
  Bytes damaged = original_;
  const std::uint64_t block = last().header.block + 2;
  damaged[block * kBlockBytes + 100] ^= std::byte{4};
  const absl::StatusOr<SegmentScan> refused = RecoveredFrom(damaged);
  EXPECT_FAILS(refused, kDataLoss, path_);
  EXPECT_THAT(MessageOf(refused), HasSubstr("offset " + std::to_string(block * kBlockBytes)));
  EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "damaged, not torn");
  EXPECT_EQ(SegmentsIn(directory()).size(), 1u) << "a refusal changes nothing";

  RegionOptions options = Options();
  options.ignore_block_damage = true;
  ExpectRestores(options, 2);
  // What was decided then is recorded: from here on nothing has to be ignored.
  ExpectRestores(Options(), 2);
}

TEST_F(ReaderTest, NeverGivesWayToAProofOfLossWhenTold) {
  ASSERT_NO_FATAL_FAILURE(Write({300, kLargeBytes, 300}));
  Bytes damaged = original_;
  damaged[batches_[1].offset_bytes + 5000] ^= std::byte{4};
  EXPECT_FAILS(RecoveredFrom(damaged, /*ignore_damage=*/true), kDataLoss, "epochs 2 to 2");
}

TEST_F(ReaderTest, ReportsADamagedHeaderOrBase) {
  ASSERT_NO_FATAL_FAILURE(Write({kLargeBytes}));
  ExpectRestores(Options(), 1);  // now the newest segment has a base of several blocks
  path_ = SegmentsIn(directory()).back();
  original_ = ReadBytes(path_);
  ASSERT_EQ(HeaderOf(original_).base_length_bytes, kLargeBytes);
  for (std::uint64_t at = 0; at < 6 * kBlockBytes; at += at < 200 ? 1 : 97) {
    Bytes damaged = original_;
    damaged[at] ^= std::byte{0x10};
    const absl::StatusOr<SegmentScan> scan = RecoveredFrom(damaged);
    // The format's number is looked at first: a damaged one is taken at its word.
    const bool format = at >= 8 && at < 12;
    EXPECT_EQ(CodeOf(scan), format ? absl::StatusCode::kUnimplemented : absl::StatusCode::kDataLoss)
        << at;
    EXPECT_THAT(MessageOf(scan), HasSubstr(path_));
  }
}

TEST_F(ReaderTest, NamesBothFormatsOfAnotherVersion) {
  ASSERT_NO_FATAL_FAILURE(Write({300}));
  for (const std::uint32_t major : {0u, journal::kFormatMajor + 1, 77u}) {
    Bytes other = original_;
    journal::SegmentHeader header = HeaderOf(other);
    header.format_major = major;
    std::memcpy(other.data(), &header, sizeof header);
    Reseal(other, header, 0);
    const absl::StatusOr<SegmentScan> scan = RecoveredFrom(other);
    EXPECT_FAILS(scan, kUnimplemented, "format " + std::to_string(major));
    EXPECT_THAT(MessageOf(scan), HasSubstr("speaks 1 to 3"));
  }
}

TEST_F(ReaderTest, RefusesImpossibleSizesInASealedHeader) {
  ASSERT_NO_FATAL_FAILURE(Write({300}));
  constexpr std::uint64_t kHuge[] = {~std::uint64_t{0}, std::uint64_t{1} << 63,
                                     std::uint64_t{1} << 41};
  const auto edited = [&](const std::function<void(journal::SegmentHeader&)>& edit) {
    Bytes bytes = original_;
    journal::SegmentHeader header = HeaderOf(bytes);
    edit(header);
    std::memcpy(bytes.data(), &header, sizeof header);
    Reseal(bytes, header, 0);
    return RecoveredFrom(bytes);
  };
  for (const std::uint64_t huge : kHuge) {
    EXPECT_FAILS(edited([&](auto& h) { h.base_length_bytes = h.state_bytes = huge; }), kDataLoss,
                 "contradicts");
    EXPECT_FAILS(edited([&](auto& h) { h.capacity_blocks = huge; }), kDataLoss, "truncated");
  }
  EXPECT_FAILS(edited([](auto& h) { h.capacity_blocks = 0; }), kDataLoss, "");
  EXPECT_FAILS(edited([](auto& h) { h.block_bytes = 512; }), kDataLoss, "");
  EXPECT_FAILS(edited([](auto& h) { h.history = static_cast<History>(9); }), kDataLoss, "");
}

TEST_F(ReaderTest, RefusesWhatIsNoSegment) {
  ASSERT_NO_FATAL_FAILURE(Write({300}));
  std::mt19937 random(3);
  Bytes noise(kBlockBytes * 3);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
  EXPECT_FAILS(RecoveredFrom(noise), kDataLoss, "not a journal segment");
  EXPECT_FAILS(RecoveredFrom(Bytes(kBlockBytes * 3)), kDataLoss, "not a journal segment");
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, kBlockBytes, kBlockBytes + 1, original_.size() - 1}) {
    const Bytes cut(original_.begin(), original_.begin() + static_cast<long>(size));
    EXPECT_FAILS(RecoveredFrom(cut), kDataLoss, "truncated");
    EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "truncated");
  }
}

TEST_F(ReaderTest, DoesNotHangOnAFifoUnderASegmentsName) {
  ASSERT_NO_FATAL_FAILURE(Write({300}));
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(Preview(directory()).ok());
  EXPECT_FALSE(journal::ScanJournal(directory()).ok());
  EXPECT_FALSE(Region::Restore(name(), Options()).ok());
}

TEST_F(ReaderTest, RefusesTwoJournalsInOneDirectory) {
  ASSERT_NO_FATAL_FAILURE(Write({300}));
  std::string other = path_;
  other[directory().size() + 1 + 6] ^= 1;  // the first digit of the journal's id
  std::filesystem::copy_file(path_, other);
  EXPECT_FAILS(Preview(directory()), kDataLoss, "two journals");
  EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "two journals");
  EXPECT_FAILS(Region::OpenOrCreate(name(), Options()), kDataLoss, "two journals");
}

TEST_F(ReaderTest, DoesNotTakeAnEmptyDirectoryForANewJournal) {
  std::filesystem::create_directory(directory());
  EXPECT_FAILS(Preview(directory()), kDataLoss, "no journal segments");
  EXPECT_FAILS(Region::Restore(name(), Options()), kDataLoss, "no journal segments");
  EXPECT_FAILS(Region::OpenOrCreate(name(), Options()), kDataLoss, "no journal segments");
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
}

// Whatever single byte is damaged: a report, or, behind the end, the exact newest state. A write
// torn by a crash leaves sectors that are all zero, and one damaged byte does not.
TEST_F(ReaderTest, NoDamagedByteGoesUnnoticed) {
  ASSERT_NO_FATAL_FAILURE(Write({200, 3000, kLargeBytes, 16, 200}));
  const std::uint64_t used = last().offset_bytes + BytesOf(last());
  std::mt19937_64 random(23);
  const detail::Fd file(open(path_.c_str(), O_RDWR | O_CLOEXEC));
  int reported = 0, exact = 0;
  for (std::uint64_t at = 0; at < used + 4 * kBlockBytes;
       at += at < kBlockBytes ? 1 + at / 64 : 23 + random() % 31) {
    const auto damage = static_cast<std::byte>(1 + random() % 255);
    const std::byte wrong = original_[at] ^ damage;
    ASSERT_EQ(pwrite(file.get(), &wrong, 1, static_cast<off_t>(at)), 1);
    const absl::StatusOr<SegmentScan> scan = Preview(directory());
    const absl::StatusOr<SegmentScan> ignoring = Preview(directory(), /*ignore_damage=*/true);
    ASSERT_EQ(pwrite(file.get(), &original_[at], 1, static_cast<off_t>(at)), 1);
    if (at < used) {
      ++reported;
      const bool format = at >= 8 && at < 12;
      ASSERT_EQ(CodeOf(scan),
                format ? absl::StatusCode::kUnimplemented : absl::StatusCode::kDataLoss)
          << at << ": " << MessageOf(scan);
    } else if (at >= used + kBlockBytes) {
      // In the block that comes next, there is no telling noise from a damaged header.
      ++exact;
      ASSERT_OK(scan) << at;
      ASSERT_EQ(scan->epoch, 5u) << at;
      ASSERT_EQ(ReadChecked(scan->state), 5u) << at;
    }
    // Told to go on, it gives up the last batch at most, and never what a later one proves.
    if (ignoring.ok()) {
      ASSERT_GE(at, last().offset_bytes) << "acknowledged data was cut";
      ASSERT_EQ(ReadChecked(ignoring->state), ignoring->epoch) << at;
      ASSERT_EQ(ignoring->epoch, at < used ? 4u : 5u) << at;
    } else {
      ASSERT_LT(at, last().offset_bytes);
    }
  }
  EXPECT_GT(reported, 400);
  EXPECT_GT(exact, 50);
}

TEST_F(ReaderTest, ListsDamageAndGoesOnForTheTools) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300, 300, 300}));
  original_[batches_[1].offset_bytes + 200] ^= std::byte{1};
  WriteBytes(path_, original_);
  std::vector<Epoch> read;
  journal::ScanOptions options;
  options.on_record = [&](const journal::Record& record) { read.push_back(record.header.epoch); };
  const absl::StatusOr<journal::JournalScan> scan = journal::ScanJournal(directory(), options);
  ASSERT_OK(scan);
  EXPECT_THAT(scan->damage, testing::Contains(HasSubstr("epochs 2 to")));
  EXPECT_THAT(read, testing::ElementsAre(1, 3, 4));
}

TEST_F(ReaderTest, NoticesASegmentThatDoesNotContinueTheOneBefore) {
  ASSERT_NO_FATAL_FAILURE(Write({300, 300}));
  ASSERT_NO_FATAL_FAILURE(WriteJournal({300}));
  ASSERT_NO_FATAL_FAILURE(WriteJournal({300}));
  const std::vector<std::string> paths = SegmentsIn(directory());
  ASSERT_EQ(paths.size(), 3u);  // each restore goes on in a segment of its own
  BatchesIn(directory());
  std::filesystem::remove(paths[1]);
  const absl::StatusOr<journal::JournalScan> scan = journal::ScanJournal(directory());
  ASSERT_OK(scan);
  EXPECT_THAT(scan->damage, testing::ElementsAre(HasSubstr("takes over from segment 2")));
}

// K11: how often a block is looked at does not grow with how many there are.
TEST_F(ReaderTest, IsReadInTimeLinearInItsBytesWhateverItHolds) {
  ASSERT_NO_FATAL_FAILURE(Write({100, 100}));
  const journal::SegmentHeader segment = HeaderOf(original_);
  const std::uint64_t blocks = original_.size() / kBlockBytes;
  const journal::BatchHeader like = batches_.at(0).header;
  struct Case {
    const char* name;
    bool to_the_end;   // each batch claims all that is behind it
    bool sound_block;  // the blocks pass their CRC
    bool last_damaged;
    std::uint64_t hint;
  };
  for (const Case& c :
       {Case{"good headers over bad blocks", false, false, false, 0},
        Case{"headers that prove each other's loss", false, false, false, 1'000'000},
        Case{"batches that all reach to a bad end", true, true, true, 0},
        Case{"batches whose records do not fit", true, true, false, 0},
        Case{"long batches over bad blocks", true, false, false, 0}}) {
    SCOPED_TRACE(c.name);
    Bytes forged = original_;
    for (std::uint64_t block = 1; block < blocks; ++block) {
      std::byte* const at = forged.data() + block * kBlockBytes;
      std::memset(at, 0x5a, kBlockBytes);
      journal::BatchHeader header = like;
      header.block = block;
      header.blocks = c.to_the_end ? blocks - block : 1;
      header.first_epoch = header.last_epoch = block;
      header.records = 1;
      header.durable_hint = c.hint;
      header.crc = journal::BatchHeaderCrc(header);
      std::memcpy(at, &header, sizeof header);
      if (c.sound_block && !(c.last_damaged && block == blocks - 1)) Reseal(forged, segment, block);
    }
    WriteBytes(path_, forged);
    std::uint64_t findings = 0;
    journal::ScanOptions options;
    options.on_damage = [&findings](const std::string&) { ++findings; };
    const absl::StatusOr<SegmentScan> scan = journal::ScanSegmentFile(path_, options);
    ASSERT_OK(scan);
    EXPECT_TRUE(scan->damaged);
    EXPECT_LE(scan->looks, 12 * blocks);
    EXPECT_GT(findings, 0u);
    EXPECT_LE(findings, 101u);  // and no flood of words
  }
}

}  // namespace
}  // namespace epoch::test
