#include "tests/images/rig.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace epoch::images {

namespace {

// Mounted over in the namespace only: any directory does that is always there.
constexpr const char* kScratch = "/mnt";

std::string Reason(const std::string& what) { return what + ": " + std::strerror(errno); }

}  // namespace

void Lacking(const std::string& what) {
  std::fprintf(stderr, "not possible on this machine: %s\n", what.c_str());
  std::fflush(nullptr);
  _exit(kLacking);
}

void Failed(const std::string& what) {
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  std::fflush(nullptr);
  _exit(3);
}

int Isolated(const std::function<int(const std::string& scratch)>& body) {
  if (geteuid() != 0) {
    std::fprintf(stderr, "not possible without root: mounting\n");
    return kLacking;
  }
  if (access("/dev/fuse", R_OK | W_OK) != 0 || access("/dev/loop-control", R_OK | W_OK) != 0) {
    std::fprintf(stderr, "not possible on this machine: no /dev/fuse or no loop devices\n");
    return kLacking;
  }
  std::fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t outer = fork();
  if (outer == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) Lacking(Reason("namespaces"));
    const pid_t first = fork();
    if (first == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          mount("proc", "/proc", "proc", 0, nullptr) != 0 ||
          mount("images", kScratch, "tmpfs", 0, "mode=0700") != 0) {
        Lacking(Reason("mounting"));
      }
      const int code = body(kScratch);
      std::fflush(nullptr);
      _exit(code);
    }
    int status = 0;
    waitpid(first, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
  }
  int status = 0;
  while (waitpid(outer, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

LoopDevice AttachLoop(const std::string& file, bool direct) {
  LoopDevice device;
  for (int attempt = 0; attempt < 200; ++attempt) {
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0) close(control);
    if (number < 0) Lacking(Reason("a loop device"));
    device.path = "/dev/loop" + std::to_string(number);
    const int backing = open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (backing < 0) Failed(Reason(file));
    device.fd = open(device.path.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config{};
    config.fd = static_cast<unsigned>(backing);
    config.block_size = 512;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (direct ? unsigned{LO_FLAGS_DIRECT_IO} : 0u);
    const bool done = device.fd >= 0 && ioctl(device.fd, LOOP_CONFIGURE, &config) == 0;
    const int error = errno;
    close(backing);
    if (done) return device;
    if (device.fd >= 0) close(device.fd);
    // Somebody else was given the same one, or its last user is just letting go.
    if (error != EBUSY && error != ENXIO && error != ENOENT) {
      errno = error;
      Lacking(Reason(device.path));
    }
    usleep(5000);
  }
  Lacking("no free loop device");
}

bool MountExt4(LoopDevice& device, const std::string& at) {
  mkdir(at.c_str(), 0700);
  const bool mounted = mount(device.path.c_str(), at.c_str(), "ext4", MS_NOATIME, "") == 0;
  close(device.fd);
  device.fd = -1;
  return mounted;
}

void Unmount(const std::string& at) {
  for (int attempt = 0; umount(at.c_str()) != 0; ++attempt) {
    if (errno != EBUSY || attempt == 1000) Failed(Reason("umount " + at));
    usleep(2000);  // a ring is still being taken apart
  }
}

int RunProgram(const std::string& path, const std::vector<std::string>& arguments) {
  const pid_t pid = fork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    std::vector<char*> argv{const_cast<char*>(path.c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execvp(path.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

SlowDisk::SlowDisk(const std::string& program, const std::string& scratch, std::uint64_t bytes)
    : scratch_(scratch), mountpoint_(scratch + "/slow") {
  mkdir(scratch_.c_str(), 0700);
  mkdir(mountpoint_.c_str(), 0700);
  const int backing_fd = open(backing().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const std::string control = scratch_ + "/control";
  const int control_fd = open(control.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (backing_fd < 0 || control_fd < 0 || ftruncate(backing_fd, static_cast<off_t>(bytes)) != 0 ||
      ftruncate(control_fd, 4096) != 0) {
    Failed(Reason(scratch_));
  }
  control_ = static_cast<SlowDiskControl*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0));
  close(backing_fd);
  close(control_fd);
  pid_ = fork();
  if (pid_ == 0) {
    execl(program.c_str(), program.c_str(), backing().c_str(), log().c_str(), control.c_str(),
          mountpoint_.c_str(), nullptr);
    _exit(127);
  }
  // It rings when the kernel has taken it.
  if (!Reaches([&] { return control_->bell.load() != 0; }, {pid_}) ||
      access(file().c_str(), F_OK) != 0) {
    Lacking("FUSE does not work");
  }
}

void SlowDisk::Await(const std::function<bool()>& condition,
                     const std::vector<pid_t>& awaited) const {
  if (!Reaches(condition, awaited)) {
    Failed("a process ended by itself, or a minute went by without what was awaited");
  }
}

bool SlowDisk::Reaches(const std::function<bool()>& condition,
                       const std::vector<pid_t>& awaited) const {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  for (;;) {
    const std::uint32_t bell = control_->bell.load();
    if (condition()) return true;
    for (const pid_t pid : awaited) {
      if (waitpid(pid, nullptr, WNOHANG) != 0) return false;
    }
    if (std::chrono::steady_clock::now() > until) return false;
    const timespec now_and_then{0, 50'000'000};  // to see deaths, which ring no bell
    syscall(SYS_futex, &control_->bell, FUTEX_WAIT, bell, &now_and_then, nullptr, 0);
  }
}

void SlowDisk::Stop() {
  for (int attempt = 0; umount(mountpoint_.c_str()) != 0; ++attempt) {
    if (errno != EBUSY || attempt == 1000) Failed(Reason("umount " + mountpoint_));
    usleep(2000);  // the loop device is still letting go
  }
  waitpid(pid_, nullptr, 0);
}

}  // namespace epoch::images
