// What an operation says of how it went, whichever way it was asked for.
#ifndef EPOCH_TESTS_BORDER_ANSWER_H_
#define EPOCH_TESTS_BORDER_ANSWER_H_

#include <string>

#include "epoch/epoch.h"

namespace epoch::test {

inline constexpr char kAsIfNothing[] = "as if nothing";

struct Answered {
  bool ended = false;          // it came to its end, and says so
  bool good = false;           // it says that it succeeded
  bool out_of_memory = false;  // it ended by std::bad_alloc
  int signal = 0;              // that ended it
  std::string what;            // kAsIfNothing, "PermissionDenied", "exit 3"
  std::string message;
  std::string printed;  // by epochctl, on its standard output
  Epoch epoch = 0;      // the newest that it was told is committed
};

// As the README's table of errors spells it.
std::string NameOf(absl::StatusCode code);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_ANSWER_H_
