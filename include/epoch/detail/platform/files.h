// Small file-system helpers: descriptors that close themselves, unnamed files that get their name
// only when complete, region names, boot and filesystem identity.
#ifndef EPOCH_DETAIL_PLATFORM_FILES_H_
#define EPOCH_DETAIL_PLATFORM_FILES_H_

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/identity.h"
#include "epoch/detail/platform/system_calls.h"
#include "epoch/types.h"

namespace epoch::detail {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { Close(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) sys::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// An open directory, closed whatever is thrown while its names are read.
struct ListingCloser {
  void operator()(sys::DIR* listing) const noexcept { sys::closedir(listing); }
};
using Listing = std::unique_ptr<sys::DIR, ListingCloser>;
// By a descriptor of its own: closedir closes it, and reading moves its offset. Null: errno says
// why.
inline Listing ListingOf(int directory) {
  Fd own(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Listing listing(own.ok() ? sys::fdopendir(own.get()) : nullptr);
  if (listing != nullptr) own.Release();
  return listing;
}

inline std::array<char, 32> FdPath(int fd) noexcept {  // async-signal-safe
  std::array<char, 32> path{};
  constexpr std::string_view kPrefix = "/proc/self/fd/";
  std::size_t at = 0;
  for (char c : kPrefix) path[at++] = c;
  std::array<char, 12> digits{};
  std::size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + fd % 10);
    fd /= 10;
  } while (fd > 0);
  while (count > 0) path[at++] = digits[--count];
  return path;
}

// Opens the same inode anew: a description of its own, without the original's locks.
inline int ReopenFd(int fd, int flags) noexcept {
  return sys::open(FdPath(fd).data(), flags | O_CLOEXEC);
}

inline std::string ParentOf(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

inline std::string NameIn(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Of what is made without a word about it.
inline constexpr unsigned kDefaultMode = 0600;

// Who may use what Epoch makes. Set whole once it is open, so that the umask does not matter.
struct Access {
  unsigned mode = 0600;          // permission bits of a file; a folder's follow
  std::optional<gid_t> group{};  // none: as the system has it, which heeds a setgid folder

  // Of what is there, for one that is to be its like.
  static Access Of(const struct stat& info) {
    return {.mode = (info.st_mode & 0777u) | 0600u, .group = info.st_gid};
  }
  static Access Of(int fd) {
    struct stat info {};
    return sys::fstat(fd, &info) == 0 ? Of(info) : Access{};
  }
  // Read permission gives search permission.
  unsigned FolderMode() const { return 0700u | (mode & 0777u) | ((mode & 0444u) >> 2); }
};

// Whether it is this user's. A sweep touches nothing else: rubbish of another user is that user's
// to remove, however dead its maker is, since who sweeps with more rights must not lend them.
inline bool IsOurs(const struct stat& info) { return info.st_uid == sys::geteuid(); }

// The bits that it may have once it has its group. Who may not give it that, as no member of it,
// gives the members of another group no more than all others have.
inline unsigned GiveGroup(int fd, const Access& access, unsigned mode) {
  if (!access.group.has_value() || sys::fchown(fd, static_cast<uid_t>(-1), *access.group) == 0) {
    return mode;
  }
  return (mode & ~0070u) | (mode & 0070u & ((mode & 0007u) << 3));
}

// Of a file that this process has just made.
inline absl::Status SetAccess(int fd, const Access& access, const std::string& path) {
  if (sys::fchmod(fd, GiveGroup(fd, access, access.mode & 0777u)) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("cannot set the permissions of ", path));
}

// Of a folder that this process has just made. What lies in it goes on to get its parent's group
// where that is so (setgid).
inline absl::Status SetFolderAccess(int fd, const Access& access, const std::string& path) {
  struct stat info {};
  if (sys::fstat(fd, &info) == 0) {
    if (!IsOurs(info)) {
      return absl::PermissionDeniedError(
          absl::StrCat(path, ": another user put a folder in its place while it was made"));
    }
    const unsigned wanted = GiveGroup(fd, access, access.FolderMode()) | (info.st_mode & S_ISGID);
    // Not twice: the system takes setgid away from a folder of a group that the caller is not in.
    if ((info.st_mode & 07777u) == wanted || sys::fchmod(fd, wanted) == 0) return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("cannot set the permissions of ", path));
}

// Opens a folder that this process has just made, and may enter whatever the umask took from it.
inline Fd OpenMadeFolder(int at, const std::string& name) {
  constexpr int kFlags = O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
  Fd fd(sys::openat(at, name.c_str(), O_RDONLY | kFlags));
  if (fd.ok() || errno != EACCES) return fd;
  const Fd closed(sys::openat(at, name.c_str(), O_PATH | kFlags));
  if (!closed.ok() || sys::chmod(FdPath(closed.get()).data(), 0700) != 0) {
    errno = EACCES;
    return {};
  }
  return Fd(sys::openat(at, name.c_str(), O_RDONLY | kFlags));
}

// mkdtemp. That a name is taken is not said of one that nobody asked for.
inline absl::Status MakeTemporaryFolder(std::string& path, const std::string& what) {
  if (sys::mkdtemp(path.data()) != nullptr) return absl::OkStatus();
  if (errno != EEXIST) return ErrnoStatus(errno, what);
  return absl::UnavailableError(absl::StrCat(what, ": every name that was tried is taken"));
}

// A file in `directory` that has no name yet: if this process dies, it is gone.
inline absl::StatusOr<Fd> OpenUnnamed(const std::string& directory, const Access& access,
                                      int flags = 0) {
  Fd fd(sys::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600));
  if (!fd.ok()) {
    if (errno == EOPNOTSUPP || errno == EISDIR) {
      return absl::FailedPreconditionError(
          absl::StrCat(directory,
                       ": this filesystem has no unnamed files (O_TMPFILE); use tmpfs, "
                       "ext4, xfs or btrfs"));
    }
    return ErrnoStatus(errno, absl::StrCat("cannot create a file in ", directory));
  }
  if (absl::Status s = SetAccess(fd.get(), access, absl::StrCat("a file in ", directory));
      !s.ok()) {
    return s;
  }
  return fd;
}

// Gives an unnamed file its name. AlreadyExists if the name is taken: never replaces.
inline absl::Status LinkUnnamed(int fd, const std::string& path) {
  if (sys::linkat(AT_FDCWD, FdPath(fd).data(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    const int error = errno;
    if (error == ENOENT && sys::access("/proc/self/fd", F_OK) != 0) {
      return absl::FailedPreconditionError("/proc is not mounted; Epoch needs it to name files");
    }
    return ErrnoStatus(error, absl::StrCat("cannot create ", path));
  }
  return absl::OkStatus();
}

// In words, for what is there in place of what was expected.
inline const char* KindOfFile(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a file";
    case S_IFDIR:
      return "a directory";
    case S_IFLNK:
      return "a link";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

// Opens a file, which is made if it is not there: whole, so nobody finds one that is not yet as
// `access` says. Follows no link.
inline absl::StatusOr<Fd> OpenOrMake(const std::string& path, const Access& access) {
  constexpr int kMostRounds = 100;  // each one failed means that another took its name away
  for (int round = 1;; ++round) {
    Fd fd(sys::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.ok()) return fd;
    if (errno != ENOENT) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
    absl::StatusOr<Fd> made = OpenUnnamed(ParentOf(path), access);
    if (!made.ok()) return made.status();
    const absl::Status linked = LinkUnnamed(made->get(), path);
    if (linked.ok()) return made;
    if (!absl::IsAlreadyExists(linked) || round == kMostRounds) return linked;
  }
}

// Whether `at` has that very file, or folder, under `name`.
inline bool IsNamed(int at, const std::string& name, const struct stat& info) {
  struct stat named {};
  return sys::fstatat(at, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         named.st_dev == info.st_dev && named.st_ino == info.st_ino;
}

inline constexpr std::string_view kRegionDirectory = "/dev/shm";
inline constexpr std::string_view kRegionPrefix = "epoch.";

// A name (letters, digits, '.', '_', '-') stands for /dev/shm/epoch.NAME; anything with a slash is
// a path.
inline absl::StatusOr<std::string> RegionPath(std::string_view name_or_path) {
  if (name_or_path.empty()) return absl::InvalidArgumentError("the region's name is empty");
  if (name_or_path.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("the region's name contains a zero byte");
  }
  if (name_or_path.find('/') != std::string_view::npos) return std::string(name_or_path);
  if (name_or_path.size() > 200) {
    return absl::InvalidArgumentError("the region's name is longer than 200 bytes");
  }
  for (char c : name_or_path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-';
    if (!plain) {
      return absl::InvalidArgumentError(
          absl::StrCat("region name \"", std::string(name_or_path),
                       "\": use letters, digits, '.', '_' and '-', or a path with a slash"));
    }
  }
  return absl::StrCat(std::string(kRegionDirectory), "/", std::string(kRegionPrefix),
                      std::string(name_or_path));
}

// Whether it keeps its files in memory: they are gone with the mount, and with the boot.
inline bool IsMemoryFilesystem(const struct statfs& info) {
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
      return true;
    default:
      return false;
  }
}
inline bool LiesInMemory(int fd) {
  struct statfs info {};
  return sys::fstatfs(fd, &info) == 0 && IsMemoryFilesystem(info);
}

// Which file that is. What it is made of cannot be copied, and does not differ between two looks
// at the same file within a boot, as long as its device is there:
//  - the inode's number, and when it was born: numbers are used again, in that order never;
//  - the filesystem: its device, since a snapshot, or the copy of an image, has all else: inodes,
//    births, and the filesystem's own id. So a device that comes back under another number is one
//    that nothing tells from its copy (docs/layout.md), and is refused in words that name both.
//    Without a device of its own (overlayfs, btrfs), the number that a filesystem is given changes
//    from mount to mount; then its fsid, which btrfs has for each subvolume. In memory the device
//    number lasts as long as the files do.
//  - its kind: an overlay's file, looked at below the overlay, is another one to the kernel's
//  locks.
inline absl::StatusOr<FileIdentity> IdentityOf(int fd, const std::string& path) {
  struct statx file {};
  struct statfs filesystem {};
  if (sys::statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &file) != 0 ||
      sys::fstatfs(fd, &filesystem) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot look at ", path));
  }
  FileIdentity identity{};
  identity.inode = file.stx_ino;
  identity.filesystem = static_cast<std::uint32_t>(filesystem.f_type);
  if (file.stx_dev_major != 0 || IsMemoryFilesystem(filesystem)) {
    identity.volume = (std::uint64_t{file.stx_dev_major} << 32) | file.stx_dev_minor;
  } else {
    static_assert(sizeof filesystem.f_fsid == sizeof identity.volume);
    std::memcpy(&identity.volume, &filesystem.f_fsid, sizeof identity.volume);
  }
  if ((file.stx_mask & STATX_BTIME) != 0) {
    identity.born_ns = file.stx_btime.tv_sec * 1'000'000'000 + file.stx_btime.tv_nsec;
  }
  return identity;
}
// Whether what a file says of itself is true of it. What is not known does not differ.
inline bool SameIdentity(const FileIdentity& said, const FileIdentity& found) {
  return said.inode == 0 || found.inode == 0 ||
         (said.inode == found.inode && said.volume == found.volume &&
          said.filesystem == found.filesystem &&
          (said.born_ns == 0 || found.born_ns == 0 || said.born_ns == found.born_ns));
}

// Behind "PATH is a copy of ...": when all that a copy of the whole device has, too, is the same.
inline std::string WhyCopy(const FileIdentity& said, const FileIdentity& found) {
  FileIdentity moved = found;
  moved.volume = said.volume;
  if (!SameIdentity(said, moved)) {
    return absl::StrCat(" (made as inode ", said.inode, ", this is ", found.inode, ")");
  }
  const auto device = [](const FileIdentity& file) {
    return absl::StrCat(file.volume >> 32, ":", file.volume & 0xffffffffu);
  };
  return absl::StrCat(", or its device came back under another number (made on ", device(said),
                      ", this is ", device(found),
                      "), which nothing tells from a copy of all of it");
}

// PermissionDenied for what belongs to neither the effective user nor root, unless `trusted`. Where
// a user namespace does not know the owner, it shows as nobody (65534).
inline absl::Status CheckOwner(std::uint32_t owner, const std::string& path, bool trusted) {
  if (trusted || owner == 0 || owner == sys::geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      path, " belongs to user ", owner, ", who is neither this process's (", sys::geteuid(),
      ") nor root, and could have put anything there; if you trust that user, say so "
      "(RegionOptions::trust_other_owners, epochctl --trust-other-owners)"));
}

// As this process names it from now on, wherever it goes.
inline std::string FromRoot(const std::string& path) {
  char here[4096];  // PATH_MAX
  if (path.empty() || path[0] == '/' || sys::realpath(".", here) == nullptr) return path;
  return absl::StrCat(std::string(here) == "/" ? "" : here, "/", path);
}

// A file that was opened by a name: whether the name still leads to it. To look costs one system
// call as long as it does: 1 us, and 4 us for who has just waited for a disk, since a path leads
// through memory that is cold by then.
class Whereabouts {
 public:
  enum class Seen {
    kThere,
    kUnknown,    // this process may not look, or has another root or mount namespace since: what
                 // the name leads to for those who stayed where it was opened, it cannot see
    kElsewhere,  // the name leads nowhere, or to another file; this one still has a name
    kGone,       // no name is left, in any namespace: nobody can ever open it again
  };
  // Whether it is known that nobody gets to the file by its name any more.
  static constexpr bool IsAway(Seen seen) {
    return seen == Seen::kElsewhere || seen == Seen::kGone;
  }

  Whereabouts() = default;
  // An absolute path. The file may get that name later.
  Whereabouts(int fd, std::string path) : path_(std::move(path)) {
    static_cast<void>(At(fd, "", AT_EMPTY_PATH, file_));
    static_cast<void>(At(AT_FDCWD, "/", 0, root_));
  }
  const std::string& path() const { return path_; }

  // For who asks again and again, and is to learn at once if nobody can open the file any more:
  // that is a question to the descriptor, which takes a third of the time. Where the name leads is
  // looked at if that was not done for kLookEvery_ns, or by the kLookEvery last calls. `now_ns`: of
  // CLOCK_MONOTONIC.
  static constexpr std::int64_t kLookEvery_ns = 10'000'000;
  static constexpr int kLookEvery = 64;
  Seen Glance(int fd, std::int64_t now_ns) {
    if (glances_ > 0 && now_ns < look_at_ns_) {
      File open;
      if (At(fd, "", AT_EMPTY_PATH, open) == 0) {
        --glances_;
        return open.links == 0 ? Seen::kGone : Seen::kThere;
      }
    }
    const Seen seen = Look(fd);
    glances_ = IsAway(seen) ? 0 : kLookEvery - 1;
    look_at_ns_ = now_ns + kLookEvery_ns;
    return seen;
  }

  Seen Look(int fd) const {
    File now;
    const int error = At(AT_FDCWD, path_.c_str(), AT_SYMLINK_NOFOLLOW, now);
    if (error == 0 && now.Is(file_)) return Seen::kThere;
    File open;
    if (At(fd, "", AT_EMPTY_PATH, open) != 0 || !open.Is(file_)) return Seen::kUnknown;
    if (open.links == 0) return Seen::kGone;
    if (error != 0 && error != ENOENT && error != ENOTDIR) return Seen::kUnknown;
    File root;
    if (At(AT_FDCWD, "/", 0, root) != 0 || !root.Is(root_) || root.mount != root_.mount) {
      return Seen::kUnknown;
    }
    return Seen::kElsewhere;
  }

 private:
  struct File {
    std::uint64_t device = 0, inode = 0;
    // The mount that it lies on. A mount namespace has mounts of its own, also while it is a copy
    // of another, so the root's tells of both without /proc. 0 before Linux 5.8.
    std::uint64_t mount = 0;
    std::uint32_t links = 0;
    bool Is(const File& other) const { return device == other.device && inode == other.inode; }
  };
  static int At(int directory, const char* path, int flags, File& file) {
    struct statx info {};
    constexpr unsigned kWanted = STATX_INO | STATX_NLINK | STATX_MNT_ID;
    if (sys::statx(directory, path, flags, kWanted, &info) != 0) return errno;
    file = {.device = (std::uint64_t{info.stx_dev_major} << 32) | info.stx_dev_minor,
            .inode = info.stx_ino,
            .mount = (info.stx_mask & STATX_MNT_ID) != 0 ? info.stx_mnt_id : 0,
            .links = info.stx_nlink};
    return 0;
  }

  std::string path_;
  File file_, root_;
  int glances_ = 0;              // so many more, before
  std::int64_t look_at_ns_ = 0;  // then, without a look at the name
};

// Refuses filesystems whose memory or locks are not one coherence domain.
inline absl::Status RefuseNetworkFilesystem(int fd, const std::string& path) {
  struct statfs info {};
  if (sys::fstatfs(fd, &info) != 0) return ErrnoStatus(errno, path);
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case 0xff534d42u:  // CIFS
    case 0xfe534d42u:  // SMB2
    case CODA_SUPER_MAGIC:
    case AFS_SUPER_MAGIC:
    case V9FS_MAGIC:
    case 0x00c36400u:  // Ceph
    case 0x65735546u:  // FUSE
      return absl::FailedPreconditionError(
          absl::StrCat(path,
                       ": Epoch needs a local filesystem (one machine, one coherence "
                       "domain); this one is a network or user-space filesystem"));
    default:
      return absl::OkStatus();
  }
}

// An id that no other has.
inline absl::StatusOr<Id> RandomId() {
  Id id{};
  if (sys::getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size())) return id;
  const int error = errno;
  // A filter that does not know the call lets the file be read.
  const Fd fd(sys::open("/dev/urandom", O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.ok() && sys::read(fd.get(), id.data(), id.size()) == static_cast<ssize_t>(id.size())) {
    return id;
  }
  return ErrnoStatus(error, "the kernel gives no random bytes");
}

inline std::string HexOf(const Id& id) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (std::uint8_t byte : id) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

// Whether the directory holds files of that journal, by their names ("epoch-<8 digits>-...").
inline bool HoldsJournal(const std::string& directory, const Id& journal) {
  const Listing dir(sys::opendir(directory.c_str()));
  if (dir == nullptr) return false;
  const std::string prefix = absl::StrCat("epoch-", HexOf(journal).substr(0, 8), "-");
  bool found = false;
  while (const dirent* entry = sys::readdir(dir.get())) {
    found = found || std::string_view(entry->d_name).substr(0, prefix.size()) == prefix;
  }
  return found;
}

inline std::string ReadSmallFile(const char* path) {
  Fd fd(sys::open(path, O_RDONLY | O_CLOEXEC));
  std::string text(4096, '\0');
  const ssize_t got = fd.ok() ? sys::read(fd.get(), text.data(), text.size()) : 0;
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

// This boot's id, as this process is told; all zero where /proc does not tell.
inline Id BootId() {
  Id id{};
  std::size_t nibble = 0;
  for (char c : ReadSmallFile("/proc/sys/kernel/random/boot_id")) {
    int value = -1;
    if (c >= '0' && c <= '9') value = c - '0';
    if (c >= 'a' && c <= 'f') value = c - 'a' + 10;
    if (value < 0 || nibble >= 32) continue;
    id[nibble / 2] = static_cast<std::uint8_t>((id[nibble / 2] << 4) | value);
    ++nibble;
  }
  return id;
}

// What /proc says of a process. The start, in clock ticks since boot, is 0 if it says nothing. With
// the pid it names a process for good: pids are reused, the pair is not.
struct ProcessStat {
  char state = '?';  // as ps shows it
  std::uint64_t start_time_ticks = 0;
};
// Of process `pid`; 0: this one.
inline ProcessStat ReadProcessStat(std::uint32_t pid = 0) {
  const std::string path =
      pid == 0 ? std::string("/proc/self/stat") : absl::StrCat("/proc/", pid, "/stat");
  const std::string text = ReadSmallFile(path.c_str());
  ProcessStat stat;
  std::size_t at = text.rfind(')');  // the command name may contain anything
  if (at != std::string::npos && at + 2 < text.size()) stat.state = text[at + 2];
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at != std::string::npos) {
    stat.start_time_ticks = std::strtoull(text.c_str() + at, nullptr, 10);
  }
  return stat;
}
inline std::uint64_t StartTimeTicks(std::uint32_t pid = 0) {
  return ReadProcessStat(pid).start_time_ticks;
}

inline std::uint64_t PidNamespace() {
  struct stat info {};
  return sys::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_FILES_H_
