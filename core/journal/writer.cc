// The write path: freeze a batch, build its bytes, write them, let head follow.
//
// Killed or stopped at any point, others finish the same batch: its bytes are a function of the
// frozen words and of immutable versions, and its place is written once. A process that wakes up
// later re-reads W before it submits; one that is past that can only repeat the same bytes, or hit
// a segment nobody reads any more.
#include "core/journal/writer.h"

#include <sys/stat.h>
#define XXH_STATIC_LINKING_ONLY  // the streaming state on the stack
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/journal/disk.h"
#include "core/journal/format.h"
#include "core/journal/ring.h"
#include "core/journal/segment.h"
#include "epoch/detail/bell.h"
#include "epoch/detail/mapping.h"
#include "epoch/detail/slots.h"

namespace epoch::journal {
namespace {

using detail::JournalPort;
using detail::Phase;
using detail::RegionView;
using detail::StateWord;
using detail::VersionCell;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kMillisecond_ns = 1'000'000;

class Port final : public JournalPort, public detail::ForkAware {
 public:
  Port(const detail::Mapping& mapping, OpenSegment segment)
      : mapping_(mapping),
        view_(mapping.view()),
        super_(mapping.superblock()),
        directory_(super_.journal_path.data()),
        capacity_blocks_(super_.segment_bytes / kBlockBytes),
        latest_(super_.history == History::kLatest),
        segment_(std::move(segment)),
        buffer_(64 * kBlockBytes) {
    Register();
  }
  ~Port() override { Unregister(); }

  absl::StatusOr<Outcome> Flush(std::uint32_t slot, std::uint64_t generation) override {
    const std::lock_guard lock(mutex_);
    if (!segment_.fd.ok()) {  // a fork child: needs a description, and a lock, of its own
      absl::StatusOr<OpenSegment> segment =
          AttachNewest(directory_, super_.journal, super_.incarnation);
      if (!segment.ok()) return segment.status();
      segment_ = *std::move(segment);
    }
    // Each turn finishes a step that somebody began. Words that never add up to one are damage.
    constexpr int kMostTurns = 100'000;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      detail::AdvanceDurableHead(view_);
      const RingReading ring = ReadRing(*view_.control);
      const BatchW newest = BatchW::Unpack(ring.newest.w);
      if (IsSuccessor(ring.next.w, ring.newest.w)) {
        FreezeHint(ring);
        continue;
      }
      switch (newest.state) {
        case BatchState::kFailed:
          return Poison();
        case BatchState::kFrozen: {
          if (!EndIsKnown(ring.newest.e, ring.before.e)) {
            if (absl::Status s = FreezeEnd(ring); !s.ok()) return s;
            continue;
          }
          const std::int64_t wait_ns = HelpIsDueIn(ring);
          if (wait_ns > 0) return Outcome{Progress::kBusy, wait_ns};
          absl::StatusOr<bool> wrote = Write(ring);
          if (!wrote.ok()) return wrote.status();
          if (*wrote) return Outcome{Progress::kMoved};
          continue;
        }
        case BatchState::kWritten: {
          const StateWord head = StateWord::Unpack(view_.control->head.Load());
          if (head.phase == Phase::kPoisoned) return Poison();
          if (head.epoch < newest.last) continue;  // not yet followed, or a stale reading
          const std::uint64_t tail_word = view_.control->tail.Load();
          StateWord accepted = StateWord::Unpack(tail_word);
          if (accepted.phase == Phase::kVoting) {
            // Undecided, so not to be written: a record must never be of something that is aborted
            // afterwards. Its predecessor is.
            if (!view_.ValidCell(accepted.version)) return RingDamaged();
            accepted.version =
                detail::PreviousCellOf(view_.cells[accepted.version].shape.Load(kRelaxed));
            accepted.epoch -= 1;
            if (view_.control->tail.Load() != tail_word) continue;
          } else {
            // Once durable it may be superseded and freed, so it must be Published by now.
            detail::MarkPublished(view_, tail_word);
          }
          if (accepted.epoch <= newest.last) return Outcome{Progress::kIdle};
          Freeze(ring, accepted, slot, generation);
          continue;
        }
        default:
          return RingDamaged();
      }
    }
    return RingDamaged();
  }

