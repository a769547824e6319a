// sim: plays schedules by seed until a budget is spent or a guarantee breaks.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <string>

#include "tests/planted/plant.h"
#include "tests/sim/campaign.h"
#include "tests/sim/exhaustive.h"
#include "tests/sim/shrink.h"
#include "tests/sim/weaken.h"
#include "tests/sim/weakened.h"
#include "tests/sim/world.h"

namespace {

using epoch::sim::Mode;
using epoch::sim::Outcome;
using epoch::sim::Plan;
using epoch::sim::Reduction;

int Summary(std::uint64_t points, std::uint64_t schedules, std::uint64_t violations) {
  std::printf("sim: points=%lu schedules=%lu violations=%lu\n", points, schedules, violations);
  return violations == 0 ? 0 : 1;
}

int PlayOne(const Reduction& what, bool trace, bool shrink) {
  Plan plan = Apply(what);
  plan.settings.trace = trace;
  std::printf("%s", Describe(plan).c_str());
  std::fflush(stdout);
  const Outcome o = Play(plan);
  if (!o.violation.empty()) std::printf("seed %s: %s\n", Format(what).c_str(), o.violation.c_str());
  if (!o.violation.empty() && shrink) {
    std::printf("shrinking %zu operations and faults...\n", plan.size());
    std::fflush(stdout);
    const Reduction least = Shrink(what, o.violation);
    const Plan smallest = Apply(least);
    std::printf("%zu are enough:\n%s%s\nplay it: --seed %s --trace\n", smallest.size(),
                Describe(smallest).c_str(), Play(smallest).violation.c_str(),
                Format(least).c_str());
  }
  return Summary(o.steps, 1, o.violation.empty() ? 0 : 1);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Plays schedules of the real code on simulated memory and a simulated disk."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  epoch::sim::Budget budget;
  budget.progress = isatty(2) != 0;
  std::string seed, weaken, planted;
  std::uint64_t attempt = 0;
  bool trace = false, shrink = false, exhaustive = false;
  std::uint64_t schedules = UINT64_MAX;
  const auto* seconds = app.add_option("--seconds", budget.seconds, "how long to play (10)");
  app.add_option("--points", budget.points,
                 "end after so many scheduling points; then there is no limit of time by default");
  app.add_option("--seed", seed, "play one: a number, or what the shrinker printed");
  app.add_option("--first-seed", budget.first_seed, "where to begin (1)");
  app.add_option("--try", attempt, "play this seed before the others");
  app.add_option("--jobs", budget.jobs, "so many at a time (1)");
  app.add_option("--state", budget.state_path, "a file: go on where the last call ended");
  app.add_option("--mode", budget.mode,
                 "mixed (default), volatile, durable, readers, writers, votes, listeners, aborts, "
                 "stragglers, members or folders")
      ->transform(
          CLI::CheckedTransformer(std::map<std::string, Mode>{{"mixed", Mode::kMixed},
                                                              {"volatile", Mode::kVolatile},
                                                              {"durable", Mode::kDurable},
                                                              {"readers", Mode::kReaders},
                                                              {"writers", Mode::kWriters},
                                                              {"votes", Mode::kVotes},
                                                              {"listeners", Mode::kListeners},
                                                              {"aborts", Mode::kAborts},
                                                              {"stragglers", Mode::kStragglers},
                                                              {"members", Mode::kMembers},
                                                              {"folders", Mode::kFolders}}));
  app.add_option("--plant", planted, "with this bug of tests/planted");
  app.add_flag("--trace", trace, "with --seed: print every step, and what each load saw");
  app.add_flag("--shrink", shrink, "with --seed: find what the failure needs");
  app.add_flag("--progress", budget.progress, "say now and then how far it is");
  app.add_flag("--exhaustive", exhaustive, "play all schedules of small cases");
  app.add_option("--schedules", schedules, "with --exhaustive: at most so many of a case (all)");
  app.add_option(
      "--weaken", weaken,
      "take an order away: a barrier's letter, the name of a site, all; list: print them");
  CLI11_PARSE(app, argc, argv);
  if (budget.points != 0 && seconds->count() == 0) budget.seconds = 1e9;
  epoch::Plant(planted);
  if (weaken == "list") {
    epoch::sim::ListSites();
    return 0;
  }
  if (!weaken.empty() && seed.empty() && !exhaustive) return PlayWeakened(weaken, budget);
  if (!weaken.empty() && !epoch::sim::Weaken(weaken)) {
    std::fprintf(stderr, "sim: no site is named \"%s\": --weaken list\n", weaken.c_str());
    return 2;
  }
  if (!seed.empty()) {
    Reduction what;
    if (!Parse(seed, budget.mode, what)) {
      std::fprintf(stderr, "sim: \"%s\" is no seed\n", seed.c_str());
      return 2;
    }
    return PlayOne(what, trace, shrink);
  }
  if (exhaustive) {
    const auto totals = epoch::sim::PlayAllSmallCases(schedules);
    return Summary(totals.points, totals.schedules, totals.violations);
  }
  epoch::sim::Totals totals;
  if (attempt != 0) {
    epoch::sim::Budget one = budget;
    one.points = 1;
    one.first_seed = attempt;
    one.batch = 1;
    totals = RunCampaign(one);
    if (totals.violations == 0) std::printf("seed %lu shows nothing any more\n", attempt);
  }
  if (totals.violations == 0) totals = RunCampaign(budget);
  if (totals.violations != 0) {
    std::printf("again, smaller: --seed %lu --shrink; step by step: --seed %lu --trace\n",
                totals.first_bad, totals.first_bad);
  }
  return Summary(totals.points, totals.schedules, totals.violations);
}
