// Reading a segment: what it holds, where it ends, and whether what is missing was ever
// acknowledged. Reads only; never changes a file.
//
// The end of the log (docs/journal.md): at the first invalid batch after epoch h the rest of the
// segment is searched. It is DataLoss, not a torn tail, if there is
//   a. a later batch header, valid and at its own place, whose durable hint is above h;
//   b. a valid batch at the expected place with the wrong chain or epochs;
//   c. a block that is not zero, fails its CRC, and has no all-zero sector: a write that was torn
//      over zeros always leaves one (unless `ignore_block_damage` says to go on regardless).
// Otherwise what is there was never acknowledged, and is cut.
#ifndef EPOCH_CORE_JOURNAL_READER_H_
#define EPOCH_CORE_JOURNAL_READER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/journal/format.h"
#include "core/journal/segment.h"

namespace epoch::journal {

// One version as the journal has it. `payload` lives only during the visit.
struct Record {
  RecordHeader header;
  std::uint64_t segment;
  std::uint64_t block;  // of the batch that holds it
  bool payload_ok;      // digest verified
  std::span<const std::byte> payload;

  std::uint32_t slot() const { return static_cast<std::uint32_t>(header.proposer >> 48); }
  std::uint64_t generation() const { return header.proposer & detail::kNumberMask; }
};

struct BatchInfo {
  BatchHeader header;
  std::uint64_t offset_bytes;
};

struct ScanOptions {
  std::function<void(const BatchInfo&)> on_batch;     // every good batch
  std::function<void(const Record&)> on_record;       // every record of a good batch
  std::function<void(const std::string&)> on_damage;  // findings after the first; implies going on
  bool ignore_block_damage = false;                   // rule c is reported, but does not stop
};

struct SegmentScan {
  std::string path;
  SegmentHeader header;
  // The newest state: the base, or the last record of the last good batch.
  Epoch epoch = 0;
  std::uint64_t chain = 0;
  std::uint64_t token = 0;
  std::vector<std::byte> state;
  std::uint64_t end_block = 0;  // first block behind the last good batch
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  bool torn = false;    // an unacknowledged, incomplete batch stands behind the end
  bool sealed = false;  // it says that there is a segment behind it
};

// DataLoss if what is the newest segment says that there is one behind it.
absl::Status CheckNewest(const SegmentScan& newest);

// Scans one segment through `fd`, from its base to the end of the log. DataLoss: what, where
// (file, offset), which epochs. Internal: a read error. With `on_damage`, damage behind a good base
// is handed there and the scan goes on as far as it can; the result is then not a recovery.
absl::StatusOr<SegmentScan> ScanSegment(int fd, const std::string& path,
                                        const ScanOptions& options = {});
// The same, by path, read-only.
absl::StatusOr<SegmentScan> ScanSegmentFile(const std::string& path,
                                            const ScanOptions& options = {});

struct JournalScan {
  std::vector<SegmentScan> segments;  // oldest first; states of all but the newest are dropped
  std::uint64_t bytes = 0;
  std::vector<std::string> damage;  // empty: everything that is there is consistent
};

// Scans all segments and checks that each takes over where the one before it ended. For the tools;
// goes on past damage and lists it. Errors only when nothing can be read at all.
absl::StatusOr<JournalScan> ScanJournal(const std::string& directory, ScanOptions options = {});

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READER_H_
