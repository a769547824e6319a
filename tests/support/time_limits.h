// Time in tests. Nothing here is ever short of it: a test passes on a machine that is busy with
// something else, and a test that fails says what went wrong, not that it took long.
#ifndef EPOCH_TESTS_SUPPORT_TIME_LIMITS_H_
#define EPOCH_TESTS_SUPPORT_TIME_LIMITS_H_

#include <sched.h>
#include <time.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace epoch::test {

// A guard against hangs, for what has to happen, or to succeed: no load makes anything take so
// long. Never what is asserted.
inline constexpr absl::Duration kLong = absl::Minutes(15);
inline constexpr int kLong_s = 15 * 60;
inline constexpr int kLong_ms = kLong_s * 1000;
inline constexpr char kLongText[] = "15m";  // for epochctl

// A deadline that has to pass, since what is waited for cannot come. What is asserted is the
// error, and nothing that must have happened before.
inline constexpr absl::Duration kSoon = absl::Milliseconds(5);
inline constexpr char kSoonText[] = "5ms";

// Looks until it is so. False: it does not happen.
template <typename Condition>
[[nodiscard]] bool Await(Condition&& condition) {
  const absl::Time give_up = absl::Now() + kLong;
  for (int look = 0; !condition(); ++look) {
    if (absl::Now() > give_up) return false;
    // Whoever makes it so needs the processor, too.
    const timespec pause{.tv_sec = 0, .tv_nsec = 200'000};
    if (look < 100) {
      sched_yield();
    } else {
      nanosleep(&pause, nullptr);
    }
  }
  return true;
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_TIME_LIMITS_H_
