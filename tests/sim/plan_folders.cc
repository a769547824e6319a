// Plans about checkpoint folders.
#include <iterator>

#include "tests/sim/make_plan.h"

namespace epoch::sim {
namespace {

constexpr const char* kPoints[] = {"checkpoint.directory_made",
                                   "checkpoint.before_identity",
                                   "checkpoint.joined",
                                   "checkpoint.before_collective",
                                   "checkpoint.collected",
                                   "checkpoint.folder_made",
                                   "checkpoint.folder_named",
                                   "checkpoint.folder_locked",
                                   "checkpoint.begun",
                                   "checkpoint.before_sync",
                                   "checkpoint.shard_synced",
                                   "checkpoint.ready",
                                   "checkpoint.marked",
                                   "checkpoint.remove_locked",
                                   "checkpoint.before_remove",
                                   "checkpoint.removed_some",
                                   "writing a shard",
                                   "reading",
                                   "gather.offered",
                                   "vote.before_commit",
                                   "vote.decided",
                                   "vote.finished",
                                   "journal.frozen",
                                   "journal.before_submit",
                                   "journal.written",
                                   "journal.marked",
                                   "restore.published"};

}  // namespace

void CheckpointFolders(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kOfRanks[] = {kCheckpoint, kCheckpoint, kCheckpoint, kCheckpoint,
                                        kCheckpoint, kAbandon,    kReopen,     kOpenLatest};
  static constexpr OpKind kOfOthers[] = {kOpenLatest, kOpenLatest, kPrune,      kPrune, kPrune,
                                         kCleanUp,    kCleanUp,    kCheckpoint, kList};
  Settings& s = plan.settings;
  plan.folders = true;
  plan.durable = true;
  plan.world = 1 + static_cast<int>(random.Below(random.OneIn(3) ? 3 : 2));
  s.strategy = random.OneIn(3) ? Strategy::kPriorities : Strategy::kUniform;
  s.processes = std::min(plan.world + 1 + static_cast<int>(random.Below(2)), kMaxProcesses - 2);
  s.expected_steps = 3000 + random.Below(9000);
  plan.boots = 1 + static_cast<int>(random.Below(3));
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < s.processes; ++p) {
    for (int boot = 0; boot < plan.boots; ++boot) {
      const bool rank = p < plan.world;
      for (std::uint64_t i = 2 + random.Below(4); i > 0; --i) {
        const OpKind kind = rank ? kOfRanks[random.Below(std::size(kOfRanks))]
                                 : kOfOthers[random.Below(std::size(kOfOthers))];
        plan.operations[static_cast<std::size_t>(p)].push_back({kind, random.Next(), boot});
      }
    }
  }
  const auto process = [&] {
    return static_cast<int>(random.Below(static_cast<std::uint64_t>(s.processes)));
  };
  for (const FaultKind kind : {FaultKind::kCrash, FaultKind::kStop}) {
    for (std::uint64_t i = random.Below(3); i > 0; --i) {
      s.faults.push_back({kind, process(), 1 + random.Below(s.expected_steps)});
    }
  }
  for (const FaultKind kind : {FaultKind::kCrashAtPoint, FaultKind::kStopAtPoint}) {
    for (std::uint64_t i = random.Below(4); i > 0; --i) {
      s.faults.push_back(
          {kind, process(), 1 + random.Below(3), 0, kPoints[random.Below(std::size(kPoints))]});
    }
  }
  std::uint64_t at = 0;
  for (int boot = 1; boot < plan.boots; ++boot) {
    if (random.OneIn(4)) continue;
    at += 1 + random.Below(s.expected_steps);
    s.faults.push_back({FaultKind::kPowerLoss, 0, at});
  }
}

}  // namespace epoch::sim
