// Whose trouble it is when a call on a file fails: the one place that says what an errno means.
//
// What one process may not do, or has no room for, is that process's error: the region goes on, and
// what is accepted waits for a process that can write it. A region is poisoned only where a write,
// or a sync, of the device itself failed.
//
//   | errno                                        | a write    | a sync     | a name     |
//   |----------------------------------------------|------------|------------|------------|
//   | EINTR, EAGAIN                                | nobody's   | nobody's   | nobody's   |
//   | EFBIG, EMFILE, ENFILE, ENOMEM, ENOBUFS       | caller's   | caller's   | caller's   |
//   | EPERM, EACCES, and what sandboxes answer:    |            |            |            |
//   |   ENOSYS, EOPNOTSUPP, EINVAL, ECANCELED, ... | caller's   | caller's   | caller's   |
//   | ENOENT, EEXIST, ELOOP, ... of a path         | caller's   | caller's   | caller's   |
//   | ENOSPC, EDQUOT                               | caller's   | device's   | caller's   |
//   | EROFS                                        | device's   | device's   | caller's   |
//   | EIO, ENXIO, ENODEV, EUCLEAN, any other       | device's   | device's   | device's   |
//
// ENOSPC: a write that finds no room has written nothing that counts, and is made again as a whole,
// with the same bytes, when there is room. A sync that finds none may have dropped what it was to
// write, and one that succeeds later proves nothing.
// EROFS: a file that is open for writing says so when its filesystem has shut itself after an
// error; a name says so wherever this process's mount is read-only.
// What is not known is the device's: then nothing is acknowledged that may not be there.
#ifndef EPOCH_DETAIL_PLATFORM_BLAME_H_
#define EPOCH_DETAIL_PLATFORM_BLAME_H_

#include <sys/types.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/system_calls.h"

namespace epoch::detail {

enum class Blame { kNobodys, kCallers, kDevices };
enum class Attempt {
  kWrite,  // of bytes
  kSync,   // of a file, or of a directory
  kName    // to open, make, link, rename or remove
};

constexpr Blame BlameFor(int error, Attempt attempt) {
  switch (error) {
    case EINTR:
    case EAGAIN:
      return Blame::kNobodys;
    case ENOSPC:
    case EDQUOT:
      return attempt == Attempt::kSync ? Blame::kDevices : Blame::kCallers;
    case EROFS:
      return attempt == Attempt::kName ? Blame::kCallers : Blame::kDevices;
    // Limits.
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EMLINK:
    case ENOLCK:
    // Rights, and what a kernel, a filter or a queue does not do.
    case EPERM:
    case EACCES:
    case ENOSYS:
    case EOPNOTSUPP:
    case EINVAL:
    case ECANCELED:
    case EBADF:
    case EFAULT:
    case E2BIG:
    case EOVERFLOW:
    case ESPIPE:
    case EDESTADDRREQ:
    case EBUSY:
    case ETXTBSY:
    case EDEADLK:
    // Paths.
    case ENOENT:
    case ENOTDIR:
    case EEXIST:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EXDEV:
    case ENOTEMPTY:
      return Blame::kCallers;
    default:
      return Blame::kDevices;
  }
}

// The same of a status that ErrnoStatus made; any other is no device's.
inline bool IsDevices(const absl::Status& status, Attempt attempt) {
  const int error = ErrnoOf(status);
  return error != 0 && BlameFor(error, attempt) == Blame::kDevices;
}

// Made from an errno that says nothing of the bytes that were asked for: this process could not
// look. Never a reason to speak of damage, as these are: what the disk cannot read, and what the
// filesystem knows to be broken.
inline bool IsOwnTrouble(const absl::Status& status) {
  const int error = ErrnoOf(status);
  return error != 0 && error != EIO && error != EUCLEAN && error != EBADMSG;
}

// There is no room, for now: on the disk, or in the quota.
constexpr bool IsNoRoom(int error) { return error == ENOSPC || error == EDQUOT; }
inline bool IsNoRoom(const absl::Status& status) { return IsNoRoom(ErrnoOf(status)); }

// The one rule of how often a call is made again that did nothing: as long as that is nobody's
// trouble, and not for ever. What is still in the way then is the caller's.
class Retries {
 public:
  bool Again(int error) {
    if (error != EINTR && error != EAGAIN) return false;
    if (--left_ == 0) return false;
    sys::sched_yield();
    return true;
  }
  // The call did something: patience begins anew.
  void Progress() { left_ = kMost; }

 private:
  static constexpr int kMost = 1000;
  int left_ = kMost;
};

// Space for the first `bytes` bytes of a file. 0, or an errno. (tmpfs gives up at any signal.)
// `label`: of the fault that a test may put in its place.
inline int Allocate(int fd, std::uint64_t bytes, [[maybe_unused]] const char* label) {
  for (Retries retries;;) {
    int error = EPOCH_FAULT(label);
    if (error == 0) error = sys::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
    if (!retries.Again(error)) return error;
  }
}

// A call that returns 0, or -1 and an errno: its errno, made again as above.
template <typename Call>
int Retried(Call&& call) {
  for (Retries retries;;) {
    if (call() == 0) return 0;
    if (!retries.Again(errno)) return errno;
  }
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_BLAME_H_
