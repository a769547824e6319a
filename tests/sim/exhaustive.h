// Small cases, each with all its schedules up to a number of preemptions, stale loads and crashes.
#ifndef EPOCH_TESTS_SIM_EXHAUSTIVE_H_
#define EPOCH_TESTS_SIM_EXHAUSTIVE_H_

#include "tests/sim/campaign.h"

namespace epoch::sim {

// Of each case at most so many schedules; says whether those were all.
Totals PlayAllSmallCases(std::uint64_t schedules);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_EXHAUSTIVE_H_
