// A shard as a file: made durable, its digest taken, and compared with what a manifest says.
//
// Nothing of a shard is trusted to be a file: each part of its path is opened without following
// links and without waiting for a FIFO's writer.
#ifndef EPOCH_CORE_CHECKPOINT_SHARD_H_
#define EPOCH_CORE_CHECKPOINT_SHARD_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/checkpoint.h"
#include "epoch/detail/files.h"

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
// A regular file for reading; `path` is for messages.
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
// Takes the digest while another thread syncs the file. Only when both are done is it ready.
// FailedPrecondition if the file changed meanwhile; Internal if the sync or a read failed.
absl::StatusOr<ReadyShard> MakeReady(int folder, const std::string& name, const std::string& path);

// What is wrong with a checkpoint's folder: shards that are missing, truncated, altered; files that
// the manifest does not name. All of it, or (with `first_only`) the first that is found.
std::vector<absl::Status> FindProblems(const Checkpoint& checkpoint, bool first_only);

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_SHARD_H_
