#include "core/journal/segment/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/files/filesystem.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

using detail::ErrnoStatus;
using detail::Fd;

namespace {

constexpr std::size_t kPrefixLength = 15;  // "epoch-" 8 digits "-"
constexpr std::size_t kFileNameLength = 31;

std::optional<std::uint64_t> NumberInName(const std::string& name) {
  if (name.size() != kFileNameLength || name.rfind("epoch-", 0) != 0 ||
      name[kPrefixLength - 1] != '-' || name.substr(kPrefixLength + 8) != ".segment") {
    return std::nullopt;
  }
  std::uint64_t number = 0;
  const std::string digits = name.substr(kPrefixLength, 8);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
      !absl::SimpleAtoi(digits, &number)) {
    return std::nullopt;
  }
  return number;
}

// One pass. `retired`: a file disappeared meanwhile, so a newer one may have been missed.
absl::StatusOr<std::vector<SegmentFile>> ListOnce(int at, const std::string& directory,
                                                  bool& retired) {
  const detail::Listing dir =
      at == AT_FDCWD ? detail::Listing(sys::opendir(directory.c_str())) : detail::ListingOf(at);
  if (dir == nullptr) return ErrnoStatus(errno, absl::StrCat("cannot read journal ", directory));
  std::vector<SegmentFile> files;
  std::string prefix;
  for (;;) {
    errno = 0;
    const dirent* entry = sys::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", directory));
      break;
    }
    const std::string name = entry->d_name;
    const std::optional<std::uint64_t> number = NumberInName(name);
    if (!number.has_value()) continue;
    if (prefix.empty()) prefix = name.substr(0, kPrefixLength);
    if (name.substr(0, kPrefixLength) != prefix) {
      return absl::DataLossError(absl::StrCat(directory, " holds segments of two journals (",
                                              prefix, "... and ", name, "): separate them first"));
    }
    const std::string path = absl::StrCat(directory, "/", name);
    struct stat info {};
    if (sys::fstatat(sys::dirfd(dir.get()), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) {
        retired = true;
        continue;
      }
      // Not to be passed over: it may be the newest.
      return ErrnoStatus(errno, path);
    }
    if (!S_ISREG(info.st_mode)) {
      return absl::DataLossError(absl::StrCat(path, " is not a regular file: remove it"));
    }
    files.push_back({*number, path, static_cast<std::uint64_t>(info.st_size)});
  }
  std::sort(files.begin(), files.end(),
            [](const SegmentFile& a, const SegmentFile& b) { return a.number < b.number; });
  return files;
}

}  // namespace

std::string SegmentPath(const std::string& directory, const Id& journal, std::uint64_t number) {
  return absl::StrCat(directory, "/epoch-", detail::HexOf(journal).substr(0, 8), "-",
                      absl::Dec(number, absl::kZeroPad8), ".segment");
}

FileId FileId::Of(int fd) {
  struct stat info {};
  return sys::fstat(fd, &info) == 0 ? FileId{info.st_dev, info.st_ino} : FileId{};
}

FileId FileId::At(const std::string& path) {
  struct stat info {};
  return sys::stat(path.c_str(), &info) == 0 ? FileId{info.st_dev, info.st_ino} : FileId{};
}

FileId FileId::In(int directory, const std::string& name) {
  struct stat info {};
  const int found = sys::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW);
  return found == 0 ? FileId{info.st_dev, info.st_ino} : FileId{};
}

bool SameFile(int fd, const std::string& path) {
  const FileId open = FileId::Of(fd);
  return open != FileId{} && open == FileId::At(path);
}

absl::StatusOr<std::vector<SegmentFile>> ListSegments(const std::string& directory) {
  return ListSegmentsIn(AT_FDCWD, directory);
}

absl::StatusOr<std::vector<SegmentFile>> ListSegmentsIn(int at, const std::string& directory) {
  constexpr int kMostPasses = 1000;  // each one failed means that somebody rolled
  for (int pass = 1;; ++pass) {
    bool retired = false;
    absl::StatusOr<std::vector<SegmentFile>> files = ListOnce(at, directory, retired);
    if (!files.ok() || !retired || pass == kMostPasses) return files;
  }
}

