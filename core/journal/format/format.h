// The journal's bytes. docs/journal.md explains them with a worked example.
//
// A segment file is an array of 4,096-byte blocks, zero-filled when it is made:
//
//   block 0          1 ..            ..                                     capacity
//   +----------------+---------------+---------+---------+- - - - - - +------+
//   | SegmentHeader  | base state    | batch   | batch   |  zeros     | seal |
//   +----------------+---------------+---------+---------+- - - - - - +------+
//   block:  | 4,092 bytes of content | CRC-32C of content, place and journal |
//   batch:  | BatchHeader | RecordHeader payload padding | RecordHeader ... | zeros |
//                         ^ from here on XORed with the block's mask, so that no sector is all zero
//
// Every block checks itself, so a torn, lost or misdirected block is known as such. A batch begins
// on a block of its own and is written once; its bytes are a pure function of the batch's frozen
// words and of immutable versions, so any process writes the same ones.
#ifndef EPOCH_CORE_JOURNAL_FORMAT_FORMAT_H_
#define EPOCH_CORE_JOURNAL_FORMAT_FORMAT_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/files/block.h"
#include "core/journal/format/crc32c.h"
#include "epoch/detail/memory/layout.h"

namespace epoch::journal {

using detail::Id;

inline constexpr std::size_t kContentBytes = kBlockBytes - 4;  // per block; the rest is its CRC
inline constexpr std::size_t kSectorBytes = 512;               // power-fail atomic
inline constexpr std::uint64_t kSegmentMagic = 0x4745534843'4f5045ull;
inline constexpr std::uint64_t kBatchMagic = 0x5441424843'4f5045ull;
// 1.0: the first. 1.1: the last block is kept for a seal. 2.0: the same bytes, but the newest
// segment may be found under its spare's name, which a reader of 1 would miss. 3.0: a rule on
// epochs for what is kept, which a build of 2 would not heed. 3.1: a segment says which file it is.
inline constexpr std::uint32_t kFormatMajor = 3;
inline constexpr std::uint32_t kFormatMinor = 1;
inline constexpr std::uint32_t kOldestFormatMajor = 1;  // that is read
// At the end of a segment, for the word that the next one is there.
inline constexpr std::uint64_t kSealBlocks = 1;
inline constexpr std::uint64_t kMaxSegment = (std::uint64_t{1} << 24) - 1;
#ifdef EPOCH_BATCH_BYTES_GOAL  // a test build: small batches split and roll at once
inline constexpr std::uint64_t kBatchBytesGoal = EPOCH_BATCH_BYTES_GOAL;
#else
inline constexpr std::uint64_t kBatchBytesGoal = std::uint64_t{1} << 20;
#endif
inline constexpr std::uint64_t kDefaultSegmentBytes = std::uint64_t{16} << 20;

struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t format_major;
  std::uint32_t format_minor;
  Id journal;
  Id incarnation;
  std::uint64_t segment;
  std::uint32_t block_bytes;
  History history;
  std::uint64_t capacity_blocks;
  // The full state that the segment starts from, in the blocks that follow.
  std::uint64_t base_epoch;
  std::uint64_t base_length_bytes;
  std::uint64_t base_digest;
  std::uint64_t base_chain;
  std::uint64_t base_token;
  // Where the segment before it ends; after a recovery: where it was cut.
  std::uint64_t previous_segment;
  std::uint64_t previous_end_block;
  std::uint64_t previous_last_epoch;
  std::uint64_t previous_chain;
  std::uint32_t recovered;  // 1: made by a recovery, 0: by a roll or a creation
  std::uint32_t retain_segments;
  // The region's geometry, for whoever restores it.
  std::uint64_t state_bytes;
  std::uint32_t participants;
  std::uint32_t versions;
  std::uint64_t retain_epochs;  // 0 before format 3.0
  // Of the file that it was written to: a region does not go on in a copy. 0 before format 3.1.
  detail::FileIdentity file;
};
static_assert(sizeof(SegmentHeader) == 208);

