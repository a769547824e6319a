#include "tools/epochctl/shell.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "epoch/detail/files.h"
#include "epoch/detail/seam.h"

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
  if (!file.ok()) return Failed("can not make a file");
  while (!input.empty()) {
    const ssize_t wrote = write(file.get(), input.data(), input.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return Failed("can not keep the state");
    input = input.subspan(static_cast<std::size_t>(wrote));
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) return Failed("can not rewind the state");
  return file;
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// The child of a fork in a process with threads: async-signal-safe calls only.
[[noreturn]] void Exec(char* const* arguments, char* const* environment, pid_t parent, int in,
                       int err) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  setpgid(0, 0);
  dup2(in, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  execve("/bin/sh", arguments, environment);
  _exit(127);
}

// Appends what can be read now, up to `most` bytes in all; more is read, and dropped.
void ReadReady(int fd, std::size_t most, std::string& to) {
  char chunk[4096];
  for (;;) {
    const ssize_t got = read(fd, chunk, sizeof chunk);
    if (got <= 0) return;
    to.append(chunk, std::min(static_cast<std::size_t>(got), most - std::min(most, to.size())));
  }
}

}  // namespace

absl::StatusOr<ShellResult> RunShell(const ShellCommand& command, std::span<const std::byte> input,
                                     int stop_fd, absl::FunctionRef<bool()> give_up) {
  constexpr int kAsk_ms = 50;
  constexpr std::int64_t kGrace_ns = 2'000'000'000;
  const absl::StatusOr<Fd> in = InputFile(input);
  if (!in.ok()) return in.status();
  Fd said, say;
  if (command.keep_stderr != 0) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Failed("can not make a pipe");
    said = Fd(ends[0]);
    say = Fd(ends[1]);
    fcntl(said.get(), F_SETFL, O_NONBLOCK);  // this end only: each has a description of its own
  }
  std::vector<std::string> variables = command.environment;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  const std::vector<std::string> words = {"sh", "-c", command.text};
  const std::vector<char*> arguments = Pointers(words), environment = Pointers(variables);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Failed("can not start a process");
  if (pid == 0) {
    Exec(arguments.data(), environment.data(), parent, in->get(),
         say.ok() ? say.get() : STDERR_FILENO);
  }
  setpgid(pid, pid);  // whoever of the two is first
  say.Close();
  const Fd ended(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));

  ShellResult result;
  std::int64_t kill_ns = INT64_MAX;
  const auto end_it = [&] {
    result.given_up = true;
    kill(-pid, SIGTERM);
    kill_ns = seam::MonotonicNanos() + kGrace_ns;
  };
  if (!ended.ok()) {  // it can not be watched
    result.given_up = true;
    kill(-pid, SIGKILL);
  }
  while (ended.ok()) {
    pollfd fds[3] = {{.fd = ended.get(), .events = POLLIN, .revents = 0},
                     {.fd = said.get(), .events = POLLIN, .revents = 0},
                     {.fd = result.given_up ? -1 : stop_fd, .events = POLLIN, .revents = 0}};
    poll(fds, 3, kAsk_ms);
    if (fds[1].revents != 0) {
      ReadReady(said.get(), command.keep_stderr, result.said);
      if ((fds[1].revents & POLLIN) == 0) said.Close();
    }
    if (fds[0].revents != 0) break;
    if (!result.given_up && (fds[2].revents != 0 || give_up())) end_it();
    if (seam::MonotonicNanos() >= kill_ns) kill(-pid, SIGKILL);
  }
  if (said.ok()) ReadReady(said.get(), command.keep_stderr, result.said);
  // While its leader is not reaped, the group's number is not another's.
  if (result.given_up) kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.succeeded = !result.given_up && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  result.how = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                 : fmt::format("signal {}", WTERMSIG(status));
  return result;
}

}  // namespace epoch::ctl
