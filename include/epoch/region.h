// Region: the named shared-memory object that processes meet in.
//
// Thread safety: const member functions may be called from any thread. A Region is a handle; copies
// share one mapping, which lives until the last handle and the last Participant are gone.
#ifndef EPOCH_REGION_H_
#define EPOCH_REGION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/protocol/accept.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/details.h"
#include "epoch/history.h"
#include "epoch/options.h"

namespace epoch {

using detail::Condition;
using detail::StragglerStatus;

// A verified copy of one committed state.
struct Snapshot {
  Epoch epoch = 0;
  std::uint64_t token = 0;
  std::vector<std::byte> state;
};

class Region {
 public:
  // Moving copies: a handle that was moved from is still one.
  Region(const Region&) = default;
  Region& operator=(const Region&) = default;

  // Creates a region; with `options.journal`, also the journal in that directory (which must hold
  // none yet). Errors: AlreadyExists, InvalidArgument (name, geometry; something that is no region,
  // or no directory, has the region's or the journal's name), ResourceExhausted (space),
  // PermissionDenied, FailedPrecondition (filesystem; durable without the compiled journal).
  static absl::StatusOr<Region> Create(std::string_view name_or_path,
                                       const RegionOptions& options = {}) {
    return Explained(Make(name_or_path, options, true));
  }

  // Opens an existing region. Errors: NotFound, PermissionDenied (also: belongs to another user),
  // Unimplemented (another layout), DataLoss (truncated, damaged, foreign), FailedPrecondition
  // (earlier boot; a copy; network filesystem; superseded: restored elsewhere; its journal is not
  // at its place, or is a copy; `options.journal` is not its journal). A durable region's journal
  // is attached to, too, if this program has the compiled journal and does not open read-only.
  static absl::StatusOr<Region> Open(std::string_view name_or_path,
                                     const RegionOptions& options = {}) {
    return Explained(OpenNamed(name_or_path, options));
  }

  // Opens the region; else restores it from `options.journal` if that directory holds a journal;
  // else creates it. Of any number of racing callers one makes it and all end up in the same one.
  // Errors: as the three. FailedPrecondition if the region is there, and volatile or with another
  // journal than `options.journal`.
  static absl::StatusOr<Region> OpenOrCreate(std::string_view name_or_path,
                                             const RegionOptions& options = {}) {
    return Explained(OpenOrMake(name_or_path, options));
  }

  // Makes a new incarnation from the journal in `options.journal`. Errors: AlreadyExists (the
  // region is there, and alive), NotFound (no journal), DataLoss (acknowledged data is damaged),
  // OutOfRange (the state does not fit the geometry), FailedPrecondition (a process is still
  // attached to the journal: named), InvalidArgument (no journal is named). Nothing changes on error, unless it says that the region was
  // made and cannot be opened (outcome kUnknown); so for Create.
  static absl::StatusOr<Region> Restore(std::string_view name_or_path,
                                        const RegionOptions& options) {
    return Explained(RestoreNamed(name_or_path, options));
  }

  // Removes the name, if a region has it: of any boot or layout, or damaged. Participants that are
  // in the region keep it until they leave; the journal of a durable region stays. Errors:
  // NotFound, PermissionDenied, InvalidArgument (not a region, so it stays).
  static absl::Status Unlink(std::string_view name_or_path) {
    absl::StatusOr<std::string> path = detail::RegionPath(name_or_path);
    if (!path.ok()) return detail::Unchanged(path.status());
    return detail::Unchanged(detail::Mapping::Remove(*path));
  }

  // The committed epoch. Wait-free: one load.
  Epoch epoch() const {
    return detail::StateWord::Unpack(mapping_->view().control->head.Load()).epoch;
  }

  // A copy of the committed state, taken without a slot and verified against its digest. Works on
  // a read-only mapping and disturbs nobody. Errors: DataLoss (the state does not match its
  // digest), Unavailable (it kept changing under the copy: join and pin instead).
  absl::StatusOr<Snapshot> Read() const;

  // Whether it is known that the name that the region was opened by does not lead to it any more:
  // it was removed, renamed, or another one has the name by now. Nobody who opens that name meets
  // those who are in this one. False as well where it cannot be told: this process has another root
  // directory or mount namespace since (chroot, unshare, setns), or may not look there. One system
  // call, 1 us.
  bool orphaned() const { return detail::Whereabouts::IsAway(mapping_->Look()); }

