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

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/time/time.h"
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

inline std::int64_t DeadlineAfter(absl::Duration timeout) {
  if (timeout == absl::InfiniteDuration()) return INT64_MAX;
  const std::int64_t now = seam::MonotonicNanos();
  const std::int64_t nanos = absl::ToInt64Nanoseconds(timeout);  // saturates
  if (nanos <= 0) return now;  // minus infinity would overflow whoever computes what is left
  return nanos > INT64_MAX - now ? INT64_MAX : now + nanos;
}

// How long a call may wait, and who may end that sooner: one for the whole call, however many waits
// it is made of.
struct Limit {
  explicit Limit(std::int64_t deadline = INT64_MAX,
                 const std::function<bool()>* may_interrupt = nullptr)
      : deadline_ns(deadline), interrupted(may_interrupt) {}
  // Of options with a timeout and somebody who may interrupt.
  template <typename Options>
  static Limit Of(const Options& options) {
    return Limit(DeadlineAfter(options.timeout), &options.interrupted);
  }

  // Whether the caller has had enough; asked when that is due. Lowers `nanos`, how long somebody is
  // about to sleep, to when it is due again. A yes holds for the rest of the call.
  bool Interrupted(std::int64_t& nanos) {
    if (interrupted == nullptr || !*interrupted) [[likely]]
      return false;
    constexpr std::int64_t kEvery_ns = 100'000'000;
    const std::int64_t now_ns = seam::MonotonicNanos();
    if (due_ns == 0) due_ns = now_ns + kEvery_ns;
    if (!yes && now_ns >= due_ns) {
      yes = (*interrupted)();
      due_ns = now_ns + kEvery_ns;
    }
    nanos = std::min(nanos, due_ns - now_ns);
    return yes;
  }

  std::int64_t deadline_ns;
  const std::function<bool()>* interrupted;  // null, or empty: nobody
  std::int64_t due_ns = 0;                   // 0: it has not waited yet
  bool yes = false;
};

// How long to sleep between looks at things that nobody rings for (a death, a missed help).
class Slices {
 public:
  explicit Slices(std::int64_t deadline_ns, std::int64_t first_ns = 1'000'000,
                  std::int64_t longest_ns = 64'000'000)
      : deadline_ns_(deadline_ns), slice_ns_(first_ns), longest_ns_(longest_ns) {}

  // Nanoseconds to sleep now; 0 when the deadline has passed.
  std::int64_t Next() noexcept {
    const std::int64_t left = deadline_ns_ - seam::MonotonicNanos();
    if (left <= 0) return 0;
    const std::int64_t slice = slice_ns_ < left ? slice_ns_ : left;
    slice_ns_ = slice_ns_ * 2 < longest_ns_ ? slice_ns_ * 2 : longest_ns_;
    return slice;
  }

 private:
  std::int64_t deadline_ns_;
  std::int64_t slice_ns_;
  std::int64_t longest_ns_;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_BELL_H_
