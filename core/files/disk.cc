#include "core/files/disk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/detail/platform/system_calls.h"

namespace epoch::journal {

using detail::ErrnoStatus;
using detail::Fd;

void AlignedBuffer::Unmap::operator()(std::byte* data) const { munmap(data, size); }

AlignedBuffer::AlignedBuffer(std::size_t size) {
  // Large buffers in huge pages: faulting in 16 MiB by 4 KiB costs as much as reading it.
  constexpr std::size_t kHugeBytes = std::size_t{2} << 20;
  const std::size_t unit = size >= kHugeBytes ? kHugeBytes : kBlockBytes;
  const std::size_t whole = (size + unit - 1) / unit * unit;
  const std::size_t slack = size >= kHugeBytes ? kHugeBytes : 0;
  void* memory =
      mmap(nullptr, whole + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  auto* const base = static_cast<std::byte*>(memory);
  const std::size_t skip = (unit - reinterpret_cast<std::uintptr_t>(base) % unit) % unit;
  if (slack != 0) {
    if (skip != 0) munmap(base, skip);
    if (slack != skip) munmap(base + skip + whole, slack - skip);
    madvise(base + skip, whole, MADV_HUGEPAGE);
  }
  data_ = std::unique_ptr<std::byte, Unmap>(base + (slack != 0 ? skip : 0), Unmap(whole));
  size_ = size;
}

absl::StatusOr<Fd> OpenToRead(const std::string& path, int at) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Fd fd(at == AT_FDCWD ? sys::open(path.c_str(), kFlags)
                       : sys::openat(at, detail::NameIn(path).c_str(), kFlags));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  return fd;
}

absl::StatusOr<Fd> OpenDirect(const std::string& path, int flags, bool& direct) {
  direct = true;
  Fd fd(sys::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.ok() && errno == EINVAL) {
    direct = false;
    fd = Fd(sys::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  return fd;
}

absl::StatusOr<Fd> OpenUnnamedDirect(const std::string& directory, const detail::Access& access,
                                     bool& direct) {
  direct = true;
  absl::StatusOr<Fd> fd = detail::OpenUnnamed(directory, access, O_DIRECT);
  if (absl::IsInvalidArgument(fd.status())) {
    direct = false;
    fd = detail::OpenUnnamed(directory, access);
  }
  return fd;
}

absl::Status ReadExactly(int fd, std::byte* to, std::size_t size, std::uint64_t offset,
                         const std::string& path) {
  if (to == nullptr && size > 0) {
    return ErrnoStatus(ENOMEM, absl::StrCat("no memory to read ", path));
  }
  for (detail::Retries retries; size > 0;) {
    const int fault = EPOCH_FAULT("journal.read");
    const ssize_t got = fault != 0 ? -1 : sys::pread(fd, to, size, static_cast<off_t>(offset));
    if (got < 0) {
      const int error = fault != 0 ? fault : errno;
      if (retries.Again(error)) continue;
      return ErrnoStatus(error, absl::StrCat(path, ": read error at offset ", offset));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path, " is truncated at offset ", offset));
    }
    to += got;
    offset += static_cast<std::uint64_t>(got);
    size -= static_cast<std::size_t>(got);
  }
  return absl::OkStatus();
}

namespace {

// One call takes less than 2 GiB.
constexpr std::size_t kMostOfOneCallBytes = std::size_t{256} << 20;

// The one rule of how what a write did not do is done: it goes on with the rest, in whole blocks,
// as direct writes must, until all is written or the error shows that stopped it. 0, or that errno.
// `write` is the call, which returns -1 and an errno. `in_parts`: set if a call did only a part.
template <typename Write>
int WriteAll(const std::byte* from, std::size_t size, std::uint64_t offset, bool& in_parts,
             Write&& write) {
  // Where a file may become no larger, a direct write is cut in the middle of a block, and refused
  // for that.
  const auto reason = [&](int error) {
    struct rlimit limit {};
    const bool at_limit = error == EINVAL && sys::getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
                          limit.rlim_cur != RLIM_INFINITY && offset + size > limit.rlim_cur;
    return at_limit ? EFBIG : error;
  };
  int idle = 0;
  for (detail::Retries retries; size > 0;) {
    const std::size_t piece = std::min(size, kMostOfOneCallBytes);
    ssize_t put = write(from, piece, offset);
    if (put < 0) {
      if (retries.Again(errno)) continue;
      return reason(errno);
    }
    auto done = static_cast<std::size_t>(put);
    if (done < piece) {
      in_parts = true;
      if (done != 0 && done < kBlockBytes) {
        // Not one block. From its beginning the same would come out: what stops it shows behind.
        put = write(from + done, piece - done, offset + done);
        if (put < 0 && !retries.Again(errno)) return reason(errno);
        if (put > 0) done += static_cast<std::size_t>(put);
      }
      if (done < piece) done -= done % kBlockBytes;
      // A call that does nothing, and says nothing: a filter's answer, say.
      if (done == 0 && ++idle == 3) return ECANCELED;
    }
    if (done == 0) continue;
    retries.Progress();
    idle = 0;
    from += done;
    offset += done;
    size -= done;
  }
  return 0;
}

}  // namespace

absl::Status WriteFully(int fd, const std::byte* from, std::size_t size, std::uint64_t offset,
                        const std::string& path) {
  bool in_parts = false;
  const int error = WriteAll(from, size, offset, in_parts,
                             [fd](const std::byte* bytes, std::size_t count, std::uint64_t at) {
                               const int fault = EPOCH_FAULT("journal.prepare");
                               if (fault == 0) {
                                 return sys::pwrite(fd, bytes, count, static_cast<off_t>(at));
                               }
                               errno = fault;
                               return ssize_t{-1};
                             });
  return error == 0 ? absl::OkStatus() : ErrnoStatus(error, absl::StrCat("cannot write ", path));
}

int WriteDurably(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  bool plain = false;  // there is no RWF_DSYNC to be had
  // A sync of the file vouches for all that the call did not: of a part that it did, no filesystem
  // says whether that is stable.
  bool sync_after = false;
  const auto write = [&](const std::byte* bytes, std::size_t count, std::uint64_t at) {
    iovec piece{.iov_base = const_cast<std::byte*>(bytes), .iov_len = count};
    const int fault = EPOCH_FAULT("journal.write");
    if (fault != 0) {
      errno = fault;
      return ssize_t{-1};
    }
    if (!plain) {
      const ssize_t put = sys::pwritev2(fd, &piece, 1, static_cast<off_t>(at), RWF_DSYNC);
      if (put >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) return put;
      plain = sync_after = true;
    }
    return sys::pwrite(fd, bytes, count, static_cast<off_t>(at));
  };
  const int error = WriteAll(from, size, offset, sync_after, write);
  return error != 0 || !sync_after ? error : SyncData(fd);
}

int SyncData(int fd) {
  return detail::Retried([fd] { return sys::fdatasync(fd); });
}

int SyncAll(int fd) {
  return detail::Retried([fd] { return sys::fsync(fd); });
}

int Reserve(int fd, std::uint64_t bytes, const char* label) {
  const int error = detail::Allocate(fd, bytes, label);
  return error == EOPNOTSUPP || error == EINVAL || error == ENOSYS ? 0 : error;
}

}  // namespace epoch::journal
