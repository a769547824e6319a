// Writes that go on while the process does something else: io_uring.
//
// A write that was submitted lands even if this process dies, possibly long after it is gone. That
// is harmless by design: its place is written once, and it goes through the description that
// carries the segment's lock. What must not happen is that its memory changes before it has landed.
#ifndef EPOCH_CORE_FILES_WRITE_QUEUE_H_
#define EPOCH_CORE_FILES_WRITE_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "epoch/detail/platform/seam.h"
#include "epoch/detail/platform/system_calls.h"

#ifdef EPOCH_SEAM_HEADER  // brings its own
namespace epoch::journal {
using sys::WriteQueue;
}
#else

#include <liburing.h>

namespace epoch::journal {

// Thread safety: external; any thread, one at a time.
class WriteQueue {
 public:
  static constexpr unsigned kDepth = 8;

  struct Done {
    std::uint64_t tag;
    int result;  // what pwritev2 would have returned, or minus an errno
  };

  WriteQueue() = default;
  // Waits for what is in flight. If even that fails, in_flight() was not 0 after Reap(true) had
  // returned nothing, and the memory of those writes must never be used for anything else.
  ~WriteQueue();
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  // Whether there is one to be had here; made at the first call. Containers often refuse it.
  bool Ready();

  // Tags are less than 2^32.
  // False: not submitted, and `from` is the caller's. Otherwise it must stay as it is until Reap
  // returned its tag. `durably`: done means on stable storage.
  bool Submit(int fd, const std::byte* from, std::size_t size, std::uint64_t offset, bool durably,
              std::uint64_t tag);
  // It turned out to be of no use here: no more is submitted.
  void Refuse() { state_ = State::kRefused; }
  // A sync of what was done to that file, or directory, before.
  bool SubmitSync(int fd, std::uint64_t tag);
  // Removes a name from a directory; both must stay as they are until Reap returned its tag.
  bool SubmitUnlink(int directory, const char* name, std::uint64_t tag);

  // One that is done, if there is one, or `wait`ing for it if any is in flight.
  std::optional<Done> Reap(bool wait);
  unsigned in_flight() const { return in_flight_; }

  // In a fork child: forgets the parent's ring without touching what the kernel shares.
  void AfterForkInChild() noexcept;

 private:
  enum class State { kUntried, kReady, kRefused };

  bool Send();

  State state_ = State::kUntried;
  bool made_ = false;
  unsigned in_flight_ = 0;
  io_uring ring_{};
};

// How a process that proposes without waiting would write: "io_uring", or "pwritev2" (then it
// waits) where that is refused.
const char* WriteBackend();

}  // namespace epoch::journal

#endif  // EPOCH_SEAM_HEADER
#endif  // EPOCH_CORE_FILES_WRITE_QUEUE_H_
