// A region file, mapped: building, opening and checking it.
//
// A region is built in an unnamed file and gets its name when it is complete, so nobody ever sees
// a half-made one, a creator's death leaves nothing, and of racing creators exactly one wins.
// Nothing read from the file is used before it has been checked.
#ifndef EPOCH_DETAIL_MEMORY_MAPPING_H_
#define EPOCH_DETAIL_MEMORY_MAPPING_H_

#include <time.h>

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/journal_port.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/memory/liveness.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/fork.h"
#include "epoch/detail/platform/system_calls.h"
#include "epoch/details.h"
#include "epoch/options.h"

namespace epoch::detail {

inline std::uint64_t SuperblockChecksum(const Superblock& superblock) {
  return Xxh64::Of(&superblock, offsetof(Superblock, checksum));
}

class Mapping final : public ForkAware {
 public:
  // Builds a region that starts from `seed` and gives it the name `path`.
  static absl::Status Build(const std::string& path, const RegionOptions& options,
                            JournalSeed& seed) {
    const auto geometry =
        Geometry::For(options.state_bytes, options.participants, options.versions);
    if (!geometry.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "region geometry out of range: state_bytes ", options.state_bytes,
          " (1 to 2^40), participants ", options.participants, " (1 to ", kMaxParticipants,
          "), versions ", options.versions, " (4 to ", kMaxVersions, ")"));
    }
    if (seed.state.size() > geometry->state_bytes) {
      return absl::OutOfRangeError(absl::StrCat("the state to start from has ", seed.state.size(),
                                                " bytes, more than state_bytes ",
                                                geometry->state_bytes, "; nothing was changed"));
    }
    if (seed.directory.size() >= kJournalPathBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "journal path is longer than ", kJournalPathBytes - 1, " bytes: ", seed.directory));
    }
    Access access{.mode = options.mode.value_or(kDefaultMode), .group = {}};
    if (seed.access.has_value()) {
      access.group = seed.access->group;
      if (!options.mode.has_value()) access.mode = seed.access->mode;
    }
    absl::StatusOr<Fd> fd = OpenUnnamed(ParentOf(path), access);
    if (!fd.ok()) return fd.status();
    if (absl::Status s = RefuseNetworkFilesystem(fd->get(), path); !s.ok()) return s;
    // Real blocks, so that no later store can fail for lack of space (SIGBUS).
    if (const int error = Allocate(fd->get(), geometry->total_bytes, "create.allocate");
        error != 0) {
      return ErrnoStatus(error, absl::StrCat("cannot allocate ", geometry->total_bytes,
                                             " bytes for region ", path));
    }
    absl::StatusOr<sys::MappedFile> mapped = Map(fd->get(), path, true);
    if (!mapped.ok()) return mapped.status();
    const absl::StatusOr<FileIdentity> file = IdentityOf(fd->get(), path);
    if (!file.ok()) return file.status();
    const Id boot = BootId();
    if (boot == Id{} && !LiesInMemory(fd->get())) {
      return absl::FailedPreconditionError(
          absl::StrCat(path,
                       ": a region outside of shared memory has to know which boot it is of, and "
                       "/proc/sys/kernel/random/boot_id does not tell; put it into /dev/shm"));
    }
    Initialise(mapped->data(), *geometry, options, seed, boot, *file);
    // Last, when nothing else can fail for want of space or rights.
    if (absl::Status s = seed.Publish(); !s.ok()) return s;
    EPOCH_POINT("create.before_link");
    if (absl::Status s = LinkUnnamed(fd->get(), path); !s.ok()) {
      return options.journal.empty() ? s : HalfDone(s);  // its journal is there
    }
    EPOCH_POINT("create.linked");
    return absl::OkStatus();
  }

  // `check_words` false: for inspection, which says more about a damaged epoch word than one error.
  // `trusted`: the file may be anybody's (CheckOwner).
  static absl::StatusOr<std::shared_ptr<Mapping>> Open(const std::string& path, bool read_only,
                                                       bool check_words = true,
                                                       bool trusted = trust_other_owners) {
    // O_NONBLOCK: a FIFO under a region's name must not hang whoever looks at it.
    Fd fd(sys::open(path.c_str(),
                    (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.ok()) {
      const int error = errno;
      if (error == ENOENT) {
        return absl::NotFoundError(
            absl::StrCat("no region ", path, " (create it, or see which exist: epochctl list)"));
      }
      if (!read_only && (error == EACCES || error == EROFS) &&
          sys::access(path.c_str(), R_OK) == 0) {
        return absl::PermissionDeniedError(
            absl::StrCat("cannot open region ", path, " for writing: ", std::strerror(error),
                         "; it may be read (RegionOptions::read_only, epochctl get)"));
      }
      return ErrnoStatus(error, absl::StrCat("cannot open region ", path));
    }
    if (absl::Status s = RefuseNetworkFilesystem(fd.get(), path); !s.ok()) return s;
    absl::StatusOr<Superblock> superblock = ReadSuperblock(fd.get(), path, false, trusted);
    if (!superblock.ok()) return superblock.status();
    absl::StatusOr<sys::MappedFile> mapped = Map(fd.get(), path, !read_only);
    if (!mapped.ok()) return mapped.status();
    Fd probe(ReopenFd(fd.get(), O_RDONLY));
    if (!probe.ok()) return ErrnoStatus(errno, absl::StrCat("cannot reopen ", path));
    auto mapping = std::make_shared<Mapping>(Badge{}, path, read_only, *superblock,
                                             *std::move(mapped), std::move(fd), std::move(probe));
    mapping->trusted_ = trusted;
    mapping->whereabouts_ = Whereabouts(mapping->probe_fd(), FromRoot(path));
    if (absl::Status s = mapping->CheckControl(); check_words && !s.ok()) return s;
    return mapping;
  }

  // Reads and checks a superblock: owner, size, magic, layout, checksum, geometry, blocks; and
  // whether the region can be used: its boot, and that it is no copy. `unusable_too`: not those.
  static absl::StatusOr<Superblock> ReadSuperblock(int fd, const std::string& path,
                                                   bool unusable_too = false,
                                                   bool trusted = trust_other_owners) {
    struct stat info {};
    if (sys::fstat(fd, &info) != 0) return ErrnoStatus(errno, path);
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
    }
    Superblock s{};
    const ssize_t got = sys::pread(fd, &s, sizeof s, 0);
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", path));
    const auto bytes = static_cast<std::size_t>(got);
    if (bytes < sizeof s.magic) {
      return absl::DataLossError(absl::StrCat(path, " is not an Epoch region, or is truncated: ",
                                              bytes, " bytes, a superblock has ", sizeof s));
    }
    if (s.magic != kRegionMagic) {
      return absl::DataLossError(absl::StrCat(path, " is not an Epoch region (magic ",
                                              absl::Hex(s.magic, absl::kZeroPad16), ")"));
    }
    // What is no region is named as that, whoever it belongs to.
    if (absl::Status owner = CheckOwner(info.st_uid, path, trusted); !owner.ok()) return owner;
    if (bytes < sizeof s) {
      return absl::DataLossError(
          absl::StrCat(path, " is truncated: ", bytes, " bytes, a superblock has ", sizeof s));
    }
    if (s.layout_major != kLayoutMajor) {
      return absl::UnimplementedError(
          absl::StrCat(path, ": region has layout ", s.layout_major, ", this build speaks ",
                       kLayoutMajor, "; end what uses it, then remove it (epochctl rm --force) ",
                       "and create it anew, or recover it from its journal"));
    }
    if (s.fingerprint != LayoutFingerprint()) {
      return absl::UnimplementedError(absl::StrCat(
          path, ": region has struct fingerprint ", absl::Hex(s.fingerprint, absl::kZeroPad16),
          ", this build has ", absl::Hex(LayoutFingerprint(), absl::kZeroPad16)));
    }
    if (s.checksum != SuperblockChecksum(s)) {
      return absl::DataLossError(absl::StrCat(path,
                                              ": superblock checksum is wrong: the region "
                                              "is damaged; remove it (epochctl rm)"));
    }
    const auto g = Geometry::For(s.state_bytes, s.participants, s.versions);
    if (!g.has_value() || g->slots_offset != s.slots_offset || g->cells_offset != s.cells_offset ||
        g->payload_offset != s.payload_offset || g->payload_stride != s.payload_stride ||
        g->total_bytes != s.total_bytes || s.durable > 1 || s.journal_path.back() != '\0') {
      return absl::DataLossError(absl::StrCat(path, ": superblock fields contradict each other"));
    }
    if (static_cast<std::uint64_t>(info.st_size) < g->total_bytes) {
      return absl::DataLossError(absl::StrCat(path, " is truncated: ", info.st_size,
                                              " bytes, its superblock says ", g->total_bytes));
    }
    const std::uint64_t allocated = static_cast<std::uint64_t>(info.st_blocks) * 512;
    if (allocated < g->total_bytes && BlocksAreExact(fd)) {
      return absl::DataLossError(absl::StrCat(
          path, " has holes: ", allocated, " bytes are allocated, a region has all of its ",
          g->total_bytes, " from the beginning; remove it (epochctl rm)"));
    }
    if (!unusable_too) {
      // First: in one that nobody can be in, no protocol is spoken.
      if (absl::Status usable = CheckUsable(fd, s, path); !usable.ok()) return usable;
      if (absl::Status fits = CheckProtocol(s, path); !fits.ok()) return fits;
    }
    return s;
  }
  static absl::Status CheckProtocol(const Superblock& s, const std::string& path) {
    switch (FitsProtocol(s.protocol_floor, kProtocol, kProtocolFloor)) {
      case ProtocolFit::kFits:
        return absl::OkStatus();
      case ProtocolFit::kTooOld:
        return absl::UnimplementedError(
            absl::StrCat(path, ": region is for builds that speak protocol ", s.protocol_floor,
                         " or later, this build speaks ", kProtocol, "; use a newer one"));
      default:
        return absl::UnimplementedError(absl::StrCat(
            path, ": builds that speak protocol ", s.protocol_floor,
            " may be in this region, and this build cannot share one with any before ",
            kProtocolFloor, "; end what uses it, then remove it (epochctl rm --force) ",
            "and create it anew, or recover it from its journal"));
    }
  }

  // Whether the file can be the region that it says it is: no copy of one, and of this boot.
  // FailedPrecondition otherwise; then its successor may take its place.
  static absl::Status CheckUsable(int fd, const Superblock& s, const std::string& path) {
    const Boot boot = BootOf(fd, s);
    const absl::StatusOr<FileIdentity> file = IdentityOf(fd, path);
    if (!file.ok()) return file.status();
    if (boot == Boot::kEarlier) {
      return absl::FailedPreconditionError(
          absl::StrCat(path,
                       " belongs to an earlier boot of this machine; remove it "
                       "(epochctl rm) and, if it was durable, recover it from its journal"));
    }
    if (boot == Boot::kUnknown) {
      return absl::FailedPreconditionError(absl::StrCat(
          path,
          " may belong to an earlier boot of this machine: nobody is in it, and "
          "/proc/sys/kernel/random/boot_id does not tell; look from where it does, or remove "
          "it (epochctl rm) and, if it was durable, recover it from its journal"));
    }
    if (!SameIdentity(s.file, *file)) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, " is a copy of a region", WhyCopy(s.file, *file),
          ", and its participants are not in it; remove it (epochctl rm) and, if it was durable, "
          "recover it from its journal"));
    }
    return absl::OkStatus();
  }

  // Removes the file, if it is a region, or stands where only regions do (/dev/shm/epoch.NAME).
  // What was looked at is what goes, as far as the name can say that.
  static absl::Status Remove(const std::string& path) {
    const auto failed = [&path] {
      return ErrnoStatus(errno, absl::StrCat("cannot remove region ", path));
    };
    struct stat info {
    }, now{};
    const Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.ok()) return failed();
    if (sys::fstat(fd.get(), &info) != 0) return failed();
    std::uint64_t magic = 0;
    const bool regular = S_ISREG(info.st_mode);
    const bool region =
        regular &&
        ((sys::pread(fd.get(), &magic, sizeof magic, 0) == sizeof magic && magic == kRegionMagic) ||
         IsNamed(path));
    if (!region) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is not an Epoch region, so it stays (rm, if you mean it)"));
    }
    if (sys::lstat(path.c_str(), &now) != 0) return failed();
    if (now.st_dev != info.st_dev || now.st_ino != info.st_ino) {
      return absl::NotFoundError(absl::StrCat(
          path, " was removed meanwhile, and another file has the name; that one stays"));
    }
    return sys::unlink(path.c_str()) == 0 ? absl::OkStatus() : failed();
  }
  // Whether that is the file of a region's name, and of nothing else.
  static bool IsNamed(const std::string& path) {
    const std::string_view whole = path;
    const std::size_t slash = whole.rfind('/');
    return slash == kRegionDirectory.size() && whole.substr(0, slash) == kRegionDirectory &&
           whole.substr(slash + 1, kRegionPrefix.size()) == kRegionPrefix;
  }

  enum class Boot { kThis, kEarlier, kUnknown };
  // Which boot a region is of. The kernel's id for it may be hidden, or replaced by another, in a
  // container; what is in memory, and what somebody holds a lock on, is of this boot all the same.
  static Boot BootOf(int fd, const Superblock& s) {
    const Id now = BootId();
    if ((now == s.boot && now != Id{}) || LiesInMemory(fd) || AnybodyIn(fd)) return Boot::kThis;
    return now == Id{} || s.boot == Id{} ? Boot::kUnknown : Boot::kEarlier;
  }

  class Badge {
    friend class Mapping;
    Badge() = default;
  };
  Mapping(Badge, std::string path, bool read_only, const Superblock& superblock,
          sys::MappedFile mapped, Fd lock_fd, Fd probe_fd)
      : Mapping(std::move(path), read_only, superblock, std::move(mapped), nullptr,
                std::move(lock_fd), std::move(probe_fd)) {}
  // Over memory that is there already and outlives this: for tests that play several processes.
  Mapping(std::byte* base, const Superblock& superblock, Fd lock_fd, Fd probe_fd)
      : Mapping("memory", false, superblock, {}, base, std::move(lock_fd), std::move(probe_fd)) {}
  ~Mapping() { Unregister(); }

 private:
  Mapping(std::string path, bool read_only, const Superblock& superblock, sys::MappedFile mapped,
          std::byte* base, Fd lock_fd, Fd probe_fd)
      : path_(std::move(path)),
        read_only_(read_only),
        superblock_(superblock),
        mapped_(std::move(mapped)),
        lock_fd_(std::move(lock_fd)),
        probe_fd_(std::move(probe_fd)),
        journal_directory_(superblock_.durable != 0 ? superblock_.journal_path.data() : "") {
    view_ = RegionView::At(
        base != nullptr ? base : mapped_.data(),
        *Geometry::For(superblock_.state_bytes, superblock_.participants, superblock_.versions),
        superblock_.durable != 0);
    Register();
  }

 public:
  const std::string& path() const { return path_; }
  bool read_only() const { return read_only_; }
  const Superblock& superblock() const { return superblock_; }
  const RegionView& view() const { return view_; }
  // Byte `i` of the region file, locked through this description, says that slot i's owner lives.
  int lock_fd() const { return lock_fd_.get(); }
  // A second description: sees the locks of this process, too.
  int probe_fd() const { return probe_fd_.get(); }
  // One description's locks do not exclude each other: joins and leaves of one process take turns.
  std::mutex& join_mutex() { return join_mutex_; }

  // Whether its files may belong to anybody.
  bool trusted() const { return trusted_; }
  // Whether the name that it was opened by still leads to it. One system call.
  Whereabouts::Seen Look() const { return whereabouts_.Look(probe_fd()); }

  // Where its journal lies, as this process sees it: absolute. Empty in a volatile region.
  const std::string& journal_directory() const { return journal_directory_; }
  // The directory that its opener says the journal is in. FailedPrecondition if the region has
  // none, or another one. What is in it, those who attach to it look at more closely.
  absl::Status UseJournal(const std::string& directory) {
    if (superblock_.durable == 0) {
      return Because(
          Cause::kInvalid,
          absl::FailedPreconditionError(absl::StrCat(
              path_, " is a volatile region, and was asked for with the journal ", directory,
              ": leave that out, or remove the region (epochctl rm) and create it with the "
              "journal")));
    }
    if (directory == journal_directory_) return absl::OkStatus();
    struct stat asked {
    }, own{};
    const int error = sys::stat(directory.c_str(), &asked) == 0 ? 0 : errno;
    if (error == 0 && sys::stat(journal_directory_.c_str(), &own) == 0 &&
        asked.st_dev == own.st_dev && asked.st_ino == own.st_ino) {
      return absl::OkStatus();
    }
    if (error != 0 || !HoldsJournal(directory, superblock_.journal)) {
      return Because(Cause::kInvalid,
                     absl::FailedPreconditionError(absl::StrCat(
                         path_, " has its journal in ", journal_directory_, ", not in ", directory,
                         " (", error != 0 ? std::strerror(error) : "which holds none of it",
                         "): leave that out, name the right one, or name another region")));
    }
    char resolved[4096];  // PATH_MAX
    const char* const whole = sys::realpath(directory.c_str(), resolved);
    journal_directory_ = whole != nullptr ? whole : FromRoot(directory);
    return absl::OkStatus();
  }

  // What is to be added to this process's CLOCK_MONOTONIC to get its creator's. 0 if either is not
  // known.
  std::int64_t ClockShift_ns() const {
    std::int64_t own = 0;
    if (superblock_.clock_offset_known == 0 || !seam::MonotonicOffset(own)) return 0;
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(superblock_.clock_offset_ns) -
                                     static_cast<std::uint64_t>(own));
  }
  // Whether who joins means the same by a deadline as those who are in.
  absl::Status CheckClock() const {
    const std::int64_t shift_ns = ClockShift_ns();
    if (shift_ns == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        path_, " was created in another time namespace, whose CLOCK_MONOTONIC is ",
        shift_ns / 1'000'000,
        " ms from this process's: its participants share deadlines, so they "
        "must share that clock; join from there (nsenter --time), or open it read-only"));
  }

  JournalPort* port() const { return port_.get(); }
  void set_port(std::unique_ptr<JournalPort> port) { port_ = std::move(port); }

  void AfterForkInChild() noexcept override {
    // The child must not keep the parent's locks alive, and gets descriptions of its own; if it may
    // not open the file (any more), none: another file's descriptor must not be taken for it.
    for (const auto& [fd, flags] :
         {std::pair{&lock_fd_, read_only_ ? O_RDONLY : O_RDWR}, std::pair{&probe_fd_, O_RDONLY}}) {
      const int fresh = ReopenFd(fd->get(), flags);
      if (fresh >= 0) {
        sys::dup3(fresh, fd->get(), O_CLOEXEC);
        sys::close(fresh);
      } else {
        fd->Close();
      }
    }
    // Another thread of the parent may have held it, and there is none here to give it back.
    new (&join_mutex_) std::mutex;
  }

 private:
  friend struct MappingTestPeer;

  static absl::StatusOr<sys::MappedFile> Map(int fd, const std::string& path, bool writable) {
    // By descriptor, not by name: the name may meanwhile belong to another file. And by one of its
    // own: a fork child keeps the mapping, and with it the description, whose locks would outlive
    // the parent.
    const Fd own(ReopenFd(fd, writable ? O_RDWR : O_RDONLY));
    if (!own.ok()) return ErrnoStatus(errno, absl::StrCat("cannot reopen ", path));
    try {
      return sys::MappedFile(own.get(), writable);
    } catch (const boost::interprocess::interprocess_exception& e) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot map ", path, ": ", e.what()));
    }
  }

  // Filesystems whose count of blocks leaves nothing out: none that compresses.
  static bool BlocksAreExact(int fd) {
    struct statfs info {};
    if (sys::fstatfs(fd, &info) != 0) return false;
    switch (static_cast<std::uint32_t>(info.f_type)) {
      case TMPFS_MAGIC:
      case EXT4_SUPER_MAGIC:
      case XFS_SUPER_MAGIC:
        return true;
      default:
        return false;
    }
  }

  static void Initialise(std::byte* base, const Geometry& geometry, const RegionOptions& options,
                         const JournalSeed& seed, const Id& boot, const FileIdentity& file) {
    Superblock s{};
    s.magic = kRegionMagic;
    s.layout_major = kLayoutMajor;
    s.layout_minor = kLayoutMinor;
    s.protocol_floor = kProtocolFloor;
    s.fingerprint = LayoutFingerprint();
    s.incarnation = seed.incarnation;
    s.boot = boot;
    s.file = file;
    s.clock_offset_known = seam::MonotonicOffset(s.clock_offset_ns) ? 1 : 0;
    s.state_bytes = geometry.state_bytes;
    s.participants = geometry.participants;
    s.versions = geometry.versions;
    s.slots_offset = geometry.slots_offset;
    s.cells_offset = geometry.cells_offset;
    s.payload_offset = geometry.payload_offset;
    s.payload_stride = geometry.payload_stride;
    s.total_bytes = geometry.total_bytes;
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    s.created_unix_ns = std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
    s.durable = options.journal.empty() ? 0 : 1;
    s.history = seed.history;
    s.journal = seed.journal;
    s.segment_bytes = seed.segment_bytes;
    s.retain_segments = seed.retain_segments;
    s.retain_epochs = seed.retain_epochs;
    std::copy(seed.directory.begin(), seed.directory.end(), s.journal_path.begin());
    s.checksum = SuperblockChecksum(s);
    std::memcpy(base, &s, sizeof s);

    const RegionView view = RegionView::At(base, geometry, s.durable != 0);
    constexpr auto kRelaxed = std::memory_order_relaxed;  // private until linked
    for (std::uint32_t i = 0; i < geometry.participants; ++i) {
      Slot& slot = view.slots[i];
      slot.state.Store(SlotWord{SlotState::kFree, 0}.Pack(), kRelaxed);
      for (auto* word : OwnedWordsOf(slot)) word->Store(NoneOf(0), kRelaxed);
    }
    for (std::uint32_t i = 0; i < geometry.versions; ++i) {
      view.cells[i].owner.Store(OwnerWord{CellState::kFree, 0, 0}.Pack(), kRelaxed);
    }
    // Version 0 is the state that the incarnation starts from.
    VersionCell& first = view.cells[0];
    if (!seed.state.empty()) std::memcpy(view.PayloadOf(0), seed.state.data(), seed.state.size());
    first.owner.Store(OwnerWord{CellState::kPublished, 0, 0}.Pack(), kRelaxed);
    first.epoch.Store(seed.epoch, kRelaxed);
    first.length_bytes.Store(seed.state.size(), kRelaxed);
    first.digest.Store(Digest(seed.state), kRelaxed);
    first.chain.Store(seed.chain, kRelaxed);
    first.token.Store(seed.token, kRelaxed);
    first.shape.Store(PackShape(VersionKind::kFullState, 0), kRelaxed);
    // The ring holds batches -16 to -1, all of them written and ending at the first epoch.
    for (std::uint32_t i = 0; i < kBatchRingSlots; ++i) {
      BatchWords& batch = view.control->ring[i];
      batch.w.Store(BatchW{BatchState::kWritten, false, 0, seed.epoch}.Pack(), kRelaxed);
      batch.e.Store(BatchE{seed.segment, seed.end_block}.Pack(), kRelaxed);
      batch.h.Store(
          BatchH{static_cast<std::uint16_t>(0x10000u - kBatchRingSlots + i), seed.epoch}.Pack(),
          kRelaxed);
    }
    view.control->gather.Store(GatherWord{AbortCause::kNobody, 0, 1}.Pack(), kRelaxed);
    view.control->tail.Store(StateWord{Phase::kAccepted, 0, seed.epoch}.Pack(), kRelaxed);
    view.control->head.Store(StateWord{Phase::kOpen, 0, seed.epoch}.Pack());
  }

  absl::Status CheckControl() const {
    const StateWord head = StateWord::Unpack(view_.control->head.Load());
    const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
    // Loaded in this order, head is not above tail; loaded again, a volatile one is at most one
    // below, or could never catch up.
    const Epoch head_since = StateWord::Unpack(view_.control->head.Load()).epoch;
    const bool epochs_ok =
        head.epoch <= tail.epoch && tail.epoch <= kMaxEpoch &&
        (view_.durable || tail.epoch <= head_since || tail.epoch - head_since == 1);
    const bool head_ok = head.phase == Phase::kOpen || head.phase == Phase::kClosed ||
                         head.phase == Phase::kPoisoned;
    const bool tail_ok = tail.phase == Phase::kAccepted || tail.phase == Phase::kVoting;
    if (!head_ok || !tail_ok || !epochs_ok || !view_.ValidCell(head.version) ||
        !view_.ValidCell(tail.version)) {
      return absl::DataLossError(absl::StrCat(path_, ": the epoch word is damaged (head ",
                                              absl::Hex(head.Pack(), absl::kZeroPad16), ", tail ",
                                              absl::Hex(tail.Pack(), absl::kZeroPad16),
                                              ", versions ", view_.geometry.versions, ")"));
    }
    // True of every version there ever was, so it does not matter if head moves on meanwhile.
    const std::uint64_t length = view_.cells[head.version].length_bytes.Load();
    if (length > view_.geometry.state_bytes) {
      return absl::DataLossError(absl::StrCat(path_, ": the state of epoch ", head.epoch,
                                              " claims an impossible length of ", length,
                                              " bytes"));
    }
    return absl::OkStatus();
  }

  const std::string path_;
  const bool read_only_;
  const Superblock superblock_;
  sys::MappedFile mapped_;
  Fd lock_fd_;
  Fd probe_fd_;
  std::string journal_directory_;
  Whereabouts whereabouts_;
  bool trusted_ = false;
  RegionView view_;
  std::mutex join_mutex_;
  std::unique_ptr<JournalPort> port_;  // last, so destroyed first: it reads the view
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_MAPPING_H_
