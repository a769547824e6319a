// Pauses anywhere: a timer interrupts this process every now and then, between any two
// instructions, and sometimes holds it up for as long as others need to recycle a version. Two CPUs
// rarely preempt a process in a window of a few nanoseconds by themselves.
#ifndef EPOCH_TESTS_STRESS_INTERRUPTS_H_
#define EPOCH_TESTS_STRESS_INTERRUPTS_H_

#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include <cerrno>
#include <cstdint>

namespace epoch::stress {

// For the rest of the process's life; not in its fork children.
inline void StartInterrupts(std::uint64_t seed, long period_us) {
  static volatile std::uint64_t state;
  state = seed | 1;
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int) {
    const int saved = errno;
    const std::uint64_t next = state * 6364136223846793005u + 1442695040888963407u;
    state = next;
    if ((next >> 60) < 4) {
      const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>((next >> 32) % 300'000)};
      nanosleep(&time, nullptr);
    }
    errno = saved;
  };
  sigaction(SIGALRM, &action, nullptr);
  const itimerval timer{.it_interval = {.tv_sec = 0, .tv_usec = period_us},
                        .it_value = {.tv_sec = 0, .tv_usec = period_us}};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_INTERRUPTS_H_
