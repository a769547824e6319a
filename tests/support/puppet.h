// A child process in a region that does what it is told, one line at a time.
//
//   join [NAME]        "ok SLOT GENERATION"       rejoin, leave, status, poll, park, reap
//   pin / unpin        "ok EPOCH" / "refused"     read: the pinned state, "ok VALUE" if it is whole
//   draft / drop       holds one draft more / drops all drafts and pins
//   commit-draft [E]   commits the last draft, if given only as the successor of E
//   commit E           commits a checked state as the successor of E, without a pin
//   increment          Update by one, "ok EPOCH"
//   await E, converge E
//   work N             N rounds of everything: commits of both kinds, a dropped draft, parking, a
//   pin, a new
//                      join now and then. Rejoins if expelled. "ok" unless a state was torn
//   fork               goes on in a fork child; the process itself waits for the child's end, says
//                      "child ended" and obeys again
//   trap LABEL N SIG   sends itself SIG at the N-th passage of LABEL (EPOCH_TEST_POINTS only)
//   exit
// Other answers: the status in words.
#ifndef EPOCH_TESTS_SUPPORT_PUPPET_H_
#define EPOCH_TESTS_SUPPORT_PUPPET_H_

#include <string>

#include "support/child.h"

namespace epoch::test {

class Puppet : public Child {
 public:
  explicit Puppet(const std::string& region, int namespaces = 0)
      : Child("Puppet", {region}, namespaces) {}
  std::string Do(const std::string& command) {
    Say(command);
    return Hear();
  }
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_PUPPET_H_