  // The old epochs that the journal keeps (epoch/history.h). Works on a read-only mapping, takes no
  // slot and no lock, and disturbs nobody. Errors: FailedPrecondition (a volatile region, which
  // keeps none; a program without the compiled journal).
  absl::StatusOr<EpochHistory> History() const {
    if (!durable()) {
      return absl::FailedPreconditionError(absl::StrCat(
          path(), " is volatile: it has no journal, and no epoch but the newest is kept"));
    }
    const auto engine = Engine();
    if (!engine.ok()) return engine.status();
    auto source = (*engine)->history(mapping_);
    if (!source.ok()) return source.status();
    return EpochHistory(*std::move(source));
  }

  // Live participants that have not acknowledged `epoch` and are not parked; whether they run or
  // are stopped, and what they pin. One look at each slot that was ever taken, and for each one
  // that is behind two questions to the kernel (8 us).
  std::vector<StragglerStatus> Stragglers(Epoch epoch) const {
    return detail::StragglersOf(*mapping_, epoch);
  }

  // Expels dead participants, frees what they held, and makes visible what they had accepted.
  // Returns how many there were.
  absl::StatusOr<std::uint32_t> Reap() const {
    if (mapping_->read_only()) return ReadOnly();
    const std::uint32_t reaped = detail::ReapAll(*mapping_);
    detail::HelpAccepted(mapping_->view());
    return reaped;
  }

  // Takes slot `slot` away from its participant, dead or alive. What a living one holds stays
  // quarantined until it leaves or dies; its next call reports the expulsion.
  absl::Status Expel(std::uint32_t slot) const {
    if (mapping_->read_only()) return ReadOnly();
    return detail::Unchanged(detail::ExpelSlot(*mapping_, slot));
  }

