// Gate: one thread at a time, whichever it is; the others are turned away, and may leave a request.
//
// To get inside is one exchange. To leave is a store, and then a load: has somebody left a request?
// That order is not the processor's own, and to fence costs as much as the exchange. So whoever
// leaves a request, which is rare, has all processors of this process pass a barrier
// (membarrier(2)) before it tries to get inside: either it finds that the other has left, or the
// other's load comes after the barrier, and sees the request. Where there is no membarrier the
// fence is in the exit.
//
// Its words are in struct epoch_hot, where a pin that is inlined into a program looks at them
// (c_inline.h).
//
// Thread safety: all functions; Exit and TakeRequests by who is inside. Progress: wait-free, but
// for the barrier. Fork: AfterForkInChild.
#ifndef EPOCH_CORE_C_GATE_H_
#define EPOCH_CORE_C_GATE_H_

#include <pthread.h>

#include <atomic>
#include <bit>
#include <cstdint>

#include "epoch/c.h"

namespace epoch::c {

class Gate {
 public:
  explicit Gate(epoch_hot& words) noexcept : words_(words) {}
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // False: somebody is inside; perhaps this very thread.
  bool TryEnter() noexcept {
    // seq_cst: before who is inside looks at the pin word (hot_pin.h).
    if (inside().exchange(1, std::memory_order_seq_cst) != 0) return false;
    by_.store(pthread_self(), std::memory_order_relaxed);
    return true;
  }

  enum : unsigned char {
    kAsked = 1,  // by somebody who may have been turned away: who leaves looks after it
    kLeft = 2,   // by who is inside, for a thread that passes no gate, and is midway (hot_pin.h)
  };
  // What was requested, and its maker may have left to who was inside.
  unsigned char Exit() noexcept {
    // Nobody's, before it may be another's: a fork goes by it.
    by_.store(0, std::memory_order_relaxed);
    inside().store(0, std::memory_order_release);
    // Not by the compiler, and otherwise: see above.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (exits_fence.load(std::memory_order_relaxed)) [[unlikely]]
      std::atomic_thread_fence(std::memory_order_seq_cst);
    return requested().load(std::memory_order_relaxed);
  }

  // What was prepared before this is seen by who takes the request: whoever is inside when it
  // leaves, or the caller itself, if it gets inside afterwards.
  void Request(unsigned char what = kAsked) noexcept;
  bool requests() const noexcept { return requested().load(std::memory_order_relaxed) != 0; }
  // For who has left something undone: a later one finds it when it leaves.
  void Remind() noexcept { requested().fetch_or(kAsked, std::memory_order_release); }
  // Inside, before the work is done that was requested: a later request is another one.
  void TakeRequests() noexcept { requested().exchange(0, std::memory_order_acq_rel); }

  // Has all threads of this process pass a barrier. False: the system refuses.
  static bool Barrier() noexcept;
  // One of the bytes of `calls`, which c_inline.h loads together.
  static std::atomic_ref<unsigned char> ByteOf(epoch_hot& words, std::uint64_t mask) noexcept {
    static_assert(std::endian::native == std::endian::little);
    return std::atomic_ref<unsigned char>(
        reinterpret_cast<unsigned char*>(&words.calls)[std::countr_zero(mask) / 8]);
  }
  static bool HasBarrier() noexcept { return !exits_fence.load(std::memory_order_relaxed); }

  // Another thread was inside at a fork, and is not here to leave. Asked by who was turned away.
  bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }
  // `used`: there is something that it guards.
  void AfterForkInChild(bool used) noexcept {
    if (inside().load(std::memory_order_relaxed) == 0) return;
    // This very thread, in a callback, leaves as ever. (pthread_self() is the same in the child.)
    const pthread_t by = by_.load(std::memory_order_relaxed);
    if (used && by != 0 && pthread_equal(by, pthread_self()) != 0) return;
    if (used) {
      lost_.store(true, std::memory_order_relaxed);
    } else {
      by_.store(0, std::memory_order_relaxed);
      inside().store(0, std::memory_order_relaxed);
    }
  }

 private:
  static std::atomic<bool> exits_fence;

  std::atomic_ref<unsigned char> inside() const noexcept {
    return ByteOf(words_, EPOCH_HOT_INSIDE);
  }
  std::atomic_ref<unsigned char> requested() const noexcept {
    return ByteOf(words_, EPOCH_HOT_REQUESTED);
  }

  epoch_hot& words_;
  std::atomic<pthread_t> by_{0};  // who is inside, as soon as it has said so
  std::atomic<bool> lost_{false};
};

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_GATE_H_
