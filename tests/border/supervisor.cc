#include "border/supervisor.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "border/marker.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/files.h"

namespace epoch::test {
namespace {

using detail::Fd;

// Never watched: how the listener's descriptor is handed over, and what cannot be denied.
constexpr int kNeverWatched[] = {SYS_sendmsg, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
                                 SYS_restart_syscall};

// A guard against hangs, as kLong is: nothing that an operation does takes a part of that. Whoever
// looks for hangs may make it shorter.
absl::Duration HangGuard() {
  const char* seconds = getenv("EPOCH_BORDER_HANGS_AFTER_S");
  return absl::Seconds(seconds == nullptr ? 300 : std::atoi(seconds));
}

std::vector<sock_filter> FilterFor(const std::vector<int>& calls) {
  std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  const auto answer = [&](int call, std::uint32_t with) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, with));
  };
  for (const int call : kNeverWatched) answer(call, SECCOMP_RET_ALLOW);
  for (const int call : calls) answer(call, SECCOMP_RET_USER_NOTIF);
  if (!calls.empty()) answer(kMarkerCall, SECCOMP_RET_USER_NOTIF);
  program.push_back(
      BPF_STMT(BPF_RET | BPF_K, calls.empty() ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW));
  return program;
}

// The listener's descriptor, or -1.
int Listen(const std::vector<int>& calls) {
  std::vector<sock_filter> program = FilterFor(calls);
  const sock_fprog filter{.len = static_cast<unsigned short>(program.size()),
                          .filter = program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  // A call that the supervisor has heard of is not begun anew by a signal, which would count twice.
  constexpr unsigned long kFlags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          kFlags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &filter);
  if (fd >= 0 || errno != EINVAL) return static_cast<int>(fd);
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kFlags, &filter));
}

void SendDescriptor(int through, int fd) {
  char byte = fd >= 0 ? 'y' : 'n';
  iovec bytes{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = room;
    message.msg_controllen = sizeof room;
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  sendmsg(through, &message, 0);
}

Fd ReceiveDescriptor(int through) {
  char byte = 0;
  iovec bytes{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof room;
  if (recvmsg(through, &message, MSG_CMSG_CLOEXEC) != 1) return Fd();
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_type != SCM_RIGHTS) return Fd();
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return Fd(fd);
}

// The numbers behind `field:` in /proc/PID/status.
pid_t StatusField(pid_t pid, const std::string& field) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::atoi(line.c_str() + field.size() + 1);
  }
  return 0;
}

class Supervisor {
 public:
  Supervisor(pid_t pid, Fd listener, const Watched& watched)
      : pid_(pid),
        listener_(std::move(listener)),
        pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))),
        watched_(watched) {
    EPOCH_CHECK(pidfd_.ok(), "pidfd_open");
  }

  Ending Run() {
    absl::Time give_up = absl::Now() + HangGuard();
    bool ended = false;
    for (;;) {
      pollfd fds[2] = {{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                       {.fd = ended ? -1 : pidfd_.get(), .events = POLLIN, .revents = 0}};
      const int ready = poll(fds, 2, watched_.meanwhile ? 1 : 100);
      if ((fds[0].revents & POLLIN) != 0) Answer();
      if (ready == 0 && !ended && watched_.meanwhile) watched_.meanwhile(pid_);
      if (!ended && fds[1].revents != 0) {
        ended = true;
        Reap();
        give_up = std::min(give_up, absl::Now() + absl::Seconds(20));  // for its children
      }
      // Nobody is left that could make a call.
      if (ended && (fds[0].revents & POLLHUP) != 0) break;
      if (absl::Now() > give_up) {
        (ended ? ending_.left_running : ending_.hung) = true;
        KillAll();
        if (!ended) Reap();
        break;
      }
    }
    while (waitpid(-1, nullptr, WNOHANG) > 0) {  // orphans of it
    }
    return ending_;
  }

 private:
  void Answer() {
    seccomp_notif asked{};
    seccomp_notif_resp answer{};
    if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) return;  // it is gone
    answer.id = asked.id;
    const int call = asked.data.nr;
    const auto caller = static_cast<pid_t>(asked.pid);
    if (call == kMarkerCall && asked.data.args[0] == kMarkerWhich) {
      counting_ = asked.data.args[1] == kMarkBegin;
      if (!foreign_.empty()) foreign_.erase(StatusField(caller, "Tgid"));
    } else if (counting_ && !Foreign(caller) && Denies(call)) {
      ++ending_.denied;
      answer.error = -watched_.denial->error;
    } else {
      answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
      if (call == SYS_execve) foreign_.insert(StatusField(caller, "Tgid"));
    }
    ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }

  // Counts the call.
  bool Denies(int call) {
    const int nth = ++ending_.calls[call];
    return watched_.denial.has_value() && call == watched_.denial->call &&
           nth >= watched_.denial->first && nth <= watched_.denial->last;
  }

  // Of a program that was executed and has not said that it is to be watched; or its child.
  bool Foreign(pid_t caller) {
    if (foreign_.empty()) return false;
    const pid_t process = StatusField(caller, "Tgid");
    if (foreign_.contains(process)) return true;
    if (!foreign_.contains(StatusField(process, "PPid"))) return false;
    foreign_.insert(process);
    return true;
  }

  void Reap() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    ending_.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // It, and what it has started: orphans are children of this process (test_main.cc).
  void KillAll() const {
    kill(pid_, SIGKILL);
    const std::string self = std::to_string(getpid());
    for (int round = 0; round < 10; ++round) {
      std::ifstream list("/proc/self/task/" + self + "/children");
      for (pid_t child = 0; list >> child;) kill(child, SIGKILL);
    }
  }

  const pid_t pid_;
  const Fd listener_;
  const Fd pidfd_;
  const Watched& watched_;
  bool counting_ = false;
  std::set<pid_t> foreign_;
  Ending ending_;
};

}  // namespace

std::string WhyNotWatched() {
  const pid_t pid = fork();
  EPOCH_CHECK(pid >= 0, "fork");
  if (pid == 0) _exit(Listen({SYS_getpriority}) < 0 ? errno : 0);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const int error = WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
  return error == 0 ? "" : std::string("no seccomp user notification: ") + std::strerror(error);
}

Ending RunWatched(const std::function<void()>& body, const Watched& watched) {
  int sockets[2];
  EPOCH_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0, "socketpair");
  const pid_t pid = fork();
  EPOCH_CHECK(pid >= 0, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // What a shell has its background jobs ignore.
    for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) signal(number, SIG_DFL);
    close(sockets[0]);
    const int listener = Listen(watched.calls);
    SendDescriptor(sockets[1], listener);
    if (listener < 0) _exit(97);
    close(listener);
    close(sockets[1]);
    [&]() noexcept { body(); }();  // what it throws is not for whoever called RunWatched
    _exit(0);
  }
  close(sockets[1]);
  Fd listener = ReceiveDescriptor(sockets[0]);
  close(sockets[0]);
  EPOCH_CHECK(listener.ok(), "the child has no filter: see WhyNotWatched");
  return Supervisor(pid, std::move(listener), watched).Run();
}

void BeginOperation() { syscall(kMarkerCall, kMarkerWhich, kMarkBegin); }
void EndOperation() { syscall(kMarkerCall, kMarkerWhich, kMarkEnd); }

}  // namespace epoch::test
