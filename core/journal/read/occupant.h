// Who has the name of a region that is to be restored, and whether it may be taken away.
//
// Thread safety: any. Progress: never waits.
// A death between Evict and the name that the new region gets leaves no region, and a journal from
// which the next restore makes one.
#ifndef EPOCH_CORE_JOURNAL_READ_OCCUPANT_H_
#define EPOCH_CORE_JOURNAL_READ_OCCUPANT_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/journal/format/format.h"

namespace epoch::journal {

// What stands under the region's name: nothing, or a file that may be replaced.
struct Occupant {
  bool there = false;
  dev_t device = 0;
  ino_t inode = 0;
};

// A region that cannot be used any more, and whose journal this is, may be replaced: poisoned, of
// an earlier boot, a copy, or superseded, as its successor's maker may have died before it took its
// name away. `newest` is the newest segment's header. AlreadyExists for anything else.
absl::StatusOr<Occupant> CheckReplaceable(const std::string& region_path,
                                          const SegmentHeader& newest,
                                          std::optional<Epoch> recovered, bool trusted);

// Makes room for the new region: only if the file under its name is still the one that was judged.
// Restorers exclude each other by the journal's lock; somebody else may have put another there.
absl::Status Evict(const std::string& region_path, const Occupant& occupant);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_OCCUPANT_H_
