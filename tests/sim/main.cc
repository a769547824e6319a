// sim: plays schedules by seed until a budget is spent or a guarantee breaks.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/sim/workload.h"

namespace {

using epoch::sim::Outcome;
using epoch::sim::Settings;

Settings SettingsFor(std::uint64_t seed) {
  epoch::sim::Random random(seed ^ 0x53494d);
  Settings s;
  s.seed = seed;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.faults.crashes = static_cast<int>(random.Below(3));
  s.faults.stops = static_cast<int>(random.Below(3));
  s.expected_steps = 300 + random.Below(3000);
  return s;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Totals {
  std::uint64_t points = 0, schedules = 0, transitions = 0, violations = 0, first_bad = 0;
};

}  // namespace

int main(int argc, char** argv) {
  double seconds = 10;
  std::uint64_t seed = 1;
  bool one = false, trace = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (argument == "--seconds") {
      seconds = std::atof(value());
    } else if (argument == "--seed") {
      seed = std::strtoull(value(), nullptr, 10);
      one = true;
    } else if (argument == "--first-seed") {
      seed = std::strtoull(value(), nullptr, 10);
    } else if (argument == "--trace") {
      trace = true;
    } else {
      std::fprintf(stderr, "sim: unknown option %s\n", argv[i]);
      return 2;
    }
  }
  if (one) {
    Settings s = SettingsFor(seed);
    s.trace = trace;
    const Outcome o = epoch::sim::PlayVolatile(s);
    if (!o.violation.empty()) std::printf("seed %lu: %s\n", seed, o.violation.c_str());
    std::printf("sim: points=%lu schedules=1 violations=%d\n", o.steps,
                o.violation.empty() ? 0 : 1);
    return o.violation.empty() ? 0 : 1;
  }
  // Killed fibers leave their heap behind: batches run in children, whose memory goes with them.
  Totals totals;
  const double until = Seconds() + seconds;
  while (Seconds() < until && totals.violations == 0) {
    constexpr std::uint64_t kBatch = 2000;
    int ends[2];
    if (pipe(ends) != 0) return 1;
    const pid_t child = fork();
    if (child == 0) {
      Totals mine;
      for (std::uint64_t i = 0; i < kBatch && mine.violations == 0; ++i) {
        const Outcome o = epoch::sim::PlayVolatile(SettingsFor(seed + i));
        mine.points += o.steps;
        mine.transitions += o.transitions;
        ++mine.schedules;
        if (!o.violation.empty()) {
          std::printf("seed %lu: %s\n", seed + i, o.violation.c_str());
          std::fflush(stdout);
          mine.first_bad = seed + i;
          ++mine.violations;
        }
      }
      if (write(ends[1], &mine, sizeof mine) != sizeof mine) _exit(1);
      _exit(0);
    }
    close(ends[1]);
    Totals mine;
    const bool told = read(ends[0], &mine, sizeof mine) == sizeof mine;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (!told) {
      std::printf("a schedule from seed %lu on ended its process (status %d)\n", seed, status);
      ++totals.violations;
      break;
    }
    totals.points += mine.points;
    totals.schedules += mine.schedules;
    totals.transitions += mine.transitions;
    totals.violations += mine.violations;
    seed += kBatch;
  }
  std::printf("sim: points=%lu schedules=%lu violations=%lu\n", totals.points, totals.schedules,
              totals.violations);
  return totals.violations == 0 ? 0 : 1;
}
