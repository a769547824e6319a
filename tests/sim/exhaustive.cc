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

Totals PlayAllSmallCases(double seconds, std::uint64_t most) {
  Totals totals;
  const double end = Seconds() + seconds;
  std::size_t left = Cases().size(), complete_cases = 0;
  for (const Case& c : Cases()) {
    Script script;
    const double until = Seconds() + (end - Seconds()) / static_cast<double>(left--);
    std::uint64_t schedules = 0, points = 0;
    bool complete = false;
    while (Seconds() < until && (most == 0 || schedules < most)) {
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
    std::fflush(stdout);
    complete_cases += complete ? 1 : 0;
    totals.schedules += schedules;
    totals.points += points;
  }
  std::printf("sim: all schedules of %zu of %zu cases\n", complete_cases, Cases().size());
  return totals;
}

namespace {

struct SelfCheck {
  const char* name;
  const char* finds;          // how the violation begins; empty: there is none
  std::uint64_t least, most;  // points, within which it ends
  std::vector<std::vector<Op>> operations{};
  std::vector<Fault> faults{};
  std::uint64_t expected_steps = 2000;
  std::uint64_t most_points = Settings{}.most_points;
};

std::vector<SelfCheck> SelfChecks() {
  using enum OpKind;
  const auto round = [](GoRound how) {
    return std::vector<Op>{{kGoRound, static_cast<std::uint64_t>(how)}};
  };
  const std::vector<Op> commit = {{kCommit, 1}}, commits = {{kCommit, 1}, {kCommit, 2}};
  constexpr const char* kNoProgress = "G8: no progress";
  return {
      {"one rings itself awake",
       kNoProgress,
       kIdlePoints,
       30'000,
       {round(GoRound::kRings), commits}},
      {"two ring each other awake",
       kNoProgress,
       kIdlePoints,
       30'000,
       {round(GoRound::kRings), round(GoRound::kRings)}},
      {"all look now and then",
       kNoProgress,
       kIdlePoints,
       30'000,
       {round(GoRound::kSleeps), round(GoRound::kSleeps), commits}},
      {"two wait for 30 s", "", 10'000, 30'000, {round(GoRound::kLong), round(GoRound::kLong)}},
      {"one spins for what nobody does",
       kNoProgress,
       kIdlePoints,
       30'000,
       {round(GoRound::kSpins), {}}},
      {"one spins for another that is stopped for long",
       "",
       100'000,
       2'000'000,
       {commit, round(GoRound::kSpins), round(GoRound::kSpins)},
       {{FaultKind::kStopAtPoint, 0, 1, 0, "publish.before_tail"}},
       1'000'000},
      {"one commits for ever",
       "G8: no end",
       200'000,
       200'001,
       {round(GoRound::kCommits), commit},
       {},
       2000,
       200'000},
  };
}

}  // namespace

Totals CheckItself() {
  Totals totals;
  for (const SelfCheck& check : SelfChecks()) {
    for (std::uint64_t schedule = 1; schedule <= 10; ++schedule) {
      Plan plan;
      plan.seed = schedule;
      plan.joined = true;
      plan.operations = check.operations;
      plan.operations.resize(kMaxProcesses);
      Settings& s = plan.settings;
      s.schedule = schedule;
      s.strategy = schedule % 2 == 0 ? Strategy::kPriorities : Strategy::kUniform;
      s.processes = static_cast<int>(check.operations.size());
      s.faults = check.faults;
      s.expected_steps = check.expected_steps;
      s.most_points = check.most_points;
      const Outcome o = Play(plan);
      totals.points += o.steps;
      ++totals.schedules;
      const bool found =
          *check.finds != '\0' ? o.violation.rfind(check.finds, 0) == 0 : o.violation.empty();
      if (schedule == 1) {
        std::printf("%-48s %7lu points: %s\n", check.name, o.steps, o.violation.c_str());
      }
      if (found && o.steps >= check.least && o.steps <= check.most) continue;
      std::printf("%s, schedule %lu: %lu points, \"%s\"; expected \"%s\"\n", check.name, schedule,
                  o.steps, o.violation.c_str(), check.finds);
      ++totals.violations;
    }
  }
  return totals;
}

}  // namespace epoch::sim
