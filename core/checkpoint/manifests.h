// Manifests, read from their journal: no region, no lock, no participant.
//
// Thread safety: all functions. A journal that is written meanwhile may look damaged for a moment
// (a batch is seen whose predecessor was looked for too early); so damage is only believed if a
// second look shows the same.
#ifndef EPOCH_CORE_CHECKPOINT_MANIFESTS_H_
#define EPOCH_CORE_CHECKPOINT_MANIFESTS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/folder.h"
#include "epoch/checkpoint.h"

namespace epoch::checkpoint {

struct Manifests {
  std::vector<Checkpoint> checkpoints;  // oldest first; `pruned` is not filled in
  std::vector<std::string> damage;
};

// All of them. NotFound: nothing was ever committed here. DataLoss: nothing can be read.
absl::StatusOr<Manifests> ReadManifests(const Folders& folders);

// The newest one that `accept` accepts. Reads from the newest segment back, and stops there: what
// is older is not looked at. DataLoss if anything that may be newer is damaged.
absl::StatusOr<Checkpoint> ReadNewest(const Folders& folders,
                                      const std::function<bool(const Checkpoint&)>& accept);

// A manifest's parts as what they are called outside.
Checkpoint ToCheckpoint(const Folders& folders, Epoch epoch, const std::vector<Part>& parts);

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_MANIFESTS_H_
