#include "core/journal/segment/current.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/journal/segment/header.h"
#include "core/journal/segment/newest.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/digest.h"
#include "epoch/detail/protocol/head.h"
#include "epoch/detail/protocol/slots.h"

namespace epoch::journal {
namespace {

// What is known to be durable (Control::named_segment): a segment's directory entry, by its spare's
// name, or by its own.
constexpr std::uint64_t BySpare(std::uint64_t number) { return 2 * number; }
constexpr std::uint64_t ByItself(std::uint64_t number) { return 2 * number + 1; }

// After the sync that made it so. Who reads it takes the disk's state from it, and no other word:
// so its order to other words does not matter.
void Raise(detail::Control& control, std::uint64_t named) {
  std::uint64_t found = control.named_segment.Load();
  while (found < named && !control.named_segment.CompareExchange(found, named)) {
  }
}

// Whether the name of a segment that is open is durable. Its spare's counts if it is the same file:
// another process may have made another one, and be on its way to make its name durable.
bool NameIsDurable(const detail::Control& control, const std::string& directory, const Id& journal,
                   const OpenSegment& segment) {
  const std::uint64_t named = control.named_segment.Load();
  return named >= ByItself(segment.number) ||
         (named == BySpare(segment.number) &&
          SameFile(segment.fd.get(), SparePath(directory, journal, segment.number)));
}

// What counted on that file, or on its name, may be lost, and a success later proves nothing: this
// incarnation ends here.
absl::Status Poison(const detail::RegionView& view, const std::string& path,
                    const std::string& what) {
  detail::PoisonHead(view);
  detail::Ring(*view.control);
  return absl::DataLossError(absl::StrCat(
      path, ": ", what,
      "; nothing more is committed in this incarnation, and whether the last transitions are "
      "durable is unknown until recovery (epochctl recover)"));
}
constexpr char kRemoved[] =
    "the journal was removed while the region was in use, so nothing that is committed would be "
    "found again; save the state (epochctl get), then remove the region (epochctl rm)";
// Whether names may be lost, since the device failed. Of any other trouble, which is this
// process's, a name is only not known to be durable: whoever attaches next makes it so. A name that
// could not be given loses nothing: what is written there does not count before.
bool SyncFailed(const absl::Status& s) { return detail::IsDevices(s, detail::Attempt::kSync); }
constexpr char kUnnamed[] = "cannot sync its directory, so its name may not be durable";

}  // namespace

SegmentHeader NextSegment(const detail::RegionView& view, const detail::Superblock& super,
                          const BatchW& last, const BatchE& end, std::vector<std::byte>& base) {
  const detail::VersionCell& cell = view.cells[last.version];
  const detail::Geometry& geometry = view.geometry;
  SegmentHeader header = PlainHeader(super.segment_bytes / kBlockBytes, geometry.state_bytes,
                                     geometry.participants, geometry.versions);
  header.journal = super.journal;
  header.incarnation = super.incarnation;
  header.segment = end.segment + 1;
  SetRules(header, super.history, super.retain_segments, super.retain_epochs);
  SetBase(header, {last.last, cell.length_bytes.Load(kRelaxed), cell.digest.Load(kRelaxed),
                   cell.chain.Load(kRelaxed), cell.token.Load(kRelaxed)});
  SetPrevious(header, {end.segment, end.end_block, last.last, header.base_chain});
  base.clear();
  if (header.base_length_bytes <= view.geometry.state_bytes) {
    const std::byte* const payload = view.PayloadOf(last.version);
    base.assign(payload, payload + header.base_length_bytes);
  }
  return header;
}

absl::StatusOr<OpenSegment> AttachDurably(const detail::Mapping& mapping) {
  const detail::RegionView& view = mapping.view();
  const detail::Superblock& super = mapping.superblock();
  const std::string& directory = mapping.journal_directory();
  absl::StatusOr<OpenSegment> newest =
      AttachNewest(directory, super.journal, super.incarnation, mapping.trusted());
  if (!newest.ok() || NameIsDurable(*view.control, directory, super.journal, *newest)) {
    return newest;
  }
  // Its maker may have died, or failed, before.
  const absl::Status synced = SyncDirectory(directory);
  if (SyncFailed(synced)) {
    // Nothing of the caller's is lost: it has not begun.
    return absl::InternalError(std::string(Poison(view, newest->path, kUnnamed).message()));
  }
  if (!synced.ok()) return synced;
  Raise(*view.control, ByItself(newest->number));
  return newest;
}

CurrentSegment::CurrentSegment(const detail::Mapping& mapping, OpenSegment segment)
    : mapping_(mapping),
      view_(mapping.view()),
      super_(mapping.superblock()),
      directory_(mapping.journal_directory()),
      capacity_blocks_(super_.segment_bytes / kBlockBytes),
      aftermath_(Retention::Of(super_)) {
  Take(std::move(segment));
}

void CurrentSegment::Take(OpenSegment segment) {
  segment_ = std::move(segment);
  whereabouts_ = detail::Whereabouts(segment_.fd.get(), segment_.path);
}

absl::Status CurrentSegment::NotFindable(detail::Whereabouts::Seen seen) const {
  if (seen == detail::Whereabouts::Seen::kGone) {
    return absl::DataLossError(absl::StrCat(segment_.path, ": ", kRemoved));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      segment_.path,
      " is not where it was: the journal was moved, replaced or unmounted while the region is in "
      "use; nothing is lost, and nothing is committed until it is back at its place"));
}

