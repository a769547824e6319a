// Whether the simulator notices when an order is taken away.
#ifndef EPOCH_TESTS_SIM_WEAKEN_H_
#define EPOCH_TESTS_SIM_WEAKEN_H_

#include <string>

#include "tests/sim/campaign.h"

namespace epoch::sim {

// Prints all sites.
void ListSites();

// From here on the site of that name is played as relaxed. False: there is none.
bool Weaken(const std::string& name);

// Weakens the sites that `what` stands for (a letter, the name of one, or "all"), one after the
// other, and plays each until something breaks or the budget is spent: the known seed first.
// Returns an exit code: 0 if something broke each time.
int PlayWeakened(const std::string& what, const Budget& budget);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_WEAKEN_H_
