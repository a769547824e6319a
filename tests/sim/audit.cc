#include "tests/sim/audit.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "core/journal/read/survey.h"
#include "epoch/journal.h"

namespace epoch::sim {

using detail::OwnerWord;
using detail::RegionView;
using detail::SlotWord;
using detail::StateWord;

namespace {

bool Undecided(const RegionView& view) {
  return StateWord::Unpack(view.control->tail.Load()).phase == detail::Phase::kVoting ||
         (!view.durable &&
          StateWord::Unpack(view.control->head.Load()).phase == detail::Phase::kClosed);
}

// What the dead had up for decision is decided by whoever comes, at its deadline at the latest.
void AwaitDecisions(Stage& stage, const RegionView& view, Participant& auditor) {
  for (int slices = 0; Undecided(view); ++slices) {
    if (slices == 400) return stage.engine.Violation("G8: a vote stays undecided for ever");
    if (const auto polled = auditor.Poll(); !polled.ok()) {
      return stage.Fail(polled.status(), "G8: the auditor cannot poll");
    }
    seam::SleepFor(1'000'000);
  }
}

void AuditWords(Stage& stage, const RegionView& view) {
  for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
    const SlotWord slot = SlotWord::Unpack(view.slots[i].state.Load());
    if (slot.state != detail::SlotState::kFree) {
      stage.engine.Violation(
          absl::StrCat("G10: slot ", i, " leaked in state ", static_cast<int>(slot.state)));
    }
  }
  const StateWord head = StateWord::Unpack(view.control->head.Load());
  const StateWord tail = StateWord::Unpack(view.control->tail.Load());
  const bool poisoned = head.phase == detail::Phase::kPoisoned;
  if (head.phase == detail::Phase::kClosed) stage.engine.Violation("G8: head stays closed");
  if (head.epoch != tail.epoch && !poisoned) {
    stage.engine.Violation("G8: an accepted epoch never became visible");
  }
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    const OwnerWord owner = OwnerWord::Unpack(view.cells[i].owner.Load());
    const bool kept =
        owner.state == detail::CellState::kPublished && view.cells[i].epoch.Load() >= head.epoch;
    if (i == head.version && !kept) {
      stage.engine.Violation(absl::StrCat("G10: head names cell ", i, ", which is in state ",
                                          static_cast<int>(owner.state)));
    }
    if (owner.state != detail::CellState::kFree && !kept) {
      stage.engine.Violation(absl::StrCat("G10: cell ", i, " is left in state ",
                                          static_cast<int>(owner.state), ", head names ",
                                          head.version));
    }
  }
  if (stage.history.visible_max() > head.epoch) {
    stage.engine.Violation("G1: an epoch was seen that head does not reach");
  }
}

// What is kept, after a restore: that sweeps.
void AuditKept(Stage& stage, const journal::JournalScan& scan) {
  const Plan& plan = stage.plan;
  std::uint64_t segments = plan.retain_segments;
  if (plan.latest && segments == 0 && plan.retain_epochs == 0) segments = 1;
  const journal::SegmentHeader& newest = scan.segments.back().header;
  const auto needed = [&](std::size_t i) {
    if (i + 1 + segments >= scan.segments.size()) return true;
    if (segments == 0 && plan.retain_epochs == 0) return true;
    return scan.segments[i + 1].header.base_epoch + plan.retain_epochs > newest.base_epoch;
  };
  if (!needed(0)) {
    stage.engine.Violation(absl::StrCat("G10: ", scan.segments.size(), " segments are left"));
  }
  for (std::size_t i = 1; i < scan.segments.size(); ++i) {
    // Those between, which nothing was written to, may be: this one begins where the one before
    // ends.
    if (scan.segments[i].header.previous_segment > scan.segments[i - 1].header.segment) {
      stage.engine.Violation("G10: a segment between others is gone");
    }
  }
  // Of those that went none was needed: the oldest one begins behind all that it holds.
  const journal::SegmentHeader& oldest = scan.segments.front().header;
  if (oldest.previous_segment > 0 && (scan.segments.size() - 1 < segments ||
                                      oldest.base_epoch + plan.retain_epochs > newest.base_epoch ||
                                      (segments == 0 && plan.retain_epochs == 0))) {
    stage.engine.Violation(absl::StrCat("G10: a segment before ", oldest.segment, " is gone"));
  }
}

