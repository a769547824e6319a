// epoch_history_check DIR: verifies the history in a directory of logs, from the logs alone. Prints
// each violation (the first ones of each rule) and one last line of figures. Exit codes: 0, 1
// violations, 2 usage, 3 the logs cannot be read.
#include <cstdint>
#include <exception>
#include <map>
#include <string>

#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

constexpr std::uint64_t kMostShown = 10;

int Check(const std::string& directory) {
  const LogDirectory logs(directory);
  const History history = History::Of(logs.logs());
  const Violations violations = CheckAll(history);
  std::map<std::string, std::uint64_t> count;
  for (const Violation& v : violations) {
    if (++count[v.rule] <= kMostShown) fmt::print("violation: {}: {}\n", v.rule, v.what);
  }
  for (const auto& [rule, n] : count) {
    if (n > kMostShown) fmt::print("violation: {}: {} more\n", rule, n - kMostShown);
  }
  const Figures figures = FiguresOf(history);
  if (figures.operations != 0) {
    fmt::print("longest operation in {}: {}\n", directory, history.Tell(figures.longest));
  }
  fmt::print("history: operations={} transitions={} voted={} longest_ms={:.3f} violations={}\n",
             figures.operations, figures.transitions, figures.voted,
             static_cast<double>(figures.longest_ns) / 1e6, violations.size());
  return violations.empty() ? 0 : 1;
}

}  // namespace
}  // namespace epoch::stress

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: epoch_history_check DIR\n");
    return 2;
  }
  try {
    return epoch::stress::Check(argv[1]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "epoch_history_check: {}\n", error.what());
    return 3;
  }
}
