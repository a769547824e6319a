// Small cases, each with all its schedules up to a number of preemptions, stale loads and crashes.
#ifndef EPOCH_TESTS_SIM_EXHAUSTIVE_H_
#define EPOCH_TESTS_SIM_EXHAUSTIVE_H_

#include "tests/sim/campaign.h"

namespace epoch::sim {

// Each case gets an equal share of what is left of `seconds`, and says whether it was played to its
// end.
Totals PlayAllSmallCases(double seconds);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_EXHAUSTIVE_H_
