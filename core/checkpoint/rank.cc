#include "core/checkpoint/rank.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/manifests.h"
#include "core/files/disk.h"
#include "core/inspect/region_status.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/digest.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/journal.h"

namespace epoch::checkpoint {
namespace {

using detail::ErrnoStatus;
using detail::Fd;
using seam::ByteLock;

#ifdef EPOCH_CHECKPOINT_SEGMENT_BYTES  // a test build, whose disk is small
constexpr std::uint64_t kLeastStateBytes = 4096;
constexpr std::uint64_t kSegmentBytes = EPOCH_CHECKPOINT_SEGMENT_BYTES;
#else
constexpr std::uint64_t kLeastStateBytes = 64 * 1024;
constexpr std::uint64_t kSegmentBytes = std::uint64_t{4} << 20;
#endif

// What `world` contributions need, with room for each one's place in the state.
std::uint64_t StateBytes(std::uint32_t world) {
  return std::max(kLeastStateBytes, std::uint64_t{world} * (kMaxContributionBytes + 64) + 4096);
}

RegionOptions GeometryFor(const Folders& folders, const CheckpointOptions& options) {
  RegionOptions region;
  region.state_bytes = StateBytes(options.world);
  // Twice: those that were just killed keep their slots until somebody looks.
  region.participants = std::min(kMaxWorld, std::max(64u, 2 * options.world));
  region.versions = 16 + 2 * options.world;
  region.mode = options.mode;
  region.journal = folders.ManifestsPath();
  region.segment_bytes = std::max(kSegmentBytes, 2 * region.state_bytes + kSegmentBytes);
  region.restore_timeout = options.restore_timeout;
  region.interrupted = options.interrupted;
  return region;
}

// What a rank is called in the region. Its world is part of it: the others have to be told of
// another one before that rank has contributed anything.
std::string RankName(std::uint32_t rank, std::uint32_t world) {
  return absl::StrCat("rank-", rank, " of ", world);
}
struct RankIdentity {
  std::uint32_t rank = 0;
  std::uint32_t world = 0;  // 0: it does not say
};
std::optional<RankIdentity> ParseRankName(std::string_view name) {
  constexpr std::string_view kPrefix = "rank-", kOf = " of ";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  RankIdentity identity;
  const auto number = [&](std::uint32_t& to) {
    const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), to);
    name.remove_prefix(static_cast<std::size_t>(stop - name.data()));
    return error == std::errc{};
  };
  if (!number(identity.rank)) return std::nullopt;
  if (name.starts_with(kOf)) {
    name.remove_prefix(kOf.size());
    if (!number(identity.world)) return std::nullopt;
  }
  return name.empty() ? std::optional(identity) : std::nullopt;
}

// Whether the region's name stands for it, for sure.
bool HasItsName(const Region& region) {
  struct stat mine {
  }, named{};
  return sys::fstat(region.mapping()->probe_fd(), &mine) == 0 &&
         sys::stat(region.path().c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
         mine.st_dev == named.st_dev;
}

// Whether a slot that nobody has is locked all the same: by one who is about to take it, or by the
// last one out, who is about to remove the region.
bool FreeSlotIsLocked(const Region& region) {
  const detail::RegionView& view = region.mapping()->view();
  for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
    if (detail::SlotWord::Unpack(view.slots[i].state.Load()).state == detail::SlotState::kFree &&
        detail::OwnerAlive(region.mapping()->probe_fd(), i)) {
      return true;
    }
  }
  return false;
}

