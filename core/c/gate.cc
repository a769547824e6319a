#include "core/c/gate.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace epoch::c {
namespace {

bool Register() noexcept {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

}  // namespace

// When the library is loaded, so before any gate is used.
std::atomic<bool> Gate::exits_fence{!Register()};

bool Gate::Barrier() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (exits_fence.load(std::memory_order_relaxed)) return false;
  const auto pass = [] {
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
  };
  if (pass() || (errno == EPERM && Register() && pass())) return true;
  // Refused since (seccomp): from now on exits fence. One that is under way may miss a request; the
  // next one does not.
  exits_fence.store(true, std::memory_order_relaxed);
  return false;
}

void Gate::Request(unsigned char what) noexcept {
  requested().fetch_or(what, std::memory_order_release);
  Barrier();
}

}  // namespace epoch::c
