// The region that the ranks of a directory share: how large it is, what they are called in it, and
// who removes it.
//
// Thread safety: any number of processes.
// Progress: never waits for a rank; OpenRegion for the journal, as `restore_timeout` allows.
// Invariants: a region is removed only by a process that holds the locks of all its slots, and that
// has seen with them that nothing is accepted and not durable (RemoveIfNobodyIsIn).
#ifndef EPOCH_CORE_CHECKPOINT_RANK_REGION_H_
#define EPOCH_CORE_CHECKPOINT_RANK_REGION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/folder.h"
#include "epoch/checkpoint.h"
#include "epoch/epoch.h"

namespace epoch::checkpoint {

RegionOptions GeometryFor(const Folders& folders, const CheckpointOptions& options);
// What stands under the name `name`, or is made there; restored, if its journal has failed.
absl::StatusOr<Region> OpenRegion(const std::string& name, const RegionOptions& options);
// FailedPrecondition: it is not that of these folders, or was made for fewer ranks.
absl::Status CheckRegion(const Region& region, const Folders& folders,
                         const CheckpointOptions& options);

// What a rank is called in the region. Its world is part of it: the others have to be told of
// another one before that rank has contributed anything.
std::string RankName(std::uint32_t rank, std::uint32_t world);
struct RankIdentity {
  std::uint32_t rank = 0;
  std::uint32_t world = 0;  // 0: it does not say
};
std::optional<RankIdentity> ParseRankName(std::string_view name);

// A living process may have this rank: expelled, or an error that names it.
absl::Status FreeRank(const Region& region, const CheckpointOptions& options);

// Whether a slot that nobody has is locked all the same: by one who is about to take it, or by the
// last one out, who is about to remove the region.
bool FreeSlotIsLocked(const Region& region);

// Removes a region that nobody is in. Proof of that are the locks on all slots, held here: whoever
// joins takes one of them first, and whoever is in holds one. A joiner that has opened the file
// before finds after its join that it has lost its name (Join), and opens it anew. What has to be
// made again from the journal waits for this process to let go of it; so the name cannot stand for
// a successor yet. A death in between leaves the region, or no region, and no lock.
void RemoveIfNobodyIsIn(const Region& region);

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_RANK_REGION_H_
