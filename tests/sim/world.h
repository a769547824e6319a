// One run: processes that work on a region, on a simulated machine, watched by the checker.
#ifndef EPOCH_TESTS_SIM_WORLD_H_
#define EPOCH_TESTS_SIM_WORLD_H_

#include <cstdint>
#include <string>

#include "tests/sim/plan.h"

namespace epoch::sim {

struct Outcome {
  std::uint64_t steps = 0;
  std::uint64_t transitions = 0;
  std::string violation;  // empty: none
};

Outcome Play(const Plan& plan);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_WORLD_H_
