// Assertions and error text.
#ifndef EPOCH_DETAIL_CHECK_H_
#define EPOCH_DETAIL_CHECK_H_

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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

// `what` failed with `error`: the status code that fits, and the kernel's words.
inline absl::Status ErrnoStatus(int error, const std::string& what) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
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

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_CHECK_H_
