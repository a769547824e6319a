// The seam's test side: the same names as in epoch/detail/platform/seam.h and system_calls.h, played by
// sim::Engine and sim::Disk. Included in their place by
// -DEPOCH_SEAM_HEADER='"tests/sim/seam_sim.h"'.
#ifndef EPOCH_TESTS_SIM_SEAM_SIM_H_
#define EPOCH_TESTS_SIM_SEAM_SIM_H_

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

#include <atomic>
#include <boost/interprocess/exceptions.hpp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "epoch/detail/platform/check.h"
#include "tests/sim/disk.h"
#include "tests/sim/engine.h"
#include "tests/sim/weakened.h"

namespace epoch::seam {

using Place = std::source_location;

template <typename T>
class Atomic {
 public:
  T Load(std::memory_order order = std::memory_order_seq_cst,
         Place at = Place::current()) const noexcept {
    if (auto* e = sim::Engine::active()) {
      e->LingerIn(at.function_name());
      const auto value =
          static_cast<T>(e->Load(this, static_cast<std::uint64_t>(value_), sim::OrderAt(at, order),
                                 order != std::memory_order_relaxed));
      if (sim::IsBeforeMissingFence(at)) e->Linger();  // what is read behind this is read later
      return value;
    }
    return value_;
  }
  void Store(T value, std::memory_order order = std::memory_order_seq_cst,
             Place at = Place::current()) noexcept {
    if (auto* e = sim::Engine::active()) {
      e->LingerIn(at.function_name());
      e->Step();
      e->BeforeStore(this, static_cast<std::uint64_t>(value_));
      value_ = value;
      e->Store(this, static_cast<std::uint64_t>(value), sim::OrderAt(at, order));
      return;
    }
    value_ = value;
  }
  bool CompareExchange(T& expected, T desired, Place at = Place::current()) noexcept {
    if (sim::IsWeakened(at) && FailsStale(expected)) return false;
    return Modify(at,
                  [&](T found) {
                    const bool equal = found == expected;
                    expected = found;
                    return std::pair{equal, desired};
                  })
        .first;
  }
  T FetchAdd(T delta, Place at = Place::current()) noexcept {
    return Modify(at,
                  [&](T found) {
                    return std::pair{true, static_cast<T>(found + delta)};
                  })
        .second;
  }
  T FetchOr(T bits, Place at = Place::current()) noexcept {
    const T found = Modify(at, [&](T word) {
                      return std::pair{true, static_cast<T>(word | bits)};
                    }).second;
    // What is read from here on may be what decides whether to sleep on this word.
    if (auto* e = sim::Engine::active()) e->MaySleepOn(this);
    return found;
  }
  T Exchange(T value, Place at = Place::current()) noexcept {
    return Modify(at, [&](T) { return std::pair{true, value}; }).second;
  }
  // For the checker, outside of all processes.
  T Peek() const { return value_; }

 private:
  // Whether it wrote, and what it found.
  template <typename Fn>
  std::pair<bool, T> Modify(const Place& at, Fn fn) noexcept {
    auto* e = sim::Engine::active();
    const std::memory_order order = sim::OrderAt(at, std::memory_order_seq_cst);
    if (e != nullptr) {
      e->LingerIn(at.function_name());
      e->Step();
      e->BeforeModify(this, static_cast<std::uint64_t>(value_), order);
    }
    const T found = value_;
    const auto [write, next] = fn(found);
    if (write) {
      value_ = next;
      if (e != nullptr) e->AfterModify(this, static_cast<std::uint64_t>(next), order);
    }
    return {write, found};
  }
  // A compare-exchange that fails is a load, and one without an order may be stale.
  bool FailsStale(T& expected) noexcept {
    const T found = Load(std::memory_order_relaxed);
    if (found == expected) return false;
    expected = found;
    return true;
  }

