// Checkpoints: N ranks write a shard each (or several), and one collective commit makes all of them
// the latest checkpoint, or none. Compiled: link epoch::journal. docs/checkpoints.md tells the
// story.
//
//   auto rank = epoch::CheckpointRank::Join(dir, {.rank = 3, .world = 8});   // in each rank
//   auto step = rank->Begin(1200);
//   WriteAnyWay(step->PathOf("model.bin"));
//   step->Ready("model.bin");                  // synced, its digest taken; or ReadyAll()
//   step->Commit();                            // all eight, or none
//
//   auto latest = epoch::Checkpoints(dir).OpenLatest();   // in each rank, after a restart
//   Load(latest->PathOf(3, "model.bin"));                 // every digest was verified
//
// Thread safety: a CheckpointRank and its steps are used by one thread at a time. Checkpoints: all
// functions.
// Progress: Begin and Commit wait for the other ranks, at most as long as they are told; a rank
// that dies ends the wait. Reading waits for nobody, takes no part, and needs no region.
//
// Invariants
//   1. What counts is the manifest, and a manifest is what a collective commit made durable. Files
//      alone never make a checkpoint; no rename does.
//   2. All shards of a manifest are of one attempt: an attempt is begun by all ranks together, has
//      a folder that no other attempt ever has, and ends with the first of its ranks.
//   3. A manifest is committed only after its shards, and the names that lead to them, were synced.
//   4. A folder is removed only after a mark that says so is durable. So a folder that is missing
//      without a mark is damage, and reported.
#ifndef EPOCH_CHECKPOINT_H_
#define EPOCH_CHECKPOINT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "epoch/options.h"

namespace epoch {

// XXH3-128 in its canonical byte order: as hexadecimal digits it is what `xxhsum -H2` prints.
using ShardDigest = std::array<std::uint8_t, 16>;
std::string HexOf(const ShardDigest& digest);

struct Shard {
  std::uint32_t rank = 0;
  std::string name;
  std::uint64_t bytes = 0;
  ShardDigest digest{};

  friend bool operator==(const Shard&, const Shard&) = default;
};

// The shards of a rank that are too many for the manifest, or are called by other names than it
// holds: they stand in a file beside the rank's folder, of which the manifest has the digest.
struct ShardList {
  std::uint32_t rank = 0;
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;       // of all these files
  std::uint64_t list_bytes = 0;  // of the list itself
  ShardDigest digest{};          // of the list itself

  friend bool operator==(const ShardList&, const ShardList&) = default;
};

// What one manifest says. The manifest is verified, the shards are not: Checkpoints::Open does
// that.
struct Checkpoint {
  std::uint64_t step = 0;
  Epoch epoch = 0;    // of the manifest: orders checkpoints by when they were committed
  Epoch attempt = 0;  // with the step, the folder's name
  std::uint32_t world = 0;
  std::string directory;         // absolute
  std::vector<Shard> shards;     // by rank, and in the order in which they became ready
  std::vector<ShardList> lists;  // by rank; of these ranks `shards` has none until it is opened
  std::vector<std::string> metadata;  // by rank
  bool pruned = false;                // removed on purpose; its shards are gone

  std::uint64_t files() const;  // how many shards, with those in lists
  std::uint64_t bytes() const;  // of all shards
  std::string PathOf(const Shard& shard) const;
  std::string DirectoryOf(std::uint32_t rank) const;  // where that rank's shards are
};

// A folder that no manifest names.
struct Staging {
  std::uint64_t step = 0;
  Epoch attempt = 0;
  std::string directory;
  bool live = false;  // a rank that works in it lives
};

struct CheckpointList {
  std::vector<Checkpoint> checkpoints;  // oldest first
  std::vector<Staging> stagings;
  std::vector<std::string> damage;  // of the manifests' journal; empty: all of it is sound
};

// A verified checkpoint. While it, or a copy, lives, Prune leaves the shards alone.
class OpenCheckpoint {
 public:
  const Checkpoint& info() const { return info_; }  // with all its shards
  // Empty if the checkpoint has no such shard.
  std::string PathOf(std::uint32_t rank, std::string_view name) const;

 private:
  friend class Checkpoints;
  OpenCheckpoint(Checkpoint info, std::shared_ptr<void> hold);

