#include "core/journal/read/restore.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/journal/read/begun.h"
#include "core/journal/segment/retention.h"
#include "core/journal/segment/segment.h"
#include "core/journal/segment/spare.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/digest.h"

namespace epoch::journal {
namespace {

using detail::ErrnoStatus;
using detail::Fd;
using detail::JournalSeed;

// Holds the locks that keep others from restoring until the region is published.
struct Seed final : JournalSeed {
  absl::Status Publish() override { return publish(*this); }

  OpenSegment made;      // the new incarnation's first segment: shared lock
  OpenSegment replaced;  // the segment recovered from: exclusive lock; none at creation
  std::function<absl::Status(Seed&)> publish;
};

std::string AbsoluteFrom(const std::string& path) {
  char resolved[PATH_MAX];
  if (sys::realpath(path.c_str(), resolved) != nullptr) return resolved;
  // Not there yet: resolve the parent, keep the last name.
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  const std::string parent = detail::ParentOf(plain);
  if (sys::realpath(parent.c_str(), resolved) == nullptr) return plain;
  const auto slash = plain.rfind('/');
  const std::string last = slash == std::string::npos ? plain : plain.substr(slash + 1);
  return absl::StrCat(resolved, std::string(resolved) == "/" ? "" : "/", last);
}

// Whether there is a directory of that name. What is there and none is an error: before anything is
// written, since a name that is taken cannot be given.
absl::StatusOr<bool> DirectoryIsThere(const std::string& directory) {
  struct stat info {};
  if (sys::stat(directory.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return true;
    return absl::InvalidArgumentError(absl::StrCat(
        directory, " is ", detail::KindOfFile(info.st_mode), ", not a directory for a journal"));
  }
  const int error = errno;
  struct statx link {};
  const bool there =
      sys::statx(AT_FDCWD, directory.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &link) == 0;
  if (error == ENOENT && !there) return false;
  // Made by another between the two looks.
  if (error == ENOENT && !S_ISLNK(link.stx_mode)) {
    return sys::stat(directory.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  }
  if (error == ENOENT) {
    return absl::InvalidArgumentError(absl::StrCat(
        directory, " is a link to what is not there: make that directory, or remove the link"));
  }
  if (error == ELOOP) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, " is a link that leads to itself: remove it"));
  }
  if (error == ENOTDIR) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, " cannot be a directory: what it should lie in is not one"));
  }
  return ErrnoStatus(error, absl::StrCat("cannot look at journal ", directory));
}

absl::StatusOr<std::uint64_t> CapacityBlocks(const RegionOptions& options) {
  const std::uint64_t least = MinSegmentBlocks(options.state_bytes);
  if (options.segment_bytes == 0) {
    // Room for several batches behind the base, however large a state is.
    return std::max(kDefaultSegmentBytes / kBlockBytes,
                    least + MaxBatchBlocks(options.state_bytes));
  }
  const std::uint64_t blocks = options.segment_bytes / kBlockBytes;
  if (blocks < least) {
    return absl::InvalidArgumentError(absl::StrCat("segment_bytes ", options.segment_bytes,
                                                   " is too small: states of ", options.state_bytes,
                                                   " bytes need ", least * kBlockBytes));
  }
  return blocks;
}

absl::StatusOr<SegmentHeader> HeaderFor(const RegionOptions& options,
                                        std::uint64_t capacity_blocks) {
  const absl::StatusOr<Id> incarnation = detail::RandomId();
  if (!incarnation.ok()) return incarnation.status();
  SegmentHeader h{};
  h.magic = kSegmentMagic;
  h.format_major = kFormatMajor;
  h.format_minor = kFormatMinor;
  h.incarnation = *incarnation;
  h.block_bytes = kBlockBytes;
  h.capacity_blocks = capacity_blocks;
  h.state_bytes = options.state_bytes;
  h.participants = options.participants;
  h.versions = options.versions;
  return h;
}

