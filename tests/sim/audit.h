// What must hold when all processes are gone: the region is sound, nothing leaks, nothing is left
// undecided, and the journal alone tells the same.
#ifndef EPOCH_TESTS_SIM_AUDIT_H_
#define EPOCH_TESTS_SIM_AUDIT_H_

#include "tests/sim/stage.h"

namespace epoch::sim {

void Audit(Stage& stage);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_AUDIT_H_
