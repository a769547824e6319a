#include "core/checkpoint/shard.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/format.h"
#include "core/files/disk.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::checkpoint {
namespace {

using detail::ErrnoStatus;
using detail::Fd;

// Large enough that calls do not count, small enough for the processor's cache. For a small file
// the first touch of a large buffer would cost more than the reads.
constexpr std::size_t kReadBytes = std::size_t{1} << 20;
constexpr std::size_t kSmallReadBytes = std::size_t{128} << 10;
constexpr off_t kSmallFileBytes = off_t{16} << 20;

std::int64_t Nanos(const timespec& t) { return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

// A sync's error. After a device's, what the kernel could not write it may have dropped, and a
// second sync would succeed all the same: Internal, and `what_then` says the way out.
absl::Status SyncStatus(int error, const std::string& path, const char* what_then) {
  if (error == 0) return absl::OkStatus();
  if (detail::BlameFor(error, detail::Attempt::kSync) != detail::Blame::kDevices) {
    return ErrnoStatus(error, absl::StrCat("cannot sync ", path));
  }
  return detail::WithErrno(absl::InternalError(absl::StrCat(path, ": cannot be made durable: ",
                                                            std::strerror(error), "; ", what_then)),
                           error);
}

constexpr char kWriteAnew[] = "write the shard anew, to a new file";

absl::Status Sync(int fd, const std::string& path) {
  const int fault = EPOCH_FAULT("checkpoint.sync");
  return SyncStatus(fault != 0 ? fault : journal::SyncData(fd), path, kWriteAnew);
}

// What a name leads to is no file or no folder: that is damage of a checkpoint which names one.
// Any other error says nothing of what is there; it is handed on as it is. One of the kernel's
// carries its errno, one of OpenFolder's or OpenShard's own does not.
absl::Status AsDamage(const absl::Status& status) {
  if (!absl::IsInvalidArgument(status) || detail::ErrnoOf(status) != 0) return status;
  return absl::DataLossError(status.message());
}

ShardDigest DigestOf(const XXH128_hash_t& hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  ShardDigest digest{};
  static_assert(sizeof canonical.digest == sizeof digest);
  std::memcpy(digest.data(), canonical.digest, sizeof canonical.digest);
  return digest;
}
ShardDigest DigestOf(std::string_view text) {
  return DigestOf(XXH3_128bits(text.data(), text.size()));
}

// The shards in a rank's list. DataLoss unless it is, byte for byte, the one that the manifest
// means.
absl::StatusOr<std::vector<Shard>> ReadList(const Checkpoint& checkpoint, int folder,
                                            const ShardList& list) {
  const std::string name = ListFile(list.rank);
  const std::string path = absl::StrCat(checkpoint.directory, "/", name);
  struct stat info {};
  const absl::StatusOr<Fd> fd = OpenShard(folder, name, path, info);
  if (absl::IsNotFound(fd.status())) {
    return absl::DataLossError(
        absl::StrCat(path, " is missing; the manifest of step ", checkpoint.step, " names it"));
  }
  if (!fd.ok()) return AsDamage(fd.status());
  const auto altered = [&] {
    return absl::DataLossError(
        absl::StrCat(path, " was altered or is of another checkpoint: it is not the list of ",
                     list.files, " files that the manifest of step ", checkpoint.step, " means"));
  };
  if (static_cast<std::uint64_t>(info.st_size) != list.list_bytes ||
      list.list_bytes > kMaxListBytes) {
    return altered();
  }
  std::string text(list.list_bytes, '\0');
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t got =
        sys::pread(fd->get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got < 0) {
      return ErrnoStatus(errno, absl::StrCat(path, ": read error"));
    }
    if (got == 0) return altered();
    done += static_cast<std::size_t>(got);
  }
  if (DigestOf(text) != list.digest) return altered();
  absl::StatusOr<std::vector<Shard>> shards = ParseList(text, list.rank);
  if (!shards.ok()) {
    return absl::DataLossError(absl::StrCat(path, ": ", std::string(shards.status().message())));
  }
  std::uint64_t bytes = 0;
  for (const Shard& shard : *shards) bytes += shard.bytes;
  if (shards->size() != list.files || bytes != list.bytes) return altered();
  return shards;
}

absl::Status CheckShard(const Checkpoint& checkpoint, int folder, const Shard& shard) {
  const std::string path = checkpoint.PathOf(shard);
  const std::string rank = RankFolder(shard.rank);
  const std::string where = absl::StrCat(checkpoint.directory, "/", rank);
  absl::StatusOr<Fd> inner = OpenFolder(folder, rank, where);
  const auto missing = [&] {
    return absl::DataLossError(
        absl::StrCat(path, " is missing; the manifest of step ", checkpoint.step, " names it"));
  };
  if (absl::IsNotFound(inner.status())) return missing();
  if (!inner.ok()) return AsDamage(inner.status());
  struct stat info {};
  absl::StatusOr<Fd> fd = OpenShard(inner->get(), shard.name, path, info);
  if (absl::IsNotFound(fd.status())) return missing();
  if (!fd.ok()) return AsDamage(fd.status());
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size != shard.bytes) {
    return absl::DataLossError(absl::StrCat(
        path, " has ", size, " bytes, the manifest says ", shard.bytes, ": it was ",
        size < shard.bytes ? "truncated" : "extended", " or is of another checkpoint"));
  }
  const absl::StatusOr<Measured> measured = Measure(fd->get(), path);
  if (!measured.ok()) return measured.status();
  if (measured->bytes != shard.bytes || measured->digest != shard.digest) {
    return absl::DataLossError(absl::StrCat(path, " was altered or is of another checkpoint: XXH3 ",
                                            HexOf(measured->digest), ", the manifest says ",
                                            HexOf(shard.digest)));
  }
  return absl::OkStatus();
}