void FillSeed(Seed& seed, const std::string& directory, const SegmentHeader& header) {
  seed.journal = header.journal;
  seed.incarnation = header.incarnation;
  seed.directory = directory;
  seed.history = header.history;
  seed.segment_bytes = header.capacity_blocks * kBlockBytes;
  seed.retain_segments = header.retain_segments;
  seed.retain_epochs = header.retain_epochs;
  seed.segment = header.segment;
  seed.end_block = 1 + BlocksFor(header.base_length_bytes);
  seed.epoch = header.base_epoch;
  seed.chain = header.base_chain;
  seed.token = header.base_token;
}

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
    if (!made.parent_.ok()) return ErrnoStatus(errno, what);
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
        return ErrnoStatus(error, what);
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
    const Fd parent = OpenParent(detail::ParentOf(final_path));
    if (parent.ok()) Sweep(parent.get(), PrefixFor(final_path));
  }

  absl::Status RenameTo(const std::string& final_path) {
    const std::string wanted = detail::NameIn(final_path);
    if (sys::renameat2(parent_.get(), name_.c_str(), parent_.get(), wanted.c_str(),
                       RENAME_NOREPLACE) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot create journal ", final_path));
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

  static Fd OpenParent(const std::string& parent) {
    return Fd(sys::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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
      const Fd folder(sys::openat(parent, name.c_str(), kToLookAt));
      struct stat info {};
      if (!folder.ok() || sys::fstat(folder.get(), &info) != 0 || !detail::IsOurs(info)) return;
      // With the lock: by now its maker may have given it its name, and gone; then it is a journal.
      if (sys::flock(folder.get(), LOCK_EX | LOCK_NB) == 0 && detail::IsNamed(parent, name, info)) {
        EPOCH_POINT("sweep.checked");
        Remove(parent, name, folder.get(), info);
      }
    });
  }

  Fd parent_, folder_;
  struct stat info_ {};
  std::string name_, path_;
};

// What stands under the region's name: nothing, or a file that may be replaced.
struct Occupant {
  bool there = false;
  dev_t device = 0;
  ino_t inode = 0;
};

