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

Disk::~Disk() { StopRing(); }

bool Disk::StartRing(bool single_issuer) {
  io_uring_params params{};
  // One thread submits, completions are reaped where they are waited for: no scheduler tick.
  if (single_issuer) params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  int error = EPOCH_FAULT("uring.setup");
  if (error == 0) error = -io_uring_queue_init_params(4, &ring_, &params);
  if (error == EINVAL && single_issuer) return StartRing(false);  // an older kernel
  state_ = error == 0 ? Ring::kReady : Ring::kRefused;
  registered_fd_ = -1;
  return error == 0;
}

void Disk::StopRing() {
  // The kernel takes a ring apart in the background; the segment's lock must not wait for that.
  Release();
  if (state_ == Ring::kReady) io_uring_queue_exit(&ring_);
  state_ = Ring::kUntried;
}

void Disk::AfterForkInChild() noexcept {
  if (state_ != Ring::kReady) return;
  // The ring holds the segment's description, and with it the parent's lock.
  munmap(ring_.sq.sqes, ring_.sq.ring_entries * sizeof(io_uring_sqe));
  munmap(ring_.sq.ring_ptr, ring_.sq.ring_sz);
  if (ring_.cq.ring_ptr != ring_.sq.ring_ptr) munmap(ring_.cq.ring_ptr, ring_.cq.ring_sz);
  sys::close(ring_.ring_fd);
  ring_ = {};
  state_ = Ring::kUntried;
}

const char* Disk::backend() {
  if (state_ == Ring::kUntried) StartRing(true);
  return state_ == Ring::kReady ? "io_uring" : "pwritev2";
}

void Disk::Release() {
  if (state_ == Ring::kReady && registered_fd_ >= 0) io_uring_unregister_files(&ring_);
  registered_fd_ = -1;
}

int Disk::WriteDurably(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  constexpr std::size_t kPieceBytes = std::size_t{256} << 20;  // one call takes less than 2 GiB
  while (size > kPieceBytes) {
    if (const int error = WritePiece(fd, from, kPieceBytes, offset); error != 0) return error;
    from += kPieceBytes;
    offset += kPieceBytes;
    size -= kPieceBytes;
  }
  return WritePiece(fd, from, size, offset);
}

int Disk::WritePiece(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  if (state_ == Ring::kUntried) StartRing(true);
  if (state_ == Ring::kReady) {
    const int error = WriteByRing(fd, from, size, offset);
    if (error != ENOSYS) return error;
  }
  return WriteByCall(fd, from, size, offset);
}

// ENOSYS: the ring is of no use (any more); nothing is under way.
int Disk::WriteByRing(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (registered_fd_ != fd) {
      if (registered_fd_ >= 0) io_uring_unregister_files(&ring_);
      registered_fd_ = io_uring_register_files(&ring_, &fd, 1) == 0 ? fd : -1;
    }
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) break;
    const bool fixed = registered_fd_ == fd;
    io_uring_prep_write(sqe, fixed ? 0 : fd, from, static_cast<unsigned>(size), offset);
    sqe->rw_flags = RWF_DSYNC;
    if (fixed) sqe->flags |= IOSQE_FIXED_FILE;
    const int fault = EPOCH_FAULT("journal.write");
    int submitted = 0;
    io_uring_cqe* cqe = nullptr;
    do {
      submitted = io_uring_submit_and_wait(&ring_, 1);
    } while (submitted == -EINTR || submitted == -EAGAIN);
    if (submitted == -EEXIST) {
      // Another thread of this process than the one that made the ring: make one for all threads.
      StopRing();
      if (!StartRing(false)) return ENOSYS;
      continue;
    }
    // Whatever the call said: once submitted, the buffer is the kernel's until the completion.
    while (io_uring_peek_cqe(&ring_, &cqe) != 0) {
      const int waited = io_uring_wait_cqe(&ring_, &cqe);
      if (waited == 0) break;
      if (waited != -EINTR && waited != -EAGAIN) {
        StopRing();  // waits for what is in flight
        state_ = Ring::kRefused;
        return ENOSYS;
      }
    }
    const int result = fault != 0 ? -fault : cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    if (result == static_cast<int>(size)) return 0;
    if (result >= 0) continue;  // short: the whole batch again
    switch (-result) {
      case EAGAIN:
      case EINTR:
      case ECANCELED:
      case ENOMEM:
        sys::sched_yield();
        continue;
      case EINVAL:
      case EOPNOTSUPP:
        break;  // this ring can not do it; the call may
      default:
        return -result;
    }
    break;
  }
  StopRing();
  state_ = Ring::kRefused;
  return ENOSYS;
}

int Disk::WriteByCall(int fd, const std::byte* from, std::size_t size, std::uint64_t offset) {
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
      if (sys::pwrite(fd, from, size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size)) {
        if (errno == EINTR) continue;
        return errno != 0 ? errno : EIO;
      }
      return sys::fdatasync(fd) == 0 ? 0 : errno;
    }
    return error;
  }
}

}  // namespace epoch::journal