absl::Status CurrentSegment::Attach() {
  absl::StatusOr<OpenSegment> newest = AttachDurably(mapping_);
  if (absl::IsInternal(newest.status()) &&
      detail::StateWord::Unpack(view_.control->head.Load()).phase == detail::Phase::kPoisoned) {
    return absl::DataLossError(std::string(newest.status().message()));
  }
  if (absl::IsDataLoss(newest.status())) {
    const absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory_);
    if (files.ok() && files->empty()) {
      return absl::NotFoundError(std::string(newest.status().message()));
    }
  }
  if (!newest.ok()) return newest.status();
  Take(*std::move(newest));
  left_ = Left{};
  unnamed_ = false;
  return absl::OkStatus();
}

absl::StatusOr<CurrentSegment::Rolling> CurrentSegment::Roll(const RingReading& ring, int offset,
                                                             const BatchBuilder& builder) {
  const BatchReading& last = ring.At(offset - 1);
  const std::uint64_t number = BatchE::Unpack(ring.At(offset).e).segment;
  // Another process has made it; or this one has missed some, and may be superseded.
  if (unnamed_ || segment_.number + 1 != number || !IsNewest(directory_, segment_)) {
    if (absl::Status s = Attach(); !s.ok()) return s;
    if (segment_.number >= number) return Rolling::kThere;
  }
  std::vector<std::byte> base;
  const SegmentHeader header =
      NextSegment(view_, super_, BatchW::Unpack(last.w), BatchE::Unpack(last.e), base);
  seam::AcquireFence();
  if (ring.WordsAt(*view_.control, offset).w.Load() != ring.At(offset).w) {
    return Rolling::kLookAgain;
  }
  if (header.segment != number || detail::Digest(base) != header.base_digest) {
    return Rolling::kOverwritten;
  }
  FromSpare spare = TakeSpare(directory_, header, base);
  const bool taken = spare.kind == FromSpare::Kind::kTaken;
  if (taken && view_.control->named_segment.Load() >= BySpare(number)) {
    left_ = Left{std::move(segment_), last, header.previous_chain};
    Take(std::move(spare.segment));
    unnamed_ = true;
    return Rolling::kThere;
  }
  absl::StatusOr<OpenSegment> made = std::move(spare.segment);
  if (!taken) made = MakeSegment(directory_, detail::Access::Of(segment_.fd.get()), header, base);
  if (!made.ok()) return made.status();
  // The directory may keep the new name and lose an older one, which may be all that leads to this
  // process's segment but for its spare's.
  if (view_.control->named_segment.Load() < ByItself(segment_.number)) {
    const absl::Status synced = SyncDirectory(directory_);
    if (SyncFailed(synced)) return Poison(view_, segment_.path, kUnnamed);
    if (!synced.ok()) return synced;
    Raise(*view_.control, ByItself(segment_.number));
  }
  const absl::Status published = NameSegment(*made);
  if (published.ok()) {
    const absl::Status synced = SyncDirectory(directory_);
    if (SyncFailed(synced)) return Poison(view_, made->path, std::string(synced.message()));
    if (!synced.ok()) return synced;
  }
  if (absl::IsAlreadyExists(published) && spare.kind == FromSpare::Kind::kFailed) {
    // Its beginning may have been acknowledged in.
    return Poison(view_, made->path, "its beginning could not be written");
  }
  // What had no right to a name, or no room for one, has none.
  if (!published.ok() && !absl::IsAlreadyExists(published)) return published;
  EPOCH_POINT("journal.rolled");
  if (!published.ok() || !IsNewest(directory_, *made)) {
    if (absl::Status s = Attach(); !s.ok()) return s;
    if (segment_.number >= number) return Rolling::kThere;
    return NotAttached(number);
  }
  Raise(*view_.control, ByItself(number));
  left_ = Left{std::move(segment_), last, header.previous_chain};
  Take(*std::move(made));
  BeginAftermath(builder);
  return Rolling::kThere;
}

// Its name is taken, and nobody finds it.
absl::Status CurrentSegment::NotAttached(std::uint64_t number) const {
  return absl::InternalError(
      absl::StrCat(directory_, ": segment ", number, " exists, but cannot be attached to"));
}

