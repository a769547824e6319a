// The segment that this process writes to, and how it gets to the next one.
//
// A roll costs a commit one write more: of the next segment's header and base, into space that was
// prepared (spare.h). The name that the space has is durable by then, so that the segment can be
// found by it (begun.h) until its own name is durable, too, which nobody waits for (aftermath.h).
// Its own name, which only one file can have, decides which file is the segment; it is given after
// the batch is written, and before that counts, since a file that just got a name is slow to write
// to. Where no space is ready the segment is made then and there, and its name is waited for.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_CURRENT_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_CURRENT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/files/write_queue.h"
#include "core/journal/batch/batch.h"
#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "core/journal/segment/aftermath.h"
#include "core/journal/segment/segment.h"
#include "core/journal/segment/spare.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::journal {

// The header and the base state of the segment behind the one in which `last` ends. Read from
// shared memory, so to be checked afterwards: the batch that comes next must still be Frozen, and
// the base match its digest.
SegmentHeader NextSegment(const detail::RegionView& view, const detail::Superblock& super,
                          const BatchW& last, const BatchE& end, std::vector<std::byte>& base);

// Opens the newest segment, with its name durable. In all of this file a name that may not be so
// poisons the journal: DataLoss; here Internal.
absl::StatusOr<OpenSegment> AttachDurably(const detail::Mapping& mapping);

// Thread safety: external.
class CurrentSegment {
 public:
  CurrentSegment(const detail::Mapping& mapping, OpenSegment segment);

  // False in a fork child, which needs a description, and a lock, of its own.
  bool attached() const { return segment_.fd.ok(); }
  int fd() const { return segment_.fd.get(); }
  const std::string& path() const { return segment_.path; }
  std::uint64_t number() const { return segment_.number; }
  const OpenSegment& file() const { return segment_; }
  bool direct() const { return segment_.direct; }

  // To the newest segment. NotFound: there is no journal where this process looks for it.
  absl::Status Attach();
  // Whether others find by its name what this process writes to; asked after each write, before
  // that counts: what nobody can open is not durable. Not while it is unnamed. DataLoss: it has no
  // name left. FailedPrecondition: not that one, which may be found out late
  // (Whereabouts::Glance). Of who is late it may be that the segment was retired since. `now_ns`:
  // of after the write.
  absl::Status Findable(std::int64_t now_ns) {
    const auto seen = whereabouts_.Glance(segment_.fd.get(), now_ns);
    // Where it cannot be told, it was not moved.
    return detail::Whereabouts::IsAway(seen) ? NotFindable(seen) : absl::OkStatus();
  }
  // The same, at once.
  absl::Status FindableNow() const {
    const auto seen = whereabouts_.Look(segment_.fd.get());
    return detail::Whereabouts::IsAway(seen) ? NotFindable(seen) : absl::OkStatus();
  }
  // To the segment that the batch opens, which is made if it is not there. Head stands at the end
  // of the batch before, and stays there. Errors: NotFound as Attach; no room; whatever is in the
  // way of this process.
  enum class Rolling : std::uint8_t {
    kThere,       // this process writes to it now
    kLookAgain,   // what was read has moved on
    kOverwritten  // the state that it begins with is not what was accepted
  };
  absl::StatusOr<Rolling> Roll(const RingReading& ring, int offset, const BatchBuilder& builder);
  // Whether the segment that Roll led to has no name of its own yet. Then nothing that is written
  // there counts before Name() has given it one.
  bool unnamed() const { return unnamed_; }
  // ResourceExhausted: no room for a name; this process is where it was before Roll. Other errors:
  // superseded, poisoned.
  enum class Naming : std::uint8_t {
    kNamed,     // it has its name
    kElsewhere  // another file has it, and is attached to now
  };
  absl::StatusOr<Naming> Name(const BatchBuilder& builder);

  // What is to be done besides commits: after a roll, and before the next. `slot` is this
  // participant's; batches end at `end_block`. Never waits for the disk, if there is io_uring; but
  // after a roll a rule on epochs has it read a few blocks.
  absl::Status Tend(std::uint32_t slot, std::uint64_t end_block, WriteQueue& queue);
  // Whether an entry of the queue was put there by Tend; then Finished takes its result.
  static bool Owns(std::uint64_t tag) { return tag == Spare::kTag || tag == Aftermath::kTag; }
  absl::Status Finished(const WriteQueue::Done& done, WriteQueue& queue);
  // The rest of a roll, waited for: before the end. Nothing of it is in the queue.
  void Finish(WriteQueue& queue);
  // This process is the last one to let go: the segment's spare name goes, if it has a durable one
  // of its own.
  void SweepLast();
  // What is in the queue cannot be waited for: its memory must never be used again.
  void Leak();

  void AfterForkInChild();

 private:
  // The segment that was rolled from, and what its seal says.
  struct Left {
    OpenSegment segment;
    BatchReading last{};
    std::uint64_t chain = 0;
  };

  absl::Status NotAttached(std::uint64_t number) const;
  void Take(OpenSegment segment);
  absl::Status NotFindable(detail::Whereabouts::Seen seen) const;
  void BeginAftermath(const BatchBuilder& builder);
  absl::Status TendAftermath(Aftermath::News news);
  void PrepareNext(std::uint32_t slot, std::uint64_t end_block, WriteQueue& queue);

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  const detail::Superblock& super_;
  const std::string directory_;
  const std::uint64_t capacity_blocks_;
  OpenSegment segment_;
  detail::Whereabouts whereabouts_;  // of segment_
  bool unnamed_ = false;
  Left left_;  // while segment_ is unnamed
  Spare spare_;
  Aftermath aftermath_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_CURRENT_H_
