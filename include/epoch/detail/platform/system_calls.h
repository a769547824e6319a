// The file system, as far as Epoch uses it: the seam's second half. Every call on files,
// directories and descriptors goes through `sys::`, so that a test build can put a simulated disk
// underneath the same code. In production these are the system's own functions, under their own
// names; those that make a descriptor make one above the standard ones.
#ifndef EPOCH_DETAIL_PLATFORM_SYSTEM_CALLS_H_
#define EPOCH_DETAIL_PLATFORM_SYSTEM_CALLS_H_

#include "epoch/detail/platform/seam.h"

#ifndef EPOCH_SEAM_HEADER  // one that replaces the seam brings its own

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>

namespace epoch::sys {

// What a program prints must not land in a region, nor what it reads come from one, because it was
// started with its standard input or output closed: no descriptor of Epoch is 0, 1 or 2, and none
// is inherited by exec. All that make one do it while this lives.
//
// It holds those numbers while they are free, by a descriptor that can be neither read nor written,
// as if they still were closed. Other threads that open and close them at the same moment may get
// in between: then what was made is moved up at once.
class StandardNumbersHeld {
 public:
  StandardNumbersHeld() noexcept {
    bool free = false;
    for (int fd = 0; fd < kStandard; ++fd) free = free || fcntl(fd, F_GETFD) < 0;
    while (free) {
      const int fd = ::open("/", O_PATH | O_CLOEXEC);
      free = fd >= 0 && fd < kStandard;
      if (free) held_[static_cast<std::size_t>(fd)] = true;
      if (fd >= kStandard) ::close(fd);
    }
  }
  StandardNumbersHeld(const StandardNumbersHeld&) = delete;
  StandardNumbersHeld& operator=(const StandardNumbersHeld&) = delete;
  ~StandardNumbersHeld() {
    const int error = errno;
    for (int fd = 0; fd < kStandard; ++fd) {
      // Unless somebody has put a file of theirs there meanwhile.
      if (!held_[static_cast<std::size_t>(fd)]) continue;
      const int flags = fcntl(fd, F_GETFL);
      if (flags >= 0 && (flags & O_PATH) != 0) ::close(fd);
    }
    errno = error;
  }

  // The same description under a number above.
  static int Above(int fd) noexcept {
    if (fd < 0 || fd >= kStandard) return fd;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, kStandard);
    const int error = errno;
    ::close(fd);
    errno = error;
    return moved;
  }

 private:
  static constexpr int kStandard = 3;
  std::array<bool, kStandard> held_{};
};

// A call that a signal interrupted did nothing, and is nobody's trouble: it is made again here, for
// all that call it. Not for ever.
template <typename Call>
auto Uninterrupted(Call&& call) noexcept {
  constexpr int kMost = 1000;
  for (int again = 1;; ++again) {
    const auto result = call();
    if (result >= 0 || errno != EINTR || again == kMost) return result;
  }
}

// Descriptors and names.
using ::access;
using ::chmod;
using ::close;
using ::dup3;
using ::fchmod;
using ::fchown;
using ::fstat;
using ::fstatat;
inline int fstatfs(int fd, struct statfs* info) noexcept {
  return Uninterrupted([&] { return ::fstatfs(fd, info); });
}
using ::geteuid;
using ::linkat;
using ::lstat;
using ::mkdir;
using ::mkdtemp;
inline int openat(int at, const char* path, int flags, unsigned mode = 0) noexcept {
  const StandardNumbersHeld held;
  return StandardNumbersHeld::Above(
      Uninterrupted([&] { return ::openat(at, path, flags | O_CLOEXEC, mode); }));
}
inline int open(const char* path, int flags, unsigned mode = 0) noexcept {
  return openat(AT_FDCWD, path, flags, mode);
}
using ::realpath;
using ::renameat2;
using ::rmdir;
using ::stat;
using ::statx;
using ::unlink;
using ::unlinkat;
// Bytes.
using ::fdatasync;
using ::fsync;
using ::getrlimit;
using ::posix_fallocate;
inline ssize_t pread(int fd, void* to, std::size_t size, off_t offset) noexcept {
  return Uninterrupted([&] { return ::pread(fd, to, size, offset); });
}
using ::pwrite;
using ::pwritev2;
using ::read;
using ::write;
// Directories.
using ::closedir;
using ::DIR;
using ::dirfd;
using ::fdopendir;
using ::flock;
using ::readdir;
inline DIR* opendir(const char* path) noexcept {
  const int fd = open(path, O_RDONLY | O_DIRECTORY);
  DIR* const directory = fd < 0 ? nullptr : ::fdopendir(fd);
  if (directory == nullptr && fd >= 0) {
    const int error = errno;
    ::close(fd);
    errno = error;
  }
  return directory;
}
// Not files, but asked of the same kernel.
inline int eventfd(unsigned count, int flags) noexcept {
  const StandardNumbersHeld held;
  return StandardNumbersHeld::Above(::eventfd(count, flags | EFD_CLOEXEC));
}
using ::getpid;
inline ssize_t getrandom(void* to, std::size_t size, unsigned flags) noexcept {
  return Uninterrupted([&] { return ::getrandom(to, size, flags); });
}
using ::sched_yield;

// A file's memory, shared, for as long as this lives.
class MappedFile {
 public:
  MappedFile() = default;
  // Of a file that is open, and may be closed afterwards; the mapping holds on to its description,
  // also in a fork child. Throws boost::interprocess::interprocess_exception.
  MappedFile(int fd, bool writable) : region_(OpenFile{fd}, Mode(writable)) {}
  std::byte* data() const { return static_cast<std::byte*>(region_.get_address()); }

 private:
  // Boost's own file_mapping would open the file anew, by a number that it does not choose.
  struct OpenFile {
    int fd;
    boost::interprocess::mapping_handle_t get_mapping_handle() const {
      return {.handle = fd, .is_xsi = false};
    }
  };
  static boost::interprocess::mode_t Mode(bool writable) {
    return writable ? boost::interprocess::read_write : boost::interprocess::read_only;
  }
  boost::interprocess::mapped_region region_;
};

}  // namespace epoch::sys

#endif  // EPOCH_SEAM_HEADER
#endif  // EPOCH_DETAIL_PLATFORM_SYSTEM_CALLS_H_