// Names in the folders that nobody expects there.
std::vector<absl::Status> FindStrangers(const Checkpoint& checkpoint, int folder) {
  std::vector<absl::Status> problems;
  const auto stranger = [&](const std::string& path) {
    problems.push_back(absl::DataLossError(
        absl::StrCat(path, " is not named by the manifest of step ", checkpoint.step)));
  };
  std::map<std::string, std::vector<std::string_view>> folders;
  std::set<std::string> files{std::string(kRanksFile)};
  for (std::uint32_t rank = 0; rank < checkpoint.world; ++rank) folders[RankFolder(rank)];
  for (const Shard& shard : checkpoint.shards) {
    folders[RankFolder(shard.rank)].push_back(shard.name);
  }
  // Also of a rank that the manifest has no list of: an earlier try at the same attempt may have
  // left one.
  for (std::uint32_t rank = 0; rank < checkpoint.world; ++rank) {
    files.insert(ListFile(rank));
    files.insert(NewListFile(rank));
  }
  absl::StatusOr<std::vector<std::string>> names = NamesIn(folder, checkpoint.directory);
  if (!names.ok()) return {names.status()};
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(checkpoint.directory, "/", name);
    if (files.contains(name)) continue;
    const auto found = folders.find(name);
    if (found == folders.end()) {
      stranger(path);
      continue;
    }
    const absl::StatusOr<Fd> inner = OpenFolder(folder, name, path);
    if (absl::IsNotFound(inner.status())) continue;  // since it was listed; its shards are missed
    absl::Status looked = inner.ok()
                              ? FindUnknown(inner->get(), path, std::move(found->second), stranger)
                              : inner.status();
    if (!looked.ok()) problems.push_back(AsDamage(looked));
  }
  return problems;
}

// Another user may change what this one has looked at, or put something else in its place. Root's
// is trusted; so are those whom `mode` lets write, and a group that is this process's own.
absl::Status RefuseForeign(const struct stat& info, const std::string& path, unsigned mode) {
  if (info.st_uid != geteuid() && info.st_uid != 0) {
    return absl::PermissionDeniedError(absl::StrCat(
        path, " belongs to another user (", info.st_uid,
        "), who may change it at any time: ", "write it as the user who makes the checkpoint"));
  }
  unsigned others = info.st_mode & 0022 & ~mode;
  if (info.st_gid == getegid()) others &= ~0020u;
  if (others == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(path, " may be written by other users: chmod ",
                                                  (others & 0002) != 0 ? "o" : "g",
                                                  "-w, or join with a mode that lets them"));
}

