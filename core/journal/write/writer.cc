#include "core/journal/write/writer.h"

#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/journal/format/format.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/details.h"

namespace epoch::journal {

absl::StatusOr<Writer::Wrote> Writer::Write(const RingReading& ring, int offset) {
  const BatchReading& batch = ring.At(offset);
  const BatchE end = BatchE::Unpack(batch.e);
  if (end.segment < segment_.number()) return Again(Stale(ring, offset));
  if (end.segment > segment_.number()) return Roll(ring, offset);
  // The batch that was to open it was written by others, perhaps elsewhere.
  if (segment_.unnamed() && !ring.Opens(offset)) return AttachAnew(ring, offset);
  const absl::StatusOr<std::optional<Image>> image = Prepare(ring, offset, buffer_);
  if (!image.ok()) return image.status();
  if (!image->has_value()) return Wrote::kLookAgain;
  detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
  EPOCH_POINT("journal.before_submit");
  const std::int64_t started_ns = seam::MonotonicNanos();
  const int error = WriteDurably(segment_.fd(), buffer_.data(), (*image)->blocks * kBlockBytes,
                                 (*image)->first_block * kBlockBytes);
  EPOCH_POINT("journal.written");
  if (error != 0 && detail::BlameFor(error, detail::Attempt::kWrite) == detail::Blame::kDevices) {
    // A later success would prove nothing: the pages that failed may be marked clean.
    return Again(WriteFailed(words, batch.w, end.segment));
  }
  if (error != 0) {
    // This process's trouble: the batch stays Frozen, for whoever can write it, and is then written
    // whole.
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
    const absl::StatusOr<CurrentSegment::Naming> named = segment_.Name(builder_);
    NoteRoom(named.status(), ring, offset);
    if (absl::IsNotFound(named.status())) {
      return Again(Lost(words, batch.w, NotThere(named.status(), end.segment)));
    }
    if (!named.ok()) return named.status();
    if (*named == CurrentSegment::Naming::kElsewhere) return Wrote::kLookAgain;
  }
  if (const absl::Status found = segment_.Findable(written_ns); !found.ok()) {
    return Again(Lost(words, batch.w, found));
  }
  freezer_.MarkWritten(words, batch.w);
  return Wrote::kWritten;
}

// To the segment that the batch opens.
absl::StatusOr<Writer::Wrote> Writer::Roll(const RingReading& ring, int offset) {
  const BatchReading& batch = ring.At(offset);
  const BatchReading& previous = ring.At(offset - 1);
  detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
  if (!view_.ValidCell(BatchW::Unpack(previous.w).version)) return freezer_.RingDamaged();
  // (Behind by more than one, this process finds the segment made by another, or attaches anew.)
  if (BatchE::Unpack(previous.e).segment == segment_.number()) {
    const absl::StatusOr<Ends::Verdict> end = CheckEnd(ring, offset - 1);
    if (!end.ok()) return end.status();
    if (*end == Ends::Verdict::kStale) return Wrote::kLookAgain;
  }
  const absl::StatusOr<CurrentSegment::Rolling> rolled = segment_.Roll(ring, offset, builder_);
  if (absl::IsNotFound(rolled.status())) {
    const std::uint64_t segment = BatchE::Unpack(batch.e).segment;
    return Again(Lost(words, batch.w, NotThere(rolled.status(), segment)));
  }
  if (rolled.ok() && *rolled == CurrentSegment::Rolling::kOverwritten) {
    return freezer_.Scribbled(words, batch.w);
  }
  if (!rolled.ok() || !segment_.unnamed()) NoteRoom(rolled.status(), ring, offset);
  return Again(rolled.status());
}

absl::StatusOr<Writer::Wrote> Writer::AttachAnew(const RingReading& ring, int offset) {
  const BatchReading& batch = ring.At(offset);
  const absl::Status attached = segment_.Attach();
  if (!absl::IsNotFound(attached)) return Again(attached);
  return Again(Lost(ring.WordsAt(*view_.control, offset), batch.w,
                    NotThere(attached, BatchE::Unpack(batch.e).segment)));
}

absl::StatusOr<std::optional<Writer::Image>> Writer::Prepare(const RingReading& ring, int offset,
                                                             AlignedBuffer& to) {
  const auto stale = [&]() -> absl::StatusOr<std::optional<Image>> {
    if (absl::Status s = Stale(ring, offset); !s.ok()) return s;
    return std::nullopt;
  };
  const BatchReading& batch = ring.At(offset);
  const BatchReading& previous = ring.At(offset - 1);
  const BatchW w = BatchW::Unpack(batch.w);
  const BatchW before = BatchW::Unpack(previous.w);
  const BatchE end = BatchE::Unpack(batch.e);
  const BatchE from = BatchE::Unpack(previous.e);
  pieces_.clear();
  if (!view_.ValidCell(before.version) || !view_.ValidCell(w.version) ||
      (!w.hint_only && !builder_.Collect(w.version, w.last, before.last, pieces_))) {
    return stale();
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
    return stale();
  }
  // The base says where a segment's first batch goes; others go where the words say.
  if (!opens) {
    const absl::StatusOr<Ends::Verdict> before_it = CheckEnd(ring, offset - 1);
    if (!before_it.ok()) return before_it.status();
    if (*before_it == Ends::Verdict::kStale) return std::nullopt;
  }
  if (blocks * kBlockBytes > to.size()) {
    to = AlignedBuffer(blocks * kBlockBytes);
    if (to.data() == nullptr) {
      return absl::ResourceExhaustedError("no memory for a journal batch");
    }
  }
  EPOCH_POINT("journal.collected");
  const bool sound = builder_.Build(batch, previous, pieces_, image.first_block, blocks, to.data());
  EPOCH_POINT("journal.built");
  // Copied, then checked: if the words are still exactly these, so were the versions.
  seam::AcquireFence();
  detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
  if (BatchReading::Of(words) != batch) return std::nullopt;
  if (!sound) return freezer_.Scribbled(words, batch.w);
  ends_.Remember(ring, offset);
  return image;
}

absl::StatusOr<Ends::Verdict> Writer::CheckEnd(const RingReading& ring, int offset) {
  const absl::StatusOr<Ends::Verdict> verdict = ends_.Check(ring, offset, segment_.file());
  if (verdict.ok() && *verdict == Ends::Verdict::kWrong) return freezer_.RingDamaged();
  return verdict;
}

bool Writer::Send(const RingReading& ring, OwnWrites& own) {
  const BatchReading& batch = ring.At(0);
  OwnWrites::Write* const write = own.Free();
  if (write == nullptr || BatchE::Unpack(batch.e).segment != segment_.number() ||
      segment_.unnamed()) {
    return false;
  }
  const absl::StatusOr<std::optional<Image>> image = Prepare(ring, 0, write->buffer);
  if (!image.ok()) return false;         // Flush says why
  if (!image->has_value()) return true;  // stale: nothing is to be waited for
  const auto [first_block, blocks] = **image;
  if (blocks > OwnWrites::kMostBlocks) return false;
  return own.Send(*write, {&ring.WordsAt(*view_.control, 0), batch.w, segment_.number()},
                  blocks * kBlockBytes, segment_.fd(), first_block * kBlockBytes);
}

bool Writer::Finish(const OwnWrites::Landed& landed, bool waited) {
  const auto& [batch, news] = landed;
  if (news == OwnWrites::News::kFailed) {
    WriteFailed(*batch.words, batch.w, batch.segment).IgnoreError();
  }
  if (news != OwnWrites::News::kWhole) return false;
  const std::int64_t now_ns = waited ? seam::MonotonicNanos() : 0;
  if (batch.segment == segment_.number() && !segment_.unnamed()) {
    // Flush writes it again, and says why.
    const absl::Status found = waited ? segment_.Findable(now_ns) : segment_.FindableNow();
    if (!found.ok() && !Lost(*batch.words, batch.w, found).ok()) return false;
  }
  if (waited) NoteLatency(now_ns - batch.started_ns);
  return freezer_.MarkWritten(*batch.words, batch.w);
}

// --- why not -------------------------------------------------------------------------------------

// What was read does not fit together: fine (OK) if the batch has moved on, damage if not.
absl::Status Writer::Stale(const RingReading& ring, int offset) {
  detail::BatchWords& words = ring.WordsAt(*view_.control, offset);
  const BatchReading& batch = ring.At(offset);
  seam::AcquireFence();
  if (BatchReading::Of(words) != batch) return absl::OkStatus();
  if (BatchE::Unpack(batch.e).segment < segment_.number()) {
    // Still frozen for a segment that is not the newest: no process of this region does that.
    return detail::Because(Cause::kSuperseded,
                           absl::FailedPreconditionError(absl::StrCat(
                               mapping_.journal_directory(),
                               ": superseded: the journal went on without this region")));
  }
  return freezer_.Scribbled(words, batch.w);
}

absl::Status Writer::NotThere(const absl::Status& missing, std::uint64_t segment) const {
  if (segment_.number() == segment || segment_.number() + 1 == segment) {
    if (const absl::Status found = segment_.FindableNow(); !found.ok()) return found;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(mapping_.journal_directory(), ": the journal is not where it was: ",
                   std::string(missing.message()), "; what is accepted is pending"));
}

// What was written, or is to be, is in a file that others do not find. OK: they went on without it,
// and the segment may have been retired since. If it is gone for good, so is what was to be durable
// in it: this incarnation ends here.
absl::Status Writer::Lost(detail::BatchWords& words, std::uint64_t w, const absl::Status& why) {
  // W leaves Frozen before anybody can retire the segment, and the segment was looked at first. By
  // a CAS, also where nothing is to change: a load may find what W was before, since to look at a
  // file orders nothing.
  BatchW lost = BatchW::Unpack(w);
  if (absl::IsDataLoss(why)) lost.state = BatchState::kFailed;
  std::uint64_t found = w;
  if (!words.w.CompareExchange(found, lost.Pack())) return absl::OkStatus();
  if (absl::IsDataLoss(why)) freezer_.Poison().IgnoreError();
  return why;
}

// The device failed. Unless it was late, on a segment that has been left behind (OK): what it was
// about is durable by another's write, and nothing that comes depends on that file.
absl::Status Writer::WriteFailed(detail::BatchWords& words, std::uint64_t w,
                                 std::uint64_t segment) {
  const RingReading ring = ReadRing(*view_.control);
  if (words.w.Load() != w && ring.kind == RingReading::Kind::kWhole &&
      BatchE::Unpack(ring.At(0).e).segment > segment) {
    return absl::OkStatus();
  }
  return freezer_.Fail(words, w);
}

// Whether there was room on the disk, for all to see.
void Writer::NoteRoom(const absl::Status& done, const RingReading& ring, int offset) {
  seam::Atomic<std::uint32_t>& stalled = view_.control->journal_stall_errno;
  if (done.ok()) {
    stalled.Store(0, kRelaxed);
  } else if (detail::IsNoRoom(done) &&
             ring.WordsAt(*view_.control, offset).w.Load() == ring.At(offset).w) {
    stalled.Store(ENOSPC, kRelaxed);  // and no other had more luck meanwhile
  }
}

void Writer::NoteLatency(std::int64_t latency_ns) {
  const std::int64_t mean_ns = view_.control->flush_latency_ns.Load(kRelaxed);
  view_.control->flush_latency_ns.Store(
      mean_ns == 0 ? latency_ns : mean_ns + (latency_ns - mean_ns) / 8, kRelaxed);
}

// What another thread had half changed is begun anew (not destroyed: it may not be whole).
void Writer::AfterForkInChild() noexcept {
  std::construct_at(&pieces_);
  ends_.AfterForkInChild();
  segment_.AfterForkInChild();
}

}  // namespace epoch::journal
