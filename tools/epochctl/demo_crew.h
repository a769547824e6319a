// Runs the demo's agents as processes, kills some of them, and gathers what they report.
#ifndef EPOCH_TOOLS_EPOCHCTL_DEMO_CREW_H_
#define EPOCH_TOOLS_EPOCHCTL_DEMO_CREW_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "epoch/detail/platform/files.h"
#include "tools/epochctl/demo_agent.h"

namespace epoch::ctl::demo {

// What was reported over all phases of a run.
struct Tally {
  std::uint64_t acknowledged = 0;        // folds that an agent was told are done
  std::set<std::uint32_t> chunks;        // of these, the different chunks
  std::vector<std::int64_t> latency_ns;  // one an acknowledged fold
  std::uint64_t torn_reads = 0;
  std::uint64_t kills = 0;
};

class Crew {
 public:
  using Progress = std::function<void(const Tally&)>;

  Crew(AgentJob job, std::uint64_t seed, Progress progress);
  ~Crew();  // ends all agents that are left
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Starts all agents and waits until they are through. Kills a random one, and starts another in
  // its place, whenever as many folds are acknowledged as `kill_at` says next. Once `stop_at` folds
  // are acknowledged all are killed at once and the run ends (0: never). Cancelled on a signal.
  absl::Status Run(std::vector<std::uint64_t> kill_at, std::uint64_t stop_at, Tally& tally);

 private:
  struct Agent {
    pid_t pid = 0;
    detail::Fd ended;  // pidfd: readable when the process is gone
  };

  absl::Status Start(std::uint32_t index);
  absl::Status Reap(std::uint32_t index);
  void ReadReports(Tally& tally);
  void KillOne(Tally& tally);
  void KillAll();

  const AgentJob job_;
  std::minstd_rand random_;
  const Progress progress_;
  detail::Fd reports_, reports_in_;
  std::vector<Agent> agents_;
  std::set<std::uint32_t> killed_;  // to be replaced when they are gone
};

// Set by SIGINT and SIGTERM while one of these lives.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
  static bool interrupted();
};

}  // namespace epoch::ctl::demo

#endif  // EPOCH_TOOLS_EPOCHCTL_DEMO_CREW_H_
