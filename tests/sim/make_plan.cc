// What happens in a run, from its seed.
#include "tests/sim/make_plan.h"

#include <cstdlib>
#include <iterator>

#include "tests/sim/disk.h"
#include "tests/sim/weakened.h"

namespace epoch::sim {
namespace {

// Names of streams. The seeds that the planted bugs are known by have no late loads.
constexpr std::uint64_t kLateLoads = 3;
constexpr std::uint64_t kReaders = 0x524541;
constexpr std::uint64_t kWriters = 0x575249;
constexpr std::uint64_t kVotes = 0x564f54;
constexpr std::uint64_t kSpecial = 0x535043;

OpKind AnyOperation(Random& random, bool members) {
  // Some plans are about who is in: slots that change hands while others still tidy up.
  static constexpr OpKind kMembers[] = {OpKind::kPin,    OpKind::kCommit, OpKind::kUpdate,
                                        OpKind::kReap,   OpKind::kReap,   OpKind::kExpel,
                                        OpKind::kRejoin, OpKind::kRejoin, OpKind::kDropDraft};
  if (members) return kMembers[random.Below(std::size(kMembers))];
  static constexpr OpKind kWeighted[] = {
      OpKind::kPin,    OpKind::kPin,           OpKind::kPin,
      OpKind::kCommit, OpKind::kCommit,        OpKind::kCommitExpecting,
      OpKind::kUpdate, OpKind::kUpdate,        OpKind::kProposeThenAwait,
      OpKind::kRead,   OpKind::kDropDraft,     OpKind::kPark,
      OpKind::kPoll,   OpKind::kReap,          OpKind::kExpel,
      OpKind::kRejoin, OpKind::kAwaitConverged};
  return kWeighted[random.Below(std::size(kWeighted))];
}

// Where a death or a stop leaves the most for others to do.
const char* AnyLabel(Random& random, const Plan& plan) {
  static constexpr const char* kInMemory[] = {"publish.accepted",
                                              "publish.before_tail",
                                              "publish.before_mark",
                                              "publish.before_head",
                                              "publish.before_ring",
                                              "draft.taken",
                                              "pin.announced",
                                              "pin.announced_again",
                                              "update.announced",
                                              "join.locked",
                                              "join.joining",
                                              "join.filled",
                                              "join.active",
                                              "reap.found_dead",
                                              "reap.expelled",
                                              "reap.before_free_draft",
                                              "reclaim.before_free",
                                              "reap.before_free_slot",
                                              "leave.before_dismantle",
                                              "leave.before_unlock",
                                              "updating",
                                              "pinned"};
  static constexpr const char* kOnDisk[] = {"journal.before_freeze",
                                            "journal.frozen",
                                            "journal.before_hint",
                                            "journal.before_end",
                                            "journal.collected",
                                            "journal.built",
                                            "journal.before_submit",
                                            "journal.written",
                                            "journal.marked",
                                            "journal.rolled",
                                            "journal.ring_read",
                                            "segment.synced",
                                            "segment.before_link",
                                            "segment.linked",
                                            "attach.listed",
                                            "attach.locked",
                                            "restore.locked",
                                            "restore.scanned",
                                            "restore.published",
                                            "create.before_link",
                                            "create.linked",
                                            "journal_create.directory",
                                            "journal_create.before_rename",
                                            "journal_create.renamed"};
  static constexpr const char* kInVotes[] = {"vote.guarded",
                                             "vote.before_commit",
                                             "vote.decided",
                                             "vote.forced",
                                             "vote.before_expel",
                                             "vote.before_close",
                                             "vote.closed",
                                             "vote.marked",
                                             "vote.visible",
                                             "vote.reopened",
                                             "vote.before_tail",
                                             "vote.finished",
                                             "vote.before_reopen",
                                             "vote.own_guarded",
                                             "vote.before_cast",
                                             "vote.cast",
                                             "vote.validated",
                                             "gather.before_offer",
                                             "gather.offered",
                                             "reclaim.before_free_retired",
                                             "publish.before_tail",
                                             "publish.accepted",
                                             "judging"};
  if (random.OneIn(3)) return nullptr;
  if (plan.agrees && random.OneIn(2)) return kInVotes[random.Below(std::size(kInVotes))];
  if (plan.durable && random.OneIn(2)) return kOnDisk[random.Below(std::size(kOnDisk))];
  return kInMemory[random.Below(std::size(kInMemory))];
}

}  // namespace

void AddFaults(Plan& plan, Random& random) {
  Settings& s = plan.settings;
  const auto process = [&] {
    return static_cast<int>(random.Below(static_cast<std::uint64_t>(s.processes)));
  };
  const auto add = [&](FaultKind kind, std::uint64_t most, std::uint64_t range) {
    for (std::uint64_t i = random.Below(most + 1); i > 0; --i) {
      s.faults.push_back({kind, process(), 1 + random.Below(range)});
    }
  };
  const auto add_at_point = [&](FaultKind kind, std::uint64_t most) {
    for (std::uint64_t i = random.Below(most + 1); i > 0; --i) {
      const char* label = AnyLabel(random, plan);
      const std::uint64_t range = label != nullptr ? 4 : plan.durable ? 120 : 60;
      s.faults.push_back({kind, process(), 1 + random.Below(range), 0, label});
    }
  };
  add(FaultKind::kCrash, 2, s.expected_steps);
  add_at_point(FaultKind::kCrashAtPoint, 2);
  add(FaultKind::kStop, 2, s.expected_steps);
  add_at_point(FaultKind::kStopAtPoint, 2);
  if (random.OneIn(4)) {
    s.forked_child = true;
    s.faults.push_back({FaultKind::kFork, process(), 1 + random.Below(s.expected_steps)});
  }
  if (!plan.durable) return;
  if (random.OneIn(3)) {
    for (std::uint64_t i = 1 + random.Below(2); i > 0; --i) {
      s.faults.push_back(
          {FaultKind::kDisk, 0, 1 + random.Below(s.expected_steps), random.Below(kSectorDamaged)});
    }
  }
  std::uint64_t at = 0;
  for (int boot = 1; boot < plan.boots; ++boot) {
    if (random.OneIn(4)) continue;  // ends by itself
    // The next one often strikes in the midst of recovery.
    at += 1 + random.Below(boot > 1 && random.OneIn(2) ? 300 : s.expected_steps);
    s.faults.push_back({FaultKind::kPowerLoss, 0, at});
  }
}

namespace {

void ReadersAndWriters(Plan& plan, Random& random) {
  Settings& s = plan.settings;
  s.processes = 2 + static_cast<int>(random.Below(2));
  s.expected_steps = 300 + random.Below(1000);
  plan.versions = static_cast<std::uint32_t>(4 + random.Below(8));
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < s.processes; ++p) {
    const bool reads = p == 0 || (p > 1 && random.OneIn(2));
    const OpKind how = random.OneIn(3) ? OpKind::kRead : OpKind::kPin;
    for (std::uint64_t i = 4 + random.Below(reads ? 12 : 24); i > 0; --i) {
      const OpKind writes = random.OneIn(4) ? OpKind::kUpdate : OpKind::kCommit;
      plan.operations[static_cast<std::size_t>(p)].push_back({reads ? how : writes, random.Next()});
    }
  }
}

void WritersStopped(Plan& plan, Random& random) {
  static constexpr const char* kPoints[] = {
      "journal.ring_read", "journal.frozen", "journal.before_hint",  "journal.before_end",
      "journal.collected", "journal.built",  "journal.before_submit"};
  Settings& s = plan.settings;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = 2000 + random.Below(3000);
  plan.durable = true;
  plan.versions = static_cast<std::uint32_t>(6 + random.Below(3));
  plan.latest = random.OneIn(2);
  plan.spare_blocks = random.Below(6);
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < s.processes; ++p) {
    for (std::uint64_t i = 6 + random.Below(14); i > 0; --i) {
      const OpKind how = random.OneIn(4) ? OpKind::kUpdate : OpKind::kCommit;
      plan.operations[static_cast<std::size_t>(p)].push_back({how, random.Next()});
    }
    for (std::uint64_t i = random.Below(3); i > 0; --i) {
      s.faults.push_back({FaultKind::kStopAtPoint, p, 1 + random.Below(8), 0,
                          kPoints[random.Below(std::size(kPoints))]});
    }
  }
}

}  // namespace

