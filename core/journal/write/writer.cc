// The write path: freeze a batch, build its bytes, write them, let head follow.
//
// Up to eight batches are in flight, frozen by different processes; head follows them strictly in
// order. Killed or stopped at any point, others finish the same batch: its bytes are a function of
// the frozen words and of immutable versions, and its place is written once. A process that wakes
// up later re-reads W before it submits; one that is past that can only repeat the same bytes, or
// hit a segment nobody reads any more.
//
// A caller that waits writes by pwritev2, in its own thread: nothing is faster. Writes that go on
// while the caller proposes more are io_uring's (WriteQueue).
#include "core/journal/write/writer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/files/disk.h"
#include "core/files/write_queue.h"
#include "core/journal/batch/batch.h"
#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "core/journal/segment/current.h"
#include "core/journal/segment/segment.h"
#include "core/journal/write/ends.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/protocol/head.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/details.h"

namespace epoch::journal {
namespace {

using detail::JournalPort;
using detail::Phase;
using detail::RegionView;
using detail::StateWord;

constexpr std::uint32_t kNobody = 0xffff'fffe;  // a slot that nobody has
constexpr std::int64_t kMillisecond_ns = 1'000'000;
// What one process has under way by itself; more fill no disk, and would keep others waiting.
constexpr std::size_t kMostOwnWrites = 4;
// One of them is at most so large: a larger one takes several calls, and is waited for.
constexpr std::uint64_t kMostSentBlocks = (std::uint64_t{64} << 20) / kBlockBytes;
// When nothing was written for so long, what was acknowledged last gets its evidence on disk.
constexpr std::int64_t kRest_ns = 5 * kMillisecond_ns;

class Port final : public JournalPort, public detail::ForkAware {
 public:
  Port(const detail::Mapping& mapping, OpenSegment segment)
      : mapping_(mapping),
        view_(mapping.view()),
        super_(mapping.superblock()),
        directory_(mapping.journal_directory()),
        capacity_blocks_(super_.segment_bytes / kBlockBytes),
        builder_(view_, super_),
        ends_(view_, super_, builder_),
        segment_(mapping, std::move(segment)),
        buffer_(64 * kBlockBytes) {
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
      segment_.Finish(queue_);
      // The last process to detach records that nothing is outstanding.
      if (segment_.attached() && seam::TestByteLock(segment_.fd(), 0) == seam::LockState::kFree) {
        WriteHint(kNobody, /*at_once=*/true);
        segment_.SweepLast();
      }
    } catch (const std::bad_alloc&) {  // what is not tidied up here is by a recovery, or a roll
    }
  }

  absl::StatusOr<Outcome> Flush(std::uint32_t slot, Epoch wanted) override {
    const std::lock_guard lock(mutex_);
    if (!segment_.attached()) {
      const absl::Status attached = segment_.Attach();
      if (absl::IsNotFound(attached)) return NotThere(attached, 0);
      if (!attached.ok()) return attached;
    }
    bool moved = false;
    // Each turn finishes a step that somebody began. Words that never add up to one are damage.
    // Bounded so that a caller gets to look at its deadline.
    constexpr int kMostTurns = 10'000;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      moved |= ReapAll();
      absl::StatusOr<Look> look = LookAround();
      if (!look.ok()) return look.status();
      if (look->moving) {
        return moved ? Outcome{Progress::kMoved} : Outcome{Progress::kBusy, kMillisecond_ns};
      }
      if (!look->settled) continue;
      if (moved) {
        Tend(slot, look->ring);
        return Outcome{Progress::kMoved};
      }

      // What is frozen comes first, oldest first: head waits for it.
      std::int64_t help_after_ns = 64 * kMillisecond_ns;
      absl::StatusOr<Help> help = WriteWhatIsDue(*look, help_after_ns);
      if (!help.ok()) return help.status();
      if (*help != Help::kNone) {
        moved = *help == Help::kWritten;
        continue;
      }
      const BatchW newest = look->ring.NewestW();
      absl::StatusOr<StateWord> accepted = Accepted();
      if (!accepted.ok()) return accepted.status();
      if (accepted->epoch > newest.last && newest.last < wanted &&
          MayFreeze(*look, accepted->epoch)) {
        Freeze(look->ring, *accepted, slot);
        continue;
      }
      if (look->in_flight > 0) {
        if (OwnWrites() && Wait(moved)) continue;
        if (!AnyFrozen(*look)) continue;  // all are written: head only has to follow
        return Outcome{Progress::kBusy, help_after_ns};
      }
      // Nothing is under way, and what is not frozen is not wanted.
      return Outcome{Progress::kIdle};
    }
    return RingDamaged();
  }

