#include "core/journal/batch/freezer.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/journal/format/format.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/protocol/head.h"
#include "epoch/detail/protocol/versions.h"

namespace epoch::journal {

using detail::Phase;
using detail::StateWord;

bool Look::AnyFrozen() const {
  for (int back = 0; back < in_flight; ++back) {
    if (BatchW::Unpack(ring.At(-back).w).state == BatchState::kFrozen) return true;
  }
  return false;
}

bool Look::BlocksOthers() const {
  const BatchW newest = ring.NewestW();
  return newest.state == BatchState::kFrozen && (newest.hint_only || ring.Opens(0));
}

bool Look::MayFreeze(Epoch accepted) const {
  if (BlocksOthers() || in_flight == detail::kMostBatchesInFlight) return false;
  const Epoch newest = ring.NewestW().last;
  return in_flight == 0 || accepted - newest >= newest - head.epoch;
}

absl::StatusOr<Look> Freezer::LookAround() {
  detail::AdvanceDurableHead(view_);
  Look look;
  look.head = StateWord::Unpack(view_.control->head.Load());
  if (look.head.phase == Phase::kPoisoned) return Poison();
  look.ring = ReadRing(*view_.control);
  const RingReading& ring = look.ring;
  if (ring.kind == RingReading::Kind::kDamaged) return RingDamaged();
  if (ring.kind == RingReading::Kind::kMoving) return look;
  if (IsSuccessor(ring.At(1).w, ring.At(0).w)) {
    look.due = Look::Due::kHint;
    return look;
  }
  if (ring.NewestW().state == BatchState::kFrozen && !EndIsKnown(ring.At(0).e, ring.At(-1).e)) {
    look.due = Look::Due::kEnd;
    return look;
  }
  // A hint by itself is behind no head, and so in no flight; what is written behind one that failed
  // would not be found all the same.
  if (ring.NewestW().state == BatchState::kFailed) return Poison();
  look.in_flight = ring.InFlight(look.head.epoch);
  for (int back = 0; back < look.in_flight; ++back) {
    switch (BatchW::Unpack(ring.At(-back).w).state) {
      case BatchState::kFrozen:
      case BatchState::kWritten:
        break;
      case BatchState::kFailed:
        return Poison();
      default:
        return RingDamaged();
    }
  }
  look.due = Look::Due::kNothing;
  return look;
}

absl::StatusOr<StateWord> Freezer::Accepted() {
  for (;;) {
    const std::uint64_t tail_word = view_.control->tail.Load();
    StateWord accepted = StateWord::Unpack(tail_word);
    if (accepted.phase != Phase::kVoting) {
      // Once durable it may be superseded and freed, so it must be Published by now.
      detail::MarkPublished(view_, tail_word);
      return accepted;
    }
    // Undecided, so not to be written: a record must never be of something that is aborted
    // afterwards. Its predecessor is.
    if (!view_.ValidCell(accepted.version)) return RingDamaged();
    accepted.version = detail::PreviousCellOf(view_.cells[accepted.version].shape.Load(kRelaxed));
    accepted.epoch -= 1;
    if (view_.control->tail.Load() == tail_word) return accepted;
  }
}

// --- freezing ------------------------------------------------------------------------------------

bool Freezer::Freeze(const RingReading& ring, const StateWord& accepted, std::uint32_t slot,
                     const std::optional<Room>& room) {
  if (!builder_.Collect(accepted.version, accepted.epoch, ring.NewestW().last, pieces_)) {
    return true;  // stale
  }
  pieces_.resize(BatchBuilder::Fitting(pieces_));
  const BatchE end = BatchE::Unpack(ring.At(0).e);
  const std::uint64_t blocks = BatchBuilder::BlocksOf(pieces_);
  if (room.has_value() && (end.segment != room->segment || blocks > room->most_blocks ||
                           end.end_block + blocks > capacity_blocks_ - kSealBlocks)) {
    return false;
  }
  EPOCH_POINT("journal.before_freeze");
  FreezeW(ring,
          BatchW{BatchState::kFrozen, false, pieces_.back().cell, pieces_.back().epoch}.Pack(),
          slot);
  return true;
}

void Freezer::FreezeHintOnly(const RingReading& ring, std::uint32_t slot) {
  const BatchW newest = ring.NewestW();
  EPOCH_POINT("journal.before_rest");
  FreezeW(ring, BatchW{BatchState::kFrozen, true, newest.version, newest.last}.Pack(), slot);
}

void Freezer::FreezeW(const RingReading& ring, std::uint64_t frozen, std::uint32_t slot) {
  detail::BatchWords& words = ring.WordsAt(*view_.control, 1);
  std::uint64_t expected = ring.At(1).w;
  if (!words.w.CompareExchange(expected, frozen)) return;
  EPOCH_POINT("journal.frozen");
  words.writer.Store(slot + std::uint64_t{1}, kRelaxed);
  constexpr std::size_t kMostRemembered = detail::kMostBatchesInFlight;
  if (mine_.size() == kMostRemembered) mine_.erase(mine_.begin());
  mine_.push_back(frozen);
}

void Freezer::FreezeHint(const RingReading& ring) {
  const BatchH newest = BatchH::Unpack(ring.At(0).h);
  const BatchH old = BatchH::Unpack(ring.At(1).h);
  const auto tag = static_cast<std::uint16_t>(newest.tag + 1);
  if (old.tag != static_cast<std::uint16_t>(tag - detail::kBatchRingSlots)) return;  // stale
  const Epoch head = StateWord::Unpack(view_.control->head.Load()).epoch;
  std::uint64_t expected = ring.At(1).h;
  EPOCH_POINT("journal.before_hint");
  ring.WordsAt(*view_.control, 1).h.CompareExchange(expected, BatchH{tag, head}.Pack());
}

absl::StatusOr<std::optional<BatchE>> Freezer::EndOf(const RingReading& ring) {
  const BatchW w = ring.NewestW();
  const BatchW before = BatchW::Unpack(ring.At(-1).w);
  const BatchE from = BatchE::Unpack(ring.At(-1).e);
  bool sound = view_.ValidCell(before.version);
  pieces_.clear();
  if (!w.hint_only) sound = sound && builder_.Collect(w.version, w.last, before.last, pieces_);
  std::uint64_t base_bytes = 0;
  if (sound) {
    const detail::VersionCell& base = view_.cells[before.version];
    base_bytes = base.length_bytes.Load(kRelaxed);
    sound = base.epoch.Load(kRelaxed) == before.last && base_bytes <= view_.geometry.state_bytes;
  }
  if (!sound) {
    detail::BatchWords& words = ring.WordsAt(*view_.control, 0);
    seam::AcquireFence();
    if (words.w.Load() != ring.At(0).w) return std::nullopt;  // stale
    return Scribbled(words, ring.At(0).w);
  }
  const std::uint64_t blocks = BatchBuilder::BlocksOf(pieces_);
  if (from.end_block + blocks <= capacity_blocks_ - kSealBlocks) {
    return BatchE{from.segment, from.end_block + blocks};
  }
  return BatchE{from.segment + 1, 1 + BlocksFor(base_bytes) + blocks};
}

absl::Status Freezer::FreezeEnd(const RingReading& ring, const BatchE& end) {
  detail::BatchWords& words = ring.WordsAt(*view_.control, 0);
  if (end.segment > kMaxSegment || end.end_block > capacity_blocks_ - kSealBlocks) {
    return Scribbled(words, ring.At(0).w);
  }
  std::uint64_t expected = ring.At(0).e;
  EPOCH_POINT("journal.before_end");
  words.e.CompareExchange(expected, end.Pack());
  return absl::OkStatus();
}

bool Freezer::IsMine(std::uint64_t w) const {
  return std::find(mine_.begin(), mine_.end(), w) != mine_.end();
}

// --- what becomes of it --------------------------------------------------------------------------

bool Freezer::MarkWritten(detail::BatchWords& words, std::uint64_t w) {
  BatchW written = BatchW::Unpack(w);
  written.state = BatchState::kWritten;
  const bool marked = words.w.CompareExchange(w, written.Pack());
  if (marked) EPOCH_POINT("journal.marked");
  detail::AdvanceDurableHead(view_);
  return marked;
}

absl::Status Freezer::Fail(detail::BatchWords& words, std::uint64_t w) {
  BatchW failed = BatchW::Unpack(w);
  failed.state = BatchState::kFailed;
  words.w.CompareExchange(w, failed.Pack());
  return Poison();
}

absl::Status Freezer::Scribbled(detail::BatchWords& words, std::uint64_t w) {
  Fail(words, w).IgnoreError();
  return absl::DataLossError(absl::StrCat(
      mapping_.path(), ": the accepted versions up to epoch ", BatchW::Unpack(w).last,
      " were overwritten in shared memory before they were durable; the journal is poisoned"));
}

absl::Status Freezer::Poison() {
  detail::PoisonHead(view_);
  detail::Ring(*view_.control);
  return absl::DataLossError(
      absl::StrCat(mapping_.journal_directory(),
                   ": a journal write failed; nothing more is committed in this incarnation, and "
                   "whether the last transitions are durable is unknown until recovery (epochctl "
                   "recover)"));
}

absl::Status Freezer::RingDamaged() const {
  return absl::DataLossError(absl::StrCat(mapping_.path(),
                                          ": the batch ring or the epoch word is damaged; remove "
                                          "the region and recover it from its journal"));
}

void Freezer::AfterForkInChild() noexcept {
  std::construct_at(&pieces_);
  std::construct_at(&mine_);
}

}  // namespace epoch::journal