  std::string backend() const override {
    const std::lock_guard lock(mutex_);
    return absl::StrCat(disk_.backend(), segment_.direct ? "" : "+buffered");
  }

  void AfterForkInChild() noexcept override {
    // Another thread may have been in the middle of a flush; it does not exist here, and what it
    // had locked or half changed is begun anew (not destroyed: it may not be whole).
    std::construct_at(&mutex_);
    std::construct_at(&pieces_);
    disk_.AfterForkInChild();  // segment_.fd closes itself
    mine_ = 0;
  }

 private:
  struct Piece {
    std::uint32_t cell;
    Epoch epoch;
    std::uint64_t length_bytes;
  };

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

  // The batch in flight will never be known to be durable: this incarnation ends here.
  absl::Status Fail(const RingReading& ring) {
    std::uint64_t expected = ring.newest.w;
    BatchW failed = BatchW::Unpack(expected);
    failed.state = BatchState::kFailed;
    ring.newest_words->w.CompareExchange(expected, failed.Pack());
    return Poison();
  }

  // The versions after `from` up to the one in `cell`, oldest first; only the last for kLatest.
  // False if the cells have moved on: what was read is stale.
  bool Collect(std::uint32_t cell, Epoch last, Epoch from, std::vector<Piece>& pieces) const {
    pieces.clear();
    for (Epoch epoch = last; epoch > from; --epoch) {
      if (!view_.ValidCell(cell)) return false;
      const VersionCell& version = view_.cells[cell];
      const std::uint64_t length = version.length_bytes.Load(kRelaxed);
      if (version.epoch.Load(kRelaxed) != epoch || length > view_.geometry.state_bytes)
        return false;
      pieces.push_back({cell, epoch, length});
      if (latest_) break;
      cell = detail::PreviousCellOf(version.shape.Load(kRelaxed));
    }
    std::reverse(pieces.begin(), pieces.end());
    return !pieces.empty();
  }

  static std::uint64_t BlocksOf(const std::vector<Piece>& pieces) {
    std::uint64_t bytes = sizeof(BatchHeader);
    for (const Piece& piece : pieces) bytes += RecordBytes(piece.length_bytes);
    return BlocksFor(bytes);
  }

  // W: all that was accepted since batch s, as far as it fits.
  void Freeze(const RingReading& ring, const StateWord& accepted, std::uint32_t slot,
              std::uint64_t generation) {
    const Epoch from = BatchW::Unpack(ring.newest.w).last;
    if (!Collect(accepted.version, accepted.epoch, from, pieces_)) return;
    std::size_t count = 0;
    for (std::uint64_t bytes = sizeof(BatchHeader); count < pieces_.size(); ++count) {
      bytes += RecordBytes(pieces_[count].length_bytes);
      if (count > 0 && bytes > kBatchBytesGoal) break;
    }
    const Piece& last = pieces_[count - 1];
    std::uint64_t expected = ring.next.w;
    const std::uint64_t frozen = BatchW{BatchState::kFrozen, false, last.cell, last.epoch}.Pack();
    EPOCH_POINT("journal.before_freeze");
    if (!ring.next_words->w.CompareExchange(expected, frozen)) return;
    EPOCH_POINT("journal.frozen");
    mine_ = frozen;
    view_.control->flusher.Store(
        (std::uint64_t{slot + 1} << detail::kNumberBits) | (generation & detail::kNumberMask),
        kRelaxed);
  }

