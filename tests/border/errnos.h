// What Linux may answer to the calls that Epoch's programs make: the manual's errors, and those of
// a seccomp filter (EPERM, ENOSYS) where one is known to refuse the call.
#ifndef EPOCH_TESTS_BORDER_ERRNOS_H_
#define EPOCH_TESTS_BORDER_ERRNOS_H_

#include <string>
#include <vector>

namespace epoch::test {

// What a ring says of an entry that it was given is no call, and has rows of its own. The
// supervisor does not see it: a labelled point of the journal tells (completions.h).
inline constexpr int kRingWrite = 100'001;
inline constexpr int kRingSync = 100'002;
inline constexpr int kRingUnlink = 100'003;
inline bool IsCompletion(int call) { return call >= kRingWrite && call <= kRingUnlink; }
// No errno: a part was written.
inline constexpr int kShortResult = 4'096;

struct CallRow {
  int number;
  std::string name;
  std::vector<int> errors;  // empty: it cannot fail, but for a wrong argument
};

const std::vector<CallRow>& CallTable();
// Null: the table has no row for it.
const CallRow* RowOf(int call);
const CallRow* RowOf(const std::string& name);
// "EACCES"; and back: 0 if it is none of the table's.
std::string ErrnoName(int error);
int ErrnoOf(const std::string& name);

// A write or a sync of a device that answers so has lost data, or may have.
bool IsDeviceFailure(int call, int error);
// The kernel does not answer so for ever: who is interrupted tries again.
bool IsPassing(int error);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_ERRNOS_H_
