// What a ring of io_uring says of the entries that it was given is no system call, so no supervisor
// can answer in its place. Labelled points of the journal, where it hands such an entry over, do:
// "uring.write", "uring.sync", "uring.unlink". The ring then does nothing, and says that error.
#ifndef EPOCH_TESTS_BORDER_COMPLETIONS_H_
#define EPOCH_TESTS_BORDER_COMPLETIONS_H_

#include <map>
#include <string>

#include "border/case.h"

namespace epoch::test {

// What the ring does for that operation, and for what comes before it: kRingWrite and so on, and
// how many of each.
std::map<int, int> CompletionsOf(const std::string& parent, const Operation& operation);
// As RunDenied, for such an entry. `outcome.ending.denied` says how many there were.
Outcome RunUncompleted(const std::string& parent, const Operation& operation, const Denial& denial);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_COMPLETIONS_H_