// `folder` is a rank's own; what lies in it is checked, and each folder on the way.
absl::Status RefuseForeignOnTheWay(int folder, std::string_view name, const std::string& path,
                                   unsigned mode) {
  Fd inner;
  int at = folder;
  for (std::size_t from = 0;;) {
    struct stat info {};
    const std::string so_far = path.substr(0, path.size() - name.size() + from);
    if (sys::fstat(at, &info) != 0) return ErrnoStatus(errno, so_far);
    if (absl::Status s = RefuseForeign(info, so_far, mode); !s.ok()) return s;
    const std::size_t slash = name.find('/', from);
    if (slash == std::string_view::npos) return absl::OkStatus();
    absl::StatusOr<Fd> next = OpenFolder(at, std::string(name.substr(from, slash - from)),
                                         path.substr(0, path.size() - name.size() + slash));
    if (!next.ok()) return next.status();
    inner = *std::move(next);
    at = inner.get();
    from = slash + 1;
  }
}

}  // namespace

Fingerprint FingerprintOf(const struct stat& info) {
  return {info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size), Nanos(info.st_mtim),
          Nanos(info.st_ctim)};
}

absl::StatusOr<Fd> OpenFolder(int at, const std::string& name, const std::string& path) {
  const int fault = EPOCH_FAULT("checkpoint.open_folder");
  Fd fd(fault != 0
            ? -1
            : sys::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.ok()) return fd;
  const int error = fault != 0 ? fault : errno;
  if (error == ENOTDIR || error == ELOOP) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a folder"));
  }
  return ErrnoStatus(error, absl::StrCat("cannot open ", path));
}

absl::StatusOr<Fd> OpenFolderOf(int folder, std::string_view name, const std::string& path) {
  absl::StatusOr<Fd> inner = OpenFolder(folder, ".", path);
  for (std::size_t from = 0, slash; inner.ok(); from = slash + 1) {
    slash = name.find('/', from);
    if (slash == std::string_view::npos) break;
    inner = OpenFolder(inner->get(), std::string(name.substr(from, slash - from)),
                       path.substr(0, path.size() - name.size() + slash));
  }
  return inner;
}

absl::StatusOr<Fd> OpenShard(int folder, const std::string& name, const std::string& path,
                             struct stat& info) {
  const std::size_t slash = name.rfind('/');
  Fd inner;
  if (slash != std::string::npos) {
    absl::StatusOr<Fd> opened = OpenFolderOf(folder, name, path);
    if (!opened.ok()) return opened.status();
    inner = *std::move(opened);
  }
  const std::string file = slash == std::string::npos ? name : name.substr(slash + 1);
  Fd fd(sys::openat(inner.ok() ? inner.get() : folder, file.c_str(),
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok() && errno == ELOOP) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a symbolic link: a shard must be a file in the folder itself"));
  }
  if (!fd.ok() && errno == ENXIO) {  // a socket, or a device that is not there
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  if (sys::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return fd;
}

absl::StatusOr<Measured> Measure(int fd, const std::string& path) {
  struct stat info {};
  if (sys::fstat(fd, &info) != 0) return ErrnoStatus(errno, path);
  const journal::AlignedBuffer buffer(info.st_size < kSmallFileBytes ? kSmallReadBytes
                                                                     : kReadBytes);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (buffer.data() == nullptr || state == nullptr) {
    return absl::ResourceExhaustedError("no memory to read a shard");
  }
  XXH3_128bits_reset(state.get());
  Measured measured;
  for (detail::Retries retries;;) {
    const int fault = EPOCH_FAULT("checkpoint.read");
    const ssize_t got = fault != 0 ? -1
                                   : sys::pread(fd, buffer.data(), buffer.size(),
                                                static_cast<off_t>(measured.bytes));
    if (got < 0) {
      const int error = fault != 0 ? fault : errno;
      if (retries.Again(error)) continue;
      return ErrnoStatus(error, absl::StrCat(path, ": read error at offset ", measured.bytes));
    }
    if (got == 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(got));
    measured.bytes += static_cast<std::uint64_t>(got);
  }
  measured.digest = DigestOf(XXH3_128bits_digest(state.get()));
  return measured;
}

absl::StatusOr<ReadyShard> MakeReady(int folder, const std::string& name, const std::string& path,
                                     unsigned mode, FailedSyncs* failed) {
  struct stat before {};
  absl::StatusOr<Fd> fd = OpenShard(folder, name, path, before);
  if (!fd.ok()) return fd.status();
  const std::pair<dev_t, ino_t> inode(before.st_dev, before.st_ino);
  if (failed != nullptr && failed->contains(inode)) {
    return absl::InternalError(
        absl::StrCat(path, ": its sync has failed before, and what was to be written then may be ",
                     "lost, though a second sync would succeed; ", kWriteAnew));
  }
  if (mode != 0777) {
    // Whom the rank's own folder keeps out, reaches nothing in it.
    struct stat own {};
    if (sys::fstat(folder, &own) != 0) return ErrnoStatus(errno, path);
    const unsigned allowed =
        mode | ((own.st_mode & 0010) == 0 ? 0020u : 0u) | ((own.st_mode & 0001) == 0 ? 0002u : 0u);
    absl::Status foreign = RefuseForeignOnTheWay(folder, name, path, allowed);
    if (foreign.ok()) foreign = RefuseForeign(before, path, allowed);
    if (!foreign.ok()) return foreign;
  }
  EPOCH_POINT("checkpoint.before_sync");
  absl::Status synced = absl::UnknownError("not synced");
  seam::Thread syncer;
  try {
    syncer = seam::Thread([&] { synced = Sync(fd->get(), path); });
  } catch (const std::system_error&) {  // no more threads: one after the other
    synced = Sync(fd->get(), path);
  }
  const absl::StatusOr<Measured> measured = Measure(fd->get(), path);
  if (syncer.joinable()) syncer.join();
  if (!synced.ok()) {
    // Kept open, so that no other file gets its number.
    if (failed != nullptr && detail::IsDevices(synced, detail::Attempt::kSync)) {
      failed->emplace(inode, *std::move(fd));
    }
    return synced;
  }
  if (!measured.ok()) return measured.status();
  struct stat after {};
  if (sys::fstat(fd->get(), &after) != 0) return ErrnoStatus(errno, path);
  ReadyShard ready;
  ready.fingerprint = FingerprintOf(after);
  if (ready.fingerprint != FingerprintOf(before) || measured->bytes != ready.fingerprint.bytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " changed while it was made ready: end all writing to it first, then call Ready"));
  }
  ready.shard.name = name;
  ready.shard.bytes = measured->bytes;
  ready.shard.digest = measured->digest;
  return ready;
}

