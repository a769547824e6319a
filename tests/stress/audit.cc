#include "stress/audit.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "core/inspect/region_check.h"
#include "core/journal/segment/segment.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"

namespace epoch::stress {
namespace {

void Fail(LogWriter& log, AuditFailure what, std::uint32_t index, std::uint64_t found) {
  log.Append({.kind = Kind::kAuditFailed,
              .code = static_cast<std::uint16_t>(what),
              .detail = found,
              .slot = index});
}

// A process that was killed between making a segment and removing the oldest ones, or the spare of
// it, left those to the next one that makes a segment. Beside them the current one's spare may be
// there, which is a second name of it, and the next one's.
void AuditJournal(const RegionOptions& options, LogWriter& log) {
  constexpr std::uint64_t kMostLate = 2;
  const absl::StatusOr<std::vector<journal::SegmentFile>> segments =
      journal::ListSegments(options.journal);
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(options.journal)) {
    files.push_back(entry.path().filename());
  }
  const auto spares = static_cast<std::uint64_t>(std::ranges::count_if(
      files, [](const std::string& name) { return name.ends_with(".spare"); }));
  if (!segments.ok() || files.size() != segments->size() + spares ||
      segments->size() > options.retain_segments + 1 + kMostLate || spares > 2 + kMostLate) {
    Fail(log, AuditFailure::kFilesLeft, 0, files.size());
    for (const std::string& name : files) std::fprintf(stderr, "audit: %s\n", name.c_str());
  }
}

// What the dead had up for a vote: decided by somebody who takes part. False: it never was.
bool Decide(const Region& region) {
  const auto undecided = [&] {
    const detail::Control& control = *region.mapping()->view().control;
    return detail::StateWord::Unpack(control.tail.Load()).phase == detail::Phase::kVoting ||
           detail::StateWord::Unpack(control.head.Load()).phase == detail::Phase::kClosed;
  };
  if (!undecided()) return true;
  absl::StatusOr<Participant> self = Participant::Join(region, {.name = "auditor"});
  if (!self.ok()) return false;
  // Nobody holds it up. It may have to wait for what was accepted before, which is written here.
  const std::int64_t deadline_ns = seam::MonotonicNanos() + 10'000'000'000;
  while (undecided() && seam::MonotonicNanos() < deadline_ns) {
    self->Await(region.epoch() + 1, Stage::kCommitted, absl::Milliseconds(20)).IgnoreError();
  }
  return !undecided();
}

}  // namespace

void Audit(const Spec& spec, bool quiet, LogWriter& log) {
  if (quiet && !spec.options.journal.empty()) AuditJournal(spec.options, log);
  const absl::StatusOr<Region> region = Region::Open(spec.region);
  // All may have been killed before one of them had made it.
  if (absl::IsNotFound(region.status()) && !quiet) return;
  if (!region.ok()) {
    std::fprintf(stderr, "audit: %s\n", region.status().ToString().c_str());
    return Fail(log, AuditFailure::kDamaged, 0, 0);
  }
  const detail::RegionView& view = region->mapping()->view();
  if (!Decide(*region)) Fail(log, AuditFailure::kUndecided, 0, view.control->tail.Load());
  detail::HelpAccepted(view);
  region->Reap().IgnoreError();
  detail::Reclaim(view);
  const Epoch head = region->epoch();
  const Epoch tail = detail::StateWord::Unpack(view.control->tail.Load()).epoch;
  if (quiet && head != tail) Fail(log, AuditFailure::kPending, 0, tail);
  for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
    const auto state = detail::SlotWord::Unpack(view.slots[i].state.Load()).state;
    if (state == detail::SlotState::kFree) continue;
    Fail(log, AuditFailure::kSlotNotFree, i, static_cast<std::uint64_t>(state));
  }
  std::uint64_t used = 0;
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    const auto state = detail::OwnerWord::Unpack(view.cells[i].owner.Load()).state;
    const bool in_use =
        state == detail::CellState::kPublished && view.cells[i].epoch.Load() >= head;
    used += in_use ? 1 : 0;
    if (state == detail::CellState::kFree || in_use) continue;
    Fail(log, AuditFailure::kCellNotFree, i, static_cast<std::uint64_t>(state));
  }
  // One cell for each epoch from head's to tail's.
  if (used != tail - head + 1) {
    Fail(log, AuditFailure::kCellNotFree, view.geometry.versions, used);
  }
  const auto report = inspect::CheckRegion(region->path());
  if (!report.ok() || report->damaged()) Fail(log, AuditFailure::kDamaged, 0, 1);
  if (!report.ok()) {
    std::fprintf(stderr, "audit: %s\n", report.status().ToString().c_str());
    return;
  }
  for (const inspect::Finding& finding : report->findings) {
    if (finding.severity != inspect::Finding::Severity::kDamage) continue;
    std::fprintf(stderr, "audit: %s: %s\n", finding.where.c_str(), finding.what.c_str());
  }
}

}  // namespace epoch::stress
