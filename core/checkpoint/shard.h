// A shard as a file: made durable, its digest taken, and compared with what a manifest says.
//
// Nothing of a shard is trusted to be a file: each part of its path is opened without following
// links and without waiting for a FIFO's writer.
#ifndef EPOCH_CORE_CHECKPOINT_SHARD_H_
#define EPOCH_CORE_CHECKPOINT_SHARD_H_

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/checkpoint.h"
#include "epoch/detail/platform/files.h"

namespace epoch::checkpoint {

// What tells that a file is the same, and unchanged, as far as the filesystem knows.
struct Fingerprint {
  dev_t device = 0;
  ino_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};
Fingerprint FingerprintOf(const struct stat& info);

// A directory, not through a link. InvalidArgument if it is something else.
absl::StatusOr<detail::Fd> OpenFolder(int at, const std::string& name, const std::string& path);
// The folder that a file lies in, by a name as CheckShardName allows; `path`: of the file.
absl::StatusOr<detail::Fd> OpenFolderOf(int folder, std::string_view name, const std::string& path);
// A regular file for reading, by such a name; `path` is for messages.
absl::StatusOr<detail::Fd> OpenShard(int folder, const std::string& name, const std::string& path,
                                     struct stat& info);

struct Measured {
  std::uint64_t bytes = 0;
  ShardDigest digest{};
};
// XXH3-128 of the whole file, in large reads. Internal: a read error.
absl::StatusOr<Measured> Measure(int fd, const std::string& path);

struct ReadyShard {
  Shard shard;
  Fingerprint fingerprint;
};
// Files of which a sync failed with an error of the device's, by device and number. Each is kept
// open: as long as it is, no other file has its number.
using FailedSyncs = std::map<std::pair<dev_t, ino_t>, detail::Fd>;
// Takes the digest while another thread syncs the file. Only when both are done is it ready.
// FailedPrecondition if the file changed meanwhile; Internal if the sync or a read failed;
// PermissionDenied if it is another user's, or such users may write it as `mode` does not let
// (permission bits; the default lets all). `failed`: such files are refused (Internal), and one
// that becomes one is added.
absl::StatusOr<ReadyShard> MakeReady(int folder, const std::string& name, const std::string& path,
                                     unsigned mode = 0777, FailedSyncs* failed = nullptr);
// Syncs an open folder. Internal, with its errno: an error of the device's, after which another
// sync proves nothing.
absl::Status SyncFolder(int fd, const std::string& path);
// Syncs the folders between `folder`, which is not, and the file `name`.
absl::Status SyncFoldersTo(int folder, std::string_view name, const std::string& path);

// The names of all files in an open folder and the folders in it, as from there, sorted.
// FailedPrecondition: an empty folder. InvalidArgument: no file (a link, a FIFO), too deep, or a
// name that no shard may have. ResourceExhausted: more than kMaxFiles.
absl::StatusOr<std::vector<std::string>> FilesIn(int folder, const std::string& path);

// Reports the path of whatever is in an open folder and is none of the files `known`, nor a folder
// on the way to one. Sorted names, as from there.
absl::Status FindUnknown(int folder, const std::string& path, std::vector<std::string_view> known,
                         const std::function<void(const std::string&)>& report);

// Makes a rank's list durable, in the attempt's folder. One that is there and says the same is only
// synced. One that says something else is replaced by renaming, if `may_replace` is OK; else it is
// not touched, and that error is returned. The order of `shards` does not matter.
absl::StatusOr<ShardList> WriteList(const std::string& directory, std::uint32_t rank, unsigned mode,
                                    std::vector<Shard> shards,
                                    const std::function<absl::Status()>& may_replace);

// Fills in the shards that stand in lists; the lists are verified. What is wrong with one is in
// `problems`, and its shards are missing then.
void LoadLists(Checkpoint& checkpoint, std::vector<absl::Status>& problems);

// What is wrong with a checkpoint's folder: shards that are missing, truncated, altered; files that
// the manifest does not name. All of it, or (with `first_only`) the first that is found. `loaded`
// gets the checkpoint with all of its shards, if the lists are sound.
std::vector<absl::Status> FindProblems(const Checkpoint& checkpoint, bool first_only,
                                       Checkpoint* loaded = nullptr);

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_SHARD_H_
