// What the simulated processes do, and the checker that watches them.
#ifndef EPOCH_TESTS_SIM_WORKLOAD_H_
#define EPOCH_TESTS_SIM_WORKLOAD_H_

#include <cstdint>
#include <string>

#include "tests/sim/engine.h"

namespace epoch::sim {

struct Outcome {
  std::uint64_t steps = 0;
  std::uint64_t transitions = 0;
  std::string violation;  // empty: none
};

// Plays one schedule: processes, operations, faults and memory as `settings.seed` says.
Outcome PlayVolatile(const Settings& settings);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_WORKLOAD_H_
