// A segment's header, filled in one place for all that make one: a creation, a restore, a roll.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_HEADER_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_HEADER_H_

#include <cstdint>

#include "core/journal/format/format.h"

namespace epoch::journal {

// What depends on this build and on the region's geometry alone.
inline SegmentHeader PlainHeader(std::uint64_t capacity_blocks, std::uint64_t state_bytes,
                                 std::uint32_t participants, std::uint32_t versions) {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.format_major = kFormatMajor;
  header.format_minor = kFormatMinor;
  header.block_bytes = kBlockBytes;
  header.capacity_blocks = capacity_blocks;
  header.state_bytes = state_bytes;
  header.participants = participants;
  header.versions = versions;
  return header;
}

// What it keeps of older ones, carried from each segment to the next.
inline void SetRules(SegmentHeader& header, History history, std::uint32_t retain_segments,
                     std::uint64_t retain_epochs) {
  header.history = history;
  header.retain_segments = retain_segments;
  header.retain_epochs = retain_epochs;
}

// The state that it begins with.
struct SegmentBase {
  Epoch epoch;
  std::uint64_t length_bytes;
  std::uint64_t digest;
  std::uint64_t chain;
  std::uint64_t token;
};
inline void SetBase(SegmentHeader& header, const SegmentBase& base) {
  header.base_epoch = base.epoch;
  header.base_length_bytes = base.length_bytes;
  header.base_digest = base.digest;
  header.base_chain = base.chain;
  header.base_token = base.token;
}

// Where the segment that it takes over from ends.
struct SegmentEnd {
  std::uint64_t segment;
  std::uint64_t end_block;
  Epoch last_epoch;
  std::uint64_t chain;
};
inline void SetPrevious(SegmentHeader& header, const SegmentEnd& previous) {
  header.previous_segment = previous.segment;
  header.previous_end_block = previous.end_block;
  header.previous_last_epoch = previous.last_epoch;
  header.previous_chain = previous.chain;
}
inline SegmentEnd PreviousOf(const SegmentHeader& header) {
  return {header.previous_segment, header.previous_end_block, header.previous_last_epoch,
          header.previous_chain};
}

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_HEADER_H_