// Removes a region that nobody is in. Proof of that are the locks on all slots, held here: whoever
// joins takes one of them first, and whoever is in holds one. A joiner that has opened the file
// before finds after its join that it has lost its name (Join), and opens it anew. What has to be
// made again from the journal waits for this process to let go of it; so the name cannot stand for
// a successor yet. A death in between leaves the region, or no region, and no lock.
void RemoveIfNobodyIsIn(const Region& region) {
  constexpr int kTries = 50;
  const detail::RegionView& view = region.mapping()->view();
  // What is accepted and not yet durable is in the region alone.
  const auto quiet = [&] {
    const auto head = detail::StateWord::Unpack(view.control->head.Load());
    const auto tail = detail::StateWord::Unpack(view.control->tail.Load());
    return head.phase == detail::Phase::kOpen && tail.phase == detail::Phase::kAccepted &&
           head.epoch == tail.epoch;
  };
  if (!quiet()) return;
  EPOCH_POINT("checkpoint.region_quiet");
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const Fd locks(detail::ReopenFd(region.mapping()->probe_fd(), O_RDWR));
    if (!locks.ok()) return;
    bool alone = true;
    for (std::uint32_t i = 0; alone && i < view.geometry.participants; ++i) {
      const int error = seam::SetByteLock(locks.get(), ByteLock::kExclusive, i);
      if (error != 0 && error != EAGAIN) return;
      alone = error == 0;
      // Not a slot that is merely locked: another one on its way out tries the same just now.
      if (!alone &&
          detail::SlotWord::Unpack(view.slots[i].state.Load()).state != detail::SlotState::kFree) {
        return;
      }
    }
    if (alone) {
      EPOCH_POINT("checkpoint.region_locked");
      // Once more: somebody may have come, had something accepted, and died. From here on nobody
      // can: each lock was taken after its last holder's words, which are seen with it.
      if (quiet() && HasItsName(region)) sys::unlink(region.path().c_str());
      EPOCH_POINT("checkpoint.region_removed");
      return;
    }
    seam::SleepFor(1'000'000);
  }
}

bool Poisoned(const Region& region) {
  const std::uint64_t head = region.mapping()->view().control->head.Load();
  return detail::StateWord::Unpack(head).phase == detail::Phase::kPoisoned;
}

absl::StatusOr<Region> OpenRegion(const std::string& name, const RegionOptions& options) {
  absl::StatusOr<Region> region = Region::OpenOrCreate(name, options);
  if (!region.ok() || !Poisoned(*region)) return region;
  // Its journal failed a write. Nobody can go on in it; the ranks that come back restore from what
  // the journal holds, once the last of those before has let go.
  region = absl::UnknownError("released");
  region = Region::Restore(name, options);
  if (absl::IsAlreadyExists(region.status())) region = Region::OpenOrCreate(name, options);
  return region;
}

absl::Status CheckRegion(const Region& region, const Folders& folders,
                         const CheckpointOptions& options) {
  if (!region.durable() || folders.ManifestsPath() != region.journal()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "region ", region.path(), " keeps its journal in \"", region.journal(), "\", not in ",
        folders.ManifestsPath(), ": name another region for these checkpoints"));
  }
  if (region.state_bytes() < StateBytes(options.world)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "region ", region.path(), " was made for fewer ranks than ", options.world,
        ": end all ranks, remove it (epochctl rm), and join again; its journal keeps everything"));
  }
  return absl::OkStatus();
}

