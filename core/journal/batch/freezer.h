// Freezing: how it is settled, between processes, which batch comes next, and what becomes of it.
//
// A batch is three words in the ring, each decided by one CAS, and its place follows from them:
//
//   W  Freeze         (Frozen, cell, last epoch): all that is accepted, as far as it fits
//   H  FreezeHint     (tag, head's epoch): what is known to be visible, chosen once
//   E  FreezeEnd      (segment, end block): behind the batch before it
//   W  MarkWritten    Frozen -> Written, once it is on disk; head may follow
//   W  Fail           Frozen -> Failed, when it never will be; head is Poisoned
//
// All of it is shared words; no file is touched here. What has to be looked up on disk before a
// step (whether the batch before it ends where it says) is asked by the port, between EndOf and
// FreezeEnd.
//
// Thread safety: external; any number of processes.
// Progress: lock-free. A step that fails was taken by another process.
// Invariants:
//   1. Words are CASed from the exact value that was read: of batch s-16 to that of batch s, or of
//      Frozen to what becomes of it. No word takes a value twice, so who is late only fails.
//   2. H of s+1 only once its W is frozen; E of s only once its H is; W of s+1 only once E of s is
//      known. So the ring always holds all that are in flight, and the one before them.
//   3. Killed or stopped after any step, the next process that looks finds which one is due (Look).
// Barriers: every CAS is seq_cst; "freezer.cc:FreezeW" and "freezer.cc:MarkWritten" are weakened in
// the simulator. What was read of versions counts after an acquire fence and a second look at W.
#ifndef EPOCH_CORE_JOURNAL_BATCH_FREEZER_H_
#define EPOCH_CORE_JOURNAL_BATCH_FREEZER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/journal/batch/batch.h"
#include "core/journal/batch/ring.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::journal {

// The ring and head, as they stood when they were looked at.
struct Look {
  // The step that the words themselves ask for, before anything else.
  enum class Due : std::uint8_t {
    kNothing,   // every batch that is frozen has its hint and its end
    kHint,      // W of the next batch is frozen: FreezeHint
    kEnd,       // so is its H: FreezeEnd
    kPatience,  // others are so busy that the words could not be read
  };
  Due due = Due::kPatience;
  RingReading ring;
  detail::StateWord head;
  int in_flight = 0;  // known once nothing is due

  bool AnyFrozen() const;
  // Whether nothing may be frozen behind the newest batch before it is written: its segment may not
  // be there yet, or it holds no version, so that head does not wait for it.
  bool BlocksOthers() const;
  // Whether another batch may be frozen, beside those in flight. To wait for them instead means
  // that more is accepted meanwhile: larger batches, and fewer of them.
  bool MayFreeze(Epoch accepted) const;
};

class Freezer {
 public:
  Freezer(const detail::Mapping& mapping, const BatchBuilder& builder)
      : mapping_(mapping),
        view_(mapping.view()),
        capacity_blocks_(mapping.superblock().segment_bytes / kBlockBytes),
        builder_(builder) {}

  // Lets head follow, then looks. Errors: poisoned, damaged.
  absl::StatusOr<Look> LookAround();
  // The newest version that may be written, Published by now. Errors: damaged.
  absl::StatusOr<detail::StateWord> Accepted();

  // What a batch must fit into to be handed to the disk at once.
  struct Room {
    std::uint64_t segment;  // 0: none
    std::uint64_t most_blocks;
  };
  // W: all that was accepted since batch s, as far as it fits. With `room`, only if that is enough,
  // or others would have to wait for this process to come back. False: it is not.
  bool Freeze(const RingReading& ring, const detail::StateWord& accepted, std::uint32_t slot,
              const std::optional<Room>& room = std::nullopt);
  // W: a batch without versions, which is evidence of what is durable.
  void FreezeHintOnly(const RingReading& ring, std::uint32_t slot);
  // H of batch s+1, whose W is frozen: the newest epoch known to be visible, chosen once.
  void FreezeHint(const RingReading& ring);
  // Where batch s ends: behind batch s-1, or behind the base of the next segment. Nothing: what was
  // read is stale. Errors: written over.
  absl::StatusOr<std::optional<BatchE>> EndOf(const RingReading& ring);
  // E of batch s, where EndOf said. Errors: written over.
  absl::Status FreezeEnd(const RingReading& ring, const BatchE& end);
  // Whether this process froze it, not long ago.
  bool IsMine(std::uint64_t w) const;

  // The batch is durable, and others find it. False: it was Written already.
  bool MarkWritten(detail::BatchWords& words, std::uint64_t w);
  // The batch will never be known to be durable: this incarnation ends here.
  absl::Status Fail(detail::BatchWords& words, std::uint64_t w);
  // The same: a participant wrote over what it had accepted.
  absl::Status Scribbled(detail::BatchWords& words, std::uint64_t w);
  absl::Status Poison();
  absl::Status RingDamaged() const;

  // What was half changed when another thread forked is begun anew (not destroyed: it may not be
  // whole).
  void AfterForkInChild() noexcept;

 private:
  void FreezeW(const RingReading& ring, std::uint64_t frozen, std::uint32_t slot);

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  const std::uint64_t capacity_blocks_;
  const BatchBuilder& builder_;
  std::vector<Piece> pieces_;
  std::vector<std::uint64_t> mine_;  // W of the batches that this process froze last
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_BATCH_FREEZER_H_
