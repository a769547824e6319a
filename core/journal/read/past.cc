#include "core/journal/read/past.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/files/disk.h"
#include "core/journal/read/past_cursor.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

absl::StatusOr<Epoch> Past::Oldest() const {
  constexpr int kMostPasses = 1000;  // each one failed means that a segment was retired
  for (int pass = 1;; ++pass) {
    const absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory_);
    if (!files.ok()) return files.status();
    if (files->empty()) {
      return absl::DataLossError(absl::StrCat(directory_, " holds no journal segments"));
    }
    const std::string& path = files->front().path;
    const absl::StatusOr<detail::Fd> fd = OpenToRead(path);
    if (absl::IsNotFound(fd.status()) && pass < kMostPasses) continue;
    if (!fd.ok()) return fd.status();
    const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(fd->get(), path);
    if (!header.ok()) return header.status();
    return header->base_epoch;
  }
}

absl::StatusOr<PastEpoch> Past::At(Epoch epoch) const {
  absl::StatusOr<Found> found = Find(epoch);
  if (!found.ok()) return found.status();
  return std::move(found->past);
}

absl::StatusOr<Past::Found> Past::Find(Epoch epoch) const {
  if (committed_) {
    if (const Epoch committed = committed_(); epoch > committed) {
      return absl::OutOfRangeError(
          absl::StrCat("epoch ", epoch, " is not committed yet: the region is at ", committed));
    }
  }
  PastCursor cursor(*this, epoch, kMaxEpoch);
  if (absl::Status s = cursor.Begin(); !s.ok()) return s;
  absl::StatusOr<std::optional<PastEpoch>> found = cursor.Next();
  if (!found.ok()) return found.status();
  if (!found->has_value()) {
    return absl::OutOfRangeError(
        absl::StrCat(directory_, " ends at epoch ", cursor.epoch(), "; there is no epoch ", epoch));
  }
  if ((*found)->epoch != epoch) {
    return absl::NotFoundError(absl::StrCat(
        directory_, ": epoch ", epoch,
        " was not kept: with history=latest only the last of each batch is; the nearest are ",
        cursor.before(), " and ", (*found)->epoch));
  }
  return Found{**std::move(found), cursor.segment()};
}

absl::StatusOr<std::unique_ptr<detail::HistoryCursor>> Past::Read(Epoch from, Epoch to) const {
  auto cursor = std::make_unique<PastCursor>(*this, from, to);
  if (absl::Status s = cursor->Begin(); !s.ok()) return s;
  return cursor;
}

absl::StatusOr<std::unique_ptr<detail::HistorySource>> PastOf(
    const std::shared_ptr<const detail::Mapping>& mapping) {
  // Not to be kept by a reader: a mapping for writing holds on to its journal.
  struct Seen {
    std::weak_ptr<const detail::Mapping> mapping;
    std::atomic<Epoch> epoch{0};  // when it was last there
  };
  const auto seen = std::make_shared<Seen>();
  seen->mapping = mapping;
  const auto committed = [seen] {
    if (const auto region = seen->mapping.lock(); region != nullptr) {
      const Epoch now = detail::StateWord::Unpack(region->view().control->head.Load()).epoch;
      Epoch before = seen->epoch.load();
      while (before < now && !seen->epoch.compare_exchange_weak(before, now)) {
      }
    }
    return seen->epoch.load();
  };
  committed();
  const detail::Superblock& super = mapping->superblock();
  return std::make_unique<Past>(mapping->journal_directory(), super.journal, committed,
                                mapping->trusted());
}

}  // namespace epoch::journal