// A living process may have this rank: expelled, or an error that names it.
absl::Status FreeRank(const Region& region, const CheckpointOptions& options) {
  if (absl::StatusOr<std::uint32_t> reaped = region.Reap(); !reaped.ok()) return reaped.status();
  const inspect::RegionStatus status = inspect::InspectRegion(*region.mapping());
  for (const inspect::ParticipantStatus& p : status.participants) {
    const std::optional<RankIdentity> known = ParseRankName(p.name);
    if (p.state != detail::SlotState::kActive || !known.has_value() ||
        known->rank != options.rank) {
      continue;
    }
    if (!options.take_over) {
      return absl::AlreadyExistsError(absl::StrCat("a living process, pid ", p.pid, ", has rank ",
                                                   options.rank, " in ", region.path(),
                                                   ": end it, or join with take_over to expel it"));
    }
    if (absl::Status s = region.Expel(p.slot); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<RankState>> RankState::Join(const std::string& directory,
                                                           const CheckpointOptions& options) {
  if (options.world == 0 || options.world > kMaxWorld || options.rank >= options.world) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " of a world of ",
                                                   options.world,
                                                   ": a rank is 0 to world - 1, a "
                                                   "world at most ",
                                                   kMaxWorld));
  }
  journal::Install();
  if (absl::Status s = MakeFolder(directory, {.mode = options.mode, .group = {}}); !s.ok())
    return s;
  absl::StatusOr<std::string> resolved = ResolveDirectory(directory);
  if (!resolved.ok()) return resolved.status();
  const Fd fd(sys::open(resolved->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("cannot open ", *resolved));
  if (absl::Status s = detail::RefuseNetworkFilesystem(fd.get(), *resolved); !s.ok()) return s;
  EPOCH_POINT("checkpoint.directory_made");
  const absl::StatusOr<std::string> identity = IdentityOf(*resolved, options.mode);
  if (!identity.ok()) return identity.status();
  if (absl::Status s = journal::SyncDirectory(detail::ParentOf(*resolved)); !s.ok()) return s;

  Folders folders(*resolved);
  std::string name = options.region;
  if (name.empty()) {
    // Both: a copy of the directory is another one, and so is a new one in an old one's place.
    const std::string both = absl::StrCat(*identity, *resolved);
    name = absl::StrCat("checkpoints-",
                        absl::Hex(detail::Xxh64::Of(both.data(), both.size()), absl::kZeroPad16));
  }
  const std::int64_t deadline_ns = detail::DeadlineAfter(options.restore_timeout);
  for (;;) {
    absl::StatusOr<Region> region = OpenRegion(name, GeometryFor(folders, options));
    if (!region.ok()) return region.status();
    if (absl::Status s = CheckRegion(*region, folders, options); !s.ok()) return s;
    const absl::Status freed = FreeRank(*region, options);
    absl::StatusOr<Participant> self =
        !freed.ok() ? absl::StatusOr<Participant>(freed)
                    : Participant::Join(
                          *region, {.name = RankName(options.rank, options.world), .voter = true});
    // The last rank of an earlier job may remove the region just now. It has all slots locked, so
    // none seems to be free, and each dead rank seems to live.
    const bool may_go = options.region.empty();
    const bool locked_out =
        absl::IsResourceExhausted(self.status()) || absl::IsAlreadyExists(self.status());
    const bool again =
        may_go && (self.ok() ? region->orphaned()
                             : locked_out && (region->orphaned() || FreeSlotIsLocked(*region)));
    if (again && seam::MonotonicNanos() < deadline_ns) {
      seam::SleepFor(1'000'000);
      continue;
    }
    if (again) {
      return absl::UnavailableError(
          absl::StrCat(region->path(), " is about to be removed by ",
                       journal::NameHolders(region->mapping()->probe_fd()),
                       ", the last rank of an earlier job, which stands still: end it"));
    }
    if (!self.ok()) return self.status();
    EPOCH_POINT("checkpoint.joined");
    return std::shared_ptr<RankState>(
        new RankState(std::move(folders), options, *std::move(region), *std::move(self)));
  }
}

RankState::~RankState() {
  // To tidy up takes memory. What is not tidied up here is by the next job.
  bool tidies = false;
  try {
    // An expelled one, or a fork child, has nothing to tidy up.
    tidies = options_.region.empty() && self_->status().ok();
  } catch (const std::bad_alloc&) {
  }
  self_.reset();
  try {
    if (tidies) RemoveIfNobodyIsIn(region_);
  } catch (const std::bad_alloc&) {
  }
}

absl::Status RankState::EnsureJoined() {
  if (self_->status().ok()) return absl::OkStatus();
  // Expelled, as a straggler or by a newer process of this rank; or in a fork child.
  if (absl::Status s = FreeRank(region_, options_); !s.ok()) return s;
  return self_->Rejoin();
}

absl::StatusOr<Epoch> RankState::Agree(std::uint64_t step, const WaitOptions& wait) {
  if (self_->status().ok() && session_.has_value()) {
    return *std::exchange(session_, std::nullopt);
  }
  session_.reset();
  if (absl::Status s = EnsureJoined(); !s.ok()) return s;
  absl::StatusOr<Epoch> met = Meet(step, wait);
  // Something had gone wrong, or this is the start: the place to look for what the dead left.
  if (met.ok() && options_.rank == 0) {
    Checkpoints(detail::ParentOf(folders_.ManifestsPath())).CleanUp().IgnoreError();
  }
  return met;
}

absl::StatusOr<Epoch> RankState::Meet(std::uint64_t step, const WaitOptions& wait) {
  detail::Limit limit = detail::Limit::Of(wait);
  WaitOptions left = wait;
  for (;;) {
    const Part part{.kind = Kind::kMeeting,
                    .rank = options_.rank,
                    .world = options_.world,
                    .step = step,
                    .attempt = region_.epoch(),
                    .shards = {},
                    .metadata = {}};
    const absl::StatusOr<Epoch> met = Collect(part, left);
    if (met.ok()) {
      // All see the same state here, so all come to the same verdict on it.
      const absl::StatusOr<Epoch> found = FindCommitted(part);
      if (!found.ok() || *found == *met) return found;
      return absl::FailedPreconditionError(
          absl::StrCat(region_.path(), ": epoch ", *found, " was committed by no rank"));
    }
    if (absl::IsAlreadyExists(met.status())) {
      // Such a meeting was accepted, and then all of its ranks died. To wait for it is to finish
      // it; these ranks are no part of it, and meet after it.
      if (absl::Status s = AwaitOthers(part.attempt + 1, left); !s.ok()) return s;
    } else if (!absl::IsAborted(met.status()) || region_.epoch() == part.attempt) {
      // Only if others may have seen an earlier epoch, or made a later one, is it worth another
      // look.
      return met;
    }
    std::int64_t left_ns = limit.deadline_ns - seam::MonotonicNanos();
    if (left_ns <= 0) return met;
    left.timeout = absl::Nanoseconds(left_ns);
    // Turns that are over at once, one after the other, ask nobody by themselves.
    if (limit.Interrupted(left_ns)) {
      return detail::WasInterrupted(
          absl::StrCat(folders_.ManifestsPath(), ", step ", step, ": no meeting was held"));
    }
  }
}

// What becomes of that epoch is no outcome of the call that waits for it, which has changed nothing.
absl::Status RankState::AwaitOthers(Epoch epoch, const WaitOptions& wait) {
  const absl::Status there = self_->Await(epoch, Stage::kCommitted, wait).status();
  if (there.ok()) return there;
  if (absl::Status s = self_->status(); !s.ok()) return detail::Unchanged(s);
  ErrorDetails details = Details(there);
  details.outcome = Outcome::kUnchanged;
  return detail::With(there, details);
}

absl::StatusOr<Epoch> RankState::Collect(const Part& part, const WaitOptions& wait) {
  const absl::StatusOr<std::vector<std::byte>> bytes = Encode(part);
  if (!bytes.ok()) return bytes.status();
  CollectiveOptions options;
  options.timeout = wait.timeout;
  options.interrupted = wait.interrupted;
  options.contributions = options_.world;
  const std::vector<std::uint64_t> before = SlotWords();
  EPOCH_POINT("checkpoint.before_collective");
  const absl::StatusOr<Epoch> made = self_->CommitCollective(TagOf(part), *bytes, options);
  EPOCH_POINT("checkpoint.collected");
  if (made.ok()) return made;
  const absl::Status why = Explained(part, made.status(), before);
  return detail::Reworded(
      why, absl::StrCat(folders_.ManifestsPath(), ", step ", part.step, ", rank ", part.rank,
                        " of ", part.world, ": ", std::string(why.message())));
}

std::vector<std::uint64_t> RankState::SlotWords() const {
  const detail::RegionView& view = region_.mapping()->view();
  std::vector<std::uint64_t> words(view.SlotLimit());
  for (std::uint32_t i = 0; i < words.size(); ++i) words[i] = view.slots[i].state.Load();
  return words;
}

absl::Status RankState::Explained(const Part& part, const absl::Status& status,
                                  const std::vector<std::uint64_t>& before) const {
  if (!absl::IsAborted(status) && !absl::IsDeadlineExceeded(status)) return status;
  const detail::RegionView& view = region_.mapping()->view();
  std::vector<bool> is_in(options_.world, false), has_come(options_.world, false);
  is_in[part.rank] = has_come[part.rank] = true;
  const std::vector<std::uint64_t> now = SlotWords();
  for (std::uint32_t i = 0; i < now.size(); ++i) {
    const bool active = detail::SlotWord::Unpack(now[i]).state == detail::SlotState::kActive &&
                        detail::OwnerAlive(region_.mapping()->probe_fd(), i);
    // Or it was, during this commit, and has left with its own error.
    const bool met = i >= before.size() || before[i] != now[i];
    if (!active && !met) continue;
    const std::optional<RankIdentity> peer = ParseRankName(detail::ReadName(view.slots[i]));
    if (!peer.has_value()) continue;
    if (peer->world != 0 && peer->world != part.world) {
      return detail::Because(
          Cause::kOtherTag,
          absl::FailedPreconditionError(absl::StrCat(
              "rank-", peer->rank, " has world ", peer->world, ", this rank has ", part.world,
              ": all ranks of a checkpoint have one world; end those of the other one (pid ",
              view.slots[i].pid.Load(), "); nothing was changed")));
    }
    if (!active || peer->rank >= options_.world) continue;
    is_in[peer->rank] = true;
    // The last tag that it has brought; of another attempt it would be another one.
    if (view.slots[i].tag.Load() == TagOf(part)) has_come[peer->rank] = true;
  }
  if (!absl::IsDeadlineExceeded(status)) return status;
  std::string missing;
  std::uint32_t count = 0;
  constexpr std::uint32_t kNamed = 8;
  for (std::uint32_t rank = 0; rank < options_.world; ++rank) {
    if (has_come[rank] || ++count > kNamed) continue;
    absl::StrAppend(&missing, missing.empty() ? "" : ", ", "rank-", rank,
                    is_in[rank] ? "" : " (has not joined)");
  }
  if (count == 0) return status;
  if (count > kNamed) absl::StrAppend(&missing, " and ", count - kNamed, " more");
  return detail::Reworded(
      status, absl::StrCat(std::string(status.message()), "; missing at this step: ", missing));
}

absl::StatusOr<Epoch> RankState::FindCommitted(const Part& part) {
  const Pin pin = self_->Pin();
  if (!pin.ok()) return self_->status();
  absl::StatusOr<std::vector<Part>> parts = PartsOf(pin.state());
  if (parts.ok()) parts = Assemble(*std::move(parts));
  if (!parts.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(region_.path(), ": epoch ", pin.epoch(), ": ",
                                                      std::string(parts.status().message())));
  }
  const Part& mine = parts->at(std::min<std::size_t>(part.rank, parts->size() - 1));
  if (mine.kind != part.kind || mine.rank != part.rank || mine.step != part.step ||
      mine.attempt != part.attempt || mine.world != part.world) {
    return absl::AbortedError(absl::StrCat(region_.path(), ": epoch ", pin.epoch(),
                                           " is another agreement: begin the step again"));
  }
  const auto by_name = [](std::vector<Shard> shards) {
    std::sort(shards.begin(), shards.end(),
              [](const Shard& a, const Shard& b) { return a.name < b.name; });
    return shards;
  };
  // In whichever order they became ready, or ready again.
  if (by_name(mine.shards) != by_name(part.shards) || mine.list != part.list) {
    return absl::DataLossError(
        absl::StrCat(region_.path(), ": epoch ", pin.epoch(), " is the checkpoint of step ",
                     part.step, ", with other shards of this rank than those in the folder now"));
  }
  return pin.epoch();
}