absl::StatusOr<SegmentHeader> ReadSegmentHeader(int fd, const std::string& path) {
  struct stat info {};
  if (sys::fstat(fd, &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::DataLossError(absl::StrCat(path, " is not a journal segment but a special file"));
  }
  const AlignedBuffer block(kBlockBytes);
  if (absl::Status s = ReadExactly(fd, block.data(), kBlockBytes, 0, path); !s.ok()) return s;
  SegmentHeader h;
  std::memcpy(&h, block.data(), sizeof h);
  if (h.magic != kSegmentMagic) {
    return absl::DataLossError(absl::StrCat(path,
                                            " is not a journal segment, or its header is "
                                            "destroyed (offset 0)"));
  }
  if (h.format_major < kOldestFormatMajor || h.format_major > kFormatMajor) {
    return absl::UnimplementedError(absl::StrCat(path, ": journal format ", h.format_major,
                                                 ", this build speaks ", kOldestFormatMajor, " to ",
                                                 kFormatMajor));
  }
  if (!BlockIsSound(h.journal, h.segment, 0, block.data())) {
    return absl::DataLossError(absl::StrCat(path, ": segment header is damaged (offset 0)"));
  }
  // A copy under another number would pass for an older or newer state.
  const std::string name = path.substr(path.rfind('/') + 1);
  if (NumberInName(name).has_value() &&
      absl::StrCat("/", name) != SegmentPath("", h.journal, h.segment)) {
    return absl::DataLossError(absl::StrCat(path, ": this file is segment ", h.segment,
                                            " of journal ", detail::HexOf(h.journal).substr(0, 8),
                                            ", not what its name says"));
  }
  const std::uint64_t blocks = static_cast<std::uint64_t>(info.st_size) / kBlockBytes;
  // The length first: no sum with it may wrap around.
  if (h.block_bytes != kBlockBytes || h.capacity_blocks > blocks ||
      h.base_length_bytes > h.capacity_blocks * kContentBytes ||
      h.base_length_bytes > h.state_bytes || h.base_epoch > kMaxEpoch || h.segment == 0 ||
      h.segment > kMaxSegment || 1 + BlocksFor(h.base_length_bytes) > h.capacity_blocks ||
      (h.history != History::kAll && h.history != History::kLatest)) {
    return absl::DataLossError(absl::StrCat(path, ": segment of ", info.st_size,
                                            " bytes is truncated or contradicts its header (",
                                            h.capacity_blocks, " blocks)"));
  }
  return h;
}

absl::Status WriteBeginning(const OpenSegment& segment, const SegmentHeader& header,
                            std::span<const std::byte> base) {
  const AlignedBuffer head((1 + BlocksFor(base.size())) * kBlockBytes);
  if (head.data() == nullptr) {
    return absl::ResourceExhaustedError("no memory for a journal segment");
  }
  // Others may write the same beginning to the same file (a spare): the same bytes.
  const absl::StatusOr<detail::FileIdentity> file =
      detail::IdentityOf(segment.fd.get(), segment.path);
  if (!file.ok()) return file.status();
  SegmentHeader own = header;
  own.file = *file;
  BlockWriter header_writer(head.data(), header.journal, header.segment, 0);
  header_writer.Append(&own, sizeof own);
  header_writer.Finish();
  BlockWriter base_writer(head.data() + kBlockBytes, header.journal, header.segment, 1);
  base_writer.Append(base.data(), base.size());
  base_writer.Finish();
  const std::size_t bytes = (1 + BlocksFor(base.size())) * kBlockBytes;
  const int fault = EPOCH_FAULT("journal.prepare");
  const int error = fault != 0 ? fault : WriteDurably(segment.fd.get(), head.data(), bytes, 0);
  return error == 0 ? absl::OkStatus()
                    : ErrnoStatus(error, absl::StrCat("cannot write ", segment.path));
}

absl::Status WriteAnew(const OpenSegment& segment, const AlignedBuffer& bytes,
                       std::uint64_t offset) {
  const int error = WriteDurably(segment.fd.get(), bytes.data(), bytes.size(), offset);
  if (error == 0) return absl::OkStatus();
  return ErrnoStatus(
      error, absl::StrCat("not restored, as what ", segment.path, " holds cannot be made durable"));
}

absl::Status LockShared(const OpenSegment& segment) {
  const int e = seam::SetByteLock(segment.fd.get(), seam::ByteLock::kShared, 0);
  return e == 0 ? absl::OkStatus() : ErrnoStatus(e, absl::StrCat("cannot lock ", segment.path));
}

absl::StatusOr<OpenSegment> MakeSegment(const std::string& directory, const detail::Access& access,
                                        const SegmentHeader& header,
                                        std::span<const std::byte> base) {
  OpenSegment segment;
  segment.number = header.segment;
  segment.path = SegmentPath(directory, header.journal, header.segment);
  absl::StatusOr<Fd> fd = OpenUnnamedDirect(directory, access, segment.direct);
  if (!fd.ok()) return fd.status();
  segment.fd = *std::move(fd);
  if (absl::Status s = CheckFilesystem(segment.fd.get(), directory); !s.ok()) return s;
  const int file = segment.fd.get();
  int error = Reserve(file, header.capacity_blocks * kBlockBytes, "journal.allocate");
  if (error != 0) {
    return ErrnoStatus(error, absl::StrCat("no room for journal segment ", segment.path, " (",
                                           header.capacity_blocks * kBlockBytes, " bytes)"));
  }
  const AlignedBuffer zeros(std::size_t{1} << 20);
  if (zeros.data() == nullptr) {
    return absl::ResourceExhaustedError("no memory for a journal segment");
  }
  // Written zeros, not holes: commits into them need no metadata, and what a lost write leaves
  // behind is known.
  const std::uint64_t end = header.capacity_blocks * kBlockBytes;
  for (std::uint64_t at = (1 + BlocksFor(base.size())) * kBlockBytes; at < end;) {
    const std::size_t part = std::min<std::uint64_t>(zeros.size(), end - at);
    if (absl::Status s = WriteFully(file, zeros.data(), part, at, segment.path); !s.ok()) return s;
    at += part;
  }
  if (absl::Status s = WriteBeginning(segment, header, base); !s.ok()) return s;
  if (error = SyncAll(file); error != 0) {
    return ErrnoStatus(error, absl::StrCat("cannot sync ", segment.path));
  }
  EPOCH_POINT("segment.synced");
  // Before it has a name: nobody can restore from it until this process lets go of it.
  if (absl::Status s = LockShared(segment); !s.ok()) return s;
  return segment;
}

absl::Status SyncDirectory(const std::string& directory) {
  const Fd fd(sys::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Without its errno: whatever is in the way of opening it, nothing was synced that failed.
  if (!fd.ok()) {
    return detail::StatusFor(errno,
                             absl::StrCat("cannot open ", directory, ": ", std::strerror(errno)));
  }
  const int error = SyncAll(fd.get());
  if (error == 0) return absl::OkStatus();
  return ErrnoStatus(error, absl::StrCat("cannot sync ", directory));
}

absl::StatusOr<Fd> OpenDirectoryOf(const OpenSegment& segment) {
  const std::string directory = detail::ParentOf(segment.path);
  Fd fd(sys::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", directory));
  const FileId wanted = FileId::Of(segment.fd.get());
  if (wanted == FileId{} || wanted != FileId::In(fd.get(), detail::NameIn(segment.path))) {
    return absl::FailedPreconditionError(absl::StrCat(
        segment.path, " is not there any more: another journal may lie in ", directory));
  }
  return fd;
}

absl::Status NameSegment(const OpenSegment& segment) {
  EPOCH_POINT("segment.before_link");
  const absl::Status named = detail::LinkUnnamed(segment.fd.get(), segment.path);
  if (named.ok()) EPOCH_POINT("segment.linked");
  return named;
}

absl::Status PublishSegment(const std::string& directory, const OpenSegment& segment) {
  if (absl::Status s = NameSegment(segment); !s.ok()) return s;
  const absl::Status synced = SyncDirectory(directory);
  // Whatever the error: never to be taken for one that says that nothing was done.
  if (synced.ok()) return synced;
  return detail::HalfDone(absl::InternalError(std::string(synced.message())));
}

absl::StatusOr<Standing> StandingOf(const std::string& directory, const OpenSegment& segment) {
  const absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
  if (!files.ok()) return files.status();
  const bool newest = !files->empty() && files->back().number == segment.number &&
                      SameFile(segment.fd.get(), segment.path);
  return newest ? Standing::kNewest : Standing::kLeftBehind;
}

bool IsNewest(const std::string& directory, const OpenSegment& segment) {
  const absl::StatusOr<Standing> standing = StandingOf(directory, segment);
  return standing.ok() && *standing == Standing::kNewest;
}

absl::Status CheckOwners(const std::string& directory, int fd, const std::string& path,
                         bool trusted) {
  const auto check = [trusted](int at, const char* name, int flags, const std::string& shown) {
    struct statx info {};
    if (sys::statx(at, name, flags, STATX_UID, &info) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot look at ", shown));
    }
    return detail::CheckOwner(info.stx_uid, shown, trusted);
  };
  if (trusted) return absl::OkStatus();
  if (absl::Status s = check(AT_FDCWD, directory.c_str(), 0, directory); !s.ok()) return s;
  return check(fd, "", AT_EMPTY_PATH, path);
}

std::string NameHolders(int fd) {
  struct stat wanted {};
  if (sys::fstat(fd, &wanted) != 0) return "unknown processes";
  std::string names;
  const detail::Listing proc(sys::opendir("/proc"));
  while (const dirent* entry = proc != nullptr ? sys::readdir(proc.get()) : nullptr) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    const std::string fds = absl::StrCat("/proc/", pid, "/fd");
    const detail::Listing open_files(sys::opendir(fds.c_str()));
    while (const dirent* file = open_files != nullptr ? sys::readdir(open_files.get()) : nullptr) {
      struct stat info {};
      if (pid == sys::getpid() && absl::StrCat(fd) == file->d_name) continue;  // the one that asks
      if (sys::stat(absl::StrCat(fds, "/", file->d_name).c_str(), &info) != 0 ||
          info.st_ino != wanted.st_ino || info.st_dev != wanted.st_dev) {
        continue;
      }
      std::string name = detail::ReadSmallFile(absl::StrCat("/proc/", pid, "/comm").c_str());
      while (!name.empty() && name.back() == '\n') name.pop_back();
      absl::StrAppend(&names, names.empty() ? "" : ", ", "pid ", pid, " (", name, ")");
      break;
    }
  }
  return names.empty() ? "a process that /proc does not show" : names;
}

}  // namespace epoch::journal
