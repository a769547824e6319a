// A process under the eyes of its parent: each system call of it that is watched is told to the
// parent, which counts it and lets the kernel do it, or answers in the kernel's place (seccomp user
// notification). So the binaries that ship can be denied any call, whoever makes it: Epoch, Boost,
// glibc, liburing, another thread, a child, or what a child has executed.
//
// Thread safety: one watched process at a time.
#ifndef EPOCH_TESTS_BORDER_SUPERVISOR_H_
#define EPOCH_TESTS_BORDER_SUPERVISOR_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace epoch::test {

// Which occurrences of a call are answered with an error; the first one is 1.
struct Denial {
  int call = -1;
  int error = 0;
  int first = 1;
  int last = 1;
};

struct Watched {
  // Only these are watched; empty: all that can be.
  std::vector<int> calls{};
  std::optional<Denial> denial{};
  // Called with the process, about once a millisecond while it makes no call that is watched.
  std::function<void(pid_t)> meanwhile{};
};

struct Ending {
  int code = 0;                // the exit code, or minus the signal that ended it
  bool hung = false;           // it was killed, since it did not end
  bool left_running = false;   // a child of it went on when it had ended, and was killed
  int denied = 0;              // how many calls were
  std::map<int, int> calls{};  // the watched ones that count, and how many of each
};

// Empty, or why this kernel, or whoever started this process, does not allow any of it.
std::string WhyNotWatched();

// Runs `body` in a child, which then ends with code 0. Its calls count between BeginOperation and
// EndOperation.
Ending RunWatched(const std::function<void()>& body, const Watched& watched);

// In the child; from any thread of it. What it executes says so by border/marker.cc.
void BeginOperation();
void EndOperation();

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_SUPERVISOR_H_