absl::Status RankState::CheckNotCommitted(const FolderName& attempt, const WaitOptions& wait) {
  if (!self_->status().ok()) return self_->status();
  // This rank is in no round now. What it was in is over, or accepted, which the tail names.
  const detail::RegionView& view = region_.mapping()->view();
  const auto tail = detail::StateWord::Unpack(view.control->tail.Load());
  const Epoch accepted = tail.phase == detail::Phase::kAccepted ? tail.epoch : tail.epoch - 1;
  if (region_.epoch() < accepted) {
    if (absl::Status s = AwaitOthers(accepted, wait); !s.ok()) return s;
  }
  // Not only what was committed last.
  const absl::StatusOr<Manifests> manifests = ReadManifests(folders_);
  if (absl::IsNotFound(manifests.status())) return absl::OkStatus();
  if (!manifests.ok()) return manifests.status();
  for (const Checkpoint& checkpoint : manifests->checkpoints) {
    if (checkpoint.step != attempt.step || checkpoint.attempt != attempt.attempt) continue;
    return absl::DataLossError(
        absl::StrCat(checkpoint.directory, " is a checkpoint already, of epoch ", checkpoint.epoch,
                     ", with other shards of this rank than those in the folder now: it was ",
                     "changed after it was committed; begin another step"));
  }
  if (manifests->damage.empty()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(manifests->damage.front(), "; so it cannot be told whether ",
                   folders_.PathOf(attempt), " is a checkpoint already: nothing was written"));
}

