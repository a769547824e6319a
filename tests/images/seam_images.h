// The seam's test side: the same names as in epoch/detail/platform/seam.h and system_calls.h, played by
// images::Fibers and images::Disk. Included in their place by
// -DEPOCH_SEAM_HEADER='"tests/images/seam_images.h"'. Words are plain: fibers share one thread.
#ifndef EPOCH_TESTS_IMAGES_SEAM_IMAGES_H_
#define EPOCH_TESTS_IMAGES_SEAM_IMAGES_H_

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <boost/interprocess/exceptions.hpp>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/images/disk.h"
#include "tests/images/fibers.h"

namespace epoch::seam {

template <typename T>
class Atomic {
 public:
  T Load(std::memory_order = std::memory_order_seq_cst) const noexcept { return value_; }
  void Store(T value, std::memory_order = std::memory_order_seq_cst) noexcept { value_ = value; }
  bool CompareExchange(T& expected, T desired) noexcept {
    const bool equal = value_ == expected;
    expected = value_;
    if (equal) value_ = desired;
    return equal;
  }
  T FetchAdd(T delta) noexcept { return std::exchange(value_, static_cast<T>(value_ + delta)); }
  T FetchOr(T bits) noexcept { return std::exchange(value_, static_cast<T>(value_ | bits)); }
  T Exchange(T value) noexcept { return std::exchange(value_, value); }

 private:
  T value_;
};

inline void Point() {
  if (auto* fibers = images::Fibers::active()) fibers->Step();
}
#define EPOCH_POINT(label) (::epoch::seam::Point())
// Only io_uring is refused: the disk here speaks pwritev2, and has faults of its own.
#define EPOCH_FAULT(label) (std::string_view(label) == "uring.setup" ? ENOSYS : 0)

inline void AcquireFence() noexcept {}
inline void SleepFor(std::int64_t nanos) noexcept {
  if (auto* fibers = images::Fibers::active()) fibers->Sleep(nanos);
}
inline void CpuRelax() noexcept { SleepFor(1000); }
inline std::int64_t MonotonicNanos() noexcept {
  static std::int64_t alone = 0;  // it passes, so that nothing waits for ever
  auto* fibers = images::Fibers::active();
  return fibers == nullptr ? alone += 1000 : fibers->now();
}

inline void FutexWait(const Atomic<std::uint32_t>* word, std::uint32_t expected,
                      std::int64_t nanos) noexcept {
  auto* fibers = images::Fibers::active();
  if (fibers != nullptr && word->Load() == expected) fibers->WaitOn(word, nanos);
}
inline long FutexWakeAll(const Atomic<std::uint32_t>* word) noexcept {
  if (auto* fibers = images::Fibers::active()) fibers->Wake(word);
  return 0;  // not counted: callers look further, as if nobody had slept
}

// A process is one fiber here: nobody contends.
using Thread = std::thread;
using Mutex = std::mutex;
using RecursiveMutex = std::recursive_mutex;

// There is one time namespace.
inline bool MonotonicOffset(std::int64_t&) noexcept { return false; }

enum class ByteLock { kShared = F_RDLCK, kExclusive = F_WRLCK, kNone = F_UNLCK };
inline int SetByteLock(int fd, ByteLock kind, std::int64_t offset) noexcept {
  return images::Disk::active()->LockByte(fd, kind == ByteLock::kExclusive, kind == ByteLock::kNone,
                                          offset);
}
enum class LockState { kFree, kHeld, kUnknown };
// All of the locks that are asked about are exclusive, but for those where any counts.
inline LockState TestByteLock(int fd, std::int64_t offset, ByteLock = ByteLock::kExclusive,
                              std::int64_t bytes = 1) noexcept {
  for (; bytes > 1; --bytes, ++offset) {
    if (TestByteLock(fd, offset) == LockState::kHeld) return LockState::kHeld;
  }
  return images::Disk::active()->ByteHeld(fd, offset) ? LockState::kHeld : LockState::kFree;
}

}  // namespace epoch::seam

