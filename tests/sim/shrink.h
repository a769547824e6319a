// Finds the operations, faults and participants that a failure does not need.
#ifndef EPOCH_TESTS_SIM_SHRINK_H_
#define EPOCH_TESTS_SIM_SHRINK_H_

#include <cstdint>
#include <string>

#include "tests/sim/plan.h"

namespace epoch::sim {

// A smaller plan that still breaks the same guarantee, if one is found. To leave a part out changes
// the schedule, so each smaller plan is played with several, up to `schedules` of them.
Reduction Shrink(const Reduction& failing, const std::string& violation, int schedules = 400);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_SHRINK_H_
