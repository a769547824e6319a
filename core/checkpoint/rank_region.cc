#include "core/checkpoint/rank_region.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/format.h"
#include "core/inspect/region_status.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::checkpoint {
namespace {

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

// Whether the region's name stands for it, for sure.
bool HasItsName(const Region& region) {
  struct stat mine {
  }, named{};
  return sys::fstat(region.mapping()->probe_fd(), &mine) == 0 &&
         sys::stat(region.path().c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
         mine.st_dev == named.st_dev;
}

bool Poisoned(const Region& region) {
  const std::uint64_t head = region.mapping()->view().control->head.Load();
  return detail::StateWord::Unpack(head).phase == detail::Phase::kPoisoned;
}

}  // namespace

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

std::string RankName(std::uint32_t rank, std::uint32_t world) {
  return absl::StrCat("rank-", rank, " of ", world);
}

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

absl::StatusOr<Region> OpenRegion(const std::string& name, const RegionOptions& options) {
  {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name, options);
    if (!region.ok() || !Poisoned(*region)) return region;
  }
  // Its journal failed a write. Nobody can go on in it; the ranks that come back restore from what
  // the journal holds, once the last of those before has let go: this one has, by now.
  absl::StatusOr<Region> region = Region::Restore(name, options);
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

}  // namespace epoch::checkpoint
