// epoch_stress: real processes in one region under SIGKILL and SIGSTOP, and the history of all that
// they saw checked afterwards by another program. See docs/guarantees.md for what G1 to G10 say.
//
// The last lines of stdout are `stress: voted=N`, how many of the transitions were seen to be voted
// on, and `stress: transitions=T kills=K stops=S violations=V`. Exit codes: 0, 1 violations (the
// logs are kept), 2 usage, 3 could not run, 128 + signal when interrupted.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "epoch/epoch.h"
#include "fmt/format.h"
#include "stress/round.h"
#include "stress/signals.h"
#include "support/scratch.h"

namespace epoch::stress {
namespace {

namespace fs = std::filesystem;

struct Flags {
  double seconds = 30;
  std::uint64_t transitions = 0;  // how many are enough; 0: whatever the time allows
  unsigned processes = 8;
  bool voted = false;
  std::uint64_t seed = 0;
  bool only_durable = false;
  bool only_volatile = false;
  bool keep = false;
  bool discard = false;
  std::string planted;  // a bug that all processes have
  std::string skew;     // the agent of another build, which every other process runs
};

class Stress {
 public:
  explicit Stress(const Flags& flags) : flags_(flags), random_(flags.seed) {
    const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
    checker_ = here / "epoch_history_check";
    agents_ = {here / "epoch_stress_agent", here / "epoch_stress_agent_points"};
    if (!flags.planted.empty()) agents_ = {here / "epoch_stress_agent_points"};
    if (!flags.skew.empty()) agents_ = {here / "epoch_stress_agent", fs::absolute(flags.skew)};
    std::vector<std::string> programs = agents_;
    programs.push_back(checker_);
    for (const std::string& program : programs) {
      if (access(program.c_str(), X_OK) != 0) {
        throw fs::filesystem_error("not built", program,
                                   std::error_code(ENOENT, std::generic_category()));
      }
    }
  }

