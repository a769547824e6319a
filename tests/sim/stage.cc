#include "tests/sim/stage.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/journal/format/format.h"

namespace epoch::sim {

std::byte* Arena() {
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };
  static Page* const pages = new Page[kArenaBytes / sizeof(Page)]();
  return pages->bytes;
}

Stage::Stage(const Plan& the_plan)
    : plan(the_plan),
      memory(Arena(), kArenaBytes),
      engine(the_plan.settings, memory),
      disk(engine, Arena(), kArenaBytes),
      history([this](const std::string& what) { engine.Violation(what); }) {
  options.state_bytes = plan.state_bytes;
  options.participants = static_cast<std::uint32_t>(plan.settings.processes + plan.spare_slots);
  options.versions = plan.versions;
  options.restore_timeout = absl::Milliseconds(20);
  if (plan.durable) {
    options.journal = kJournal;
    options.history = plan.latest ? epoch::History::kLatest : epoch::History::kAll;
    options.retain_segments = plan.retain_segments;
    options.retain_epochs = plan.retain_epochs;
    options.segment_bytes =
        (journal::MinSegmentBlocks(plan.state_bytes) + plan.spare_blocks) * journal::kBlockBytes;
  }
}

std::optional<Region> Stage::Enter() {
  RegionOptions asked = options;
  for (int attempt = 0; attempt < 8; ++attempt) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(kRegion, asked);
    engine.Progressed();
    if (region.ok()) {
      if (engine.current() >= 0) entered.insert(engine.process());
      return *std::move(region);
    }
    engine.Trace("open: %s", region.status().ToString().c_str());
    switch (region.status().code()) {
      case absl::StatusCode::kDataLoss:
        if (disk.damaged() || journal_touched) {
          lost = disk.damaged();
          return std::nullopt;
        }
        // A sector that was torn in itself looks like damage; the override says to go on.
        if (plan.tears && !asked.ignore_block_damage) {
          asked.ignore_block_damage = true;
          continue;
        }
        Fail(region.status(), "G7: nothing was damaged, but recovery says");
        return std::nullopt;
      case absl::StatusCode::kInternal:            // a read or a sync failed
      case absl::StatusCode::kFailedPrecondition:  // somebody is still attached; superseded
      case absl::StatusCode::kResourceExhausted:   // no room
      case absl::StatusCode::kUnavailable:
      case absl::StatusCode::kAlreadyExists:
        if (!plan.durable) Fail(region.status(), "open");
        seam::SleepFor(5'000'000);
        continue;
      default:
        if (absl::StrContains(region.status().message(), "cannot sync") ||
            absl::StrContains(region.status().message(), "Input/output error")) {
          continue;  // EIO while making a segment
        }
        Fail(region.status(), "open");
        return std::nullopt;
    }
  }
  return std::nullopt;
}

Agreements& Stage::AgreementsOf(const Region& region) {
  for (Incarnation& incarnation : incarnations) {
    if (incarnation.view.control == region.mapping()->view().control) {
      return *incarnation.agreements;
    }
  }
  return *incarnations.back().agreements;
}

void Stage::Fail(const absl::Status& status, const char* what) {
  engine.Violation(absl::StrCat(what, ": ", status.ToString()));
}

void Stage::Tolerate(const absl::Status& status, const char* what, bool& reopen) {
  // Behind an acceptance: Unavailable, its outcome unknown.
  const bool superseded = absl::StrContains(status.message(), "superseded");
  if (status.ok() || absl::IsFailedPrecondition(status) || absl::IsResourceExhausted(status) ||
      (absl::IsUnavailable(status) && superseded)) {
    reopen = reopen || superseded;
    return;
  }
  if (plan.durable && (absl::IsUnavailable(status) || absl::IsDataLoss(status) ||
                       absl::IsInternal(status) || absl::IsDeadlineExceeded(status))) {
    engine.Trace("%s: %s", what, status.ToString().c_str());
    if (!DiskFaulted() && !journal_touched) Fail(status, what);
    reopen = true;
    return;
  }
  Fail(status, what);
}

void Stage::JournalGone() {
  if (incarnations.empty()) return;
  accepted_before_ = detail::StateWord::Unpack(incarnations.back().view.control->tail.Peek()).epoch;
}

void Stage::CheckVisible(Epoch epoch) {
  if (!accepted_before_.has_value() || epoch <= *accepted_before_) return;
  engine.Violation(absl::StrCat("G7: epoch ", epoch, " is visible, and was accepted when the ",
                                "journal was removed"));
}

bool Stage::DiskFaulted() const {
  return std::any_of(plan.settings.faults.begin(), plan.settings.faults.end(),
                     [](const Fault& f) { return f.kind == FaultKind::kDisk; });
}

}  // namespace epoch::sim