  Checkpoint info_;
  std::vector<std::size_t> by_name_;  // places in info_.shards, by rank and name
  std::shared_ptr<void> hold_;
};

// The newest checkpoint of which every byte was verified, and what it was newer ones that were
// passed over for.
struct NewestGood {
  OpenCheckpoint checkpoint;
  std::vector<Checkpoint> damaged;    // newest first
  std::vector<std::string> problems;  // what is wrong with these, and with the manifests' journal
};

struct PruneOptions {
  std::uint32_t keep = 1;       // so many good ones stay, at least one; each is verified first
  bool remove_damaged = false;  // those found damaged on the way, too
  bool dry_run = false;         // only say what would be done
};

struct PruneResult {
  std::vector<Checkpoint> kept;     // newest first, verified
  std::vector<Checkpoint> removed;  // newest first
  std::vector<Checkpoint> in_use;   // left alone: opened by a reader, or by their ranks
  std::vector<Checkpoint> damaged;  // what is wrong with them is in `problems`
  std::vector<std::string> problems;
  std::vector<std::string> cleaned;  // abandoned stagings that were removed
};

// A directory of checkpoints, read. Also after a reboot, and from a read-only filesystem.
class Checkpoints {
 public:
  explicit Checkpoints(std::string directory) : directory_(std::move(directory)) {}

  // All that the manifests tell, and what lies about. Goes on past damage and lists it. Errors:
  // NotFound (no such directory; no checkpoints in it), DataLoss (nothing can be read).
  absl::StatusOr<CheckpointList> List() const;

  // The newest checkpoint that was not pruned. NotFound: there is none. DataLoss: a part of the
  // journal is damaged that may have held a newer one.
  absl::StatusOr<Checkpoint> Latest() const;
  // The newest one of that step that was not pruned, among all that can be read. Errors: as List.
  absl::StatusOr<Checkpoint> Find(std::uint64_t step) const;

  // Verifies every shard's size and digest, and that there is nothing else. DataLoss names the
  // first problem: a shard that is missing, truncated, altered, of another checkpoint; a file that
  // no manifest names. NotFound: pruned. Reads all shards, on as many threads as there are
  // processors, at most one a shard.
  absl::StatusOr<OpenCheckpoint> Open(const Checkpoint& checkpoint) const;
  absl::StatusOr<OpenCheckpoint> OpenLatest() const;
  // Goes from the newest checkpoint back to the first that is good. Reads the manifests once, and
  // of each damaged checkpoint as much as it takes to find that out. What was passed over is in the
  // result; whoever does not want to lose it looks there. Errors: DataLoss (none is good; the first
  // problem is named), NotFound (there is none), and what says nothing of the bytes, as a missing
  // permission or memory, for which nothing is passed over.
  absl::StatusOr<NewestGood> OpenNewestGood() const;
  // As Open, but finds all problems. Empty: it is good.
  std::vector<absl::Status> Verify(const Checkpoint& checkpoint) const;
  // All shards of a checkpoint, with those in lists; the lists are verified, the shards are not.
  // DataLoss: a list is missing or damaged.
  absl::StatusOr<std::vector<Shard>> ShardsOf(const Checkpoint& checkpoint) const;

  // Removes checkpoints that are older than the newest `keep` good ones; if there are fewer good
  // ones, none. Then cleans up. Errors: InvalidArgument (keep is 0), DataLoss (no good one, or the
  // journal is damaged; nothing was removed), FailedPrecondition (another prune is at work).
  absl::StatusOr<PruneResult> Prune(const PruneOptions& options = {}) const;

  // Removes stagings whose ranks are all gone. Returns their folders. Errors: as List, and
  // FailedPrecondition (a prune is at work).
  absl::StatusOr<std::vector<std::string>> CleanUp() const;

 private:
  std::string directory_;
};

struct CheckpointOptions {
  std::uint32_t rank = 0;   // 0 to world - 1
  std::uint32_t world = 1;  // how many ranks make a checkpoint
  unsigned mode = 0600;  // permission bits of what is created; folders get search permission, too
  // Name or path of the region that the ranks meet in; empty: a name made from the directory's
  // identity, and the last rank that leaves removes it. It holds nothing that the journal does not.
  std::string region{};
  // Expel a living process that has this rank already (a stopped one, say). Without this it is an
  // error that names it.
  bool take_over = false;
  // How long to wait for processes that still hold the journal, should it have to be restored from;
  // and what ends that wait sooner (Cancelled).
  absl::Duration restore_timeout = absl::Seconds(10);
  Interrupted interrupted{};
};

// How long Begin and Commit wait for the other ranks unless told otherwise.
inline constexpr absl::Duration kRankTimeout = absl::Minutes(10);

namespace checkpoint {
class RankState;
class StepState;
}  // namespace checkpoint

// One rank's attempt at one step. Move-only: of one that was moved from, calls are
// FailedPrecondition, and step, directory and paths 0 and empty. Dropped without a commit, it is
// abandoned: its files are removed by a later clean-up.
class CheckpointStep {
 public:
  CheckpointStep(CheckpointStep&&) noexcept;
  CheckpointStep& operator=(CheckpointStep&&) noexcept;
  ~CheckpointStep();