  int Run() {
    const std::int64_t start_ns = seam::MonotonicNanos();
    const std::int64_t end_ns = start_ns + static_cast<std::int64_t>(flags_.seconds * 1e9);
    // Rounds of a few seconds; at least one of each mode.
    const int modes = flags_.only_durable || flags_.only_volatile ? 1 : 2;
    const int rounds = std::max(modes, static_cast<int>(flags_.seconds / 4 / modes) * modes);
    bool finished = true;
    for (int round = 0; finished && !Enough() && (flags_.transitions != 0 || round < rounds);
         ++round) {
      const std::int64_t now = seam::MonotonicNanos();
      const std::int64_t until =
          now + (flags_.transitions != 0
                     ? kRound_ns
                     : std::max<std::int64_t>(end_ns - now, 1'000'000'000) / (rounds - round));
      // Where it is the number that counts, most of the time goes to what is quicker.
      const int turn = flags_.transitions != 0 ? round % 4 : round % 2;
      const bool durable = modes == 1 ? flags_.only_durable : turn == 1;
      finished = PlayRound(round, durable, until, start_ns);
    }
    if (const int signal = Interruption(); signal != 0) {
      fmt::print(stderr, "stress: interrupted\n");
      return 128 + signal;
    }
    if (!flags_.discard && (flags_.keep || verdict_.violations != 0)) Keep();
    fmt::print("stress: {} operations, the longest took {:.0f} ms\n", verdict_.operations,
               verdict_.longest_ms);
    fmt::print("stress: voted={}\n", verdict_.voted);
    fmt::print("stress: transitions={} kills={} stops={} violations={}\n", verdict_.transitions,
               tally_.kills, tally_.stops, verdict_.violations);
    return verdict_.violations == 0 ? 0 : 1;
  }

 private:
  static constexpr std::int64_t kRound_ns = 6'000'000'000;

  bool Enough() const {
    if (flags_.transitions == 0) return false;
    // Whoever asks for a number wants it without violations.
    return verdict_.violations != 0 ||
           (flags_.voted ? verdict_.voted : verdict_.transitions) >= flags_.transitions;
  }

  bool PlayRound(int number, bool durable, std::int64_t until_ns, std::int64_t start_ns) {
    const test::ScratchName region;
    const std::string directory = scratch_ / fmt::format("round-{}", number);
    const std::string journal = scratch_ / fmt::format("journal-{}", number);
    const Round::Plan plan{.directory = directory,
                           .region = region.name(),
                           .journal = durable ? journal : "",
                           .programs = agents_,
                           .checker = checker_,
                           .planted = flags_.planted,
                           .processes = flags_.processes,
                           .voted = flags_.voted,
                           .until_ns = until_ns};
    const std::uint64_t before = verdict_.violations;
    Round round(plan, random_.Next(), tally_, [&] { Progress(number, durable, start_ns); });
    const bool finished = round.Play(verdict_);
    if (verdict_.violations == before && !flags_.keep) fs::remove_all(directory);
    fs::remove_all(journal);
    return finished;
  }

  void Progress(int round, bool durable, std::int64_t start_ns) {
    const std::int64_t now = seam::MonotonicNanos();
    if (now < next_progress_ns_) return;
    next_progress_ns_ = now + 3'000'000'000;
    const std::string goal = flags_.transitions != 0
                                 ? fmt::format("{} transitions", flags_.transitions)
                                 : fmt::format("{} s", flags_.seconds);
    fmt::print(stderr,
               "stress: {} s, until {}: round {} ({}), {} kills, {} stops; so far {} transitions "
               "checked, {} of them voted\n",
               (now - start_ns) / 1'000'000'000, goal, round + 1, durable ? "durable" : "volatile",
               tally_.kills, tally_.stops, verdict_.transitions, verdict_.voted);
  }

  void Keep() {
    const fs::path kept = fs::temp_directory_path() / fmt::format("epoch-stress-{}", getpid());
    fs::rename(scratch_.path(), kept);
    fmt::print("stress: logs are kept in {}; look again with {} {}/round-N\n", kept.string(),
               checker_, kept.string());
  }

  const Flags flags_;
  Random random_;
  std::string checker_;
  std::vector<std::string> agents_;
  const test::ScratchDirectory scratch_;
  Crew::Tally tally_;
  Verdict verdict_;
  std::int64_t next_progress_ns_ = 0;
};

int Main(int argc, char** argv) {
  Flags flags;
  flags.seed = static_cast<std::uint64_t>(seam::MonotonicNanos());
  CLI::App app("Real processes under SIGKILL and SIGSTOP, their history checked.");
  app.add_option("--seconds", flags.seconds)->check(CLI::Range(1.0, 1e6))->capture_default_str();
  app.add_option("--transitions", flags.transitions,
                 "run until so many were committed (with --voted: so many voted ones)");
  app.add_flag("--voted", flags.voted, "most transitions are voted on, and fewer signals sent");
  app.add_option("--processes", flags.processes)->check(CLI::Range(2, 256))->capture_default_str();
  app.add_option("--seed", flags.seed, "of the random choices; default: from the clock");
  auto* durable = app.add_flag("--durable", flags.only_durable, "durable regions only");
  app.add_flag("--volatile", flags.only_volatile, "volatile regions only")->excludes(durable);
  auto* keep = app.add_flag("--keep", flags.keep, "keep the logs even if they show no violation");
  app.add_flag("--discard", flags.discard, "keep no logs even if they show one")->excludes(keep);
  auto* plant =
      app.add_option("--plant", flags.planted, "a bug of tests/planted, which all processes have");
  app.add_option("--skew", flags.skew, "half of the processes run this agent, of another build")
      ->excludes(plant);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  BlockSignals();
  test::SweepLeftovers();
  try {
    fmt::print(stderr, "stress: seed {}\n", flags.seed);
    return Stress(flags).Run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "stress: {}\n", error.what());
    return 3;
  }
}

}  // namespace
}  // namespace epoch::stress

int main(int argc, char** argv) { return epoch::stress::Main(argc, argv); }
