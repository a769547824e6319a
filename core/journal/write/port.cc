// The write path: one process's share in getting what is accepted to the disk, step by step.
//
// Up to eight batches are in flight, frozen by different processes; head follows them strictly in
// order. Each turn looks at all words anew and takes the one step that is due (Step). A commit that
// nobody else has a hand in is five of them:
//
//   turn  step         what it does                               a death right after it leaves
//   1     kFreeze      W: which versions the batch holds          a batch, its place not known yet
//   2     kFreezeHint  H: what is known to be visible             the same
//   3     kFreezeEnd   E: where it goes                           a batch that nobody writes
//   4     kWrite       its bytes to the disk; Written; head       a durable batch, or a visible one
//   5     kDone        what is left for later: spares, a roll's   nothing to do
//
// Whoever looks next finds the step that is due then, whichever process took the one before; the
// steps themselves are in freezer.h and writer.h, and what they leave in docs/journal.md.
//
// A caller that waits writes by pwritev2, in its own thread: nothing is faster. Writes that go on
// while the caller proposes more are io_uring's (own_writes.h).
//
// Thread safety: all functions; one at a time, under mutex_. Those that may not wait do nothing
// where another thread has it.
// Progress: Flush waits for the disk, and takes at most kMostTurns turns, so that its caller gets
// to look at its deadline. Start and Reap never wait; Rest may write one block.
// Invariants: what is frozen comes first, oldest first, since head waits for it. At most one batch
// is written by a call of Flush.
// Barriers: none of its own. OwnWrites::in_flight is read without the mutex, relaxed, as a hint.
#include "core/journal/write/port.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/journal/batch/batch.h"
#include "core/journal/batch/freezer.h"
#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "core/journal/segment/current.h"
#include "core/journal/segment/segment.h"
#include "core/journal/write/own_writes.h"
#include "core/journal/write/patience.h"
#include "core/journal/write/writer.h"
#include "epoch/detail/platform/fork.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {
namespace {

using detail::JournalPort;
using detail::Phase;
using detail::StateWord;

constexpr std::uint32_t kNobody = 0xffff'fffe;  // a slot that nobody has
constexpr std::int64_t kMillisecond_ns = 1'000'000;
// When nothing was written for so long, what was acknowledged last gets its evidence on disk.
constexpr std::int64_t kRest_ns = 5 * kMillisecond_ns;

class Port final : public JournalPort, public detail::ForkAware {
 public:
  Port(const detail::Mapping& mapping, OpenSegment segment)
      : view_(mapping.view()),
        capacity_blocks_(mapping.superblock().segment_bytes / kBlockBytes),
        builder_(view_, mapping.superblock()),
        freezer_(mapping, builder_),
        patience_(mapping),
        writer_(mapping, builder_, freezer_, std::move(segment)) {
    Register();
  }
  ~Port() override {
    Unregister();
    // Without memory what is said of a write is lost, but each turn has one write less.
    for (bool drained = false; !drained;) {
      try {
        Drain();
        drained = true;
      } catch (const std::bad_alloc&) {
      }
    }
    try {
      segment().Finish(own_.queue());
      // The last process to detach records that nothing is outstanding.
      if (segment().attached() && seam::TestByteLock(segment().fd(), 0) == seam::LockState::kFree) {
        WriteHint(kNobody, /*at_once=*/true);
        segment().SweepLast();
      }
    } catch (const std::bad_alloc&) {  // what is not tidied up here is by a recovery, or a roll
    }
  }

