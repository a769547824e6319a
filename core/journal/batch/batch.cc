#include "core/journal/batch/batch.h"

#define XXH_STATIC_LINKING_ONLY  // the streaming state on the stack
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace epoch::journal {

using detail::VersionCell;

namespace {

// Copies a payload; returns the digest of the copy, as the shared bytes could change between two
// looks.
std::uint64_t CopyPayload(const std::byte* from, std::uint64_t length, BlockWriter& writer) {
  const std::span<std::byte> whole = writer.Next(length);
  if (!whole.empty()) std::memcpy(whole.data(), from, whole.size());
  if (whole.size() == length) return detail::Xxh64::Of(whole.data(), whole.size());
  XXH64_state_t digest;
  XXH64_reset(&digest, 0);
  XXH64_update(&digest, whole.data(), whole.size());
  from += whole.size();
  for (std::uint64_t left = length - whole.size(); left > 0;) {
    const std::span<std::byte> to = writer.Next(left);
    std::memcpy(to.data(), from, to.size());
    XXH64_update(&digest, to.data(), to.size());
    from += to.size();
    left -= to.size();
  }
  return XXH64_digest(&digest);
}

}  // namespace

bool BatchBuilder::Collect(std::uint32_t cell, Epoch last, Epoch from,
                           std::vector<Piece>& pieces) const {
  pieces.clear();
  for (Epoch epoch = last; epoch > from; --epoch) {
    if (!view_.ValidCell(cell)) return false;
    const VersionCell& version = view_.cells[cell];
    const std::uint64_t length = version.length_bytes.Load(kRelaxed);
    if (version.epoch.Load(kRelaxed) != epoch || length > view_.geometry.state_bytes) return false;
    pieces.push_back({cell, epoch, length});
    if (latest_) break;
    cell = detail::PreviousCellOf(version.shape.Load(kRelaxed));
  }
  std::reverse(pieces.begin(), pieces.end());
  return !pieces.empty();
}

std::size_t BatchBuilder::Fitting(const std::vector<Piece>& pieces) {
  std::size_t count = 0;
  for (std::uint64_t bytes = sizeof(BatchHeader); count < pieces.size(); ++count) {
    bytes += RecordBytes(pieces[count].length_bytes);
    if (count > 0 && bytes > kBatchBytesGoal) break;
  }
  return count;
}

std::uint64_t BatchBuilder::BlocksOf(const std::vector<Piece>& pieces) {
  std::uint64_t bytes = sizeof(BatchHeader);
  for (const Piece& piece : pieces) bytes += RecordBytes(piece.length_bytes);
  return BlocksFor(bytes);
}

BatchHeader BatchBuilder::HeaderOf(std::uint64_t segment, std::uint64_t first,
                                   std::uint64_t blocks) const {
  BatchHeader header{};
  header.magic = kBatchMagic;
  header.format_major = kFormatMajor;
  header.journal = super_.journal;
  header.incarnation = super_.incarnation;
  header.segment = segment;
  header.block = first;
  header.blocks = blocks;
  return header;
}

void BatchBuilder::BuildSeal(const BatchReading& last, std::uint64_t chain, std::uint64_t at,
                             std::byte* to) const {
  std::memset(to, 0, kBlockBytes);
  const BatchW w = BatchW::Unpack(last.w);
  BatchHeader header = HeaderOf(BatchE::Unpack(last.e).segment, at, 1);
  header.flags = kBatchHintOnly | kBatchSeal;
  header.first_epoch = w.last + 1;
  header.last_epoch = w.last;
  header.durable_hint = w.last;
  header.previous_chain = header.chain = chain;
  header.crc = BatchHeaderCrc(header);
  BlockWriter writer(to, super_.journal, header.segment, at);
  writer.Append(&header, sizeof header);
  writer.FinishBatch();
}

bool BatchBuilder::Build(const BatchReading& batch, const BatchReading& before,
                         const std::vector<Piece>& pieces, std::uint64_t first,
                         std::uint64_t blocks, std::byte* to) const {
  std::memset(to, 0, blocks * kBlockBytes);
  const BatchW w = BatchW::Unpack(batch.w);
  const BatchW previous = BatchW::Unpack(before.w);
  BatchHeader header = HeaderOf(BatchE::Unpack(batch.e).segment, first, blocks);
  header.flags = w.hint_only ? std::uint32_t{kBatchHintOnly}
                 : latest_   ? std::uint32_t{kBatchLatest}
                             : 0u;
  header.first_epoch = previous.last + 1;
  header.last_epoch = w.last;
  header.records = pieces.size();
  header.durable_hint = BatchH::Unpack(batch.h).hint;
  header.previous_chain = view_.cells[previous.version].chain.Load(kRelaxed);
  header.chain = view_.cells[w.version].chain.Load(kRelaxed);
  header.crc = BatchHeaderCrc(header);
  BlockWriter writer(to, super_.journal, header.segment, first);
  writer.Append(&header, sizeof header);
  bool sound = true;
  for (const Piece& piece : pieces) {
    const VersionCell& cell = view_.cells[piece.cell];
    RecordHeader record{};
    record.epoch = cell.epoch.Load(kRelaxed);
    record.ballot = cell.ballot.Load(kRelaxed);
    record.length_bytes = piece.length_bytes;
    record.digest = cell.digest.Load(kRelaxed);
    record.chain = cell.chain.Load(kRelaxed);
    record.token = cell.token.Load(kRelaxed);
    record.proposer = cell.proposer.Load(kRelaxed);
    record.kind = static_cast<std::uint64_t>(detail::KindOf(cell.shape.Load(kRelaxed)));
    record.outcome = cell.outcome.Load(kRelaxed);  // decided before it was accepted
    record.deadline_ns = cell.deadline_ns.Load(kRelaxed);
    writer.Append(&record, sizeof record);
    const std::uint64_t digest =
        CopyPayload(view_.PayloadOf(piece.cell), piece.length_bytes, writer);
    writer.Skip(Padded(piece.length_bytes) - piece.length_bytes);
    sound = sound && record.epoch == piece.epoch && digest == record.digest;
  }
  writer.FinishBatch();
  return sound;
}

}  // namespace epoch::journal
