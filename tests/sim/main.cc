// sim: plays schedules by seed until a budget is spent or a guarantee breaks.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
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

// Numbers of points are large: "5e7" is one.
const CLI::Validator kCount(
    [](std::string& text) -> std::string {
      char* end = nullptr;
      const double number = std::strtod(text.c_str(), &end);
      const bool whole = end != text.c_str() && *end == '\0' && number >= 0 && number < 1e18 &&
                         std::floor(number) == number;
      if (!whole) return "\"" + text + "\" is no number of points or schedules";
      // As it was written, where it is an integer: a double may round it.
      if (text.find_first_of(".eE") != std::string::npos) {
        text = std::to_string(static_cast<std::uint64_t>(number));
      }
      return {};
    },
    "N");
const CLI::Validator kMode(
    [](std::string& text) -> std::string {
      const auto mode = epoch::sim::ModeNamed(text);
      if (!mode.has_value()) return "\"" + text + "\" is no mode";
      text = std::to_string(static_cast<int>(*mode));
      return {};
    },
    "MODE");

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
  std::string seed, weaken, planted, replay;
  std::uint64_t attempt = 0, schedules = 0;
  bool trace = false, shrink = false, exhaustive = false, check = false;
  const auto* seconds = app.add_option("--seconds", budget.seconds,
                                       "how long to play (10; without end, if --points or "
                                       "--schedules says where)");
  const auto* points = app.add_option("--points", budget.points,
                                      "end after so many scheduling points (5e7), too; by one job, "
                                      "the same seeds on any machine")
                           ->transform(kCount);
  app.add_option("--seed", seed, "play one: a number, or what the shrinker printed");
  app.add_option("--first-seed", budget.first_seed, "where to begin (1)");
  app.add_option("--try", attempt, "play this seed before the others");
  app.add_option("--jobs", budget.jobs, "so many at a time (1)");
  app.add_option("--state", budget.state_path, "a file: go on where the last call ended");
  app.add_option("--mode", budget.mode,
                 "mixed (default), volatile, durable, readers, writers, votes, listeners, aborts, "
                 "stragglers, members, folders or vanishes")
      ->transform(kMode);
  app.add_option("--plant", planted, "with this bug of tests/planted");
  app.add_flag("--trace", trace, "with --seed: print every step, and what each load saw");
  app.add_flag("--shrink", shrink, "with --seed: find what the failure needs");
  app.add_flag("--progress", budget.progress, "say now and then how far it is");
  app.add_flag("--exhaustive", exhaustive, "play all schedules of small cases");
  const auto* most = app.add_option("--schedules", schedules,
                                    "with --exhaustive: at most so many of each case; 0: all")
                         ->transform(kCount);
  app.add_option("--replay", replay, "play the seeds in this file, a line each: SEED MODE why");
  app.add_flag("--self-check", check, "whether runs that get no further are told from slow ones");
  app.add_option(
      "--weaken", weaken,
      "take an order away: a barrier's letter, the name of a site, all; list: print them");
  CLI11_PARSE(app, argc, argv);
  epoch::Plant(planted);
  if (seconds->count() == 0 && points->count() + most->count() > 0) {
    budget.seconds = std::numeric_limits<double>::infinity();
  }
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
  epoch::sim::Totals totals;
  if (exhaustive) {
    totals = epoch::sim::PlayAllSmallCases(budget.seconds, schedules);
    return Summary(totals.points, totals.schedules, totals.violations);
  }
  if (check) {
    totals = epoch::sim::CheckItself();
    return Summary(totals.points, totals.schedules, totals.violations);
  }
  if (!replay.empty()) {
    if (!epoch::sim::Replay(replay, totals)) return 2;
    return Summary(totals.points, totals.schedules, totals.violations);
  }
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
    const std::string again = "--seed " + std::to_string(totals.first_bad) + " --mode " +
                              NameOf(budget.mode) + (planted.empty() ? "" : " --plant " + planted);
    std::printf("again, smaller: %s --shrink; step by step: %s --trace\n", again.c_str(),
                again.c_str());
  }
  return Summary(totals.points, totals.schedules, totals.violations);
}