absl::StatusOr<CurrentSegment::Naming> CurrentSegment::Name(const BatchBuilder& builder) {
  const absl::Status named = NameSegment(segment_);
  struct stat info {};
  if (absl::IsNotFound(named) && sys::fstat(segment_.fd.get(), &info) == 0 && info.st_nlink == 0) {
    // It was removed meanwhile, all names of it: this process has slept for long.
    if (absl::Status s = Attach(); !s.ok()) return s;
    return Naming::kElsewhere;
  }
  if (!named.ok() && !absl::IsAlreadyExists(named)) {
    Take(std::exchange(left_, Left{}).segment);  // as if it had not been begun
    unnamed_ = false;
    return named;
  }
  EPOCH_POINT("journal.rolled");
  if (!IsNewest(directory_, segment_)) {
    const std::uint64_t number = segment_.number;
    if (absl::Status s = Attach(); !s.ok()) return s;
    // To begin it once more would come to the same, again and again.
    if (!named.ok() && segment_.number < number) return NotAttached(number);
    return Naming::kElsewhere;
  }
  unnamed_ = false;
  // Otherwise another has given it the name, and goes on with that.
  if (named.ok()) BeginAftermath(builder);
  left_ = Left{};
  return Naming::kNamed;
}

void CurrentSegment::BeginAftermath(const BatchBuilder& builder) {
  // Says in the old segment that there is a newer one, so that this one cannot be lost unnoticed.
  // Not durably: it narrows what goes undetected, and no more.
  std::uint64_t seal_block = 0;
  if (std::byte* const seal = aftermath_.seal();
      seal != nullptr && BatchE::Unpack(left_.last.e).segment == left_.segment.number) {
    seal_block = capacity_blocks_ - kSealBlocks;
    builder.BuildSeal(left_.last, left_.chain, seal_block, seal);
  }
  const Epoch base_epoch = BatchW::Unpack(left_.last.w).last;
  aftermath_.Begin(directory_, super_.journal, std::exchange(left_, Left{}).segment, seal_block,
                   segment_, base_epoch);
}

absl::Status CurrentSegment::Tend(std::uint32_t slot, std::uint64_t end_block, WriteQueue& queue) {
  if (aftermath_.pending()) return TendAftermath(aftermath_.Continue(queue));
  PrepareNext(slot, end_block, queue);
  return absl::OkStatus();
}

// One process prepares the next segment's space: who said so first, as long as it lives.
void CurrentSegment::PrepareNext(std::uint32_t slot, std::uint64_t end_block, WriteQueue& queue) {
  if (unnamed_) return;  // it may never be the segment
  const std::uint64_t number = segment_.number + 1;
  const double used = static_cast<double>(end_block) / static_cast<double>(capacity_blocks_);
  if (used < Spare::kFrom || spare_.Over(number) || !queue.Ready()) return;
  constexpr std::uint64_t kSlotBits = 16;
  const std::uint64_t mine = (number << kSlotBits) | (slot + 1);
  std::uint64_t found = view_.control->preparer.Load(kRelaxed);
  if (found != mine) {
    const std::uint64_t other = (found & ((std::uint64_t{1} << kSlotBits) - 1)) - 1;
    if (found >> kSlotBits == number && other < view_.geometry.participants &&
        detail::OwnerAlive(mapping_.probe_fd(), static_cast<std::uint32_t>(other))) {
      return;
    }
    if (!view_.control->preparer.CompareExchange(found, mine)) return;
  }
  spare_.Prepare(directory_, super_.journal, segment_, capacity_blocks_, used, queue);
}

absl::Status CurrentSegment::Finished(const WriteQueue::Done& done, WriteQueue& queue) {
  if (done.tag == Spare::kTag) {
    switch (spare_.Finished(done.result)) {
      case Spare::News::kNamed:
        Raise(*view_.control, BySpare(spare_.number()));
        break;
      case Spare::News::kFailed:
        return Poison(view_, SparePath(directory_, super_.journal, spare_.number()), kUnnamed);
      case Spare::News::kNone:
        break;
    }
    return absl::OkStatus();
  }
  if (absl::Status s = TendAftermath(aftermath_.Finished(done.result)); !s.ok()) return s;
  return TendAftermath(aftermath_.Continue(queue));
}

absl::Status CurrentSegment::TendAftermath(Aftermath::News news) {
  if (news == Aftermath::News::kNamed) Raise(*view_.control, ByItself(aftermath_.number()));
  if (news != Aftermath::News::kFailed) return absl::OkStatus();
  return Poison(view_, SegmentPath(directory_, super_.journal, aftermath_.number()), kUnnamed);
}

void CurrentSegment::Finish(WriteQueue& queue) {
  queue.Refuse();
  // The next recovery, or roll, does what cannot be done here.
  if (!attached()) return;
  for (int step = 0; step < 2; ++step) {
    TendAftermath(aftermath_.Continue(queue)).IgnoreError();
  }
}

void CurrentSegment::SweepLast() {
  if (view_.control->named_segment.Load() < ByItself(segment_.number)) return;
  const absl::StatusOr<detail::Fd> directory = OpenDirectoryOf(segment_);
  if (directory.ok()) SweepSpares(directory->get(), super_.journal, segment_.number);
}

void CurrentSegment::Leak() {
  spare_.Leak();
  aftermath_.Leak();
}

void CurrentSegment::AfterForkInChild() {
  spare_.AfterForkInChild();  // segment_ closes itself
  aftermath_.AfterForkInChild();
  unnamed_ = false;
}

}  // namespace epoch::journal
