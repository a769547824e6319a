#include "core/journal/segment/newest.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/files/disk.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/details.h"

namespace epoch::journal {
namespace {

using detail::Deadline;
using detail::ErrnoStatus;
using detail::Fd;

// Opens it, without a lock. Nothing: it was retired in this moment.
absl::StatusOr<std::optional<OpenSegment>> OpenNewest(const std::string& directory, bool trusted) {
  const absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::DataLossError(absl::StrCat(
        directory, " holds no journal segments: this is not a new journal, its files are gone"));
  }
  OpenSegment segment;
  segment.number = files->back().number;
  segment.path = files->back().path;
  absl::StatusOr<Fd> fd = OpenDirect(segment.path, O_RDWR | O_NONBLOCK, segment.direct);
  if (absl::IsNotFound(fd.status())) return std::nullopt;
  if (!fd.ok()) return fd.status();
  // Before it is believed, or locked.
  if (absl::Status s = CheckOwners(directory, fd->get(), segment.path, trusted); !s.ok()) return s;
  segment.fd = *std::move(fd);
  return segment;
}

// Whether a segment that is locked is that of the region that wants to write to it.
absl::Status CheckIsOurs(const std::string& directory, const OpenSegment& segment,
                         const Id& journal, const Id& incarnation) {
  const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(segment.fd.get(), segment.path);
  if (!header.ok()) return header.status();
  if (header->journal != journal) {
    return absl::FailedPreconditionError(absl::StrCat(
        directory, " holds another journal (", detail::HexOf(header->journal),
        ") than this region's (", detail::HexOf(journal), "): has it been put in its place?"));
  }
  if (header->incarnation != incarnation) {
    return detail::Because(
        Cause::kSuperseded,
        absl::FailedPreconditionError(absl::StrCat(
            directory, ": superseded: the journal was restored into incarnation ",
            detail::HexOf(header->incarnation), "; this region is history, open the new one")));
  }
  const absl::StatusOr<detail::FileIdentity> file =
      detail::IdentityOf(segment.fd.get(), segment.path);
  if (!file.ok()) return file.status();
  if (detail::SameIdentity(header->file, *file)) return absl::OkStatus();
  // Others may commit to the original, and what is committed here would not be there.
  return absl::FailedPreconditionError(absl::StrCat(
      segment.path, " is a copy of this region's journal", detail::WhyCopy(header->file, *file),
      ": bring the original to its place, or remove the region (epochctl rm) and recover it from "
      "here"));
}

// 0, EAGAIN where another holds it, or another errno.
int TryToLock(const OpenSegment& segment, Locking locking) {
  if (locking == Locking::kLock) {
    return seam::SetByteLock(segment.fd.get(), seam::ByteLock::kExclusive, 0);
  }
  return seam::TestByteLock(segment.fd.get(), 0) == seam::LockState::kHeld ? EAGAIN : 0;
}

}  // namespace

absl::StatusOr<OpenSegment> AttachNewest(const std::string& directory, const Id& journal,
                                         const Id& incarnation, bool trusted) {
  const Deadline deadline = Deadline::After(absl::Seconds(10));
  for (;;) {
    absl::StatusOr<std::optional<OpenSegment>> newest = OpenNewest(directory, trusted);
    if (!newest.ok()) return newest.status();
    if (!newest->has_value()) continue;
    OpenSegment& segment = **newest;
    EPOCH_POINT("attach.listed");
    const int error = seam::SetByteLock(segment.fd.get(), seam::ByteLock::kShared, 0);
    if (error != 0 && error != EAGAIN) {
      return ErrnoStatus(error, absl::StrCat("cannot lock ", segment.path));
    }
    if (error == EAGAIN) {
      // A restorer holds it: it will either find the region alive and let go, or supersede it.
      if (deadline.Passed()) {
        return absl::UnavailableError(
            absl::StrCat(segment.path, " is being restored by ", NameHolders(segment.fd.get())));
      }
      seam::SleepFor(1'000'000);
      continue;
    }
    EPOCH_POINT("attach.locked");
    const absl::StatusOr<Standing> standing = StandingOf(directory, segment);
    if (!standing.ok()) return standing.status();
    if (*standing == Standing::kLeftBehind) continue;  // rolled meanwhile
    if (absl::Status s = CheckIsOurs(directory, segment, journal, incarnation); !s.ok()) return s;
    return std::move(segment);
  }
}

absl::StatusOr<OpenSegment> LockNewest(
    const std::string& directory, absl::Duration timeout,
    const std::function<bool(const SegmentHeader&)>& region_lives, bool trusted, Locking locking,
    const std::function<bool()>& interrupted) {
  detail::Limit limit(Deadline::After(timeout), &interrupted);
  std::int64_t pause_ns = 200'000;
  for (;;) {
    absl::StatusOr<std::optional<OpenSegment>> newest = OpenNewest(directory, trusted);
    if (!newest.ok()) return newest.status();
    if (!newest->has_value()) continue;
    OpenSegment& segment = **newest;
    const int error = TryToLock(segment, locking);
    if (error != 0 && error != EAGAIN) {
      return ErrnoStatus(error, absl::StrCat("cannot lock ", segment.path));
    }
    if (error == 0) {
      EPOCH_POINT("restore.locked");
      const absl::StatusOr<Standing> standing = StandingOf(directory, segment);
      if (!standing.ok()) return standing.status();
      if (*standing == Standing::kNewest) return std::move(segment);
      continue;
    }
    // Another process restores or still works here. If it restores, its region appears first.
    const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(segment.fd.get(), segment.path);
    if (header.ok() && region_lives && region_lives(*header)) {
      return absl::AlreadyExistsError(absl::StrCat("journal ", directory, " has a living region"));
    }
    if (limit.deadline.Passed()) {
      return absl::FailedPreconditionError(
          absl::StrCat("journal ", directory, " is still attached to by ",
                       NameHolders(segment.fd.get()), ": end them, then try again"));
    }
    std::int64_t nanos = pause_ns;
    if (limit.Interrupted(nanos)) {
      return absl::CancelledError(
          absl::StrCat("interrupted: journal ", directory, " is still attached to by ",
                       NameHolders(segment.fd.get()), "; nothing was changed"));
    }
    seam::SleepFor(nanos);
    pause_ns = std::min<std::int64_t>(pause_ns * 2, 20'000'000);
  }
}

}  // namespace epoch::journal
