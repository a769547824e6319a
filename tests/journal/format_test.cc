// The journal's bytes: checksums, blocks, ring words.
#include "core/journal/format/format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/journal/batch/ring.h"
#include "core/journal/format/crc32c.h"

namespace epoch::journal {
namespace {

std::vector<unsigned char> Pattern(std::size_t size) {
  std::mt19937 random(7);
  std::vector<unsigned char> bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

std::uint32_t BitByBit(const unsigned char* data, std::size_t size) {
  std::uint32_t crc = 0xffffffffu;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

TEST(Crc32c, MatchesTheVectorsOfRfc3720) {
  unsigned char bytes[48] = {};
  EXPECT_EQ(Crc32c(bytes, 32), 0x8a9136aau);
  std::memset(bytes, 0xff, 32);
  EXPECT_EQ(Crc32c(bytes, 32), 0x62a8ab43u);
  std::iota(bytes, bytes + 32, static_cast<unsigned char>(0));
  EXPECT_EQ(Crc32c(bytes, 32), 0x46dd794eu);
  for (int i = 0; i < 32; ++i) bytes[i] = static_cast<unsigned char>(31 - i);
  EXPECT_EQ(Crc32c(bytes, 32), 0x113fdb5cu);
  const unsigned char read_pdu[48] = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00,
                                      0x00, 0x18, 0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(Crc32c(read_pdu, 48), 0xd9963a56u);
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32c(nullptr, 0), 0u);
}

TEST(Crc32c, EveryVersionAgreesForAllLengthsAndAlignments) {
  const std::vector<unsigned char> bytes = Pattern(13'000);
  const auto agree = [&](std::size_t start, std::size_t size) {
    const std::uint32_t expected = BitByBit(bytes.data() + start, size);
    EXPECT_EQ(Crc32c(bytes.data() + start, size), expected) << start << " " << size;
    EXPECT_EQ(Crc32cPortable(bytes.data() + start, size), expected) << start << " " << size;
  };
  for (std::size_t start = 0; start < 9; ++start) {
    for (std::size_t size = 0; size <= 300; ++size) agree(start, size);
    // Where it takes parts side by side: one, two, three times.
    for (const std::size_t about : {4080u, 8160u, 12'240u}) {
      for (std::size_t size = about - 9; size <= about + 17; ++size) agree(start, size);
    }
  }
}

TEST(Crc32c, ContinuesFromTheCrcOfWhatCameBefore) {
  for (const std::size_t size : {64u, 9000u}) {
    const std::vector<unsigned char> bytes = Pattern(size);
    const std::uint32_t whole = Crc32c(bytes.data(), bytes.size());
    for (std::size_t cut = 0; cut <= bytes.size(); cut += size / 64) {
      const std::uint32_t first = Crc32c(bytes.data(), cut);
      EXPECT_EQ(Crc32c(bytes.data() + cut, bytes.size() - cut, first), whole);
      EXPECT_EQ(Crc32cPortable(bytes.data() + cut, bytes.size() - cut, first), whole);
    }
  }
}

class Blocks : public testing::TestWithParam<std::size_t> {};

TEST_P(Blocks, GiveBackTheStreamThatWasWritten) {
  const Id journal{1, 2, 3};
  const std::vector<unsigned char> bytes = Pattern(GetParam());
  const std::uint64_t count = BlocksFor(bytes.size());
  // A guard block behind: nothing is written beyond what BlocksFor announced.
  std::vector<std::byte> blocks((count + 1) * kBlockBytes);
  BlockWriter writer(blocks.data(), journal, 5, 70);
  // In pieces that never line up with blocks.
  for (std::size_t at = 0, piece = 1; at < bytes.size(); at += piece, piece = piece * 3 + 1) {
    piece = std::min(piece, bytes.size() - at);
    writer.Append(bytes.data() + at, piece);
  }
  writer.Finish();
  for (std::uint64_t b = 0; b < count; ++b) {
    std::uint32_t crc;
    std::memcpy(&crc, blocks.data() + b * kBlockBytes + kContentBytes, sizeof crc);
    EXPECT_EQ(crc, BlockCrc(journal, 5, 70 + b, blocks.data() + b * kBlockBytes));
  }
  for (std::size_t i = count * kBlockBytes; i < blocks.size(); ++i) {
    ASSERT_EQ(blocks[i], std::byte{0});
  }
  for (const std::size_t from : {std::size_t{0}, bytes.size() / 3, bytes.size()}) {
    std::vector<unsigned char> read(bytes.size() - from);
    CopyContent(blocks.data(), from, read.data(), read.size());
    EXPECT_TRUE(std::equal(read.begin(), read.end(), bytes.begin() + static_cast<long>(from)));
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, Blocks,
                         testing::Values(0, 1, 4091, 4092, 4093, 8183, 8184, 8185, 4092 * 7,
                                         4092 * 7 + 1, 100'000));

TEST(Block, CrcCoversItsPlaceItsSegmentAndItsJournal) {
  const std::vector<std::byte> block(kBlockBytes, std::byte{3});
  const std::uint32_t crc = BlockCrc(Id{1}, 5, 70, block.data());
  EXPECT_NE(crc, BlockCrc(Id{2}, 5, 70, block.data()));
  EXPECT_NE(crc, BlockCrc(Id{1}, 6, 70, block.data()));
  EXPECT_NE(crc, BlockCrc(Id{1}, 5, 71, block.data()));
}

TEST(Format, StructsHaveNoPaddingThatCouldDiffer) {
  EXPECT_TRUE(std::has_unique_object_representations_v<SegmentHeader>);
  EXPECT_TRUE(std::has_unique_object_representations_v<BatchHeader>);
  EXPECT_TRUE(std::has_unique_object_representations_v<RecordHeader>);
  EXPECT_EQ(sizeof(SegmentHeader), 208u);
  EXPECT_EQ(offsetof(SegmentHeader, retain_epochs), 168u);
  EXPECT_EQ(offsetof(SegmentHeader, file), 176u);
  EXPECT_EQ(sizeof(BatchHeader), 128u);
  EXPECT_EQ(sizeof(RecordHeader), 80u);
}

TEST(Format, ASegmentHoldsItsBaseAndTheLargestBatch) {
  for (const std::uint64_t state : {1ull, 4092ull, 4093ull, 65536ull, 1ull << 20, 1ull << 30}) {
    const std::uint64_t one_batch = sizeof(BatchHeader) + RecordBytes(state);
    const std::uint64_t left = MinSegmentBlocks(state) - 1 - BlocksFor(state);
    EXPECT_GE(left * kContentBytes, one_batch);
    EXPECT_GE(left * kContentBytes, kBatchBytesGoal);
  }
}

TEST(RingWords, UnpackWhatTheyPacked) {
  constexpr Epoch kLast = kMaxEpoch;
  for (const BatchState state : {BatchState::kFrozen, BatchState::kWritten, BatchState::kFailed}) {
    for (const bool hint_only : {false, true}) {
      for (const std::uint32_t version : {0u, 1u, detail::kMaxVersions}) {
        for (const Epoch last : {Epoch{0}, Epoch{1}, kLast}) {
          const BatchW w = BatchW::Unpack(BatchW{state, hint_only, version, last}.Pack());
          EXPECT_EQ(w.state, state);
          EXPECT_EQ(w.hint_only, hint_only);
          EXPECT_EQ(w.version, version);
          EXPECT_EQ(w.last, last);
        }
      }
    }
  }
  for (const std::uint64_t segment : {std::uint64_t{1}, kMaxSegment}) {
    const std::uint64_t block = (std::uint64_t{1} << 40) - 1;
    const BatchE e = BatchE::Unpack(BatchE{segment, block}.Pack());
    EXPECT_EQ(e.segment, segment);
    EXPECT_EQ(e.end_block, block);
    // E words compare as places do.
    EXPECT_LT((BatchE{segment - 1, block}.Pack()), (BatchE{segment, 0}.Pack()));
  }
  const BatchH h = BatchH::Unpack(BatchH{0xffff, kLast}.Pack());
  EXPECT_EQ(h.tag, 0xffff);
  EXPECT_EQ(h.hint, kLast);
}

}  // namespace
}  // namespace epoch::journal
