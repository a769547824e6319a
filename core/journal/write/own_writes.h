// What io_uring has in flight for this process: the batches that it sent, and whatever else shares
// its queue (a spare, what follows a roll).
//
// A write that was sent lands even if this process dies. Until its result was taken its memory
// stays as it is; where that cannot be waited for, it is never used again (Leak).
//
// Thread safety: external, but for in_flight().
// Progress: never waits, but for Reap(true).
// Invariants: a write is under way from Send until its result was taken; a batch is never sent
// twice at a time. At most kMost are: more fill no disk, and would keep others waiting.
// Barriers: none. in_flight() is a hint, read relaxed: a look too few is made up for by the next.
#ifndef EPOCH_CORE_JOURNAL_WRITE_OWN_WRITES_H_
#define EPOCH_CORE_JOURNAL_WRITE_OWN_WRITES_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/files/disk.h"
#include "core/files/write_queue.h"
#include "core/journal/batch/ring.h"

namespace epoch::journal {

class OwnWrites {
 public:
  static constexpr std::size_t kMost = 4;
  // A larger one takes several calls, and is waited for.
  static constexpr std::uint64_t kMostBlocks = (std::uint64_t{64} << 20) / kBlockBytes;

  // Which batch, and where it goes.
  struct Batch {
    BatchWords* words = nullptr;  // null: none
    std::uint64_t w = 0;
    std::uint64_t segment = 0;
    std::int64_t started_ns = 0;
  };
  struct Write {
    Batch batch;
    AlignedBuffer buffer;
    std::size_t size = 0;
  };
  // What the result of a write says.
  enum class News : std::uint8_t {
    kWhole,    // all of it is on stable storage
    kFailed,   // the device's trouble
    kRefused,  // this process's, or a part was written; the queue would only say the same again
    kNothing,  // nobody's: as if it had not been tried
  };
  struct Landed {
    Batch batch;
    News news = News::kNothing;
  };

  bool any() const { return !IsEmpty(); }
  // Whether that batch is under way.
  bool Holds(std::uint64_t w) const;
  // Null: as many as may be are under way.
  Write* Free();
  // Sends what its buffer holds. False: it could not be, and is free again.
  bool Send(Write& write, const Batch& batch, std::size_t size, int fd, std::uint64_t offset);

  // One entry that is done, of a batch or another's (its tag says so); `wait`: for one.
  std::optional<WriteQueue::Done> Reap(bool wait) { return queue_.Reap(wait); }
  // What came of a batch that is done. It is under way no more.
  Landed Take(const WriteQueue::Done& done);

  // The queue, for what others put there; then Note().
  WriteQueue& queue() { return queue_; }
  bool Ready() const { return queue_.Ready(); }
  void Note() { in_flight_.store(queue_.in_flight(), std::memory_order_relaxed); }
  // How many entries were there at the last Note(). Thread safety: any.
  unsigned in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  // What is in flight cannot be waited for: its memory must never be used again.
  void Leak();
  void AfterForkInChild() noexcept;

 private:
  bool IsEmpty() const;

  std::array<Write, kMost> writes_;
  mutable WriteQueue queue_;  // waits, at its end, for what writes from above
  std::atomic<unsigned> in_flight_{0};
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_OWN_WRITES_H_
