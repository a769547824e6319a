// What others know this process by. /proc takes 12 us to say it, and says the same for as long as
// the process lives: so it is asked once, by the first that joins.
#ifndef EPOCH_DETAIL_PLATFORM_OWN_PROCESS_H_
#define EPOCH_DETAIL_PLATFORM_OWN_PROCESS_H_

#include <atomic>
#include <cstdint>

#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/fork.h"
#include "epoch/detail/platform/system_calls.h"

namespace epoch::detail {

// One asking. Thread safety: an object belongs to one thread; any number of them may ask at once,
// and are told the same.
class OwnProcess {
 public:
  OwnProcess() : pid_(static_cast<std::uint32_t>(sys::getpid())) {
    kept_ = Kept::Newest();
    // The pid alone would not tell a fork child that is number 1 of a new pid namespace from a
    // parent that is number 1 of its own: in the child, nothing is kept.
    if (kept_ != nullptr && kept_->pid.load(std::memory_order_acquire) != pid_) kept_ = nullptr;
  }

  std::uint32_t pid() const { return pid_; }
  // As files.h has them: 0 where /proc does not tell. In this order.
  std::uint64_t start_time_ticks() {
    start_time_ticks_ = kept_ != nullptr ? kept_->start_time_ticks.load(std::memory_order_relaxed)
                                         : StartTimeTicks();
    return start_time_ticks_;
  }
  std::uint64_t pid_namespace() {
    if (kept_ != nullptr) return kept_->pid_namespace.load(std::memory_order_relaxed);
    const std::uint64_t found = PidNamespace();
    // What is not told now may be later: /proc can be mounted.
    if (start_time_ticks_ != 0 && found != 0) Kept::Keep(pid_, start_time_ticks_, found);
    return found;
  }

 private:
  struct Kept final : ForkAware {
    // Never destroyed, as the registry is not: who joins last may be a static object.
    static Kept* Newest() { return Made().load(std::memory_order_acquire); }
    static void Keep(std::uint32_t of, std::uint64_t start, std::uint64_t pids) {
      // No static that is made when it is first asked for: a fork in another thread meanwhile would
      // leave a child that waits for the maker, who is not there.
      Kept* made = Newest();
      if (made == nullptr) {
        Kept* const fresh = new Kept;  // registered: one that comes too late stays, unused
        if (Made().compare_exchange_strong(made, fresh, std::memory_order_acq_rel)) made = fresh;
      }
      made->start_time_ticks.store(start, std::memory_order_relaxed);
      made->pid_namespace.store(pids, std::memory_order_relaxed);
      made->pid.store(of, std::memory_order_release);  // whoever finds it finds those
    }
    void AfterForkInChild() noexcept override { pid.store(0, std::memory_order_relaxed); }

    std::atomic<std::uint32_t> pid{0};  // 0: nothing is kept
    std::atomic<std::uint64_t> start_time_ticks{0}, pid_namespace{0};

   private:
    Kept() { Register(); }
    static std::atomic<Kept*>& Made() {
      static constinit std::atomic<Kept*> made{nullptr};
      return made;
    }
  };

  const std::uint32_t pid_;
  Kept* kept_;  // null: ask
  std::uint64_t start_time_ticks_ = 0;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_OWN_PROCESS_H_
