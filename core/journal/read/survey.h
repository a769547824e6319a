// All segments of a journal together, for the tools: each, and whether they fit to each other.
// Reads only.
#ifndef EPOCH_CORE_JOURNAL_READ_SURVEY_H_
#define EPOCH_CORE_JOURNAL_READ_SURVEY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/journal/read/reader.h"

namespace epoch::journal {

struct JournalScan {
  std::vector<SegmentScan> segments;  // oldest first; states of all but the newest are dropped
  std::uint64_t bytes = 0;
  std::vector<std::string> damage;  // empty: everything that is there is consistent
};

// Scans all segments (with one that goes by its spare's name: begun.h) and checks that each takes
// over where the one before it ended. For the tools;
// goes on past damage and lists it. Errors only when nothing can be read at all.
absl::StatusOr<JournalScan> ScanJournal(const std::string& directory, ScanOptions options = {});

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_SURVEY_H_
