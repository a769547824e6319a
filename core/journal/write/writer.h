// The engine's write side: see writer.cc for the algorithm.
#ifndef EPOCH_CORE_JOURNAL_WRITE_WRITER_H_
#define EPOCH_CORE_JOURNAL_WRITE_WRITER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "epoch/detail/memory/journal_port.h"

namespace epoch::journal {

absl::StatusOr<std::unique_ptr<detail::JournalPort>> Attach(const detail::Mapping& mapping);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_WRITER_H_
