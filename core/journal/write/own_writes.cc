#include "core/journal/write/own_writes.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

bool OwnWrites::IsEmpty() const {
  return std::none_of(writes_.begin(), writes_.end(),
                      [](const Write& write) { return write.batch.words != nullptr; });
}

bool OwnWrites::Holds(std::uint64_t w) const {
  return std::any_of(writes_.begin(), writes_.end(), [w](const Write& write) {
    return write.batch.words != nullptr && write.batch.w == w;
  });
}

OwnWrites::Write* OwnWrites::Free() {
  for (Write& write : writes_) {
    if (write.batch.words == nullptr) return &write;
  }
  return nullptr;
}

bool OwnWrites::Send(Write& write, const Batch& batch, std::size_t size, int fd,
                     std::uint64_t offset) {
  write.batch = batch;
  write.size = size;
  write.batch.started_ns = seam::MonotonicNanos();
  EPOCH_POINT("journal.before_submit");
  if (queue_.Submit(fd, write.buffer.data(), size, offset, /*durably=*/true,
                    static_cast<std::uint64_t>(&write - writes_.data()))) {
    Note();
    return true;
  }
  write.batch.words = nullptr;
  return false;
}

OwnWrites::Landed OwnWrites::Take(const WriteQueue::Done& done) {
  Write& write = writes_[done.tag];
  Landed landed{write.batch, News::kNothing};
  write.batch.words = nullptr;
  EPOCH_POINT("journal.written");
  const int fault = EPOCH_FAULT("journal.write");
  const int result = fault != 0 ? -fault : done.result;
  if (result >= 0) {
    // A part: something was in the way.
    const bool whole = static_cast<std::size_t>(result) == write.size;
    landed.news = whole ? News::kWhole : News::kRefused;
    return landed;
  }
  if (result == -EINVAL || result == -EOPNOTSUPP) queue_.Refuse();
  switch (detail::BlameFor(-result, detail::Attempt::kWrite)) {
    case detail::Blame::kDevices:
      landed.news = News::kFailed;
      break;
    case detail::Blame::kCallers:
      landed.news = News::kRefused;
      break;
    default:
      break;
  }
  return landed;
}

void OwnWrites::Leak() {
  for (Write& write : writes_) write.buffer.Leak();
}

void OwnWrites::AfterForkInChild() noexcept {
  for (Write& write : writes_) write.batch.words = nullptr;
  in_flight_.store(0, std::memory_order_relaxed);
  queue_.AfterForkInChild();
}

}  // namespace epoch::journal
