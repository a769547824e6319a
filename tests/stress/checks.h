// The rules that a history must keep, by guarantee. Each check looks at the history alone.
#ifndef EPOCH_TESTS_STRESS_CHECKS_H_
#define EPOCH_TESTS_STRESS_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "stress/history.h"

namespace epoch::stress {

struct Violation {
  std::string rule;  // "G1", ...
  std::string what;
  std::vector<Place> places;
};

using Violations = std::vector<Violation>;

// G1: no process sees an epoch go back; an operation that begins after another has ended sees no
// older head, and commits behind it. Across a restore the same is G7.
Violations CheckOrder(const History& history);
// G2: one content per epoch. G4: no content under two epochs.
Violations CheckAgreement(const History& history);
// G3: what is seen is what somebody drafted, whole, and stays so while it is held.
Violations CheckSnapshots(const History& history);
// G4: a commit with `expected` is the direct successor; updates form a chain; what was refused or
// dropped is never seen.
Violations CheckSuccession(const History& history);
// G7: a restored region is at no lower epoch than anything that was visible before.
Violations CheckDurability(const History& history);
// G8: every operation of a process that was not killed has ended, with a code that it may end with.
Violations CheckProgress(const History& history);
// G9: who was expelled changes nothing any more, and is told.
Violations CheckExpulsions(const History& history);
// G10: nothing is left in a region in which nobody is.
Violations CheckAudits(const History& history);
// Convergence was reported when nobody held an earlier pin.
Violations CheckConvergence(const History& history);
// G5: what was voted on and is there was accepted, as it was drafted, by every voter that was in
// all the while; whoever is said to have rejected did so. G9: and was not expelled before.
Violations CheckVotes(const History& history);
// G6: who sees a fenced epoch sees it when nobody that is in holds a pin on an earlier one.
Violations CheckFences(const History& history);
// G5 of collective commits: what is there was put together from one contribution of each voter, in
// slot order, of one tag; and all of them were told the same.
Violations CheckCollectives(const History& history);

Violations CheckAll(const History& history);

struct Figures {
  std::uint64_t operations = 0;
  std::uint64_t transitions = 0;  // the highest epoch that anybody knew of
  std::uint64_t voted = 0;        // of those whose content somebody knew of
  std::int64_t longest_ns = 0;    // of an operation, without the time its own process was stopped
  Place longest{};
};
Figures FiguresOf(const History& history);

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_CHECKS_H_