absl::StatusOr<Epoch> RankState::Commit(const Part& part, const WaitOptions& wait) {
  absl::StatusOr<Epoch> made = Collect(part, wait);
  if (absl::IsAlreadyExists(made.status())) {
    // By an earlier call, which had given up on the journal when it was accepted already.
    const Epoch head = region_.epoch();
    made = FindCommitted(part);
    if (!made.ok() && self_->Await(head + 1, Stage::kCommitted, wait).ok()) {
      made = FindCommitted(part);
    }
  }
  if (made.ok()) session_ = *made;
  return made;
}

absl::StatusOr<std::unique_ptr<StepState>> StepState::Begin(std::shared_ptr<RankState> rank,
                                                            const FolderName& folder) {
  std::unique_ptr<StepState> state(new StepState);
  const Folders& folders = rank->folders();
  const unsigned mode = rank->options().mode;
  absl::StatusOr<FolderLock> lock = folders.Use(folder, mode);
  if (!lock.ok()) return lock.status();
  state->lock_ = *std::move(lock);
  EPOCH_POINT("checkpoint.folder_locked");
  const std::string path = folders.PathOf(folder);
  state->directory_ = absl::StrCat(path, "/", RankFolder(rank->options().rank));
  if (absl::Status s = MakeFolder(state->directory_, {.mode = mode, .group = {}}); !s.ok())
    return s;
  // Whoever made the folders may have died before it synced their names.
  for (const std::string& names : {path, detail::ParentOf(path)}) {
    if (absl::Status s = journal::SyncDirectory(names); !s.ok()) return s;
  }
  absl::StatusOr<Fd> opened = OpenFolder(AT_FDCWD, state->directory_, state->directory_);
  if (!opened.ok()) return opened.status();
  state->opened_ = *std::move(opened);
  state->rank_ = std::move(rank);
  state->folder_ = folder;
  EPOCH_POINT("checkpoint.begun");
  return state;
}