// kBatchHintOnly: no version, only the hint; written when nothing was for a while, and at the end.
// kBatchSeal: as well, in a segment's last block: the next segment is there, and durable.
enum BatchFlag : std::uint32_t { kBatchLatest = 1, kBatchHintOnly = 2, kBatchSeal = 4 };

struct BatchHeader {
  std::uint64_t magic;
  std::uint32_t format_major;
  std::uint32_t flags;
  Id journal;
  Id incarnation;
  std::uint64_t segment;
  std::uint64_t block;  // where it stands: a header found elsewhere is not one
  std::uint64_t blocks;
  std::uint64_t first_epoch;
  std::uint64_t last_epoch;
  std::uint64_t records;
  std::uint64_t durable_hint;  // an epoch that was visible when the batch was frozen
  std::uint64_t previous_chain;
  std::uint64_t chain;  // of the last version
  std::uint32_t reserved;
  std::uint32_t crc;  // of all bytes before it
};
static_assert(sizeof(BatchHeader) == 128 && sizeof(BatchHeader) <= kSectorBytes);

struct RecordHeader {
  std::uint64_t epoch;
  std::uint64_t ballot;
  std::uint64_t length_bytes;
  std::uint64_t digest;
  std::uint64_t chain;
  std::uint64_t token;
  std::uint64_t proposer;  // slot:16 | generation:48
  std::uint64_t kind;
  std::uint64_t outcome;  // of a voted transition; 0: none was needed
  std::int64_t deadline_ns;
};
static_assert(sizeof(RecordHeader) == 80);

constexpr std::uint64_t Padded(std::uint64_t bytes) { return (bytes + 7) & ~std::uint64_t{7}; }
constexpr std::uint64_t BlocksFor(std::uint64_t bytes) {
  return (bytes + kContentBytes - 1) / kContentBytes;
}
constexpr std::uint64_t RecordBytes(std::uint64_t length) {
  return sizeof(RecordHeader) + Padded(length);
}
// What the largest batch of a region can take: one state of full size, or many small ones.
constexpr std::uint64_t MaxBatchBlocks(std::uint64_t state_bytes) {
  const std::uint64_t one = sizeof(BatchHeader) + RecordBytes(state_bytes);
  return BlocksFor(one > kBatchBytesGoal ? one : kBatchBytesGoal);
}
constexpr std::uint64_t MinSegmentBlocks(std::uint64_t state_bytes) {
  return 1 + BlocksFor(state_bytes) + MaxBatchBlocks(state_bytes) + 1;
}

// A block's CRC covers where it stands, too.
inline std::uint32_t BlockCrc(const Id& journal, std::uint64_t segment, std::uint64_t block,
                              const std::byte* content) {
  const std::uint64_t place[2] = {segment, block};
  const std::uint32_t seed = Crc32c(place, sizeof place, Crc32c(journal.data(), journal.size()));
  return Crc32c(content, kContentBytes, seed);
}

// Whether what stands in a block is what was written there, whole.
inline bool BlockIsSound(const Id& journal, std::uint64_t segment, std::uint64_t block,
                         const std::byte* bytes) {
  std::uint32_t crc;
  std::memcpy(&crc, bytes + kContentBytes, sizeof crc);
  return crc == BlockCrc(journal, segment, block, bytes);
}

// No byte of it is zero, so zeros under it are not zeros on disk: a sector that is all zero was
// never written. It differs from block to block, so no payload passes for a header by design.
inline std::uint64_t BlockMask(const Id& journal, std::uint64_t segment, std::uint64_t block) {
  const std::uint64_t place[2] = {segment, block};
  return detail::Xxh64::Of(place, sizeof place, detail::Xxh64::Of(journal.data(), journal.size())) |
         0x0101010101010101u;
}

