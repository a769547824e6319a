#include "core/journal/segment/retention.h"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "core/files/disk.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

namespace {

// Where a segment begins, if it can be read.
std::optional<Epoch> BaseOf(int at, const SegmentFile& file) {
  const absl::StatusOr<detail::Fd> fd = OpenToRead(file.path, at);
  if (!fd.ok()) return std::nullopt;
  const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(fd->get(), file.path);
  if (!header.ok() || header->segment != file.number) return std::nullopt;
  return header->base_epoch;
}

}  // namespace

std::vector<std::string> RetiredSegments(int at, const std::string& directory, const Id& journal,
                                         std::uint64_t newest, Epoch base_epoch,
                                         const Retention& kept) {
  std::vector<std::string> retired;
  if (kept.segments == 0 && kept.epochs == 0) return retired;
  if (newest <= kept.segments || base_epoch < kept.epochs) return retired;
  const absl::StatusOr<std::vector<SegmentFile>> files = ListSegmentsIn(at, directory);
  if (!files.ok()) return retired;
  std::size_t older = 0;  // those that may go by their number: all but the last so many of them
  while (older < files->size() && (*files)[older].number < newest &&
         (*files)[older].path == SegmentPath(directory, journal, (*files)[older].number)) {
    ++older;
  }
  older -= std::min<std::uint64_t>(older, kept.segments);
  // No segment says where it ends, but none ends behind where a later one begins; the newest one
  // begins with the last epoch of all.
  std::size_t gone = kept.epochs == 0 ? older : 0;
  for (std::size_t next = 1; gone < older && next < files->size(); ++next) {
    if ((*files)[next].number >= newest) break;
    const std::optional<Epoch> base = BaseOf(at, (*files)[next]);
    if (!base.has_value()) continue;
    if (*base > base_epoch - kept.epochs) break;
    gone = std::min(next, older);
  }
  for (std::size_t i = 0; i < gone; ++i) retired.push_back(detail::NameIn((*files)[i].path));
  return retired;
}

void SweepIdle(int at, const std::string& directory, const Id& journal, std::uint64_t from,
               std::uint64_t newest) {
  const absl::StatusOr<std::vector<SegmentFile>> files = ListSegmentsIn(at, directory);
  if (!files.ok()) return;
  for (const SegmentFile& file : *files) {
    if (file.number > from && file.number < newest &&
        file.path == SegmentPath(directory, journal, file.number)) {
      // What stays is passed over (survey.h), and goes the next time.
      sys::unlinkat(at, detail::NameIn(file.path).c_str(), 0);
    }
  }
}

void SweepSegments(int at, const std::string& directory, const Id& journal, std::uint64_t newest,
                   Epoch base_epoch, const Retention& kept) {
  for (const std::string& name :
       RetiredSegments(at, directory, journal, newest, base_epoch, kept)) {
    // Those behind one that stays have to stay, too: the next sweep tries again.
    if (sys::unlinkat(at, name.c_str(), 0) != 0 && errno != ENOENT) return;
  }
}

}  // namespace epoch::journal
