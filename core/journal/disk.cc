#include "core/journal/disk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "epoch/detail/check.h"
#include "epoch/detail/seam.h"
#include "epoch/detail/system_calls.h"

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

absl::StatusOr<Fd> OpenToRead(const std::string& path) {
  Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("can not open ", path));
  return fd;
}

absl::StatusOr<Fd> OpenDirect(const std::string& path, int flags, bool& direct) {
  direct = true;
  Fd fd(sys::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.ok() && errno == EINVAL) {
    direct = false;
    fd = Fd(sys::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("can not open ", path));
  return fd;
}

absl::StatusOr<Fd> OpenUnnamedDirect(const std::string& directory, unsigned mode, bool& direct) {
  direct = true;
  absl::StatusOr<Fd> fd = detail::OpenUnnamed(directory, mode, O_DIRECT);
  if (absl::IsInvalidArgument(fd.status())) {
    direct = false;
    fd = detail::OpenUnnamed(directory, mode);
  }
  return fd;
}

absl::Status ReadExactly(int fd, std::byte* to, std::size_t size, std::uint64_t offset,
                         const std::string& path) {
  while (size > 0) {
    const int fault = EPOCH_FAULT("journal.read");
    const ssize_t got = fault != 0 ? -1 : sys::pread(fd, to, size, static_cast<off_t>(offset));
    if (got < 0) {
      const int error = fault != 0 ? fault : errno;
      if (error == EINTR) continue;
      return absl::InternalError(absl::StrCat(path, ": read error at offset ", offset, ": ",
                                              std::strerror(error),
                                              "; nothing was changed, nothing was cut"));
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

absl::Status WriteFully(int fd, const std::byte* from, std::size_t size, std::uint64_t offset,
                        const std::string& path) {
  while (size > 0) {
    const int fault = EPOCH_FAULT("journal.prepare");
    const ssize_t put = fault != 0 ? -1 : sys::pwrite(fd, from, size, static_cast<off_t>(offset));
    if (put < 0) {
      const int error = fault != 0 ? fault : errno;
      if (error == EINTR) continue;
      return ErrnoStatus(error, absl::StrCat("can not write ", path));
    }
    from += put;
    offset += static_cast<std::uint64_t>(put);
    size -= static_cast<std::size_t>(put);
  }
  return absl::OkStatus();
}

bool IsTransient(int error) {
  return error == EINTR || error == EAGAIN || error == ENOMEM || error == ECANCELED ||
         error == EINVAL || error == EOPNOTSUPP;  // the last two: of io_uring, not of the device
}

namespace {

int WritePiece(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  for (;;) {
    iovec piece{.iov_base = const_cast<std::byte*>(from), .iov_len = size};
    const int fault = EPOCH_FAULT("journal.write");
    const ssize_t put =
        fault != 0 ? -1 : sys::pwritev2(fd, &piece, 1, static_cast<off_t>(offset), RWF_DSYNC);
    if (put == static_cast<ssize_t>(size)) return 0;
    if (put >= 0) continue;  // short: the whole batch again
    const int error = fault != 0 ? fault : errno;
    if (error == EINTR || error == EAGAIN || error == ENOMEM) {
      sys::sched_yield();
      continue;
    }
    if (error == EOPNOTSUPP || error == ENOSYS) {  // no RWF_DSYNC: write, then sync
      const ssize_t plain = sys::pwrite(fd, from, size, static_cast<off_t>(offset));
      if (plain >= 0 && plain != static_cast<ssize_t>(size)) continue;
      if (plain < 0 && errno == EINTR) continue;
      if (plain < 0) return errno;
      return sys::fdatasync(fd) == 0 ? 0 : errno;
    }
    return error;
  }
}

}  // namespace

int WriteDurably(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  constexpr std::size_t kPieceBytes = std::size_t{256} << 20;  // one call takes less than 2 GiB
  while (size > kPieceBytes) {
    if (const int error = WritePiece(fd, from, kPieceBytes, offset); error != 0) return error;
    from += kPieceBytes;
    offset += kPieceBytes;
    size -= kPieceBytes;
  }
  return WritePiece(fd, from, size, offset);
}

}  // namespace epoch::journal
