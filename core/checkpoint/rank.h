// A rank's side: meeting the others, and the collective commit. An attempt's folder: step.h.
//
// Session. Each collective commit that this process took part in is an agreement of all ranks, and
// its epoch a number that only they know. It names their next attempt: so the usual checkpoint
// costs one collective commit. Once an attempt ends in anything else than a checkpoint the session
// is over, and the ranks meet again, by a collective commit that carries no shards. A rank that was
// restarted knows no session; its meeting has another tag than the others' commits, so both are
// told.
//
// What a death leaves, step by step: docs/checkpoints.md.
#ifndef EPOCH_CORE_CHECKPOINT_RANK_H_
#define EPOCH_CORE_CHECKPOINT_RANK_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/format.h"
#include "epoch/checkpoint.h"
#include "epoch/epoch.h"

namespace epoch::checkpoint {

class RankState {
 public:
  static absl::StatusOr<std::shared_ptr<RankState>> Join(const std::string& directory,
                                                         const CheckpointOptions& options);

  // The epoch that names the next attempt at `step`: the session's, or that of a new meeting.
  absl::StatusOr<Epoch> Agree(std::uint64_t step, const WaitOptions& wait);
  // The collective commit of `part`, by all ranks of the session `part.attempt`. On success the
  // session goes on from its epoch.
  absl::StatusOr<Epoch> Commit(const Part& part, const WaitOptions& wait);

  // OK: no manifest names this attempt, and none will that was contributed to so far; what is
  // accepted is waited for. DataLoss: one does, or the journal is damaged. Any other error: it
  // cannot be told.
  absl::Status CheckNotCommitted(const FolderName& attempt, const WaitOptions& wait);

  const Folders& folders() const { return folders_; }
  const CheckpointOptions& options() const { return options_; }
  const std::string& region_path() const { return region_.path(); }

  // Leaves; the last one out removes a region that goes by the directory's name.
  ~RankState();
  RankState(const RankState&) = delete;
  RankState& operator=(const RankState&) = delete;

 private:
  RankState(Folders folders, CheckpointOptions options, Region region, Participant self)
      : folders_(std::move(folders)),
        options_(std::move(options)),
        region_(std::move(region)),
        self_(std::move(self)) {}

  // The state word of each slot, by its number: who was in.
  std::vector<std::uint64_t> SlotWords() const;
  // A collective commit's error, with what the ranks that are in, or came since `before`, say of
  // themselves: FailedPrecondition if one has another world; who is missing, if somebody is.
  absl::Status Explained(const Part& part, const absl::Status& status,
                         const std::vector<std::uint64_t>& before) const;

  absl::StatusOr<Epoch> Meet(std::uint64_t step, const WaitOptions& wait);
  absl::Status EnsureJoined();
  // Until an epoch that others have made is visible.
  absl::Status AwaitOthers(Epoch epoch, const WaitOptions& wait);
  absl::StatusOr<Epoch> Collect(const Part& part, const WaitOptions& wait);
  // The committed epoch, if its state is of this world, attempt and step and carries this part.
  absl::StatusOr<Epoch> FindCommitted(const Part& part);

  Folders folders_;
  CheckpointOptions options_;
  Region region_;
  std::optional<Participant> self_;  // as long as this lives
  std::optional<Epoch> session_;
};

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_RANK_H_
