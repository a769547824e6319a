// Making a journal, and making a new incarnation from one. Both end in a JournalSeed that holds on
// to the journal until the region has its name.
#ifndef EPOCH_CORE_JOURNAL_READ_RESTORE_H_
#define EPOCH_CORE_JOURNAL_READ_RESTORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/journal/read/reader.h"
#include "epoch/detail/memory/journal_port.h"
#include "epoch/options.h"

namespace epoch::journal {

absl::StatusOr<std::unique_ptr<detail::JournalSeed>> Create(const RegionOptions& options,
                                                            bool explicitly);

// The state that a journal begins with; that of no epoch yet, unless it goes on from another one.
struct Beginning {
  Epoch epoch = 0;
  std::uint64_t chain = 0;
  std::uint64_t token = 0;
  std::vector<std::byte> state{};
};
// Create, of a journal that begins so. OutOfRange: the state does not fit the geometry.
absl::StatusOr<std::unique_ptr<detail::JournalSeed>> CreateFrom(const RegionOptions& options,
                                                                bool explicitly,
                                                                Beginning beginning);

absl::StatusOr<std::unique_ptr<detail::JournalSeed>> Restore(const RegionOptions& options,
                                                             const std::string& region_path);

// What Restore would find and say, its errors with it, without changing or locking anything: the
// scan of the newest segment. Waits, as it does, for processes that still hold the journal.
absl::StatusOr<SegmentScan> Rehearse(const RegionOptions& options, const std::string& region_path);

// What the journal yields, whatever stands in the way: the newest segment's scan.
absl::StatusOr<SegmentScan> Preview(const std::string& directory, bool ignore_block_damage = false);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_RESTORE_H_
