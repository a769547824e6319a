// Many runs: seed after seed, in child processes, until a budget is spent or a guarantee breaks.
#ifndef EPOCH_TESTS_SIM_CAMPAIGN_H_
#define EPOCH_TESTS_SIM_CAMPAIGN_H_

#include <cstdint>
#include <string>

#include "tests/sim/plan.h"

namespace epoch::sim {

struct Budget {
  Mode mode = Mode::kMixed;
  double seconds = 10;       // of this call
  std::uint64_t points = 0;  // also end there; 0: only after `seconds`
  std::uint64_t first_seed = 1;
  int jobs = 1;
  bool progress = false;
  std::uint64_t batch = 1000;  // seeds to a process: killed fibers leave their heap behind
  std::string state_path{};    // go on from there, and leave there how far it came
};

struct Totals {
  std::uint64_t points = 0, schedules = 0, transitions = 0, violations = 0;
  std::uint64_t first_bad = 0;  // seed
};

// Of a clock that only goes forward.
double Seconds();

// `totals.points` and so on include what `state_path` says of earlier calls.
Totals RunCampaign(const Budget& budget);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_CAMPAIGN_H_
