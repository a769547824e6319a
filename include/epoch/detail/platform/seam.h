// The seam: every atomic access, futex, clock read, liveness query, thread, mutex that threads
// share and injected fault of Epoch goes through this file; files and directories through its
// second half, system_calls.h. In production it is std::atomic and plain system calls, at no cost.
// A build that defines EPOCH_SEAM_HEADER replaces the whole file; one that defines
// EPOCH_TEST_POINTS keeps it and makes the labelled points call a hook (to kill, stop, or fail the
// process right there).
#ifndef EPOCH_DETAIL_PLATFORM_SEAM_H_
#define EPOCH_DETAIL_PLATFORM_SEAM_H_

#ifdef EPOCH_SEAM_HEADER
#include EPOCH_SEAM_HEADER
#else

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include "epoch/detail/platform/needs.h"

#if defined(__SANITIZE_THREAD__)
#define EPOCH_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPOCH_THREAD_SANITIZER
#endif
#endif

namespace epoch::seam {

// An address-free lock-free atomic: legal in memory mapped by several processes.
template <typename T>
class Atomic {
 public:
  static_assert(std::atomic<T>::is_always_lock_free, "shared words must be lock-free");

  T Load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    return value_.load(order);
  }
  void Store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    value_.store(value, order);
  }
  // Replaces `expected` by `desired`; always seq_cst, as every CAS in Epoch decides something.
  // On failure `expected` holds what was found.
  bool CompareExchange(T& expected, T desired) noexcept {
    return value_.compare_exchange_strong(expected, desired, std::memory_order_seq_cst);
  }
  T FetchAdd(T delta) noexcept { return value_.fetch_add(delta, std::memory_order_seq_cst); }
  T FetchOr(T bits) noexcept { return value_.fetch_or(bits, std::memory_order_seq_cst); }
  T Exchange(T value) noexcept { return value_.exchange(value, std::memory_order_seq_cst); }

 private:
  std::atomic<T> value_;
};

// Threads within this process, and what they share. A thread of Epoch takes none of the program's
// signals: whoever blocks one, to read it from a signalfd, does so in the threads that it knows of.
// Only what a thread brings upon itself is not blocked.
class Thread : public std::thread {
 public:
  Thread() = default;
  template <typename Fn>
  requires(!std::is_same_v<std::remove_cvref_t<Fn>, Thread>) explicit Thread(Fn&& fn) {
    const SignalsBlocked blocked;  // which a new thread inherits
    static_cast<std::thread&>(*this) = std::thread(std::forward<Fn>(fn));
  }

 private:
  class SignalsBlocked {
   public:
    SignalsBlocked() noexcept {
      sigset_t all;
      sigfillset(&all);
      for (const int own : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP, SIGABRT}) {
        sigdelset(&all, own);
      }
      pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

   private:
    sigset_t before_;
  };
};
using Mutex = std::mutex;
using RecursiveMutex = std::recursive_mutex;

// Labelled points: places where a test can kill or stop this process, or make the next step fail.
#ifdef EPOCH_TEST_POINTS
inline std::atomic<int (*)(const char* label)> point_hook{nullptr};
inline int Point(const char* label) {
  auto* hook = point_hook.load(std::memory_order_relaxed);
  return hook == nullptr ? 0 : hook(label);
}
#define EPOCH_POINT(label) (static_cast<void>(::epoch::seam::Point(label)))
// Evaluates to 0, or to the errno that a test wants the next system call to fail with.
#define EPOCH_FAULT(label) (::epoch::seam::Point(label))
#else
#define EPOCH_POINT(label) (static_cast<void>(0))
#define EPOCH_FAULT(label) (0)
#endif

// Orders plain reads before the loads that follow: for who copies first and then checks that what
// was copied was still valid. ThreadSanitizer does not model fences, and needs none to see this.
inline void AcquireFence() noexcept {
#ifndef EPOCH_THREAD_SANITIZER
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
}

inline void CpuRelax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();  // what _mm_pause is, without 39,000 lines of header
#endif
}

// Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of this machine, but for those in
// another time namespace.
inline std::int64_t MonotonicNanos() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// What /proc says of how far this process's time namespace has moved that clock. False where it
// does not tell.
inline bool ReadMonotonicOffset(std::int64_t& nanos) noexcept {
  // The file speaks of the namespace that children will be in.
  struct stat own {
  }, children{};
  if (::stat("/proc/self/ns/time", &own) != 0 ||
      ::stat("/proc/self/ns/time_for_children", &children) != 0 || own.st_ino != children.st_ino) {
    return false;
  }
  const int fd = ::open("/proc/self/timens_offsets", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[512];
  const ssize_t got = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (got <= 0) return false;
  text[got] = '\0';
  static constexpr char kClock[] = "monotonic";  // a line of it: "monotonic   <s>   <ns>"
  const char* const line = ::strstr(text, kClock);
  if (line == nullptr) return false;
  char* end = nullptr;
  const long long seconds = ::strtoll(line + sizeof kClock - 1, &end, 10);
  char* last = nullptr;
  const long long rest = ::strtoll(end, &last, 10);
  if (last == end) return false;
  nanos = std::int64_t{seconds} * 1'000'000'000 + rest;
  return true;
}

// How far this process's time namespace has moved that clock. False where /proc does not tell. The
// offset, not the namespace's inode: two namespaces with equal offsets have the same time.
//
// To ask /proc takes 14 us, so it is asked once. Who gets into another namespace (by setns, or as a
// fork child of one that has unshared it) is noticed by the clocks themselves: no namespace moves
// the real one, so that the difference of the two moves as far. It stands still to the nanosecond
// otherwise, but where somebody sets the real clock: then /proc is asked again. What is not noticed
// is a move by less than kSame_ns, which no deadline hangs on.
// Thread safety: any. The offset is the same for all threads, and changes only while there is one.
inline bool MonotonicOffset(std::int64_t& nanos) noexcept {
  constexpr std::int64_t kSame_ns = 2'000'000;
  constexpr std::int64_t kNever = INT64_MIN;
  static std::atomic<std::int64_t> known_offset{0}, known_ahead{kNever};
  const std::int64_t before_ns = MonotonicNanos();
  timespec real{};
  clock_gettime(CLOCK_REALTIME, &real);
  const std::int64_t took_ns = MonotonicNanos() - before_ns;
  const std::int64_t ahead = std::int64_t{real.tv_sec} * 1'000'000'000 + real.tv_nsec - before_ns;
  const std::int64_t known = known_ahead.load(std::memory_order_acquire);
  // (Who was held up between the looks at the clocks knows nothing.)
  if (known != kNever && took_ns < kSame_ns / 2 && ahead < known + kSame_ns / 2 &&
      ahead > known - kSame_ns / 2) {
    nanos = known_offset.load(std::memory_order_relaxed);
    return true;
  }
  if (!ReadMonotonicOffset(nanos)) return false;
  if (took_ns < kSame_ns / 2) {
    known_offset.store(nanos, std::memory_order_relaxed);
    known_ahead.store(ahead, std::memory_order_release);
  }
  return true;
}

inline void SleepFor(std::int64_t nanos) noexcept {
  timespec left{.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// Sleeps while `*word == expected`, at most `nanos`. Returns on wake-up, change, signal or timeout;
// callers re-read what they wait for. Not FUTEX_PRIVATE: the waker is another process.
inline void FutexWait(const Atomic<std::uint32_t>* word, std::uint32_t expected,
                      std::int64_t nanos) noexcept {
  timespec relative{.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  syscall(SYS_futex, word, FUTEX_WAIT, expected, &relative, nullptr, 0);
}
// How many woke up.
inline long FutexWakeAll(const Atomic<std::uint32_t>* word) noexcept {
  return syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Open-file-description locks on single bytes: the kernel's own word on who is alive. They vanish
// when the last process that holds the description is gone, in any pid namespace.
enum class ByteLock { kShared = F_RDLCK, kExclusive = F_WRLCK, kNone = F_UNLCK };

// Returns 0, EAGAIN when another description holds a conflicting lock, or another errno.
inline int SetByteLock(int fd, ByteLock kind, std::int64_t offset) noexcept {
  struct flock lock {};
  lock.l_type = static_cast<short>(kind);
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = 1;
  while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    if (errno == EINTR) continue;
    return errno == EACCES ? EAGAIN : errno;
  }
  return 0;
}

enum class LockState { kFree, kHeld, kUnknown };

// Whether a description other than `fd` holds a lock on one of `bytes` bytes that one of kind
// `asked` could not stand beside: kExclusive asks for any, kShared for exclusive ones. To take an
// exclusive lock needs the right to write; a shared one is open to whoever may read.
inline LockState TestByteLock(int fd, std::int64_t offset, ByteLock asked = ByteLock::kExclusive,
                              std::int64_t bytes = 1) noexcept {
  struct flock lock {};
  lock.l_type = static_cast<short>(asked);
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = bytes;
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return LockState::kUnknown;
  return lock.l_type == F_UNLCK ? LockState::kFree : LockState::kHeld;
}

}  // namespace epoch::seam

#endif  // EPOCH_SEAM_HEADER
#endif  // EPOCH_DETAIL_PLATFORM_SEAM_H_
