// The seam's test side: the same names as in epoch/detail/seam.h, played by sim::Engine.
// Included in its place by -DEPOCH_SEAM_HEADER='"tests/sim/seam_sim.h"'.
#ifndef EPOCH_TESTS_SIM_SEAM_SIM_H_
#define EPOCH_TESTS_SIM_SEAM_SIM_H_

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "tests/sim/engine.h"

namespace epoch::seam {

template <typename T>
class Atomic {
 public:
  T Load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    if (auto* e = sim::Engine::active()) {
      return static_cast<T>(e->Load(this, static_cast<std::uint64_t>(value_), order));
    }
    return value_;
  }
  void Store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    if (auto* e = sim::Engine::active()) {
      e->Point("");
      e->BeforeStore(this, static_cast<std::uint64_t>(value_));
      value_ = value;
      e->Store(this, static_cast<std::uint64_t>(value), order);
      return;
    }
    value_ = value;
  }
  bool CompareExchange(T& expected, T desired) noexcept {
    return Modify([&](T found) {
             const bool equal = found == expected;
             expected = found;
             return std::pair{equal, desired};
           })
        .first;
  }
  T FetchAdd(T delta) noexcept {
    return Modify([&](T found) { return std::pair{true, static_cast<T>(found + delta)}; }).second;
  }
  T FetchOr(T bits) noexcept {
    return Modify([&](T found) { return std::pair{true, static_cast<T>(found | bits)}; }).second;
  }
  T Exchange(T value) noexcept {
    return Modify([&](T) { return std::pair{true, value}; }).second;
  }

 private:
  // Whether it wrote, and what it found.
  template <typename Fn>
  std::pair<bool, T> Modify(Fn fn) noexcept {
    auto* e = sim::Engine::active();
    if (e != nullptr) {
      e->Point("");
      e->BeforeModify(this, static_cast<std::uint64_t>(value_));
    }
    const T found = value_;
    const auto [write, next] = fn(found);
    if (write) {
      value_ = next;
      if (e != nullptr) e->AfterModify(this, static_cast<std::uint64_t>(next));
    }
    return {write, found};
  }

  T value_;  // the newest store
};

#define EPOCH_POINT(label)                                                   \
  do {                                                                       \
    if (auto* engine = ::epoch::sim::Engine::active()) engine->Point(label); \
  } while (false)
#define EPOCH_FAULT(label) (0)

inline void AcquireFence() noexcept {}
inline void CpuRelax() noexcept { EPOCH_POINT("relax"); }

inline std::int64_t MonotonicNanos() noexcept {
  auto* e = sim::Engine::active();
  return e == nullptr ? 0 : e->Now();
}

inline void FutexWait(const Atomic<std::uint32_t>* word, std::uint32_t expected,
                      std::int64_t nanos) noexcept {
  if (auto* e = sim::Engine::active()) e->Wait(word, 0, expected, nanos);
}
inline void FutexWakeAll(const Atomic<std::uint32_t>* word) noexcept {
  if (auto* e = sim::Engine::active()) e->WakeAll(word);
}

enum class ByteLock { kShared = F_RDLCK, kExclusive = F_WRLCK, kNone = F_UNLCK };
inline int SetByteLock(int fd, ByteLock kind, std::int64_t offset) noexcept {
  auto* e = sim::Engine::active();
  return e == nullptr ? 0 : e->LockByte(fd, kind == ByteLock::kNone, offset);
}
enum class LockState { kFree, kHeld, kUnknown };
inline LockState TestByteLock(int fd, std::int64_t offset) noexcept {
  auto* e = sim::Engine::active();
  return e != nullptr && e->ByteHeld(fd, offset) ? LockState::kHeld : LockState::kFree;
}

struct ProcessIdentity {
  std::uint32_t pid;
  std::uint64_t start_time_ticks;
  std::uint64_t pid_namespace;
};

}  // namespace epoch::seam

#endif  // EPOCH_TESTS_SIM_SEAM_SIM_H_