absl::Status StepState::PartOrOver() const {
  if (!committed_.has_value()) return over_;
  return absl::FailedPreconditionError(
      absl::StrCat(directory_, " is part of a checkpoint already: begin another step"));
}

absl::Status StepState::Synced(absl::Status status) {
  if (absl::IsInternal(status) && detail::IsDevices(status, detail::Attempt::kSync)) {
    over_ = absl::FailedPreconditionError(absl::StrCat(
        directory_, ": this attempt is over, since a sync failed: begin the step again; it was: ",
        std::string(status.message())));
  }
  return status;
}

absl::Status StepState::Ready(std::string_view name) {
  if (absl::Status s = CheckShardName(name); !s.ok()) return s;
  if (absl::Status s = PartOrOver(); !s.ok()) return s;
  const std::string file(name), path = absl::StrCat(directory_, "/", file);
  ready_.erase(file);
  absl::StatusOr<ReadyShard> ready =
      MakeReady(opened_.get(), file, path, rank_->options().mode, &failed_);
  if (!ready.ok()) return ready.status();
  EPOCH_POINT("checkpoint.shard_synced");
  if (absl::Status s = Synced(SyncFolder(opened_.get(), directory_)); !s.ok()) return s;
  // The names on the way to it, if it lies deeper.
  if (absl::Status s = Synced(SyncFoldersTo(opened_.get(), file, path)); !s.ok()) return s;
  EPOCH_POINT("checkpoint.ready");
  ready->shard.rank = rank_->options().rank;
  ready_.insert_or_assign(file, Entry{next_order_++, *std::move(ready)});
  return absl::OkStatus();
}

