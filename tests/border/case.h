// One operation with one thing in its way, run and judged.
#ifndef EPOCH_TESTS_BORDER_CASE_H_
#define EPOCH_TESTS_BORDER_CASE_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "border/judge.h"
#include "border/operations.h"
#include "border/supervisor.h"

namespace epoch::test {

// What is in the way.
struct Hindrance {
  std::optional<Denial> denial{};
  // In the process that acts, before anything else. It may go on in a child of its own. Returns why
  // it could not be done; empty: it is.
  std::function<std::string(const World&)> impose{};
  // Before that, by whoever makes the world; and what it finds to be wrong afterwards.
  std::function<void(const World&)> ready{};
  std::function<std::vector<std::string>(const World&)> look{};
  Allowance allows{};
};

struct Outcome {
  std::string not_imposed;          // why
  std::string what;                 // "as if nothing", "PermissionDenied", "exit 3"
  std::string message;              // of the error
  std::vector<std::string> faults;  // what must not be; empty: it is as it has to be
  Ending ending;
};

// `parent`: a directory in memory.
Outcome RunCase(const std::string& parent, const Operation& operation,
                const Hindrance& hindrance = {});
// What may be, where that is denied.
Allowance AllowanceOf(const Denial& denial, const Operation& operation);
Outcome RunDenied(const std::string& parent, const Operation& operation, const Denial& denial);
// The calls that the operation makes, and how many of each.
std::map<int, int> CallsOf(const std::string& parent, const Operation& operation);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_CASE_H_
