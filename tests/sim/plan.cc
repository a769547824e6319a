#include "tests/sim/plan.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/sim/disk.h"
#include "tests/sim/weakened.h"

namespace epoch::sim {
namespace {

// Names of streams. The seeds that the planted bugs are known by have no late loads.
constexpr std::uint64_t kLateLoads = 3;
constexpr std::uint64_t kReaders = 0x524541;
constexpr std::uint64_t kWriters = 0x575249;

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
const char* AnyLabel(Random& random, bool durable) {
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
  if (random.OneIn(3)) return nullptr;
  if (durable && random.OneIn(2)) return kOnDisk[random.Below(std::size(kOnDisk))];
  return kInMemory[random.Below(std::size(kInMemory))];
}

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
      const char* label = AnyLabel(random, plan.durable);
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

const char* NameOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kCrash:
      return "crash";
    case FaultKind::kCrashAtPoint:
      return "crash at point";
    case FaultKind::kStop:
      return "stop";
    case FaultKind::kStopAtPoint:
      return "stop at point";
    case FaultKind::kFork:
      return "fork";
    case FaultKind::kPowerLoss:
      return "power loss";
    case FaultKind::kDisk:
      return "disk fault";
  }
  return "";
}

}  // namespace

const char* NameOf(OpKind kind) {
  static constexpr const char* kNames[] = {"pin",      "commit",        "commit-expecting",
                                           "update",   "propose-await", "drop-draft",
                                           "read",     "park",          "poll",
                                           "reap",     "expel",         "rejoin",
                                           "converge", "reopen"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::size_t Plan::size() const {
  std::size_t count = settings.faults.size();
  for (const auto& operation : operations) count += operation.size();
  return count;
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

std::string Describe(const Plan& plan) {
  std::string text = absl::StrCat(
      plan.durable ? "durable" : "volatile", " region, ", plan.settings.processes, " processes, ",
      plan.versions, " versions of ", plan.state_bytes, " bytes, ",
      plan.settings.strategy == Strategy::kPriorities ? "priorities" : "uniform", "\n");
  if (plan.durable) {
    absl::StrAppend(&text, "  ", plan.boots, " boots, history ", plan.latest ? "latest" : "all",
                    ", retain ", plan.retain_segments, plan.tears ? ", sectors tear" : "",
                    plan.damages ? ", a sector is damaged" : "", "\n");
  }
  for (std::size_t p = 0; p < plan.operations.size(); ++p) {
    if (plan.operations[p].empty()) continue;
    absl::StrAppend(&text, "  p", p, ":");
    int boot = 0;
    for (const Op& op : plan.operations[p]) {
      for (; boot < op.boot; ++boot) absl::StrAppend(&text, " |");
      absl::StrAppend(&text, " ", NameOf(op.kind));
    }
    absl::StrAppend(&text, "\n");
  }
  for (const Fault& f : plan.settings.faults) {
    absl::StrAppend(&text, "  ", NameOf(f.kind), " ", f.kind == FaultKind::kDisk ? "kind " : "p",
                    f.kind == FaultKind::kDisk ? static_cast<int>(f.what) : f.process, " at ", f.at,
                    f.label != nullptr ? " " : "", f.label != nullptr ? f.label : "", "\n");
  }
  return text;
}

Reduction WholeOf(std::uint64_t seed, Mode mode) {
  const Plan plan = PlanFor(seed, mode);
  Reduction whole{seed, mode, 0, {}, {}};
  for (const auto& operations : plan.operations) {
    whole.operations.emplace_back();
    for (std::size_t i = 0; i < operations.size(); ++i) {
      whole.operations.back().push_back(static_cast<int>(i));
    }
  }
  for (std::size_t i = 0; i < plan.settings.faults.size(); ++i) {
    whole.faults.push_back(static_cast<int>(i));
  }
  return whole;
}

Plan Apply(const Reduction& reduction) {
  Plan plan = PlanFor(reduction.seed, reduction.mode);
  if (reduction.schedule != 0) plan.settings.schedule = reduction.schedule;
  const auto keep = [](const auto& all, const std::vector<int>& which) {
    std::decay_t<decltype(all)> kept;
    for (const int i : which) {
      if (i >= 0 && static_cast<std::size_t>(i) < all.size()) {
        kept.push_back(all[static_cast<std::size_t>(i)]);
      }
    }
    return kept;
  };
  for (std::size_t p = 0; p < plan.operations.size(); ++p) {
    plan.operations[p] =
        keep(plan.operations[p],
             p < reduction.operations.size() ? reduction.operations[p] : std::vector<int>{});
  }
  plan.settings.faults = keep(plan.settings.faults, reduction.faults);
  return plan;
}

std::string Format(const Reduction& reduction) {
  std::string text = absl::StrCat(reduction.seed);
  for (std::size_t p = 0; p < reduction.operations.size(); ++p) {
    if (reduction.operations[p].empty()) continue;
    absl::StrAppend(&text, ":p", p, "=", absl::StrJoin(reduction.operations[p], ","));
  }
  if (!reduction.faults.empty()) {
    absl::StrAppend(&text, ":f=", absl::StrJoin(reduction.faults, ","));
  }
  if (reduction.schedule != 0) absl::StrAppend(&text, ":s=", reduction.schedule);
  return text;
}

bool Parse(const std::string& text, Mode mode, Reduction& reduction) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::uint64_t seed = 0;
  if (!absl::SimpleAtoi(parts[0], &seed)) return false;
  reduction = WholeOf(seed, mode);
  if (parts.size() == 1) return true;
  for (auto& operations : reduction.operations) operations.clear();
  reduction.faults.clear();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::pair<std::string, std::string> item =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    if (item.first == "s") {
      if (!absl::SimpleAtoi(item.second, &reduction.schedule)) return false;
      continue;
    }
    std::vector<int> numbers;
    for (const auto& number : absl::StrSplit(item.second, ',')) {
      int value = 0;
      if (!absl::SimpleAtoi(number, &value)) return false;
      numbers.push_back(value);
    }
    std::size_t process = 0;
    if (item.first == "f") {
      reduction.faults = numbers;
    } else if (item.first.size() == 2 && item.first[0] == 'p' &&
               absl::SimpleAtoi(item.first.substr(1), &process) &&
               process < reduction.operations.size()) {
      reduction.operations[process] = numbers;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace epoch::sim
