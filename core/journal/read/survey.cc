#include "core/journal/read/survey.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/journal/read/begun.h"
#include "core/journal/segment/spare.h"
#include "epoch/detail/platform/blame.h"

namespace epoch::journal {
absl::StatusOr<JournalScan> ScanJournal(const std::string& directory, ScanOptions options) {
  absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::DataLossError(absl::StrCat(directory, " holds no journal segments"));
  }
  JournalScan journal;
  const auto outer = options.on_damage;
  options.on_damage = [&](const std::string& what) {
    journal.damage.push_back(what);
    if (outer) outer(what);
  };
  absl::StatusOr<std::optional<SegmentFile>> begun = FindBegun(directory, files->back());
  if (!begun.ok()) {
    if (!absl::IsNotFound(begun.status())) {
      if (detail::IsOwnTrouble(begun.status())) return begun.status();
      options.on_damage(std::string(begun.status().message()));
    }
  } else if (begun->has_value()) {
    files->push_back(**std::move(begun));
  }
  for (std::size_t i = 0; i < files->size(); ++i) {
    const SegmentFile& file = (*files)[i];
    absl::StatusOr<SegmentScan> scan = ScanSegmentFile(file.path, options);
    // A spare's name that was swept since: it has its own by now.
    if (absl::IsNotFound(scan.status()) && absl::EndsWith(file.path, ".spare")) {
      scan = ScanSegmentFile(SegmentOfSpare(file.path), options);
    }
    // Retired since it was listed, and with it all before it.
    if (absl::IsNotFound(scan.status()) && i + 1 < files->size()) {
      journal.segments.clear();
      journal.bytes = 0;
      continue;
    }
    journal.bytes += file.bytes;
    if (detail::IsOwnTrouble(scan.status())) return scan.status();
    if (!scan.ok()) {
      options.on_damage(std::string(scan.status().message()));
      continue;
    }
    const SegmentHeader& h = scan->header;
    if (h.segment != file.number) {
      options.on_damage(absl::StrCat(file.path, ": holds segment ", h.segment));
    }
    if (!journal.segments.empty()) {
      SegmentScan& before = journal.segments.back();
      if (!TakesOver(h, before.header, before.end_block, {before.epoch, before.chain},
                     IsIdle(before))) {
        options.on_damage(absl::StrCat(
            file.path, ": takes over from segment ", h.previous_segment, " at epoch ",
            h.previous_last_epoch, ", block ", h.previous_end_block, ", but segment ",
            before.header.segment, " ends at epoch ", before.epoch, ", block ", before.end_block));
      }
      before.state.clear();
      before.state.shrink_to_fit();
    }
    journal.segments.push_back(*std::move(scan));
    // It says that there is one behind it: made since they were listed?
    if (i + 1 == files->size() && journal.segments.back().sealed) {
      const absl::StatusOr<std::vector<SegmentFile>> again = ListSegments(directory);
      if (again.ok() && !again->empty() && again->back().number > file.number) {
        const std::uint64_t last = file.number;
        for (const SegmentFile& newer : *again) {
          if (newer.number > last) files->push_back(newer);
        }
      }
    }
  }
  if (!journal.segments.empty()) {
    if (absl::Status s = CheckNewest(journal.segments.back()); !s.ok()) {
      options.on_damage(std::string(s.message()));
    }
  }
  if (journal.segments.empty()) {
    return absl::DataLossError(absl::StrCat(directory, ": no segment can be read: ",
                                            journal.damage.empty() ? "" : journal.damage.front()));
  }
  return journal;
}

}  // namespace epoch::journal
