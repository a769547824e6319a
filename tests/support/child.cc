#include "support/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "support/time_limits.h"

namespace epoch::test {
namespace {

constexpr int kChildIn = 198;
constexpr int kChildOut = 199;
constexpr std::string_view kRoleFlag = "--role";

std::map<std::string, RoleFunction>& Roles() {
  static std::map<std::string, RoleFunction> roles;
  return roles;
}

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "test support: %s: %s\n", what, std::strerror(errno));
  std::abort();
}

int Result(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

pid_t WaitRetry(pid_t pid, int* status, int flags) {
  for (;;) {
    const pid_t got = waitpid(pid, status, flags);
    if (got >= 0 || errno != EINTR) return got;
  }
}

}  // namespace

Wire::~Wire() {
  close(in_);
  close(out_);
}

bool Wire::Say(std::string_view line) {
  std::string text(line);
  text += '\n';
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = write(out_, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

std::string Wire::Hear() {
  for (;;) {
    if (const auto end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    pollfd poll_in{.fd = in_, .events = POLLIN, .revents = 0};
    const int ready = poll(&poll_in, 1, kLong_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return "<silent>";
    char bytes[512];
    const ssize_t got = read(in_, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return "<gone>";
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
}

bool Child::CanIsolate(int namespaces) {
  const long cloned = syscall(SYS_clone, namespaces | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (cloned == 0) _exit(0);
  return cloned > 0 && WaitRetry(static_cast<pid_t>(cloned), nullptr, 0) == cloned;
}

bool RegisterRole(const char* name, RoleFunction function) {
  if (!Roles().emplace(name, function).second) Die(name);
  return true;
}

int RunRole(int argc, char** argv) {
  if (argc < 3 || argv[1] != kRoleFlag) return -1;
  const auto role = Roles().find(argv[2]);
  if (role == Roles().end()) Die(argv[2]);
  for (int fd : {kChildIn, kChildOut}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  RoleContext self{.args = {argv + 3, argv + argc}, .wire = {kChildIn, kChildOut}};
  return role->second(self);
}

void RoleFailed(const char* file, int line, const char* condition,
                const std::vector<std::string>& details) {
  std::fprintf(stderr, "%s:%d: role failed: %s", file, line, condition);
  for (const std::string& detail : details) std::fprintf(stderr, ": %s", detail.c_str());
  std::fputc('\n', stderr);
  std::_Exit(3);
}

Child::Child(const std::string& role, const std::vector<std::string>& args, int namespaces) {
  signal(SIGPIPE, SIG_IGN);
  int to_child[2], from_child[2];
  if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) Die("pipe2");
  std::vector<std::string> words{"/proc/self/exe", std::string(kRoleFlag), role};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t parent = getpid();
  // clone(2) itself: fork() knows no namespaces. The child only makes system calls until exec.
  const long cloned = syscall(SYS_clone, namespaces | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (cloned == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t now = getppid();
    if (now != parent && (namespaces & CLONE_NEWPID) == 0) _exit(4);
    dup2(to_child[0], kChildIn);
    dup2(from_child[1], kChildOut);
    execv(argv[0], argv.data());
    _exit(5);
  }
  if (cloned < 0) Die("clone");
  pid_ = static_cast<pid_t>(cloned);
  close(to_child[0]);
  close(from_child[1]);
  wire_ = new Wire(from_child[0], to_child[1]);
}

Child::~Child() {
  Kill();
  delete wire_;
}

void Child::Signal(int signal) {
  if (!ended_ && kill(pid_, signal) != 0) Die("kill");
}

void Child::Stop() {
  Signal(SIGSTOP);
  AwaitStop();
}

bool Child::AwaitStop() {
  if (ended_) return false;
  int status = 0;
  if (WaitRetry(pid_, &status, WUNTRACED) != pid_) Die("waitpid");
  if (WIFSTOPPED(status)) return true;
  ended_ = true;
  result_ = Result(status);
  return false;
}

void Child::Continue() { Signal(SIGCONT); }

void Child::Kill() {
  Signal(SIGKILL);
  Wait();
}

int Child::Wait() {
  if (!ended_) {
    int status = 0;
    if (WaitRetry(pid_, &status, 0) != pid_) Die("waitpid");
    ended_ = true;
    result_ = Result(status);
  }
  return result_;
}

}  // namespace epoch::test
