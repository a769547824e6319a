// Version cells: drafting, publishing, reclaiming.
//
// Life of a cell:  Free -> Drafted(slot) -> Published -> Free     (committed, then superseded)
//                       -> Drafted(slot) -> Free                  (draft dropped, or drafter dead)
//                       -> Drafted(slot) -> Retired -> Free       (proposal aborted)
// Every edge is a CAS on `owner` from the exact word, whose use counter makes a CAS prepared for an
// earlier life of the cell fail.
//
// Thread safety: any number of processes. Progress: DraftCell and Reclaim are lock-free.
// Invariants:
//  1. A cell that head or tail names, or whose epoch is not below head's, is never freed.
//  2. A cell is freed only when no pin protects its epoch and no guard names it.
//  3. Nobody moves tail off a version before that version is marked Published or, if it was a
//     proposal that was aborted, Retired; so a Drafted cell that neither head nor tail names was
//     never accepted, and may be freed once its drafter is dead.
#ifndef EPOCH_DETAIL_PROTOCOL_VERSIONS_H_
#define EPOCH_DETAIL_PROTOCOL_VERSIONS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "epoch/detail/memory/layout.h"

namespace epoch::detail {

struct DraftedCell {
  std::uint32_t index;
  std::uint64_t owner;  // the exact Drafted word: proof of ownership
};

// Marks the version that `tail_word` names Published. Idempotent; anyone may do it.
inline void MarkPublished(const RegionView& view, std::uint64_t tail_word) noexcept {
  const StateWord tail = StateWord::Unpack(tail_word);
  if (tail.phase != Phase::kAccepted || !view.ValidCell(tail.version)) return;
  VersionCell& cell = view.cells[tail.version];
  std::uint64_t owner = cell.owner.Load();
  if (OwnerWord::Unpack(owner).state != CellState::kDrafted) return;
  // Without this re-read the owner word may already belong to a fresh draft in the recycled cell.
  if (view.control->tail.Load() != tail_word) return;
  EPOCH_POINT("publish.before_mark");
  cell.owner.CompareExchange(owner, OwnerWord::Unpack(owner).With(CellState::kPublished));
}

// The cells that guards name. Clears only as much of itself as the region has cells.
class GuardSet {
 public:
  explicit GuardSet(const RegionView& view) noexcept : versions_(view.geometry.versions) {
    std::fill_n(words_.begin(), versions_ / 64 + 1, std::uint64_t{0});
    const std::uint32_t limit = view.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view.slots[i];
      for (const auto* guard : GuardsOf(slot)) {
        const std::uint64_t cell = OwnedWord::Unpack(guard->Load()).number;
        if (cell < versions_) words_[cell / 64] |= std::uint64_t{1} << (cell % 64);
      }
    }
  }
  bool Has(std::uint32_t cell) const noexcept { return (words_[cell / 64] >> (cell % 64)) & 1; }

 private:
  const std::uint32_t versions_;
  std::array<std::uint64_t, kMaxVersions / 64 + 1> words_;
};

// The epochs that pins protect. A settled pin protects its own version only, so one reader that
// is stopped for an hour costs the others one cell.
class PinSet {
 public:
  explicit PinSet(const RegionView& view) noexcept {
    const std::uint32_t limit = view.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const PinReading pin = PinReading::Of(view.slots[i].pin.Load());
      if (!pin.held) continue;
      if (pin.all_from) {
        all_from_ = std::min(all_from_, pin.epoch);
      } else {
        exact_[count_++] = pin.epoch;
      }
    }
    std::sort(exact_.begin(), exact_.begin() + count_);
  }
  bool Has(Epoch epoch) const noexcept {
    return epoch >= all_from_ || std::binary_search(exact_.begin(), exact_.begin() + count_, epoch);
  }

 private:
  Epoch all_from_ = kNone;
  std::uint32_t count_ = 0;
  std::array<Epoch, kMaxParticipants> exact_;  // the first count_ are filled
};

inline bool Names(std::uint64_t state_word, std::uint32_t cell) noexcept {
  return StateWord::Unpack(state_word).version == cell;
}

// Whether nobody can come back to the cell, which was a draft or an aborted proposal. In this
// order: tail, guards, head, guards. A driver that holds a guard may still let head name it, and a
// helper may set its guard while head does; both shorter orders have a counterexample.
inline bool Abandoned(const RegionView& view, std::uint32_t cell) noexcept {
  return !Names(view.control->tail.Load(), cell) && !GuardSet(view).Has(cell) &&
         !Names(view.control->head.Load(), cell) && !GuardSet(view).Has(cell);
}