Plan PlanFor(std::uint64_t seed, Mode mode) {
  Random random(seed ^ 0x53494d);
  Plan plan;
  plan.seed = seed;
  // Streams of their own for what came later: the seeds that the planted bugs are known by stay.
  // Loads are late wherever an order is missing, since that may be how it shows.
  plan.settings.late_loads = SomethingIsWeakened() || Random(seed ^ kLateLoads).OneIn(4);
  plan.settings.schedule = seed;
  if (mode == Mode::kReaders || (mode == Mode::kMixed && Random(seed ^ kReaders).OneIn(16))) {
    ReadersAndWriters(plan, random);
    return plan;
  }
  if (mode == Mode::kWriters || (mode == Mode::kMixed && Random(seed ^ kWriters).OneIn(16))) {
    WritersStopped(plan, random);
    return plan;
  }
  static constexpr Mode kSpecialModes[] = {Mode::kListeners,  Mode::kListeners, Mode::kAborts,
                                           Mode::kStragglers, Mode::kMembers,   Mode::kFolders};
  if (Random special(seed ^ kSpecial); mode == Mode::kMixed && special.OneIn(4)) {
    mode = kSpecialModes[special.Below(std::size(kSpecialModes))];
  }
  if (MakeSpecial(plan, mode, random)) return plan;
  if (mode == Mode::kVotes || (mode == Mode::kMixed && Random(seed ^ kVotes).OneIn(3))) {
    VotesAndFences(plan, random);
    return plan;
  }
  plan.durable = mode == Mode::kMixed ? random.OneIn(2) : mode == Mode::kDurable;
  Settings& s = plan.settings;
  s.strategy = random.OneIn(3) ? Strategy::kPriorities : Strategy::kUniform;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = (plan.durable ? 1000 : 300) + random.Below(3000);
  plan.versions = static_cast<std::uint32_t>(4 + random.Below(4));
  if (plan.durable) {
    plan.boots = 1 + static_cast<int>(random.Below(3));
    plan.versions += 2;
    plan.state_bytes = random.OneIn(3) ? 5000 : 64;
    plan.latest = random.OneIn(2);
    plan.retain_segments = static_cast<std::uint32_t>(random.Below(3));
    if (random.OneIn(3)) plan.retain_epochs = 1 + random.Below(12);
    plan.spare_blocks = random.Below(6);
    plan.tears = random.OneIn(8);
    plan.damages = plan.boots > 1 && random.OneIn(4);
  }
  plan.operations.resize(kMaxProcesses);
  const bool members = random.OneIn(4);
  for (int p = 0; p < s.processes + 1; ++p) {
    for (int boot = 0; boot < plan.boots; ++boot) {
      const std::uint64_t count = 3 + random.Below(plan.durable ? 4 : 8);
      for (std::uint64_t i = 0; i < count; ++i) {
        OpKind kind = AnyOperation(random, members);
        if (plan.durable && kind == OpKind::kRejoin && random.OneIn(2)) kind = OpKind::kReopen;
        plan.operations[static_cast<std::size_t>(p)].push_back({kind, random.Next(), boot});
      }
    }
  }
  AddFaults(plan, random);
  if (!s.forked_child) plan.operations[static_cast<std::size_t>(s.processes)].clear();
  return plan;
}

}  // namespace epoch::sim
