#include "tests/sim/campaign.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "tests/sim/world.h"

namespace epoch::sim {
namespace {

struct Job {
  pid_t pid;
  std::uint64_t first;
  std::uint64_t playing;  // the seed that is being played
  Totals totals;
};

// `most`: no further seed after so many points.
[[noreturn]] void PlayBatch(Job& job, Mode mode, std::uint64_t batch, std::uint64_t most) {
  for (std::uint64_t i = 0; i < batch && job.totals.violations == 0 && job.totals.points < most;
       ++i) {
    job.playing = job.first + i;
    const Outcome o = Play(PlanFor(job.playing, mode));
    job.totals.points += o.steps;
    job.totals.transitions += o.transitions;
    ++job.totals.schedules;
    if (o.violation.empty()) continue;
    std::printf("seed %lu, mode %s: %s\n", job.playing, NameOf(mode), o.violation.c_str());
    job.totals.first_bad = job.playing;
    ++job.totals.violations;
  }
  std::fflush(stdout);
  _exit(0);
}

void LoadState(const std::string& path, std::uint64_t& seed, Totals& totals) {
  if (std::FILE* file = std::fopen(path.c_str(), "r"); file != nullptr) {
    if (std::fscanf(file, "seed=%lu points=%lu schedules=%lu transitions=%lu", &seed,
                    &totals.points, &totals.schedules, &totals.transitions) != 4) {
      std::fprintf(stderr, "sim: %s is no state of a campaign: starting anew\n", path.c_str());
      totals = {};
    }
    std::fclose(file);
  }
}

void SaveState(const std::string& path, std::uint64_t seed, const Totals& totals) {
  const std::string fresh = path + ".new";
  std::FILE* file = std::fopen(fresh.c_str(), "w");
  if (file == nullptr) return;
  std::fprintf(file, "seed=%lu points=%lu schedules=%lu transitions=%lu\n", seed, totals.points,
               totals.schedules, totals.transitions);
  std::fclose(file);
  std::rename(fresh.c_str(), path.c_str());
}

}  // namespace

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Totals RunCampaign(const Budget& budget) {
  Totals totals;
  std::uint64_t seed = budget.first_seed;
  if (!budget.state_path.empty()) LoadState(budget.state_path, seed, totals);
  const auto jobs = static_cast<std::size_t>(std::max(budget.jobs, 1));
  auto* slots = static_cast<Job*>(
      mmap(nullptr, jobs * sizeof(Job), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (slots == MAP_FAILED) std::abort();
  const double begun = Seconds();
  double told = begun;
  const auto more = [&] {
    return totals.violations == 0 && Seconds() - begun < budget.seconds &&
           (budget.points == 0 || totals.points < budget.points);
  };
  std::size_t running = 0;
  std::uint64_t done_below = seed;  // every seed below has been played
  std::fflush(stdout);
  for (;;) {
    for (std::size_t i = 0; i < jobs && more(); ++i) {
      if (slots[i].pid != 0) continue;
      slots[i] = {0, seed, seed, {}};
      seed += budget.batch;
      const pid_t child = fork();
      if (child == 0) {
        // Several jobs end their batches: what the others find does not reach them.
        const bool bounded = jobs == 1 && budget.points != 0;
        PlayBatch(slots[i], budget.mode, budget.batch,
                  bounded ? budget.points - totals.points : UINT64_MAX);
      }
      if (child < 0) std::abort();
      slots[i].pid = child;
      ++running;
    }
    if (running == 0) break;
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    for (std::size_t i = 0; i < jobs; ++i) {
      Job& job = slots[i];
      if (job.pid != ended) continue;
      --running;
      if (jobs == 1) seed = job.first + job.totals.schedules;
      job.pid = 0;
      if (status != 0) {
        std::printf("seed %lu, mode %s: ended its process (%s %d)\n", job.playing,
                    NameOf(budget.mode), WIFSIGNALED(status) ? "signal" : "status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        job.totals.first_bad = job.playing;
        ++job.totals.violations;
      }
      totals.points += job.totals.points;
      totals.schedules += job.totals.schedules;
      totals.transitions += job.totals.transitions;
      totals.violations += job.totals.violations;
      if (job.totals.first_bad != 0 &&
          (totals.first_bad == 0 || job.totals.first_bad < totals.first_bad)) {
        totals.first_bad = job.totals.first_bad;
      }
    }
    done_below = seed;
    for (std::size_t i = 0; i < jobs; ++i) {
      if (slots[i].pid != 0) done_below = std::min(done_below, slots[i].first);
    }
    if (!budget.state_path.empty() && totals.violations == 0) {
      SaveState(budget.state_path, done_below, totals);
    }
    if (budget.progress && Seconds() - told > 2) {
      told = Seconds();
      std::fprintf(stderr, "sim: %.0f s, seed %lu, %.3g points, %lu schedules, %lu transitions\n",
                   told - begun, seed, static_cast<double>(totals.points), totals.schedules,
                   totals.transitions);
    }
  }
  munmap(slots, jobs * sizeof(Job));
  return totals;
}

namespace {

struct NamedMode {
  const char* name;
  Mode mode;
};
constexpr NamedMode kModes[] = {{"mixed", Mode::kMixed},           {"volatile", Mode::kVolatile},
                                {"durable", Mode::kDurable},       {"readers", Mode::kReaders},
                                {"writers", Mode::kWriters},       {"votes", Mode::kVotes},
                                {"listeners", Mode::kListeners},   {"aborts", Mode::kAborts},
                                {"stragglers", Mode::kStragglers}, {"members", Mode::kMembers},
                                {"folders", Mode::kFolders},       {"vanishes", Mode::kVanishes}};

}  // namespace

std::optional<Mode> ModeNamed(std::string_view name) {
  for (const NamedMode& known : kModes) {
    if (name == known.name) return known.mode;
  }
  return std::nullopt;
}

const char* NameOf(Mode mode) {
  for (const NamedMode& known : kModes) {
    if (mode == known.mode) return known.name;
  }
  return "";
}

bool Replay(const std::string& path, Totals& totals) {
  std::ifstream file(path);
  if (!file) {
    std::fprintf(stderr, "sim: cannot read %s\n", path.c_str());
    return false;
  }
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string seed, mode_name, why;
    if (!(words >> seed) || seed[0] == '#') continue;
    words >> mode_name;
    std::getline(words >> std::ws, why);
    const std::optional<Mode> mode = ModeNamed(mode_name);
    Reduction what;
    if (!mode.has_value() || !Parse(seed, *mode, what)) {
      std::fprintf(stderr, "sim: %s: neither a seed nor a comment: %s\n", path.c_str(),
                   line.c_str());
      return false;
    }
    // Said first: a run may end this process.
    std::printf("seed %s, mode %s: %s\n", seed.c_str(), mode_name.c_str(), why.c_str());
    std::fflush(stdout);
    const Outcome o = Play(Apply(what));
    std::printf("  %lu points%s%s\n", o.steps, o.violation.empty() ? "" : ": ",
                o.violation.c_str());
    totals.points += o.steps;
    totals.transitions += o.transitions;
    ++totals.schedules;
    if (o.violation.empty()) continue;
    ++totals.violations;
    if (totals.first_bad == 0) totals.first_bad = what.seed;
  }
  return true;
}

}  // namespace epoch::sim
