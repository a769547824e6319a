// What fork() must not duplicate. A child shares its parent's open file descriptions, and with
// them the locks that say the parent is alive; and it has a copy of the parent's participants,
// which are not its own. Everything that is concerned registers here and is told in the child.
//
// Thread safety: all functions. The registry is locked across fork(), so the child finds it whole.
#ifndef EPOCH_DETAIL_PLATFORM_FORK_H_
#define EPOCH_DETAIL_PLATFORM_FORK_H_

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "epoch/detail/platform/needs.h"

namespace epoch::detail {

class ForkAware {
 public:
  // Called in the parent, in the thread that forks; other threads go on.
  virtual void BeforeFork() noexcept {}
  // Called in the child, single-threaded, before fork() returns: async-signal-safe calls only.
  virtual void AfterForkInChild() noexcept = 0;

  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

 protected:
  ForkAware() = default;
  ~ForkAware() = default;
  // Last in the derived constructor, first in the derived destructor: whole objects only.
  void Register() {
    Registry& registry = Get();
    const std::lock_guard lock(registry.mutex);
    registry.members.push_back(this);
  }
  void Unregister() {
    Registry& registry = Get();
    const std::lock_guard lock(registry.mutex);
    std::erase(registry.members, this);
  }

 private:
  struct Registry {
    std::mutex mutex;
    std::vector<ForkAware*> members;
  };
  static Registry& Get() {
    // Never destroyed: participants may outlive static destruction.
    static Registry* const registry = [] {
      auto* made = new Registry;
      pthread_atfork(
          [] {
            Get().mutex.lock();
            for (ForkAware* member : Get().members) member->BeforeFork();
          },
          [] { Get().mutex.unlock(); },
          [] {
            for (ForkAware* member : Get().members) member->AfterForkInChild();
            Get().mutex.unlock();
          });
      return made;
    }();
    return *registry;
  }
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_FORK_H_