  // H of batch s+1, whose W is frozen: the newest epoch known to be visible, chosen once.
  void FreezeHint(const RingReading& ring) {
    const BatchH newest = BatchH::Unpack(ring.newest.h);
    const BatchH old = BatchH::Unpack(ring.next.h);
    const auto tag = static_cast<std::uint16_t>(newest.tag + 1);
    if (old.tag != static_cast<std::uint16_t>(tag - detail::kBatchRingSlots)) return;  // stale
    const Epoch head = StateWord::Unpack(view_.control->head.Load()).epoch;
    std::uint64_t expected = ring.next.h;
    EPOCH_POINT("journal.before_hint");
    ring.next_words->h.CompareExchange(expected, BatchH{tag, head}.Pack());
  }

  // E of batch s: behind batch s-1, or behind the base of the next segment.
  absl::Status FreezeEnd(const RingReading& ring) {
    const BatchW w = BatchW::Unpack(ring.newest.w);
    const BatchW before = BatchW::Unpack(ring.before.w);
    const BatchE from = BatchE::Unpack(ring.before.e);
    const bool collected = Collect(w.version, w.last, before.last, pieces_);
    const VersionCell* base =
        view_.ValidCell(before.version) ? &view_.cells[before.version] : nullptr;
    const bool based = base != nullptr && base->epoch.Load(kRelaxed) == before.last;
    const std::uint64_t base_bytes = based ? base->length_bytes.Load(kRelaxed) : 0;
    if (!collected || !based || base_bytes > view_.geometry.state_bytes) {
      if (ring.newest_words->w.Load() != ring.newest.w) return absl::OkStatus();  // stale
      return Scribbled(w.last);
    }
    const std::uint64_t blocks = BlocksOf(pieces_);
    BatchE end{from.segment, from.end_block + blocks};
    if (end.end_block > capacity_blocks_) {
      end = {from.segment + 1, 1 + BlocksFor(base_bytes) + blocks};
    }
    if (end.segment > kMaxSegment || end.end_block > capacity_blocks_) return Scribbled(w.last);
    std::uint64_t expected = ring.newest.e;
    EPOCH_POINT("journal.before_end");
    ring.newest_words->e.CompareExchange(expected, end.Pack());
    return absl::OkStatus();
  }

  // A participant wrote over what it had accepted: it can not be made durable as it was.
  absl::Status Scribbled(Epoch epoch) {
    const RingReading ring = ReadRing(*view_.control);
    std::uint64_t expected = ring.newest.w;
    BatchW w = BatchW::Unpack(expected);
    if (w.state == BatchState::kFrozen && w.last == epoch) {
      w.state = BatchState::kFailed;
      ring.newest_words->w.CompareExchange(expected, w.Pack());
    }
    Poison().IgnoreError();
    return absl::DataLossError(absl::StrCat(
        mapping_.path(), ": the accepted versions up to epoch ", epoch,
        " were overwritten in shared memory before they were durable; the journal is poisoned"));
  }

  // How long the batch's writer may still take before this process writes it, too. Not positive:
  // now, because it is this one's, its writer is dead, or it has had its time.
  std::int64_t HelpIsDueIn(const RingReading& ring) {
    if (ring.newest.w == mine_) return 0;
    const std::int64_t now = seam::MonotonicNanos();
    if (ring.newest.w != waited_for_) {
      waited_for_ = ring.newest.w;
      waiting_since_ns_ = now;
    }
    const std::uint64_t flusher = view_.control->flusher.Load(kRelaxed);
    const std::uint64_t slot = (flusher >> detail::kNumberBits) - 1;
    if (slot < view_.geometry.participants &&
        !detail::OwnerAlive(mapping_.probe_fd(), static_cast<std::uint32_t>(slot))) {
      return 0;
    }
    const std::int64_t latency = std::clamp<std::int64_t>(
        view_.control->flush_latency_ns.Load(kRelaxed), 0, 300 * kMillisecond_ns);
    std::int64_t patience = std::max(3 * latency, 2 * kMillisecond_ns);
    // A new segment takes longer to make than a batch to write, and to make it twice helps nobody.
    if (BatchE::Unpack(ring.newest.e).segment != segment_.number) patience += 100 * kMillisecond_ns;
    return waiting_since_ns_ + patience - now;
  }