absl::Status StepState::ReadyAll() {
  if (absl::Status s = PartOrOver(); !s.ok()) return s;
  const absl::StatusOr<std::vector<std::string>> files = FilesIn(opened_.get(), directory_);
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::FailedPreconditionError(absl::StrCat(directory_, " is empty"));
  }
  // What was ready, and is gone by now, is no part of it.
  std::erase_if(ready_, [&](const auto& known) {
    return !std::binary_search(files->begin(), files->end(), known.first);
  });
  // As Ready, but each folder is synced once.
  std::vector<ReadyShard> made;
  std::map<std::string, std::string> one_in;  // of each folder, a file
  for (const std::string& file : *files) {
    ready_.erase(file);
    absl::StatusOr<ReadyShard> ready = MakeReady(
        opened_.get(), file, absl::StrCat(directory_, "/", file), rank_->options().mode, &failed_);
    if (!ready.ok()) return ready.status();
    ready->shard.rank = rank_->options().rank;
    made.push_back(*std::move(ready));
    if (const std::size_t slash = file.rfind('/'); slash != std::string::npos) {
      one_in.emplace(file.substr(0, slash), file);
    }
  }
  EPOCH_POINT("checkpoint.shards_synced");
  if (absl::Status s = Synced(SyncFolder(opened_.get(), directory_)); !s.ok()) return s;
  for (const auto& [folder, file] : one_in) {
    const std::string path = absl::StrCat(directory_, "/", file);
    if (absl::Status s = Synced(SyncFoldersTo(opened_.get(), file, path)); !s.ok()) return s;
  }
  for (ReadyShard& ready : made) {
    const std::string name = ready.shard.name;
    ready_.insert_or_assign(name, Entry{next_order_++, std::move(ready)});
  }
  return absl::OkStatus();
}

absl::Status StepState::CheckFolder() const {
  if (ready_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory_, ": no shard is ready: call Ready for each, then Commit"));
  }
  std::vector<std::string_view> known;
  for (const auto& [name, entry] : ready_) {
    const std::string path = absl::StrCat(directory_, "/", name);
    struct stat info {};
    const absl::StatusOr<Fd> fd = OpenShard(opened_.get(), name, path, info);
    if (!fd.ok() || FingerprintOf(info) != entry.ready.fingerprint) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, " was changed, or removed, after it was ready: call Ready for it again"));
    }
    known.push_back(name);
  }
  std::string stranger;
  const absl::Status looked =
      FindUnknown(opened_.get(), directory_, std::move(known), [&](const std::string& path) {
        if (stranger.empty()) stranger = path;
      });
  if (!looked.ok()) return looked;
  if (stranger.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(stranger, " is not ready: call Ready for it, or remove it, then Commit"));
}

absl::StatusOr<Part> StepState::PartOf(const WaitOptions& wait) {
  Part part{.kind = Kind::kManifest,
            .rank = rank_->options().rank,
            .world = rank_->options().world,
            .step = folder_.step,
            .attempt = folder_.attempt,
            .shards = {},
            .metadata = metadata_};
  std::vector<const Entry*> entries;
  for (const auto& [name, entry] : ready_) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(),
            [](const Entry* a, const Entry* b) { return a->order < b->order; });
  for (const Entry* entry : entries) part.shards.push_back(entry->ready.shard);
  if (NamesArePlain(part.shards) && Encode(part).ok()) return part;
  Part listed = part;
  listed.shards.clear();
  listed.list = ShardList{};
  // Metadata that is too long is no reason to write anything.
  if (absl::Status s = Encode(listed).status(); !s.ok()) return s;
  // A list that is there is of an earlier call, whose manifest others may have made by now.
  absl::StatusOr<ShardList> list =
      WriteList(detail::ParentOf(directory_), listed.rank, rank_->options().mode, part.shards,
                [&] { return rank_->CheckNotCommitted(folder_, wait); });
  if (!list.ok()) return Synced(list.status());
  listed.list = *list;
  return listed;
}

