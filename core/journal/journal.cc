#include "core/journal/journal.h"

namespace epoch::journal {

bool Install() { return true; }

}  // namespace epoch::journal
