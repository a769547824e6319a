// Looks for damage in a region that may be in use: everything that must hold of its bytes at any
// moment, judged so that a change under the reader's eyes is never taken for damage.
//
// Thread safety: all functions. Progress: wait-free; reads every state that is held, and of a
// durable region the segments that its newest batches are in, so O(bytes).
#ifndef EPOCH_CORE_INSPECT_REGION_CHECK_H_
#define EPOCH_CORE_INSPECT_REGION_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/inspect/finding.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::inspect {

// What could be looked at, and what was found.
struct CheckReport {
  std::vector<Finding> findings;
  std::uint64_t states = 0;  // states whose digest was computed
  std::uint64_t bytes = 0;   // their bytes

  bool damaged() const;
};

// Opens the region read-only and checks it. A damaged superblock is a finding; what keeps it from
// being looked at at all is an error: NotFound, PermissionDenied, Unimplemented (another layout),
// InvalidArgument (not a file), FailedPrecondition (earlier boot, network filesystem).
absl::StatusOr<CheckReport> CheckRegion(const std::string& path);

}  // namespace epoch::inspect

#endif  // EPOCH_CORE_INSPECT_REGION_CHECK_H_
