// One batch to the disk: its bytes are built, written into the segment that it goes to, and it is
// Written; or why not.
//
// Its bytes are a function of the frozen words and of immutable versions, and its place is written
// once. So killed or stopped at any point, others finish the same batch; a process that wakes up
// later finds that the words have moved on before it submits, and one that is past that can only
// repeat the same bytes, or hit a segment nobody reads any more.
//
// Thread safety: external; any number of processes.
// Progress: waits for the disk. Never for another process.
// Invariants:
//   1. What is built is written only if the words are still exactly those that it was built from,
//      after it was copied (Prepare).
//   2. Nothing is written behind a batch of which it is not known that it ends where its words say
//      (CheckEnd).
//   3. W becomes Written only after the device has answered, and after others were found to find
//      the file by its name.
//   4. A failure of the device's is final: W Failed, head Poisoned. Of any other the batch stays
//      Frozen, for whoever can write it.
// Barriers: "writer.cc:Prepare:AcquireFence" orders the copy before the second look at the words.
#ifndef EPOCH_CORE_JOURNAL_WRITE_WRITER_H_
#define EPOCH_CORE_JOURNAL_WRITE_WRITER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/files/disk.h"
#include "core/journal/batch/batch.h"
#include "core/journal/batch/freezer.h"
#include "core/journal/batch/ring.h"
#include "core/journal/segment/current.h"
#include "core/journal/write/ends.h"
#include "core/journal/write/own_writes.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::journal {

class Writer {
 public:
  enum class Wrote : std::uint8_t {
    kWritten,    // the batch is on disk, and says so
    kLookAgain,  // what was read has moved on, or the segment had to be made or found first
  };
  Writer(const detail::Mapping& mapping, const BatchBuilder& builder, Freezer& freezer,
         OpenSegment segment)
      : mapping_(mapping),
        view_(mapping.view()),
        capacity_blocks_(mapping.superblock().segment_bytes / kBlockBytes),
        builder_(builder),
        freezer_(freezer),
        ends_(view_, mapping.superblock(), builder),
        segment_(mapping, std::move(segment)),
        buffer_(64 * kBlockBytes) {}

  CurrentSegment& segment() { return segment_; }
  const CurrentSegment& segment() const { return segment_; }

  // Writes batch s + `offset`, which is frozen with its hint and its end, and waits for the disk.
  // Errors: poisoned, out of room, superseded, or whatever is in the way of this process.
  absl::StatusOr<Wrote> Write(const RingReading& ring, int offset);
  // Before anything is written behind a batch, or a segment is begun that says where it ended.
  // kStale: look again. Errors: it is wrong, so damaged; or the segment cannot be read.
  absl::StatusOr<Ends::Verdict> CheckEnd(const RingReading& ring, int offset);

  // Hands batch s to the disk, without waiting. False: it has to be waited for.
  bool Send(const RingReading& ring, OwnWrites& own);
  // A write that went on by itself is done; `waited`: for. True: the batch is Written by that.
  bool Finish(const OwnWrites::Landed& landed, bool waited);

  // Why there is no journal to be found for a batch in `segment`. The segment that this process has
  // open may be older, and rightly gone; so what became of that says nothing then.
  absl::Status NotThere(const absl::Status& missing, std::uint64_t segment) const;

  void AfterForkInChild() noexcept;

 private:
  // Errors stay errors; otherwise look again.
  static absl::StatusOr<Wrote> Again(const absl::Status& done) {
    if (!done.ok()) return done;
    return Wrote::kLookAgain;
  }

  // Where a batch goes; its bytes are in the buffer.
  struct Image {
    std::uint64_t first_block;
    std::uint64_t blocks;
  };

  // The bytes of that batch, if it goes into the segment at hand. Nothing: look again.
  absl::StatusOr<std::optional<Image>> Prepare(const RingReading& ring, int offset,
                                               AlignedBuffer& to);
  absl::StatusOr<Wrote> Roll(const RingReading& ring, int offset);
  absl::StatusOr<Wrote> AttachAnew(const RingReading& ring, int offset);
  absl::Status Stale(const RingReading& ring, int offset);
  absl::Status Lost(detail::BatchWords& words, std::uint64_t w, const absl::Status& why);
  absl::Status WriteFailed(detail::BatchWords& words, std::uint64_t w, std::uint64_t segment);
  void NoteRoom(const absl::Status& done, const RingReading& ring, int offset);
  void NoteLatency(std::int64_t latency_ns);

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  const std::uint64_t capacity_blocks_;
  const BatchBuilder& builder_;
  Freezer& freezer_;
  Ends ends_;
  CurrentSegment segment_;
  AlignedBuffer buffer_;  // of what is written while the caller waits
  std::vector<Piece> pieces_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_WRITER_H_