  absl::StatusOr<Outcome> Flush(std::uint32_t slot, Epoch wanted) override {
    const std::lock_guard lock(mutex_);
    if (!segment().attached()) {
      const absl::Status attached = segment().Attach();
      if (absl::IsNotFound(attached)) return writer_.NotThere(attached, 0);
      if (!attached.ok()) return attached;
    }
    bool moved = false;
    // Words that never add up to a step are damage.
    constexpr int kMostTurns = 10'000;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      moved |= ReapAll();
      const absl::StatusOr<Look> look = freezer_.LookAround();
      if (!look.ok()) return look.status();
      const absl::StatusOr<Turn> due = WhatIsDue(*look, wanted, moved);
      if (!due.ok()) return due.status();
      switch (due->step) {
        case Step::kFreeze:
          freezer_.Freeze(look->ring, due->accepted, slot);
          continue;
        case Step::kFreezeHint:
          freezer_.FreezeHint(look->ring);
          continue;
        case Step::kFreezeEnd:
          if (absl::Status s = FreezeEnd(look->ring); !s.ok()) return s;
          continue;
        case Step::kWrite: {
          const absl::StatusOr<Writer::Wrote> wrote = writer_.Write(look->ring, due->offset);
          if (!wrote.ok()) return wrote.status();
          moved = *wrote == Writer::Wrote::kWritten;
          continue;
        }
        case Step::kDone:
          Tend(slot, look->ring);
          return Outcome{Progress::kMoved};
        case Step::kAwait:
          if (own_.any() && Wait(moved)) continue;
          if (!look->AnyFrozen()) continue;  // all are written: head only has to follow
          return Outcome{Progress::kBusy, due->help_after_ns};
        case Step::kPatience:
          return moved ? Outcome{Progress::kMoved} : Outcome{Progress::kBusy, kMillisecond_ns};
        case Step::kNothing:
          return Outcome{Progress::kIdle};
      }
    }
    return freezer_.RingDamaged();
  }

