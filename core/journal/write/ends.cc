#include "core/journal/write/ends.h"

#include <algorithm>
#include <cstring>

#include "core/files/disk.h"

namespace epoch::journal {

absl::StatusOr<Ends::Verdict> Ends::Check(const RingReading& ring, int offset,
                                          const OpenSegment& segment) {
  // The oldest one that has its predecessor beside it.
  constexpr int kOldest = 2 - detail::kBatchRingSlots;
  for (int at = offset; at >= kOldest; --at) {
    const Known& known = known_[SlotOf(ring, at)];
    if (known.name == NameOf(ring.At(at).w) && known.end != 0) {
      if (known.end != ring.At(at).e) return Wrong(ring, at);
      break;
    }
    const BatchE end = BatchE::Unpack(ring.At(at).e), from = BatchE::Unpack(ring.At(at - 1).e);
    const bool opens = end.segment == from.segment + 1;
    std::uint64_t base_blocks = 0, blocks = 0;
    if (at > kOldest && InMemory(ring, at, base_blocks, blocks)) {
      const std::uint64_t start = opens ? 1 + base_blocks : from.end_block;
      if ((!opens && end.segment != from.segment) || end.end_block != start + blocks) {
        return Wrong(ring, at);
      }
      if (opens) break;
      continue;  // right if the one before it is
    }
    const absl::StatusOr<Verdict> read = OnDisk(ring, at, segment);
    if (!read.ok() || *read != Verdict::kRight) return read;
    break;
  }
  Remember(ring, offset);
  return Verdict::kRight;
}

// Unless the words have moved on since they were read.
Ends::Verdict Ends::Wrong(const RingReading& ring, int offset) const {
  seam::AcquireFence();
  for (const int at : {offset, offset - 1}) {
    const BatchReading now = BatchReading::Of(ring.WordsAt(*view_.control, at));
    const BatchReading& then = ring.At(at);
    if (now.w != then.w || now.e != then.e) return Verdict::kStale;
  }
  return Verdict::kWrong;
}

// Whether the cell holds that version, and not by now another: between two equal looks at a cell's
// owner that say Published its header does not change.
bool Ends::IsThere(const Piece& piece) const {
  const detail::VersionCell& cell = view_.cells[piece.cell];
  const std::uint64_t owner = cell.owner.Load();
  const bool same =
      cell.epoch.Load() == piece.epoch && cell.length_bytes.Load() == piece.length_bytes;
  return detail::OwnerWord::Unpack(owner).state == detail::CellState::kPublished && same &&
         cell.owner.Load() == owner;
}

// How many blocks the batch takes, and the state before it, with which a segment would begin.
// False: its versions have been recycled, or there are none to tell.
bool Ends::InMemory(const RingReading& ring, int offset, std::uint64_t& base_blocks,
                    std::uint64_t& blocks) {
  const BatchReading& batch = ring.At(offset);
  const BatchW w = BatchW::Unpack(batch.w), before = BatchW::Unpack(ring.At(offset - 1).w);
  if (!view_.ValidCell(w.version) || !view_.ValidCell(before.version)) return false;
  pieces_.clear();
  if (!w.hint_only && !builder_.Collect(w.version, w.last, before.last, pieces_)) return false;
  const Piece base{before.version, before.last,
                   view_.cells[before.version].length_bytes.Load(kRelaxed)};
  bool there = std::all_of(pieces_.begin(), pieces_.end(),
                           [this](const Piece& piece) { return IsThere(piece); });
  const bool opens =
      BatchE::Unpack(batch.e).segment != BatchE::Unpack(ring.At(offset - 1).e).segment;
  there = there && (!opens || IsThere(base));
  if (!there) {
    // Frozen, and still: then head has not passed it, and nothing of it is recycled.
    seam::AcquireFence();
    if (w.state != BatchState::kFrozen ||
        ring.WordsAt(*view_.control, offset).w.Load() != batch.w) {
      return false;
    }
  }
  base_blocks = BlocksFor(base.length_bytes);
  blocks = BatchBuilder::BlocksOf(pieces_);
  return true;
}

absl::StatusOr<Ends::Verdict> Ends::OnDisk(const RingReading& ring, int offset,
                                           const OpenSegment& segment) {
  const BatchW w = BatchW::Unpack(ring.At(offset).w);
  const BatchE end = BatchE::Unpack(ring.At(offset).e);
  const BatchE from = BatchE::Unpack(ring.At(offset - 1).e);
  if (end.segment != segment.number || w.state != BatchState::kWritten) return Wrong(ring, offset);
  const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(segment.fd.get(), segment.path);
  if (!header.ok()) return header.status();
  const std::uint64_t base_end = 1 + BlocksFor(header->base_length_bytes);
  // What this incarnation, or this segment, begins with: there is no batch yet.
  if (end.end_block == base_end && header->base_epoch == w.last) return Verdict::kRight;
  const std::uint64_t first =
      from.segment == end.segment ? std::max(from.end_block, base_end) : base_end;
  if (first >= end.end_block || end.end_block > header->capacity_blocks) return Wrong(ring, offset);
  const AlignedBuffer block(kBlockBytes);
  if (block.data() == nullptr) return absl::ResourceExhaustedError("no memory for a journal block");
  if (absl::Status s = ReadExactly(segment.fd.get(), block.data(), kBlockBytes, first * kBlockBytes,
                                   segment.path);
      !s.ok()) {
    return s;
  }
  BatchHeader batch;
  std::memcpy(&batch, block.data(), sizeof batch);
  const bool right = batch.magic == kBatchMagic && batch.crc == BatchHeaderCrc(batch) &&
                     batch.journal == super_.journal && batch.incarnation == super_.incarnation &&
                     batch.segment == end.segment && batch.block == first &&
                     batch.blocks == end.end_block - first && batch.last_epoch == w.last;
  return right ? Verdict::kRight : Wrong(ring, offset);
}

}  // namespace epoch::journal
