#include "tools/epochctl/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <set>
#include <string_view>

namespace epoch::ctl {
namespace {

// Those whose disposition the tools change, and a child gets back; SIGBUS is main's.
constexpr int kChanged[] = {SIGPIPE, SIGXFSZ, SIGBUS};
struct sigaction inherited_actions[std::size(kChanged)];
sigset_t inherited_mask;

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};

constexpr std::string_view kToldByName[] = {"EPOCH_REGION", "EPOCH_NUMBER", "EPOCH_PROPOSER"};

// A descriptor that was closed becomes one whose use fails: a directory without permissions. It
// fails also if it is opened anew by its name under /proc, as "/dev/stdin" is.
void OpenIfClosed(int fd) {
  if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) return;
  // The lowest free number is this one: those below are open by now.
  if (fd == STDERR_FILENO && open("/dev/null", O_RDWR) == fd) return;
  const int opened = open("/", O_PATH | O_DIRECTORY);
  if (opened < 0) abort();  // nothing can be opened, and nobody be told
}

void SetDisposition(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

volatile sig_atomic_t asked_to_end = 0;

std::string_view NameIn(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

}  // namespace

void StartUp() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) OpenIfClosed(fd);
  sigprocmask(SIG_SETMASK, nullptr, &inherited_mask);
  for (std::size_t i = 0; i < std::size(kChanged); ++i) {
    sigaction(kChanged[i], nullptr, &inherited_actions[i]);
  }
  SetDisposition(SIGCHLD, SIG_DFL);
  SetDisposition(SIGPIPE, SIG_IGN);
  SetDisposition(SIGXFSZ, SIG_IGN);
}

sigset_t EndingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : kEnding) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
      sigaddset(&signals, number);
    }
  }
  return signals;
}

void HandleEndingSignals(void (*handler)(int)) {
  const sigset_t signals = EndingSignals();
  for (const int number : kEnding) {
    if (sigismember(&signals, number) == 1) SetDisposition(number, handler);
  }
}

void CatchEndingSignals() {
  HandleEndingSignals([](int) { asked_to_end = 1; });
}

bool AskedToEnd() { return asked_to_end != 0; }

void RestoreInherited() {
  for (std::size_t i = 0; i < std::size(kChanged); ++i) {
    sigaction(kChanged[i], &inherited_actions[i], nullptr);
  }
  SetDisposition(SIGCHLD, SIG_DFL);
  sigset_t mask = inherited_mask;
  sigdelset(&mask, SIGCHLD);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
}

std::vector<std::string> ChildEnvironment(const std::vector<Variable>& set) {
  std::vector<std::string> variables;
  std::set<std::string, std::less<>> known(std::begin(kToldByName), std::end(kToldByName));
  for (const Variable& variable : set) {
    known.insert(variable.name);
    variables.push_back(fmt::format("{}={}", variable.name, variable.value));
  }
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view name = NameIn(*variable);
    // Of a name that is there twice the first counts, as for getenv.
    if (name.size() < std::string_view(*variable).size() && known.emplace(name).second) {
      variables.emplace_back(*variable);
    }
  }
  return variables;
}

ChildEnd EndOf(std::optional<int> status) {
  if (!status.has_value()) return {.how = "unknown exit status"};
  if (WIFEXITED(*status)) {
    return {.succeeded = WEXITSTATUS(*status) == 0,
            .how = fmt::format("exit code {}", WEXITSTATUS(*status))};
  }
  if (WIFSIGNALED(*status)) return {.how = fmt::format("signal {}", WTERMSIG(*status))};
  return {.how = fmt::format("unknown exit status {:#x}", *status)};
}

std::optional<int> AwaitChild(pid_t pid) {
  for (;;) {
    int status = 0;
    const pid_t waited = waitpid(pid, &status, 0);
    if (waited == pid) return status;
    if (waited >= 0 || errno != EINTR) return std::nullopt;
  }
}

bool ChildHasEnded(pid_t pid) {
  siginfo_t info{};
  const int waited = waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
  return waited != 0 ? errno != EINTR : info.si_pid == pid;
}

}  // namespace epoch::ctl
