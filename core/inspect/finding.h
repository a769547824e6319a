// What an inspection of a region or a journal has found.
#ifndef EPOCH_CORE_INSPECT_FINDING_H_
#define EPOCH_CORE_INSPECT_FINDING_H_

#include <string>

namespace epoch::inspect {

struct Finding {
  enum class Severity {
    kDamage,  // something that must hold does not
    kNote,    // allowed, but worth knowing: a dead participant that nobody has expelled yet
  };
  Severity severity = Severity::kDamage;
  std::string where;  // "head", "version 3", "slot 7", "journal", ...
  std::string what;
};

}  // namespace epoch::inspect

#endif  // EPOCH_CORE_INSPECT_FINDING_H_
