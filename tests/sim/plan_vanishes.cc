// Plans about a journal that is taken away while it is written.
#include <iterator>

#include "tests/sim/make_plan.h"

namespace epoch::sim {

void JournalVanishes(Plan& plan, Random& random) {
  // Between a write, the look whether others find it, and the word that it counts.
  static constexpr const char* kPoints[] = {
      "journal.before_freeze", "journal.frozen",  "journal.built", "journal.before_submit",
      "journal.written",       "journal.written", "journal.rolled"};
  static constexpr OpKind kWrites[] = {
      OpKind::kCommit,           OpKind::kCommit, OpKind::kUpdate, OpKind::kProposeThenAwait,
      OpKind::kProposeThenAwait, OpKind::kPin,    OpKind::kRead,   OpKind::kReopen};
  Settings& s = plan.settings;
  s.strategy = random.OneIn(3) ? Strategy::kPriorities : Strategy::kUniform;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = 1500 + random.Below(3000);
  plan.durable = true;
  plan.versions = static_cast<std::uint32_t>(6 + random.Below(4));
  plan.state_bytes = random.OneIn(3) ? 5000 : 64;
  plan.latest = random.OneIn(2);
  plan.retain_segments = static_cast<std::uint32_t>(random.Below(3));
  plan.spare_blocks = random.Below(12);
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < s.processes; ++p) {
    auto& operations = plan.operations[static_cast<std::size_t>(p)];
    const auto add = [&](std::uint64_t most) {
      for (std::uint64_t i = 1 + random.Below(most); i > 0; --i) {
        operations.push_back({kWrites[random.Below(std::size(kWrites))], random.Next()});
      }
    };
    // Who takes it away is neither killed nor stopped: half of it is as good as all.
    if (p == 0) {
      add(5);
      operations.push_back(
          {random.OneIn(2) ? OpKind::kRemoveJournal : OpKind::kMoveJournal, random.Next()});
      add(5);
      continue;
    }
    add(12);
    for (std::uint64_t i = random.Below(3); i > 0; --i) {
      const FaultKind kind = random.OneIn(3) ? FaultKind::kCrashAtPoint : FaultKind::kStopAtPoint;
      s.faults.push_back(
          {kind, p, 1 + random.Below(8), 0, kPoints[random.Below(std::size(kPoints))]});
    }
  }
}

}  // namespace epoch::sim