  T value_;  // the newest store
};

// Belongs to one process; whoever dies in it takes the others along. A scheduling point only where
// there are others.
class RecursiveMutex {
 public:
  void lock() {
    auto* const e = sim::Engine::active();
    if (e == nullptr || e->current() < 0) return;
    if (e->HasThreads()) e->Step();
    while (depth_ > 0 && owner_ != e->current()) e->BlockUntil(free_);
    Take(*e);
  }
  bool try_lock() {
    auto* const e = sim::Engine::active();
    if (e == nullptr || e->current() < 0) return true;
    if (e->HasThreads()) e->Step();
    if (depth_ > 0 && owner_ != e->current()) return false;
    Take(*e);
    return true;
  }
  void unlock() {
    auto* const e = sim::Engine::active();
    if (e == nullptr || e->current() < 0) return;
    if (--depth_ > 0) return;
    free_ = true;
    if (!e->HasThreads()) return;
    e->memory().Release(e->current(), known_);
    e->Step();
  }

 private:
  void Take(sim::Engine& e) {
    owner_ = e.current();
    free_ = false;
    if (++depth_ == 1 && e.HasThreads()) e.memory().Acquire(owner_, known_);
  }

  int owner_ = -1, depth_ = 0;
  bool free_ = true;
  sim::Clock known_{};
};
using Mutex = RecursiveMutex;

// Where there can be no further thread, what it would do is done at once.
class Thread {
 public:
  Thread() = default;
  template <typename Fn>
  explicit Thread(Fn fn) : end_(std::make_shared<End>()) {
    const std::function<void()> body = [end = end_, work = std::move(fn)]() mutable {
      work();
      auto* const e = sim::Engine::active();
      if (e->current() >= 0) e->memory().Release(e->current(), end->known);
      end->reached = true;
    };
    if (!sim::Engine::active()->Spawn(body)) body();
  }
  bool joinable() const { return end_ != nullptr; }
  void join() {
    auto* const e = sim::Engine::active();
    const std::shared_ptr<End> end = std::exchange(end_, nullptr);
    e->Step();
    while (!end->reached) e->BlockUntil(end->reached);
    if (e->current() >= 0) e->memory().Acquire(e->current(), end->known);
  }
  static unsigned hardware_concurrency() { return 2; }

 private:
  struct End {
    bool reached = false;
    sim::Clock known{};
  };
  std::shared_ptr<End> end_;
};

#define EPOCH_POINT(label)                                                   \
  do {                                                                       \
    if (auto* engine = ::epoch::sim::Engine::active()) engine->Point(label); \
  } while (false)
// Only io_uring is refused: the simulated disk speaks pwritev2, and has faults of its own.
#define EPOCH_FAULT(label) (std::string_view(label) == "uring.setup" ? ENOSYS : 0)

inline void AcquireFence(Place at = Place::current()) noexcept {
  if (auto* e = sim::Engine::active()) e->AcquireFence(!sim::IsWeakened(at));
}
// Takes as long as hundreds of them: a spin is a few steps, not a thousand that show nothing.
inline void CpuRelax() noexcept {
  if (auto* e = sim::Engine::active()) e->Relax(4000);
}

inline std::int64_t MonotonicNanos() noexcept {
  auto* e = sim::Engine::active();
  return e == nullptr ? 0 : e->Now();
}
inline void SleepFor(std::int64_t nanos) noexcept {
  if (auto* e = sim::Engine::active()) e->Sleep(nanos);
}

inline void FutexWait(const Atomic<std::uint32_t>* word, std::uint32_t expected,
                      std::int64_t nanos) noexcept {
  if (auto* e = sim::Engine::active()) e->Wait(word, expected, nanos);
}
inline long FutexWakeAll(const Atomic<std::uint32_t>* word) noexcept {
  auto* e = sim::Engine::active();
  return e == nullptr ? 0 : e->WakeAll(word);
}

// There is one time namespace.
inline bool MonotonicOffset(std::int64_t&) noexcept { return false; }

enum class ByteLock { kShared = F_RDLCK, kExclusive = F_WRLCK, kNone = F_UNLCK };
inline int SetByteLock(int fd, ByteLock kind, std::int64_t offset) noexcept {
  return sim::Disk::active()->LockByte(fd, kind == ByteLock::kExclusive, kind == ByteLock::kNone,
                                       offset);
}
enum class LockState { kFree, kHeld, kUnknown };
// All of the locks that are asked about are exclusive, but for those where any counts.
inline LockState TestByteLock(int fd, std::int64_t offset, ByteLock = ByteLock::kExclusive,
                              std::int64_t bytes = 1) noexcept {
  for (; bytes > 1; --bytes, ++offset) {
    if (TestByteLock(fd, offset) == LockState::kHeld) return LockState::kHeld;
  }
  return sim::Disk::active()->ByteHeld(fd, offset) ? LockState::kHeld : LockState::kFree;
}

}  // namespace epoch::seam