  void Start(std::uint32_t slot) override {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !segment().attached()) return;
    constexpr int kMostTurns = 100;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      ReapAll();
      if (!own_.Ready()) return;
      const absl::StatusOr<Look> look = freezer_.LookAround();
      if (!look.ok() || look->due == Look::Due::kPatience) return;  // Flush says what
      if (look->due != Look::Due::kNothing) {
        if (!FinishFreezing(*look).ok()) return;
        continue;
      }
      const BatchReading& newest = look->ring.At(0);
      const BatchW w = look->ring.NewestW();
      if (w.state == BatchState::kFrozen && freezer_.IsMine(newest.w) && !own_.Holds(newest.w)) {
        if (newest.w == unfinished_ || !writer_.Send(look->ring, own_)) return;
        continue;
      }
      const absl::StatusOr<StateWord> accepted = freezer_.Accepted();
      Tend(slot, look->ring);
      if (!accepted.ok() || accepted->epoch <= w.last || own_.Free() == nullptr ||
          look->in_flight == detail::kMostBatchesInFlight || look->BlocksOthers()) {
        return;
      }
      const Freezer::Room room{segment().unnamed() ? 0 : segment().number(),
                               OwnWrites::kMostBlocks};
      if (!freezer_.Freeze(look->ring, *accepted, slot, room)) return;
    }
  }

  void Reap() override {
    if (own_.in_flight() == 0) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) ReapAll();
  }

  void Rest(std::uint32_t slot) override {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !segment().attached()) return;
    ReapAll();
    const RingReading ring = ReadRing(*view_.control);
    if (ring.kind != RingReading::Kind::kWhole) return;
    Tend(slot, ring);
    WriteHint(slot, /*at_once=*/false);
  }

  std::string backend() const override {
    const std::lock_guard lock(mutex_);
    return absl::StrCat(own_.Ready() ? "io_uring" : "pwritev2",
                        writer_.segment().direct() ? "" : "+buffered");
  }

  void AfterForkInChild() noexcept override {
    // Another thread may have been in the middle of a flush; it does not exist here, and what it
    // had locked or half changed is begun anew (not destroyed: it may not be whole).
    std::construct_at(&mutex_);
    freezer_.AfterForkInChild();
    own_.AfterForkInChild();
    writer_.AfterForkInChild();
  }

 private:
  // What a turn of Flush does.
  enum class Step : std::uint8_t {
    kFreeze,      // W of the next batch
    kFreezeHint,  // H of the next batch, which has its W
    kFreezeEnd,   // E of the newest batch
    kWrite,       // the batch at `offset`: the oldest that is this process's to write
    kDone,        // something became durable by this call
    kAwait,       // what is under way; another's batch may be helped after `help_after_ns`
    kPatience,    // others are so busy that the words could not be read
    kNothing,     // nothing is under way, and what is not frozen is not wanted
  };
  struct Turn {
    Step step;
    int offset = 0;
    StateWord accepted{};
    std::int64_t help_after_ns = 0;
  };

  CurrentSegment& segment() { return writer_.segment(); }

  absl::StatusOr<Turn> WhatIsDue(const Look& look, Epoch wanted, bool moved) {
    switch (look.due) {
      case Look::Due::kHint:
        return Turn{Step::kFreezeHint};
      case Look::Due::kEnd:
        return Turn{Step::kFreezeEnd};
      case Look::Due::kPatience:
        return Turn{Step::kPatience};
      case Look::Due::kNothing:
        break;
    }
    if (moved) return Turn{Step::kDone};
    // What is frozen comes first, oldest first: head waits for it.
    std::int64_t help_after_ns = 64 * kMillisecond_ns;
    if (const std::optional<int> mine = OldestToWrite(look, help_after_ns); mine.has_value()) {
      return Turn{Step::kWrite, *mine};
    }
    const Epoch newest = look.ring.NewestW().last;
    const absl::StatusOr<StateWord> accepted = freezer_.Accepted();
    if (!accepted.ok()) return accepted.status();
    if (accepted->epoch > newest && newest < wanted && look.MayFreeze(accepted->epoch)) {
      return Turn{Step::kFreeze, 0, *accepted};
    }
    if (look.in_flight > 0) return Turn{Step::kAwait, 0, {}, help_after_ns};
    return Turn{Step::kNothing};
  }

  // The oldest batch that is this process's to write. Otherwise `help_after_ns` is lowered to when
  // there will be one.
  std::optional<int> OldestToWrite(const Look& look, std::int64_t& help_after_ns) {
    const RingReading& ring = look.ring;
    // One without versions, too, if it blocks others: head does not wait for it.
    const int oldest = std::max(look.in_flight - 1, look.BlocksOthers() ? 0 : -1);
    for (int back = oldest; back >= 0; --back) {
      const BatchReading& batch = ring.At(-back);
      if (BatchW::Unpack(batch.w).state != BatchState::kFrozen || own_.Holds(batch.w)) continue;
      // The next segment begins with the state that is visible then.
      if (ring.Opens(-back) && look.head.epoch < BatchW::Unpack(ring.At(-back - 1).w).last) break;
      const std::int64_t wait_ns = freezer_.IsMine(batch.w) ? 0 : patience_.Left_ns(ring, -back);
      if (wait_ns <= 0) return -back;
      help_after_ns = std::min(help_after_ns, wait_ns);
    }
    return std::nullopt;
  }

  // Where the newest batch ends: a wrong end of the one before it would be handed on.
  absl::Status FreezeEnd(const RingReading& ring) {
    const absl::StatusOr<std::optional<BatchE>> end = freezer_.EndOf(ring);
    if (!end.ok() || !end->has_value()) return end.status();
    if (BatchE::Unpack(ring.At(-1).e).segment == segment().number() && !segment().unnamed()) {
      const absl::StatusOr<Ends::Verdict> before = writer_.CheckEnd(ring, -1);
      if (!before.ok() || *before == Ends::Verdict::kStale) return before.status();
    }
    return freezer_.FreezeEnd(ring, **end);
  }

  // H or E, whichever is due.
  absl::Status FinishFreezing(const Look& look) {
    if (look.due == Look::Due::kEnd) return FreezeEnd(look.ring);
    freezer_.FreezeHint(look.ring);
    return absl::OkStatus();
  }

  // A batch without versions, if everything is durable and no such batch is the newest: evidence of
  // what was acknowledged, which otherwise only the next commit brings.
  void WriteHint(std::uint32_t slot, bool at_once) {
    constexpr int kMostTurns = 20;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      // To find out again that the journal has failed would wake up all who wait.
      if (StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned) return;
      const absl::StatusOr<Look> look = freezer_.LookAround();
      if (!look.ok() || look->due == Look::Due::kPatience) return;
      if (look->due != Look::Due::kNothing) {
        if (!FinishFreezing(*look).ok()) return;
        continue;
      }
      const RingReading& ring = look->ring;
      const BatchW newest = ring.NewestW();
      const BatchE end = BatchE::Unpack(ring.At(0).e);
      if (look->in_flight != 0 || end.segment != segment().number()) return;
      if (newest.hint_only) {
        // Whoever froze it may be dead; but nobody waits for it.
        if (newest.state == BatchState::kFrozen && (freezer_.IsMine(ring.At(0).w) || at_once)) {
          writer_.Write(ring, 0).IgnoreError();
        }
        return;
      }
      // What an incarnation begins with needs none: it stands in the segment's header.
      if (BatchH::Unpack(ring.At(0).h).hint == newest.last ||
          end.end_block + 1 > capacity_blocks_ - kSealBlocks) {
        return;
      }
      const std::int64_t now = seam::MonotonicNanos();
      if (std::exchange(rested_on_, ring.At(0).w) != ring.At(0).w) resting_since_ns_ = now;
      if (!at_once && now - resting_since_ns_ < kRest_ns) return;
      freezer_.FreezeHintOnly(ring, slot);
    }
  }

  void Tend(std::uint32_t slot, const RingReading& ring) {
    // What fails is known to all by then: head says it.
    segment().Tend(slot, BatchE::Unpack(ring.At(0).e).end_block, own_.queue()).IgnoreError();
    own_.Note();
  }

  // --- writes that go on by themselves -----------------------------------------------------------

  // Takes note of what is done. True if anything became durable by it.
  bool ReapAll() {
    bool written = false;
    while (const std::optional<WriteQueue::Done> done = own_.Reap(/*wait=*/false)) {
      written |= Finish(*done, /*waited=*/false);
    }
    own_.Note();
    return written;
  }
  // The same, for one that is waited for. False: it cannot be.
  bool Wait(bool& moved) {
    const std::optional<WriteQueue::Done> done = own_.Reap(/*wait=*/true);
    if (!done.has_value()) return false;
    moved |= Finish(*done, /*waited=*/true);
    return true;
  }

  bool Finish(const WriteQueue::Done& done, bool waited) {
    if (CurrentSegment::Owns(done.tag)) {
      segment().Finished(done, own_.queue()).IgnoreError();  // as in Tend
      return false;
    }
    const OwnWrites::Landed landed = own_.Take(done);
    // It is still this process's batch. Flush writes it, goes on where a call does a part, and is
    // told why not if not.
    if (landed.news == OwnWrites::News::kRefused) unfinished_ = landed.batch.w;
    return writer_.Finish(landed, waited);
  }

  // Before the end: what is under way is finished, since its memory goes.
  void Drain() {
    while (own_.queue().in_flight() > 0) {
      const std::optional<WriteQueue::Done> done = own_.Reap(/*wait=*/true);
      if (!done.has_value()) break;
      Finish(*done, /*waited=*/false);
    }
    if (own_.queue().in_flight() == 0) return;
    // What cannot be waited for.
    own_.Leak();
    segment().Leak();
  }

  const detail::RegionView& view_;
  const std::uint64_t capacity_blocks_;
  const BatchBuilder builder_;

  mutable seam::Mutex mutex_;
  Freezer freezer_;
  Patience patience_;
  Writer writer_;
  OwnWrites own_;                 // ends before the segment that it writes to
  std::uint64_t unfinished_ = 0;  // W of a batch that the queue could not write
  std::uint64_t rested_on_ = 0;   // W of the batch that was the newest when this was last looked at
  std::int64_t resting_since_ns_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<detail::JournalPort>> Attach(const detail::Mapping& mapping) {
  const detail::Superblock& super = mapping.superblock();
  if (super.segment_bytes / kBlockBytes < MinSegmentBlocks(super.state_bytes)) {
    return absl::DataLossError(absl::StrCat(mapping.path(), ": segments of ", super.segment_bytes,
                                            " bytes cannot hold its states"));
  }
  absl::StatusOr<OpenSegment> segment = AttachDurably(mapping);
  if (!segment.ok()) return segment.status();
  return std::make_unique<Port>(mapping, *std::move(segment));
}

}  // namespace epoch::journal
