// Including this header makes a program's durable regions work: it installs the compiled journal
// behind epoch/detail/memory/journal_port.h. Link epoch::journal.
#ifndef EPOCH_JOURNAL_H_
#define EPOCH_JOURNAL_H_

namespace epoch::journal {

// Idempotent. Returns true.
bool Install();

namespace internal {
inline const bool installed = Install();
}  // namespace internal

}  // namespace epoch::journal

#endif  // EPOCH_JOURNAL_H_
