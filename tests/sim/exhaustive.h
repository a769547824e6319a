// Small cases, each with all its schedules up to a number of preemptions, stale loads and crashes;
// and a few that show whether the simulator tells a run that gets no further from a slow one.
#ifndef EPOCH_TESTS_SIM_EXHAUSTIVE_H_
#define EPOCH_TESTS_SIM_EXHAUSTIVE_H_

#include "tests/sim/campaign.h"

namespace epoch::sim {

// Each case gets an equal share of what is left of `seconds`, and says whether it was played to its
// end. `schedules`: at most so many of each; 0: all.
Totals PlayAllSmallCases(double seconds, std::uint64_t schedules);

Totals CheckItself();

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_EXHAUSTIVE_H_