  // Makes sure that segment `number` exists and is the one attached to. The batch that goes there
  // is frozen, so head stands at the end of the batch before it, and stays there.
  absl::Status Roll(const RingReading& ring, std::uint64_t number) {
    const BatchW before = BatchW::Unpack(ring.before.w);
    if (!view_.ValidCell(before.version)) return RingDamaged();
    const VersionCell& cell = view_.cells[before.version];
    SegmentHeader header{};
    header.magic = kSegmentMagic;
    header.format_major = kFormatMajor;
    header.format_minor = kFormatMinor;
    header.journal = super_.journal;
    header.incarnation = super_.incarnation;
    header.segment = number;
    header.block_bytes = kBlockBytes;
    header.history = super_.history;
    header.capacity_blocks = capacity_blocks_;
    header.base_epoch = before.last;
    header.base_length_bytes = cell.length_bytes.Load(kRelaxed);
    header.base_digest = cell.digest.Load(kRelaxed);
    header.base_chain = cell.chain.Load(kRelaxed);
    header.base_token = cell.token.Load(kRelaxed);
    header.previous_segment = number - 1;
    header.previous_end_block = BatchE::Unpack(ring.before.e).end_block;
    header.previous_last_epoch = before.last;
    header.previous_chain = header.base_chain;
    header.retain_segments = super_.retain_segments;
    header.state_bytes = view_.geometry.state_bytes;
    header.participants = view_.geometry.participants;
    header.versions = view_.geometry.versions;
    if (header.base_length_bytes > view_.geometry.state_bytes) return Scribbled(before.last + 1);
    const std::byte* payload = view_.PayloadOf(before.version);
    const std::vector<std::byte> base(payload, payload + header.base_length_bytes);
    seam::AcquireFence();
    if (ring.newest_words->w.Load() != ring.newest.w) return absl::OkStatus();  // stale
    if (detail::Digest(base) != header.base_digest) return Scribbled(before.last + 1);
    struct stat current {};
    const unsigned mode =
        sys::fstat(segment_.fd.get(), &current) == 0 ? current.st_mode & 0777 : 0600;
    absl::StatusOr<OpenSegment> made = MakeSegment(directory_, mode, header, base);
    if (!made.ok()) return made.status();
    const absl::Status published = PublishSegment(directory_, *made);
    if (!published.ok() && !absl::IsAlreadyExists(published)) {
      // A sync of the directory that failed proves nothing when it succeeds later.
      if (!absl::IsResourceExhausted(published)) return Fail(ring);
      return published;
    }
    EPOCH_POINT("journal.rolled");
    if (absl::Status s = Reattach(); !s.ok()) return s;
    if (segment_.number < number) {
      return absl::InternalError(
          absl::StrCat(directory_, ": segment ", number, " exists, but can not be attached to"));
    }
    return absl::OkStatus();
  }

  // To the newest segment; its directory entry is durable after this.
  absl::Status Reattach() {
    absl::StatusOr<OpenSegment> newest =
        AttachNewest(directory_, super_.journal, super_.incarnation);
    if (!newest.ok()) return newest.status();
    disk_.Release();
    segment_ = *std::move(newest);
    if (super_.retain_segments != 0 && segment_.number > super_.retain_segments) {
      SweepSegments(directory_, segment_.number - super_.retain_segments);
    }
    return absl::OkStatus();
  }

