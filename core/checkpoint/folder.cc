#include "core/checkpoint/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <functional>

#include "absl/strings/str_cat.h"
#include "core/files/disk.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::checkpoint {
namespace {

using detail::Access;
using detail::ErrnoStatus;
using detail::Fd;
using seam::ByteLock;

constexpr std::string_view kIdentityLine = "Epoch checkpoints, format 1\n";
constexpr std::size_t kIdentityDigits = 32;
constexpr int kPatienceMs = 1000;  // with a remover that has a folder's lock

absl::StatusOr<std::string> ReadIdentity(const std::string& path) {
  const Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  std::string text(kIdentityLine.size() + kIdentityDigits + 2, '\0');
  const ssize_t got = sys::read(fd.get(), text.data(), text.size());
  if (got < 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", path));
  text.resize(static_cast<std::size_t>(got));
  const std::string digits =
      text.size() > kIdentityLine.size() ? text.substr(kIdentityLine.size()) : "";
  if (!text.starts_with(kIdentityLine) || digits.size() != kIdentityDigits + 1 ||
      digits.find_first_not_of("0123456789abcdef") != kIdentityDigits || digits.back() != '\n') {
    return absl::DataLossError(absl::StrCat(
        path,
        " is not the identity of a directory of checkpoints, or is damaged: if all ranks "
        "are gone, it may be removed; the next one to join makes it anew"));
  }
  return digits.substr(0, kIdentityDigits);
}

absl::StatusOr<std::vector<FolderName>> FoldersIn(const std::string& path) {
  const Fd fd(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(fd.get(), path);
  if (!names.ok()) return names.status();
  std::vector<FolderName> folders;
  for (const std::string& name : *names) {
    if (const auto folder = ParseFolderName(name); folder.has_value()) folders.push_back(*folder);
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

// Each level holds a descriptor: whoever may write to a folder must not use up all there are.
constexpr int kMostLevels = 64;

absl::Status RemoveTree(int at, const std::string& name, const std::string& path, int levels);

// Removes all that is in an open folder. Follows no links.
absl::Status EmptyFolder(int folder, const std::string& path, int levels = kMostLevels) {
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(folder, path);
  if (!names.ok()) return names.status();
  for (const std::string& inner : *names) {
    absl::Status s = RemoveTree(folder, inner, absl::StrCat(path, "/", inner), levels);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status RemoveFolder(int at, const std::string& name, const std::string& path) {
  if (sys::unlinkat(at, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("cannot remove ", path));
}

// Removes what is called so in an open directory, with all that is in it.
absl::Status RemoveTree(int at, const std::string& name, const std::string& path, int levels) {
  if (sys::unlinkat(at, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  const absl::Status refused = ErrnoStatus(errno, absl::StrCat("cannot remove ", path));
  if (errno != EISDIR && errno != EPERM) return refused;  // a directory's, here and by POSIX
  if (levels == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " lies ", kMostLevels, " folders deep: remove it by hand"));
  }
  const Fd fd(sys::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.ok()) return errno == ENOENT ? absl::OkStatus() : refused;
  if (absl::Status s = EmptyFolder(fd.get(), path, levels - 1); !s.ok()) return s;
  return RemoveFolder(at, name, path);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> NamesIn(int directory, const std::string& path) {
  const detail::Listing dir = detail::ListingOf(directory);
  if (dir == nullptr) return ErrnoStatus(errno, absl::StrCat("cannot list ", path));
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = sys::readdir(dir.get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int error = errno;
  if (error != 0) return ErrnoStatus(error, absl::StrCat("cannot list ", path));
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MakeFolder(const std::string& path, const Access& access) {
  if (sys::mkdir(path.c_str(), access.FolderMode()) != 0) {
    if (errno == EEXIST) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("cannot create ", path));
  }
  // Whoever finds it before this may be refused, and is told so.
  const Fd fd = detail::OpenMadeFolder(AT_FDCWD, path);
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  return detail::SetFolderAccess(fd.get(), access, path);
}

absl::StatusOr<std::string> ResolveDirectory(const std::string& directory) {
  char resolved[PATH_MAX];
  if (directory.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the directory's name contains a zero byte");
  }
  if (sys::realpath(directory.c_str(), resolved) == nullptr) {
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat(directory, " is not there"));
    return ErrnoStatus(errno, absl::StrCat("cannot open ", directory));
  }
  struct stat info {};
  if (sys::stat(resolved, &info) != 0) return ErrnoStatus(errno, directory);
  if (!S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(directory, " is not a directory"));
  }
  return std::string(resolved);
}

absl::StatusOr<std::string> IdentityOf(const std::string& directory, unsigned mode) {
  const std::string path = absl::StrCat(directory, "/", std::string(kIdentityFile));
  absl::StatusOr<std::string> known = ReadIdentity(path);
  if (known.ok() || !absl::IsNotFound(known.status())) return known;
  absl::StatusOr<Fd> fd = detail::OpenUnnamed(directory, {.mode = mode, .group = {}});
  if (!fd.ok()) return fd.status();
  const absl::StatusOr<detail::Id> id = detail::RandomId();
  if (!id.ok()) return id.status();
  const std::string text = absl::StrCat(std::string(kIdentityLine), detail::HexOf(*id), "\n");
  absl::Status wrote = journal::WriteFully(
      fd->get(), reinterpret_cast<const std::byte*>(text.data()), text.size(), 0, path);
  if (!wrote.ok()) return wrote;
  if (const int error = journal::SyncData(fd->get()); error != 0) {
    return ErrnoStatus(error, absl::StrCat("cannot sync ", path));
  }
  EPOCH_POINT("checkpoint.before_identity");
  const absl::Status linked = detail::LinkUnnamed(fd->get(), path);
  if (!linked.ok() && !absl::IsAlreadyExists(linked)) return linked;
  if (absl::Status s = journal::SyncDirectory(directory); !s.ok()) return s;
  return ReadIdentity(path);
}

absl::StatusOr<std::vector<FolderName>> Folders::List() const { return FoldersIn(directory_); }

absl::StatusOr<std::vector<FolderName>> Folders::ListPruned() const {
  absl::StatusOr<std::vector<FolderName>> marks =
      FoldersIn(absl::StrCat(directory_, "/", std::string(kPrunedFolder)));
  if (absl::IsNotFound(marks.status())) return std::vector<FolderName>{};
  return marks;
}

std::string Folders::MarkOf(const FolderName& folder) const {
  return absl::StrCat(directory_, "/", std::string(kPrunedFolder), "/", NameOf(folder));
}

bool Folders::IsPruned(const FolderName& folder) const {
  return sys::access(MarkOf(folder).c_str(), F_OK) == 0;
}

bool Folders::IsUsed(const FolderName& folder) const {
  const std::string path = absl::StrCat(PathOf(folder), "/", std::string(kRanksFile));
  const Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return fd.ok() && seam::TestByteLock(fd.get(), 0) == seam::LockState::kHeld;
}

absl::StatusOr<Fd> Folders::MakeLocked(const FolderName& folder, unsigned mode) const {
  std::string path = absl::StrCat(directory_, "/", std::string(kNewPrefix), "XXXXXX");
  if (absl::Status s =
          detail::MakeTemporaryFolder(path, absl::StrCat("cannot create a folder in ", directory_));
      !s.ok()) {
    return s;
  }
  const Access access{.mode = mode, .group = {}};
  const std::string what = absl::StrCat("cannot create ", PathOf(folder));
  const std::string ranks(kRanksFile);
  const Fd made = detail::OpenMadeFolder(AT_FDCWD, path);
  EPOCH_POINT("checkpoint.folder_made");
  Fd fd(made.ok() ? sys::openat(made.get(), ranks.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600) : -1);
  absl::Status s = fd.ok() ? detail::SetAccess(fd.get(), access, absl::StrCat(path, "/", ranks))
                           : ErrnoStatus(errno, what);
  if (s.ok()) s = detail::SetFolderAccess(made.get(), access, path);
  if (s.ok()) {
    const int error = seam::SetByteLock(fd.get(), ByteLock::kShared, 0);
    if (error != 0) s = ErrnoStatus(error == EAGAIN ? ENOENT : error, what);  // it is being swept
  }
  EPOCH_POINT("checkpoint.folder_named");
  if (s.ok() && sys::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, PathOf(folder).c_str(),
                               RENAME_NOREPLACE) != 0) {
    s = ErrnoStatus(errno, what);
  }
  if (s.ok()) return fd;
  if (made.ok()) sys::unlinkat(made.get(), ranks.c_str(), 0);
  sys::rmdir(path.c_str());
  return s;
}

absl::StatusOr<FolderLock> Folders::Use(const FolderName& folder, unsigned mode) const {
  const std::string path = PathOf(folder);
  const std::string ranks = absl::StrCat(path, "/", std::string(kRanksFile));
  for (int attempt = 0; attempt < kPatienceMs; ++attempt) {
    // It gets its name when it is locked, so that no clean-up finds it unused.
    absl::StatusOr<Fd> fd = MakeLocked(folder, mode);
    if (absl::IsAlreadyExists(fd.status())) {
      absl::StatusOr<Fd> there = detail::OpenOrMake(ranks, {.mode = mode, .group = {}});
      if (!there.ok() && !absl::IsNotFound(there.status())) return there.status();
      const int error = there.ok() ? seam::SetByteLock(there->get(), ByteLock::kShared, 0) : EAGAIN;
      if (error != 0 && error != EAGAIN) {
        return ErrnoStatus(error, absl::StrCat("cannot lock ", ranks));
      }
      if (error == 0) fd = *std::move(there);
    } else if (!fd.ok() && !absl::IsNotFound(fd.status())) {  // not found: swept under its hands
      return fd.status();
    }
    // A remover marks the folder while it has the lock alone. So, with the lock: no mark, no
    // remover, now or later.
    if (IsPruned(folder)) {
      return absl::AbortedError(absl::StrCat(
          path, " was cleaned up when none of its ranks was there: begin the step again"));
    }
    struct stat mine {
    }, named{};
    if (fd.ok() && sys::fstat(fd->get(), &mine) == 0 && sys::stat(ranks.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
      FolderLock lock;
      lock.fd_ = *std::move(fd);
      return lock;
    }
    seam::SleepFor(1'000'000);  // a remover has it, and will mark the folder or let go
  }
  return absl::UnavailableError(absl::StrCat(ranks, " is locked by another program"));
}

absl::StatusOr<FolderLock> Folders::Hold(const FolderName& folder) const {
  const std::string ranks = absl::StrCat(PathOf(folder), "/", std::string(kRanksFile));
  Fd fd(sys::open(ranks.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  FolderLock lock;
  if (!fd.ok()) return lock;
  for (int attempt = 0; attempt < kPatienceMs; ++attempt) {
    const int error = seam::SetByteLock(fd.get(), ByteLock::kShared, 0);
    if (IsPruned(folder)) {
      return absl::NotFoundError(absl::StrCat(PathOf(folder), " was pruned"));
    }
    if (error == 0) lock.fd_ = std::move(fd);
    if (error != EAGAIN) return lock;
    seam::SleepFor(1'000'000);  // a remover has it, and will mark the folder or let go
  }
  return absl::UnavailableError(absl::StrCat(PathOf(folder), " is held by ",
                                             journal::NameHolders(fd.get()),
                                             ", which was about to remove it and stands still"));
}

absl::StatusOr<Fd> Folders::Mark(const FolderName& folder, const Access& access) const {
  const std::string path = absl::StrCat(directory_, "/", std::string(kPrunedFolder));
  if (absl::Status s = MakeFolder(path, access); !s.ok()) return s;
  Fd marks(sys::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!marks.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  const absl::StatusOr<Fd> mark = detail::OpenOrMake(MarkOf(folder), access);
  if (!mark.ok()) return mark.status();
  EPOCH_POINT("checkpoint.marked");
  for (const std::string& names : {path, directory_}) {
    if (absl::Status s = journal::SyncDirectory(names); !s.ok()) return s;
  }
  return marks;
}

absl::Status Folders::Remove(const FolderName& folder,
                             const std::function<absl::StatusOr<bool>()>& still) const {
  const std::string path = PathOf(folder);
  const std::string ranks = absl::StrCat(path, "/", std::string(kRanksFile));
  // What is made here is for all who may use the directory.
  struct stat info {};
  if (sys::stat(directory_.c_str(), &info) != 0) return ErrnoStatus(errno, directory_);
  Access access = Access::Of(info);
  access.mode &= 0666u;
  // Made where it is missing: a rank that has just made the folder finds it locked.
  const absl::StatusOr<Fd> lock = detail::OpenOrMake(ranks, access);
  if (!lock.ok() && !absl::IsNotFound(lock.status())) return lock.status();
  if (lock.ok()) {
    const int error = seam::SetByteLock(lock->get(), ByteLock::kExclusive, 0);
    if (error == EAGAIN) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is in use by ", journal::NameHolders(lock->get())));
    }
    if (error != 0) return ErrnoStatus(error, absl::StrCat("cannot lock ", ranks));
  }
  EPOCH_POINT("checkpoint.remove_locked");
  const absl::Status became =
      absl::FailedPreconditionError(absl::StrCat(path, " became a checkpoint meanwhile"));
  absl::StatusOr<bool> may_go = still();
  if (!may_go.ok()) return may_go.status();
  if (!*may_go) return became;
  const absl::StatusOr<Fd> marks = Mark(folder, access);
  if (!marks.ok()) return marks.status();
  // Again: a commit that the dead had accepted, and told nobody of, may have been finished by
  // others. From here on the mark is in the way of anyone who would use the folder.
  may_go = still();
  if (!may_go.ok() || !*may_go) {
    if (sys::unlinkat(marks->get(), NameOf(folder).c_str(), 0) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot remove ", MarkOf(folder)));
    }
    return may_go.ok() ? became : may_go.status();
  }
  EPOCH_POINT("checkpoint.before_remove");
  // The lock's file last: as long as anything is here, whoever finds it meets the lock or the mark.
  const Fd parent(sys::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", directory_));
  const Fd opened(sys::openat(parent.get(), NameOf(folder).c_str(),
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!opened.ok() && errno == ENOENT) return absl::OkStatus();
  if (!opened.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(opened.get(), path);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (name == kRanksFile) continue;
    absl::Status s = RemoveTree(opened.get(), name, absl::StrCat(path, "/", name), kMostLevels);
    if (!s.ok()) return s;
    EPOCH_POINT("checkpoint.removed_some");
  }
  if (absl::Status s = EmptyFolder(opened.get(), path); !s.ok()) return s;
  if (absl::Status s = RemoveFolder(parent.get(), NameOf(folder), path); !s.ok()) return s;
  return journal::SyncDirectory(directory_);
}

void Folders::SweepNew() const {
  const Fd fd(sys::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(fd.get(), directory_);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!name.starts_with(kNewPrefix)) continue;
    const Fd folder(
        sys::openat(fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    struct stat info {};
    if (!folder.ok() || sys::fstat(folder.get(), &info) != 0 || !detail::IsOurs(info)) continue;
    const std::string ranks(kRanksFile);
    constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    Fd lock(sys::openat(folder.get(), ranks.c_str(), kFlags));
    // A power loss may have taken back its name, or the lock's, and left a rank's folder in it.
    if (!lock.ok() && sys::unlinkat(fd.get(), name.c_str(), AT_REMOVEDIR) != 0 &&
        errno == ENOTEMPTY) {
      lock = Fd(sys::openat(folder.get(), ranks.c_str(), kFlags | O_CREAT, 0600));
    }
    if (!lock.ok() || seam::SetByteLock(lock.get(), ByteLock::kExclusive, 0) != 0) continue;
    // With the lock: by now its maker may have given it its name, and be done with it.
    if (!detail::IsNamed(fd.get(), name, info)) continue;
    const std::string path = absl::StrCat(directory_, "/", name);
    if (EmptyFolder(folder.get(), path).ok()) {
      RemoveFolder(fd.get(), name, path).IgnoreError();
    }
  }
}

absl::StatusOr<Fd> Folders::LockPruning() const {
  const std::string path = absl::StrCat(directory_, "/", std::string(kIdentityFile));
  Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok() && errno == ENOENT) {
    // Only names the region; the directory itself will do.
    fd = Fd(sys::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  if (sys::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return ErrnoStatus(errno, absl::StrCat("cannot lock ", path));
  return absl::FailedPreconditionError(absl::StrCat(
      directory_, ": another process prunes or cleans up here: ", journal::NameHolders(fd.get()),
      "; nothing was removed"));
}

}  // namespace epoch::checkpoint
