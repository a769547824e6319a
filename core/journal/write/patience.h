// How long another process may take for a batch that it froze, before this one writes it, too.
//
// Nothing but the time of help depends on it: who writes a batch late, or too early, puts the same
// bytes to the same place.
//
// Thread safety: external. Progress: wait-free, but for asking the kernel who lives.
// Costs: nothing for one's own batches; for another's a clock, and a look at its lock.
// Barriers: none. All words are advice, read relaxed.
#ifndef EPOCH_CORE_JOURNAL_WRITE_PATIENCE_H_
#define EPOCH_CORE_JOURNAL_WRITE_PATIENCE_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/journal/batch/ring.h"
#include "epoch/detail/memory/liveness.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

class Patience {
 public:
  explicit Patience(const detail::Mapping& mapping) : mapping_(mapping), view_(mapping.view()) {}

  // How long the writer of batch s + `offset` may still take. Not positive: it is dead, or has had
  // its time, or there is nothing to wait for.
  std::int64_t Left_ns(const RingReading& ring, int offset) {
    constexpr std::int64_t kMillisecond_ns = 1'000'000;
    const BatchReading& batch = ring.At(offset);
    // One without versions is only in the way.
    if (BatchW::Unpack(batch.w).hint_only) return 0;
    // Its writer may have given up for want of space, and not be back.
    if (view_.control->journal_stall_errno.Load(kRelaxed) != 0) return 0;
    const std::int64_t now = seam::MonotonicNanos();
    Since& since = seen_[static_cast<std::size_t>(RingReading::Slot(ring.newest + offset))];
    if (since.w != batch.w) since = {batch.w, now};
    const std::uint64_t writer = ring.WordsAt(*view_.control, offset).writer.Load(kRelaxed);
    if (writer - 1 < view_.geometry.participants &&
        !detail::OwnerAlive(mapping_.probe_fd(), static_cast<std::uint32_t>(writer - 1))) {
      return 0;
    }
    const std::int64_t latency = std::clamp<std::int64_t>(
        view_.control->flush_latency_ns.Load(kRelaxed), 0, 300 * kMillisecond_ns);
    std::int64_t allowed = std::max(3 * latency, 2 * kMillisecond_ns);
    // A new segment takes longer to make than a batch to write, and to make it twice helps nobody.
    if (ring.Opens(offset)) allowed += 100 * kMillisecond_ns;
    return since.time_ns + allowed - now;
  }

 private:
  // When a batch was seen first.
  struct Since {
    std::uint64_t w = 0;
    std::int64_t time_ns = 0;
  };

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  std::array<Since, detail::kBatchRingSlots> seen_{};
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_PATIENCE_H_
