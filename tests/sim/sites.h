// The places in the code that ask for an order, found by reading it; and which of them the barriers
// of docs/protocol.md are. A place is named by what stands there, so that lines may move:
// "pinning.h:Pin:head.Load", with "#2" for the second of that name.
#ifndef EPOCH_TESTS_SIM_SITES_H_
#define EPOCH_TESTS_SIM_SITES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/plan.h"

namespace epoch::sim {

struct Site {
  std::string name;
  std::string file;  // below the root of the tree
  std::uint32_t first_line;
  std::uint32_t last_line;  // of the call, which may be broken
  std::string order;
};

// All that are not relaxed, of the headers and the journal. The process ends if they cannot be
// read.
const std::vector<Site>& Sites();

// A site that belongs to a barrier ("other": to none, but to miss its order must be noticed all the
// same), and a seed that shows what happens without it.
struct BarrierSite {
  const char* letter;
  const char* site;
  std::uint64_t seed;
  Mode mode;
};
const std::vector<BarrierSite>& BarrierSites();

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_SITES_H_