// Frees every superseded version, and every aborted proposal, that nothing protects. Returns how
// many.
inline std::uint32_t Reclaim(const RegionView& view) noexcept {
  // C: head (seq_cst) before pins and guards; a pin announced after its slot was read here re-reads
  // head (Pinning::Pin, A) and finds an epoch no lower than this; a guard announced after that
  // re-reads tail (HoldTail, G), which is no lower than head.
  const Epoch head = StateWord::Unpack(view.control->head.Load()).epoch;
  const PinSet pins(view);
  const GuardSet guards(view);
  std::uint32_t freed = 0;
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    VersionCell& cell = view.cells[i];
    std::uint64_t owner = cell.owner.Load();
    const CellState state = OwnerWord::Unpack(owner).state;
    if (state == CellState::kRetired) {
      if (!Abandoned(view, i)) continue;
      EPOCH_POINT("reclaim.before_free_retired");
      if (cell.owner.CompareExchange(owner, OwnerWord::Unpack(owner).Freed())) ++freed;
      continue;
    }
    if (state != CellState::kPublished) continue;
    // If the cell is recycled from here on, the CAS below fails: the use counter differs.
    const Epoch epoch = cell.epoch.Load(std::memory_order_relaxed);
    if (epoch >= head || pins.Has(epoch) || guards.Has(i)) continue;
    EPOCH_POINT("reclaim.before_free");
    if (cell.owner.CompareExchange(owner, OwnerWord::Unpack(owner).Freed())) ++freed;
  }
  return freed;
}

// Takes a free cell for `slot`, starting the search at `cursor`, which is moved on. Empty when
// every cell is in use even after reclaiming.
inline std::optional<DraftedCell> DraftCell(const RegionView& view, std::uint32_t slot,
                                            std::uint32_t& cursor) noexcept {
  const std::uint32_t versions = view.geometry.versions;
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint32_t step = 0; step < versions; ++step) {
      cursor = cursor + 1 < versions ? cursor + 1 : 0;
      VersionCell& cell = view.cells[cursor];
      std::uint64_t owner = cell.owner.Load(std::memory_order_relaxed);
      if (OwnerWord::Unpack(owner).state != CellState::kFree) continue;
      const std::uint64_t drafted =
          OwnerWord{CellState::kDrafted, slot, OwnerWord::Unpack(owner).use}.Pack();
      if (cell.owner.CompareExchange(owner, drafted)) {
        EPOCH_POINT("draft.taken");
        return DraftedCell{cursor, drafted};
      }
    }
    // Looked at again even if there was none to reclaim: another may have been faster.
    if (pass == 0) Reclaim(view);
  }
  return std::nullopt;
}

inline void DropDraft(const RegionView& view, const DraftedCell& draft) noexcept {
  std::uint64_t expected = draft.owner;
  view.cells[draft.index].owner.CompareExchange(expected, OwnerWord::Unpack(expected).Freed());
}

// Frees the cells drafted by a slot whose state word is `expelled` and whose owner is dead. Safe
// against other reapers and against the slot's next owner. False when a draft is still named by
// someone, or the slot is no longer `expelled`: the slot must not be freed yet, or is already.
inline bool FreeDraftsOf(const RegionView& view, std::uint32_t slot,
                         std::uint64_t expelled) noexcept {
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    VersionCell& cell = view.cells[i];
    std::uint64_t owner = cell.owner.Load();
    const OwnerWord word = OwnerWord::Unpack(owner);
    if (word.state != CellState::kDrafted || word.slot != slot) continue;
    // The slot is freed only after its drafts: still expelled here means that the draft just read
    // belongs to that generation or an earlier one, not to a new owner of the slot.
    if (view.slots[slot].state.Load() != expelled) return false;
    const std::uint64_t tail = view.control->tail.Load();
    if (Names(tail, i)) {
      // Accepted: its drafter died before marking it. Or voted on: whoever finishes that marks it,
      // before tail lets go of it.
      MarkPublished(view, tail);
      continue;
    }
    if (!Abandoned(view, i)) return false;
    EPOCH_POINT("reap.before_free_draft");
    cell.owner.CompareExchange(owner, word.Freed());
  }
  return true;
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_VERSIONS_H_
