// Reading a segment: what it holds, where it ends, and whether what is missing was ever
// acknowledged. Reads only; never changes a file.
//
// At the first batch that does not count the rest of the segment is searched, and judged by the
// table of verdict.h: a torn tail, which is cut, or DataLoss.
//
// Thread safety: any; each scan is one thread's.
// Progress: linear in the segment's size, whatever it holds.
#ifndef EPOCH_CORE_JOURNAL_READ_READER_H_
#define EPOCH_CORE_JOURNAL_READ_READER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/files/disk.h"
#include "core/journal/format/format.h"
#include "core/journal/read/batches.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

// One version as the journal has it. `payload` lives only during the visit.
struct Record {
  RecordHeader header;
  std::uint64_t segment;
  std::uint64_t block;  // of the batch that holds it
  bool payload_ok;      // digest verified
  std::span<const std::byte> payload;

  std::uint32_t slot() const { return detail::ProposerWord::Unpack(header.proposer).slot; }
  std::uint64_t generation() const {
    return detail::ProposerWord::Unpack(header.proposer).generation;
  }
};

struct BatchInfo {
  BatchHeader header;
  std::uint64_t offset_bytes;
};

struct ScanOptions {
  std::function<void(const BatchInfo&)> on_batch;     // every good batch
  std::function<void(const Record&)> on_record;       // every record of a good batch
  std::function<void(const std::string&)> on_damage;  // findings after the first; implies going on
  bool keep_unproven = false;                         // SegmentScan::unproven is wanted
  bool ignore_block_damage = false;                   // row c is reported, but does not stop
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
  // The bytes of the last batches, in front of `end_block`: those that no later one proves to have
  // been durable. Empty if there is no batch, or nobody asked (`keep_unproven`).
  AlignedBuffer unproven;
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  bool torn = false;     // an unacknowledged, incomplete batch stands behind the end
  bool damaged = false;  // what was acknowledged is damaged; only with `on_damage`
  bool sealed = false;   // it says that there is a segment behind it
  // How often a block was looked at: a few times as often as there are blocks, whatever they hold.
  std::uint64_t looks = 0;
};

// Whether nothing stands behind the base: then what comes next may take over from the segment
// before it.
bool IsIdle(const SegmentScan& segment);

// DataLoss if what is the newest segment says that there is one behind it.
absl::Status CheckNewest(const SegmentScan& newest);

// Scans one segment through `fd`, from its base to the end of the log. Linear in its size, whatever
// it holds. DataLoss: what, where (file, offset), which epochs. Internal: a read error. With
// `on_damage`, damage behind a good base is handed there (the first hundred findings, then their
// number) and the scan goes on as far as it can; the result is then not a recovery.
absl::StatusOr<SegmentScan> ScanSegment(int fd, const std::string& path,
                                        const ScanOptions& options = {});
// The same, by path, read-only.
absl::StatusOr<SegmentScan> ScanSegmentFile(const std::string& path,
                                            const ScanOptions& options = {});

// The header of a segment whose header and base are whole. Errors as ScanSegment's. `bytes`: if
// given, receives both as they stand in the file.
absl::StatusOr<SegmentHeader> ReadBeginning(int fd, const std::string& path,
                                            AlignedBuffer* bytes = nullptr);

// Whether any block of the file holds the header of a batch that belongs there: into segment
// `number`, of the journal and incarnation of `like`. Internal: a read error.
absl::StatusOr<bool> HoldsBatches(int fd, const std::string& path, const SegmentHeader& like,
                                  std::uint64_t number, std::uint64_t size_bytes);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_READER_H_
