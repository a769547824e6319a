// Whether the words say truly where a batch ends. What follows is written there, so an end that is
// wrong means that acknowledged data is written over, or that a hole is left which recovery takes
// for the end. It is not taken on trust: it follows from a batch whose end this process knows, from
// the versions that are still in memory, or from the disk.
//
// Thread safety: used under the port's mutex.
// Costs: one compare for whoever wrote the last batch itself; a look at the versions of another's;
// a block read when those are gone, as for the first batch that a process writes.
#ifndef EPOCH_CORE_JOURNAL_WRITE_ENDS_H_
#define EPOCH_CORE_JOURNAL_WRITE_ENDS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/journal/batch/batch.h"
#include "core/journal/batch/ring.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

class Ends {
 public:
  enum class Verdict { kRight, kStale, kWrong };

  Ends(const detail::RegionView& view, const detail::Superblock& super, const BatchBuilder& builder)
      : view_(view), super_(super), builder_(builder) {}

  // Of batch s + `offset`, which ends in `segment`. Errors: the segment cannot be read.
  absl::StatusOr<Verdict> Check(const RingReading& ring, int offset, const OpenSegment& segment);
  // This process has found it so, or computed it.
  void Remember(const RingReading& ring, int offset) {
    known_[SlotOf(ring, offset)] = {NameOf(ring.At(offset).w), ring.At(offset).e};
  }

  // What another thread had half changed is begun anew.
  void AfterForkInChild() noexcept {
    std::construct_at(&pieces_);
    known_ = {};
  }

 private:
  struct Known {
    std::uint64_t name = 0, end = 0;
  };
  // A batch, whatever its state: its W without that.
  static std::uint64_t NameOf(std::uint64_t w) { return w & ((std::uint64_t{1} << 62) - 1); }
  static std::size_t SlotOf(const RingReading& ring, int offset) {
    return static_cast<std::size_t>(RingReading::Slot(ring.newest + offset));
  }

  Verdict Wrong(const RingReading& ring, int offset) const;
  bool IsThere(const Piece& piece) const;
  bool InMemory(const RingReading& ring, int offset, std::uint64_t& base_blocks,
                std::uint64_t& blocks);
  absl::StatusOr<Verdict> OnDisk(const RingReading& ring, int offset, const OpenSegment& segment);

  const detail::RegionView& view_;
  const detail::Superblock& super_;
  const BatchBuilder& builder_;
  std::array<Known, detail::kBatchRingSlots> known_{};
  std::vector<Piece> pieces_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_ENDS_H_
