// The parts of making a plan from a seed.
#ifndef EPOCH_TESTS_SIM_MAKE_PLAN_H_
#define EPOCH_TESTS_SIM_MAKE_PLAN_H_

#include "tests/sim/plan.h"

namespace epoch::sim {

// Deaths, stops, a fork, failing disks, power losses: of what kind the plan is, so many and where.
void AddFaults(Plan& plan, Random& random);

// Checkpoints.
void CheckpointFolders(Plan& plan, Random& random);

// Plans in which others have to agree.
void VotesAndFences(Plan& plan, Random& random);

// A journal whose directory goes, and may come back.
void JournalVanishes(Plan& plan, Random& random);

// The plan of a mode that is about one subject. False: it is none of these.
bool MakeSpecial(Plan& plan, Mode mode, Random& random);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_MAKE_PLAN_H_
