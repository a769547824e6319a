// What the next segment begins with.
#ifndef EPOCH_CORE_JOURNAL_ROLL_H_
#define EPOCH_CORE_JOURNAL_ROLL_H_

#include <cstddef>
#include <vector>

#include "core/journal/format.h"
#include "core/journal/ring.h"
#include "epoch/detail/layout.h"

namespace epoch::journal {

// The header and the base state of the segment behind the one in which `last` ends. Read from
// shared memory, so to be checked afterwards: the batch that comes next must still be Frozen, and
// the base match its digest.
SegmentHeader NextSegment(const detail::RegionView& view, const detail::Superblock& super,
                          const BatchW& last, const BatchE& end, std::vector<std::byte>& base);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_ROLL_H_
