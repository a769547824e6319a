// Commands of the user's, run by /bin/sh with a state on their standard input.
#ifndef EPOCH_TOOLS_EPOCHCTL_SHELL_H_
#define EPOCH_TOOLS_EPOCHCTL_SHELL_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "tools/epochctl/process.h"

namespace epoch::ctl {

struct ShellCommand {
  std::string text;
  std::vector<Variable> environment;  // what is set anew: see ChildEnvironment
  // Keeps so many bytes of what it says on stderr, instead of letting it through. What it says on
  // stdout goes to this process's stderr: stdout is for data.
  std::size_t keep_stderr = 0;
};

struct ShellResult {
  ChildEnd end;
  bool given_up = false;  // ended from here
  std::string said;       // what was kept of its stderr
};

// Appends what can be read now, up to `most` bytes in all; more is read, and dropped. Bounded, as
// somebody may write without an end: what is left is for the next time.
void ReadReady(int fd, std::size_t most, std::string& to);

// Runs it to its end; or, once `stop_fd` is readable or `give_up` (asked 20 times a second) says
// so, ends it and all of its process group: SIGTERM, and two seconds later SIGKILL. What a command
// that ended by itself has started in the background is left alone. If this process dies, however
// that may be, so do the shell and its process group. Needs neither pidfd_open nor SIGCHLD, which
// may be refused or ignored. Any thread. Errors: ResourceExhausted (no process, memory or
// descriptor).
absl::StatusOr<ShellResult> RunShell(const ShellCommand& command, std::span<const std::byte> input,
                                     int stop_fd, absl::FunctionRef<bool()> give_up);

}  // namespace epoch::ctl

#endif  // EPOCH_TOOLS_EPOCHCTL_SHELL_H_