absl::Status SyncFolder(int fd, const std::string& path) {
  const int fault = EPOCH_FAULT("checkpoint.sync_folder");
  return SyncStatus(fault != 0 ? fault : journal::SyncAll(fd), path, "begin the step again");
}

absl::Status SyncFoldersTo(int folder, std::string_view name, const std::string& path) {
  for (std::size_t slash = name.rfind('/'); slash != std::string_view::npos;
       slash = slash == 0 ? std::string_view::npos : name.rfind('/', slash - 1)) {
    // Of the file in it; and then of the folder in its own.
    const std::string where = path.substr(0, path.size() - name.size() + slash);
    const absl::StatusOr<Fd> inner =
        OpenFolderOf(folder, name.substr(0, slash + 1), absl::StrCat(where, "/"));
    if (!inner.ok()) return inner.status();
    if (absl::Status s = SyncFolder(inner->get(), where); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FilesIn(int folder, const std::string& path) {
  std::vector<std::string> files;
  // Folders that are still to be looked at; by name, so that no more than one is open.
  std::vector<std::string> waiting{""};
  while (!waiting.empty()) {
    const std::string inside = std::move(waiting.back());
    waiting.pop_back();
    const std::string where = absl::StrCat(path, inside.empty() ? "" : "/", inside);
    const absl::StatusOr<Fd> opened = OpenFolderOf(folder, inside, inside.empty() ? path : where);
    if (!opened.ok()) return opened.status();
    const absl::StatusOr<std::vector<std::string>> names = NamesIn(opened->get(), where);
    if (!names.ok()) return names.status();
    if (names->empty() && !inside.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(where,
                       " is an empty folder, which no list of files can name: remove it, or "
                       "put a file into it"));
    }
    for (const std::string& name : *names) {
      const std::string full = absl::StrCat(inside, name);
      if (absl::Status s = CheckShardName(full); !s.ok()) return s;
      if (files.size() + waiting.size() >= kMaxFiles) {
        return absl::ResourceExhaustedError(
            absl::StrCat(path, " holds more than ", kMaxFiles, " files: use fewer, larger ones"));
      }
      // Not followed, and not waited for.
      const Fd entry(
          sys::openat(opened->get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      struct stat info {};
      const int error = entry.ok() && sys::fstat(entry.get(), &info) == 0 ? 0 : errno;
      if (error == ELOOP || (error == 0 && !S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, "/", full, error == ELOOP ? " is a symbolic link" : " is not a regular file",
            ": a shard must be a file in the folder itself"));
      }
      if (error != 0) return ErrnoStatus(error, absl::StrCat("cannot open ", path, "/", full));
      if (S_ISDIR(info.st_mode)) {
        waiting.push_back(absl::StrCat(full, "/"));
      } else {
        files.push_back(full);
      }
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

absl::Status FindUnknown(int folder, const std::string& path, std::vector<std::string_view> known,
                         const std::function<void(const std::string&)>& report) {
  std::sort(known.begin(), known.end());
  // The folders on the way to them: each is looked at once, and no other.
  std::set<std::string_view> folders;
  for (const std::string_view name : known) {
    for (std::size_t slash = name.rfind('/'); slash != std::string_view::npos && slash != 0;
         slash = name.rfind('/', slash - 1)) {
      if (!folders.insert(name.substr(0, slash)).second) break;
    }
  }
  const auto look = [&](const std::string& inside) -> absl::Status {
    const std::string where = absl::StrCat(path, inside.empty() ? "" : "/", inside);
    const std::string as_folder = inside.empty() ? "" : absl::StrCat(inside, "/");
    const absl::StatusOr<Fd> opened =
        OpenFolderOf(folder, as_folder, inside.empty() ? path : absl::StrCat(where, "/"));
    if (absl::IsNotFound(opened.status())) return absl::OkStatus();  // its files are missed
    if (!opened.ok()) return opened.status();
    const absl::StatusOr<std::vector<std::string>> names = NamesIn(opened->get(), where);
    if (!names.ok()) return names.status();
    for (const std::string& name : *names) {
      const std::string full = absl::StrCat(as_folder, name);
      if (!std::binary_search(known.begin(), known.end(), std::string_view(full)) &&
          !folders.contains(full)) {
        report(absl::StrCat(path, "/", full));
      }
    }
    return absl::OkStatus();
  };
  if (absl::Status s = look(""); !s.ok()) return s;
  for (const std::string_view inside : folders) {
    if (absl::Status s = look(std::string(inside)); !s.ok()) return s;
  }
  return absl::OkStatus();
}

namespace {

// Makes the list durable, under its name, unless it is already.
absl::Status PlaceList(const std::string& directory, std::uint32_t rank, unsigned mode,
                       const std::string& text, const std::function<absl::Status()>& may_replace) {
  const absl::StatusOr<Fd> folder = OpenFolder(AT_FDCWD, directory, directory);
  if (!folder.ok()) return folder.status();
  const std::string name = ListFile(rank), path = absl::StrCat(directory, "/", name);
  bool replaces = false;
  {
    struct stat info {};
    const absl::StatusOr<Fd> there = OpenShard(folder->get(), name, path, info);
    // What is no file is in the way, and says so.
    if (!there.ok() && !absl::IsNotFound(there.status())) return there.status();
    if (there.ok()) {
      bool same = static_cast<std::size_t>(info.st_size) == text.size();
      if (same) {
        const absl::StatusOr<Measured> measured = Measure(there->get(), path);
        if (!measured.ok()) return measured.status();
        same = measured->bytes == text.size() && measured->digest == DigestOf(text);
      }
      if (same) {
        // Of an earlier call, which may have ended before it was durable. A manifest may name it by
        // now: it is left as it is.
        if (absl::Status s = Sync(there->get(), path); !s.ok()) return s;
        return SyncFolder(folder->get(), directory);
      }
      replaces = true;
    }
  }
  if (replaces) {
    if (absl::Status s = may_replace(); !s.ok()) return s;
  }
  const absl::StatusOr<Fd> fd = detail::OpenUnnamed(directory, {.mode = mode & 0777, .group = {}});
  if (!fd.ok()) return fd.status();
  if (absl::Status s = journal::WriteFully(
          fd->get(), reinterpret_cast<const std::byte*>(text.data()), text.size(), 0, path);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = Sync(fd->get(), path); !s.ok()) return s;
  EPOCH_POINT("checkpoint.list_written");
  if (!replaces) {
    if (absl::Status s = detail::LinkUnnamed(fd->get(), path); !s.ok()) return s;
  } else {
    // The name leads to the one list or to the other at every moment.
    const std::string made = NewListFile(rank);
    if (sys::unlinkat(folder->get(), made.c_str(), 0) != 0 && errno != ENOENT) {
      return ErrnoStatus(errno, absl::StrCat("cannot replace ", path));
    }
    absl::Status s = detail::LinkUnnamed(fd->get(), absl::StrCat(directory, "/", made));
    if (!s.ok()) return s;
    EPOCH_POINT("checkpoint.list_made");
    if (sys::renameat2(folder->get(), made.c_str(), folder->get(), name.c_str(), 0) != 0) {
      s = ErrnoStatus(errno, absl::StrCat("cannot replace ", path));
      sys::unlinkat(folder->get(), made.c_str(), 0);
      return s;
    }
  }
  EPOCH_POINT("checkpoint.list_named");
  return SyncFolder(folder->get(), directory);
}

}  // namespace

absl::StatusOr<ShardList> WriteList(const std::string& directory, std::uint32_t rank, unsigned mode,
                                    std::vector<Shard> shards,
                                    const std::function<absl::Status()>& may_replace) {
  // By name, whatever the order in which they became ready: the same shards are the same list.
  std::sort(shards.begin(), shards.end(),
            [](const Shard& a, const Shard& b) { return a.name < b.name; });
  const absl::StatusOr<std::string> text = ListText(shards);
  if (!text.ok()) return text.status();
  if (absl::Status s = PlaceList(directory, rank, mode, *text, may_replace); !s.ok()) return s;
  ShardList list;
  list.rank = rank;
  list.files = shards.size();
  for (const Shard& shard : shards) list.bytes += shard.bytes;
  list.list_bytes = text->size();
  list.digest = DigestOf(*text);
  return list;
}

void LoadLists(Checkpoint& checkpoint, std::vector<absl::Status>& problems) {
  if (checkpoint.lists.empty()) return;
  std::set<std::uint32_t> listed;
  for (const ShardList& list : checkpoint.lists) listed.insert(list.rank);
  std::erase_if(checkpoint.shards, [&](const Shard& s) { return listed.contains(s.rank); });
  const absl::StatusOr<Fd> folder =
      OpenFolder(AT_FDCWD, checkpoint.directory, checkpoint.directory);
  for (const ShardList& list : checkpoint.lists) {
    absl::StatusOr<std::vector<Shard>> shards =
        folder.ok() ? ReadList(checkpoint, folder->get(), list) : AsDamage(folder.status());
    if (!shards.ok()) {
      problems.push_back(shards.status());
      continue;
    }
    checkpoint.shards.insert(checkpoint.shards.end(), std::make_move_iterator(shards->begin()),
                             std::make_move_iterator(shards->end()));
  }
  std::stable_sort(checkpoint.shards.begin(), checkpoint.shards.end(),
                   [](const Shard& a, const Shard& b) { return a.rank < b.rank; });
}

std::vector<absl::Status> FindProblems(const Checkpoint& told, bool first_only,
                                       Checkpoint* loaded) {
  absl::StatusOr<Fd> folder = OpenFolder(AT_FDCWD, told.directory, told.directory);
  if (absl::IsNotFound(folder.status())) {
    return {absl::DataLossError(absl::StrCat(told.directory,
                                             " is missing, and was not pruned; the manifest of "
                                             "step ",
                                             told.step, " names it"))};
  }
  if (!folder.ok()) return {AsDamage(folder.status())};
  Checkpoint checkpoint = told;
  std::vector<absl::Status> problems;
  LoadLists(checkpoint, problems);
  if (first_only && !problems.empty()) return problems;
  if (loaded != nullptr) *loaded = checkpoint;
  // What stands in a list that cannot be read is no stranger.
  if (problems.empty()) problems = FindStrangers(checkpoint, folder->get());
  if (first_only && !problems.empty()) return problems;

  // Shards of gigabytes: as many at once as there are processors.
  std::vector<absl::Status> results(checkpoint.shards.size());
  std::atomic<std::size_t> next{0};
  std::atomic<bool> found{false};
  const auto work = [&] {
    for (;;) {
      const std::size_t i = next.fetch_add(1);
      if (i >= results.size() || (first_only && found.load())) return;
      results[i] = CheckShard(checkpoint, folder->get(), checkpoint.shards[i]);
      if (!results[i].ok()) found.store(true);
    }
  };
  const std::size_t helpers =
      std::min<std::size_t>(std::max(seam::Thread::hardware_concurrency(), 1u), results.size());
  std::vector<seam::Thread> threads;
  try {
    for (std::size_t i = 1; i < helpers; ++i) threads.emplace_back(work);
  } catch (const std::system_error&) {  // with fewer, then
  }
  work();
  for (seam::Thread& thread : threads) thread.join();
  for (const absl::Status& result : results) {
    if (!result.ok()) problems.push_back(result);
  }
  return problems;
}

}  // namespace epoch::checkpoint
