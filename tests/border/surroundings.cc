// What is around a process: namespaces, mounts, another root, a kernel that refuses calls.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "border/conditions.h"
#include "border/errnos.h"
#include "epoch/detail/platform/files.h"
#include "support/refuse_calls.h"

namespace epoch::test {
namespace {

bool WriteLine(const char* path, const std::string& line) {
  const detail::Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  return fd.ok() && write(fd.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

// Goes on in a child, for namespaces that only children enter; this process ends as that one does,
// and hands SIGTERM and SIGINT on to it.
pid_t gone_on_as = 0;

std::string GoOnInChild() {
  gone_on_as = fork();
  if (gone_on_as < 0) return Unless(false, "fork");
  if (gone_on_as == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return "";
  }
  for (const int number : {SIGTERM, SIGINT}) {
    signal(number, [](int given) { kill(gone_on_as, given); });
  }
  int status = 0;
  while (waitpid(gone_on_as, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) _exit(WEXITSTATUS(status));
  signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  _exit(99);
}

std::string OwnMounts() {
  return Unless(
      unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0,
      "a mount namespace");
}

Condition Of(const std::string& name, std::function<std::string(const World&)> impose) {
  Condition condition{.name = name, .as_root = true};
  condition.hindrance.impose = std::move(impose);
  return condition;
}

Condition PidNamespace(bool own_proc) {
  return Of(own_proc ? "pid namespace with its /proc" : "pid namespace", [=](const World&) {
    if (std::string why = OwnMounts(); !why.empty()) return why;
    if (unshare(CLONE_NEWPID) != 0) return Unless(false, "a pid namespace");
    if (std::string why = GoOnInChild(); !why.empty()) return why;
    if (!own_proc) return std::string();
    return Unless(mount("proc", "/proc", "proc", 0, nullptr) == 0, "mounting /proc");
  });
}

Condition TimeNamespace() {
  Condition condition = Of("time namespace, 1000 days on", [](const World&) {
    if (unshare(CLONE_NEWTIME) != 0) return Unless(false, "a time namespace");
    if (!WriteLine("/proc/self/timens_offsets", "monotonic 86400000 0")) {
      return Unless(false, "timens_offsets");
    }
    return GoOnInChild();
  });
  condition.of_its_own = true;
  return condition;
}

Condition UserNamespace(bool mapped) {
  return Of(mapped ? "user namespace" : "user namespace without a map", [=](const World&) {
    if (unshare(CLONE_NEWUSER) != 0) return Unless(false, "a user namespace");
    if (!mapped) return std::string();
    return Unless(WriteLine("/proc/self/setgroups", "deny") &&
                      WriteLine("/proc/self/uid_map", "0 0 1") &&
                      WriteLine("/proc/self/gid_map", "0 0 1"),
                  "the maps of a user namespace");
  });
}

Condition OtherNamespaces() {
  return Of("ipc, network and uts namespaces", [](const World&) {
    return Unless(unshare(CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS) == 0, "namespaces");
  });
}

Condition NoProc() {
  return Of("no /proc", [](const World&) {
    if (std::string why = OwnMounts(); !why.empty()) return why;
    return Unless(umount2("/proc", MNT_DETACH) == 0, "unmounting /proc");
  });
}

// The root's own filesystem again, and in it what the world is in.
Condition OtherRoot(bool with_proc) {
  return Of(with_proc ? "chroot" : "chroot without /proc", [=](const World& world) {
    if (std::string why = OwnMounts(); !why.empty()) return why;
    const std::string root = detail::ParentOf(world.directory()) + "/root";
    mkdir(root.c_str(), 0700);
    const std::string shm = root + "/dev/shm", proc = root + "/proc";
    const bool good =
        mount("/", root.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
        mount("tmpfs", (root + "/dev").c_str(), "tmpfs", 0, nullptr) == 0 &&
        mkdir(shm.c_str(), 01777) == 0 &&
        mount("/dev/shm", shm.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
        (!with_proc || mount("/proc", proc.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0) &&
        chroot(root.c_str()) == 0 && chdir("/") == 0;
    return Unless(good, "another root");
  });
}

Condition ReadOnly() {
  return Of("read-only mount", [](const World& world) {
    if (std::string why = OwnMounts(); !why.empty()) return why;
    const char* const path = world.directory().c_str();
    return Unless(mount(path, path, nullptr, MS_BIND, nullptr) == 0 &&
                      mount(nullptr, path, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0,
                  "a read-only mount");
  });
}

Condition Small(const std::string& size) {
  Condition condition = Of(absl::StrCat("memory of ", size), [](const World&) { return ""; });
  condition.memory_size = size;
  return condition;
}

// Not a block is left, until the operation has ended.
Condition Full() {
  Condition condition = Small("8m");
  condition.name = "memory that is full";
  const auto filler = [](const World& world) {
    return detail::ParentOf(world.directory()) + "/filler";
  };
  condition.hindrance.ready = [=](const World& world) {
    const detail::Fd fd(open(filler(world).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    static const char block[4096] = {};
    while (write(fd.get(), block, sizeof block) > 0) {
    }
  };
  condition.hindrance.look = [=](const World& world) {
    unlink(filler(world).c_str());
    return std::vector<std::string>();
  };
  return condition;
}

Condition Refused(const std::string& name, std::vector<int> calls, int error) {
  Condition condition{.name = absl::StrCat("seccomp: ", name, " ", ErrnoName(error))};
  condition.hindrance.impose = [=](const World&) {
    std::vector<RefusedCall> refused;
    for (const int call : calls) refused.push_back({call, error});
    return Unless(RefuseCalls(refused), "seccomp");
  };
  return condition;
}

}  // namespace

std::vector<Condition> SurroundingConditions() {
  std::vector<Condition> all = {
      PidNamespace(false),  PidNamespace(true), TimeNamespace(), UserNamespace(true),
      UserNamespace(false), OtherNamespaces(),  NoProc(),        OtherRoot(true),
      OtherRoot(false),     ReadOnly(),         Small("64m"),    Full(),
  };
  for (const int error : {EPERM, ENOSYS}) {
    all.push_back(Refused("pidfd_open", {SYS_pidfd_open}, error));
    all.push_back(Refused("io_uring",
                          {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}, error));
    all.push_back(Refused("io_uring_enter", {SYS_io_uring_enter}, error));
    all.push_back(Refused("statx", {SYS_statx}, error));
    all.push_back(Refused("memfd_create", {SYS_memfd_create}, error));
    all.push_back(Refused("renameat2", {SYS_renameat2}, error));
    all.push_back(Refused("copy_file_range", {SYS_copy_file_range}, error));
    all.push_back(Refused("close_range", {SYS_close_range}, error));
    all.push_back(Refused("eventfd2", {SYS_eventfd2}, error));
    all.push_back(Refused("signalfd4", {SYS_signalfd4}, error));
    all.push_back(Refused("preadv2, pwritev2", {SYS_preadv2, SYS_pwritev2}, error));
    all.push_back(Refused("fallocate", {SYS_fallocate}, error));
    all.push_back(Refused("clone3", {SYS_clone3}, error));
    all.push_back(Refused("prctl", {SYS_prctl}, error));
    all.push_back(Refused("linkat", {SYS_linkat}, error));
    all.push_back(Refused("fchmod, chmod", {SYS_fchmod, SYS_chmod, SYS_fchmodat}, error));
  }
  return all;
}

}  // namespace epoch::test