// Everything once more from the journal alone; twice, with the same result (checked as each
// incarnation begins).
void AuditJournal(Stage& stage) {
  for (int i = 0; i < 2 && !stage.engine.violated(); ++i) {
    sys::unlink(kRegion);
    if (!stage.Enter().has_value() && !stage.lost) {
      return stage.engine.Violation("G8: the journal cannot be restored from any more");
    }
    if (stage.lost) return;
  }
  if (stage.disk.damaged() || stage.plan.tears) return;
  journal::ScanOptions options;
  options.on_record = [&](const journal::Record& record) {
    stage.history.Recorded(record.header.epoch, record.payload);
  };
  const auto scan = journal::ScanJournal(kJournal, options);
  if (!scan.ok()) return stage.Fail(scan.status(), "G7: the journal cannot be read");
  // Cut tails of older segments are no damage of what they hand over.
  for (const std::string& damage : scan->damage) stage.engine.Violation("G7: " + damage);
  AuditKept(stage, *scan);
}

// What was acknowledged is in memory, and nobody makes another journal in the place of that one.
void AuditWithoutJournal(Stage& stage) {
  if (Region::OpenOrCreate(kRegion, stage.options).ok()) {
    return stage.engine.Violation("G7: a region is opened whose journal is gone");
  }
  if (!stage.disk.Names(kJournal).empty()) {
    return stage.engine.Violation("G7: a journal is made in the place of one that is gone");
  }
  RegionOptions inspect;
  inspect.read_only = true;
  const absl::StatusOr<Region> region = Region::Open(kRegion, inspect);
  if (!region.ok()) return stage.Fail(region.status(), "G7: nobody can save the state");
  const absl::StatusOr<Snapshot> found = region->Read();
  if (!found.ok()) return stage.Fail(found.status(), "G7: nobody can save the state");
  Content content;
  if (!Decode(found->state, content)) return stage.engine.Violation("G3: a torn state");
  stage.history.Visible(found->epoch, content);
  if (found->epoch < stage.history.visible_max()) {
    stage.engine.Violation("G7: an acknowledged epoch is gone with the journal");
  }
}

}  // namespace

void Audit(Stage& stage) {
  stage.engine.Settle();
  if (stage.journal_removed) return AuditWithoutJournal(stage);
  std::optional<Region> region = stage.Enter();
  if (stage.lost) return;
  if (!region.has_value()) {
    return stage.engine.Violation("G8: the region cannot be opened any more");
  }
  const RegionView& view = region->mapping()->view();
  {
    auto last = Participant::Join(*region, {.name = "auditor"});
    if (!last.ok()) return stage.Fail(last.status(), "G10: the auditor cannot join");
    AwaitDecisions(stage, view, *last);
    if (stage.engine.violated()) return;
    const StateWord tail = StateWord::Unpack(view.control->tail.Load());
    const auto waited = last->Await(tail.epoch, epoch::Stage::kCommitted, absl::Seconds(30));
    if (!waited.ok() && (!stage.plan.durable || !absl::IsDataLoss(waited.status()))) {
      return stage.Fail(waited.status(), "G8: an accepted epoch never becomes visible");
    }
  }
  detail::ReapAll(*region->mapping());
  detail::Reclaim(view);
  AuditWords(stage, view);
  if (stage.plan.durable && !stage.engine.violated()) {
    region.reset();
    AuditJournal(stage);
  }
}

}  // namespace epoch::sim
