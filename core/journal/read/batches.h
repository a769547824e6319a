// What a batch, and what a segment begins with, must be to count: checked one by one, as it was
// read. What it means where one does not: verdict.h.
//
// Thread safety: any. Reads private memory only; nothing is trusted before it was checked.
#ifndef EPOCH_CORE_JOURNAL_READ_BATCHES_H_
#define EPOCH_CORE_JOURNAL_READ_BATCHES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/journal/format/format.h"

namespace epoch::journal {

// Why something does not count. The first three are what a write that was torn, or never begun,
// leaves as well; all others only damage explains.
struct Flaw {
  enum class Kind : std::uint8_t {
    kNone,  // it counts
    kNoHeader,
    kFull,   // there is no room for one
    kBlock,  // a block of it fails its CRC
    kLength,
    kEpochs,     // the header contradicts itself
    kChain,      // it does not continue the batch before it
    kGap,        // nor do its epochs
    kBackwards,  // they end before those that were read already
    kWithin,     // another batch begins within it
    kManyRecords,
    kLongRecord,
    kRecordEpoch,
    kRecordChain,
    kBatchChain,
    kState  // a state fails its digest
  };
  Kind kind = Kind::kNone;
  std::uint64_t block = 0;  // of kBlock

  bool none() const { return kind == Kind::kNone; }
  bool only_damage() const { return kind > Kind::kBlock; }
  std::string Words() const;
};

// The header of a batch if a valid one stands in `block`: of that journal and incarnation, in
// segment `segment`, and at its own place, block number `number`.
std::optional<BatchHeader> BatchHeaderIn(const std::byte* block, const SegmentHeader& of,
                                         std::uint64_t segment, std::uint64_t number);

// What a batch continues.
struct LogEnd {
  Epoch epoch;
  std::uint64_t chain;
};
// Whether segment `next` begins where the log of `before` ends; or where that began, if nothing is
// in it (`idle`).
bool TakesOver(const SegmentHeader& next, const SegmentHeader& before, std::uint64_t end_block,
               const LogEnd& end, bool idle);
// Whether that header may stand in `block` of a segment of `capacity_blocks`, behind `end` (null:
// behind what could not be read).
Flaw HeaderFlaw(const BatchHeader& batch, std::uint64_t block, std::uint64_t capacity_blocks,
                const LogEnd* end);

struct LocatedRecord {
  RecordHeader header;
  std::uint64_t offset;  // of its payload, in the content of its batch
};
// The records of a batch whose blocks have passed their CRC; `blocks` is its first one. None if
// they fit together and continue the chain. The payloads are not looked at.
Flaw RecordsFlaw(const std::byte* blocks, const SegmentHeader& of, const BatchHeader& batch,
                 std::vector<LocatedRecord>& records);

// Copies the state of a record out of its batch, whose first block is `blocks` and has number
// `batch`. False: it fails its digest.
bool CopyState(const std::byte* blocks, const SegmentHeader& of, std::uint64_t batch,
               const LocatedRecord& record, std::vector<std::byte>& state);
// Copies the state that a segment begins with; `blocks`: what stands behind its header.
Flaw CopyBase(const std::byte* blocks, const SegmentHeader& of, std::vector<std::byte>& state);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_BATCHES_H_
