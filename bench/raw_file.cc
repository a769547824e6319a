#include "bench/raw_file.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace epoch::bench {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kFileBytes = 16 << 20;  // as a segment

void Check(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::abort();
}

}  // namespace

const char* NameOf(RawWay way) {
  switch (way) {
    case RawWay::kDirectSync:
      return "O_DIRECT|O_DSYNC";
    case RawWay::kFdatasync:
      return "pwrite+fdatasync";
    case RawWay::kRwfDsync:
      return "pwritev2(RWF_DSYNC)";
    case RawWay::kRing:
      return "io_uring";
  }
  return "?";
}

RawFile::RawFile(const std::string& path, RawWay way, std::size_t blocks)
    : way_(way),
      bytes_(blocks * kBlock),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kBlock, bytes_)), &std::free) {
  std::memset(buffer_.get(), 7, bytes_);
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  Check(fd_ >= 0, "open");
  const std::vector<char> zeros(1 << 20);
  Check(posix_fallocate(fd_, 0, kFileBytes) == 0, "posix_fallocate");
  for (std::size_t at = 0; at < kFileBytes; at += zeros.size()) {
    Check(write(fd_, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()), "write");
  }
  Check(fsync(fd_) == 0, "fsync");
  if (way == RawWay::kFdatasync) return;
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);  // else each first write would throw a page out
  close(fd_);
  const int sync = way == RawWay::kDirectSync ? O_DSYNC : 0;
  fd_ = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | sync);
  Check(fd_ >= 0, "open O_DIRECT");
  if (way == RawWay::kRing) StartRing();
}

RawFile::~RawFile() {
  if (way_ == RawWay::kRing && ok_) io_uring_queue_exit(&ring_);
  close(fd_);
}

void RawFile::StartRing() {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  ok_ = io_uring_queue_init_params(4, &ring_, &params) == 0;
  if (!ok_) return;
  const iovec buffer{.iov_base = buffer_.get(), .iov_len = bytes_};
  Check(io_uring_register_files(&ring_, &fd_, 1) == 0, "io_uring_register_files");
  Check(io_uring_register_buffers(&ring_, &buffer, 1) == 0, "io_uring_register_buffers");
}

void RawFile::WriteByRing() {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  Check(sqe != nullptr, "io_uring_get_sqe");
  io_uring_prep_write_fixed(sqe, 0, buffer_.get(), static_cast<unsigned>(bytes_), at_, 0);
  sqe->rw_flags = RWF_DSYNC;
  sqe->flags |= IOSQE_FIXED_FILE;
  int submitted = 0;
  do {
    submitted = io_uring_submit_and_wait(&ring_, 1);
  } while (submitted == -EINTR || submitted == -EAGAIN);
  Check(submitted >= 0, "io_uring_submit_and_wait");
  io_uring_cqe* cqe = nullptr;
  Check(io_uring_wait_cqe(&ring_, &cqe) == 0, "io_uring_wait_cqe");
  Check(cqe->res == static_cast<int>(bytes_), "io_uring write");
  io_uring_cqe_seen(&ring_, cqe);
}

void RawFile::Write() {
  if (at_ + bytes_ > kFileBytes) at_ = 0;
  const auto offset = static_cast<off_t>(at_);
  switch (way_) {
    case RawWay::kRing:
      WriteByRing();
      break;
    case RawWay::kRwfDsync: {
      const iovec piece{.iov_base = buffer_.get(), .iov_len = bytes_};
      const ssize_t put = pwritev2(fd_, &piece, 1, offset, RWF_DSYNC);
      Check(put == static_cast<ssize_t>(bytes_), "pwritev2");
      break;
    }
    default: {
      const ssize_t put = pwrite(fd_, buffer_.get(), bytes_, offset);
      Check(put == static_cast<ssize_t>(bytes_), "pwrite");
      if (way_ == RawWay::kFdatasync) Check(fdatasync(fd_) == 0, "fdatasync");
    }
  }
  at_ += bytes_;
}

}  // namespace epoch::bench
