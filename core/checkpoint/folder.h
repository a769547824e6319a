// The directory of checkpoints: its identity, the folders in it, who uses them, what was removed.
//
// Who uses a folder holds a shared lock on its file `ranks`; who removes it needs that lock
// exclusively, and leaves a durable mark first. All locks are the kernel's: they end with the
// process, and never make anyone wait.
#ifndef EPOCH_CORE_CHECKPOINT_FOLDER_H_
#define EPOCH_CORE_CHECKPOINT_FOLDER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/format.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/files.h"

namespace epoch::checkpoint {

// What is in an open directory, without "." and "..", sorted.
absl::StatusOr<std::vector<std::string>> NamesIn(int directory, const std::string& path);

// Makes a folder, if it is not there. The caller syncs its parent.
absl::Status MakeFolder(const std::string& path, const detail::Access& access);

// The absolute path. NotFound, or InvalidArgument if it is no directory.
absl::StatusOr<std::string> ResolveDirectory(const std::string& directory);

// The directory's identity, made if need be: 32 hexadecimal digits. Of racing makers one wins.
absl::StatusOr<std::string> IdentityOf(const std::string& directory, unsigned mode);

// A lock on a folder, shared by all who use it.
class FolderLock {
 public:
  FolderLock() = default;
  bool held() const { return fd_.ok(); }

 private:
  friend class Folders;
  journal::ForkSafeFd fd_;
};

// Thread safety: all functions.
class Folders {
 public:
  explicit Folders(std::string directory) : directory_(std::move(directory)) {}

  std::string PathOf(const FolderName& folder) const { return directory_ + "/" + NameOf(folder); }
  std::string ManifestsPath() const { return directory_ + "/" + std::string(kManifestsFolder); }

  // All folders of steps, and all that were marked as pruned; sorted.
  absl::StatusOr<std::vector<FolderName>> List() const;
  absl::StatusOr<std::vector<FolderName>> ListPruned() const;
  bool IsPruned(const FolderName& folder) const;
  // Whether a living process uses it: one that writes its shards, or reads them.
  bool IsUsed(const FolderName& folder) const;

  // For a rank: makes the folder, if it is not there, and locks it. Aborted if it was cleaned up.
  absl::StatusOr<FolderLock> Use(const FolderName& folder, unsigned mode) const;
  // For a reader. NotFound if it was pruned, Unavailable if a remover stands still. Where locks can
  // not be had (no such file in the folder, no permission) the result holds none.
  absl::StatusOr<FolderLock> Hold(const FolderName& folder) const;

  // Removes a folder: lock, durable mark, files. FailedPrecondition if it is in use. `still` says
  // whether it may go; it is asked before and after the mark, which is taken back if it may not.
  absl::Status Remove(const FolderName& folder,
                      const std::function<absl::StatusOr<bool>()>& still) const;

  // Removes folders that were never given their name, by makers that are gone, of the same user.
  void SweepNew() const;

  // While it lives, no other process prunes or cleans up. FailedPrecondition if one does.
  absl::StatusOr<detail::Fd> LockPruning() const;

 private:
  // The lock on a new folder. AlreadyExists if it is there; NotFound if a clean-up came between.
  absl::StatusOr<detail::Fd> MakeLocked(const FolderName& folder, unsigned mode) const;
  std::string MarkOf(const FolderName& folder) const;
  // The folder of marks, with that one in it, durably.
  absl::StatusOr<detail::Fd> Mark(const FolderName& folder, const detail::Access& access) const;

  std::string directory_;
};

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_FOLDER_H_
