// Making a journal, and making a new incarnation from one. Both end in a JournalSeed that holds on
// to the journal until the region has its name.
#ifndef EPOCH_CORE_JOURNAL_RESTORE_H_
#define EPOCH_CORE_JOURNAL_RESTORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/journal/reader.h"
#include "epoch/detail/journal_hook.h"
#include "epoch/options.h"

namespace epoch::journal {

absl::StatusOr<std::unique_ptr<detail::JournalSeed>> Create(const RegionOptions& options,
                                                            bool explicitly);

absl::StatusOr<std::unique_ptr<detail::JournalSeed>> Restore(const RegionOptions& options,
                                                             const std::string& region_path);

// What Restore would find, without changing or locking anything: the newest segment's scan.
absl::StatusOr<SegmentScan> Preview(const std::string& directory, bool ignore_block_damage = false);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_RESTORE_H_
