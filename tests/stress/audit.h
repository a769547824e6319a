// G10: what is left of a region in which nobody lives.
#ifndef EPOCH_TESTS_STRESS_AUDIT_H_
#define EPOCH_TESTS_STRESS_AUDIT_H_

#include "stress/log.h"
#include "stress/spec.h"

namespace epoch::stress {

// Reaps the dead and reclaims, then logs every slot and cell that is still in use although nobody
// can be using it. `quiet`: nothing may be accepted and not visible, and the journal may have no
// more files than it is to keep.
void Audit(const Spec& spec, bool quiet, LogWriter& log);

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_AUDIT_H_