absl::StatusOr<Epoch> StepState::Commit(const WaitOptions& wait) {
  if (committed_.has_value()) return *committed_;
  if (!over_.ok()) return over_;
  if (absl::Status s = CheckFolder(); !s.ok()) return s;
  const absl::StatusOr<Part> part = PartOf(wait);
  if (!part.ok()) return part.status();
  const absl::StatusOr<Epoch> made = rank_->Commit(*part, wait);
  if (made.ok()) committed_ = *made;
  return made;
}

}  // namespace epoch::checkpoint

namespace epoch {

CheckpointStep::CheckpointStep(std::unique_ptr<checkpoint::StepState> state)
    : state_(std::move(state)) {}
CheckpointStep::CheckpointStep(CheckpointStep&&) noexcept = default;
CheckpointStep& CheckpointStep::operator=(CheckpointStep&&) noexcept = default;
CheckpointStep::~CheckpointStep() = default;

namespace {

const std::string& NoPath() {
  static const std::string none;
  return none;
}

}  // namespace

std::uint64_t CheckpointStep::step() const { return state_ == nullptr ? 0 : state_->step(); }
const std::string& CheckpointStep::directory() const {
  return state_ == nullptr ? NoPath() : state_->directory();
}
std::string CheckpointStep::PathOf(std::string_view name) const {
  if (state_ == nullptr) return {};
  return absl::StrCat(state_->directory(), "/", std::string(name));
}
absl::Status CheckpointStep::Ready(std::string_view name) {
  return state_ == nullptr ? detail::MovedFrom("step") : detail::Unchanged(state_->Ready(name));
}
absl::Status CheckpointStep::ReadyAll() {
  return state_ == nullptr ? detail::MovedFrom("step") : detail::Unchanged(state_->ReadyAll());
}
void CheckpointStep::SetMetadata(std::string metadata) {
  if (state_ != nullptr) state_->set_metadata(std::move(metadata));
}
absl::StatusOr<Epoch> CheckpointStep::Commit(const WaitOptions& wait) {
  if (state_ == nullptr) return detail::MovedFrom("step");
  absl::StatusOr<Epoch> made = state_->Commit(wait);
  if (!made.ok()) return detail::Unchanged(made.status());
  return made;
}

CheckpointRank::CheckpointRank(std::shared_ptr<checkpoint::RankState> state)
    : state_(std::move(state)) {}
CheckpointRank::CheckpointRank(CheckpointRank&&) noexcept = default;
CheckpointRank& CheckpointRank::operator=(CheckpointRank&&) noexcept = default;
CheckpointRank::~CheckpointRank() = default;

absl::StatusOr<CheckpointRank> CheckpointRank::Join(const std::string& directory,
                                                    const CheckpointOptions& options) {
  auto state = checkpoint::RankState::Join(directory, options);
  if (!state.ok()) return state.status();
  return CheckpointRank(*std::move(state));
}

absl::StatusOr<CheckpointStep> CheckpointRank::Begin(std::uint64_t step, const WaitOptions& wait) {
  if (state_ == nullptr) return detail::MovedFrom("rank");
  const absl::StatusOr<Epoch> attempt = state_->Agree(step, wait);
  if (!attempt.ok()) return detail::Unchanged(attempt.status());
  auto begun = checkpoint::StepState::Begin(state_, {step, *attempt});
  if (!begun.ok()) return detail::Unchanged(begun.status());
  return CheckpointStep(*std::move(begun));
}

const std::string& CheckpointRank::region_path() const {
  return state_ == nullptr ? NoPath() : state_->region_path();
}

}  // namespace epoch
