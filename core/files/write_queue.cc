#include "core/files/write_queue.h"

#ifndef EPOCH_SEAM_HEADER

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "epoch/detail/platform/blame.h"

namespace epoch::journal {
namespace {

// Above the tag: the errno of an entry that a test lets fail. Such a one is submitted as one that
// does nothing, so whoever takes it for done has lost something.
constexpr int kFaultShift = 32;
constexpr std::uint64_t kTagMask = (std::uint64_t{1} << kFaultShift) - 1;

void LetFail(io_uring_sqe* sqe, std::uint64_t tag, int fault) {
  io_uring_prep_nop(sqe);
  io_uring_sqe_set_data64(sqe, tag | static_cast<std::uint64_t>(fault) << kFaultShift);
}

}  // namespace

WriteQueue::~WriteQueue() {
  while (in_flight_ > 0 && Reap(/*wait=*/true).has_value()) {
  }
  if (made_) io_uring_queue_exit(&ring_);
}

bool WriteQueue::Ready() {
  if (state_ == State::kUntried) {
    int error = EPOCH_FAULT("uring.setup");
    if (error == 0) {
      const sys::StandardNumbersHeld held;
      error = -io_uring_queue_init(kDepth, &ring_, 0);
    }
    made_ = error == 0;
    // Another thread was in between, and the ring cannot be moved: it is done without.
    if (made_ && ring_.ring_fd <= STDERR_FILENO) {
      io_uring_queue_exit(&ring_);
      made_ = false;
    }
    state_ = made_ ? State::kReady : State::kRefused;
  }
  return state_ == State::kReady;
}

bool WriteQueue::Send() {
  int sent = 0;
  detail::Retries retries;
  do {
    const int fault = EPOCH_FAULT("uring.submit");
    sent = fault != 0 ? -fault : io_uring_submit(&ring_);
  } while (sent == -EINTR && retries.Again(EINTR));
  if (sent == 1) {
    ++in_flight_;
    return true;
  }
  // The kernel did not take it, so it must not be found in the ring by a later call: this ring is
  // not used for anything new. What was taken before is still waited for.
  state_ = State::kRefused;
  return false;
}

bool WriteQueue::Submit(int fd, const std::byte* from, std::size_t size, std::uint64_t offset,
                        bool durably, std::uint64_t tag) {
  io_uring_sqe* const sqe = Ready() && in_flight_ < kDepth ? io_uring_get_sqe(&ring_) : nullptr;
  if (sqe == nullptr) return false;
  const int fault = EPOCH_FAULT("uring.write");
  // A test's negative number: so many bytes are left out.
  if (fault < 0) size -= std::min(size, static_cast<std::size_t>(-fault));
  io_uring_prep_write(sqe, fd, from, static_cast<unsigned>(size), offset);
  if (durably) sqe->rw_flags = RWF_DSYNC;
  io_uring_sqe_set_data64(sqe, tag);
  if (fault > 0) LetFail(sqe, tag, fault);
  return Send();
}

bool WriteQueue::SubmitSync(int fd, std::uint64_t tag) {
  io_uring_sqe* const sqe = Ready() && in_flight_ < kDepth ? io_uring_get_sqe(&ring_) : nullptr;
  if (sqe == nullptr) return false;
  io_uring_prep_fsync(sqe, fd, 0);
  io_uring_sqe_set_data64(sqe, tag);
  if (const int fault = EPOCH_FAULT("uring.sync"); fault > 0) LetFail(sqe, tag, fault);
  return Send();
}

bool WriteQueue::SubmitUnlink(int directory, const char* name, std::uint64_t tag) {
  io_uring_sqe* const sqe = Ready() && in_flight_ < kDepth ? io_uring_get_sqe(&ring_) : nullptr;
  if (sqe == nullptr) return false;
  io_uring_prep_unlinkat(sqe, directory, name, 0);
  io_uring_sqe_set_data64(sqe, tag);
  if (const int fault = EPOCH_FAULT("uring.unlink"); fault > 0) LetFail(sqe, tag, fault);
  return Send();
}

std::optional<WriteQueue::Done> WriteQueue::Reap(bool wait) {
  if (in_flight_ == 0) return std::nullopt;
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) != 0) {
    if (!wait) return std::nullopt;
    const int waited = io_uring_wait_cqe(&ring_, &cqe);
    if (waited == 0) break;
    if (waited != -EINTR && waited != -EAGAIN) return std::nullopt;
  }
  const auto fault = static_cast<int>(cqe->user_data >> kFaultShift);
  const Done done{cqe->user_data & kTagMask, fault != 0 ? -fault : cqe->res};
  io_uring_cqe_seen(&ring_, cqe);
  --in_flight_;
  return done;
}

void WriteQueue::AfterForkInChild() noexcept {
  if (made_) {
    // The ring holds the segment's description, and with it the parent's lock.
    munmap(ring_.sq.sqes, ring_.sq.ring_entries * sizeof(io_uring_sqe));
    munmap(ring_.sq.ring_ptr, ring_.sq.ring_sz);
    if (ring_.cq.ring_ptr != ring_.sq.ring_ptr) munmap(ring_.cq.ring_ptr, ring_.cq.ring_sz);
    sys::close(ring_.ring_fd);
  }
  ring_ = {};
  made_ = false;
  in_flight_ = 0;
  state_ = State::kUntried;
}

const char* WriteBackend() { return WriteQueue().Ready() ? "io_uring" : "pwritev2"; }

}  // namespace epoch::journal

#endif  // EPOCH_SEAM_HEADER
