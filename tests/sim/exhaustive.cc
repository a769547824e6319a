#include "tests/sim/exhaustive.h"

#include <cstdio>
#include <vector>

#include "tests/sim/weakened.h"
#include "tests/sim/world.h"

namespace epoch::sim {
namespace {

struct Bounds {
  int preemptions, stale_loads, crashes;
};

struct Case {
  const char* name;
  Bounds bounds;
  std::vector<std::vector<OpKind>> operations;  // by process
  bool first_is_dead = false;                   // dies at once, and leaves its slot behind
  unsigned voters = 0;
  std::uint64_t argument = 2;  // of the operations: which deadline, which policy
  bool puts_off = false;       // whoever is asked answers later
};

// Arguments: a deadline of 100 ms, of 48 us, and one of 1 ms that expels whoever misses it.
constexpr std::uint64_t kLong = 7, kShort = 6, kExpelling = 22;

const std::vector<Case>& Cases() {
  using enum OpKind;
  static const std::vector<Case> cases = {
      {"two commits", {2, 1, 0}, {{kCommit}, {kCommit}}},
      {"a commit and its death, another", {1, 0, 1}, {{kCommit}, {kCommit}}},
      {"a pin, its cell recycled", {2, 0, 0}, {{kPin}, {kCommit, kCommit, kCommit, kCommit}}},
      {"a pin, stale", {2, 1, 0}, {{kPin}, {kCommit, kCommit}}},
      {"an update against commits", {2, 0, 0}, {{kUpdate}, {kCommit, kCommit, kCommit}}},
      {"leave and join against reap", {2, 0, 0}, {{kRejoin}, {kReap, kCommit}}},
      {"death in a join, reaped", {1, 0, 1}, {{kRejoin}, {kReap, kReap}}},
      {"expulsion against a commit", {2, 0, 0}, {{kCommit, kCommit}, {kExpel, kCommit}}},
      {"convergence against a join", {2, 0, 0}, {{kRejoin, kPoll}, {kCommit, kAwaitConverged}}},
      {"parked, pinning", {2, 1, 0}, {{kPark, kPin}, {kCommit, kAwaitConverged}}},
      {"three commits", {2, 0, 0}, {{kCommit}, {kCommit}, {kCommit}}},
      {"two reapers, next owner", {2, 0, 0}, {{}, {kReap}, {kReap, kRejoin, kCommit}}, true},
      {"a vote with one voter", {2, 1, 0}, {{kVoted}, {kPoll}}, false, 2, kLong},
      {"a vote given up", {2, 0, 0}, {{kVoted}, {kPoll}}, false, 2, kShort},
      {"a vote, or the voter expelled", {2, 0, 0}, {{kVoted}, {kPoll}}, false, 2, kExpelling},
      {"a vote answered late", {2, 0, 0}, {{kVoted}, {kPoll, kAnswerLater}}, false, 2, kLong, true},
      {"a vote put off", {1, 0, 0}, {{kVoted}, {kPoll, kCommit}}, false, 2, kShort, true},
      {"a vote and a death", {1, 0, 1}, {{kVoted}, {kPoll, kCommit}}, false, 2, kLong},
      {"a fence against a pin", {2, 1, 0}, {{kFenced}, {kPin}}, false, 0, kLong},
      {"a fence given up, closed late", {1, 0, 0}, {{kFenced}, {kPin}, {kPoll}}, false, 0, kShort},
      {"a fence and a death", {1, 0, 1}, {{kFenced}, {kPin}}, false, 0, kLong},
      {"a collective of two", {1, 1, 0}, {{kCollective}, {kCollective}}, false, 3, kLong},
      {"a collective and a death", {0, 0, 1}, {{kCollective}, {kCollective}}, false, 3, kLong},
  };
  return cases;
}

Plan PlanOf(const Case& c, Script& script) {
  Plan plan;
  plan.seed = 1;
  plan.joined = true;
  plan.put_off_one_in = c.puts_off ? 1 : 0;
  plan.voters = c.voters;
  plan.state_bytes = c.voters != 0 ? 256 : plan.state_bytes;
  plan.operations.resize(kMaxProcesses);
  for (std::size_t p = 0; p < c.operations.size(); ++p) {
    for (const OpKind kind : c.operations[p]) plan.operations[p].push_back({kind, c.argument, 0});
  }
  Settings& s = plan.settings;
  s.strategy = Strategy::kScripted;
  s.script = &script;
  s.processes = static_cast<int>(c.operations.size());
  s.preemptions = c.bounds.preemptions;
  s.stale_loads = c.bounds.stale_loads;
  s.crashes = c.bounds.crashes;
  s.late_death = false;
  s.late_loads = SomethingIsWeakened();
  if (c.first_is_dead) s.faults.push_back({FaultKind::kCrash, 0, 0});
  return plan;
}

}  // namespace

Totals PlayAllSmallCases(std::uint64_t most) {
  Totals totals;
  for (const Case& c : Cases()) {
    Script script;
    std::uint64_t schedules = 0, points = 0;
    bool complete = false;
    while (schedules < most) {
      const Outcome o = Play(PlanOf(c, script));
      ++schedules;
      points += o.steps;
      if (!o.violation.empty()) {
        std::printf("%s, schedule %lu: %s\n", c.name, schedules, o.violation.c_str());
        ++totals.violations;
        break;
      }
      if (!script.Advance()) {
        complete = true;
        break;
      }
    }
    std::printf("%-32s preemptions %d stale %d crashes %d: %8lu schedules%s\n", c.name,
                c.bounds.preemptions, c.bounds.stale_loads, c.bounds.crashes, schedules,
                complete ? ", all" : ", not all");
    totals.schedules += schedules;
    totals.points += points;
  }
  return totals;
}

}  // namespace epoch::sim
