#include "core/journal/read/occupant.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/files.h"

namespace epoch::journal {

using detail::ErrnoStatus;
using detail::Fd;

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

}  // namespace epoch::journal
