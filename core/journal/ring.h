// The batch ring in shared memory: which batch is the newest, and how the next one is frozen.
//
// The descriptor of batch s lives in ring slot s mod 8 as three words. Each is CASed from the exact
// value of batch s-8 to that of batch s; there is no "free" value, so a process that was stopped
// before its CAS can only fail it. Freezing goes W, H, E:
//   W  decides what the batch holds (its last version);
//   H  then fixes the durable hint and, with its tag, says that W belongs to batch s;
//   E  then follows from W and from where batch s-1 ended: every process computes the same.
// One batch is in flight at a time: s+1 is frozen only when s is Written and head stands at its
// end.
#ifndef EPOCH_CORE_JOURNAL_RING_H_
#define EPOCH_CORE_JOURNAL_RING_H_

#include <cstdint>

#include "epoch/detail/journal_hook.h"
#include "epoch/detail/layout.h"

namespace epoch::journal {

using detail::BatchState;
using detail::BatchW;
using detail::BatchWords;
using detail::Control;

struct BatchE {
  std::uint64_t segment;
  std::uint64_t end_block;

  static constexpr BatchE Unpack(std::uint64_t word) {
    return {word >> 40, word & ((std::uint64_t{1} << 40) - 1)};
  }
  constexpr std::uint64_t Pack() const { return (segment << 40) | end_block; }
};

struct BatchH {
  std::uint16_t tag;
  Epoch hint;

  static constexpr BatchH Unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> detail::kNumberBits), word & detail::kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{tag} << detail::kNumberBits) | hint;
  }
};

// One reading of the three words of a slot; meaningful only as far as a later exact CAS confirms.
struct BatchReading {
  std::uint64_t w, e, h;

  bool operator==(const BatchReading&) const = default;
  static BatchReading Of(const BatchWords& words) {
    return {words.w.Load(), words.e.Load(), words.h.Load()};
  }
};

struct RingReading {
  BatchWords* newest_words;
  BatchWords* next_words;
  BatchReading before;  // batch s-1
  BatchReading newest;  // batch s: the highest with a tag of its own
  BatchReading next;    // what stands where batch s+1 goes
};

// The tags of eight consecutive batches are consecutive modulo 2^16.
//
// All three batches are as they stood at one moment: words never take a value twice, so two equal
// readings enclose such a moment. A process that was stopped in between may otherwise mix a batch
// with the one eight batches later, and take the mixture for damage.
inline RingReading ReadRing(Control& control) {
  for (int attempt = 0;; ++attempt) {
    int newest = 0;
    std::uint16_t highest = BatchH::Unpack(control.ring[0].h.Load()).tag;
    for (int i = 1; i < detail::kBatchRingSlots; ++i) {
      const std::uint16_t tag = BatchH::Unpack(control.ring[i].h.Load()).tag;
      if (static_cast<std::int16_t>(static_cast<std::uint16_t>(tag - highest)) > 0) {
        highest = tag;
        newest = i;
      }
    }
    const auto at = [&](int offset) -> BatchWords& {
      return control.ring[(newest + offset + detail::kBatchRingSlots) % detail::kBatchRingSlots];
    };
    RingReading ring{.newest_words = &at(0),
                     .next_words = &at(1),
                     .before = BatchReading::Of(at(-1)),
                     .newest = {},
                     .next = {}};
    EPOCH_POINT("journal.ring_read");
    ring.newest = BatchReading::Of(at(0));
    ring.next = BatchReading::Of(at(1));
    const bool unchanged = BatchReading::Of(at(-1)) == ring.before &&
                           BatchReading::Of(at(0)) == ring.newest &&
                           BatchReading::Of(at(1)) == ring.next;
    const bool consecutive =
        BatchH::Unpack(ring.newest.h).tag == highest &&
        BatchH::Unpack(ring.before.h).tag == static_cast<std::uint16_t>(highest - 1);
    // In a ring that was written over they may never be: then callers find out what is wrong.
    constexpr int kMostAttempts = 1000;
    if ((unchanged && consecutive) || attempt >= kMostAttempts) return ring;
  }
}

// Whether `next` is already frozen as the successor of `newest`, not still batch s-7.
inline bool IsSuccessor(std::uint64_t next, std::uint64_t newest) {
  const BatchW a = BatchW::Unpack(next), b = BatchW::Unpack(newest);
  return a.last > b.last || (a.last == b.last && a.hint_only && !b.hint_only);
}

// Whether E has been computed for the batch, or is still that of eight batches ago.
inline bool EndIsKnown(std::uint64_t e, std::uint64_t before) { return e > before; }

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_RING_H_
