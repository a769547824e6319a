#include "tests/sim/shrink.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace epoch::sim {
namespace {

// "G7: ..." is the same failure as another "G7: ...".
std::string KindOf(const std::string& violation) {
  return violation.substr(0, violation.find(':'));
}

class Shrinker {
 public:
  Shrinker(const Reduction& failing, const std::string& violation, int schedules)
      : best_(failing), kind_(KindOf(violation)), schedules_(schedules) {}

  Reduction Run() {
    for (bool smaller = true; smaller;) {
      smaller = false;
      for (auto& operations : best_.operations) smaller |= Without(operations, operations.size());
      smaller |= Without(best_.faults, best_.faults.size());
      for (std::size_t part = 4; part > 0; part /= 2) {
        for (auto& operations : best_.operations) smaller |= Without(operations, part);
        smaller |= Without(best_.faults, part);
      }
    }
    return best_;
  }

 private:
  // Leaves out `part` consecutive members at a time, wherever the failure survives that.
  bool Without(std::vector<int>& members, std::size_t part) {
    bool smaller = false;
    if (part == 0) return false;
    for (std::size_t at = 0; at + part <= members.size();) {
      const std::vector<int> before = members;
      const auto from = members.begin() + static_cast<std::ptrdiff_t>(at);
      members.erase(from, from + static_cast<std::ptrdiff_t>(part));
      if (StillFails()) {
        smaller = true;
      } else {
        members = before;
        ++at;
      }
    }
    return smaller;
  }

  bool StillFails() {
    Reduction candidate = best_;
    for (int i = 0; i < schedules_; ++i) {
      if (i > 0) candidate.schedule = static_cast<std::uint64_t>(i);
      if (KindOf(Play(Apply(candidate)).violation) == kind_) {
        best_.schedule = candidate.schedule;
        return true;
      }
    }
    return false;
  }

  Reduction best_;
  const std::string kind_;
  const int schedules_;
};

}  // namespace

Reduction Shrink(const Reduction& failing, const std::string& violation, int schedules) {
  return Shrinker(failing, violation, schedules).Run();
}

}  // namespace epoch::sim
