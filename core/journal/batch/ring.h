// The batch ring in shared memory: which batches there are, and how the next one is frozen.
//
// The descriptor of batch s lives in ring slot s mod 16 as three words. Each is CASed from the
// exact value of batch s-16 to that of batch s; there is no "free" value, so a process that was
// stopped before its CAS can only fail it. Freezing goes W, H, E:
//   W  decides what the batch holds (its last version);
//   H  then fixes the durable hint and, with its tag, says that W belongs to batch s;
//   E  then follows from W and from where batch s-1 ended: every process computes the same.
// s+1 is frozen only when E of s is known, and while fewer than eight batches end beyond head. So
// the ring always holds all that are in flight, and the one before them.
#ifndef EPOCH_CORE_JOURNAL_BATCH_RING_H_
#define EPOCH_CORE_JOURNAL_BATCH_RING_H_

#include <array>
#include <cstdint>

#include "epoch/detail/memory/layout.h"
#include "epoch/detail/memory/words.h"

namespace epoch::journal {

using detail::BatchE;
using detail::BatchH;
using detail::BatchState;
using detail::BatchW;
using detail::BatchWords;
using detail::Control;

// For words of versions that do not change any more, and for advice.
inline constexpr auto kRelaxed = std::memory_order_relaxed;

// One reading of the three words of a slot; meaningful only as far as a later exact CAS confirms.
struct BatchReading {
  std::uint64_t w, e, h;

  bool operator==(const BatchReading&) const = default;
  static BatchReading Of(const BatchWords& words) {
    return {words.w.Load(), words.e.Load(), words.h.Load()};
  }
};

// All batches of the ring as they stood at one moment.
struct RingReading {
  enum class Kind : std::uint8_t {
    kWhole,
    kMoving,   // others change it all the time; what was read may be of several moments
    kDamaged,  // as it stood at one moment, and no process leaves it so
  };
  Kind kind = Kind::kWhole;
  std::array<BatchReading, detail::kBatchRingSlots> slots;
  int newest = 0;  // the slot of batch s: the highest with a tag of its own

  static constexpr int Slot(int of) {
    return (of + detail::kBatchRingSlots) % detail::kBatchRingSlots;
  }
  // Batch s + offset, for offsets from 0 back to -14. 1: what stands where batch s+1 goes.
  const BatchReading& At(int offset) const {
    return slots[static_cast<std::size_t>(Slot(newest + offset))];
  }
  BatchWords& WordsAt(Control& control, int offset) const {
    return control.ring[Slot(newest + offset)];
  }
  BatchW NewestW() const { return BatchW::Unpack(At(0).w); }
  // Whether that batch is the first of its segment.
  bool Opens(int offset) const {
    return BatchE::Unpack(At(offset).e).segment != BatchE::Unpack(At(offset - 1).e).segment;
  }

  // How many batches end beyond `head`. They are the newest ones.
  int InFlight(Epoch head) const {
    int count = 0;
    while (count < detail::kMostBatchesInFlight && BatchW::Unpack(At(-count).w).last > head) {
      ++count;
    }
    return count;
  }
};

// Words never take a value twice, so two equal readings enclose a moment at which all of it was so.
// A process that was stopped in between may otherwise mix a batch with the one sixteen batches
// later, and take the mixture for damage.
inline RingReading ReadRing(Control& control) {
  for (int attempt = 0;; ++attempt) {
    RingReading ring;  // its slots follow
    for (std::size_t i = 0; i < ring.slots.size(); ++i) {
      ring.slots[i] = BatchReading::Of(control.ring[i]);
    }
    EPOCH_POINT("journal.ring_read");
    bool still = true;
    for (std::size_t i = 0; still && i < ring.slots.size(); ++i) {
      still = ring.slots[i] == BatchReading::Of(control.ring[i]);
    }
    // The tags of consecutive batches are consecutive modulo 2^16.
    const auto tag = [&ring](int slot) {
      return BatchH::Unpack(ring.slots[static_cast<std::size_t>(slot)].h).tag;
    };
    for (int i = 1; i < detail::kBatchRingSlots; ++i) {
      const auto ahead = static_cast<std::uint16_t>(tag(i) - tag(ring.newest));
      if (static_cast<std::int16_t>(ahead) > 0) ring.newest = i;
    }
    bool in_order = true;
    for (int back = 1; in_order && back < detail::kBatchRingSlots; ++back) {
      in_order = tag(RingReading::Slot(ring.newest - back)) ==
                 static_cast<std::uint16_t>(tag(ring.newest) - back);
    }
    // They are so at every moment: a new batch has its predecessor's tag in its slot until it gets
    // its own. So one reading is enough to tell, and to try again would only take long.
    ring.kind = !still     ? RingReading::Kind::kMoving
                : in_order ? RingReading::Kind::kWhole
                           : RingReading::Kind::kDamaged;
    constexpr int kMostAttempts = 1000;
    if (still || attempt >= kMostAttempts) return ring;
  }
}

// Whether `next` is already frozen as the successor of `newest`, not still batch s-15.
inline bool IsSuccessor(std::uint64_t next, std::uint64_t newest) {
  const BatchW a = BatchW::Unpack(next), b = BatchW::Unpack(newest);
  return a.last > b.last || (a.last == b.last && a.hint_only && !b.hint_only);
}

// Whether E has been computed for the batch, or is still that of sixteen batches ago.
inline bool EndIsKnown(std::uint64_t e, std::uint64_t before) { return e > before; }

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_BATCH_RING_H_
