// What must hold after an operation to which something was denied, whatever it said: the region is
// sound and goes on for others, nothing that was acknowledged is gone, what was not changed is not,
// and nothing is left behind.
#ifndef EPOCH_TESTS_BORDER_JUDGE_H_
#define EPOCH_TESTS_BORDER_JUDGE_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "border/operations.h"
#include "border/world.h"

namespace epoch::test {

struct Answered;

// What may be, for what is in the operation's way.
struct Allowance {
  bool device_fails = false;     // a write or sync of the device itself: the region is poisoned
  bool unreadable = false;       // the device gave an error: it may speak of damage
  bool short_of_memory = false;  // it ends by std::bad_alloc
  int killed_by = 0;             // or by this signal: the kernel's own way to refuse
  bool mute = false;             // what it says of an error gets nowhere
  uid_t user = 0;                // whose region it is: who comes afterwards is that user
};

// What an operation with nothing in its way has left, and printed.
struct Usual {
  std::vector<std::string> names;
  std::string printed;
};

struct Judgement {
  bool poisoned = false;
  std::vector<std::string> faults;
  std::vector<std::string> names;  // that are left, as World::Names has them
};

// The neighbour is gone. Afterwards the world is used up. `usual`: null if this is to be it.
Judgement JudgeWorld(const World& world, const Operation& operation, const Answered& answered,
                     const Allowance& allowance, const Usual* usual);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_JUDGE_H_