  // True: batch s is Written. False: look again. Errors: poisoned, out of room, superseded.
  absl::StatusOr<bool> Write(const RingReading& ring) {
    const BatchE end = BatchE::Unpack(ring.newest.e);
    if (end.segment < segment_.number) return Stale(ring);
    if (end.segment > segment_.number) {
      absl::Status rolled = Reattach();
      if (rolled.ok() && end.segment > segment_.number) rolled = Roll(ring, end.segment);
      if (absl::IsResourceExhausted(rolled)) {
        view_.control->journal_stall_errno.Store(ENOSPC, kRelaxed);
        return rolled;
      }
      if (!rolled.ok()) return rolled;
      view_.control->journal_stall_errno.Store(0, kRelaxed);
      return false;
    }
    const BatchW w = BatchW::Unpack(ring.newest.w);
    const BatchW before = BatchW::Unpack(ring.before.w);
    if (!Collect(w.version, w.last, before.last, pieces_)) return Stale(ring);
    const std::uint64_t blocks = BlocksOf(pieces_);
    if (!view_.ValidCell(before.version) || end.end_block > capacity_blocks_ ||
        blocks > end.end_block) {
      return Stale(ring);
    }
    const std::uint64_t first_block = end.end_block - blocks;
    // Exactly behind the batch before, or behind the base of the segment that it opens.
    const BatchE from = BatchE::Unpack(ring.before.e);
    const bool continues = end.segment == from.segment && first_block == from.end_block;
    const bool opens =
        end.segment == from.segment + 1 &&
        first_block == 1 + BlocksFor(view_.cells[before.version].length_bytes.Load(kRelaxed));
    if (!continues && !opens) return Stale(ring);
    if (blocks * kBlockBytes > buffer_.size()) {
      buffer_ = AlignedBuffer(blocks * kBlockBytes);
      if (buffer_.data() == nullptr) {
        return absl::ResourceExhaustedError("no memory for a journal batch");
      }
    }
    EPOCH_POINT("journal.collected");
    const bool sound = Build(ring, first_block, blocks);
    EPOCH_POINT("journal.built");
    // Copied, then checked: if the words are still exactly these, so were the versions.
    seam::AcquireFence();
    if (ring.newest_words->w.Load() != ring.newest.w ||
        ring.newest_words->e.Load() != ring.newest.e ||
        ring.newest_words->h.Load() != ring.newest.h) {
      return false;
    }
    if (!sound) return Scribbled(w.last);
    EPOCH_POINT("journal.before_submit");
    const std::int64_t started_ns = seam::MonotonicNanos();
    const int error = disk_.WriteDurably(segment_.fd.get(), buffer_.data(), blocks * kBlockBytes,
                                         first_block * kBlockBytes);
    EPOCH_POINT("journal.written");
    // A later success would prove nothing: the pages that failed may be marked clean.
    if (error != 0) return Fail(ring);
    std::uint64_t expected = ring.newest.w;
    BatchW written = w;
    written.state = BatchState::kWritten;
    if (ring.newest_words->w.CompareExchange(expected, written.Pack())) {
      EPOCH_POINT("journal.marked");
      const std::int64_t latency = seam::MonotonicNanos() - started_ns;
      const std::int64_t mean = view_.control->flush_latency_ns.Load(kRelaxed);
      view_.control->flush_latency_ns.Store(mean == 0 ? latency : mean + (latency - mean) / 8,
                                            kRelaxed);
    }
    detail::AdvanceDurableHead(view_);
    return true;
  }

  // What was read does not fit together: fine if the ring has moved on, damage if not.
  absl::StatusOr<bool> Stale(const RingReading& ring) {
    if (ring.newest_words->w.Load() != ring.newest.w ||
        ring.newest_words->e.Load() != ring.newest.e) {
      return false;
    }
    if (BatchE::Unpack(ring.newest.e).segment < segment_.number) {
      // Still frozen for a segment that is not the newest: no process of this region does that.
      return absl::FailedPreconditionError(
          absl::StrCat(directory_, ": superseded: the journal went on without this region"));
    }
    return Scribbled(BatchW::Unpack(ring.newest.w).last);
  }

