#include "core/journal/journal.h"

#include "core/journal/past.h"
#include "core/journal/restore.h"
#include "core/journal/writer.h"
#include "epoch/detail/journal_hook.h"

namespace epoch::journal {

bool Install() {
  static constexpr detail::JournalEngine kEngine{&Create, &Restore, &Attach, &PastOf};
  detail::journal_engine.store(&kEngine);
  return true;
}

}  // namespace epoch::journal
