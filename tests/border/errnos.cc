#include "border/errnos.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace epoch::test {
namespace {

#define EPOCH_CALL(name, ...)                           \
  CallRow {                                             \
    SYS_##name, #name, std::vector<int> { __VA_ARGS__ } \
  }

#define EPOCH_COMPLETION(number, name, ...)        \
  CallRow {                                        \
    number, name, std::vector<int> { __VA_ARGS__ } \
  }

std::vector<CallRow> MakeTable() {
  return {
      // Names.
      EPOCH_CALL(openat, EACCES, EDQUOT, EEXIST, EINTR, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE,
                 ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM, EROFS, ETXTBSY,
                 EIO),
      EPOCH_CALL(access, EACCES, ELOOP, ENOENT, ENOTDIR, EROFS, EIO, ENOMEM),
      EPOCH_CALL(faccessat2, EACCES, ELOOP, ENOENT, ENOTDIR, EROFS, EIO, ENOSYS, EPERM),
      EPOCH_CALL(newfstatat, EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR),
      EPOCH_CALL(statx, EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR, ENOSYS, EPERM),
      EPOCH_CALL(fstat, EIO, ENOMEM),
      EPOCH_CALL(stat, EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR),
      EPOCH_CALL(lstat, EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR),
      EPOCH_CALL(readlink, EACCES, EINVAL, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR),
      EPOCH_CALL(readlinkat, EACCES, EINVAL, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR),
      EPOCH_CALL(getcwd, EACCES, ENOENT, ENOMEM),
      EPOCH_CALL(linkat, EACCES, EDQUOT, EEXIST, EIO, ELOOP, EMLINK, ENOENT, ENOMEM, ENOSPC,
                 ENOTDIR, EPERM, EROFS, EXDEV),
      EPOCH_CALL(renameat2, EACCES, EBUSY, EDQUOT, EEXIST, EINVAL, EIO, ENOENT, ENOMEM, ENOSPC,
                 ENOSYS, ENOTDIR, EPERM, EROFS, EXDEV),
      EPOCH_CALL(rename, EACCES, EBUSY, EDQUOT, EEXIST, EIO, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS),
      EPOCH_CALL(mkdir, EACCES, EDQUOT, EEXIST, EIO, ELOOP, EMLINK, ENOENT, ENOMEM, ENOSPC, ENOTDIR,
                 EPERM, EROFS),
      EPOCH_CALL(mkdirat, EACCES, EDQUOT, EEXIST, EIO, ELOOP, EMLINK, ENOENT, ENOMEM, ENOSPC,
                 ENOTDIR, EPERM, EROFS),
      EPOCH_CALL(unlink, EACCES, EBUSY, EIO, EISDIR, ENOENT, ENOMEM, EPERM, EROFS),
      EPOCH_CALL(unlinkat, EACCES, EBUSY, EIO, EISDIR, ENOENT, ENOMEM, ENOTDIR, ENOTEMPTY, EPERM,
                 EROFS),
      EPOCH_CALL(rmdir, EACCES, EBUSY, EIO, ENOENT, ENOMEM, ENOTDIR, ENOTEMPTY, EPERM, EROFS),
      EPOCH_CALL(chmod, EACCES, EIO, ENOENT, ENOMEM, EPERM, EROFS),
      EPOCH_CALL(fchmod, EIO, EPERM, EROFS),
      EPOCH_CALL(fchmodat, EACCES, EIO, ENOENT, EPERM, EROFS),
      EPOCH_CALL(fchown, EIO, EPERM, EROFS),
      EPOCH_CALL(chown, EACCES, EIO, ENOENT, EPERM, EROFS),
      EPOCH_CALL(fchownat, EACCES, EIO, ENOENT, EPERM, EROFS),
      EPOCH_CALL(umask, ),
      EPOCH_CALL(getdents64, EIO),  // of ENOENT glibc makes an end; a folder is opened as one
      // Descriptors.
      EPOCH_CALL(close, EINTR, EIO, ENOSPC, EDQUOT),
      EPOCH_CALL(close_range, ENOSYS, EPERM, EMFILE, ENOMEM),
      EPOCH_CALL(dup, EMFILE),
      EPOCH_CALL(dup2, EBUSY, EINTR, EMFILE),
      EPOCH_CALL(dup3, EBUSY, EINTR, EMFILE),
      EPOCH_CALL(fcntl, EAGAIN, EACCES, EINTR, EINVAL, EMFILE, ENOLCK, EPERM),
      EPOCH_CALL(flock, EINTR, ENOLCK, EAGAIN),
      EPOCH_CALL(fstatfs, EINTR, EIO, ENOMEM, ENOSYS),
      EPOCH_CALL(statfs, EACCES, EINTR, EIO, ENOENT, ENOMEM, ENOSYS),
      EPOCH_CALL(eventfd2, EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EPERM),
      EPOCH_CALL(signalfd4, EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM),
      EPOCH_CALL(inotify_init1, EMFILE, ENFILE, ENOMEM, EPERM),
      EPOCH_CALL(inotify_add_watch, EACCES, ENOENT, ENOMEM, ENOSPC),
      EPOCH_CALL(memfd_create, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM),
      EPOCH_CALL(pipe2, EMFILE, ENFILE),
      EPOCH_CALL(poll, EINTR, ENOMEM),
      EPOCH_CALL(ppoll, EINTR, ENOMEM),
      EPOCH_CALL(ioctl, EIO, EINVAL, ENOTTY, EOPNOTSUPP, EPERM),
      EPOCH_CALL(fgetxattr, ENODATA, ENOTSUP, EPERM),
      EPOCH_CALL(fsetxattr, EDQUOT, ENOSPC, ENOTSUP, EPERM, EROFS),
      // Bytes.
      EPOCH_CALL(read, EAGAIN, EINTR, EIO, EISDIR),
      EPOCH_CALL(pread64, EINTR, EIO, EISDIR),
      EPOCH_CALL(preadv2, EINTR, EIO, EOPNOTSUPP, ENOSYS),
      EPOCH_CALL(write, EAGAIN, EDQUOT, EFBIG, EINTR, EIO, ENOSPC, EPERM, EPIPE),
      EPOCH_CALL(pwrite64, EDQUOT, EFBIG, EINTR, EIO, ENOSPC, EPERM),
      EPOCH_CALL(pwritev2, EDQUOT, EFBIG, EINTR, EIO, ENOSPC, EPERM, EOPNOTSUPP, ENOSYS),
      EPOCH_CALL(writev, EAGAIN, EDQUOT, EFBIG, EINTR, EIO, ENOSPC, EPIPE),
      EPOCH_CALL(lseek, EINVAL, ENXIO, EOVERFLOW, ESPIPE),
      EPOCH_CALL(ftruncate, EFBIG, EINTR, EINVAL, EIO, EPERM),
      EPOCH_CALL(fallocate, EDQUOT, EFBIG, EINTR, EIO, ENODEV, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM),
      EPOCH_CALL(fdatasync, EDQUOT, EINTR, EIO, ENOSPC),
      EPOCH_CALL(fsync, EDQUOT, EINTR, EIO, EINVAL, ENOSPC, EROFS),
      EPOCH_CALL(sync_file_range, EIO, ENOMEM, ENOSPC),
      EPOCH_CALL(fadvise64, EINVAL, ESPIPE),
      EPOCH_CALL(copy_file_range, EIO, ENOMEM, ENOSPC, EOPNOTSUPP, EXDEV, ENOSYS, EPERM),
      EPOCH_CALL(sendfile, EAGAIN, EINVAL, EIO, ENOMEM),
      EPOCH_CALL(getrandom, EAGAIN, EINTR, ENOSYS),
      // The ring.
      EPOCH_CALL(io_uring_setup, EFAULT, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM),
      EPOCH_CALL(io_uring_enter, EAGAIN, EBADF, EBUSY, EINTR, ENXIO, EOPNOTSUPP, EPERM),
      EPOCH_CALL(io_uring_register, EBUSY, EINVAL, EMFILE, ENOMEM, EPERM),
      // What becomes of its entries. Of those that the kernel takes up later, or drops: EAGAIN,
      // ECANCELED.
      EPOCH_COMPLETION(kRingWrite, "io_uring write", EAGAIN, ECANCELED, EDQUOT, EFBIG, EINTR,
                       EINVAL, EIO, ENOMEM, ENOSPC, EOPNOTSUPP, EPERM, EROFS, kShortResult),
      EPOCH_COMPLETION(kRingSync, "io_uring sync", EAGAIN, ECANCELED, EDQUOT, EINTR, EINVAL, EIO,
                       ENOMEM, ENOSPC, EOPNOTSUPP, EROFS),
      EPOCH_COMPLETION(kRingUnlink, "io_uring unlink", EACCES, EAGAIN, EBUSY, ECANCELED, EINTR,
                       EINVAL, EIO, ENOENT, ENOMEM, EOPNOTSUPP, EPERM, EROFS),
      // Memory.
      EPOCH_CALL(mmap, EACCES, EAGAIN, ENFILE, ENODEV, ENOMEM, EOVERFLOW, EPERM),
      EPOCH_CALL(munmap, ENOMEM),
      EPOCH_CALL(mremap, EAGAIN, ENOMEM),
      EPOCH_CALL(mprotect, EACCES, ENOMEM),
      EPOCH_CALL(madvise, EAGAIN, EBUSY, EINVAL, ENOMEM),
      EPOCH_CALL(brk, ),  // fails without an errno: it answers with the old end
      EPOCH_CALL(mlock, EAGAIN, ENOMEM, EPERM),
      // Processes, threads, time.
      EPOCH_CALL(clone, EAGAIN, ENOMEM, ENOSPC, EPERM),
      EPOCH_CALL(clone3, EAGAIN, ENOMEM, ENOSYS, EPERM),
      EPOCH_CALL(vfork, EAGAIN, ENOMEM),
      EPOCH_CALL(execve, E2BIG, EACCES, EAGAIN, EIO, ELOOP, EMFILE, ENFILE, ENOENT, ENOEXEC, ENOMEM,
                 EPERM),
      EPOCH_CALL(wait4, ECHILD, EINTR),
      EPOCH_CALL(waitid, ECHILD, EINTR),
      EPOCH_CALL(kill, EPERM, ESRCH),
      EPOCH_CALL(tgkill, EAGAIN, EPERM, ESRCH),
      EPOCH_CALL(pidfd_open, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM, ESRCH),
      EPOCH_CALL(pidfd_send_signal, EPERM, ESRCH, ENOSYS),
      EPOCH_CALL(prctl, EINVAL, EPERM),
      EPOCH_CALL(arch_prctl, EINVAL, EPERM),
      EPOCH_CALL(setpgid, EACCES, EPERM, ESRCH),
      EPOCH_CALL(futex, EAGAIN, EINTR),  // ETIMEDOUT only when that time has passed
      EPOCH_CALL(nanosleep, EINTR),
      EPOCH_CALL(clock_nanosleep, EINTR),
      EPOCH_CALL(sched_yield, ENOSYS, EPERM),
      EPOCH_CALL(sched_getaffinity, EINVAL, EPERM, ENOSYS),
      EPOCH_CALL(rt_sigaction, ),
      EPOCH_CALL(rt_sigprocmask, ),
      EPOCH_CALL(rt_sigtimedwait, EAGAIN, EINTR),
      EPOCH_CALL(sigaltstack, ENOMEM),
      EPOCH_CALL(rseq, ),  // glibc ends a process in which only some threads have it
      EPOCH_CALL(set_robust_list, ENOSYS, EPERM),
      EPOCH_CALL(set_tid_address, ENOSYS),
      EPOCH_CALL(prlimit64, EINVAL, EPERM),
      EPOCH_CALL(sysinfo, EFAULT, EPERM),
      EPOCH_CALL(uname, EFAULT),
      // These have no error.
      EPOCH_CALL(getpid, ),
      EPOCH_CALL(getppid, ),
      EPOCH_CALL(gettid, ),
      EPOCH_CALL(getuid, ),
      EPOCH_CALL(geteuid, ),
      EPOCH_CALL(getgid, ),
      EPOCH_CALL(getegid, ),
      EPOCH_CALL(getpgid, ),
      EPOCH_CALL(clock_gettime, ),
  };
}

#undef EPOCH_CALL
#undef EPOCH_COMPLETION

}  // namespace

