#include "epoch/journal.h"

#include "core/journal/read/past.h"
#include "core/journal/read/restore.h"
#include "core/journal/write/port.h"
#include "epoch/detail/memory/journal_port.h"

namespace epoch::journal {

bool Install() {
  static constexpr detail::JournalEngine kEngine{&Create, &Restore, &Attach, &PastOf};
  detail::journal_engine.store(&kEngine);
  return true;
}

}  // namespace epoch::journal
