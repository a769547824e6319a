#include "core/journal/read/batches.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/digest.h"

namespace epoch::journal {

using detail::ChainDigest;
using detail::ChainLink;

std::string Flaw::Words() const {
  switch (kind) {
    case Kind::kNone:
      return "nothing is wrong";
    case Kind::kNoHeader:
      return "no batch header";
    case Kind::kFull:
      return "the segment is full";
    case Kind::kBlock:
      return absl::StrCat("incomplete batch: block ", block, " fails its CRC");
    case Kind::kLength:
      return "impossible batch length";
    case Kind::kEpochs:
      return "impossible batch epochs";
    case Kind::kChain:
      return "the chain does not continue";
    case Kind::kGap:
      return "epochs do not continue";
    case Kind::kBackwards:
      return "epochs go back";
    case Kind::kWithin:
      return "another batch begins within it";
    case Kind::kManyRecords:
      return "records run over the batch";
    case Kind::kLongRecord:
      return "a record runs over its batch";
    case Kind::kRecordEpoch:
      return "a record has the wrong epoch";
    case Kind::kRecordChain:
      return "a record breaks the chain";
    case Kind::kBatchChain:
      return "the batch's chain digest is wrong";
    case Kind::kState:
      return "the newest state fails its digest";
  }
  return "unknown";
}

bool TakesOver(const SegmentHeader& next, const SegmentHeader& before, std::uint64_t end_block,
               const LogEnd& end, bool idle) {
  if (next.journal != before.journal) return false;
  if (next.previous_segment == before.segment) {
    return next.previous_end_block == end_block && next.previous_last_epoch == end.epoch &&
           next.previous_chain == end.chain;
  }
  return idle && next.previous_segment == before.previous_segment &&
         next.previous_end_block == before.previous_end_block &&
         next.previous_last_epoch == before.previous_last_epoch &&
         next.previous_chain == before.previous_chain && next.base_epoch == before.base_epoch &&
         next.base_digest == before.base_digest;
}

std::optional<BatchHeader> BatchHeaderIn(const std::byte* block, const SegmentHeader& of,
                                         std::uint64_t segment, std::uint64_t number) {
  BatchHeader b;
  std::memcpy(&b, block, sizeof b);
  if (b.magic != kBatchMagic || b.crc != BatchHeaderCrc(b) || b.format_major != of.format_major ||
      b.journal != of.journal || b.incarnation != of.incarnation || b.segment != segment ||
      b.block != number) {
    return std::nullopt;
  }
  return b;
}

Flaw HeaderFlaw(const BatchHeader& batch, std::uint64_t block, std::uint64_t capacity_blocks,
                const LogEnd* end) {
  const bool hint_only = (batch.flags & kBatchHintOnly) != 0;
  const bool latest = (batch.flags & kBatchLatest) != 0;
  if (batch.blocks == 0 || batch.blocks > capacity_blocks - block) return {Flaw::Kind::kLength};
  if (batch.last_epoch > kMaxEpoch) return {Flaw::Kind::kEpochs};
  if (end != nullptr) {
    if (batch.previous_chain != end->chain) return {Flaw::Kind::kChain};
    if (batch.first_epoch != end->epoch + 1) return {Flaw::Kind::kGap};
  }
  if (hint_only ? batch.records != 0 || batch.last_epoch + 1 != batch.first_epoch
                : batch.last_epoch < batch.first_epoch ||
                      batch.records != (latest ? 1 : batch.last_epoch - batch.first_epoch + 1)) {
    return {Flaw::Kind::kEpochs};
  }
  return {};
}

Flaw RecordsFlaw(const std::byte* blocks, const SegmentHeader& of, const BatchHeader& batch,
                 std::vector<LocatedRecord>& records) {
  records.clear();
  const std::uint64_t limit = batch.blocks * kContentBytes;
  std::uint64_t offset = sizeof(BatchHeader);
  std::uint64_t chain = batch.previous_chain;
  std::uint64_t epoch = (batch.flags & kBatchLatest) != 0 ? batch.last_epoch : batch.first_epoch;
  for (std::uint64_t i = 0; i < batch.records; ++i, ++epoch) {
    RecordHeader r;
    if (limit - offset < sizeof r) return {Flaw::Kind::kManyRecords};
    CopyBatchContent(blocks, of.journal, of.segment, batch.block, offset, &r, sizeof r);
    offset += sizeof r;
    if (r.length_bytes > limit - offset) return {Flaw::Kind::kLongRecord};
    if (r.epoch != epoch) return {Flaw::Kind::kRecordEpoch};
    const ChainLink link{chain, r.epoch, r.length_bytes, r.digest, r.token, r.kind};
    // Of skipped versions the chain cannot be computed; it is then tied by the header alone.
    if ((batch.flags & kBatchLatest) == 0 && ChainDigest(link) != r.chain) {
      return {Flaw::Kind::kRecordChain};
    }
    chain = r.chain;
    records.push_back({r, offset});
    offset += Padded(r.length_bytes);
    if (offset > limit) return {Flaw::Kind::kManyRecords};
  }
  if (batch.records != 0 && chain != batch.chain) return {Flaw::Kind::kBatchChain};
  return {};
}

bool CopyState(const std::byte* blocks, const SegmentHeader& of, std::uint64_t batch,
               const LocatedRecord& record, std::vector<std::byte>& state) {
  state.resize(record.header.length_bytes);
  CopyBatchContent(blocks, of.journal, of.segment, batch, record.offset, state.data(),
                   state.size());
  return detail::Digest(state) == record.header.digest;
}

Flaw CopyBase(const std::byte* blocks, const SegmentHeader& of, std::vector<std::byte>& state) {
  const std::uint64_t count = BlocksFor(of.base_length_bytes);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!BlockIsSound(of.journal, of.segment, 1 + i, blocks + i * kBlockBytes)) {
      return {Flaw::Kind::kBlock, 1 + i};
    }
  }
  state.resize(of.base_length_bytes);
  CopyContent(blocks, 0, state.data(), state.size());
  if (detail::Digest(state) != of.base_digest) return {Flaw::Kind::kState};
  return {};
}

}  // namespace epoch::journal
