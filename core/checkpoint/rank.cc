#include "core/checkpoint/rank.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/manifests.h"
#include "core/checkpoint/rank_region.h"
#include "core/checkpoint/step.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/platform/digest.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/journal.h"

namespace epoch::checkpoint {

using detail::ErrnoStatus;
using detail::Fd;

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
  const auto deadline = detail::Deadline::After(options.restore_timeout);
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
    if (again && !deadline.Passed()) {
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
    std::int64_t left_ns = limit.deadline.Left_ns();
    if (left_ns <= 0) return met;
    left.timeout = absl::Nanoseconds(left_ns);
    // Turns that are over at once, one after the other, ask nobody by themselves.
    if (limit.Interrupted(left_ns)) {
      return detail::WasInterrupted(
          absl::StrCat(folders_.ManifestsPath(), ", step ", step, ": no meeting was held"));
    }
  }
}

// What becomes of that epoch is no outcome of the call that waits for it, which has changed
// nothing.
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

}  // namespace epoch::checkpoint

namespace epoch {

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
  static const std::string none;
  return state_ == nullptr ? none : state_->region_path();
}

}  // namespace epoch