  std::uint64_t step() const;
  // This rank's own folder. What is written there is nobody's business until Commit.
  const std::string& directory() const;
  std::string PathOf(std::string_view name) const;

  // The shard `name` in directory() is complete: syncs it and the folders on the way to it, and
  // takes its digest, at the same time. Names: letters, digits and . _ - = + , @ % :, in folders if
  // need be ("sub/dir/file"), each part at most 100 bytes and not "." or "..", all of it at most
  // 1023 bytes and 16 deep. Calling it again after the file was written again replaces the shard.
  // Errors: InvalidArgument (name, no regular file, a link on the way), PermissionDenied (the file,
  // or a folder on the way, belongs to another user, or others than CheckpointOptions::mode says
  // may write it), NotFound, FailedPrecondition (the file changed meanwhile), Internal (the sync or
  // a read failed: write the shard to a new file).
  absl::Status Ready(std::string_view name);
  // Ready for each file in directory() and the folders in it, which is how most writers leave a
  // checkpoint: a folder of files. Errors: as Ready; FailedPrecondition (an empty folder, which no
  // list of files can name); ResourceExhausted (more than 100,000 files).
  absl::Status ReadyAll();

  // Words of the application, kept in the manifest: at most 190 bytes; more is a shard.
  void SetMetadata(std::string metadata);

  // Makes the checkpoint, if all ranks do so for this attempt. Returns the manifest's epoch.
  // Errors: Aborted (a rank died, left, or is in another attempt: begin again), DeadlineExceeded
  // (names the ranks that are missing; nothing is committed; may be called again),
  // FailedPrecondition (no shard is ready, one was changed since, a file is there that is not
  // ready; expelled; a rank of another world came: named), OutOfRange (the metadata is too long),
  // ResourceExhausted (no space for the list of the shards), DataLoss, Unavailable (the journal
  // failed: whether this became a checkpoint is known when it is open again), Cancelled
  // (`interrupted` said so; nothing is committed, for all ranks, or the manifest is accepted and
  // pending: Details() says which). Syncing and digesting shards cannot be interrupted.
  absl::StatusOr<Epoch> Commit(absl::Duration timeout = kRankTimeout) {
    return Commit(WaitOptions{.timeout = timeout});
  }
  absl::StatusOr<Epoch> Commit(const WaitOptions& wait);

 private:
  friend class CheckpointRank;
  explicit CheckpointStep(std::unique_ptr<checkpoint::StepState> state);
  std::unique_ptr<checkpoint::StepState> state_;
};

// One of the ranks that make checkpoints together. Move-only, like its steps.
class CheckpointRank {
 public:
  // Opens the directory, making it if its parent is there, and takes part as that rank. Errors:
  // InvalidArgument (rank, world), AlreadyExists (a living process has that rank: named),
  // FailedPrecondition (network filesystem; the region is another directory's or too small for so
  // many ranks), NotFound, PermissionDenied, DataLoss, and those of Region::OpenOrCreate.
  static absl::StatusOr<CheckpointRank> Join(const std::string& directory,
                                             const CheckpointOptions& options);

  CheckpointRank(CheckpointRank&&) noexcept;
  CheckpointRank& operator=(CheckpointRank&&) noexcept;
  ~CheckpointRank();

  // Begins an attempt at `step`. At first, and after anything went wrong, the ranks meet in here;
  // after a checkpoint that succeeded nobody waits. Errors: Aborted (a rank died or left, or has
  // begun another step), DeadlineExceeded (names the ranks that are missing), FailedPrecondition
  // (expelled, and another process has this rank; two ranks have one number; a living rank has
  // another world, which both are told: "rank-1 has world 3, this rank has 2").
  // Cancelled: `interrupted` said so; the other ranks' meeting ends, too.
  absl::StatusOr<CheckpointStep> Begin(std::uint64_t step, absl::Duration timeout = kRankTimeout) {
    return Begin(step, WaitOptions{.timeout = timeout});
  }
  absl::StatusOr<CheckpointStep> Begin(std::uint64_t step, const WaitOptions& wait);

  // The region's file. To remove it loses nothing, once all ranks are gone. One that was not named
  // in the options goes by itself with the last rank that leaves.
  const std::string& region_path() const;

 private:
  explicit CheckpointRank(std::shared_ptr<checkpoint::RankState> state);
  std::shared_ptr<checkpoint::RankState> state_;
};

}  // namespace epoch

#endif  // EPOCH_CHECKPOINT_H_
