// Signals as events: blocked, and waited for with a deadline, so that nothing is missed between two
// looks and no handler runs in the middle of anything.
#ifndef EPOCH_TESTS_STRESS_SIGNALS_H_
#define EPOCH_TESTS_STRESS_SIGNALS_H_

#include <cstdint>

namespace epoch::stress {

// SIGCHLD, SIGINT, SIGTERM and SIGHUP, in this process and, until it unblocks them, in its
// children.
void BlockSignals();
void UnblockSignals();
// All but SIGTERM, which might find a child that has not set its handler yet.
void UnblockSignalsButTerm();

// Until a child changes its state or `until_ns` (CLOCK_MONOTONIC). False from the first SIGINT,
// SIGTERM or SIGHUP on.
bool AwaitSignal(std::int64_t until_ns);
// That signal, or 0.
int Interruption();

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_SIGNALS_H_