  const std::string& path() const { return mapping_->path(); }
  std::uint64_t state_bytes() const { return mapping_->view().geometry.state_bytes; }
  bool durable() const { return mapping_->view().durable; }
  // Where the journal of a durable region lies, as this process sees it. Empty: volatile.
  const std::string& journal() const { return mapping_->journal_directory(); }
  // Whether that is in memory (tmpfs, ramfs): then what is committed outlives the processes, and
  // not the machine's power. False if the directory cannot be looked at.
  bool journal_in_memory() const {
    const detail::Fd fd(sys::open(journal().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return durable() && fd.ok() && detail::LiesInMemory(fd.get());
  }
  std::string incarnation() const { return detail::HexOf(mapping_->superblock().incarnation); }

  // For the tools and tests: a region over a mapping made elsewhere, and the mapping below this.
  static Region Over(std::shared_ptr<detail::Mapping> mapping) {
    return Region(std::move(mapping));
  }
  const std::shared_ptr<detail::Mapping>& mapping() const { return mapping_; }

 private:
  explicit Region(std::shared_ptr<detail::Mapping> mapping) : mapping_(std::move(mapping)) {}

  // What all ways to a region go through: their errors, too, say by Details() why, and that nothing
  // was changed.
  static absl::StatusOr<Region> Explained(absl::StatusOr<Region> region) {
    if (region.ok()) return region;
    return detail::Unchanged(region.status());
  }

  static absl::Status ReadOnly() {
    return detail::Because(Cause::kReadOnly, absl::PermissionDeniedError("mapped read-only"));
  }

  static absl::StatusOr<Region> OpenNamed(std::string_view name_or_path,
                                          const RegionOptions& options) {
    absl::StatusOr<std::string> path = detail::RegionPath(name_or_path);
    if (!path.ok()) return path.status();
    return OpenPath(*path, options);
  }

  static absl::StatusOr<Region> OpenOrMake(std::string_view name_or_path,
                                           const RegionOptions& options) {
    absl::StatusOr<std::string> path = detail::RegionPath(name_or_path);
    if (!path.ok()) return path.status();
    // Each failed round means that another process won a step; rounds are bounded all the same,
    // and more narrowly if each of them writes a journal file.
    const int rounds = options.journal.empty() ? 1000 : 100;
    for (int round = 0; round < rounds; ++round) {
      bool other_journal = false;
      absl::StatusOr<Region> opened = OpenPath(*path, options, &other_journal);
      if (other_journal) return opened;
      // A region whose journal went on without it is as good as none: its successor's maker died
      // before it could take the name. Or it is about to, or the successor has another name: so a
      // few rounds of looking whether the journal can be had.
      const bool superseded =
          absl::IsFailedPrecondition(opened.status()) && !options.journal.empty() && round < 10;
      if (opened.ok() || (!absl::IsNotFound(opened.status()) && !superseded)) return opened;
      bool journal_is_there = !options.journal.empty();
      absl::Status made;
      RegionOptions restoring = options;
      if (superseded) {
        restoring.restore_timeout = std::min(options.restore_timeout, absl::Milliseconds(100));
      }
      if (journal_is_there) made = RestorePath(*path, restoring, journal_is_there);
      if (superseded && absl::IsFailedPrecondition(made)) continue;
      if (superseded && !journal_is_there) return opened;
      if (!journal_is_there) made = CreatePath(*path, options, false);
      if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
    }
    return absl::UnavailableError(
        absl::StrCat(*path, ": appears and disappears; another program keeps removing it"));
  }

  static absl::StatusOr<Region> RestoreNamed(std::string_view name_or_path,
                                             const RegionOptions& options) {
    absl::StatusOr<std::string> path = detail::RegionPath(name_or_path);
    if (!path.ok()) return path.status();
    if (options.journal.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(*path, ": RegionOptions::journal says what to restore it from"));
    }
    bool journal_is_there = true;
    if (absl::Status s = RestorePath(*path, options, journal_is_there); !s.ok()) return s;
    RegionOptions restored = options;
    restored.read_only = false;
    return OpenMade(*path, restored);
  }

  // What this call has made is there, whatever keeps this process from opening it; to repeat the
  // call is no way to it.
  static absl::StatusOr<Region> OpenMade(const std::string& path, const RegionOptions& options) {
    absl::StatusOr<Region> opened = OpenPath(path, options);
    if (opened.ok()) return opened;
    ErrorDetails details = Details(detail::Unchanged(opened.status()));
    details.outcome = Outcome::kUnknown;
    return detail::With(
        absl::Status(opened.status().code(),
                     absl::StrCat(path, " was made, and cannot be opened by this process: ",
                                  std::string(opened.status().message()), "; open it")),
        details);
  }

  static absl::StatusOr<const detail::JournalEngine*> Engine() {
    const auto* engine = detail::journal_engine.load();
    if (engine != nullptr) return engine;
    return absl::FailedPreconditionError(
        "a durable region needs the compiled journal: include epoch/journal.h and link "
        "epoch::journal");
  }

  static absl::StatusOr<Region> Make(std::string_view name_or_path, const RegionOptions& options,
                                     bool explicitly) {
    absl::StatusOr<std::string> path = detail::RegionPath(name_or_path);
    if (!path.ok()) return path.status();
    if (absl::Status s = CreatePath(*path, options, explicitly); !s.ok()) return s;
    return OpenMade(*path, options);
  }

  // `other_journal`: the region is sound, and what is wrong is where its journal is, or is said to
  // be. So it is not one to be replaced.
  static absl::StatusOr<Region> OpenPath(const std::string& path, const RegionOptions& options,
                                         bool* other_journal = nullptr) {
    auto mapping = detail::Mapping::Open(path, options.read_only, /*check_words=*/true,
                                         options.trust_other_owners);
    if (!mapping.ok()) return mapping.status();
    if (!options.journal.empty()) {
      const absl::Status used = (*mapping)->UseJournal(options.journal);
      if (other_journal != nullptr) *other_journal = !used.ok();
      if (!used.ok()) return used;
    }
    const auto* engine = detail::journal_engine.load();
    if ((*mapping)->view().durable && !options.read_only && engine != nullptr) {
      auto port = engine->attach(**mapping);
      if (absl::IsNotFound(port.status())) {
        // Not the region is missing: what makes it durable is not where it was, or is said to be.
        if (other_journal != nullptr) *other_journal = true;
        return detail::Because(
            Cause::kJournalAway,
            absl::FailedPreconditionError(absl::StrCat(
                path, " is there, but its journal is not: ", std::string(port.status().message()),
                "; mount it there, or say where it is (RegionOptions::journal, epochctl "
                "--journal); if it is gone, save the state (epochctl get), then remove the region "
                "(epochctl rm)")));
      }
      if (!port.ok()) return port.status();
      (*mapping)->set_port(*std::move(port));
    }
    return Region(*std::move(mapping));
  }

  static absl::Status CreatePath(const std::string& path, const RegionOptions& options,
                                 bool explicitly) {
    struct stat there {};
    if (sys::lstat(path.c_str(), &there) == 0) {
      if (!S_ISREG(there.st_mode)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, " is there already, and not a region but ",
                         detail::KindOfFile(there.st_mode), ": choose another name"));
      }
      const bool possible = there.st_size >= 2 * std::int64_t{detail::kPageBytes} &&
                            there.st_size % std::int64_t{detail::kPageBytes} == 0;
      return absl::AlreadyExistsError(
          possible ? absl::StrCat("region ", path, " exists already")
                   : absl::StrCat(path, " exists already, and is not a region"));
    }
    // Before anything is created: a geometry that cannot be must not leave a journal behind.
    if (!detail::Geometry::For(options.state_bytes, options.participants, options.versions)) {
      detail::JournalSeed none;
      return detail::Mapping::Build(path, options, none);
    }
    if (options.journal.empty()) {
      const absl::StatusOr<detail::Id> incarnation = detail::RandomId();
      if (!incarnation.ok()) return incarnation.status();
      detail::JournalSeed seed;
      seed.incarnation = *incarnation;
      return detail::Mapping::Build(path, options, seed);
    }
    auto engine = Engine();
    if (!engine.ok()) return engine.status();
    auto seed = (*engine)->create(options, explicitly);
    if (!seed.ok()) return seed.status();
    return detail::Mapping::Build(path, options, **seed);
  }

