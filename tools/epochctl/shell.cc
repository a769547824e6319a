#include "tools/epochctl/shell.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "absl/time/time.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/platform/files.h"

namespace epoch::ctl {
namespace {

using detail::Fd;

absl::Status Failed(const char* what) {
  return absl::ResourceExhaustedError(
      std::string(detail::ErrnoStatus(errno, fmt::format("{} for a command", what)).message()));
}

// All of `input` in a file without a name: a command may read it or not, at its own pace.
absl::StatusOr<Fd> InputFile(std::span<const std::byte> input) {
  Fd file(memfd_create("state", MFD_CLOEXEC));
  if (!file.ok()) return Failed("cannot make a file");
  while (!input.empty()) {
    const ssize_t wrote =
        sys::Uninterrupted([&] { return write(file.get(), input.data(), input.size()); });
    if (wrote < 0) return Failed("cannot keep the state");
    input = input.subspan(static_cast<std::size_t>(wrote));
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) return Failed("cannot rewind the state");
  return file;
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// All of these are of the parent; a child of a fork in a process with threads makes
// async-signal-safe calls only.
struct Prepared {
  char* const* arguments;
  char* const* environment;
  pid_t parent;
  int in, err, report;
};

[[noreturn]] void RunCommand(const Prepared& prepared, pid_t minder) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != minder) _exit(127);
  RestoreInherited();
  execve("/bin/sh", prepared.arguments, prepared.environment);
  _exit(127);
}

// Between this process and the command: the minder leads the command's process group, so that its
// number stays the group's, waits for the shell, and reports its end. When the parent dies it ends
// the whole group, itself with it.
[[noreturn]] void Mind(const Prepared& prepared) {
  constexpr int kReport = 3;
  setpgid(0, 0);
  sigset_t all, waking;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);  // what is for the group is for the command
  sigemptyset(&waking);
  sigaddset(&waking, SIGCHLD);
  sigaddset(&waking, SIGHUP);
  prctl(PR_SET_PDEATHSIG, SIGHUP);
  prctl(PR_SET_NAME, "epoch-minder");  // not one of those that are called epochctl, and killed so
  // Under these numbers are files of the parent's until then: nothing is written, and nothing run,
  // unless each of them was replaced.
  if (dup2(prepared.in, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
      dup2(prepared.err, STDERR_FILENO) < 0 ||
      (prepared.report != kReport && dup2(prepared.report, kReport) < 0) ||
      fcntl(kReport, F_SETFD, FD_CLOEXEC) != 0) {
    _exit(127);  // reports nothing: an unknown end
  }
  // The rest is the parent's, and not to be held open from here.
  if (close_range(kReport + 1, ~0U, 0) != 0) {
    for (int fd = kReport + 1; fd < 1024; ++fd) close(fd);
  }
  const pid_t minder = getpid();
  const pid_t shell = _Fork();
  if (shell == 0) RunCommand(prepared, minder);
  if (shell < 0) _exit(127);
  for (;;) {
    // Dead before the death signal was asked for, or since.
    if (getppid() != prepared.parent) {
      kill(-minder, SIGKILL);
      _exit(127);  // if this is not its group
    }
    int status = 0;
    const pid_t waited = sys::Uninterrupted([&] { return waitpid(shell, &status, WNOHANG); });
    if (waited == shell) {
      [[maybe_unused]] const ssize_t told = write(kReport, &status, sizeof status);
      _exit(0);
    }
    if (waited < 0) _exit(127);
    // The signal may have come from elsewhere; so it is only a reason to look.
    const timespec look_again{.tv_sec = 1, .tv_nsec = 0};
    sigtimedwait(&waking, nullptr, &look_again);
  }
}

}  // namespace

void ReadReady(int fd, std::size_t most, std::string& to) {
  char chunk[4096];
  for (int turn = 0; turn < 16; ++turn) {
    const ssize_t got = read(fd, chunk, sizeof chunk);
    if (got <= 0) return;
    to.append(chunk, std::min(static_cast<std::size_t>(got), most - std::min(most, to.size())));
  }
}

absl::StatusOr<ShellResult> RunShell(const ShellCommand& command, std::span<const std::byte> input,
                                     int stop_fd, absl::FunctionRef<bool()> give_up) {
  constexpr int kAsk_ms = 50;
  constexpr absl::Duration kGrace = absl::Seconds(2);
  const absl::StatusOr<Fd> in = InputFile(input);
  if (!in.ok()) return in.status();
  Fd said, say;
  if (command.keep_stderr != 0) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0) return Failed("cannot make a pipe");
    said = Fd(pair[0]);
    say = Fd(pair[1]);
    fcntl(said.get(), F_SETFL, O_NONBLOCK);  // this end only: each has a description of its own
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Failed("cannot make a pipe");
  const Fd reported(ends[0]);
  Fd report(ends[1]);
  const std::vector<std::string> variables = ChildEnvironment(command.environment);
  const std::vector<std::string> words = {"sh", "-c", command.text};
  const std::vector<char*> arguments = Pointers(words), environment = Pointers(variables);
  const Prepared prepared{.arguments = arguments.data(),
                          .environment = environment.data(),
                          .parent = getpid(),
                          .in = in->get(),
                          .err = say.ok() ? say.get() : STDERR_FILENO,
                          .report = report.get()};
  const pid_t minder = fork();
  if (minder < 0) return Failed("cannot start a process");
  if (minder == 0) Mind(prepared);
  setpgid(minder, minder);  // whoever of the two is first
  say.Close();
  report.Close();

  ShellResult result;
  std::optional<int> status;
  auto kill_at = detail::Deadline::Never();
  for (;;) {
    pollfd fds[3] = {{.fd = reported.get(), .events = POLLIN, .revents = 0},
                     {.fd = said.get(), .events = POLLIN, .revents = 0},
                     {.fd = result.given_up ? -1 : stop_fd, .events = POLLIN, .revents = 0}};
    if (poll(fds, 3, kAsk_ms) < 0) {
      if (errno == EINTR) continue;
      const absl::Status deaf = Failed("cannot wait");  // nor hear that it should end
      kill(-minder, SIGKILL);
      static_cast<void>(AwaitChild(minder));
      return deaf;
    }
    if (fds[1].revents != 0) {
      ReadReady(said.get(), command.keep_stderr, result.said);
      if ((fds[1].revents & POLLIN) == 0) said.Close();
    }
    if (fds[0].revents != 0) {
      int reported_status = 0;
      const ssize_t got = sys::Uninterrupted(
          [&] { return read(reported.get(), &reported_status, sizeof reported_status); });
      if (got == static_cast<ssize_t>(sizeof reported_status)) status = reported_status;
      break;
    }
    if (!result.given_up && (fds[2].revents != 0 || give_up())) {
      result.given_up = true;
      kill(-minder, SIGTERM);
      kill_at = detail::Deadline::After(kGrace);
    }
    if (kill_at.Passed()) kill(-minder, SIGKILL);
  }
  if (said.ok()) ReadReady(said.get(), command.keep_stderr, result.said);
  // While its leader is not reaped, the group's number is not another's. Whoever killed the minder
  // has left its group behind. A minder that has reported has nothing left to do.
  kill(result.given_up || !status.has_value() ? -minder : minder, SIGKILL);
  static_cast<void>(AwaitChild(minder));
  result.end = EndOf(status);
  if (result.given_up) result.end.succeeded = false;
  return result;
}

}  // namespace epoch::ctl