const std::vector<CallRow>& CallTable() {
  static const std::vector<CallRow> table = MakeTable();
  return table;
}

const CallRow* RowOf(int call) {
  const auto& table = CallTable();
  const auto row = std::find_if(table.begin(), table.end(),
                                [&](const CallRow& each) { return each.number == call; });
  return row == table.end() ? nullptr : &*row;
}

const CallRow* RowOf(const std::string& name) {
  const auto& table = CallTable();
  const auto row = std::find_if(table.begin(), table.end(),
                                [&](const CallRow& each) { return each.name == name; });
  return row == table.end() ? nullptr : &*row;
}

std::string ErrnoName(int error) {
  if (error == kShortResult) return "short";
  const char* const name = strerrorname_np(error);
  return name == nullptr ? std::to_string(error) : name;
}

int ErrnoOf(const std::string& name) {
  for (int error = 1; error < 134; ++error) {
    if (ErrnoName(error) == name) return error;
  }
  return 0;
}

bool IsDeviceFailure(int call, int error) {
  const bool writes = call == SYS_pwritev2 || call == SYS_pwrite64 || call == SYS_write ||
                      call == SYS_io_uring_enter || call == kRingWrite;
  const bool syncs = call == SYS_fdatasync || call == SYS_fsync || call == kRingSync;
  // A sync that found no room has dropped what was to be written; and a filesystem that was open
  // for writing, and says that it is not, has shut itself after an error.
  return ((writes || syncs) && (error == EIO || error == EROFS)) ||
         (syncs && (error == ENOSPC || error == EDQUOT));
}

bool IsPassing(int error) { return error == EINTR; }

}  // namespace epoch::test
