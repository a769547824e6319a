// What is done while calls are denied: everything that a program can ask of the library, and every
// verb of epochctl.
#ifndef EPOCH_TESTS_BORDER_OPERATIONS_H_
#define EPOCH_TESTS_BORDER_OPERATIONS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "border/world.h"

namespace epoch::test {

// The operation itself. It holds what was prepared; what it returns is the newest epoch that it was
// told is committed, or 0.
using Act = std::function<absl::StatusOr<Epoch>()>;

// What comes before the operation was refused already; thrown by `prepare`.
struct Unprepared {
  absl::Status why;
};

struct Operation {
  std::string name;
  Ground ground = Ground::kVolatile;
  // In the process that acts: what comes before the operation. Throws Unprepared.
  std::function<Act(const std::string& region, const RegionOptions& options)> prepare{};
  // Or what epochctl is told; "REGION", "JOURNAL", "CHECKPOINTS", "COPY" and
  // "COPIED" (its journal) stand for the world's.
  std::vector<std::string> verb{};
  // How many epochs it adds.
  Epoch adds = 0;
  bool makes = false;     // the region is made by it
  bool removes = false;   // or removed
  bool durable = false;   // what it makes is
  bool neighbour = true;  // whether somebody else is in the region
  bool dead = false;      // and somebody who died
  bool exact = false;     // what it prints is the same each time
  bool checked = true;    // the state that it adds is a checked one
  bool asked = false;     // the neighbour proposes to it, and then asks it to end
  bool refuses = false;   // it votes against that
  bool paired = false;    // the neighbour contributes, or is the other rank
  bool copies = false;    // what it makes is a copy, which is `makes` to nobody else
  bool ringless = false;  // where io_uring is refused
  bool steady = true;     // what comes of it hangs neither on other regions nor on who is faster
};

const std::vector<Operation>& AllOperations();
// Ends this process if there is none of that name.
const Operation& OperationNamed(const std::string& name);

// The words that epochctl is given.
std::vector<std::string> WordsOf(const Operation& operation, const World& world);
inline constexpr int kNotExecuted = 98;
// Becomes epochctl, or ends with kNotExecuted. `marked`: it says when its work begins (marker.cc).
[[noreturn]] void BecomeCtl(const std::vector<std::string>& words, bool marked);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_OPERATIONS_H_
