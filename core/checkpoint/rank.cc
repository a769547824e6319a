#include "core/checkpoint/rank.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/inspect/region_status.h"
#include "core/journal/disk.h"
#include "core/journal/journal.h"
#include "core/journal/segment.h"
#include "epoch/detail/check.h"
#include "epoch/detail/digest.h"
#include "epoch/detail/seam.h"

namespace epoch::checkpoint {
namespace {

using detail::ErrnoStatus;
using detail::Fd;

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

std::string RankName(std::uint32_t rank) { return absl::StrCat("rank-", rank); }

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
  const std::string name = RankName(options.rank);
  const inspect::RegionStatus status = inspect::InspectRegion(*region.mapping());
  for (const inspect::ParticipantStatus& p : status.participants) {
    if (p.state != detail::SlotState::kActive || p.name != name) continue;
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
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("can not open ", *resolved));
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
  absl::StatusOr<Region> region = OpenRegion(name, GeometryFor(folders, options));
  if (!region.ok()) return region.status();
  if (absl::Status s = CheckRegion(*region, folders, options); !s.ok()) return s;
  if (absl::Status s = FreeRank(*region, options); !s.ok()) return s;
  absl::StatusOr<Participant> self =
      Participant::Join(*region, {.name = RankName(options.rank), .voter = true});
  if (!self.ok()) return self.status();
  EPOCH_POINT("checkpoint.joined");
  return std::shared_ptr<RankState>(
      new RankState(std::move(folders), options, *std::move(region), *std::move(self)));
}

absl::Status RankState::EnsureJoined() {
  if (self_.status().ok()) return absl::OkStatus();
  // Expelled, as a straggler or by a newer process of this rank; or in a fork child.
  if (absl::Status s = FreeRank(region_, options_); !s.ok()) return s;
  return self_.Rejoin();
}

absl::StatusOr<Epoch> RankState::Agree(std::uint64_t step, const WaitOptions& wait) {
  if (self_.status().ok() && session_.has_value()) {
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
      const absl::StatusOr<Epoch> finished = self_.Await(part.attempt + 1, Stage::kCommitted, left);
      if (!finished.ok()) return finished.status();
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

absl::StatusOr<Epoch> RankState::Collect(const Part& part, const WaitOptions& wait) {
  const absl::StatusOr<std::vector<std::byte>> bytes = Encode(part);
  if (!bytes.ok()) return bytes.status();
  CollectiveOptions options;
  options.timeout = wait.timeout;
  options.interrupted = wait.interrupted;
  options.contributions = options_.world;
  EPOCH_POINT("checkpoint.before_collective");
  const absl::StatusOr<Epoch> made = self_.CommitCollective(TagOf(part), *bytes, options);
  EPOCH_POINT("checkpoint.collected");
  if (made.ok()) return made;
  return detail::Reworded(
      made.status(),
      absl::StrCat(folders_.ManifestsPath(), ", step ", part.step, ", rank ", part.rank, " of ",
                   part.world, ": ", std::string(made.status().message())));
}

absl::StatusOr<Epoch> RankState::FindCommitted(const Part& part) {
  const Pin pin = self_.Pin();
  if (!pin.ok()) return self_.status();
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
  if (mine.shards != part.shards) {
    return absl::DataLossError(
        absl::StrCat(region_.path(), ": epoch ", pin.epoch(), " is the checkpoint of step ",
                     part.step, ", with other shards of this rank than those in the folder now"));
  }
  return pin.epoch();
}

absl::StatusOr<Epoch> RankState::Commit(const Part& part, const WaitOptions& wait) {
  absl::StatusOr<Epoch> made = Collect(part, wait);
  if (absl::IsAlreadyExists(made.status())) {
    // By an earlier call, which had given up on the journal when it was accepted already.
    const Epoch head = region_.epoch();
    made = FindCommitted(part);
    if (!made.ok() && self_.Await(head + 1, Stage::kCommitted, wait).ok()) {
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

absl::Status StepState::Ready(std::string_view name) {
  if (absl::Status s = CheckShardName(name); !s.ok()) return s;
  if (committed_.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory_, " is part of a checkpoint already: begin another step"));
  }
  const std::string file(name);
  std::erase_if(ready_, [&](const ReadyShard& r) { return r.shard.name == file; });
  absl::StatusOr<ReadyShard> ready =
      MakeReady(opened_.get(), file, absl::StrCat(directory_, "/", file));
  if (!ready.ok()) return ready.status();
  EPOCH_POINT("checkpoint.shard_synced");
  if (const int error = journal::SyncAll(opened_.get()); error != 0) {
    return ErrnoStatus(error, absl::StrCat("can not sync ", directory_));
  }
  EPOCH_POINT("checkpoint.ready");
  ready->shard.rank = rank_->options().rank;
  ready_.push_back(*std::move(ready));
  return absl::OkStatus();
}

absl::Status StepState::CheckFolder() const {
  if (ready_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory_, ": no shard is ready: call Ready for each, then Commit"));
  }
  for (const ReadyShard& ready : ready_) {
    const std::string path = absl::StrCat(directory_, "/", ready.shard.name);
    struct stat info {};
    const absl::StatusOr<Fd> fd = OpenShard(opened_.get(), ready.shard.name, path, info);
    if (!fd.ok() || FingerprintOf(info) != ready.fingerprint) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, " was changed, or removed, after it was ready: call Ready for it again"));
    }
  }
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(opened_.get(), directory_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    const bool known = std::any_of(ready_.begin(), ready_.end(),
                                   [&](const ReadyShard& r) { return r.shard.name == name; });
    if (known) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        directory_, "/", name, " is not ready: call Ready for it, or remove it, then Commit"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Epoch> StepState::Commit(const WaitOptions& wait) {
  if (committed_.has_value()) return *committed_;
  if (absl::Status s = CheckFolder(); !s.ok()) return s;
  Part part{.kind = Kind::kManifest,
            .rank = rank_->options().rank,
            .world = rank_->options().world,
            .step = folder_.step,
            .attempt = folder_.attempt,
            .shards = {},
            .metadata = metadata_};
  for (const ReadyShard& ready : ready_) part.shards.push_back(ready.shard);
  const absl::StatusOr<Epoch> made = rank_->Commit(part, wait);
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