  // Copies the versions in `pieces_` into blocks. False if one does not match its digest.
  bool Build(const RingReading& ring, std::uint64_t first_block, std::uint64_t blocks) {
    std::memset(buffer_.data(), 0, blocks * kBlockBytes);
    const BatchW before = BatchW::Unpack(ring.before.w);
    const BatchE end = BatchE::Unpack(ring.newest.e);
    BatchHeader header{};
    header.magic = kBatchMagic;
    header.format_major = kFormatMajor;
    header.flags = latest_ ? std::uint32_t{kBatchLatest} : 0u;
    header.journal = super_.journal;
    header.incarnation = super_.incarnation;
    header.segment = end.segment;
    header.block = first_block;
    header.blocks = blocks;
    header.first_epoch = before.last + 1;
    header.last_epoch = pieces_.back().epoch;
    header.records = pieces_.size();
    header.durable_hint = BatchH::Unpack(ring.newest.h).hint;
    header.previous_chain = view_.cells[before.version].chain.Load(kRelaxed);
    header.chain = view_.cells[pieces_.back().cell].chain.Load(kRelaxed);
    header.crc = BatchHeaderCrc(header);
    BlockWriter writer(buffer_.data(), super_.journal, end.segment, first_block);
    writer.Append(&header, sizeof header);
    bool sound = true;
    for (const Piece& piece : pieces_) {
      const VersionCell& cell = view_.cells[piece.cell];
      RecordHeader record{};
      record.epoch = cell.epoch.Load(kRelaxed);
      record.ballot = cell.ballot.Load(kRelaxed);
      record.length_bytes = piece.length_bytes;
      record.digest = cell.digest.Load(kRelaxed);
      record.chain = cell.chain.Load(kRelaxed);
      record.token = cell.token.Load(kRelaxed);
      record.proposer = cell.proposer.Load(kRelaxed);
      record.kind = static_cast<std::uint64_t>(detail::KindOf(cell.shape.Load(kRelaxed)));
      record.outcome = cell.outcome.Load(kRelaxed);  // decided before it was accepted
      record.deadline_ns = cell.deadline_ns.Load(kRelaxed);
      writer.Append(&record, sizeof record);
      // The digest is taken of the copy: the shared bytes could change between two looks.
      XXH64_state_t digest;
      XXH64_reset(&digest, 0);
      const std::byte* from = view_.PayloadOf(piece.cell);
      for (std::uint64_t left = piece.length_bytes; left > 0;) {
        const std::span<std::byte> to = writer.Next(left);
        std::memcpy(to.data(), from, to.size());
        XXH64_update(&digest, to.data(), to.size());
        from += to.size();
        left -= to.size();
      }
      writer.Skip(Padded(piece.length_bytes) - piece.length_bytes);
      sound = sound && record.epoch == piece.epoch && XXH64_digest(&digest) == record.digest;
    }
    writer.FinishBatch();
    return sound;
  }

  const detail::Mapping& mapping_;
  const RegionView view_;
  const detail::Superblock& super_;
  const std::string directory_;
  const std::uint64_t capacity_blocks_;
  const bool latest_;

  mutable seam::Mutex mutex_;
  OpenSegment segment_;
  mutable Disk disk_;
  AlignedBuffer buffer_;
  std::vector<Piece> pieces_;
  std::uint64_t mine_ = 0;  // W of the batch that this process froze
  std::uint64_t waited_for_ = 0;
  std::int64_t waiting_since_ns_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<detail::JournalPort>> Attach(const detail::Mapping& mapping) {
  const detail::Superblock& super = mapping.superblock();
  if (super.segment_bytes / kBlockBytes < MinSegmentBlocks(super.state_bytes)) {
    return absl::DataLossError(absl::StrCat(mapping.path(), ": segments of ", super.segment_bytes,
                                            " bytes can not hold its states"));
  }
  absl::StatusOr<OpenSegment> segment =
      AttachNewest(super.journal_path.data(), super.journal, super.incarnation);
  if (!segment.ok()) return segment.status();
  return std::make_unique<Port>(mapping, *std::move(segment));
}

}  // namespace epoch::journal
