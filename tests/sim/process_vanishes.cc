// Somebody takes the journal away under those who write it: rm -rf, and mv.
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/sim/process.h"

namespace epoch::sim {

// Whoever was about to create the region, and has lost that race, would not find the journal that
// won, and make another one in its place.
bool Process::AwaitEverybody() {
  constexpr int kMostLooks = 200;
  const auto all = static_cast<std::size_t>(stage_.plan.settings.processes);
  for (int look = 0; look < kMostLooks && stage_.entered.size() < all; ++look) {
    seam::SleepFor(1'000'000);
  }
  // By priority one may be kept off for long.
  stage_.journal_touched = stage_.entered.size() >= all;
  return stage_.journal_touched;
}

// Name by name; others may make new ones meanwhile.
void Process::RemoveJournal() {
  if (!AwaitEverybody()) return;
  while (!stage_.engine.violated()) {
    for (const std::string& name : stage_.disk.Names(kJournal)) {
      stage_.disk.Unlink(absl::StrCat(kJournal, "/", name), /*directory=*/false);
    }
    if (stage_.disk.Unlink(kJournal, /*directory=*/true) == 0) break;
  }
  stage_.journal_removed = true;
  stage_.JournalGone();
}

// Each process notices it within so many batches, and not with the first (Whereabouts::Glance):
// what was acknowledged in between must be there when the journal is back.
void Process::MoveJournal(Random& random) {
  constexpr const char* kAway = "/disk/journal.away";
  if (!AwaitEverybody()) return;
  if (stage_.disk.Rename(kJournal, kAway) != 0) return;
  // Some of those who look for it meanwhile give up, others do not.
  seam::SleepFor(static_cast<std::int64_t>(random.Below(60)) * 1'000'000);
  stage_.disk.Rename(kAway, kJournal);
}

}  // namespace epoch::sim
