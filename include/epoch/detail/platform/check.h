// Assertions and error text.
#ifndef EPOCH_DETAIL_PLATFORM_CHECK_H_
#define EPOCH_DETAIL_PLATFORM_CHECK_H_

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/needs.h"

// Stays on in release builds: a broken invariant of this process must not reach shared memory.
#define EPOCH_CHECK(condition, message)                                                            \
  do {                                                                                             \
    if (!(condition)) [[unlikely]] {                                                               \
      std::fprintf(stderr, "%s:%d: epoch: check failed: %s: %s\n", __FILE__, __LINE__, #condition, \
                   message);                                                                       \
      std::abort();                                                                                \
    }                                                                                              \
  } while (false)

namespace epoch::detail {

// The errno that a status came from, which its code does not tell; 0: from none.
inline constexpr char kErrnoUrl[] = "epoch/errno";
inline int ErrnoOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrnoUrl);
  return payload.has_value() ? std::atoi(std::string(*payload).c_str()) : 0;
}
inline absl::Status WithErrno(absl::Status status, int error) {
  status.SetPayload(kErrnoUrl, absl::Cord(absl::StrCat(error)));
  return status;
}

inline absl::Status StatusFor(int error, const std::string& message) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
    case EISDIR:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

// `what` failed with `error`: the status code that fits, and the kernel's words.
inline absl::Status ErrnoStatus(int error, const std::string& what) {
  return WithErrno(StatusFor(error, absl::StrCat(what, ": ", std::strerror(error))), error);
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_CHECK_H_