namespace epoch::sys {

using DIR = sim::Disk::Listing;

inline sim::Disk& TheDisk() { return *sim::Disk::active(); }

inline int open(const char* path, int flags, unsigned mode = 0) {
  return TheDisk().Open(path, flags, mode);
}
inline int openat(int at, const char* path, int flags, unsigned mode = 0) {
  return TheDisk().Open(path, flags, mode, at);
}
inline int mkdir(const char* path, unsigned) { return TheDisk().MakeDirectory(path); }
inline int close(int fd) {
  // An object may outlive the run: its process is gone, and its descriptors with it.
  return sim::Disk::active() == nullptr ? 0 : TheDisk().Close(fd);
}
inline int dup3(int from, int to, int) { return TheDisk().Dup3(from, to); }
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
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz";
  const std::size_t length = std::strlen(path);
  for (std::size_t i = length - 6; i < length; ++i) {
    path[i] = kLetters[sim::Engine::active()->random().Below(26)];
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
inline DIR* fdopendir(int fd) { return TheDisk().OpenDirectory(".", fd); }
inline const dirent* readdir(DIR* directory) {
  sim::Engine::active()->Step();
  if (directory->at == directory->names.size()) return nullptr;
  const std::string& name = directory->names[directory->at++];
  std::memcpy(directory->entry.d_name, name.c_str(), name.size() + 1);
  return &directory->entry;
}
inline int closedir(DIR* directory) {
  if (directory->fd >= 0) close(directory->fd);
  delete directory;
  return 0;
}
inline int dirfd(DIR* directory) { return directory->fd; }
inline ssize_t write(int fd, const void* from, std::size_t) {
  std::uint64_t count = 0;
  std::memcpy(&count, from, sizeof count);
  return TheDisk().AddToEvent(fd, count);
}
inline int eventfd(unsigned, int) { return TheDisk().MakeEvent(); }
inline int getpid() { return 1000 + sim::Engine::active()->process(); }
inline ssize_t getrandom(void* to, std::size_t size, unsigned) {
  for (std::size_t i = 0; i < size; ++i) {
    static_cast<unsigned char*>(to)[i] =
        static_cast<unsigned char>(sim::Engine::active()->random().Next() >> 32);
  }
  return static_cast<ssize_t>(size);
}
inline unsigned geteuid() { return 0; }
inline int sched_yield() {
  sim::Engine::active()->Relax();
  return 0;
}

// io_uring's place. What is submitted lands some time, whatever becomes of its process.
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
    writes_.push_back({TheDisk().Begin(fd, from, size, static_cast<std::int64_t>(offset), durably),
                       tag, from, std::string(reinterpret_cast<const char*>(from), size)});
    return true;
  }
  bool SubmitSync(int fd, std::uint64_t tag) {
    if (refused_ || writes_.size() == kDepth) return false;
    writes_.push_back({TheDisk().BeginSync(fd), tag, nullptr, {}});
    return true;
  }
  bool SubmitUnlink(int directory, const char* name, std::uint64_t tag) {
    if (refused_ || writes_.size() == kDepth) return false;
    writes_.push_back({TheDisk().BeginUnlink(name, directory), tag, nullptr, {}});
    return true;
  }
  std::optional<Done> Reap(bool wait) {
    if (writes_.empty()) return std::nullopt;
    if (wait) TheDisk().Await(writes_.front().begun);
    for (auto write = writes_.begin(); write != writes_.end(); ++write) {
      if (!*write->begun.done) continue;
      // The kernel reads it when it likes.
      EPOCH_CHECK(std::memcmp(write->from, write->bytes.data(), write->bytes.size()) == 0,
                  "the memory of a write changed under it");
      const Done done{write->tag, static_cast<int>(*write->begun.result)};
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
    sim::Disk::Begun begun;
    std::uint64_t tag;
    const std::byte* from;
    std::string bytes;
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

#endif  // EPOCH_TESTS_SIM_SEAM_SIM_H_
