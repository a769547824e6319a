#include "core/journal/read/begun.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/journal/read/reader.h"
#include "core/journal/segment/spare.h"

namespace epoch::journal {
namespace {

using detail::Fd;

// Read, and not what it should be. Any other error: not known.
bool IsBroken(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

// Whether one is of the segment behind the other's.
bool Follows(const SegmentHeader& next, const SegmentHeader& before) {
  return next.journal == before.journal && next.incarnation == before.incarnation &&
         next.segment == before.segment + 1;
}

}  // namespace

absl::StatusOr<std::optional<SegmentFile>> FindBegun(const std::string& directory,
                                                     const SegmentFile& newest) {
  absl::StatusOr<Fd> before = OpenToRead(newest.path);
  if (!before.ok()) return before.status();
  const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(before->get(), newest.path);
  if (!header.ok() && !IsBroken(header.status())) return header.status();
  // What is wrong with that one, its own reader says.
  if (!header.ok()) return std::nullopt;
  SegmentFile found{newest.number + 1, SparePath(directory, header->journal, newest.number + 1), 0};
  absl::StatusOr<Fd> fd = OpenToRead(found.path);
  if (absl::IsNotFound(fd.status())) return std::nullopt;
  if (!fd.ok()) return fd.status();
  struct stat info {};
  if (sys::fstat(fd->get(), &info) != 0) return detail::ErrnoStatus(errno, found.path);
  if (!S_ISREG(info.st_mode)) return std::nullopt;
  found.bytes = static_cast<std::uint64_t>(info.st_size);
  absl::StatusOr<SegmentHeader> beginning = ReadBeginning(fd->get(), found.path);
  if (!beginning.ok() && !IsBroken(beginning.status())) return beginning.status();
  if (!beginning.ok()) {
    // Nothing is written behind a beginning that is not durable yet. All segments of an incarnation
    // are of one size; what claims to be larger, a sparse file say, is not read to its end.
    const absl::StatusOr<bool> used =
        HoldsBatches(fd->get(), found.path, *header, found.number,
                     std::min(found.bytes, header->capacity_blocks * kBlockBytes));
    if (!used.ok()) return used.status();
    if (!*used) return std::nullopt;
    // Unless that was while this looked, in a journal that lives.
    beginning = ReadBeginning(fd->get(), found.path);
  }
  if (beginning.ok()) {
    return Follows(*beginning, *header) ? std::optional(std::move(found)) : std::nullopt;
  }
  return absl::DataLossError(absl::StrCat(
      found.path, ": segment ", found.number,
      " was in use, and its beginning is damaged: ", std::string(beginning.status().message())));
}

absl::StatusOr<bool> NameBegun(const std::string& directory, const OpenSegment& newest,
                               bool trusted) {
  absl::StatusOr<std::optional<SegmentFile>> begun =
      FindBegun(directory, {newest.number, newest.path, 0});
  if (!begun.ok()) return begun.status();
  if (!begun->has_value()) return false;
  const SegmentFile& found = **begun;
  OpenSegment segment;
  segment.number = found.number;
  segment.path = SegmentOfSpare(found.path);
  absl::StatusOr<Fd> fd = OpenDirect(found.path, O_RDWR | O_NONBLOCK, segment.direct);
  if (!fd.ok()) return fd.status();
  segment.fd = *std::move(fd);
  // Before it is believed, written to, or given a name: it may be another file by now.
  if (absl::Status s = CheckOwners(directory, segment.fd.get(), found.path, trusted); !s.ok()) {
    return s;
  }
  AlignedBuffer beginning;
  const absl::StatusOr<SegmentHeader> own = ReadBeginning(segment.fd.get(), found.path, &beginning);
  if (!own.ok()) return own.status();
  const absl::StatusOr<SegmentHeader> before = ReadSegmentHeader(newest.fd.get(), newest.path);
  if (!before.ok()) return before.status();
  if (!Follows(*own, *before)) {
    return absl::FailedPreconditionError(absl::StrCat(
        found.path, " was put in another file's place while this looked; nothing was changed"));
  }
  // What was found in it may not have reached the disk yet; a segment that has its name is whole.
  if (absl::Status s = WriteAnew(segment, beginning, 0); !s.ok()) return s;
  const absl::Status named = PublishSegment(directory, segment);
  if (!named.ok() && !absl::IsAlreadyExists(named)) return named;
  EPOCH_POINT("restore.named");
  return true;
}

absl::StatusOr<std::vector<SegmentFile>> ListWithBegun(const std::string& directory) {
  absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
  if (!files.ok() || files->empty()) return files;
  absl::StatusOr<std::optional<SegmentFile>> begun = FindBegun(directory, files->back());
  // Retired since it was listed: this journal moves on.
  if (absl::IsNotFound(begun.status())) return ListSegments(directory);
  if (!begun.ok()) return begun.status();
  if (begun->has_value()) files->push_back(**std::move(begun));
  return files;
}

}  // namespace epoch::journal