  void Start(std::uint32_t slot) override {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !segment_.attached()) return;
    constexpr int kMostTurns = 100;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      ReapAll();
      if (!queue_.Ready()) return;
      const absl::StatusOr<Look> look = LookAround();
      if (!look.ok() || look->moving) return;  // Flush says what
      if (!look->settled) continue;
      const BatchReading& newest = look->ring.At(0);
      const BatchW w = look->ring.NewestW();
      if (w.state == BatchState::kFrozen && IsMine(newest.w) && !IsUnderWay(newest.w)) {
        if (newest.w == unfinished_ || !Send(look->ring)) return;
        continue;
      }
      const absl::StatusOr<StateWord> accepted = Accepted();
      Tend(slot, look->ring);
      if (!accepted.ok() || accepted->epoch <= w.last || FreeWrite() == nullptr ||
          look->in_flight == detail::kMostBatchesInFlight || BlocksOthers(*look)) {
        return;
      }
      if (!Freeze(look->ring, *accepted, slot, /*to_send=*/true)) return;
    }
  }

  void Reap() override {
    if (in_queue_.load(std::memory_order_relaxed) == 0) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) ReapAll();
  }

  void Rest(std::uint32_t slot) override {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !segment_.attached()) return;
    ReapAll();
    const RingReading ring = ReadRing(*view_.control);
    if (ring.kind != RingReading::Kind::kWhole) return;
    Tend(slot, ring);
    WriteHint(slot, /*at_once=*/false);
  }

  std::string backend() const override {
    const std::lock_guard lock(mutex_);
    return absl::StrCat(queue_.Ready() ? "io_uring" : "pwritev2",
                        segment_.direct() ? "" : "+buffered");
  }

  void AfterForkInChild() noexcept override {
    // Another thread may have been in the middle of a flush; it does not exist here, and what it
    // had locked or half changed is begun anew (not destroyed: it may not be whole).
    std::construct_at(&mutex_);
    std::construct_at(&pieces_);
    std::construct_at(&mine_);
    for (OwnWrite& write : writes_) write.words = nullptr;
    in_queue_.store(0, std::memory_order_relaxed);
    queue_.AfterForkInChild();
    segment_.AfterForkInChild();
  }

 private:
  // A write of this process that goes on by itself.
  struct OwnWrite {
    detail::BatchWords* words = nullptr;  // null: none
    std::uint64_t w = 0;
    AlignedBuffer buffer;
    std::size_t size = 0;
    std::uint64_t segment = 0;
    std::int64_t started_ns = 0;
  };

  struct Look {
    bool settled = false;  // every batch that is frozen has its hint and its end
    bool moving = false;   // others are so busy that it could not be read
    RingReading ring;
    StateWord head;
    int in_flight = 0;
  };

  // --- looking -----------------------------------------------------------------------------------

  // Lets head follow, and finishes the words of the newest batch: one step at a time.
  absl::StatusOr<Look> LookAround() {
    detail::AdvanceDurableHead(view_);
    Look look;
    look.head = StateWord::Unpack(view_.control->head.Load());
    if (look.head.phase == Phase::kPoisoned) return Poison();
    look.ring = ReadRing(*view_.control);
    const RingReading& ring = look.ring;
    if (ring.kind == RingReading::Kind::kDamaged) return RingDamaged();
    look.moving = ring.kind == RingReading::Kind::kMoving;
    if (look.moving) return look;
    if (IsSuccessor(ring.At(1).w, ring.At(0).w)) {
      FreezeHint(ring);
      return look;
    }
    if (ring.NewestW().state == BatchState::kFrozen && !EndIsKnown(ring.At(0).e, ring.At(-1).e)) {
      if (absl::Status s = FreezeEnd(ring); !s.ok()) return s;
      return look;
    }
    // A hint by itself is behind no head, and so in no flight; what is written behind one that
    // failed would not be found all the same.
    if (ring.NewestW().state == BatchState::kFailed) return Poison();
    look.in_flight = ring.InFlight(look.head.epoch);
    for (int back = 0; back < look.in_flight; ++back) {
      switch (BatchW::Unpack(ring.At(-back).w).state) {
        case BatchState::kFrozen:
        case BatchState::kWritten:
          break;
        case BatchState::kFailed:
          return Poison();
        default:
          return RingDamaged();
      }
    }
    look.settled = true;
    return look;
  }

  // The newest version that may be written.
  absl::StatusOr<StateWord> Accepted() {
    for (;;) {
      const std::uint64_t tail_word = view_.control->tail.Load();
      StateWord accepted = StateWord::Unpack(tail_word);
      if (accepted.phase != Phase::kVoting) {
        // Once durable it may be superseded and freed, so it must be Published by now.
        detail::MarkPublished(view_, tail_word);
        return accepted;
      }
      // Undecided, so not to be written: a record must never be of something that is aborted
      // afterwards. Its predecessor is.
      if (!view_.ValidCell(accepted.version)) return RingDamaged();
      accepted.version = detail::PreviousCellOf(view_.cells[accepted.version].shape.Load(kRelaxed));
      accepted.epoch -= 1;
      if (view_.control->tail.Load() == tail_word) return accepted;
    }
  }

  // Whether the batch is the first of its segment.
  static bool Opens(const RingReading& ring, int offset) {
    return BatchE::Unpack(ring.At(offset).e).segment !=
           BatchE::Unpack(ring.At(offset - 1).e).segment;
  }

  static bool AnyFrozen(const Look& look) {
    for (int back = 0; back < look.in_flight; ++back) {
      if (BatchW::Unpack(look.ring.At(-back).w).state == BatchState::kFrozen) return true;
    }
    return false;
  }

  // Whether nothing may be frozen behind the newest batch before it is written: its segment may not
  // be there yet, or it holds no version, so that head does not wait for it.
  static bool BlocksOthers(const Look& look) {
    const BatchW newest = look.ring.NewestW();
    return newest.state == BatchState::kFrozen && (newest.hint_only || Opens(look.ring, 0));
  }

  // Whether another batch may be frozen, beside those in flight. To wait for them instead means
  // that more is accepted meanwhile: larger batches, and fewer of them.
  static bool MayFreeze(const Look& look, Epoch accepted) {
    if (BlocksOthers(look) || look.in_flight == detail::kMostBatchesInFlight) return false;
    const Epoch newest = look.ring.NewestW().last;
    return look.in_flight == 0 || accepted - newest >= newest - look.head.epoch;
  }

  bool IsMine(std::uint64_t w) const {
    return std::find(mine_.begin(), mine_.end(), w) != mine_.end();
  }

  // How long the batch's writer may still take before this process writes it, too. Not positive:
  // now, because it is this one's, its writer is dead, or it has had its time.
  std::int64_t HelpIsDueIn(const RingReading& ring, int offset) {
    const BatchReading& batch = ring.At(offset);
    // One without versions is only in the way.
    if (IsMine(batch.w) || BatchW::Unpack(batch.w).hint_only) return 0;
    // Its writer may have given up for want of space, and not be back.
    if (view_.control->journal_stall_errno.Load(kRelaxed) != 0) return 0;
    const std::int64_t now = seam::MonotonicNanos();
    Patience& patience =
        patience_[static_cast<std::size_t>(RingReading::Slot(ring.newest + offset))];
    if (patience.w != batch.w) patience = {batch.w, now};
    const std::uint64_t writer = ring.WordsAt(*view_.control, offset).writer.Load(kRelaxed);
    if (writer - 1 < view_.geometry.participants &&
        !detail::OwnerAlive(mapping_.probe_fd(), static_cast<std::uint32_t>(writer - 1))) {
      return 0;
    }
    const std::int64_t latency = std::clamp<std::int64_t>(
        view_.control->flush_latency_ns.Load(kRelaxed), 0, 300 * kMillisecond_ns);
    std::int64_t allowed = std::max(3 * latency, 2 * kMillisecond_ns);
    // A new segment takes longer to make than a batch to write, and to make it twice helps nobody.
    if (Opens(ring, offset)) allowed += 100 * kMillisecond_ns;
    return patience.since_ns + allowed - now;
  }

  // --- failing -----------------------------------------------------------------------------------

  absl::Status RingDamaged() const {
    return absl::DataLossError(
        absl::StrCat(mapping_.path(),
                     ": the batch ring or the epoch word is damaged; remove the "
                     "region and recover it from its journal"));
  }

  absl::Status Poison() {
    detail::PoisonHead(view_);
    detail::Ring(*view_.control);
    return absl::DataLossError(
        absl::StrCat(directory_,
                     ": a journal write failed; nothing more is committed in this incarnation, and "
                     "whether the last transitions are durable is unknown until recovery (epochctl "
                     "recover)"));
  }

  // The batch will never be known to be durable: this incarnation ends here.
  absl::Status Fail(detail::BatchWords& words, std::uint64_t w) {
    BatchW failed = BatchW::Unpack(w);
    failed.state = BatchState::kFailed;
    words.w.CompareExchange(w, failed.Pack());
    return Poison();
  }

  // A participant wrote over what it had accepted: it cannot be made durable as it was.
  absl::Status Scribbled(detail::BatchWords& words, std::uint64_t w) {
    Fail(words, w).IgnoreError();
    return absl::DataLossError(absl::StrCat(
        mapping_.path(), ": the accepted versions up to epoch ", BatchW::Unpack(w).last,
        " were overwritten in shared memory before they were durable; the journal is poisoned"));
  }

  // What was read does not fit together: fine if the batch has moved on, damage if not.
  absl::StatusOr<bool> Stale(const RingReading& ring, int offset) {
    detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
    const BatchReading& batch = ring.At(offset);
    seam::AcquireFence();
    if (BatchReading::Of(words) != batch) return false;
    if (BatchE::Unpack(batch.e).segment < segment_.number()) {
      // Still frozen for a segment that is not the newest: no process of this region does that.
      return detail::Because(
          Cause::kSuperseded,
          absl::FailedPreconditionError(
              absl::StrCat(directory_, ": superseded: the journal went on without this region")));
    }
    return Scribbled(words, batch.w);
  }

  // --- freezing ----------------------------------------------------------------------------------

  // W: all that was accepted since batch s, as far as it fits. `to_send`: only if it can be handed
  // to the disk without waiting, or others would have to wait for this process to come back. False:
  // it cannot.
  bool Freeze(const RingReading& ring, const StateWord& accepted, std::uint32_t slot,
              bool to_send = false) {
    if (!builder_.Collect(accepted.version, accepted.epoch, ring.NewestW().last, pieces_)) {
      return true;  // stale
    }
    pieces_.resize(BatchBuilder::Fitting(pieces_));
    const BatchE end = BatchE::Unpack(ring.At(0).e);
    const std::uint64_t blocks = BatchBuilder::BlocksOf(pieces_);
    if (to_send &&
        (end.segment != segment_.number() || segment_.unnamed() || blocks > kMostSentBlocks ||
         end.end_block + blocks > capacity_blocks_ - kSealBlocks)) {
      return false;
    }
    EPOCH_POINT("journal.before_freeze");
    FreezeW(ring,
            BatchW{BatchState::kFrozen, false, pieces_.back().cell, pieces_.back().epoch}.Pack(),
            slot);
    return true;
  }

  void FreezeW(const RingReading& ring, std::uint64_t frozen, std::uint32_t slot) {
    detail::BatchWords& words = ring.WordsAt(*view_.control, 1);
    std::uint64_t expected = ring.At(1).w;
    if (!words.w.CompareExchange(expected, frozen)) return;
    EPOCH_POINT("journal.frozen");
    words.writer.Store(slot + std::uint64_t{1}, kRelaxed);
    if (mine_.size() == kMostRemembered) mine_.erase(mine_.begin());
    mine_.push_back(frozen);
  }

  // H of batch s+1, whose W is frozen: the newest epoch known to be visible, chosen once.
  void FreezeHint(const RingReading& ring) {
    const BatchH newest = BatchH::Unpack(ring.At(0).h);
    const BatchH old = BatchH::Unpack(ring.At(1).h);
    const auto tag = static_cast<std::uint16_t>(newest.tag + 1);
    if (old.tag != static_cast<std::uint16_t>(tag - detail::kBatchRingSlots)) return;  // stale
    const Epoch head = StateWord::Unpack(view_.control->head.Load()).epoch;
    std::uint64_t expected = ring.At(1).h;
    EPOCH_POINT("journal.before_hint");
    ring.WordsAt(*view_.control, 1).h.CompareExchange(expected, BatchH{tag, head}.Pack());
  }

  // E of batch s: behind batch s-1, or behind the base of the next segment.
  absl::Status FreezeEnd(const RingReading& ring) {
    const BatchW w = ring.NewestW();
    const BatchW before = BatchW::Unpack(ring.At(-1).w);
    const BatchE from = BatchE::Unpack(ring.At(-1).e);
    detail::BatchWords& words = ring.WordsAt(*view_.control, 0);
    bool sound = view_.ValidCell(before.version);
    pieces_.clear();
    if (!w.hint_only) sound = sound && builder_.Collect(w.version, w.last, before.last, pieces_);
    std::uint64_t base_bytes = 0;
    if (sound) {
      const detail::VersionCell& base = view_.cells[before.version];
      base_bytes = base.length_bytes.Load(kRelaxed);
      sound = base.epoch.Load(kRelaxed) == before.last && base_bytes <= view_.geometry.state_bytes;
    }
    if (!sound) {
      seam::AcquireFence();
      if (words.w.Load() != ring.At(0).w) return absl::OkStatus();  // stale
      return Scribbled(words, ring.At(0).w);
    }
    // A wrong end would be handed on.
    if (from.segment == segment_.number() && !segment_.unnamed()) {
      if (const auto right = EndIsRight(ring, -1); !right.ok() || !*right) return right.status();
    }
    const std::uint64_t blocks = BatchBuilder::BlocksOf(pieces_);
    BatchE end{from.segment, from.end_block + blocks};
    if (end.end_block > capacity_blocks_ - kSealBlocks) {
      end = {from.segment + 1, 1 + BlocksFor(base_bytes) + blocks};
    }
    if (end.segment > kMaxSegment || end.end_block > capacity_blocks_ - kSealBlocks) {
      return Scribbled(words, ring.At(0).w);
    }
    std::uint64_t expected = ring.At(0).e;
    EPOCH_POINT("journal.before_end");
    words.e.CompareExchange(expected, end.Pack());
    return absl::OkStatus();
  }

  // A batch without versions, if everything is durable and no such batch is the newest: evidence of
  // what was acknowledged, which otherwise only the next commit brings.
  void WriteHint(std::uint32_t slot, bool at_once) {
    constexpr int kMostTurns = 20;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      // To find out again that the journal has failed would wake up all who wait.
      if (StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned) return;
      const absl::StatusOr<Look> look = LookAround();
      if (!look.ok() || look->moving) return;
      if (!look->settled) continue;
      const RingReading& ring = look->ring;
      const BatchW newest = ring.NewestW();
      if (look->in_flight != 0 || BatchE::Unpack(ring.At(0).e).segment != segment_.number()) return;
      if (newest.hint_only) {
        // Whoever froze it may be dead; but nobody waits for it.
        if (newest.state == BatchState::kFrozen && (IsMine(ring.At(0).w) || at_once)) {
          Write(ring, 0).IgnoreError();
        }
        return;
      }
      // What an incarnation begins with needs none: it stands in the segment's header.
      if (BatchH::Unpack(ring.At(0).h).hint == newest.last ||
          BatchE::Unpack(ring.At(0).e).end_block + 1 > capacity_blocks_ - kSealBlocks) {
        return;
      }
      const std::int64_t now = seam::MonotonicNanos();
      if (std::exchange(rested_on_, ring.At(0).w) != ring.At(0).w) resting_since_ns_ = now;
      if (!at_once && now - resting_since_ns_ < kRest_ns) return;
      EPOCH_POINT("journal.before_rest");
      FreezeW(ring, BatchW{BatchState::kFrozen, true, newest.version, newest.last}.Pack(), slot);
    }
  }

  void Tend(std::uint32_t slot, const RingReading& ring) {
    // What fails is known to all by then: head says it.
    segment_.Tend(slot, BatchE::Unpack(ring.At(0).e).end_block, queue_).IgnoreError();
    NoteQueue();
  }

  // --- writing -----------------------------------------------------------------------------------

  enum class Help { kNone, kTried, kWritten };

  // Writes the oldest batch that is this process's to write. Otherwise `help_after_ns` is lowered
  // to when that will be so.
  absl::StatusOr<Help> WriteWhatIsDue(const Look& look, std::int64_t& help_after_ns) {
    const RingReading& ring = look.ring;
    // One without versions, too, if it blocks others: head does not wait for it.
    const int oldest = std::max(look.in_flight - 1, BlocksOthers(look) ? 0 : -1);
    for (int back = oldest; back >= 0; --back) {
      const BatchReading& batch = ring.At(-back);
      if (BatchW::Unpack(batch.w).state != BatchState::kFrozen || IsUnderWay(batch.w)) continue;
      // The next segment begins with the state that is visible then.
      if (Opens(ring, -back) && look.head.epoch < BatchW::Unpack(ring.At(-back - 1).w).last) break;
      const std::int64_t wait_ns = HelpIsDueIn(ring, -back);
      if (wait_ns > 0) {
        help_after_ns = std::min(help_after_ns, wait_ns);
        continue;
      }
      absl::StatusOr<bool> wrote = Write(ring, -back);
      if (!wrote.ok()) return wrote.status();
      return *wrote ? Help::kWritten : Help::kTried;
    }
    return Help::kNone;
  }

  // Where a batch goes; its bytes are in the buffer.
  struct Image {
    std::uint64_t first_block;
    std::uint64_t blocks;
  };
  // Nothing if what was read is stale or damaged; then `why` is what Stale() says.
  std::optional<Image> Prepare(const RingReading& ring, int offset, AlignedBuffer& to,
                               absl::StatusOr<bool>& why) {
    const BatchReading& batch = ring.At(offset);
    const BatchReading& previous = ring.At(offset - 1);
    const BatchW w = BatchW::Unpack(batch.w);
    const BatchW before = BatchW::Unpack(previous.w);
    const BatchE end = BatchE::Unpack(batch.e);
    const BatchE from = BatchE::Unpack(previous.e);
    pieces_.clear();
    if (!view_.ValidCell(before.version) || !view_.ValidCell(w.version) ||
        (!w.hint_only && !builder_.Collect(w.version, w.last, before.last, pieces_))) {
      why = Stale(ring, offset);
      return std::nullopt;
    }
    const std::uint64_t blocks = BatchBuilder::BlocksOf(pieces_);
    const Image image{end.end_block - blocks, blocks};
    // Exactly behind the batch before, or behind the base of the segment that it opens.
    const bool continues = end.segment == from.segment && image.first_block == from.end_block;
    const std::uint64_t base_bytes = view_.cells[before.version].length_bytes.Load(kRelaxed);
    const bool opens =
        end.segment == from.segment + 1 && image.first_block == 1 + BlocksFor(base_bytes);
    if (end.end_block > capacity_blocks_ - kSealBlocks || blocks > end.end_block ||
        (!continues && !opens)) {
      why = Stale(ring, offset);
      return std::nullopt;
    }
    // The base says where a segment's first batch goes; others go where the words say.
    if (!opens) {
      why = EndIsRight(ring, offset - 1);
      if (!why.ok() || !*why) return std::nullopt;
    }
    if (blocks * kBlockBytes > to.size()) {
      to = AlignedBuffer(blocks * kBlockBytes);
      if (to.data() == nullptr) {
        why = absl::ResourceExhaustedError("no memory for a journal batch");
        return std::nullopt;
      }
    }
    EPOCH_POINT("journal.collected");
    const bool sound =
        builder_.Build(batch, previous, pieces_, image.first_block, blocks, to.data());
    EPOCH_POINT("journal.built");
    // Copied, then checked: if the words are still exactly these, so were the versions.
    seam::AcquireFence();
    detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
    if (BatchReading::Of(words) != batch) {
      why = false;
      return std::nullopt;
    }
    if (!sound) {
      why = Scribbled(words, batch.w);
      return std::nullopt;
    }
    ends_.Remember(ring, offset);
    return image;
  }

  // Before anything is written behind a batch, or a segment is begun that says where it ended.
  // False: look again.
  absl::StatusOr<bool> EndIsRight(const RingReading& ring, int offset) {
    const absl::StatusOr<Ends::Verdict> verdict = ends_.Check(ring, offset, segment_.file());
    if (!verdict.ok()) return verdict.status();
    if (*verdict == Ends::Verdict::kWrong) return RingDamaged();
    return *verdict == Ends::Verdict::kRight;
  }

  // Writes the batch and waits for the disk. True: it is Written. False: look again. Errors:
  // poisoned, out of room, superseded.
  absl::StatusOr<bool> Write(const RingReading& ring, int offset) {
    const BatchReading& batch = ring.At(offset);
    const BatchE end = BatchE::Unpack(batch.e);
    if (end.segment < segment_.number()) return Stale(ring, offset);
    if (end.segment > segment_.number()) {
      if (!view_.ValidCell(BatchW::Unpack(ring.At(offset - 1).w).version)) return RingDamaged();
      // (Behind by more than one, this process finds the segment made by another, or attaches
      // anew.)
      if (BatchE::Unpack(ring.At(offset - 1).e).segment == segment_.number()) {
        if (const auto right = EndIsRight(ring, offset - 1); !right.ok() || !*right) return right;
      }
      const absl::Status rolled = segment_.Roll(ring, offset, builder_);
      if (absl::IsNotFound(rolled)) {
        return Lost(ring.WordsAt(*view_.control, offset), batch.w, NotThere(rolled, end.segment));
      }
      if (absl::IsAborted(rolled)) {
        return Scribbled(ring.WordsAt(*view_.control, offset), batch.w);
      }
      if (!rolled.ok() || !segment_.unnamed()) NoteRoom(rolled, ring, offset);
      if (!rolled.ok()) return rolled;
      return false;
    }
    if (segment_.unnamed() && !Opens(ring, offset)) {
      // The batch that was to open it was written by others, perhaps elsewhere.
      const absl::Status attached = segment_.Attach();
      if (absl::IsNotFound(attached)) {
        return Lost(ring.WordsAt(*view_.control, offset), batch.w, NotThere(attached, end.segment));
      }
      if (!attached.ok()) return attached;
      return false;
    }
    absl::StatusOr<bool> why = false;
    const std::optional<Image> image = Prepare(ring, offset, buffer_, why);
    if (!image.has_value()) return why;
    detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
    EPOCH_POINT("journal.before_submit");
    const std::int64_t started_ns = seam::MonotonicNanos();
    const int error = WriteDurably(segment_.fd(), buffer_.data(), image->blocks * kBlockBytes,
                                   image->first_block * kBlockBytes);
    EPOCH_POINT("journal.written");
    if (error != 0 && detail::BlameFor(error, detail::Attempt::kWrite) == detail::Blame::kDevices) {
      // A later success would prove nothing: the pages that failed may be marked clean.
      if (absl::Status s = WriteFailed(words, batch.w, end.segment); !s.ok()) return s;
      return false;
    }
    if (error != 0) {
      // This process's trouble: the batch stays Frozen, for whoever can write it, and is then
      // written whole.
      const absl::Status refused =
          detail::ErrnoStatus(error, absl::StrCat("cannot write ", segment_.path()));
      NoteRoom(refused, ring, offset);
      return refused;
    }
    const std::int64_t written_ns = seam::MonotonicNanos();
    NoteLatency(written_ns - started_ns);
    // Whoever noted it: that one may be dead.
    if (view_.control->journal_stall_errno.Load(kRelaxed) != 0) {
      NoteRoom(absl::OkStatus(), ring, offset);
    }
    if (segment_.unnamed()) {
      const absl::StatusOr<bool> named = segment_.Name(builder_);
      NoteRoom(named.status(), ring, offset);
      if (absl::IsNotFound(named.status())) {
        return Lost(words, batch.w, NotThere(named.status(), end.segment));
      }
      if (!named.ok() || !*named) return named;
    }
    if (const absl::Status found = segment_.Findable(written_ns); !found.ok()) {
      return Lost(words, batch.w, found);
    }
    MarkWritten(words, batch.w);
    return true;
  }

  // Why there is no journal to be found for a batch in `segment`. The segment that this process has
  // open may be older, and rightly gone; so what became of that says nothing then.
  absl::Status NotThere(const absl::Status& missing, std::uint64_t segment) const {
    if (segment_.number() == segment || segment_.number() + 1 == segment) {
      if (const absl::Status found = segment_.FindableNow(); !found.ok()) return found;
    }
    return absl::FailedPreconditionError(absl::StrCat(
        directory_, ": the journal is not where it was: ", std::string(missing.message()),
        "; what is accepted is pending"));
  }

  // What was written, or is to be, is in a file that others do not find. False: they went on
  // without it, and the segment may have been retired since. If it is gone for good, so is what was
  // to be durable in it: this incarnation ends here.
  absl::StatusOr<bool> Lost(detail::BatchWords& words, std::uint64_t w, const absl::Status& why) {
    // W leaves Frozen before anybody can retire the segment, and the segment was looked at first.
    // By a CAS, also where nothing is to change: a load may find what W was before, since to look
    // at a file orders nothing.
    BatchW lost = BatchW::Unpack(w);
    if (absl::IsDataLoss(why)) lost.state = BatchState::kFailed;
    std::uint64_t found = w;
    if (!words.w.CompareExchange(found, lost.Pack())) return false;
    if (absl::IsDataLoss(why)) Poison().IgnoreError();
    return why;
  }

  // Whether there was room on the disk, for all to see.
  void NoteRoom(const absl::Status& done, const RingReading& ring, int offset) {
    seam::Atomic<std::uint32_t>& stalled = view_.control->journal_stall_errno;
    if (done.ok()) {
      stalled.Store(0, kRelaxed);
    } else if (detail::IsNoRoom(done) &&
               ring.WordsAt(*view_.control, offset).w.Load() == ring.At(offset).w) {
      stalled.Store(ENOSPC, kRelaxed);  // and no other had more luck meanwhile
    }
  }

  // The device failed. Unless it was late, on a segment that has been left behind: what it was
  // about is durable by another's write, and nothing that comes depends on that file.
  absl::Status WriteFailed(detail::BatchWords& words, std::uint64_t w, std::uint64_t segment) {
    const RingReading ring = ReadRing(*view_.control);
    if (words.w.Load() != w && ring.kind == RingReading::Kind::kWhole &&
        BatchE::Unpack(ring.At(0).e).segment > segment) {
      return absl::OkStatus();
    }
    return Fail(words, w);
  }

  void NoteLatency(std::int64_t latency) {
    const std::int64_t mean = view_.control->flush_latency_ns.Load(kRelaxed);
    view_.control->flush_latency_ns.Store(mean == 0 ? latency : mean + (latency - mean) / 8,
                                          kRelaxed);
  }

  bool MarkWritten(detail::BatchWords& words, std::uint64_t w) {
    BatchW written = BatchW::Unpack(w);
    written.state = BatchState::kWritten;
    const bool marked = words.w.CompareExchange(w, written.Pack());
    if (marked) EPOCH_POINT("journal.marked");
    detail::AdvanceDurableHead(view_);
    return marked;
  }

  // --- writes that go on by themselves -----------------------------------------------------------

  bool IsUnderWay(std::uint64_t w) const {
    return std::any_of(writes_.begin(), writes_.end(), [w](const OwnWrite& write) {
      return write.words != nullptr && write.w == w;
    });
  }
  bool OwnWrites() const {
    return std::any_of(writes_.begin(), writes_.end(),
                       [](const OwnWrite& write) { return write.words != nullptr; });
  }
  void NoteQueue() { in_queue_.store(queue_.in_flight(), std::memory_order_relaxed); }
  OwnWrite* FreeWrite() {
    for (OwnWrite& write : writes_) {
      if (write.words == nullptr) return &write;
    }
    return nullptr;
  }

  // Hands the newest batch to the disk. False: it has to be waited for, so leave it to Flush.
  bool Send(const RingReading& ring) {
    const BatchReading& batch = ring.At(0);
    OwnWrite* const write = FreeWrite();
    if (write == nullptr || BatchE::Unpack(batch.e).segment != segment_.number() ||
        segment_.unnamed()) {
      return false;
    }
    absl::StatusOr<bool> why = false;
    const std::optional<Image> image = Prepare(ring, 0, write->buffer, why);
    if (!image.has_value()) return why.ok();
    if (image->blocks > kMostSentBlocks) return false;
    write->words = &ring.WordsAt(*view_.control, 0);
    write->w = batch.w;
    write->size = image->blocks * kBlockBytes;
    write->segment = segment_.number();
    write->started_ns = seam::MonotonicNanos();
    EPOCH_POINT("journal.before_submit");
    if (queue_.Submit(segment_.fd(), write->buffer.data(), write->size,
                      image->first_block * kBlockBytes, /*durably=*/true,
                      static_cast<std::uint64_t>(write - writes_.data()))) {
      NoteQueue();
      return true;
    }
    write->words = nullptr;
    return false;
  }

  // Takes note of what is done. True if anything became durable by it.
  bool ReapAll() {
    bool written = false;
    while (const std::optional<WriteQueue::Done> done = queue_.Reap(/*wait=*/false)) {
      written |= Finish(*done);
    }
    NoteQueue();
    return written;
  }
  // The same, for one that is waited for. False: it cannot be.
  bool Wait(bool& moved) {
    const std::optional<WriteQueue::Done> done = queue_.Reap(/*wait=*/true);
    if (!done.has_value()) return false;
    moved |= Finish(*done, /*waited=*/true);
    return true;
  }

  bool Finish(const WriteQueue::Done& done, bool waited = false) {
    if (CurrentSegment::Owns(done.tag)) {
      segment_.Finished(done, queue_).IgnoreError();  // as in Tend
      return false;
    }
    OwnWrite& write = writes_[done.tag];
    detail::BatchWords* const words = std::exchange(write.words, nullptr);
    EPOCH_POINT("journal.written");
    const int fault = EPOCH_FAULT("journal.write");
    const int result = fault != 0 ? -fault : done.result;
    if (result >= 0 && static_cast<std::size_t>(result) == write.size) {
      const std::int64_t now_ns = waited ? seam::MonotonicNanos() : 0;
      if (write.segment == segment_.number() && !segment_.unnamed()) {
        // Flush writes it again, and says why.
        const absl::Status found = waited ? segment_.Findable(now_ns) : segment_.FindableNow();
        if (!found.ok() && !Lost(*words, write.w, found).ok()) return false;
      }
      if (waited) NoteLatency(now_ns - write.started_ns);
      return MarkWritten(*words, write.w);
    }
    if (result == -EINVAL || result == -EOPNOTSUPP) queue_.Refuse();
    const detail::Blame blame = result >= 0
                                    ? detail::Blame::kCallers  // a part: something was in the way
                                    : detail::BlameFor(-result, detail::Attempt::kWrite);
    if (blame == detail::Blame::kDevices) {
      WriteFailed(*words, write.w, write.segment).IgnoreError();
    } else if (blame == detail::Blame::kCallers) {
      // It is still this process's batch. The queue would only say the same again: Flush writes it,
      // goes on where a call does a part, and is told why not if not.
      unfinished_ = write.w;
    }
    return false;
  }

  // Before the end: what is under way is finished, since its memory goes.
  void Drain() {
    while (queue_.in_flight() > 0) {
      const std::optional<WriteQueue::Done> done = queue_.Reap(/*wait=*/true);
      if (!done.has_value()) break;
      Finish(*done);
    }
    if (queue_.in_flight() == 0) return;
    // What cannot be waited for.
    for (OwnWrite& write : writes_) write.buffer.Leak();
    segment_.Leak();
  }

  struct Patience {
    std::uint64_t w = 0;
    std::int64_t since_ns = 0;
  };
  static constexpr std::size_t kMostRemembered = detail::kMostBatchesInFlight;

  const detail::Mapping& mapping_;
  const RegionView view_;
  const detail::Superblock& super_;
  const std::string directory_;
  const std::uint64_t capacity_blocks_;
  const BatchBuilder builder_;
  Ends ends_;

  mutable seam::Mutex mutex_;
  CurrentSegment segment_;
  AlignedBuffer buffer_;  // of what is written while the caller waits
  std::array<OwnWrite, kMostOwnWrites> writes_;
  mutable WriteQueue queue_;
  std::atomic<unsigned> in_queue_{0};  // of queue_; read without the mutex
  std::vector<Piece> pieces_;
  std::vector<std::uint64_t> mine_;  // W of the batches that this process froze last
  std::array<Patience, detail::kBatchRingSlots> patience_{};
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
