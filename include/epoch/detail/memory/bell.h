// The bell: how a process sleeps until something in the region changes.
//
// One 32-bit futex word. Bit 0 says that somebody sleeps or is about to; the other bits count
// wake-ups. A ringer that sees bit 0 clear does nothing: one load. A sleeper that is killed leaves
// bit 0 set, which costs the next ringer one superfluous wake-up call and is then gone; a counter
// of sleepers would stay wrong for ever.
//
// Progress: Ring is wait-free but for one retry per concurrent change of the word.
// Invariant: a change made before Ring() is seen by every sleeper that could otherwise miss it:
//   ringer:  change (seq_cst RMW)      | sleeper: set bit 0 (seq_cst RMW)       // B
//            load bell (seq_cst)       |          re-check what is waited for   // B
// One of the two sees the other.
#ifndef EPOCH_DETAIL_MEMORY_BELL_H_
#define EPOCH_DETAIL_MEMORY_BELL_H_

#include <cstdint>
#include <utility>

#include "epoch/detail/memory/layout.h"

namespace epoch::detail {

using BellWord = seam::Atomic<std::uint32_t>;

// Whether anybody slept, and wakes up now.
inline bool RingAt(BellWord& bell) noexcept {
  std::uint32_t value = bell.Load();  // B: pairs with the FetchOr in ArmAt
  while ((value & 1) != 0) {
    if (bell.CompareExchange(value, (value & ~1u) + 2)) {
      return seam::FutexWakeAll(&bell) > 0;
    }
  }
  return false;
}
inline void Ring(Control& control) noexcept { RingAt(control.bell); }

// Says that somebody is about to sleep. Look again, then FutexWait for the value returned.
inline std::uint32_t ArmAt(BellWord& bell) noexcept {
  return bell.FetchOr(1) | 1;  // B: pairs with the load in RingAt
}
inline std::uint32_t Arm(Control& control) noexcept { return ArmAt(control.bell); }

// Sleeps until the bell rings or `nanos` have passed, unless `done()` holds already.
template <typename Done>
void SleepAtUnless(BellWord& bell, std::int64_t nanos, Done&& done) noexcept {
  if (nanos <= 0) return;
  const std::uint32_t value = ArmAt(bell);
  if (done()) return;
  seam::FutexWait(&bell, value, nanos);
}
template <typename Done>
void SleepUnless(Control& control, std::int64_t nanos, Done&& done) noexcept {
  SleepAtUnless(control.bell, nanos, std::forward<Done>(done));
}

// Doors. Whoever waits for its own transition to be durable waits at that epoch's door: of all who
// wait, only those wake up whose epoch it is, and one more, who writes what comes next.
inline BellWord& DoorOf(Control& control, Epoch epoch) noexcept {
  return control.doors[epoch % kDoors];
}
// The epochs after `from`, up to `to`, are durable.
inline void RingDoors(Control& control, Epoch from, Epoch to) noexcept {
  if (to - from > kDoors) from = to - kDoors;
  for (Epoch epoch = from + 1; epoch <= to; ++epoch) RingAt(DoorOf(control, epoch));
}
// Somebody who waits for one of them: the first.
inline void RingOneDoor(Control& control, Epoch from, Epoch to) noexcept {
  if (to - from > kDoors) to = from + kDoors;
  for (Epoch epoch = from + 1; epoch <= to; ++epoch) {
    if (RingAt(DoorOf(control, epoch))) return;
  }
}
inline void RingAllDoors(Control& control) noexcept {
  for (BellWord& door : control.doors) RingAt(door);
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_BELL_H_
