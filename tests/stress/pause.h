// Pauses at the labelled points of the protocol, in the agents that are built with
// EPOCH_TEST_POINTS: a yield now and then at any of them; and at one that is chosen beforehand a
// longer pause, SIGSTOP or SIGKILL. Chosen by name, so that a point that is passed rarely is hit as
// often as others.
#ifndef EPOCH_TESTS_STRESS_PAUSE_H_
#define EPOCH_TESTS_STRESS_PAUSE_H_

#include "stress/log.h"
#include "stress/random.h"

#ifdef EPOCH_TEST_POINTS

#include <sched.h>
#include <signal.h>
#include <time.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "epoch/detail/platform/seam.h"

namespace epoch::stress {

class Pauses {
 public:
  static void Install(LogWriter& log, std::uint64_t seed) {
    log_ = &log;
    random_.emplace(seed);
    On();
  }
  static void On() { seam::point_hook.store(&Passed); }
  static void Off() { seam::point_hook.store(nullptr); }

  // Now and then another point is chosen.
  static void Rearm(Random& random) {
    const std::lock_guard lock(mutex_);
    if (labels_.empty() || !random.OneIn(20)) return;
    armed_ = labels_[random.Below(labels_.size())];
  }

 private:
  static int Passed(const char* label) {
    std::unique_lock lock(mutex_);  // a listener's thread passes points, too
    bool known = false;
    for (const char* other : labels_) known = known || other == label;
    if (!known) labels_.push_back(label);
    if (label == armed_) {
      armed_ = nullptr;
      const std::uint64_t what = random_->Below(100);
      const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>(random_->Below(400'000))};
      lock.unlock();
      if (what < 4) Raise(SIGKILL);
      if (what < 16) Raise(SIGSTOP);
      nanosleep(&time, nullptr);
    } else if (random_->OneIn(64)) {
      lock.unlock();
      sched_yield();
    }
    return 0;
  }
  static void Raise(int signal) {
    log_->Append({.kind = Kind::kRaised, .detail = static_cast<std::uint64_t>(signal)});
    raise(signal);
  }

  static inline std::mutex mutex_;
  static inline LogWriter* log_ = nullptr;
  static inline std::optional<Random> random_;
  static inline const char* armed_ = nullptr;
  static inline std::vector<const char*> labels_;
};

}  // namespace epoch::stress

#else

namespace epoch::stress {
struct Pauses {
  static void Install(LogWriter&, std::uint64_t) {}
  static void On() {}
  static void Off() {}
  static void Rearm(Random&) {}
};
}  // namespace epoch::stress

#endif
#endif  // EPOCH_TESTS_STRESS_PAUSE_H_
