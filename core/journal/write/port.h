// The engine's write side, behind the door of detail/memory/journal_port.h: see port.cc.
#ifndef EPOCH_CORE_JOURNAL_WRITE_PORT_H_
#define EPOCH_CORE_JOURNAL_WRITE_PORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "epoch/detail/memory/journal_port.h"
#include "epoch/detail/memory/mapping.h"

namespace epoch::journal {

absl::StatusOr<std::unique_ptr<detail::JournalPort>> Attach(const detail::Mapping& mapping);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_WRITE_PORT_H_
