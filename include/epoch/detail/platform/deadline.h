// How long a call may wait: until when, who may end that sooner, and how long to sleep meanwhile.
//
// Nothing here decides who is dead or which version is newer; only how long somebody sleeps.
//
// Thread safety: a Deadline is a value; Limit and Slices are one call's own.
// Progress: wait-free, but for what `interrupted` does.
#ifndef EPOCH_DETAIL_PLATFORM_DEADLINE_H_
#define EPOCH_DETAIL_PLATFORM_DEADLINE_H_

#include <algorithm>
#include <compare>
#include <cstdint>
#include <functional>

#include "absl/time/time.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::detail {

// A moment of CLOCK_MONOTONIC, or none. Those of different moments compare; Never is the latest.
class Deadline {
 public:
  static constexpr Deadline Never() { return Deadline(INT64_MAX); }
  // Has passed, without a look at the clock.
  static constexpr Deadline AtOnce() { return Deadline(INT64_MIN); }
  // So long from now. Never, for an infinite duration; now, for one that is not positive.
  static Deadline After(absl::Duration timeout) {
    if (timeout == absl::InfiniteDuration()) return Never();
    const std::int64_t now_ns = seam::MonotonicNanos();
    const std::int64_t nanos = absl::ToInt64Nanoseconds(timeout);  // saturates
    if (nanos <= 0) return Deadline(now_ns);
    return nanos > INT64_MAX - now_ns ? Never() : Deadline(now_ns + nanos);
  }
  // As it stands in shared words and in the journal: nanoseconds of CLOCK_MONOTONIC.
  static constexpr Deadline OfWord(std::int64_t nanos) { return Deadline(nanos); }
  constexpr std::int64_t word() const { return at_ns_; }

  constexpr bool never() const { return at_ns_ == INT64_MAX; }
  constexpr bool at_once() const { return at_ns_ == INT64_MIN; }
  bool Passed() const { return at_once() || at_ns_ <= seam::MonotonicNanos(); }
  // Nanoseconds from now on; not positive once it has passed.
  // The clock begins at 0; a word of shared memory may hold anything.
  std::int64_t Left_ns() const { return at_ns_ <= 0 ? 0 : at_ns_ - seam::MonotonicNanos(); }

  friend constexpr auto operator<=>(const Deadline&, const Deadline&) = default;

 private:
  explicit constexpr Deadline(std::int64_t at_ns) : at_ns_(at_ns) {}

  std::int64_t at_ns_;
};

// How long a call may wait, and who may end that sooner: one for the whole call, however many waits
// it is made of.
struct Limit {
  explicit Limit(Deadline until = Deadline::Never(),
                 const std::function<bool()>* may_interrupt = nullptr)
      : deadline(until), interrupted(may_interrupt) {}
  // Of options with a timeout and somebody who may interrupt.
  template <typename Options>
  static Limit Of(const Options& options) {
    return Limit(Deadline::After(options.timeout), &options.interrupted);
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
  // The same, for somebody who does not sleep.
  bool Interrupted() {
    std::int64_t not_asleep_ns = 0;
    return Interrupted(not_asleep_ns);
  }

  Deadline deadline;
  const std::function<bool()>* interrupted;  // null, or empty: nobody
  std::int64_t due_ns = 0;                   // 0: it has not waited yet
  bool yes = false;
};

// How long to sleep between looks at things that nobody rings for (a death, a missed help).
class Slices {
 public:
  explicit Slices(Deadline deadline, std::int64_t first_ns = 1'000'000,
                  std::int64_t longest_ns = 64'000'000)
      : deadline_(deadline), slice_ns_(first_ns), longest_ns_(longest_ns) {}

  // Nanoseconds to sleep now; 0 when the deadline has passed.
  std::int64_t Next() noexcept {
    const std::int64_t left_ns = deadline_.Left_ns();
    if (left_ns <= 0) return 0;
    const std::int64_t slice_ns = std::min(slice_ns_, left_ns);
    slice_ns_ = std::min(2 * slice_ns_, longest_ns_);
    return slice_ns;
  }

 private:
  Deadline deadline_;
  std::int64_t slice_ns_;
  std::int64_t longest_ns_;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_DEADLINE_H_
