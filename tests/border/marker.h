// What a watched process says to its supervisor: a call that nobody else makes so.
#ifndef EPOCH_TESTS_BORDER_MARKER_H_
#define EPOCH_TESTS_BORDER_MARKER_H_

#include <sys/syscall.h>

namespace epoch::test {

inline constexpr int kMarkerCall = SYS_getpriority;
inline constexpr unsigned kMarkerWhich = 0x45504f43;
enum Mark : unsigned { kMarkBegin = 1, kMarkEnd = 2 };

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_MARKER_H_
