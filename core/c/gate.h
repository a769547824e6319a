// Gate: one thread at a time, whichever it is; the others are turned away, and may leave a request.
//
// To get inside is one exchange. To leave is a store, and then a load: has somebody left a request?
// That order is not the processor's own, and to fence costs as much as the exchange. So whoever
// leaves a request, which is rare, has all processors of this process pass a barrier
// (membarrier(2)) before it tries to get inside: either it finds that the other has left, or the
// other's load comes after the barrier, and sees the request. Where there is no membarrier the
// fence is in the exit.
//
// Thread safety: all functions; Exit and TakeRequests by who is inside. Progress: wait-free, but
// for the barrier. Fork: AfterForkInChild.
#ifndef EPOCH_CORE_C_GATE_H_
#define EPOCH_CORE_C_GATE_H_

#include <atomic>

namespace epoch::c {

class Gate {
 public:
  // False: somebody is inside; perhaps this very thread.
  bool TryEnter() noexcept { return !inside_.exchange(true, std::memory_order_acquire); }

  // True: there is a request, which its maker has left to who was inside.
  bool Exit() noexcept {
    inside_.store(false, std::memory_order_release);
    // Not by the compiler, and otherwise: see above.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (exits_fence.load(std::memory_order_relaxed)) [[unlikely]]
      std::atomic_thread_fence(std::memory_order_seq_cst);
    return requested_.load(std::memory_order_relaxed);
  }

  // What was prepared before this is seen by who takes the request: whoever is inside when it
  // leaves, or the caller itself, if it gets inside afterwards.
  void Request() noexcept;
  // For who has left something undone: a later one finds it when it leaves.
  void Remind() noexcept { requested_.store(true, std::memory_order_release); }
  // Inside, before the work is done that was requested: a later request is another one.
  void TakeRequests() noexcept { requested_.exchange(false, std::memory_order_acq_rel); }

  // Another thread was inside at a fork, and is not here to leave. Asked by who was turned away.
  bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }
  // `used`: there is something that it guards.
  void AfterForkInChild(bool used) noexcept {
    if (used && inside_.load(std::memory_order_relaxed)) {
      // Or it is this very thread, in a callback, which will leave as ever.
      lost_.store(true, std::memory_order_relaxed);
    } else {
      inside_.store(false, std::memory_order_relaxed);
    }
  }

 private:
  static std::atomic<bool> exits_fence;

  std::atomic<bool> inside_{false};
  std::atomic<bool> requested_{false};
  std::atomic<bool> lost_{false};
};

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_GATE_H_
