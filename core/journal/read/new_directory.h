// A journal's directory while it is made: it has another name until it is complete.
//
// Thread safety: external; any number of processes, which sweep what dead makers left.
// Progress: never waits for another maker.
// A death leaves a directory under its first name, whose flock is free: the next maker, or
// restorer, of the same user removes it.
#ifndef EPOCH_CORE_JOURNAL_READ_NEW_DIRECTORY_H_
#define EPOCH_CORE_JOURNAL_READ_NEW_DIRECTORY_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

// A directory under construction. Its flock says that its maker lives; what the dead left behind
// under the same prefix is removed by the next maker, or restorer, of the same user.
//
// Others may write to the parent and put something else under any name in it. So what is looked at
// is opened, following no link, and what is done is done through that.
class NewDirectory {
 public:
  static absl::StatusOr<NewDirectory> Make(const std::string& final_path,
                                           const detail::Access& access) {
    const std::string parent = detail::ParentOf(final_path);
    const std::string prefix = PrefixFor(final_path);
    const std::string what = absl::StrCat("cannot create journal ", final_path);
    NewDirectory made;
    made.parent_ = OpenParent(parent);
    if (!made.parent_.ok()) return detail::ErrnoStatus(errno, what);
    Sweep(made.parent_.get(), prefix);
    for (int attempt = 0; attempt < 100; ++attempt) {
      std::string path = absl::StrCat(parent, "/", prefix, "XXXXXX");
      if (absl::Status s = detail::MakeTemporaryFolder(path, what); !s.ok()) return s;
      const std::string name = detail::NameIn(path);
      made.folder_ = detail::OpenMadeFolder(made.parent_.get(), name);
      if (!made.folder_.ok() || sys::flock(made.folder_.get(), LOCK_EX | LOCK_NB) != 0 ||
          sys::fstat(made.folder_.get(), &made.info_) != 0) {
        // Another maker's sweep has come between. Any other trouble would come again.
        if (errno == ENOENT || errno == EWOULDBLOCK) continue;
        const int error = errno;
        sys::unlinkat(made.parent_.get(), name.c_str(), AT_REMOVEDIR);
        return detail::ErrnoStatus(error, what);
      }
      if (made.info_.st_nlink == 0) continue;  // nothing is left to link into
      made.name_ = name;
      made.path_ = path;
      if (absl::Status s = detail::SetFolderAccess(made.folder_.get(), access, path); !s.ok()) {
        return s;
      }
      return made;
    }
    return absl::UnavailableError(absl::StrCat(parent, ": directories made here disappear"));
  }

  NewDirectory(NewDirectory&&) = default;
  NewDirectory& operator=(NewDirectory&&) = delete;
  ~NewDirectory() {
    try {
      if (!name_.empty() && folder_.ok()) Remove(parent_.get(), name_, folder_.get(), info_);
    } catch (const std::bad_alloc&) {  // it is swept by the next one who makes a journal there
    }
  }

  const std::string& path() const { return path_; }

  // Removes what dead makers of that directory have left.
  static void SweepFor(const std::string& final_path) {
    const detail::Fd parent = OpenParent(detail::ParentOf(final_path));
    if (parent.ok()) Sweep(parent.get(), PrefixFor(final_path));
  }

  absl::Status RenameTo(const std::string& final_path) {
    const std::string wanted = detail::NameIn(final_path);
    if (sys::renameat2(parent_.get(), name_.c_str(), parent_.get(), wanted.c_str(),
                       RENAME_NOREPLACE) != 0) {
      return detail::ErrnoStatus(errno, absl::StrCat("cannot create journal ", final_path));
    }
    name_.clear();
    if (detail::IsNamed(parent_.get(), wanted, info_)) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(final_path,
                     ": somebody else put another directory in its place while it was made: "
                     "choose a parent that only you may write to"));
  }

 private:
  static constexpr int kToLookAt = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;

  NewDirectory() = default;

  static detail::Fd OpenParent(const std::string& parent) {
    return detail::Fd(sys::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  // Calls `act(name)` for each name in an open directory.
  template <typename Act>
  static void ForEachName(int directory, Act&& act) {
    const detail::Listing dir = detail::ListingOf(directory);
    if (dir == nullptr) return;
    while (const dirent* entry = sys::readdir(dir.get())) act(std::string(entry->d_name));
  }

  static void Remove(int parent, const std::string& name, int folder, const struct stat& info) {
    ForEachName(folder, [folder](const std::string& file) {
      if (absl::EndsWith(file, ".segment")) sys::unlinkat(folder, file.c_str(), 0);
    });
    if (detail::IsNamed(parent, name, info)) sys::unlinkat(parent, name.c_str(), AT_REMOVEDIR);
  }

  static std::string PrefixFor(const std::string& final_path) {
    return absl::StrCat(".", detail::NameIn(final_path), ".new-");
  }

  static void Sweep(int parent, const std::string& prefix) {
    ForEachName(parent, [&](const std::string& name) {
      if (!absl::StartsWith(name, prefix)) return;
      const detail::Fd folder(sys::openat(parent, name.c_str(), kToLookAt));
      struct stat info {};
      if (!folder.ok() || sys::fstat(folder.get(), &info) != 0 || !detail::IsOurs(info)) return;
      // With the lock: by now its maker may have given it its name, and gone; then it is a journal.
      if (sys::flock(folder.get(), LOCK_EX | LOCK_NB) == 0 && detail::IsNamed(parent, name, info)) {
        EPOCH_POINT("sweep.checked");
        Remove(parent, name, folder.get(), info);
      }
    });
  }

  detail::Fd parent_, folder_;
  struct stat info_ {};
  std::string name_, path_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_NEW_DIRECTORY_H_
