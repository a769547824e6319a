// What must hold of a durable region's batch ring at any moment, and of the journal beside it: the
// ring says where each batch ends, and there the journal has one.
//
// Judged so that a change under the reader's eyes is never taken for damage: of a live region what
// is under way is left alone, and all that the ring calls written is looked for.
//
// Thread safety: all functions. Progress: wait-free; takes no lock, and reads the segments that the
// ring's batches are in, one at a time.
#ifndef EPOCH_CORE_INSPECT_RING_CHECK_H_
#define EPOCH_CORE_INSPECT_RING_CHECK_H_

#include <vector>

#include "core/inspect/finding.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::inspect {

// Adds what it finds. A journal that this process may not read is a note.
void CheckDurability(const detail::Mapping& mapping, std::vector<Finding>& findings);

}  // namespace epoch::inspect

#endif  // EPOCH_CORE_INSPECT_RING_CHECK_H_