  static absl::Status RestorePath(const std::string& path, const RegionOptions& options,
                                  bool& journal_is_there) {
    auto engine = Engine();
    if (!engine.ok()) return engine.status();
    auto seed = (*engine)->restore(options, path);
    journal_is_there = !absl::IsNotFound(seed.status());
    if (!seed.ok()) return seed.status();
    return detail::Mapping::Build(path, options, **seed);
  }

  std::shared_ptr<detail::Mapping> mapping_;
};

inline absl::StatusOr<Snapshot> Region::Read() const {
  const detail::RegionView& view = mapping_->view();
  for (int attempt = 0; attempt < 10'000; ++attempt) {
    const std::uint64_t word = view.control->head.Load();
    const auto head = detail::StateWord::Unpack(word);
    if (!view.ValidCell(head.version)) {
      return absl::DataLossError(absl::StrCat(path(), ": the epoch word names version ",
                                              head.version, " of ", view.geometry.versions));
    }
    const std::uint32_t index = detail::CommittedCell(view, head);
    if (!view.ValidCell(index)) continue;
    const detail::VersionCell& cell = view.cells[index];
    const auto owner = detail::OwnerWord::Unpack(cell.owner.Load());
    const Epoch epoch = cell.epoch.Load();
    const std::uint64_t length = cell.length_bytes.Load();
    const std::uint64_t digest = cell.digest.Load();
    Snapshot snapshot{head.epoch, cell.token.Load(), {}};
    const bool fits = length <= view.geometry.state_bytes;
    bool matches = false;
    if (fits) {
      // May race with a writer that recycles the cell; then the checks below fail.
      const std::byte* payload = view.PayloadOf(index);
      try {
        snapshot.state.assign(payload, payload + length);
      } catch (const std::bad_alloc&) {
        return absl::ResourceExhaustedError(
            absl::StrCat(path(), ": no memory for a state of ", length, " bytes"));
      }
      seam::AcquireFence();
      matches = detail::Digest(snapshot.state) == digest;
    }
    // A matching digest is not enough: the cell may have been recycled, whole, for a later epoch
    // since head was read. All of it belongs to this epoch if head still names it, or if the cell
    // was published as this epoch before and after.
    const bool named = view.control->head.Load() == word;
    const bool published = owner.state == detail::CellState::kPublished && epoch == head.epoch &&
                           cell.owner.Load() == owner.Pack();
    if (matches && (named || published)) return snapshot;
    // Wrong although head still names this very version: damage, not a race.
    if (named && !matches) {
      return absl::DataLossError(
          absl::StrCat(path(), ": the state of epoch ", head.epoch,
                       fits ? " does not match its digest" : " claims an impossible length"));
    }
  }
  return absl::UnavailableError(
      absl::StrCat(path(), ": the state kept changing while it was copied; join and pin instead"));
}

}  // namespace epoch

#endif  // EPOCH_REGION_H_
