// One rank's attempt at a step: the shards in its folder, made ready one by one, and their commit
// by all ranks.
//
// Thread safety: external. Progress: Ready waits for the disk; Commit for the other ranks and the
// disk, as long as it is told.
// Invariants: what is committed is what was ready, with nothing else in the folder (CheckFolder). A
// sync that failed ends the step: another one that succeeds would prove nothing.
//
// What a death leaves, step by step: docs/checkpoints.md.
#ifndef EPOCH_CORE_CHECKPOINT_STEP_H_
#define EPOCH_CORE_CHECKPOINT_STEP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/rank.h"
#include "core/checkpoint/shard.h"
#include "epoch/checkpoint.h"

namespace epoch::checkpoint {

class StepState {
 public:
  static absl::StatusOr<std::unique_ptr<StepState>> Begin(std::shared_ptr<RankState> rank,
                                                          const FolderName& folder);

  absl::Status Ready(std::string_view name);
  absl::Status ReadyAll();
  void set_metadata(std::string metadata) { metadata_ = std::move(metadata); }
  absl::StatusOr<Epoch> Commit(const WaitOptions& wait);

  std::uint64_t step() const { return folder_.step; }
  const std::string& directory() const { return directory_; }

 private:
  StepState() = default;
  // Nothing was changed since it was ready, and nothing else is in the folder.
  absl::Status CheckFolder() const;
  // What this rank contributes. Where its shards do not fit, their list is made durable first.
  absl::StatusOr<Part> PartOf(const WaitOptions& wait);
  // Hands on what came of a sync. One that failed with an error of the device's ends the step: what
  // it was to make durable may be lost, though another sync succeeds.
  absl::Status Synced(absl::Status status);
  absl::Status PartOrOver() const;  // why nothing more can be made ready, or committed

  std::shared_ptr<RankState> rank_;
  FolderName folder_;
  FolderLock lock_;  // while this lives, nobody removes the folder
  detail::Fd opened_;
  std::string directory_;  // this rank's own, within the attempt's
  struct Entry {
    std::uint64_t order;  // in which it became ready
    ReadyShard ready;
  };
  std::map<std::string, Entry> ready_;
  std::uint64_t next_order_ = 0;
  std::string metadata_;
  std::optional<Epoch> committed_;
  FailedSyncs failed_;  // files of this step
  absl::Status over_;   // not OK: a folder could not be made durable
};

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_STEP_H_
