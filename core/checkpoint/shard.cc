#include "core/checkpoint/shard.h"

#include <dirent.h>
#include <fcntl.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/format.h"
#include "core/journal/disk.h"
#include "epoch/detail/blame.h"
#include "epoch/detail/check.h"
#include "epoch/detail/seam.h"

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

absl::Status Sync(int fd, const std::string& path) {
  const int fault = EPOCH_FAULT("checkpoint.sync");
  const int error = fault != 0 ? fault : journal::SyncData(fd);
  if (error == 0) return absl::OkStatus();
  // The kernel may have dropped what it could not write; a second sync would succeed all the same.
  return absl::InternalError(absl::StrCat(path, ": can not be made durable: ", std::strerror(error),
                                          "; write the shard anew, to a new file"));
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
  if (!inner.ok()) return inner.status();
  struct stat info {};
  absl::StatusOr<Fd> fd = OpenShard(inner->get(), shard.name, path, info);
  if (absl::IsNotFound(fd.status())) return missing();
  if (absl::IsInvalidArgument(fd.status())) return absl::DataLossError(fd.status().message());
  if (!fd.ok()) return fd.status();
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
  std::set<std::string> folders;
  for (std::uint32_t rank = 0; rank < checkpoint.world; ++rank) folders.insert(RankFolder(rank));
  absl::StatusOr<std::vector<std::string>> names = NamesIn(folder, checkpoint.directory);
  if (!names.ok()) return {names.status()};
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(checkpoint.directory, "/", name);
    if (name == kRanksFile) continue;
    if (!folders.contains(name)) {
      stranger(path);
      continue;
    }
    const absl::StatusOr<Fd> inner = OpenFolder(folder, name, path);
    if (!inner.ok()) {
      problems.push_back(absl::DataLossError(inner.status().message()));
      continue;
    }
    absl::StatusOr<std::vector<std::string>> files = NamesIn(inner->get(), path);
    if (!files.ok()) return {files.status()};
    for (const std::string& file : *files) {
      const bool known =
          std::any_of(checkpoint.shards.begin(), checkpoint.shards.end(),
                      [&](const Shard& s) { return s.name == file && RankFolder(s.rank) == name; });
      if (!known) stranger(absl::StrCat(path, "/", file));
    }
  }
  return problems;
}

}  // namespace

Fingerprint FingerprintOf(const struct stat& info) {
  return {info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size), Nanos(info.st_mtim),
          Nanos(info.st_ctim)};
}

absl::StatusOr<Fd> OpenFolder(int at, const std::string& name, const std::string& path) {
  Fd fd(sys::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.ok()) return fd;
  if (errno == ENOTDIR || errno == ELOOP) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no folder"));
  }
  return ErrnoStatus(errno, absl::StrCat("can not open ", path));
}

absl::StatusOr<Fd> OpenShard(int folder, const std::string& name, const std::string& path,
                             struct stat& info) {
  Fd fd(sys::openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok() && errno == ELOOP) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a symbolic link: a shard must be a file in the folder itself"));
  }
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("can not open ", path));
  if (sys::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no regular file"));
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
      return absl::InternalError(absl::StrCat(path, ": read error at offset ", measured.bytes, ": ",
                                              std::strerror(error)));
    }
    if (got == 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(got));
    measured.bytes += static_cast<std::uint64_t>(got);
  }
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state.get()));
  static_assert(sizeof canonical.digest == sizeof measured.digest);
  std::memcpy(measured.digest.data(), canonical.digest, sizeof canonical.digest);
  return measured;
}

absl::StatusOr<ReadyShard> MakeReady(int folder, const std::string& name, const std::string& path) {
  struct stat before {};
  absl::StatusOr<Fd> fd = OpenShard(folder, name, path, before);
  if (!fd.ok()) return fd.status();
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
  if (!synced.ok()) return synced;
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

std::vector<absl::Status> FindProblems(const Checkpoint& checkpoint, bool first_only) {
  absl::StatusOr<Fd> folder = OpenFolder(AT_FDCWD, checkpoint.directory, checkpoint.directory);
  if (absl::IsNotFound(folder.status())) {
    return {absl::DataLossError(absl::StrCat(checkpoint.directory,
                                             " is missing, and was not pruned; the manifest of "
                                             "step ",
                                             checkpoint.step, " names it"))};
  }
  if (absl::IsInvalidArgument(folder.status())) {
    return {absl::DataLossError(folder.status().message())};
  }
  if (!folder.ok()) return {folder.status()};
  std::vector<absl::Status> problems = FindStrangers(checkpoint, folder->get());
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