// A region that cannot be used any more, and whose journal this is, may be replaced: poisoned, of
// an earlier boot, a copy, or superseded, as its successor's maker may have died before it took its
// name away. `newest` is the newest segment's header. AlreadyExists for anything else.
absl::StatusOr<Occupant> CheckReplaceable(const std::string& region_path,
                                          const SegmentHeader& newest,
                                          std::optional<Epoch> recovered, bool trusted) {
  // O_NONBLOCK: a FIFO there must not hang whoever holds the journal.
  const Fd fd(sys::open(region_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok() && errno == ENOENT) return Occupant{};
  const absl::Status exists = absl::AlreadyExistsError(absl::StrCat(
      "region ", region_path, " exists: open it, or remove it (epochctl rm) to restore anew"));
  struct stat info {};
  if (!fd.ok() || sys::fstat(fd.get(), &info) != 0) return exists;
  absl::StatusOr<detail::Superblock> super =
      detail::Mapping::ReadSuperblock(fd.get(), region_path, /*unusable_too=*/true, trusted);
  if (!super.ok() || super->journal != newest.journal) return exists;
  std::uint64_t word = 0;
  static_assert(offsetof(detail::Control, head) == 0);
  if (sys::pread(fd.get(), &word, sizeof word, sizeof(detail::Superblock)) != sizeof word)
    return exists;
  const auto head = detail::StateWord::Unpack(word);
  if (head.phase != detail::Phase::kPoisoned) {
    const absl::Status usable = detail::Mapping::CheckUsable(fd.get(), *super, region_path);
    if (!usable.ok() && (!absl::IsFailedPrecondition(usable) || detail::AnybodyIn(fd.get()))) {
      return exists;
    }
    if (usable.ok() && super->incarnation == newest.incarnation) return exists;
  }
  // Everything that was visible must be there.
  if (recovered.has_value() && head.epoch > *recovered) {
    return absl::DataLossError(absl::StrCat(region_path, ": epoch ", head.epoch,
                                            " was visible, but the journal ends at ", *recovered));
  }
  return Occupant{true, info.st_dev, info.st_ino};
}

// Makes room for the new region: only if the file under its name is still the one that was judged.
// Restorers exclude each other by the journal's lock; somebody else may have put another there.
absl::Status Evict(const std::string& region_path, const Occupant& occupant) {
  if (!occupant.there) return absl::OkStatus();
  const std::string name = detail::NameIn(region_path);
  const Fd parent(
      sys::open(detail::ParentOf(region_path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const FileId now = parent.ok() ? FileId::In(parent.get(), name) : FileId{};
  if (now == FileId{}) return absl::OkStatus();  // gone; or its name will turn out to be taken
  if (now != FileId{occupant.device, occupant.inode}) {
    return absl::AlreadyExistsError(absl::StrCat("region ", region_path, " exists"));
  }
  if (sys::unlinkat(parent.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("cannot replace ", region_path));
  }
  return absl::OkStatus();
}

absl::Status CheckFits(Epoch epoch, std::size_t bytes, const RegionOptions& options) {
  if (bytes <= options.state_bytes) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("the state of epoch ", epoch, " has ", bytes,
                                            " bytes, more than state_bytes ", options.state_bytes,
                                            "; nothing was changed"));
}

// The newest segment, with nobody else at work in the journal. AlreadyExists: the region lives.
absl::StatusOr<OpenSegment> NewestFor(const RegionOptions& options, const std::string& region_path,
                                      const std::string& directory, Locking locking) {
  const auto region_lives = [&](const SegmentHeader& header) {
    return absl::IsAlreadyExists(
        CheckReplaceable(region_path, header, std::nullopt, options.trust_other_owners).status());
  };
  absl::StatusOr<OpenSegment> newest =
      LockNewest(directory, options.restore_timeout, region_lives, options.trust_other_owners,
                 locking, options.interrupted);
  if (absl::IsNotFound(newest.status()) || absl::IsInvalidArgument(newest.status())) {
    const absl::StatusOr<bool> there = DirectoryIsThere(directory);
    if (!there.ok()) return there.status();
  }
  return newest;
}

// What is in the way of restoring what `scan` found; nothing has been changed so far.
absl::StatusOr<Occupant> CheckRestorable(const RegionOptions& options,
                                         const std::string& region_path, const SegmentScan& scan) {
  const absl::StatusOr<Occupant> occupant =
      CheckReplaceable(region_path, scan.header, scan.epoch, options.trust_other_owners);
  if (!occupant.ok()) return occupant.status();
  if (absl::Status s = CheckFits(scan.epoch, scan.state.size(), options); !s.ok()) return s;
  if (absl::Status s = CapacityBlocks(options).status(); !s.ok()) return s;
  if (scan.header.segment >= kMaxSegment) {
    return absl::OutOfRangeError("segment numbers are used up");
  }
  return occupant;
}

}  // namespace

absl::StatusOr<std::unique_ptr<JournalSeed>> Create(const RegionOptions& options, bool explicitly) {
  return CreateFrom(options, explicitly, {});
}

absl::StatusOr<std::unique_ptr<JournalSeed>> CreateFrom(const RegionOptions& options,
                                                        bool explicitly, Beginning beginning) {
  if (absl::Status s = CheckFits(beginning.epoch, beginning.state.size(), options); !s.ok()) {
    return s;
  }
  const std::string directory = AbsoluteFrom(options.journal);
  absl::StatusOr<std::uint64_t> capacity = CapacityBlocks(options);
  if (!capacity.ok()) return capacity.status();
  const absl::StatusOr<SegmentHeader> first = HeaderFor(options, *capacity);
  if (!first.ok()) return first.status();
  const absl::StatusOr<Id> journal = detail::RandomId();
  if (!journal.ok()) return journal.status();
  SegmentHeader header = *first;
  header.journal = *journal;
  header.segment = 1;
  header.history = options.history;
  header.base_epoch = beginning.epoch;
  header.base_length_bytes = beginning.state.size();
  header.base_digest = detail::Digest(beginning.state);
  header.base_chain = beginning.chain;
  header.base_token = beginning.token;
  header.retain_segments = options.retain_segments;
  header.retain_epochs = options.retain_epochs;
  if (options.history == History::kLatest && options.retain_segments == 0 &&
      options.retain_epochs == 0) {
    header.retain_segments = 1;
  }
  auto seed = std::make_unique<Seed>();
  FillSeed(*seed, directory, header);
  seed->state = std::move(beginning.state);
  const detail::Access access{.mode = options.mode.value_or(detail::kDefaultMode) & 0777,
                              .group = {}};

  const absl::StatusOr<bool> there = DirectoryIsThere(directory);
  if (!there.ok()) return there.status();
  if (*there) {
    struct statx info {};
    if (sys::statx(AT_FDCWD, directory.c_str(), 0, STATX_UID, &info) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot look at journal ", directory));
    }
    if (absl::Status s = detail::CheckOwner(info.stx_uid, directory, options.trust_other_owners);
        !s.ok()) {
      return s;
    }
    absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
    if (!files.ok()) return files.status();
    if (!files->empty()) {
      return absl::AlreadyExistsError(
          absl::StrCat(directory,
                       " holds a journal already: restore from it (epochctl recover), or choose "
                       "another directory"));
    }
    if (!explicitly) {
      return absl::DataLossError(
          absl::StrCat(directory,
                       " exists but holds no journal segments: if it is meant for a new "
                       "journal, create the region explicitly; otherwise its files are "
                       "gone"));
    }
    absl::StatusOr<OpenSegment> made = MakeSegment(directory, access, header, seed->state);
    if (!made.ok()) return made.status();
    seed->made = *std::move(made);
    seed->publish = [](Seed& self) -> absl::Status {
      // Whoever links segment 1 first wins, but two journals must not meet in one directory.
      const Fd lock(sys::open(self.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!lock.ok() || sys::flock(lock.get(), LOCK_EX) != 0) {
        return ErrnoStatus(errno, absl::StrCat("cannot lock ", self.directory));
      }
      absl::StatusOr<std::vector<SegmentFile>> again = ListSegments(self.directory);
      if (!again.ok()) return again.status();
      if (!again->empty()) {
        return absl::AlreadyExistsError(absl::StrCat(self.directory, " holds a journal"));
      }
      if (absl::Status s = PublishSegment(self.directory, self.made); !s.ok()) return s;
      return SyncDirectory(detail::ParentOf(self.directory));
    };
    return seed;
  }

  // Others who may use the region must reach the journal, too.
  absl::StatusOr<NewDirectory> fresh = NewDirectory::Make(directory, access);
  if (!fresh.ok()) return fresh.status();
  EPOCH_POINT("journal_create.directory");
  absl::StatusOr<OpenSegment> made = MakeSegment(fresh->path(), access, header, seed->state);
  if (!made.ok()) return made.status();
  if (absl::Status s = PublishSegment(fresh->path(), *made); !s.ok()) return s;
  seed->made = *std::move(made);
  seed->publish = [made_in = std::make_shared<NewDirectory>(*std::move(fresh))](Seed& self) {
    EPOCH_POINT("journal_create.before_rename");
    if (absl::Status s = made_in->RenameTo(self.directory); !s.ok()) return s;
    EPOCH_POINT("journal_create.renamed");
    return SyncDirectory(detail::ParentOf(self.directory));
  };
  return seed;
}

absl::StatusOr<std::unique_ptr<JournalSeed>> Restore(const RegionOptions& options,
                                                     const std::string& region_path) {
  // First, as nothing may change on error: the region could not be built.
  if (!detail::Geometry::For(options.state_bytes, options.participants, options.versions)) {
    JournalSeed none;
    return detail::Mapping::Build(region_path, options, none);
  }
  const std::string directory = AbsoluteFrom(options.journal);
  const auto lock_newest = [&] {
    return NewestFor(options, region_path, directory, Locking::kLock);
  };
  absl::StatusOr<OpenSegment> newest = lock_newest();
  for (; newest.ok(); newest = lock_newest()) {
    const absl::StatusOr<bool> named = NameBegun(directory, *newest);
    if (!named.ok()) return named.status();
    if (!*named) break;
    newest = OpenSegment{};  // others may have it, as it is the newest no more
  }
  if (!newest.ok()) return newest.status();
  // Its name must be stable, and the directory's own: their maker may have died, or failed, before.
  for (const std::string& names : {directory, detail::ParentOf(directory)}) {
    if (absl::Status s = SyncDirectory(names); !s.ok()) return s;
  }
  ScanOptions scan_options;
  scan_options.ignore_block_damage = options.ignore_block_damage;
  absl::StatusOr<SegmentScan> scan = ScanSegment(newest->fd.get(), newest->path, scan_options);
  if (!scan.ok()) return scan.status();
  if (absl::Status s = CheckNewest(*scan); !s.ok()) return s;
  const absl::StatusOr<Occupant> occupant = CheckRestorable(options, region_path, *scan);
  if (!occupant.ok()) return occupant.status();
  absl::StatusOr<std::uint64_t> capacity = CapacityBlocks(options);
  if (!capacity.ok()) return capacity.status();
  const absl::StatusOr<SegmentHeader> next = HeaderFor(options, *capacity);
  if (!next.ok()) return next.status();
  SegmentHeader header = *next;
  header.journal = scan->header.journal;
  header.segment = newest->number + 1;
  header.history = scan->header.history;
  header.base_epoch = scan->epoch;
  header.base_length_bytes = scan->state.size();
  header.base_digest = detail::Digest(scan->state);
  header.base_chain = scan->chain;
  header.base_token = scan->token;
  header.previous_segment = newest->number;
  header.previous_end_block = scan->end_block;
  header.previous_last_epoch = scan->epoch;
  header.previous_chain = scan->chain;
  // One that nothing was written to holds what this one begins with, and no more: this one takes
  // over from its predecessor, and it may go. Otherwise each start of a container with a region of
  // its own would leave a file.
  const bool idle = IsIdle(*scan);
  if (idle) {
    header.previous_segment = scan->header.previous_segment;
    header.previous_end_block = scan->header.previous_end_block;
    header.previous_last_epoch = scan->header.previous_last_epoch;
    header.previous_chain = scan->header.previous_chain;
  }
  // Nothing says that the last batches are on the disk: whoever wrote them may have died, or failed,
  // before they were. What is taken over from must be what a second restore would read.
  if (scan->unproven.size() != 0) {
    const std::uint64_t to = scan->end_block * kBlockBytes;
    if (absl::Status s = WriteAnew(*newest, scan->unproven, to - scan->unproven.size()); !s.ok()) {
      return s;
    }
    EPOCH_POINT("restore.written_anew");
  }
  header.recovered = 1;
  header.retain_segments = scan->header.retain_segments;
  header.retain_epochs = scan->header.retain_epochs;
  const detail::Access access = detail::Access::Of(newest->fd.get());
  EPOCH_POINT("restore.scanned");
  absl::StatusOr<OpenSegment> made = MakeSegment(directory, access, header, scan->state);
  if (!made.ok()) return made.status();
  auto seed = std::make_unique<Seed>();
  FillSeed(*seed, directory, header);
  seed->access = access;
  seed->state = std::move(scan->state);
  seed->made = *std::move(made);
  seed->replaced = *std::move(newest);
  const std::uint64_t from = header.previous_segment;
  seed->publish = [region_path, replaced = *occupant, idle, from](Seed& self) {
    if (absl::Status s = PublishSegment(self.directory, self.made); !s.ok()) return s;
    EPOCH_POINT("restore.published");
    NewDirectory::SweepFor(self.directory);
    if (const absl::StatusOr<Fd> names = OpenDirectoryOf(self.made); names.ok()) {
      if (idle) SweepIdle(names->get(), self.directory, self.journal, from, self.segment);
      SweepSpares(names->get(), self.journal, kMaxSegment);
      SweepSegments(names->get(), self.directory, self.journal, self.segment, self.epoch,
                    {self.retain_segments, self.retain_epochs});
    }
    return Evict(region_path, replaced);
  };
  return seed;
}

absl::StatusOr<SegmentScan> Rehearse(const RegionOptions& options, const std::string& region_path) {
  if (!detail::Geometry::For(options.state_bytes, options.participants, options.versions)) {
    JournalSeed none;
    return detail::Mapping::Build(region_path, options, none);
  }
  const std::string directory = AbsoluteFrom(options.journal);
  if (absl::Status s = NewestFor(options, region_path, directory, Locking::kAsk).status();
      !s.ok()) {
    return s;
  }
  absl::StatusOr<SegmentScan> scan = Preview(directory, options.ignore_block_damage);
  if (!scan.ok()) return scan.status();
  if (absl::Status s = CheckRestorable(options, region_path, *scan).status(); !s.ok()) return s;
  // Whether files can be made there: without a name they are gone when they are closed.
  for (const std::string& in : {directory, detail::ParentOf(region_path)}) {
    if (absl::Status s = detail::OpenUnnamed(in, {.mode = 0600, .group = {}}).status(); !s.ok())
      return s;
  }
  return scan;
}

absl::StatusOr<SegmentScan> Preview(const std::string& directory, bool ignore_block_damage) {
  ScanOptions options;
  options.ignore_block_damage = ignore_block_damage;
  constexpr int kMostLooks = 10;  // at a journal that moves on meanwhile
  for (int look = 1;; ++look) {
    absl::StatusOr<std::vector<SegmentFile>> files = ListWithBegun(directory);
    if (!files.ok()) return files.status();
    if (files->empty()) {
      return absl::DataLossError(absl::StrCat(directory, " holds no journal segments"));
    }
    absl::StatusOr<SegmentScan> scan = ScanSegmentFile(files->back().path, options);
    const absl::Status checked = scan.ok() ? CheckNewest(*scan) : scan.status();
    if (checked.ok()) return scan;
    const bool may_pass = absl::IsNotFound(checked) || scan.ok();
    if (!may_pass || look == kMostLooks) return checked;
  }
}

}  // namespace epoch::journal