// XORs bytes that stand at `position` in their block. Its own inverse.
inline void Mask(std::byte* bytes, std::size_t size, std::size_t position, std::uint64_t mask) {
  mask = std::rotr(mask, static_cast<int>(position % 8 * 8));
  for (; size >= 8; size -= 8, bytes += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    word ^= mask;
    std::memcpy(bytes, &word, sizeof word);
  }
  for (; size > 0; --size, ++bytes, mask >>= 8) *bytes ^= static_cast<std::byte>(mask & 0xff);
}

// Lays a byte stream out in blocks, in a zeroed, block-aligned buffer.
class BlockWriter {
 public:
  BlockWriter(std::byte* blocks, const Id& journal, std::uint64_t segment, std::uint64_t first)
      : blocks_(blocks), journal_(journal), segment_(segment), first_(first) {}

  // Where the next `size` bytes at most go, in one piece; advances by what is granted.
  std::span<std::byte> Next(std::size_t size) {
    const std::size_t in_block = offset_ % kContentBytes;
    const std::size_t room = kContentBytes - in_block;
    const std::size_t granted = size < room ? size : room;
    std::byte* at = blocks_ + offset_ / kContentBytes * kBlockBytes + in_block;
    offset_ += granted;
    return {at, granted};
  }
  void Append(const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    while (size > 0) {
      const std::span<std::byte> to = Next(size);
      std::memcpy(to.data(), from, to.size());
      from += to.size();
      size -= to.size();
    }
  }
  void Skip(std::size_t size) { offset_ += size; }

  // Seals every block written to with its CRC.
  void Finish() {
    const std::uint64_t blocks = BlocksFor(offset_);
    Seal(blocks);
  }
  // The same for a batch: all behind its header is masked.
  void FinishBatch() {
    const std::uint64_t blocks = BlocksFor(offset_);
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const std::size_t from = i == 0 ? sizeof(BatchHeader) : 0;
      Mask(blocks_ + i * kBlockBytes + from, kContentBytes - from, from,
           BlockMask(journal_, segment_, first_ + i));
    }
    Seal(blocks);
  }

 private:
  void Seal(std::uint64_t blocks) {
    for (std::uint64_t i = 0; i < blocks; ++i) {
      std::byte* block = blocks_ + i * kBlockBytes;
      const std::uint32_t crc = BlockCrc(journal_, segment_, first_ + i, block);
      std::memcpy(block + kContentBytes, &crc, sizeof crc);
    }
  }

  std::byte* const blocks_;
  const Id& journal_;
  const std::uint64_t segment_;
  const std::uint64_t first_;
  std::uint64_t offset_ = 0;
};

// Reads a byte stream back out of blocks that have been checked.
inline void CopyContent(const std::byte* blocks, std::uint64_t offset, void* to, std::size_t size) {
  auto* out = static_cast<std::byte*>(to);
  while (size > 0) {
    const std::size_t in_block = offset % kContentBytes;
    const std::size_t room = kContentBytes - in_block;
    const std::size_t part = size < room ? size : room;
    std::memcpy(out, blocks + offset / kContentBytes * kBlockBytes + in_block, part);
    out += part;
    offset += part;
    size -= part;
  }
}

// The same out of a batch whose first block is number `first`, behind its header.
inline void CopyBatchContent(const std::byte* blocks, const Id& journal, std::uint64_t segment,
                             std::uint64_t first, std::uint64_t offset, void* to,
                             std::size_t size) {
  auto* out = static_cast<std::byte*>(to);
  while (size > 0) {
    const std::size_t in_block = offset % kContentBytes;
    const std::size_t room = kContentBytes - in_block;
    const std::size_t part = size < room ? size : room;
    CopyContent(blocks, offset, out, part);
    Mask(out, part, in_block, BlockMask(journal, segment, first + offset / kContentBytes));
    out += part;
    offset += part;
    size -= part;
  }
}

inline std::uint32_t BatchHeaderCrc(const BatchHeader& header) {
  return Crc32c(&header, offsetof(BatchHeader, crc));
}

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_FORMAT_FORMAT_H_
