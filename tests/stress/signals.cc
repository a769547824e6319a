#include "stress/signals.h"

#include <signal.h>
#include <time.h>

#include <algorithm>

#include "epoch/detail/platform/seam.h"

namespace epoch::stress {
namespace {

int interruption = 0;

sigset_t Handled() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = Handled();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  // Where they are ignored (a background job of a shell) nothing would arrive.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
}

void UnblockSignals() {
  const sigset_t set = Handled();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

void UnblockSignalsButTerm() {
  sigset_t set = Handled();
  sigdelset(&set, SIGTERM);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

bool AwaitSignal(std::int64_t until_ns) {
  const sigset_t set = Handled();
  const std::int64_t left = std::max<std::int64_t>(0, until_ns - seam::MonotonicNanos());
  const timespec time{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
  const int signal = sigtimedwait(&set, nullptr, &time);
  if (signal > 0 && signal != SIGCHLD) interruption = signal;
  return interruption == 0;
}

int Interruption() { return interruption; }

}  // namespace epoch::stress
