// Which older segments may go.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_RETENTION_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_RETENTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/journal/format/format.h"
#include "epoch/detail/memory/layout.h"

namespace epoch::journal {

// What is to be kept besides the newest segment. A segment stays that either rule keeps; a rule of
// 0 keeps none; two of 0 keep all.
struct Retention {
  std::uint64_t segments = 0;  // so many before the newest: a bound on the space
  std::uint64_t epochs = 0;    // those that hold one of the last so many epochs, as of the newest
                               // one's beginning

  static Retention Of(const detail::Superblock& super) {
    return {super.retain_segments, super.retain_epochs};
  }
};

// The names of that journal's segments that need not be kept, the oldest first, in which order they
// have to be removed: what stays hangs together then. They are looked for, and to be removed, in
// the directory that is open as `at`, and was found as `directory`. `newest` is one whose directory
// entry is durable, and begins at `base_epoch`; that it is in this directory is the caller's to
// make sure of. With a rule on epochs, reads the headers of those that go, and of one more.
std::vector<std::string> RetiredSegments(int at, const std::string& directory, const Id& journal,
                                         std::uint64_t newest, Epoch base_epoch,
                                         const Retention& kept);
// Removes the segments behind `from` and before `newest`, which takes over from `from`: nothing was
// written to them. `newest` has its name durably.
void SweepIdle(int at, const std::string& directory, const Id& journal, std::uint64_t from,
               std::uint64_t newest);
// Removes those that are retired.
void SweepSegments(int at, const std::string& directory, const Id& journal, std::uint64_t newest,
                   Epoch base_epoch, const Retention& kept);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_RETENTION_H_