namespace epoch::sys {

using ::eventfd;
using ::write;

using DIR = images::Disk::Listing;

inline images::Disk& TheDisk() { return *images::Disk::active(); }

inline int open(const char* path, int flags, unsigned mode = 0) {
  return TheDisk().Open(path, flags, mode);
}
inline int openat(int at, const char* path, int flags, unsigned mode = 0) {
  return TheDisk().Open(path, flags, mode, at);
}
inline int close(int fd) { return images::Disk::active() == nullptr ? 0 : TheDisk().Close(fd); }
inline int dup3(int, int, int) {
  errno = ENOSYS;
  return -1;
}
inline int access(const char* path, int) {
  if (TheDisk().Exists(path) || std::string_view(path) == "/proc/self/fd") return 0;
  errno = ENOENT;
  return -1;
}
inline int fchmod(int, unsigned) { return 0; }
inline int chmod(const char*, unsigned) { return 0; }
inline int fchown(int, uid_t, gid_t) { return 0; }
inline int stat(const char* path, struct stat* info) { return TheDisk().Stat(path, info); }
inline int lstat(const char* path, struct stat* info) { return TheDisk().Stat(path, info); }
inline int fstat(int fd, struct stat* info) { return TheDisk().StatFd(fd, info); }
inline int fstatat(int at, const char* path, struct stat* info, int) {
  return TheDisk().Stat(path, info, at);
}
inline int statx(int at, const char* path, int, unsigned mask, struct statx* info) {
  return TheDisk().StatX(at, path, mask, info);
}
inline int fstatfs(int fd, struct statfs* info) {
  *info = {};
  info->f_type = TheDisk().InMemory(fd) ? TMPFS_MAGIC : 0;
  return 0;
}
inline int linkat(int, const char* from, int, const char* to, int) {
  return TheDisk().Link(from, to);
}
inline int unlink(const char* path) { return TheDisk().Unlink(path, false); }
inline int rmdir(const char* path) { return TheDisk().Unlink(path, true); }
inline int unlinkat(int directory, const char* name, int flags) {
  return TheDisk().Unlink(name, (flags & AT_REMOVEDIR) != 0, directory);
}
inline int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned) {
  return TheDisk().Rename(from, to, from_at, to_at);
}
inline int getrlimit(int, struct rlimit* limit) {
  *limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  return 0;
}
inline char* mkdtemp(char* path) {
  const std::size_t length = std::strlen(path);
  for (std::size_t i = length - 6; i < length; ++i) {
    path[i] = static_cast<char>('a' + TheDisk().random().Below(26));
  }
  return TheDisk().MakeDirectory(path) == 0 ? path : nullptr;
}
inline char* realpath(const char* path, char* resolved) {
  if (!TheDisk().Exists(path)) {
    errno = ENOENT;
    return nullptr;
  }
  return std::strcpy(resolved, path);
}
inline ssize_t pread(int fd, void* to, std::size_t size, std::int64_t offset) {
  return TheDisk().Read(fd, to, size, offset);
}
inline ssize_t read(int fd, void* to, std::size_t size) { return TheDisk().Read(fd, to, size, 0); }
inline ssize_t pwrite(int fd, const void* from, std::size_t size, std::int64_t offset) {
  return TheDisk().Write(fd, from, size, offset, false);
}
inline ssize_t pwritev2(int fd, const iovec* pieces, int, std::int64_t offset, int flags) {
  return TheDisk().Write(fd, pieces->iov_base, pieces->iov_len, offset, (flags & RWF_DSYNC) != 0);
}
inline int fsync(int fd) { return TheDisk().Sync(fd); }
inline int fdatasync(int fd) { return TheDisk().Sync(fd); }
inline int posix_fallocate(int fd, std::int64_t, std::int64_t size) {
  return TheDisk().Allocate(fd, size);
}
inline int flock(int fd, int operation) { return TheDisk().Flock(fd, (operation & LOCK_NB) == 0); }
inline DIR* opendir(const char* path) { return TheDisk().OpenDirectory(path); }
inline DIR* fdopendir(int fd) { return TheDisk().OpenDirectory(fd); }
inline const dirent* readdir(DIR* directory) {
  if (directory->at == directory->names.size()) return nullptr;
  const std::string& name = directory->names[directory->at++];
  std::memcpy(directory->entry.d_name, name.c_str(), name.size() + 1);
  return &directory->entry;
}
inline int closedir(DIR* directory) {
  close(directory->fd);
  delete directory;
  return 0;
}
inline int dirfd(DIR* directory) { return directory->fd; }
inline int getpid() {
  auto* fibers = images::Fibers::active();
  return 1000 + (fibers == nullptr ? 0 : fibers->current());
}
inline ssize_t getrandom(void* to, std::size_t size, unsigned) {
  for (std::size_t i = 0; i < size; ++i) {
    static_cast<unsigned char*>(to)[i] =
        static_cast<unsigned char>(TheDisk().random().Next() >> 32);
  }
  return static_cast<ssize_t>(size);
}
inline unsigned geteuid() { return 0; }
inline int sched_yield() {
  seam::SleepFor(1000);
  return 0;
}

// io_uring's place, for a journal with several writes under way. What is submitted lands some time,
// whatever becomes of its process.
class WriteQueue {
 public:
  struct Done {
    std::uint64_t tag;
    int result;
  };

  bool Ready() const { return !refused_; }
  void Refuse() { refused_ = true; }
  bool Submit(int fd, const std::byte* from, std::size_t size, std::uint64_t offset, bool durably,
              std::uint64_t tag) {
    if (refused_ || writes_.size() == kDepth) return false;
    writes_.push_back(
        {TheDisk().Begin(fd, from, size, static_cast<std::int64_t>(offset), durably), tag});
    return true;
  }
  bool SubmitSync(int fd, std::uint64_t tag) {
    if (refused_ || writes_.size() == kDepth) return false;
    writes_.push_back({TheDisk().BeginSync(fd), tag});
    return true;
  }
  bool SubmitUnlink(int directory, const char* name, std::uint64_t tag) {
    if (refused_ || writes_.size() == kDepth) return false;
    const int result = unlinkat(directory, name, 0) == 0 ? 0 : -errno;
    writes_.push_back({{std::make_shared<bool>(true), result}, tag});
    return true;
  }
  std::optional<Done> Reap(bool wait) {
    if (writes_.empty()) return std::nullopt;
    if (wait) images::Disk::Await(writes_.front().begun);
    for (auto write = writes_.begin(); write != writes_.end(); ++write) {
      if (!*write->begun.done) continue;
      const Done done{write->tag, static_cast<int>(write->begun.result)};
      writes_.erase(write);
      return done;
    }
    return std::nullopt;
  }
  unsigned in_flight() const { return static_cast<unsigned>(writes_.size()); }
  void AfterForkInChild() noexcept { writes_.clear(); }

 private:
  static constexpr std::size_t kDepth = 8;
  struct Write {
    images::Disk::Begun begun;
    std::uint64_t tag;
  };
  std::vector<Write> writes_;
  bool refused_ = false;
};

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(int fd, bool) : memory_(TheDisk().MemoryOf(fd)) {
    if (memory_ == nullptr) throw boost::interprocess::interprocess_exception("no memory");
  }
  std::byte* data() const { return memory_; }

 private:
  std::byte* memory_ = nullptr;
};

}  // namespace epoch::sys

#endif  // EPOCH_TESTS_IMAGES_SEAM_IMAGES_H_
